//! The moving average of the weights: against one kept by hand, through a broken-off run, and what it refuses.
#![allow(clippy::unwrap_used)]

mod support;

use millstream_models::ModelConfig;
use millstream_schema::{Batch, BatchSource};
use millstream_train::{BEST, Error, LATEST, Learner, Run, RunState, TrainConfig, checkpoint};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use support::{Replayed, batches, learner, model, setting, training};

const MODEL: &str = "name = \"deepfm\"\nembedding = 2\nhidden = [4]\nbatch_norm = true\ninit_std = 0.1";

/// Dense weights and rows by name or table and key.
fn all(learner: &Learner) -> BTreeMap<String, Vec<f32>> {
    let dense = learner.params().iter().map(|(name, _, values)| (name.to_owned(), values.to_vec()));
    let mut out: BTreeMap<String, Vec<f32>> = dense.collect();
    for (id, table) in learner.store().tables() {
        let visit = |key, weights: &[f32]| {
            out.insert(format!("{}/{key}", table.name), weights.to_vec());
        };
        learner.store().for_each_row(id, visit).unwrap();
    }
    out
}

fn load(path: &Path, (model, config): (&ModelConfig, &TrainConfig)) -> (Learner, RunState) {
    setting((model, config), &["click"], |s| checkpoint::load(path, s).unwrap())
}

/// Trains; breaks off with an error after `stop` steps of this process.
fn run(
    (learner, state): (&mut Learner, Option<RunState>),
    config: &TrainConfig,
    data: &[Batch],
    (dir, stop): (&Path, Option<u64>),
) -> Result<(), Error> {
    let taken = Cell::new(0);
    let open = |_, skip| {
        let left = stop.map(|stop| stop - taken.get());
        Ok(Box::new(Breaking { inner: Replayed::from(data, skip), left }) as Box<dyn BatchSource>)
    };
    // Not better each time, so that the best is not the latest.
    let evaluate = |learner: &Learner| {
        let sum: f32 = learner.logits(&data[0])?.iter().sum();
        Ok(BTreeMap::from([("auc".to_owned(), f64::from(sum))]))
    };
    let progress = |_: &_| taken.set(taken.get() + 1);
    Run { config, open: &open, evaluate: Some(&evaluate), dir, progress: &progress }
        .train(learner, state)
        .map(drop)
}

struct Breaking {
    inner: Replayed,
    left: Option<u64>,
}

impl BatchSource for Breaking {
    fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
        if self.left == Some(0) {
            return Err(millstream_schema::Error::Corrupt("broken off".into()));
        }
        self.left = self.left.map(|left| left - 1);
        self.inner.next_batch()
    }
}

#[test]
fn the_average_is_the_one_kept_by_hand() {
    let (data, dir) = (batches(9, 16, 3), tempfile::tempdir().unwrap());
    let (model, decay) = (model(MODEL), 0.4f32);
    let config = training("epochs = 1\npatience = 9\naverage = { decay = 0.4, every = 2 }");
    run((&mut learner(&model, &config), None), &config, &data, (dir.path(), None)).unwrap();
    let got = all(&load(&dir.path().join(BEST), (&model, &config)).0);

    let (mut twin, mut wanted) = (learner(&model, &training("")), BTreeMap::<String, Vec<f32>>::new());
    let mut takings = 0.0;
    for (step, batch) in data.iter().enumerate() {
        twin.step(batch).unwrap();
        if step % 2 == 1 {
            let keep = decay.min((1.0 + takings) / (10.0 + takings));
            takings += 1.0;
            for (name, now) in all(&twin) {
                let mean = wanted.entry(name).or_insert_with(|| now.clone());
                mean.iter_mut().zip(&now).for_each(|(a, w)| *a = keep * *a + (1.0 - keep) * w);
            }
        }
    }
    // Rows met at the ninth step, after the last taking, are as they are.
    all(&twin).into_iter().for_each(|(name, now)| {
        wanted.entry(name).or_insert(now);
    });
    assert_eq!(got.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, wanted) in &wanted {
        let close = got[name].iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close, "{name}: {:?} against {wanted:?}", got[name]);
    }
}

#[test]
fn training_goes_on_from_the_weights_and_not_from_their_average() {
    let (data, dir) = (batches(8, 16, 4), tempfile::tempdir().unwrap());
    let with = training("epochs = 2\npatience = 9\naverage = { decay = 0.9, every = 1 }");
    let (mut averaged, mut plain) = (learner(&model(MODEL), &with), learner(&model(MODEL), &training("")));
    run((&mut averaged, None), &with, &data, (dir.path(), None)).unwrap();
    for batch in data.iter().chain(&data) {
        plain.step(batch).unwrap();
    }
    // Not the hash: a row counts as touched when the average takes its place.
    assert_eq!(all(&averaged), all(&plain));
    let best = load(&dir.path().join(BEST), (&model(MODEL), &with)).0;
    assert_ne!(all(&best), all(&plain));
}

#[test]
fn a_run_broken_off_again_and_again_ends_with_the_same_best() {
    let data = batches(10, 16, 5);
    let model = model(MODEL);
    let config =
        training("epochs = 4\npatience = 9\ncheckpoint_every = 3\naverage = { decay = 0.8, every = 2 }");
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run((&mut learner(&model, &config), None), &config, &data, (whole.path(), None)).unwrap();
    let latest = broken.path().join(LATEST);
    for stop in [7, 8, 5, 1000] {
        let (mut learner, state) = match latest.exists() {
            true => {
                let (learner, state) = load(&latest, (&model, &config));
                (learner, Some(state))
            }
            false => (learner(&model, &config), None),
        };
        let ended = run((&mut learner, state), &config, &data, (broken.path(), Some(stop)));
        assert_eq!(ended.is_ok(), stop == 1000);
    }
    for file in [BEST, LATEST] {
        let [wanted, got] = [&whole, &broken].map(|dir| load(&dir.path().join(file), (&model, &config)).0);
        assert_eq!(got.weights_hash(), wanted.weights_hash(), "{file}");
    }
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    for (text, said) in [
        ("average = { decay = 1.0 }", "training.average.decay must be a number above 0 and below 1, not 1"),
        ("average = { every = 0 }", "training.average.every must be above 0, not 0"),
        ("average = {}\nrows = { dtype = \"bf16\" }", "training.average is of f32 rows that stay"),
        ("average = {}\nrows = { expiry = { max_age = 5 } }", "training.average is of f32 rows that stay"),
        ("average = {}\nmode = \"stream\"", "training.average means nothing in mode = \"stream\""),
    ] {
        let message = training(text).check().unwrap_err().to_string();
        assert!(message.contains(said), "{text}: {message}");
    }
}
