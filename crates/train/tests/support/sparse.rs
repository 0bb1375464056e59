//! A world of many rare ids, in which a ranker learns its rows by heart in the second epoch.
#![allow(dead_code, clippy::unwrap_used)]

use millstream_models::ModelConfig;
use millstream_schema::ids::NO_ROW;
use millstream_schema::{
    Assembler, Batch, BatchSource, Columns, Encoder, Examples, Frame, History, Schema, Side, config,
};
use millstream_train::{Learner, Metrics, Run, Setting, TrainConfig, checkpoint, eval};
use std::path::Path;
use std::sync::Arc;

/// Rows per batch.
pub const BATCH: usize = 256;

/// Fields of a row: two rare ids, and two common ones that carry most of what holds in general.
const FIELDS: [&str; 4] = ["user", "item", "category", "hour"];

/// Training and test batches.
pub struct Sparse {
    encoder: Arc<Encoder>,
    /// In order.
    pub train: Vec<Batch>,
    /// Of the same users and items.
    pub test: Vec<Batch>,
}

impl Sparse {
    /// `rows` to train on and a fourth of that to test on; each user and item comes about ten times.
    pub fn new(rows: usize, seed: u64) -> Self {
        let feature = |name: &str| {
            format!(
                "[[feature]]\nname = \"{name}\"\nside = \"item\"\nkind = \"categorical\"\nencoding = \"hash\"\n"
            )
        };
        let schema: Schema = FIELDS.map(feature).concat().parse().unwrap();
        let encoder = Arc::new(Encoder::without_fitting(&schema).unwrap());
        let assembler = Assembler::new(encoder.clone(), Columns::default(), Columns::default()).unwrap();
        let mut draw = Draw { state: seed, ids: rows as u64 / 10 };
        let part = |rows: usize, draw: &mut Draw| -> Vec<Batch> {
            (0..rows / BATCH).map(|_| batch(&assembler, draw)).collect()
        };
        let train = part(rows, &mut draw);
        Self { test: part(rows / 4, &mut draw), train, encoder }
    }

    fn setting<T>(&self, training: &TrainConfig, act: impl FnOnce(&Setting<'_>) -> T) -> T {
        let text = "name = \"deepfm\"\nembedding = 16\nhidden = [64, 32]\ninit_std = 0.05";
        let (model, tasks): (ModelConfig, _) = (config::parse(text, "model").unwrap(), ["click".to_owned()]);
        act(&Setting { encoder: &self.encoder, tasks: &tasks, model: &model, training, sampling: None })
    }

    /// Test AUC of a saved model.
    pub fn auc_of(&self, saved: &Path) -> f64 {
        let training = hyperparameters("");
        let learner = self.setting(&training, |s| checkpoint::fresh(s, Some(saved)).unwrap());
        self.measure(&learner)["auc"]
    }

    fn measure(&self, learner: &Learner) -> Metrics {
        eval::ranker(learner, &mut InMemory(self.test.iter().cloned().collect()), &|_| {}).unwrap()
    }

    /// Test AUC after each epoch of a run with these hyperparameters, begun with the model saved at `from`.
    pub fn aucs(&self, training: &str, dir: &Path, from: Option<&Path>) -> Vec<f64> {
        let training = hyperparameters(training);
        let mut learner = self.setting(&training, |s| checkpoint::fresh(s, from).unwrap());
        let open = |_, skip: u64| {
            Ok(Box::new(InMemory(self.train[skip as usize..].iter().cloned().collect()))
                as Box<dyn BatchSource>)
        };
        let measure = |l: &Learner| Ok(self.measure(l));
        let run = Run { config: &training, open: &open, evaluate: Some(&measure), dir, progress: &|_| {} };
        let outcome = run.train(&mut learner, None).unwrap();
        outcome.evaluations.iter().map(|e| e.metrics["auc"]).collect()
    }
}

fn hyperparameters(more: &str) -> TrainConfig {
    let common = "dense = { learning_rate = 1e-3 }\nrows = { learning_rate = 1e-2 }\nmonitor = \"auc\"\n";
    config::parse(&format!("{common}{more}"), "training").unwrap()
}

struct InMemory(std::collections::VecDeque<Batch>);

impl BatchSource for InMemory {
    fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
        Ok(self.0.pop_front())
    }
}

struct Draw {
    state: u64,
    ids: u64,
}

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % n
    }
}

/// A number in [−1, 1] that belongs to an id.
fn trait_of(id: u64, salt: u64) -> f64 {
    let mixed = (id ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    ((mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

fn batch(assembler: &Assembler, draw: &mut Draw) -> Batch {
    let mut frame = Frame::new("rows", &FIELDS);
    let mut labels = Vec::new();
    for line in 0..BATCH as u64 {
        let (user, item, category, hour) =
            (draw.below(draw.ids), draw.below(draw.ids), draw.below(40), draw.below(24));
        let general = 1.5 * trait_of(category * 24 + hour, 1) + trait_of(category, 2);
        let own = 0.8 * trait_of(user, 3) + 0.8 * trait_of(item, 4);
        let chance = 1.0 / (1.0 + (1.0 - general - own).exp());
        labels.push(f32::from(u8::from((draw.below(1 << 20) as f64) < chance * f64::from(1 << 20))));
        frame.push_row(
            line,
            &[&format!("u{user}"), &format!("i{item}"), &format!("c{category}"), &format!("{hour}")],
        );
    }
    let x = Examples {
        request_user: vec![NO_ROW; BATCH],
        request_time_ms: vec![0; BATCH],
        history: History { offsets: vec![0; BATCH + 1], ..History::default() },
        candidate_request: (0..BATCH as u32).collect(),
        exposure: assembler.encoder().encode(&[Side::Item], &frame, &mut Default::default()).unwrap(),
        labels,
        tasks: 1,
        ..Examples::default()
    };
    assembler.batch(&x).unwrap()
}
