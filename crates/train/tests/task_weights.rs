//! Several tasks: their losses, what they count beside each other, and the rows each of them sees.
#![allow(clippy::unwrap_used)]

mod support;

use millstream_schema::Batch;
use millstream_train::{Learner, RunState, Setting, checkpoint, eval};
use support::{Dice, Replayed, batch_of, history_batches, history_encoder, model, setting, training};

const SHARED: &str =
    "name = \"shared_bottom\"\nembedding = 4\nhidden = [8]\ntower_hidden = [4]\ninit_std = 0.1";
const TASKS: [&str; 2] = ["click", "order"];

/// Batches of two tasks: clicks that depend on user and item, and orders of clicked rows, NaN elsewhere.
fn batches(count: usize, seed: u64) -> Vec<Batch> {
    let mut dice = Dice(seed);
    let mut one = || {
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..64 {
            let (user, item) = (dice.below(20), dice.below(30));
            let click = dice.share() < if (user + item).is_multiple_of(3) { 0.8 } else { 0.3 };
            let order = dice.share() < if item.is_multiple_of(2) { 0.9 } else { 0.1 };
            labels.push(f32::from(u8::from(click)));
            labels.push(if click { f32::from(u8::from(order)) } else { f32::NAN });
            rows.push([format!("u{user}"), format!("i{item}"), "1".into(), "2".into()]);
        }
        batch_of(&rows, labels, 2)
    };
    (0..count).map(|_| one()).collect()
}

fn learner(model_text: &str, training_text: &str) -> Learner {
    let (model, training) = (model(model_text), training(training_text));
    setting((&model, &training), &TASKS, |s| Learner::new(s).unwrap())
}

fn refused(model_text: &str, training_text: &str) -> String {
    let (model, training) = (model(model_text), training(training_text));
    setting((&model, &training), &TASKS, |s| Learner::new(s).err().unwrap().to_string())
}

/// The loss of the first batch under these weights.
fn first_loss(training_text: &str) -> f32 {
    learner(SHARED, training_text).step(&batches(1, 7)[0]).unwrap()
}

#[test]
fn fixed_weights_scale_the_losses_of_their_tasks() {
    let (click, order) = (
        first_loss("task_weights.weights = { order = 0.0 }"),
        first_loss("task_weights.weights = { click = 0.0 }"),
    );
    assert!(click > 0.3 && order > 0.3 && click != order);
    assert!((first_loss("") - click - order).abs() < 1e-5);
    let weighed = first_loss("task_weights.weights = { click = 0.5, order = 3.0 }");
    assert!((weighed - 0.5 * click - 3.0 * order).abs() < 1e-5);
    // Losses of the tasks' own go through the same weights.
    let focal = first_loss(
        "losses.order = { name = \"focal\", gamma = 2.0 }\ntask_weights.weights = { click = 0.0 }",
    );
    assert!(focal > 0.0 && focal < 0.5 * order, "{focal} against {order}");
}

#[test]
fn a_task_that_weighs_nothing_teaches_nothing() {
    let all = batches(4, 3);
    let mut blind = all.clone();
    for batch in &mut blind {
        batch.labels.iter_mut().skip(1).step_by(2).for_each(|y| *y = f32::NAN);
    }
    let run = |batches: &[Batch], text| {
        let mut learner = learner(SHARED, text);
        batches.iter().for_each(|b| {
            learner.step(b).unwrap();
        });
        learner.logits(&all[0]).unwrap().into_iter().step_by(2).collect::<Vec<f32>>()
    };
    assert_eq!(run(&all, "task_weights.weights = { order = 0.0 }"), run(&blind, ""));
    assert_ne!(run(&all, ""), run(&blind, ""));
}

#[test]
fn uncertainty_begins_with_half_of_each_loss_and_weighs_the_noisier_task_less() {
    let text = "task_weights.method = \"uncertainty\"\ndense = { optimizer = \"adam\", learning_rate = 0.02 }\n\
                rows = { optimizer = \"adam\", learning_rate = 0.02 }";
    assert!((first_loss(text) - 0.5 * first_loss("")).abs() < 1e-5);
    // Towers of four rectifiers may all be shut from the start; these are not.
    let wide = SHARED.replace("[8]", "[32]").replace("[4]", "[16]");
    let mut learner = learner(&wide, text);
    assert_eq!(learner.task_weights(), Some(vec![0.5, 0.5]));
    for batch in batches(400, 5) {
        learner.step(&batch).unwrap();
    }
    // The optimum of L / (2 σ²) + log σ is σ² = L, so that weights are 1 / (2 L): orders are the easier ones.
    let weights = learner.task_weights().unwrap();
    assert!(weights[1] > 1.2 * weights[0] && weights[0] > 0.6, "{weights:?}");
}

