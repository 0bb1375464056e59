//! What the keys of `[training]` do to weights, and how wrong ones are refused.
#![allow(clippy::unwrap_used)]

mod support;

use millstream_schema::{Batch, BatchSource};
use millstream_train::{Error, LATEST, Learner, Run, TrainConfig, checkpoint};
use support::{Replayed, batches, learner, model, refusal, setting, training};

const DEEP: &str = "name = \"deepfm\"\nembedding = 4\nhidden = [8]";

fn refused(text: &str) -> String {
    training(text).check().unwrap_err().to_string()
}

#[test]
fn a_constant_that_the_optimiser_does_not_have_is_refused_by_name() {
    for (text, said) in [
        (
            "dense = { optimizer = \"adam\", momentum = 0.9 }",
            "training.dense.momentum means nothing for `adam`; it takes learning_rate, l2, beta1, beta2, eps, l1",
        ),
        ("dense = { optimizer = \"sgd\", beta1 = 0.9 }", "training.dense.beta1 means nothing for `sgd`"),
        ("rows = { optimizer = \"adam\", l1 = 0.1 }", "training.rows.l1 means nothing for `adam`"),
        (
            "rows = { optimizer = \"sgd\", eps = 0.1 }",
            "training.rows.eps means nothing for `sgd`; it takes learning_rate, l2",
        ),
        (
            "groups.wide.rows = { optimizer = \"ftrl\", alpha = 0.1 }",
            "training.groups.wide.rows.alpha means nothing for `ftrl`",
        ),
        ("groups.wide = {}", "training.groups.wide says nothing"),
        ("dense = { optimizer = \"adamw\", l2 = 0.1, decay = 0.1 }", "`l2` and `decay` name the same thing"),
        ("updates = \"row\"\nfgm = { epsilon = 0.1 }", "training.fgm works on whole batches"),
        ("mode = \"stream\"\nmonitor = \"auc\"", "training.monitor means nothing in mode = \"stream\""),
        ("mode = \"stream\"\nschedule = { kind = \"cosine\" }", "give `total_steps`"),
        ("updates = \"row\"\nloss = \"focal\"", "training.loss works on whole batches"),
    ] {
        let message = refused(text);
        assert!(message.contains(said), "{text}: {message}");
    }
}

