//! `millstream train`.

use clap::Args;
use millstream_data::Prepared;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

use crate::training::Job;
use crate::{Failure, Global, Verdict, output, recipe};
use millstream_train::LATEST;

/// Train the model of a recipe on prepared data.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream data prepare frappe_deepfm --data ROOT --out prepared
  millstream train frappe_deepfm --prepared prepared --out run
  millstream train frappe_deepfm --prepared prepared --out run --resume    after a kill")]
pub struct Options {
    /// Name or file of a recipe: its `[model]` and `[training]` are used.
    recipe: String,
    /// Folder made by `data prepare`.
    #[arg(long, value_name = "DIR")]
    prepared: PathBuf,
    /// Folder of the checkpoints.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on from the latest checkpoint in --out; the result is that of an unbroken run.
    #[arg(long)]
    resume: bool,
    /// Train with this seed instead of the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// Train for so many epochs instead of the recipe's.
    #[arg(long)]
    epochs: Option<u32>,
}

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    let started = Instant::now();
    let mut recipe = recipe::find(&options.recipe, None)?.parse()?;
    recipe.training.seed = options.seed.unwrap_or(recipe.training.seed);
    recipe.training.epochs = options.epochs.unwrap_or(recipe.training.epochs);
    if !options.resume && options.out.join(LATEST).exists() {
        return Err(format!(
            "{}: holds a run already; go on from it with --resume, or name another --out",
            options.out.display()
        )
        .into());
    }
    let prepared = Prepared::open(&options.prepared)?;
    recipe.check_prepared(&prepared)?;
    let job = Job {
        prepared: &prepared,
        model: &recipe.model,
        training: &recipe.training,
        dir: &options.out,
        resume: options.resume,
    };
    let trained = job.run(global)?;
    let outcome = &trained.outcome;
    let rate = outcome.rows as f64 / outcome.train_seconds.max(1e-9);
    if global.json {
        output::json(&json!({
            "model": recipe.model.name, "out": options.out, "rows": outcome.rows, "rows_per_second": rate,
            "train_seconds": outcome.train_seconds, "evaluate_seconds": outcome.evaluate_seconds,
            "evaluations": outcome.evaluations, "best": outcome.best,
            "weights_xxh3": format!("{:016x}", trained.learner.weights_hash()),
            "seconds": started.elapsed().as_secs_f64(), "peak_rss_mb": output::peak_rss_mb(),
        }));
        return Ok(Verdict::Done);
    }
    let keys: Vec<&String> =
        outcome.evaluations.first().map(|e| e.metrics.keys().collect()).unwrap_or_default();
    let header: Vec<&str> =
        ["epoch", "steps", "loss"].into_iter().chain(keys.iter().map(|k| k.as_str())).collect();
    let rows: Vec<Vec<String>> = outcome
        .evaluations
        .iter()
        .map(|e| {
            let figures = keys.iter().map(|k| output::figure(e.metrics.get(*k).copied()));
            [(e.epoch + 1).to_string(), e.step.to_string(), format!("{:.5}", e.loss)]
                .into_iter()
                .chain(figures)
                .collect()
        })
        .collect();
    output::line(output::table(&header, &rows).trim_end());
    Ok(Verdict::Done)
}
