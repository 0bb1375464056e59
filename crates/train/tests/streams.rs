//! Streams: the same weights as from files, resumed as if never broken off, exported without zeros.
#![allow(clippy::unwrap_used)]

mod support;

use millstream_models::{ModelConfig, RANKERS, Scorer};
use millstream_schema::{Batch, BatchSource};
use millstream_train::config::TrainMode;
use millstream_train::stream::{Numbered, OpenStream, Replay, Stream, StreamOutcome, StreamState};
use millstream_train::{BEST, Error, LATEST, Learner, Run, Setting, TrainConfig, check_streams, checkpoint};
use std::cell::Cell;
use std::path::Path;
use support::{Replayed, batches, history_batches, history_encoder, learner, model, setting, training};

/// Streams `batches` into `learner`; checkpoints every `every` rows, and stops before batch `stop` as a kill would.
fn stream(
    learner: &mut Learner,
    state: Option<StreamState>,
    (config, batches): (&TrainConfig, &[Batch]),
    (dir, every, stop): (&Path, Option<u64>, Option<u64>),
) -> Result<StreamOutcome, Error> {
    struct Killed(Numbered<Replayed>, Option<u64>);
    impl BatchSource for Killed {
        fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
            match self.1 == Some(self.0.position()) {
                true => Err(millstream_schema::Error::Corrupt("killed".into())),
                false => self.0.next_batch(),
            }
        }
    }
    impl Replay for Killed {
        fn position(&self) -> u64 {
            self.0.position()
        }
    }
    let open: &OpenStream<'_> =
        &|position| Ok(Box::new(Killed(Numbered::new(Replayed::from(batches, position), position), stop)));
    let stream = Stream {
        config,
        open,
        dir,
        checkpoint_every: every,
        report_every: Some(100),
        progress: &|_| {},
        report: &|_| {},
    };
    stream.train(learner, state)
}

/// One epoch over the same batches in the same order.
fn epoch(learner: &mut Learner, config: &TrainConfig, batches: &[Batch], dir: &Path) {
    let open = |_, skip| Ok(Box::new(Replayed::from(batches, skip)) as Box<dyn BatchSource>);
    let run = Run { config, open: &open, evaluate: None, dir, progress: &|_| {} };
    run.train(learner, None).unwrap();
}