#[test]
fn a_number_out_of_its_range_is_refused_with_the_range() {
    for (text, said) in [
        ("dense = { learning_rate = 0.0 }", "training.dense.learning_rate must be a number above 0, not 0"),
        (
            "dense = { beta2 = 1.0 }",
            "training.dense: `beta2` of the optimiser is 1, expected 0 up to but below 1",
        ),
        ("rows = { beta1 = 1.5 }", "training.rows: beta1 is 1.5, expected"),
        ("rows = { admission = { sightings = 0 } }", "training.rows: admission after 0 sightings"),
        ("rows = { expiry = { every = 10 } }", "training.rows.expiry drops nothing"),
        ("rows = { expiry = { max_age = 5, every = 0 } }", "training.rows.expiry.every must be above 0"),
        ("fgm = { epsilon = -1.0 }", "training.fgm.epsilon must be a number above 0"),
        ("lookahead = { k = 0 }", "training.lookahead: `k` of look-ahead is 0"),
        ("schedule = { kind = \"step\", every = 0, gamma = 0.5 }", "training.schedule: "),
        ("loss = { name = \"focal\", gamma = -1.0 }", "training.loss: `gamma` of the loss is -1"),
        (
            "losses.click = { name = \"bce\", label_smoothing = 1.0 }",
            "training.losses.click: `label_smoothing`",
        ),
        ("window = 0", "training.window must be above 0"),
    ] {
        let message = refused(text);
        assert!(message.contains(said), "{text}: {message}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    for (text, said) in [
        ("freeze = [\"towr\"]", "training.freeze: unknown weight `towr`; did you mean `tower`?"),
        ("losses.clik = \"bce\"", "training.losses: unknown task `clik`; did you mean `click`?"),
        (
            "groups.wide.dense = { optimizer = \"ftrl\" }",
            "training.groups.wide: this model has no parameter groups",
        ),
    ] {
        let message = refusal(DEEP, text);
        assert!(message.contains(said), "{text}: {message}");
    }
    let message = refusal(
        "name = \"wide_deep\"\nembedding = 4\nhidden = [8]",
        "groups.wid.rows = { optimizer = \"ftrl\" }",
    );
    assert!(message.contains("training.groups: unknown group `wid`; did you mean `wide`?"), "{message}");
    let parse =
        |text: &str| millstream_schema::config::parse::<TrainConfig>(text, "a").unwrap_err().to_string();
    let message = parse("dense = { optimizer = \"adm\" }");
    assert!(message.contains("did you mean `adam`?"), "{message}");
    let message = parse("rows = { optimiser = \"adam\" }");
    assert!(message.contains("did you mean `optimizer`?"), "{message}");
    let message = refusal(DEEP, "updates = \"row\"");
    assert!(message.contains("`deepfm` does not learn a row at a time"), "{message}");
}

/// Loss of the first and the last step over the batches.
fn losses(learner: &mut Learner, data: &[Batch]) -> (f32, f32) {
    let all: Vec<f32> = data.iter().map(|batch| learner.step(batch).unwrap()).collect();
    (all[0], all[all.len() - 1])
}

#[test]
fn every_optimiser_of_dense_weights_and_rows_learns() {
    let one = batches(1, 64, 2);
    let data: Vec<Batch> = one.iter().cycle().take(60).cloned().collect();
    for dense in ["adam", "adamw", "radam", "adagrad", "rmsprop", "sgd", "momentum", "nesterov", "ftrl"] {
        let config = training(&format!("dense = {{ optimizer = \"{dense}\", learning_rate = 0.02 }}"));
        let (first, last) = losses(&mut learner(&model(DEEP), &config), &data);
        assert!(last < 0.97 * first, "{dense}: {first} to {last}");
    }
    for rows in
        ["adagrad", "adagrad_elementwise", "adam", "adamw", "rmsprop", "sgd", "momentum", "nesterov", "ftrl"]
    {
        let rate = if matches!(rows, "sgd" | "momentum" | "nesterov") { 2.0 } else { 0.1 };
        for dtype in ["f32", "bf16"] {
            let config = training(&format!(
                "dense = {{ learning_rate = 1e-6 }}\n\
                 rows = {{ optimizer = \"{rows}\", learning_rate = {rate}, dtype = \"{dtype}\" }}"
            ));
            let (first, last) = losses(&mut learner(&model(DEEP), &config), &data);
            assert!(last < 0.9 * first, "{rows} {dtype}: {first} to {last}");
        }
    }
}

/// The values of a dense weight.
fn weight(learner: &Learner, name: &str) -> Vec<f32> {
    learner.params().iter().find(|(found, ..)| *found == name).unwrap().2.to_vec()
}

#[test]
fn the_wide_part_takes_ftrl_and_the_deep_part_adam_in_one_step() {
    let data = batches(20, 32, 4);
    let model = model("name = \"wide_deep\"\nembedding = 4\nhidden = [8]");
    let config = training(
        "dense = { learning_rate = 0.01 }\n[groups.wide]\ndense = { optimizer = \"ftrl\", learning_rate = 0.1 }\n\
         rows = { optimizer = \"ftrl\", learning_rate = 0.1, l1 = 2.0 }",
    );
    let mut learner = learner(&model, &config);
    data.iter().for_each(|batch| {
        learner.step(batch).unwrap();
    });
    let (mut wide, mut deep) = ((0, 0), (0, 0));
    for (id, table) in learner.store().tables() {
        let counts = if matches!(table.optim, millstream_store::RowOptim::Ftrl { .. }) {
            &mut wide
        } else {
            &mut deep
        };
        learner
            .store()
            .for_each_row(id, |_, row| {
                counts.0 += row.iter().filter(|w| **w == 0.0).count();
                counts.1 += row.len();
            })
            .unwrap();
    }
    assert!(wide.0 > wide.1 / 4 && wide.1 > 0, "{wide:?}: L1 of the wide part makes zeros");
    assert!(deep.0 == 0 && deep.1 > 0, "{deep:?}: Adam of the deep part makes none");
}

#[test]
fn a_schedule_scales_the_steps() {
    let data = batches(1, 64, 5);
    let moved = |schedule: &str| {
        let text = "dense = { optimizer = \"sgd\", learning_rate = 0.1 }\nrows = { optimizer = \"sgd\", learning_rate = 0.1 }";
        let mut learner = learner(&model("name = \"lr\""), &training(&format!("{text}\n{schedule}")));
        let before = weight(&learner, "linear.bias");
        learner.step(&data[0]).unwrap();
        let after = weight(&learner, "linear.bias");
        (before[0] - after[0], learner)
    };
    let (whole, _) = moved("");
    let (quarter, warm) = moved("schedule = { kind = \"inverse_sqrt\", warmup_steps = 4 }");
    assert!((quarter / whole - 0.25).abs() < 1e-3, "{quarter} of {whole}");
    assert_eq!(warm.store().learning_rate(), 0.25);
    let (halved, _) = moved("schedule = { kind = \"step\", every = 1, gamma = 0.5 }");
    assert!((halved / whole - 1.0).abs() < 1e-3);
}

#[test]
fn frozen_weights_stay_and_the_others_move() {
    let data = batches(3, 32, 6);
    let mut learner = learner(&model(DEEP), &training("freeze = [\"tower\"]\ndense = { l2 = 0.1 }"));
    let read = |learner: &Learner| {
        let all = learner.params().iter().map(|(name, _, v)| (name.to_owned(), v.to_vec()));
        all.collect::<Vec<_>>()
    };
    let before = read(&learner);
    data.iter().for_each(|batch| {
        learner.step(batch).unwrap();
    });
    let after = read(&learner);
    let mut frozen = 0;
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        assert_eq!(before == after, name.starts_with("tower."), "{name}");
        frozen += usize::from(before == after);
    }
    assert!(frozen >= 2, "{frozen}");
}

