//! `millstream features importance`.

use clap::{Args, ValueEnum};
use millstream_data::{Prepared, SourceOptions, Split, Use};
use millstream_models::Scorer;
use millstream_train::importance::{self, Importances};
use millstream_train::{BEST, Setting, checkpoint};
use serde_json::json;
use std::path::PathBuf;

use crate::progress::Bar;
use crate::{Failure, Global, Verdict, output, recipe};

pub const EXAMPLES: &str = "\
Examples:
  millstream features importance frappe_deepfm --prepared prepared --run run
  millstream features importance my_gbdt.toml --prepared prepared --run run --kind gain
  millstream features importance frappe_deepfm --prepared prepared --run run --seeds 10 --json

permutation: each feature's column is shuffled over the rows of the part, once per seed; what the AUC loses is its worth to
this model, mean and standard deviation over the seeds. Two features that say the same hide each other.
gain: the loss that splits on the feature saved in training; for models of trees.";

/// Options of `features importance`.
#[derive(Args)]
pub struct Options {
    /// Name or file of the recipe the model was trained by.
    recipe: String,
    /// Folder made by `data prepare`.
    #[arg(long, value_name = "DIR")]
    prepared: PathBuf,
    /// Folder of the checkpoints.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// How worth is measured.
    #[arg(long, value_enum, default_value = "permutation")]
    kind: Kind,
    /// The task; the first when absent.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Part whose rows are shuffled; valid by default.
    #[arg(long, value_enum)]
    split: Option<Part>,
    /// Shufflings per feature; 3 by default.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    /// Rows of the part to use, from its beginning; 200,000 by default. A request is kept whole.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rows: Option<u64>,
    /// The recipe's seed, if the model was trained with another.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Kind {
    Permutation,
    Gain,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Train,
    Valid,
}

const SEEDS: u64 = 3;
const ROWS: u64 = 200_000;
/// Rows scored at once, at most.
const BATCH: u64 = 8192;

pub fn run(options: &Options, global: &Global) -> Result<Verdict, Failure> {
    let mut recipe = recipe::find(&options.recipe, None)?.parse()?;
    recipe.training.seed = options.seed.unwrap_or(recipe.training.seed);
    let prepared = Prepared::open(&options.prepared)?;
    recipe.check_prepared(&prepared)?;
    if options.kind == Kind::Gain {
        let shuffled = [
            ("task", options.task.is_some()),
            ("split", options.split.is_some()),
            ("seeds", options.seeds.is_some()),
            ("rows", options.rows.is_some()),
            ("seed", options.seed.is_some()),
        ];
        if let Some((key, _)) = shuffled.iter().find(|(_, given)| *given) {
            return Err(format!("--{key} is for --kind permutation; gain is what training saved").into());
        }
        return gain(options, &prepared, global);
    }
    let task = super::task_of(&prepared, options.task.as_deref())?;
    let setting = Setting {
        encoder: &prepared.encoder,
        tasks: &prepared.tasks,
        model: &recipe.model,
        training: &recipe.training,
        sampling: None,
    };
    let (learner, _) = checkpoint::load(&options.run.join(BEST), &setting)?;
    let split = match options.split {
        Some(Part::Train) => Split::Train,
        Some(Part::Valid) | None => Split::Valid,
    };
    let (rows, seeds) = (options.rows.unwrap_or(ROWS), options.seeds.unwrap_or(SEEDS));
    // Batches of one size, so that no more rows are held than asked for, but for what completes the last batches.
    let batch_size = usize::try_from(rows.div_ceil(rows.div_ceil(BATCH)))?;
    let order = SourceOptions { batch_size, shuffle: None, skip_batches: 0 };
    let mut source = prepared.source(split, Use::Rank, order)?;
    let mut batches = importance::hold(&mut source, rows)?;
    let names: Vec<String> =
        prepared.encoder.schema().features.iter().map(|feature| feature.name.clone()).collect();
    let bar = Bar::new("shuffle", names.len() as u64 * seeds, "columns", global.quiet);
    let drawn: Vec<u64> = (1..=seeds).collect();
    let found = importance::permutation(
        &learner,
        &mut batches,
        (prepared.encoder.fields(), &names),
        (task, &drawn),
        &|done| bar.at(done),
    )?;
    bar.done(format!("{} features, {} rows", found.features.len(), found.rows));
    print(&found, (split, seeds), global);
    Ok(Verdict::Done)
}

fn print(found: &Importances, (split, seeds): (Split, u64), global: &Global) {
    if global.json {
        output::json(&json!({
            "kind": "permutation", "split": split.as_str(), "seeds": seeds, "importance": found,
        }));
        return;
    }
    let rows: Vec<Vec<String>> = found
        .features
        .iter()
        .map(|f| {
            vec![
                f.feature.clone(),
                format!("{:.5}", f.auc_drop),
                format!("± {:.5}", f.sd),
                format!("{:.5}", f.loss_rise),
            ]
        })
        .collect();
    output::line(format!(
        "{split}: AUC {:.4}, log-loss {:.4}, {} rows\n",
        found.auc, found.logloss, found.rows
    ));
    output::line(output::table(&["feature", "AUC drop", "sd", "log-loss rise"], &rows).trim_end());
}

fn gain(options: &Options, prepared: &Prepared, global: &Global) -> Result<Verdict, Failure> {
    let scorer = Scorer::open(&options.run.join(BEST), &prepared.encoder)?;
    let Some(mut found) = scorer.gain_importance() else {
        return Err("--kind gain: this model has no splits; use --kind permutation".into());
    };
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = found.iter().map(|f| f.1).sum();
    if global.json {
        let features: Vec<_> =
            found.iter().map(|(name, gain)| json!({ "feature": name, "gain": gain })).collect();
        output::json(&json!({ "kind": "gain", "importance": features }));
        return Ok(Verdict::Done);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|(name, gain)| {
            vec![name.clone(), format!("{gain:.4}"), format!("{:.2} %", 100.0 * gain / total.max(1e-300))]
        })
        .collect();
    output::line(output::table(&["feature", "gain", "share"], &rows).trim_end());
    Ok(Verdict::Done)
}