#[test]
fn a_task_without_rows_in_a_batch_keeps_its_uncertainty() {
    let mut learner = learner(SHARED, "task_weights.method = \"uncertainty\"\ndense.learning_rate = 0.05");
    for mut batch in batches(20, 5) {
        batch.labels.iter_mut().skip(1).step_by(2).for_each(|y| *y = f32::NAN);
        learner.step(&batch).unwrap();
    }
    let weights = learner.task_weights().unwrap();
    assert!(weights[0] != 0.5 && weights[1] == 0.5, "{weights:?}");
}

const BALANCED: &str = "task_weights = { method = \"grad_norm\", learning_rate = 0.05 }";

#[test]
fn grad_norm_takes_the_step_of_equal_weights_first_and_then_moves_them() {
    let all = batches(40, 9);
    let (mut plain, mut balanced) = (learner(SHARED, ""), learner(SHARED, BALANCED));
    let (a, b) = (plain.step(&all[0]).unwrap(), balanced.step(&all[0]).unwrap());
    assert!((a - b).abs() < 1e-5, "the loss of the first step: {a} and {b}");
    let (a, b) = (plain.logits(&all[1]).unwrap(), balanced.logits(&all[1]).unwrap());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4), "the weights after the first step");
    for batch in &all[1..] {
        balanced.step(batch).unwrap();
    }
    let weights = balanced.task_weights().unwrap();
    assert!(
        (weights.iter().sum::<f32>() - 2.0).abs() < 1e-4 && (weights[0] - 1.0).abs() > 1e-3,
        "{weights:?}"
    );
}

#[test]
fn grad_norm_pulls_down_a_task_whose_gradients_are_large() {
    // The same labels, one of the losses twenty times the other's: the squared error of labels of ±.
    let text = format!("{BALANCED}\nlosses.click = {{ name = \"bce\", positive_weight = 20.0 }}");
    let mut learner = learner(SHARED, &text);
    for batch in batches(60, 11) {
        learner.step(&batch).unwrap();
    }
    let weights = learner.task_weights().unwrap();
    assert!(weights[0] < 0.7 && weights[1] > 1.3, "{weights:?}");
}

/// The losses of two steps of DIEN on two tasks of the same labels, and the logits after them.
fn two_steps_of_dien(sequence: &str, training_text: &str) -> ([f32; 2], Vec<f32>) {
    let all = history_batches(2, 64, 5).into_iter().map(|batch| Batch {
        labels: batch.labels.iter().flat_map(|y| [*y, *y]).collect(),
        tasks: 2,
        ..batch
    });
    let all: Vec<Batch> = all.collect();
    let text = format!(
        "name = \"dien\"\nembedding = 4\nhidden = [8]\nactivation = \"tanh\"\ninit_std = 0.1\n{sequence}"
    );
    let (model, training) = (model(&text), training(training_text));
    let (encoder, tasks) = (history_encoder(), TASKS.map(str::to_owned));
    let setting =
        Setting { encoder: &encoder, tasks: &tasks, model: &model, training: &training, sampling: None };
    let mut learner = Learner::new(&setting).unwrap();
    let losses = [0, 1].map(|i| learner.step(&all[i]).unwrap());
    (losses, learner.logits(&all[0]).unwrap())
}

#[test]
fn a_loss_of_a_layer_counts_once_whatever_tasks_weigh() {
    let none = "sequence = { auxiliary = 0.0 }";
    let ([with, _], taught) = two_steps_of_dien("", "");
    let ([without, _], untaught) = two_steps_of_dien(none, "");
    let added = with - without;
    assert!(added > 0.5 && taught != untaught, "{with} and {without}");
    let half = "task_weights.weights = { click = 0.5, order = 0.5 }";
    let ([halved, _], _) = two_steps_of_dien("", half);
    assert!((halved - 0.5 * without - added).abs() < 1e-5, "{halved}");
    // The first step of GradNorm is that of equal weights: the layer's loss is in its gradients, and once.
    let ([balanced, after], logits) = two_steps_of_dien("", BALANCED);
    let ([_, plain], _) = two_steps_of_dien("", "");
    assert!((balanced - with).abs() < 1e-5 && (after - plain).abs() < 1e-3, "{after} and {plain}");
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>();
    assert!(apart(&logits, &taught) < 0.1 * apart(&logits, &untaught));
    // Drawn by the seed of the training.
    assert_eq!(two_steps_of_dien("", "").1, taught);
    assert_ne!(two_steps_of_dien("", "seed = 77").0[0], with);
}

