//! `millstream serve`.

use clap::Args;
use millstream_data::Split;
use millstream_schema::{Clock, SystemClock};
use std::path::PathBuf;
use std::sync::Arc;

use crate::chain::{Chain, RunDir};
use crate::serving::{self, Listen};
use crate::{Failure, Global, Verdict, run_file};

/// Serve a run's models over HTTP.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream serve --run millstream-quickstart
  millstream serve --run millstream-quickstart --port 9000
  millstream serve --run millstream-quickstart --host 0.0.0.0 --api-key-file key.txt")]
pub struct Options {
    /// Folder of a run, as `quickstart` leaves it.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    #[command(flatten)]
    listen: Listen,
}

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    options.listen.check()?;
    let dir = RunDir(options.run);
    let config = run_file::read(&dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let chain = Chain::open(&dir, config, &Split::ALL)?;
    chain.tell_notes();
    let parts = serving::parts(chain, &dir, clock.clone(), global)?;
    serving::until_stopped(options.listen.config(clock)?, parts)
}
