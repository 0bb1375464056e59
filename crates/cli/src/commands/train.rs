//! `millstream train`.

use clap::Args;
use millstream_data::Prepared;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

use crate::recipe::{self, Recipe};
use crate::streaming::{self, Raw, Rows, StreamJob};
use crate::training::Job;
use crate::{Failure, Global, Verdict, output};
use millstream_train::LATEST;
use millstream_train::config::TrainMode;

/// Train the model of a recipe on prepared data, or on a stream.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream data prepare frappe_deepfm --data ROOT --out prepared
  millstream train frappe_deepfm --prepared prepared --out run
  millstream train frappe_deepfm --prepared prepared --out run --resume    after a kill
  millstream train clicks.toml --stream --data ROOT --out run            the files themselves
  millstream train clicks.toml --stream --prepared prepared --out run    features that need fitting
  millstream train clicks.toml --stream --data ROOT --out run --checkpoint-every 100000 --resume

A stream is read once, in file order. Every batch is predicted before it is learned, so that its
log-loss and AUC are those of rows not seen before (progressive validation). Epochs, validation and
patience of a recipe play no part in it.")]
pub struct Options {
    /// Name or file of a recipe: its `[model]` and `[training]` are used.
    recipe: String,
    /// Folder made by `data prepare`.
    #[arg(long, value_name = "DIR", required_unless_present = "data")]
    prepared: Option<PathBuf>,
    /// Folder of the checkpoints.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Learn the rows once, in order, predicting each batch before it is learned.
    #[arg(long)]
    stream: bool,
    /// Folder that holds the dataset folders: stream a table's files without preparing them.
    #[arg(long, value_name = "ROOT", requires = "stream", conflicts_with = "prepared")]
    data: Option<PathBuf>,
    /// Go on from the latest checkpoint in --out; the result is that of an unbroken run.
    #[arg(long)]
    resume: bool,
    /// Begin with the weights and rows of a saved model of this recipe.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Train with this seed instead of the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// Train for so many epochs instead of the recipe's.
    #[arg(long, conflicts_with = "stream")]
    epochs: Option<u32>,
    /// Streams: rows between checkpoints; one at the end by default.
    #[arg(long, value_name = "ROWS", requires = "stream", value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: Option<u64>,
    /// Streams: rows between lines of progressive validation; after 1000, 2000, 4000 … by default.
    #[arg(long, value_name = "ROWS", requires = "stream", value_parser = clap::value_parser!(u64).range(1..))]
    report_every: Option<u64>,
    /// Streams from files: refuse bad feature values with file and line.
    #[arg(long, requires = "data")]
    strict: bool,
}

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    let mut recipe = recipe::find(&options.recipe, None)?.parse()?;
    if recipe.learns_at_once() {
        return Err(format!(
            "{}: `{}` learns from all positives at once and is not trained in steps; `millstream recipe run` makes and \
             measures it",
            options.recipe, recipe.model.name
        )
        .into());
    }
    recipe.training.seed = options.seed.unwrap_or(recipe.training.seed);
    recipe.training.epochs = options.epochs.unwrap_or(recipe.training.epochs);
    if !options.resume && options.out.join(LATEST).exists() {
        return Err(format!(
            "{}: holds a run already; go on from it with --resume, or name another --out",
            options.out.display()
        )
        .into());
    }
    if recipe.training.mode == TrainMode::Stream && !options.stream {
        return Err(format!("{}: training.mode is \"stream\"; give --stream", options.recipe).into());
    }
    let prepared = options.prepared.as_deref().map(Prepared::open).transpose()?;
    if let Some(prepared) = &prepared {
        recipe.check_prepared(prepared)?;
    }
    match (&prepared, options.stream) {
        (prepared, true) => stream(&options, &recipe, prepared.as_ref(), global),
        (Some(prepared), false) => epochs(&options, &recipe, prepared, global),
        (None, false) => Err("--prepared is missing".into()),
    }
}

fn stream(
    options: &Options,
    recipe: &Recipe,
    prepared: Option<&Prepared>,
    global: &Global,
) -> Result<Verdict, Failure> {
    let started = Instant::now();
    let rows = match (prepared, &options.data) {
        (Some(prepared), _) => Rows::Prepared(prepared),
        (None, Some(root)) => Rows::Raw(Raw::of(&recipe.dataset()?, root, options.strict)?),
        (None, None) => return Err("--data or --prepared is missing".into()),
    };
    let job = StreamJob {
        rows,
        model: &recipe.model,
        training: &recipe.training,
        dir: &options.out,
        resume: options.resume,
        from: options.from.as_deref(),
        checkpoint_every: options.checkpoint_every,
        report_every: options.report_every,
    };
    let (learner, outcome) = job.run(global)?;
    if global.json {
        output::json(&json!({
            "model": recipe.model.name, "out": options.out, "rows": outcome.rows,
            "rows_per_second": outcome.new_rows as f64 / outcome.seconds.max(1e-9),
            "train_seconds": outcome.seconds, "saving_seconds": outcome.saving_seconds,
            "metrics": outcome.metrics, "points": outcome.points,
            "sparsity": outcome.sparsity, "weights_xxh3": format!("{:016x}", learner.weights_hash()),
            "seconds": started.elapsed().as_secs_f64(), "peak_rss_mb": output::peak_rss_mb(),
        }));
    } else {
        output::line(streaming::sparsity_line(&outcome.sparsity));
    }
    Ok(Verdict::Done)
}

fn epochs(
    options: &Options,
    recipe: &Recipe,
    prepared: &Prepared,
    global: &Global,
) -> Result<Verdict, Failure> {
    let started = Instant::now();
    let job = Job {
        prepared,
        model: &recipe.model,
        training: &recipe.training,
        k: &recipe.evaluate.k,
        dir: &options.out,
        resume: options.resume,
        from: options.from.as_deref(),
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
