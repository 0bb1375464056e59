//! Rankers that are fitted on all rows at once, and rankings of graded labels by steps.
#![allow(clippy::unwrap_used)]

use millstream_data::{DatasetConfig, PrepareOptions, Prepared, SourceOptions, Split, Use, prepare};
use millstream_models::{ModelConfig, Scorer};
use millstream_schema::BatchSource;
use millstream_train::graded::{self, Grades};
use millstream_train::{
    BEST, Error, LATEST, Learner, Metrics, Outcome, Run, Setting, TrainConfig, checkpoint,
};
use std::path::Path;

const DATA: &str = r#"
[dataset]
kind = "table"
[dataset.table]
train = ["train.svm"]
valid = ["valid.svm"]
request = "qid"
[[task]]
name = "relevance"
column = "label"
graded = true
[[feature]]
name = "features"
side = "item"
kind = "dense"
width = 3
separator = "|"
"#;

/// Requests whose grade is told by the features, with an offset per request that points elsewhere.
fn rows(from: u32, requests: u32) -> String {
    let mut out = String::new();
    for q in from..from + requests {
        for c in 0..6u32 {
            let draw =
                |salt: u32| f64::from((q * 131 + c * 17 + salt).wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
            let (a, b) = (draw(1), draw(2));
            let grade = if a > 0.8 { 3 } else { u32::from(a + 0.5 * b > 0.8) };
            out += &format!("{grade} qid:{q} 0:{a:.3} 1:{b:.3} 2:{}\n", q % 7);
        }
    }
    out
}

fn prepared(dir: &Path) -> Prepared {
    std::fs::write(dir.join("train.svm"), rows(0, 200)).unwrap();
    std::fs::write(dir.join("valid.svm"), rows(1000, 60)).unwrap();
    let config = DatasetConfig::parse(DATA, "dataset.toml").unwrap();
    prepare(dir, &config, &dir.join("prepared"), &PrepareOptions::default()).unwrap();
    Prepared::open(&dir.join("prepared")).unwrap()
}

fn source(prepared: &Prepared, split: Split) -> Box<dyn BatchSource> {
    let options = SourceOptions { batch_size: 90, shuffle: None, skip_batches: 0 };
    Box::new(prepared.source(split, Use::Rank, options).unwrap())
}

fn measure(prepared: &Prepared, learner: &Learner) -> Result<Metrics, Error> {
    let grades = Grades { tasks: &prepared.graded(), k: &[5] };
    graded::ranker(learner, &mut *source(prepared, Split::Valid), grades, &|_| ())
}

/// Trains or fits `model`, from the first row to the saved files.
fn run(prepared: &Prepared, dir: &Path, (model, training): (&str, &str)) -> (Outcome, Learner) {
    let model: ModelConfig = toml::from_str(model).unwrap();
    let training: TrainConfig = toml::from_str(training).unwrap();
    let setting = Setting {
        encoder: &prepared.encoder,
        tasks: &prepared.tasks,
        model: &model,
        training: &training,
        sampling: None,
    };
    let mut learner = Learner::new(&setting).unwrap();
    let evaluate = |learner: &Learner| measure(prepared, learner);
    let run = Run {
        config: &training,
        open: &|_, _| Ok(source(prepared, Split::Train)),
        evaluate: Some(&evaluate),
        dir,
        progress: &|_| (),
    };
    let outcome = if model.name == "gbdt" {
        run.fit(&setting, &mut learner, Some(source(prepared, Split::Valid))).unwrap()
    } else {
        run.train(&mut learner, None).unwrap()
    };
    let (learner, state) = checkpoint::load(&dir.join(BEST), &setting).unwrap();
    // The best state was saved before later evaluations.
    assert!(dir.join(LATEST).exists() && outcome.evaluations.starts_with(&state.evaluations));
    (outcome, learner)
}

const TREES: &str = "name = \"gbdt\"\nobjective = \"lambda_rank\"\ntrees = 40\nmin_rows = 10\nndcg_at = 5";

#[test]
fn trees_are_fitted_saved_and_served() {
    let dir = tempfile::tempdir().unwrap();
    let prepared = prepared(dir.path());
    let (outcome, learner) = run(&prepared, dir.path(), (TREES, "monitor = \"ndcg@5\""));
    let best = outcome.best.unwrap().metrics["ndcg@5"];
    assert!(best > 0.97, "NDCG is {best}");
    assert_eq!(outcome.rows, 1200);
    let scorer = Scorer::open(&dir.path().join(BEST), &prepared.encoder).unwrap();
    let batch = source(&prepared, Split::Valid).next_batch().unwrap().unwrap();
    let squashed: Vec<f32> =
        learner.logits(&batch).unwrap().into_iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
    assert_eq!(scorer.score(&batch).unwrap(), squashed);
    let gains = scorer.gain_importance().unwrap();
    assert_eq!(
        gains.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["features[0]", "features[1]", "features[2]"]
    );
    assert!(gains[0].1 > gains[1].1 && gains[1].1 > gains[2].1, "{gains:?}");
}

#[test]
fn what_is_reported_has_not_learned_from_the_validation_rows() {
    let dir = tempfile::tempdir().unwrap();
    let prepared = prepared(dir.path());
    let fitted = |model: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (outcome, learner) = run(&prepared, folder.path(), (model, "monitor = \"ndcg@5\""));
        (outcome.best.unwrap(), measure(&prepared, &learner).unwrap()["ndcg@5"], learner.weights_hash())
    };
    // Few and small trees leave something to learn.
    let small = TREES.replace("trees = 40", "trees = 4\nleaves = 4");
    let (plain, kept, before) = fitted(&small);
    let (reported, _, after) = fitted(&format!("{small}\nrefit = true"));
    assert_eq!((&plain.metrics, plain.step), (&reported.metrics, reported.step));
    assert_eq!(plain.metrics["ndcg@5"], kept);
    assert_ne!(before, after, "a refit forest is another one");
}

