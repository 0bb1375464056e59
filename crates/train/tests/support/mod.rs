//! A small generated world, cut into batches, and runs over it.
#![allow(dead_code, clippy::unwrap_used)]

use millstream_models::ModelConfig;
use millstream_schema::examples::Action;
use millstream_schema::ids::NO_ROW;
use millstream_schema::{
    Assembler, Batch, BatchSource, Columns, Encoder, Examples, Frame, History, Schema, Side,
};
use millstream_train::{Learner, Setting, TrainConfig};
use std::sync::Arc;

const SCHEMA: &str = r#"
    [[feature]]
    name = "user"
    side = "user"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "item"
    side = "item"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "hour"
    side = "context"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "price"
    side = "item"
    kind = "numeric"
    transform = "raw"
"#;

/// A small seeded generator.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// In [0, 1).
    pub fn share(&mut self) -> f64 {
        self.below(1 << 24) as f64 / (1 << 24) as f64
    }
}

/// The encoder of the world's rows.
pub fn encoder() -> Encoder {
    Encoder::without_fitting(&SCHEMA.parse::<Schema>().unwrap()).unwrap()
}

/// Rows of a table as a batch: cells of user, item, hour and price, and labels `[N, T]`.
pub fn batch_of(rows: &[[String; 4]], labels: Vec<f32>, tasks: usize) -> Batch {
    let mut frame = Frame::new("rows", &["user", "item", "hour", "price"]);
    for (line, row) in rows.iter().enumerate() {
        frame.push_row(line as u64, &row.each_ref().map(String::as_str));
    }
    table_batch(&encoder(), &frame, labels, tasks)
}

/// A batch of a frame's rows, each a request of its own.
pub fn table_batch(encoder: &Encoder, frame: &Frame, labels: Vec<f32>, tasks: usize) -> Batch {
    let (encoder, bad, n) = (Arc::new(encoder.clone()), &mut Default::default(), frame.rows());
    let x = Examples {
        request_user: vec![NO_ROW; n],
        request_time_ms: vec![0; n],
        history: History { offsets: vec![0; n + 1], ..History::default() },
        context: encoder.encode(&[Side::User, Side::Context], frame, bad).unwrap(),
        candidate_request: (0..n as u32).collect(),
        exposure: encoder.encode(&[Side::Item, Side::Exposure], frame, bad).unwrap(),
        labels,
        tasks,
        ..Examples::default()
    };
    Assembler::new(encoder, Columns::default(), Columns::default()).unwrap().batch(&x).unwrap()
}

/// `count` batches of `size` rows, whose labels depend on user and item.
pub fn batches(count: usize, size: usize, seed: u64) -> Vec<Batch> {
    let mut dice = Dice(seed);
    let mut one = || {
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..size {
            let (user, item, hour, price) = (dice.below(40), dice.below(60), dice.below(24), dice.below(9));
            let chance = if (user * 7 + item).is_multiple_of(3) { 0.8 } else { 0.15 };
            labels.push(f32::from(u8::from(dice.share() < chance)));
            rows.push([format!("u{user}"), format!("i{item}"), format!("{hour}"), format!("{price}")]);
        }
        batch_of(&rows, labels, 1)
    };
    (0..count).map(|_| one()).collect()
}

const HISTORY_SCHEMA: &str = r#"
    [[feature]]
    name = "user"
    side = "user"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "item"
    side = "item"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "topic"
    side = "item"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "clicks"
    kind = "sequence"
    session_gap_mins = 1
    elements = ["item", "topic"]
    gap = true
"#;

/// The encoder of [`history_batches`].
pub fn history_encoder() -> Encoder {
    Encoder::without_fitting(&HISTORY_SCHEMA.parse::<Schema>().unwrap()).unwrap()
}

/// `count` batches of `size` requests with up to five past actions each.
pub fn history_batches(count: usize, size: usize, seed: u64) -> Vec<Batch> {
    let (encoder, bad) = (Arc::new(history_encoder()), &mut Default::default());
    let (mut users, mut items) = (Frame::new("users", &["user"]), Frame::new("items", &["item", "topic"]));
    (0..9u64).for_each(|u| users.push_row(u, &[&format!("u{u}")]));
    (0..20u64).for_each(|i| items.push_row(i, &[&format!("i{i}"), &format!("t{}", i % 3)]));
    let users = encoder.encode(&[Side::User], &users, bad).unwrap();
    let items = encoder.encode(&[Side::Item], &items, bad).unwrap();
    let assembler = Assembler::new(encoder.clone(), users, items).unwrap();
    let mut dice = Dice(seed);
    let mut one = || {
        let mut x = Examples { tasks: 1, ..Examples::default() };
        for r in 0..size as u32 {
            let item = dice.below(20) as u32;
            x.request_user.push(dice.below(9) as u32);
            x.request_time_ms.push(1_000_000);
            let past: Vec<Action> = (0..dice.below(6))
                .map(|k| Action {
                    item: dice.below(20) as u32,
                    time_ms: 1000 * k as i64,
                    kind: 1,
                    value: 1.0,
                })
                .collect();
            x.labels.push(f32::from(u8::from(past.iter().any(|a| a.item % 3 == item % 3))));
            x.history.push(past);
            x.candidate_request.push(r);
            x.candidate_item.push(item);
        }
        x.context = encoder.context_defaults(size).unwrap();
        x.exposure = encoder.exposure_defaults(size).unwrap();
        assembler.batch(&x).unwrap()
    };
    (0..count).map(|_| one()).collect()
}

/// Batches in memory as a source, from one of them on.
pub struct Replayed(std::collections::VecDeque<Batch>);

impl Replayed {
    /// From batch number `from` on.
    pub fn from(batches: &[Batch], from: u64) -> Self {
        Self(batches[from as usize..].iter().cloned().collect())
    }
}

impl BatchSource for Replayed {
    fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
        Ok(self.0.pop_front())
    }
}

/// A `[training]` table.
pub fn training(text: &str) -> TrainConfig {
    millstream_schema::config::parse(text, "training").unwrap()
}

/// A `[model]` table.
pub fn model(text: &str) -> ModelConfig {
    millstream_schema::config::parse(text, "model").unwrap()
}

/// Calls `act` with a setting for tasks `tasks`.
pub fn setting<T>(
    (model, training): (&ModelConfig, &TrainConfig),
    tasks: &[&str],
    act: impl FnOnce(&Setting<'_>) -> T,
) -> T {
    let (encoder, tasks) = (encoder(), tasks.iter().map(|t| (*t).to_owned()).collect::<Vec<String>>());
    act(&Setting { encoder: &encoder, tasks: &tasks, model, training, sampling: None })
}

/// A fresh learner of one task.
pub fn learner(model: &ModelConfig, training: &TrainConfig) -> Learner {
    setting((model, training), &["click"], |s| Learner::new(s).unwrap())
}

/// Why there is no learner.
pub fn refusal(model_text: &str, training_text: &str) -> String {
    let (model, training) = (model(model_text), training(training_text));
    setting((&model, &training), &["click"], |s| Learner::new(s).err().unwrap().to_string())
}
