//! `millstream eval`.

use clap::{Args, ValueEnum};
use millstream_data::{Prepared, Split};
use millstream_train::{BEST, Setting, checkpoint};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

use crate::{Failure, Global, Verdict, measure, output, recipe, training};

/// Measure a trained model.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream eval frappe_deepfm --prepared prepared --run run
  millstream eval frappe_deepfm --prepared prepared --run run --split test --json")]
pub struct Options {
    /// Name or file of the recipe the model was trained by.
    recipe: String,
    /// Folder made by `data prepare`.
    #[arg(long, value_name = "DIR")]
    prepared: PathBuf,
    /// Folder of the checkpoints.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Which part to measure on. Choose by `valid`; look at `test` once.
    #[arg(long, value_enum, default_value = "valid")]
    split: Part,
    /// The recipe's seed, if the model was trained with another.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Valid,
    Test,
}

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    let mut recipe = recipe::find(&options.recipe, None)?.parse()?;
    recipe.training.seed = options.seed.unwrap_or(recipe.training.seed);
    let prepared = Prepared::open(&options.prepared)?;
    recipe.check_prepared(&prepared)?;
    let sampling = None;
    let setting = Setting {
        encoder: &prepared.encoder,
        tasks: &prepared.tasks,
        model: &recipe.model,
        training: &recipe.training,
        sampling,
    };
    let (learner, _) = checkpoint::load(&options.run.join(BEST), &setting)?;
    let split = match options.split {
        Part::Valid => Split::Valid,
        Part::Test => Split::Test,
    };
    let started = Instant::now();
    let metrics = measure::part(&prepared, &learner, split, &recipe.evaluate, global)?;
    let seconds = started.elapsed().as_secs_f64();
    let role = learner.header().role;
    let rows = prepared.rows(split, training::use_of(role));
    if global.json {
        output::json(&json!({
            "model": recipe.model.name, "split": split.as_str(), "metrics": metrics, "rows": rows,
            "rows_per_second": rows as f64 / seconds.max(1e-9), "seconds": seconds,
            "peak_rss_mb": output::peak_rss_mb(),
        }));
    } else {
        let rows: Vec<Vec<String>> =
            metrics.iter().map(|(k, v)| vec![k.clone(), output::figure(Some(*v))]).collect();
        output::line(output::table(&["metric", split.as_str()], &rows).trim_end());
    }
    Ok(Verdict::Done)
}