#[test]
fn a_saved_model_goes_on_with_its_tower_frozen() {
    let (data, dir) = (batches(4, 32, 6), tempfile::tempdir().unwrap());
    let (model, config) = (model(DEEP), training("epochs = 1"));
    let mut first = learner(&model, &config);
    run(&mut first, &config, &data, dir.path()).unwrap();
    let config = training("freeze = [\"tower\", \"head\"]");
    let saved = dir.path().join(LATEST);
    let mut second = setting((&model, &config), &["click"], |s| checkpoint::fresh(s, Some(&saved)).unwrap());
    assert_eq!((second.steps(), second.logits(&data[0]).unwrap()), (0, first.logits(&data[0]).unwrap()));
    data.iter().for_each(|batch| {
        second.step(batch).unwrap();
    });
    assert_eq!(weight(&second, "tower.0.weight"), weight(&first, "tower.0.weight"));
    assert_ne!(second.logits(&data[0]).unwrap(), first.logits(&data[0]).unwrap());
}

fn run(
    learner: &mut Learner,
    config: &TrainConfig,
    data: &[Batch],
    dir: &std::path::Path,
) -> Result<(), Error> {
    let open = |_, skip| Ok(Box::new(Replayed::from(data, skip)) as Box<dyn BatchSource>);
    Run { config, open: &open, evaluate: None, dir, progress: &|_| {} }.train(learner, None).map(drop)
}

#[test]
fn rows_begin_afresh_each_epoch_and_dense_weights_do_not() {
    let (data, dir) = (batches(3, 32, 8), tempfile::tempdir().unwrap());
    let config = |epochs| {
        training(&format!(
            "epochs = {epochs}\nreset_rows_each_epoch = true\nrows = {{ optimizer = \"sgd\" }}\ndense = {{ optimizer = \"sgd\" }}"
        ))
    };
    let mut twice = learner(&model(DEEP), &config(2));
    run(&mut twice, &config(2), &data, dir.path()).unwrap();
    // The same by hand: an epoch, then one with fresh rows.
    let mut by_hand = learner(&model(DEEP), &config(1));
    run(&mut by_hand, &config(1), &data, dir.path()).unwrap();
    let once = by_hand.weights_hash();
    by_hand.reset_rows().unwrap();
    assert!(by_hand.store().is_empty());
    run(&mut by_hand, &config(1), &data, dir.path()).unwrap();
    assert_eq!(by_hand.weights_hash(), twice.weights_hash());
    assert_ne!(once, twice.weights_hash());
}

