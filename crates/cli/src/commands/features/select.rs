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
F(F + 1)/2 models. Grades of relevance are learned by `lambda_rank` and judged by NDCG@10. A linear model sees no crosses of
features: what it has no use for a deep one may.";

/// Options of `features select`.
#[derive(Args)]
pub struct Options {
    /// Folder made by `data prepare`.
    prepared: PathBuf,
    /// From nothing up, or from everything down.
    #[arg(long, value_enum, default_value = "forward")]
    direction: Way,
    /// Forward: stop when a round gains less AUC (NDCG@10 of grades). Backward: stop when a round loses more.
    #[arg(long, value_name = "X", default_value_t = 0.0005, allow_negative_numbers = true)]
    least: f64,
    /// Forward: choose so many at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_features: Option<u64>,
    /// Backward: keep so many at least; 1 by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    min_features: Option<u64>,
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

/// Cut-off of the NDCG that grades are judged by.
const CUT: usize = 10;

impl Options {
    /// Refuses options that would change nothing, or cannot be compared with.
    fn check(&self) -> Result<(), Failure> {
        if !self.least.is_finite() {
            return Err(format!("--least must be a number, not {}", self.least).into());
        }
        match self.direction {
            Way::Forward if self.min_features.is_some() => Err(
                "--min-features is for --direction backward; forward, --max-features says how many at most"
                    .into(),
            ),
            Way::Backward if self.max_features.is_some() => Err(
                "--max-features is for --direction forward; backward, --min-features says how many at least"
                    .into(),
            ),
            _ => Ok(()),
        }
    }
}

/// The metric of the first task that features are chosen by.
fn metric(prepared: &Prepared) -> Result<String, Failure> {
    let place = prepared.dir().display();
    let (train, valid) = (prepared.part(Split::Train, Use::Rank), prepared.part(Split::Valid, Use::Rank));
    if valid.candidates == 0 {
        return Err(format!("{place}: has no validation part to choose by").into());
    }
    if prepared.graded().first() != Some(&true) {
        return Ok("auc".into());
    }
    if train.requests == train.candidates || valid.requests == valid.candidates {
        return Err(format!(
            "{place}: grades are compared within a request, but each request of this data has a single row; there is nothing \
             to choose by"
        )
        .into());
    }
    Ok(format!("ndcg@{CUT}"))
}

pub fn run(options: &Options, global: &Global) -> Result<Verdict, Failure> {
    options.check()?;
    let prepared = Prepared::open(&options.prepared)?;
    let key = &metric(&prepared)?;
    let training = training(options, &prepared)?;
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
        Way::Backward => (Direction::Backward, options.min_features.unwrap_or(1) as usize),
    };
    let n = candidates.len() as u64;
    let bar = Bar::new("select", n * (n + 1) / 2, "models", global.quiet);
    let (dir, quiet) = (tempfile::tempdir()?, Global { quiet: true, ..global.clone() });
    let mut trained = 0;
    let mut evaluate = |names: &[String]| {
        let chosen = names.iter().flat_map(|name| fields[name].iter().cloned()).collect();
        let model = ModelConfig { fields: Some(chosen), ..ModelConfig::named("lr") };
        let (prepared, training) = (&prepared, &training);
        let (k, dir) = (&[CUT][..], dir.path());
        let job = Job { prepared, model: &model, training, k, dir, resume: false, from: None };
        let found = job.run(&quiet).map_err(|e| Error::Config(e.to_string()))?;
        trained += 1;
        let value = found.outcome.best.and_then(|best| best.metrics.get(key).copied());
        let value = value.ok_or_else(|| {
            let place = prepared.dir().display();
            Error::Config(format!(
                "{place}: the validation part holds rows of one class only; there is nothing to choose by"
            ))
        })?;
        bar.note(format!("{} features, {key} {value:.4}", names.len()));
        bar.at(trained);
        Ok(value)
    };
    let stop = Stop { least: options.least, features };
    let selected = selection::select(&candidates, direction, stop, &mut evaluate)?;
    bar.done(format!("{} models, {} of {n} features", selected.trained, selected.features.len()));
    print(&selected, (direction, key), global);
    Ok(Verdict::Done)
}

fn training(options: &Options, prepared: &Prepared) -> Result<TrainConfig, Failure> {
    let text = format!(
        "batch_size = 4096\nepochs = {}\nseed = {}\n\
         dense = {{ optimizer = \"adam\", learning_rate = 0.01 }}\n\
         rows = {{ optimizer = \"adam\", learning_rate = 0.01 }}\n",
        options.epochs, options.seed
    );
    let mut training: TrainConfig = millstream_schema::config::parse(&text, "features select")?;
    for (task, _) in prepared.tasks.iter().zip(prepared.graded()).filter(|(_, graded)| *graded) {
        training
            .losses
            .insert(task.clone(), millstream_schema::config::parse("name = \"lambda_rank\"", "loss")?);
    }
    Ok(training)
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

fn print(selected: &Selected, (direction, key): (Direction, &str), global: &Global) {
    let metric = &format!("valid {key}");
    if global.json {
        output::json(
            &json!({ "direction": direction, "model": "lr", "metric": metric, "selected": selected }),
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
    output::line(output::table(&["step", metric], &rows));
    let quoted: Vec<String> = selected.features.iter().map(|f| format!("\"{f}\"")).collect();
    output::line(format!("[model]\nfields = [{}]", quoted.join(", ")));
}
