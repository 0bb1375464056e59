//! Two towers that learn from a log of what was passed over, through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write;
use support::data::{halves, put};
use support::{json, refused};

const RECIPE: &str = r#"
[dataset]
kind = "sequences"
[dataset.sequences]
train = ["takings.txt"]
[split]
by = "user"
[examples]
whole = true
[model]
name = "two_tower"
[training]
epochs = 25
patience = 100
monitor = "recall@10"
batch_size = 32
negatives = 16
in_batch = false
rows = { optimizer = "adam", learning_rate = 0.02 }
[evaluate]
k = [5]
[target]
at_least = { "recall@5" = 0.0 }
"#;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "takings.txt", halves());
    put(dir.path(), "plain.toml", RECIPE);
    dir
}

/// The recipe with hard negatives, and another model.
fn hard(file: &str, each: usize, model: &str) -> String {
    let table = format!("[training.hard_negatives]\nfile = \"{file}\"\neach = {each}\n[evaluate]");
    RECIPE.replace("[evaluate]", &table).replace("\"two_tower\"", &format!("\"{model}\""))
}

#[test]
fn what_a_log_says_was_passed_over_sinks() {
    let dir = folder();
    // The item that each user takes last, which tests.
    let mut log = String::new();
    for user in 0..40 {
        let item = (user * 3 + 49) % 20 * 2 + user % 2;
        writeln!(log, "{{\"time_ms\": 0, \"user\": \"u{user}\", \"items\": [\"i{item}\"]}}").unwrap();
    }
    put(dir.path(), "hard.jsonl", log);
    put(dir.path(), "hard.toml", hard("hard.jsonl", 16, "two_tower"));
    let ndcg = |recipe: &str| {
        let report = json(dir.path(), &format!("--threads 1 recipe run {recipe} --data ."));
        report["metrics"]["ndcg@5"].as_f64().unwrap()
    };
    let (plain, sunk) = (ndcg("plain.toml"), ndcg("hard.toml"));
    assert!(sunk < plain - 0.15, "{plain} without, {sunk} with");
}

#[test]
fn a_log_that_does_not_serve_is_refused_before_anything_is_learned() {
    let dir = folder();
    let refuse = |recipe: String, parts: &[&str]| {
        put(dir.path(), "hard.toml", recipe);
        refused(dir.path(), "recipe run hard.toml --data .", parts);
    };
    put(dir.path(), "bad.jsonl", "{\"user\": 1}\n");
    put(dir.path(), "strange.jsonl", "{\"time_ms\": 1, \"user\": \"who\", \"items\": [\"i1\"]}\n");
    refuse(hard("gone.jsonl", 1, "two_tower"), &["gone.jsonl", "No such file"]);
    refuse(hard("bad.jsonl", 1, "two_tower"), &["bad.jsonl:1", "expected"]);
    refuse(hard("strange.jsonl", 1, "two_tower"), &["strange.jsonl", "no line names"]);
    refuse(hard("bad.jsonl", 0, "two_tower"), &["hard_negatives.each", "above 0"]);
    refuse(hard("bad.jsonl", 1, "lightgcn"), &["hard_negatives", "learns from a graph"]);
    refuse(hard("bad.jsonl", 1, "sasrec"), &["hard_negatives", "learns from whole sequences"]);
}
