//! Checkpoints of earlier formats are opened forever.
#![allow(clippy::unwrap_used)]

mod support;

use millstream_models::ModelConfig;
use millstream_schema::{Fitter, Frame, Schema};
use millstream_train::{Setting, TrainConfig, checkpoint};
use std::path::Path;
use support::table_batch;

// The files in `v1` were written by the code of version 0.1 before its format changed: a DeepFM with embeddings of 2
// and a tower of 3 learned the rows below for three steps, with
//
//     let mut learner = Learner::new(setting)?;
//     (0..3).for_each(|_| { learner.step(&batch)?; });
//     let state = RunState { batch: 3, rate: 1.0, config: Some(training.clone()), ..RunState::default() };
//     checkpoint::save(&file(name), &learner, &state)?;
//     println!("{:?}", &learner.logits(&batch)?[..4]);
//     learner.step(&batch)?;
//     println!("{:?}", &learner.logits(&batch)?[..4]);

/// File, optimisers, the first four logits after three steps and after a fourth.
type File = (&'static str, &'static str, &'static str, [f32; 4], [f32; 4]);

const FILES: [File; 4] = [
    (
        "adam",
        "adam",
        "adam",
        [0.6204916, 0.50320435, 0.29934514, 0.45018104],
        [0.61010593, 0.47127503, 0.19038242, 0.37265858],
    ),
    (
        "adagrad",
        "adagrad",
        "adagrad",
        [0.63458747, 0.5290689, 0.37333027, 0.5018201],
        [0.6320233, 0.5129476, 0.3177071, 0.4641371],
    ),
    (
        "sgd",
        "sgd",
        "sgd",
        [0.65173405, 0.5984939, 0.56270236, 0.64661616],
        [0.6472366, 0.59107435, 0.5473537, 0.637439],
    ),
    (
        "adamw",
        "adamw",
        "adam",
        [0.62047356, 0.5031446, 0.29924577, 0.45016164],
        [0.610088, 0.471191, 0.19023266, 0.37267032],
    ),
];

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
    name = "price"
    side = "item"
    kind = "numeric"
"#;

/// What the files were trained with.
fn trained_with(dense: &str, rows: &str) -> (ModelConfig, TrainConfig) {
    let training = format!(
        "batch_size = 24\ndense = {{ optimizer = \"{dense}\", learning_rate = 0.01, l2 = 0.001 }}\n\
         rows = {{ optimizer = \"{rows}\", learning_rate = 0.02, l2 = 0.002 }}"
    );
    let model = "name = \"deepfm\"\nembedding = 2\nhidden = [3]\ninit_std = 0.1";
    (support::model(model), support::training(&training))
}

#[test]
fn a_checkpoint_of_the_first_format_goes_on_where_it_was() {
    let encoder = Fitter::new(&SCHEMA.parse::<Schema>().unwrap()).finish().unwrap();
    let mut frame = Frame::new("rows", &["user", "item", "price"]);
    for row in 0..24u64 {
        frame.push_row(row, &[&format!("u{}", row % 5), &format!("i{}", row % 7), &format!("{}", row % 3)]);
    }
    let labels = (0..24).map(|row| f32::from(u8::from(row % 5 < 2))).collect();
    let batch = table_batch(&encoder, &frame, labels, 1);
    for (name, dense, rows, saved, stepped) in FILES {
        let path = Path::new("tests/v1").join(format!("{name}.ckpt"));
        let (model, training) = trained_with(dense, rows);
        let tasks = ["click".to_owned()];
        let setting =
            Setting { encoder: &encoder, tasks: &tasks, model: &model, training: &training, sampling: None };
        let (mut learner, state) = checkpoint::load(&path, &setting).unwrap();
        assert_eq!((state.batch, state.config.as_ref()), (3, Some(&training)), "{name}");
        millstream_train::run::check_resumed(&state, &training).unwrap();
        let near = |wanted: [f32; 4], found: Vec<f32>| {
            let close = wanted.iter().zip(&found).all(|(a, b)| (a - b).abs() < 2e-5);
            assert!(close, "{name}: {wanted:?} {:?}", &found[..4]);
        };
        near(saved, learner.logits(&batch).unwrap());
        learner.step(&batch).unwrap();
        near(stepped, learner.logits(&batch).unwrap());
    }
}
