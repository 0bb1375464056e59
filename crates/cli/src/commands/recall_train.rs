//! `millstream recall train`.

use clap::{Args, ValueEnum};
use millstream_data::{Prepared, Split};
use serde_json::json;
use std::path::PathBuf;

use crate::chain::RunDir;
use crate::recalling::{self, Lesson, Taught};
use crate::{Failure, Global, Verdict, output, run_file};

/// Train the models of a run's `[[recall.model]]` on its prepared log.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream recall train --run millstream-quickstart                       all of run.toml's models
  millstream recall train --run millstream-quickstart --model als --seed 2
  millstream recall train --run millstream-quickstart --until test          all that is known, for serving

In RUN/run.toml:
  [[recall.model]]
  name = \"als\"
  options = { dim = 64 }

  [[channel]]
  name = \"als\"
  kind = \"vector\"

Models learn from RUN/prepared alone; to those that count (item_cf, swing, user_cf) a server adds what it has taken in.
A model goes to RUN/recall/NAME.mill. One that has learned from a part is refused where that part is measured.")]
pub struct Options {
    /// Folder of a run, as `quickstart` leaves it.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Only these models; may be repeated.
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Learn from this part and those before it.
    #[arg(long, value_enum, default_value = "train")]
    until: Until,
    /// Seed of models that draw random numbers.
    #[arg(long, default_value = "1")]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Until {
    Train,
    Valid,
    Test,
}

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    let dir = RunDir(options.run);
    let config = run_file::read(&dir)?;
    let models = recalling::chosen(&config, &options.models)?;
    let prepared = Prepared::open(&dir.prepared())?;
    let until = match options.until {
        Until::Train => Split::Train,
        Until::Valid => Split::Valid,
        Until::Test => Split::Test,
    };
    let lesson = Lesson { until, seed: options.seed };
    let taught = recalling::train(&dir, &prepared, &models, lesson, global)?;
    let row = |t: &Taught| {
        let dim = t.dim.map_or_else(|| "–".to_owned(), |d| d.to_string());
        let size = format!("{:.1}", t.bytes as f64 / (1 << 20) as f64);
        vec![t.name.clone(), t.kind.clone(), dim, t.pairs.to_string(), size, format!("{:.1}", t.seconds)]
    };
    let header = ["model", "kind", "dim", "pairs", "MiB", "seconds"];
    output::line(output::table(&header, &taught.iter().map(row).collect::<Vec<_>>()).trim_end());
    if global.json {
        output::json(&json!({
            "until": until.as_str(), "seed": options.seed, "models": taught,
            "peak_rss_mb": output::peak_rss_mb(),
        }));
    }
    Ok(Verdict::Done)
}