#[test]
fn an_adversarial_pass_adds_the_gradient_at_the_moved_rows() {
    let data = batches(2, 32, 9);
    let step = |fgm: &str| {
        let text = "dense = { optimizer = \"sgd\", learning_rate = 0.1 }\nrows = { optimizer = \"sgd\", learning_rate = 0.1 }";
        let mut learner = learner(&model("name = \"lr\""), &training(&format!("{text}\n{fgm}")));
        let bias = weight(&learner, "linear.bias")[0];
        learner.step(&data[0]).unwrap();
        bias - weight(&learner, "linear.bias")[0]
    };
    // With a vanishing move the second gradient is the first; with a long one against the labels it is larger.
    let (plain, near, far) = (step(""), step("fgm = { epsilon = 1e-6 }"), step("fgm = { epsilon = 3.0 }"));
    assert!((near / plain - 2.0).abs() < 1e-3, "{plain} {near}");
    assert!((far - near).abs() > 0.01 * near.abs(), "{near} {far}");
}

#[test]
fn losses_are_chosen_and_graded_or_lonely_labels_are_refused() {
    let mut data = batches(1, 32, 10);
    let first = |text: &str, data: &[Batch]| learner(&model(DEEP), &training(text)).step(&data[0]);
    let bce = first("", &data).unwrap();
    let focal = first("loss = { name = \"focal\", gamma = 2.0 }", &data).unwrap();
    assert!(focal < 0.5 * bce, "{focal} {bce}");
    assert_eq!(first("losses.click = { name = \"focal\", gamma = 2.0 }", &data).unwrap(), focal);
    let message = first("loss = \"rank_net\"", &data).unwrap_err().to_string();
    assert!(message.contains("each request of this data has a single one"), "{message}");
    data[0].labels[3] = 4.0;
    let message = first("", &data).unwrap_err().to_string();
    assert!(
        message.contains("task `click` has a label of 4, but its loss takes labels from 0 to 1"),
        "{message}"
    );
    // Four requests of eight candidates each.
    let batch = &mut data[0];
    for column in 0..batch.columns.len() {
        if support::encoder().fields()[column].rows == millstream_schema::Rows::Request {
            batch.columns[column] = batch.columns[column].gather(&[0, 1, 2, 3]);
        }
    }
    batch.requests = 4;
    batch.candidate_request = (0..32).map(|row| row / 8).collect();
    for loss in ["rank_net", "lambda_rank", "list_softmax", "list_net", "list_mle", "bpr", "margin"] {
        let mut learner = learner(
            &model(DEEP),
            &training(&format!("loss = \"{loss}\"\nrows = {{ learning_rate = 0.05 }}")),
        );
        let losses: Vec<f32> = (0..40).map(|_| learner.step(&data[0]).unwrap()).collect();
        assert!(losses[39] < losses[0], "{loss}: {} to {}", losses[0], losses[39]);
    }
}

#[test]
fn keys_get_rows_when_they_are_admitted_and_lose_them_by_age() {
    let data = batches(6, 20, 14);
    let rows = |text: &str| {
        let mut learner = learner(&model("name = \"lr\""), &training(text));
        data.iter().for_each(|batch| {
            learner.step(batch).unwrap();
        });
        learner.store().tables().map(|(t, _)| learner.store().len(t).unwrap()).sum::<usize>()
    };
    let all = rows("");
    assert!(rows("rows = { admission = { sightings = 2 } }") < all);
    assert!(rows("rows = { expiry = { max_age = 1, every = 2 } }") < all);
}