#[test]
fn grad_norm_waits_while_a_task_has_no_slope() {
    let mut learner = learner(SHARED, &format!("{BALANCED}\nlosses.order = {{ name = \"bce\" }}"));
    let mut batch = batches(1, 7).remove(0);
    batch.labels.iter_mut().skip(1).step_by(2).for_each(|y| *y = f32::NAN);
    assert!(learner.step(&batch).unwrap().is_finite());
    assert_eq!(learner.task_weights(), Some(vec![1.0, 1.0]));
}

#[test]
fn learned_weights_survive_a_checkpoint_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.ckpt");
    let all = batches(8, 13);
    for text in [BALANCED, "task_weights.method = \"uncertainty\""] {
        let (model, training) = (model(SHARED), training(text));
        let mut whole = learner(SHARED, text);
        all.iter().for_each(|b| {
            whole.step(b).unwrap();
        });
        let mut half = learner(SHARED, text);
        all[..4].iter().for_each(|b| {
            half.step(b).unwrap();
        });
        checkpoint::save(&path, &half, &RunState::default()).unwrap();
        let mut rest = setting((&model, &training), &TASKS, |s| checkpoint::load(&path, s).unwrap().0);
        all[4..].iter().for_each(|b| {
            rest.step(b).unwrap();
        });
        assert_eq!(rest.weights_hash(), whole.weights_hash(), "{text}");
        assert_eq!(rest.task_weights(), whole.task_weights());
    }
}

#[test]
fn metrics_of_a_task_are_over_the_rows_in_its_space() {
    let all = batches(6, 17);
    let learner = learner(SHARED, "");
    let found = eval::scored(&learner, &mut Replayed::from(&all, 0), &|_| ()).unwrap();
    let rows: usize = all.iter().map(Batch::candidates).sum();
    let clicks = all.iter().flat_map(|b| b.labels.iter().step_by(2)).filter(|y| **y > 0.5).count();
    assert_eq!((found[0].len(), found[1].len()), (rows, clicks));
    let metrics = eval::ranker(&learner, &mut Replayed::from(&all, 0), &|_| ()).unwrap();
    assert_eq!(metrics["auc"], metrics["click.auc"]);
    assert!((metrics["mean.auc"] - 0.5 * (metrics["click.auc"] + metrics["order.auc"])).abs() < 1e-12);
}

#[test]
fn rows_outside_of_a_space_are_not_learned_one_by_one_either() {
    let text = "updates = \"row\"\ndense = { optimizer = \"ftrl\", learning_rate = 0.1 }\nrows = { optimizer = \"ftrl\", learning_rate = 0.1 }";
    let mut learner = learner("name = \"lr\"", text);
    for batch in batches(60, 19) {
        assert!(learner.step(&batch).unwrap().is_finite());
    }
    let metrics = eval::ranker(&learner, &mut Replayed::from(&batches(10, 23), 0), &|_| ()).unwrap();
    assert!(metrics["order.auc"] > 0.85, "{metrics:?}");
}

#[test]
fn weights_that_cannot_be_are_refused() {
    for (model, text, said) in [
        (SHARED, "task_weights.weights = { ordr = 1.0 }", "did you mean `order`?"),
        (SHARED, "task_weights = { method = \"grad_norm\", shared = [\"botom\"] }", "did you mean `bottom"),
        (
            SHARED,
            "updates = \"row\"\ntask_weights.method = \"uncertainty\"",
            "training.task_weights works on whole",
        ),
        (SHARED, "fgm = { epsilon = 0.1 }\ntask_weights.method = \"grad_norm\"", "take one of them"),
    ] {
        let message = refused(model, text);
        assert!(message.contains(said), "{text}: {message}");
    }
    // Two linear models share nothing; that is known once there are gradients.
    let mut apart = learner("name = \"lr\"", BALANCED);
    let message = apart.step(&batches(1, 7)[0]).unwrap_err().to_string();
    assert!(message.contains("this model has none"), "{message}");
}
