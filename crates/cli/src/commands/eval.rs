//! `millstream eval`.

use clap::{Args, ValueEnum};
use millstream_data::{Prepared, Split, write_text};
use millstream_models::snapshot::Role;
use millstream_train::named::Measured;
use millstream_train::page::Page;
use millstream_train::record::PartRecord;
use millstream_train::report::of_parts;
use millstream_train::{BEST, Setting, checkpoint};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::{Failure, Global, Verdict, measure, output, recipe, training};

/// Measure a trained model.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream eval frappe_deepfm --prepared prepared --run run
  millstream eval frappe_deepfm --prepared prepared --run run --split test --json
  millstream eval frappe_deepfm --prepared prepared --run run --split test --charts charts

What was measured is also written into the run's record, which `millstream report` shows.")]
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
    /// Write ROC, precision-recall and calibration charts into this folder: one SVG each, and all in `charts.html`.
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
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
    let measured = (&prepared, &learner);
    let found = measure::part(&prepared, &learner, split, &recipe.evaluate, global)?;
    if found.metrics.is_empty() {
        let part = format!("the {split} part");
        let why = match learner.header().role {
            Role::Ranker => format!("{part} holds no rows"),
            Role::Retriever => {
                Measured::Lists { k: &recipe.evaluate.k, sampled: false }.why_missing("ndcg", &part)
            }
        };
        return Err(format!("nothing can be measured: {why}").into());
    }
    measure::write_part(&options.run, measured, split, &found)?;
    let metrics = &found.metrics;
    let seconds = started.elapsed().as_secs_f64();
    if let Some(dir) = &options.charts {
        write_charts(dir, &recipe.model.name, split, &found)?;
    }
    let role = learner.header().role;
    let rows = prepared.rows(split, training::use_of(role));
    if global.json {
        output::json(&json!({
            "model": recipe.model.name, "split": split.as_str(), "metrics": metrics, "rows": rows, "sample": found.sample,
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

/// One SVG per chart, named by what it shows, and one page with all of them.
fn write_charts(dir: &Path, model: &str, split: Split, found: &PartRecord) -> Result<(), Failure> {
    let charts = of_parts(&[(model, found)], split.as_str());
    if charts.is_empty() {
        return Err(
            "--charts: there are no probabilities to draw; a retriever gives lists, a graded task ranks"
                .into(),
        );
    }
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for chart in &charts {
        let words = chart.title.to_lowercase();
        let name: Vec<&str> = words.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        write_text(&dir.join(format!("{}.svg", name.join("_"))), &chart.svg())?;
    }
    let mut page = Page::new(&format!("{model}, {split}"));
    page.note(&format!("Measured on {} rows: {}.", found.sample.rows, found.sample.what));
    page.charts(&charts);
    write_text(&dir.join("charts.html"), &page.html())?;
    Ok(())
}
