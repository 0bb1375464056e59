//! Several tasks through the real binary: spaces, losses and weights of `[[task]]`, and single-task twins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::path::Path;
use support::data::put;
use support::{json, refused};

const RECIPE: &str = r#"
[dataset]
folder = "."
kind = "table"
[dataset.table]
all = ["rows.csv"]
[split]
by = "ratio"
valid = 0.2
test = 0.2
[[task]]
name = "click"
[[task]]
name = "order"
space = "click"
weight = 0.5
loss = { name = "focal", gamma = 1.0 }
[[feature]]
name = "user"
side = "user"
kind = "categorical"
[[feature]]
name = "item"
side = "item"
kind = "categorical"
[model]
name = "shared_bottom"
embedding = 4
hidden = [16]
tower_hidden = []
init_std = 0.1
[training]
batch_size = 128
epochs = 4
monitor = "mean.auc"
dense = { learning_rate = 0.01 }
rows = { optimizer = "adam", learning_rate = 0.01 }
"#;

/// Clicks that depend on user and item, orders of clicked rows that depend on the item; no cell where there was no click.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut state = 5u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut rows = String::from("user,item,click,order\n");
    for _ in 0..4000 {
        let (user, item) = (below(20), below(30));
        let click = below(10) < if user % 3 == 0 { 8 } else { 2 };
        let order = below(10) < if item % 3 == 0 { 9 } else { 1 };
        let order = if click { u8::from(order).to_string() } else { String::new() };
        writeln!(rows, "u{user},i{item},{},{order}", u8::from(click)).unwrap();
    }
    put(dir.path(), "rows.csv", rows);
    put(dir.path(), "recipe.toml", RECIPE);
    dir
}

fn with(dir: &Path, from: &str, to: &str, parts: &[&str]) {
    assert!(RECIPE.contains(from), "{from}");
    put(dir, "changed.toml", RECIPE.replacen(from, to, 1));
    refused(dir, "recipe run changed.toml --data .", parts);
}

#[test]
fn twins_set_each_task_beside_a_model_of_its_own() {
    let dir = folder();
    let found = json(dir.path(), "recipe run recipe.toml --data . --seeds 2 --twins --out out");
    let metrics = &found["metrics"];
    assert!(metrics["order.auc"].as_f64().unwrap() > 0.8, "{metrics}");
    assert_eq!(found["valid"]["order.weight"], 0.5);
    let tasks = found["twins"]["tasks"].as_array().unwrap();
    let names: Vec<&str> = tasks.iter().map(|t| t["task"].as_str().unwrap()).collect();
    assert_eq!(names, ["click", "order"]);
    for task in tasks {
        let auc = &task["metrics"]["auc"];
        let of = |key: &str| auc[key].as_f64().unwrap();
        assert_eq!(of("joint"), metrics[format!("{}.auc", task["task"].as_str().unwrap())].as_f64().unwrap());
        assert!((of("joint") - of("single") - of("difference")).abs() < 1e-12 && of("single") > 0.6, "{auc}");
        assert!(of("sd") > 0.0 && auc["seeds"] == 2, "{auc}");
    }
    assert!(dir.path().join("out/twin-order/model-2").is_dir());
}

#[test]
fn what_a_task_cannot_be_is_refused_in_one_sentence() {
    let dir = folder();
    let dir = dir.path();
    with(dir, "gamma = 1.0", "gama = 1.0", &["task `order`", "loss", "gama", "gamma"]);
    with(dir, "space = \"click\"", "space = \"clik\"", &["task `order`", "did you mean `click`?"]);
    with(dir, "weight = 0.5", "weight = -1.0", &["task_weights.weights.order must be 0 or above"]);
    let twice = "[training]\ntask_weights.weights.order = 2.0";
    with(dir, "[training]", twice, &["task `order`", "weight is given here and in [training"]);
    let learned = "[training]\ntask_weights.method = \"uncertainty\"";
    with(dir, "[training]", learned, &["weights goes with method = \"fixed\" only"]);
    let one = RECIPE.replacen("[[task]]\nname = \"order\"\nspace = \"click\"\nweight = 0.5\nloss = { name = \"focal\", gamma = 1.0 }\n", "", 1);
    put(dir, "one.toml", one.replace("mean.auc", "auc"));
    refused(dir, "recipe run one.toml --data . --twins", &["--twins", "one task"]);
}
