//! A model that learned from a sample of the negatives says what is true of all rows, judged and served.

#![allow(clippy::unwrap_used)]

use millstream_data::config::DatasetConfig;
use millstream_data::{PrepareOptions, Prepared, SourceOptions, Split, Use, prepare};
use millstream_models::{ModelConfig, Scorer};
use millstream_schema::BatchSource;
use millstream_train::{BEST, Learner, RunState, Setting, TrainConfig, checkpoint, eval};

const DATASET: &str = r#"
[dataset]
kind = "table"
[dataset.table]
all = ["rows.csv"]
[split]
by = "ratio"
valid = 0.2
test = 0.0
[[task]]
name = "click"
column = "label"
[[feature]]
name = "ad"
side = "item"
kind = "categorical"
[[balance]]
method = "negative_sampling"
keep = 0.1
"#;

#[test]
fn sampled_negatives_are_undone_in_evaluation_in_the_file_and_in_the_scorer() {
    let dir = tempfile::tempdir().unwrap();
    // Ads are clicked in 2 % to 8 % of their rows.
    let row = |i: u32| {
        let ad = i % 4;
        let draw = i.wrapping_mul(2_654_435_761) >> 8;
        format!("a{ad},{}\n", u32::from(f64::from(draw) / f64::from(1 << 24) < 0.02 * f64::from(ad + 1)))
    };
    let text: String = (0..40_000).map(row).collect();
    std::fs::write(dir.path().join("rows.csv"), format!("ad,label\n{text}")).unwrap();
    let config = DatasetConfig::parse(DATASET, "dataset.toml").unwrap();
    let out = dir.path().join("prepared");
    prepare(dir.path(), &config, &out, &PrepareOptions::default()).unwrap();
    let prepared = Prepared::open(&out).unwrap();
    let mut training = TrainConfig { batch_size: 512, ..TrainConfig::default() };
    (training.dense.learning_rate, training.rows.learning_rate) = (0.05, 0.05);
    let model = ModelConfig::named("lr");
    let setting = Setting {
        encoder: &prepared.encoder,
        tasks: &prepared.tasks,
        model: &model,
        training: &training,
        sampling: None,
    };
    let mut learner = Learner::new(&setting).unwrap();
    learner.set_negatives_kept(prepared.negatives_kept());
    for epoch in 0..6 {
        let options = SourceOptions { batch_size: 512, shuffle: Some(epoch), skip_batches: 0 };
        let mut source = prepared.source(Split::Train, Use::Rank, options).unwrap();
        while let Some(batch) = source.next_batch().unwrap() {
            learner.step(&batch).unwrap();
        }
    }
    let path = dir.path().join(BEST);
    checkpoint::save(&path, &learner, &RunState::default()).unwrap();
    let (reopened, _) = checkpoint::load(&path, &setting).unwrap();
    let scorer = Scorer::open(&path, &prepared.encoder).unwrap();
    let options = SourceOptions { batch_size: 4096, shuffle: None, skip_batches: 0 };
    let open = || prepared.source(Split::Valid, Use::Rank, options).unwrap();
    let judged = eval::scored(&reopened, &mut open(), &|_| {}).unwrap();
    let ratio = judged[0].report().calibration.ratio.unwrap();
    assert!((ratio - 1.0).abs() < 0.15, "predicted / observed {ratio}");
    let batch = open().next_batch().unwrap().unwrap();
    let served = scorer.score(&batch).unwrap();
    let raw = reopened.logits(&batch).unwrap();
    for ((served, raw), judged) in served.iter().zip(&raw).zip(judged[0].probabilities()) {
        let sampled = 1.0 / (1.0 + (-f64::from(*raw)).exp());
        let wanted = millstream_data::balance::calibrated(sampled, 0.1);
        assert!((f64::from(*served) - wanted).abs() < 1e-6 && (served - judged).abs() < 1e-6);
        assert!(sampled > 3.0 * wanted, "the raw model promises too much");
    }
}
