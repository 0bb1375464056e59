//! One binary, one file per subcommand.

mod ahead;
mod asking;
mod chain;
mod clock;
mod commands;
mod content;
mod counted;
mod discover;
mod engine;
mod failing;
mod graphs;
mod measure;
mod output;
mod passed;
mod preparing;
mod presets;
mod progress;
mod recalling;
mod recipe;
mod records;
mod refresh;
mod run_file;
mod serving;
mod streaming;
mod training;
mod twins;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  millstream quickstart                         a world, its models, a served feed
  millstream quickstart --once --json           one feed over HTTP, then exit
  millstream quickstart --data path/to/ml-100k  the same on a folder of real logs
  millstream data inspect events.csv.gz         what is in a file
  millstream recipe list                        published figures and how to reach them
  millstream recipe run frappe_deepfm --data ROOT";

/// An industrial recommender: raw logs in, a served, re-ranked feed out.
#[derive(Parser)]
#[command(name = "millstream", version, about, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
pub struct Global {
    /// Print one JSON object as the last line of stdout.
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to compute with, at most 1024; all cores by default.
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
}

#[derive(Subcommand)]
enum Command {
    /// The whole loop: logs, models, one table of what they reach, a served feed.
    Quickstart(commands::quickstart::Options),
    /// Make, look into and prepare data.
    #[command(subcommand)]
    Data(commands::data::Command),
    /// Train the model of a recipe on prepared data, or on a stream.
    Train(commands::train::Options),
    /// Measure a trained model.
    Eval(commands::eval::Options),
    /// Put runs side by side: options, figures, curves, and whether the figures can be trusted.
    Report(commands::report::Options),
    /// What features are worth: by themselves, to a model, and in the company of others.
    #[command(subcommand)]
    Features(commands::features::Command),
    /// Nearest-neighbour indexes: how fast they are for how good an answer.
    #[command(subcommand)]
    Index(commands::index::Command),
    /// Serve a run's models over HTTP.
    Serve(commands::serve::Options),
    /// Recall: models for its channels, and what each channel finds and misses.
    #[command(subcommand)]
    Recall(commands::recall::Command),
    /// Recipes: datasets, models and the published figures they reach.
    #[command(subcommand)]
    Recipe(commands::recipe::Command),
}

/// What a command ends in: success, or a figure that was missed.
pub enum Verdict {
    /// All is well.
    Done,
    /// The command worked, but a target was missed.
    Missed,
}

/// Any error of any floor, as one sentence for the person at the terminal.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logs();
    if let Some(threads) = cli.global.threads
        && let Err(e) = set_threads(threads)
    {
        return fail(&e);
    }
    let global = &cli.global;
    let verdict = match cli.command {
        Command::Quickstart(options) => commands::quickstart::run(options, global),
        Command::Data(command) => commands::data::run(command, global),
        Command::Train(options) => commands::train::run(options, global),
        Command::Eval(options) => commands::eval::run(options, global),
        Command::Report(options) => commands::report::run(options, global),
        Command::Features(command) => commands::features::run(command, global),
        Command::Index(command) => commands::index::run(command, global),
        Command::Serve(options) => commands::serve::run(options, global),
        Command::Recall(command) => commands::recall::run(command, global),
        Command::Recipe(command) => commands::recipe::run(command, global),
    };
    match verdict {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Missed) => ExitCode::from(1),
        Err(e) => fail(&e),
    }
}

/// Threads to compute with at most: each takes time to start and memory, and no machine has more cores.
const MAX_THREADS: usize = 1024;

fn set_threads(threads: usize) -> Result<(), Failure> {
    if threads == 0 {
        return Err("--threads must be above 0".into());
    }
    if threads > MAX_THREADS {
        return Err(format!("--threads must be at most {MAX_THREADS}, not {threads}").into());
    }
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?)
}

fn fail(error: &Failure) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}

/// Logs go to stderr; `RUST_LOG` chooses which.
fn start_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
