//! `millstream features select`.

use clap::{Args, ValueEnum};
use millstream_data::{Prepared, Split, Use};
use millstream_models::ModelConfig;
use millstream_train::selection::{self, Direction, Selected, Stop};
use millstream_train::{Error, TrainConfig};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::progress::Bar;
use crate::training::Job;
use crate::{Failure, Global, Verdict, output};

pub const EXAMPLES: &str = "\
Examples:
  millstream features select prepared
  millstream features select prepared --direction backward --min-features 5 --epochs 2

Each round trains one linear model (`lr`, Adam 0.01, batches of 4096) per feature that could be added (forward) or left out
(backward), on the training part, and keeps the one with the best AUC on the validation part: F features take up to
F(F + 1)/2 models. A linear model sees no crosses of features: what it has no use for a deep one may.";

/// Options of `features select`.
#[derive(Args)]
pub struct Options {
    /// Folder made by `data prepare`.
    prepared: PathBuf,
    /// From nothing up, or from everything down.
    #[arg(long, value_enum, default_value = "forward")]
    direction: Way,
    /// Forward: stop when a round gains less AUC. Backward: stop when a round loses more.
    #[arg(long, value_name = "X", default_value_t = 0.0005, allow_negative_numbers = true)]
    least: f64,
    /// Forward: choose so many at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_features: Option<u64>,
    /// Backward: keep so many at least.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    min_features: u64,
    /// Passes over the training rows per model.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Seeds the order of rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

pub fn run(options: &Options, global: &Global) -> Result<Verdict, Failure> {
    let prepared = Prepared::open(&options.prepared)?;
    if prepared.rows(Split::Valid, Use::Rank) == 0 {
        return Err(format!("{}: has no validation part to choose by", options.prepared.display()).into());
    }
    let training = training(options)?;
    let fields = fields_by_feature(&prepared);
    let candidates: Vec<String> = prepared
        .encoder
        .schema()
        .features
        .iter()
        .map(|feature| feature.name.clone())
        .filter(|name| fields.contains_key(name))
        .collect();
    let most = options.max_features.map_or(candidates.len(), |n| n as usize);
    let (direction, features) = match options.direction {
        Way::Forward => (Direction::Forward, most),
        Way::Backward => (Direction::Backward, options.min_features as usize),
    };
    let n = candidates.len() as u64;
    let bar = Bar::new("select", n * (n + 1) / 2, "models", global.quiet);
    let (dir, quiet) = (tempfile::tempdir()?, Global { quiet: true, ..global.clone() });
    let mut trained = 0;
    let mut evaluate = |names: &[String]| {
        let chosen = names.iter().flat_map(|name| fields[name].iter().cloned()).collect();
        let model = ModelConfig { fields: Some(chosen), ..ModelConfig::named("lr") };
        let (prepared, training) = (&prepared, &training);
        let job = Job { prepared, model: &model, training, dir: dir.path(), resume: false, from: None };
        let found = job.run(&quiet).map_err(|e| Error::Config(e.to_string()))?;
        trained += 1;
        let auc = found.outcome.best.and_then(|best| best.metrics.get("auc").copied());
        let auc = auc.ok_or_else(|| Error::Config("the validation part has one class only".into()))?;
        bar.note(format!("{} features, AUC {auc:.4}", names.len()));
        bar.at(trained);
        Ok(auc)
    };
    let stop = Stop { least: options.least, features };
    let selected = selection::select(&candidates, direction, stop, &mut evaluate)?;
    bar.done(format!("{} models, {} of {n} features", selected.trained, selected.features.len()));
    print(&selected, direction, global);
    Ok(Verdict::Done)
}

fn training(options: &Options) -> Result<TrainConfig, Failure> {
    let text = format!(
        "batch_size = 4096\nepochs = {}\nseed = {}\nmonitor = \"auc\"\n\
         dense = {{ optimizer = \"adam\", learning_rate = 0.01 }}\n\
         rows = {{ optimizer = \"adam\", learning_rate = 0.01 }}\n",
        options.epochs, options.seed
    );
    Ok(millstream_schema::config::parse(&text, "features select")?)
}

/// Names of each feature's fields.
fn fields_by_feature(prepared: &Prepared) -> BTreeMap<String, Vec<String>> {
    let features = &prepared.encoder.schema().features;
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for field in prepared.encoder.fields() {
        out.entry(features[field.feature].name.clone()).or_default().push(field.name.clone());
    }
    out
}

fn print(selected: &Selected, direction: Direction, global: &Global) {
    if global.json {
        output::json(
            &json!({ "direction": direction, "model": "lr", "metric": "valid auc", "selected": selected }),
        );
        return;
    }
    let (sign, begin) = match direction {
        Direction::Forward => ("+", "nothing"),
        Direction::Backward => ("-", "all features"),
    };
    let mut rows = vec![vec![begin.to_owned(), output::figure(selected.begin)]];
    rows.extend(
        selected.steps.iter().map(|s| vec![format!("{sign} {}", s.feature), output::figure(Some(s.value))]),
    );
    output::line(output::table(&["step", "valid auc"], &rows));
    let quoted: Vec<String> = selected.features.iter().map(|f| format!("\"{f}\"")).collect();
    output::line(format!("[model]\nfields = [{}]", quoted.join(", ")));
}