#[test]
fn file_replay_and_stream_replay_end_in_identical_weights_for_every_ranker() {
    let data = batches(12, 24, 3);
    let by_file = training(
        "epochs = 1\nseed = 5\nclip_norm = 10.0\nschedule = { kind = \"constant\", warmup_steps = 4 }",
    );
    let by_stream = TrainConfig { mode: TrainMode::Stream, ..by_file.clone() };
    for def in RANKERS {
        if def.fit.is_some() {
            assert!(
                check_streams(def.name).unwrap_err().to_string().contains("all rows at once"),
                "{}",
                def.name
            );
            continue;
        }
        let model = ModelConfig::named(def.name);
        if BEHAVIOUR.contains(&def.name) {
            continue;
        }
        let (file_dir, stream_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut from_files = learner(&model, &by_file);
        epoch(&mut from_files, &by_file, &data, file_dir.path());
        let mut from_stream = learner(&model, &by_stream);
        let fresh = from_stream.weights_hash();
        let sink = (stream_dir.path(), None, None);
        let outcome = stream(&mut from_stream, None, (&by_stream, &data), sink).unwrap();
        assert_eq!(from_stream.weights_hash(), from_files.weights_hash(), "{}", def.name);
        assert_ne!(from_stream.weights_hash(), fresh, "{}", def.name);
        assert_eq!((outcome.rows, outcome.points.len()), (12 * 24, 3), "{}", def.name);
    }
}

/// Rankers that read a history.
const BEHAVIOUR: [&str; 8] = ["mean_pool", "din", "din_self", "bst", "sim_hard", "sim_soft", "dien", "dsin"];

#[test]
fn file_replay_and_stream_replay_end_in_identical_weights_for_rankers_over_histories() {
    let data = history_batches(10, 24, 3);
    let by_file = training("epochs = 1\nseed = 5");
    let by_stream = TrainConfig { mode: TrainMode::Stream, ..by_file.clone() };
    for name in BEHAVIOUR {
        let category = if name == "sim_hard" { "\nsequence = { category = \"topic\" }" } else { "" };
        let model = model(&format!("name = \"{name}\"\nembedding = 4\nhidden = [8]{category}"));
        let new = |training: &TrainConfig| {
            let (encoder, tasks) = (history_encoder(), ["click".to_owned()]);
            Learner::new(&Setting {
                encoder: &encoder,
                tasks: &tasks,
                model: &model,
                training,
                sampling: None,
            })
            .unwrap()
        };
        let (file_dir, stream_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut from_files, mut from_stream) = (new(&by_file), new(&by_stream));
        let fresh = from_stream.weights_hash();
        epoch(&mut from_files, &by_file, &data, file_dir.path());
        stream(&mut from_stream, None, (&by_stream, &data), (stream_dir.path(), None, None)).unwrap();
        assert_eq!(from_stream.weights_hash(), from_files.weights_hash(), "{name}");
        assert_ne!(from_stream.weights_hash(), fresh, "{name}");
    }
}

#[test]
fn a_stream_broken_off_again_and_again_ends_as_an_unbroken_one() {
    let data = batches(40, 20, 7);
    let model = model("name = \"deepfm\"\nembedding = 4\nhidden = [8]\ndropout = 0.3\nbatch_norm = true");
    let config = training(
        "mode = \"stream\"\nwindow = 150\ndense = { optimizer = \"radam\", learning_rate = 0.01 }\n\
         rows = { optimizer = \"ftrl\", learning_rate = 0.1, l1 = 0.05 }\nlookahead = { k = 3, alpha = 0.5 }",
    );
    let (whole_dir, broken_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut whole = learner(&model, &config);
    let wanted = stream(&mut whole, None, (&config, &data), (whole_dir.path(), None, None)).unwrap();
    let latest = broken_dir.path().join(LATEST);
    for stop in [9, 10, 23, 38, 41] {
        let (mut learner, state) = match latest.exists() {
            true => setting((&model, &config), &["click"], |s| checkpoint::load_stream(&latest, s).unwrap())
                .into_pair(),
            false => (learner(&model, &config), None),
        };
        let sink = (broken_dir.path(), Some(60), Some(stop));
        let outcome = stream(&mut learner, state, (&config, &data), sink);
        assert_eq!(outcome.is_ok(), stop == 41);
        if let Ok(outcome) = outcome {
            assert_eq!(learner.weights_hash(), whole.weights_hash());
            assert_eq!((outcome.metrics, outcome.points), (wanted.metrics.clone(), wanted.points.clone()));
            assert_eq!(outcome.sparsity, wanted.sparsity);
        }
    }
}

trait IntoPair {
    fn into_pair(self) -> (Learner, Option<StreamState>);
}

impl IntoPair for (Learner, StreamState) {
    fn into_pair(self) -> (Learner, Option<StreamState>) {
        (self.0, Some(self.1))
    }
}

#[test]
fn an_exported_model_scores_as_the_live_one_without_the_rows_of_zeros() {
    let data = batches(30, 32, 11);
    for (text, rows) in [
        ("name = \"lr\"", "rows = { optimizer = \"ftrl\", learning_rate = 0.1, l1 = 0.1 }"),
        ("name = \"fm\"\nembedding = 4", "rows = { optimizer = \"ftrl\", learning_rate = 0.1, l1 = 0.1 }"),
    ] {
        let (model, config) = (model(text), training(&format!("mode = \"stream\"\n{rows}")));
        let dir = tempfile::tempdir().unwrap();
        let mut live = learner(&model, &config);
        let (before, held_out) = (Cell::new(0), batches(3, 50, 12));
        stream(&mut live, None, (&config, &data[..29]), (dir.path(), None, None)).unwrap();
        // The live model is that of `LATEST`, which still has all rows.
        let latest = dir.path().join(LATEST);
        let (live, _) =
            setting((&model, &config), &["click"], |s| checkpoint::load_stream(&latest, s).unwrap());
        live.store().tables().for_each(|(t, _)| before.set(before.get() + live.store().len(t).unwrap()));
        let scorer = Scorer::open(&dir.path().join(BEST), &support::encoder()).unwrap();
        for batch in &held_out {
            let wanted: Vec<f32> =
                live.logits(batch).unwrap().into_iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
            assert_eq!(scorer.score(batch).unwrap(), wanted, "{text}");
        }
        let (exported, state) = setting((&model, &config), &["click"], |s| {
            checkpoint::load_stream(&dir.path().join(BEST), s).unwrap()
        });
        let kept: usize = exported.store().tables().map(|(t, _)| exported.store().len(t).unwrap()).sum();
        assert!(kept < before.get(), "{text}: {kept} of {} rows", before.get());
        assert!(state.finished);
        // The figures that are reported.
        let mut again = live;
        let outcome = stream(&mut again, Some(state), (&config, &data), (dir.path(), None, None)).unwrap();
        assert_eq!(outcome.sparsity.rows_kept as usize, kept, "{text}");
        assert_eq!(outcome.sparsity.rows as usize, before.get(), "{text}");
        assert!(outcome.sparsity.share > 0.0 && outcome.sparsity.zeros < outcome.sparsity.weights, "{text}");
    }
}

#[test]
fn rows_are_predicted_as_in_inference_before_they_are_learned() {
    let data = batches(6, 64, 13);
    for text in ["dropout = 0.5", "batch_norm = true", "dropout = 0.0"] {
        let model = model(&format!("name = \"deepfm\"\nembedding = 4\nhidden = [8]\n{text}"));
        let mut learner = learner(&model, &training("dense = { learning_rate = 0.05 }"));
        let mut twin = support::learner(&model, &training("dense = { learning_rate = 0.05 }"));
        // The first pass makes all rows, so that no key is unknown to inference.
        for batch in data.iter().chain(&data) {
            learner.step(batch).unwrap();
            twin.step(batch).unwrap();
        }
        for batch in &data {
            let (before, mut told) = (learner.logits(batch).unwrap(), Vec::new());
            learner.learn(batch, &mut told).unwrap();
            twin.step(batch).unwrap();
            let near = before.iter().zip(&told).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(near, "{text}: {before:?} {told:?}");
            assert_eq!(learner.weights_hash(), twin.weights_hash(), "{text}");
        }
    }
}

#[test]
fn a_stream_does_not_go_on_from_a_run_of_epochs() {
    let (data, dir) = (batches(3, 10, 1), tempfile::tempdir().unwrap());
    let (model, config) = (model("name = \"lr\""), training("epochs = 1"));
    epoch(&mut learner(&model, &config), &config, &data, dir.path());
    let latest = dir.path().join(LATEST);
    let error =
        setting((&model, &config), &["click"], |s| checkpoint::load_stream(&latest, s).err().unwrap());
    assert!(error.to_string().contains("holds a run of epochs"), "{error}");
}