#[test]
fn trees_of_one_seed_are_the_same_and_no_step_changes_them() {
    let dir = tempfile::tempdir().unwrap();
    let prepared = prepared(dir.path());
    let model = format!("{TREES}\nrow_fraction = 0.7\nfeature_fraction = 0.7\nrefit = true");
    let fitted = |seed: u64| {
        let folder = tempfile::tempdir().unwrap();
        run(&prepared, folder.path(), (&model, &format!("seed = {seed}\nmonitor = \"ndcg@5\""))).1
    };
    let mut learner = fitted(3);
    assert_eq!(learner.weights_hash(), fitted(3).weights_hash());
    assert_ne!(learner.weights_hash(), fitted(4).weights_hash());
    let batch = source(&prepared, Split::Train).next_batch().unwrap().unwrap();
    let message = learner.step(&batch).unwrap_err().to_string();
    assert!(message.contains("`gbdt` is fitted on all rows at once"), "{message}");
}

#[test]
fn a_network_learns_graded_rankings_by_each_loss_over_requests() {
    let dir = tempfile::tempdir().unwrap();
    let prepared = prepared(dir.path());
    for loss in ["lambda_rank", "rank_net", "list_softmax", "list_net", "list_mle"] {
        let folder = tempfile::tempdir().unwrap();
        let training = format!(
            "loss = \"{loss}\"\nepochs = 12\nbatch_size = 90\nmonitor = \"ndcg@5\"\npatience = 12\n\
             dense = {{ optimizer = \"adam\", learning_rate = 0.01 }}"
        );
        let model = "name = \"deepfm\"\nembedding = 4\nhidden = [16]\ninit_std = 0.1";
        let (outcome, _) = run(&prepared, folder.path(), (model, &training));
        let best = outcome.best.unwrap().metrics["ndcg@5"];
        assert!(best > 0.95, "{loss}: NDCG is {best}");
    }
}

#[test]
fn grades_are_refused_where_a_model_takes_zero_or_one() {
    let dir = tempfile::tempdir().unwrap();
    let prepared = prepared(dir.path());
    let training = TrainConfig::default();
    for (model, said) in [("gbdt", "objective \"binary\" takes labels 0 and 1, not 3"), ("deepfm", "label")] {
        let model = ModelConfig::named(model);
        let setting = Setting {
            encoder: &prepared.encoder,
            tasks: &prepared.tasks,
            model: &model,
            training: &training,
            sampling: None,
        };
        let mut learner = Learner::new(&setting).unwrap();
        let open = |_, _| Ok(source(&prepared, Split::Train));
        let run = Run { config: &training, open: &open, evaluate: None, dir: dir.path(), progress: &|_| () };
        let message = match model.name.as_str() {
            "gbdt" => run.fit(&setting, &mut learner, None).unwrap_err(),
            _ => run.train(&mut learner, None).unwrap_err(),
        };
        assert!(message.to_string().contains(said), "{message}");
    }
}
