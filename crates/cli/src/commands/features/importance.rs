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
    /// Part whose rows are shuffled.
    #[arg(long, value_enum, default_value = "valid")]
    split: Part,
    /// Shufflings per feature.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Rows of the part to use, from its beginning.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
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

pub fn run(options: &Options, global: &Global) -> Result<Verdict, Failure> {
    let mut recipe = recipe::find(&options.recipe, None)?.parse()?;
    recipe.training.seed = options.seed.unwrap_or(recipe.training.seed);
    let prepared = Prepared::open(&options.prepared)?;
    recipe.check_prepared(&prepared)?;
    if options.kind == Kind::Gain {
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
        Part::Train => Split::Train,
        Part::Valid => Split::Valid,
    };
    let order = SourceOptions { batch_size: 8192, shuffle: None, skip_batches: 0 };
    let mut source = prepared.source(split, Use::Rank, order)?;
    let mut batches = importance::hold(&mut source, options.rows)?;
    let names: Vec<String> =
        prepared.encoder.schema().features.iter().map(|feature| feature.name.clone()).collect();
    let seeds: Vec<u64> = (1..=options.seeds).collect();
    let bar = Bar::new("shuffle", names.len() as u64 * options.seeds, "columns", global.quiet);
    let found = importance::permutation(
        &learner,
        &mut batches,
        (prepared.encoder.fields(), &names),
        (task, &seeds),
        &|done| bar.at(done),
    )?;
    bar.done(format!("{} features, {} rows", found.features.len(), found.rows));
    print(&found, options, split, global);
    Ok(Verdict::Done)
}

fn print(found: &Importances, options: &Options, split: Split, global: &Global) {
    if global.json {
        output::json(&json!({
            "kind": "permutation", "split": split.as_str(), "seeds": options.seeds, "importance": found,
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
