//! Runs of recipes: what validates chooses the epochs and may be learned afterwards (`refit`), and what was broken off goes on (`--resume`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

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
epochs = 4
patience = 100
monitor = "ndcg@10"
batch_size = 32
negatives = 16
schedule = { kind = "cosine" }
rows = { optimizer = "adam", learning_rate = 0.02 }
[evaluate]
k = [5]
[target]
at_least = { "recall@5" = 0.0 }
"#;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "takings.txt", halves());
    dir
}

#[test]
fn the_tested_model_is_the_one_that_learned_all_but_the_test() {
    let dir = folder();
    let run = |name: &str, recipe: String| {
        put(dir.path(), name, recipe);
        json(dir.path(), &format!("--threads 1 recipe run {name} --data . --out {name}.out"))
    };
    let chosen = run("plain.toml", RECIPE.into());
    let again = run("again.toml", format!("refit = true{RECIPE}"));
    // With nothing that validates the last epoch is kept: the best one has to be the last.
    let all = run("all.toml", RECIPE.replace("by = \"user\"", "by = \"user\"\nvalid = 0.0"));
    let best = std::fs::read_to_string(dir.path().join("plain.toml.out/model/run.json")).unwrap();
    let best: serde_json::Value = serde_json::from_str(&best).unwrap();
    assert_eq!(best["best"]["epoch"], 3, "{best}");
    assert_eq!(again["valid"], chosen["valid"]);
    assert_eq!(again["metrics"], all["metrics"]);
    assert_ne!(again["metrics"], chosen["metrics"]);
    assert!(all["valid"].is_null());
}

#[test]
fn what_has_no_epochs_to_choose_is_refused() {
    let dir = folder();
    let refuse = |recipe: String, parts: &[&str]| {
        put(dir.path(), "again.toml", format!("refit = true{recipe}"));
        refused(dir.path(), "recipe run again.toml --data .", parts);
    };
    let training = |line: &str| RECIPE.replace("[training]", &format!("[training]\n{line}"));
    refuse(training("reduce_on_plateau = 0.1"), &["again.toml", "refit", "reduce_on_plateau"]);
    refuse(training("evaluate_every = 3"), &["again.toml", "refit", "evaluate_every"]);
    refuse(RECIPE.replace("two_tower", "item_cf"), &["again.toml", "refit", "learn at once"]);
    refuse(RECIPE.replace("by = \"user\"", "by = \"user\"\nvalid = 0.0"), &["refit", "nothing validates"]);
}

#[test]
fn a_run_that_was_broken_off_goes_on_to_the_end_of_an_unbroken_one() {
    let dir = folder();
    let recipe = |epochs: u32| {
        let text = RECIPE.replace("epochs = 4", &format!("epochs = {epochs}"));
        put(dir.path(), "r.toml", text.replace("schedule = { kind = \"cosine\" }\n", ""));
    };
    let run = |rest: &str| json(dir.path(), &format!("--threads 1 recipe run r.toml --data . {rest}"));
    recipe(4);
    let unbroken = run("--out unbroken");
    // What a run leaves that came to two epochs of four.
    recipe(2);
    let broken = run("--out broken");
    recipe(4);
    std::fs::remove_file(dir.path().join("takings.txt")).unwrap();
    let resumed = run("--out broken --resume");
    assert_eq!(resumed["metrics"], unbroken["metrics"]);
    assert_ne!(broken["metrics"], unbroken["metrics"]);
    assert_eq!(resumed["valid"], unbroken["valid"]);
    let (before, rest) = RECIPE.split_once("[training]").unwrap();
    let after = rest.split_once("[evaluate]").unwrap().1;
    let at_once = format!("{before}[evaluate]{after}").replace("two_tower", "item_cf");
    put(dir.path(), "r.toml", at_once);
    let words = "recipe run r.toml --data . --out broken --resume";
    refused(dir.path(), words, &["--resume", "item_cf", "learns at once"]);
}
