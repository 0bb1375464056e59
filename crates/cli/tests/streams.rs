//! `train --stream` and progressive recipes: the real binary, killed and resumed, from text and from prepared data.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};
use support::data::{LOG, put, table};
use support::{Dice, command, json, refused, run};

/// Read from text: every feature is hashed or taken as it is.
const RECIPE: &str = r#"[dataset]
kind = "table"
[dataset.table]
train = ["rows.csv"]
valid = ["more.csv"]
group = "user"

[[task]]
name = "click"
column = "label"

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
buckets = 1000

[[feature]]
name = "hour"
side = "context"
kind = "numeric"
transform = "edges"
edges = [6, 12, 18]

[model]
name = "deepfm"
embedding = 4
hidden = [16]
dropout = 0.2

[training]
batch_size = 16
window = 500
dense = { learning_rate = 0.01 }
rows = { learning_rate = 0.01 }
"#;

fn folder(rows: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "rows.csv", table(rows));
    put(dir.path(), "more.csv", table(500));
    put(dir.path(), "recipe.toml", RECIPE);
    dir
}

/// Kills before the stream may go on to its end.
const KILLS: u64 = 10;

#[test]
fn a_stream_killed_ten_times_ends_with_the_weights_and_figures_of_an_unbroken_one() {
    let dir = folder(30_000);
    let dir = dir.path();
    let train = "train recipe.toml --stream --data . --threads 2 --checkpoint-every 500";
    let unbroken = json(dir, &format!("{train} --out unbroken"));
    let mut dice = Dice(5);
    let latest = dir.join("broken/latest.ckpt");
    let words = format!("{train} --out broken --resume --quiet");
    for kill in 0..KILLS {
        let mut child = command(dir, words.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..1 + dice.below(3) {
            let was = stamp(&latest);
            wait_for_another(&latest, was);
        }
        std::thread::sleep(Duration::from_micros(dice.below(5000)));
        assert!(child.try_wait().unwrap().is_none(), "the stream ended before kill {kill}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let broken = json(dir, &format!("{train} --out broken --resume"));
    for key in ["weights_xxh3", "metrics", "points", "sparsity", "rows"] {
        assert_eq!(broken[key], unbroken[key], "{key}");
    }
    assert_eq!(unbroken["rows"], 30_000);
    assert!(unbroken["metrics"]["auc"].as_f64().unwrap() > 0.6, "{}", unbroken["metrics"]);
}

fn stamp(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn wait_for_another(path: &Path, was: Option<SystemTime>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while stamp(path) == was {
        assert!(Instant::now() < deadline, "no new checkpoint within a minute");
        std::thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn text_and_prepared_rows_end_in_the_same_weights_which_eval_opens() {
    let dir = folder(2000);
    let dir = dir.path();
    let raw = json(dir, "train recipe.toml --stream --data . --out raw");
    json(dir, "data prepare recipe.toml --data . --out prepared");
    let prepared =
        json(dir, "train recipe.toml --stream --prepared prepared --out streamed --report-every 400");
    assert_eq!(raw["weights_xxh3"], prepared["weights_xxh3"]);
    assert_eq!(raw["metrics"], prepared["metrics"]);
    let points = |of: &Value| -> Vec<u64> {
        of["points"].as_array().unwrap().iter().map(|p| p["rows"].as_u64().unwrap()).collect()
    };
    assert_eq!(points(&raw), [1008, 2000]);
    assert_eq!(points(&prepared), [400, 800, 1200, 1600, 2000]);
    let measured = json(dir, "eval recipe.toml --prepared prepared --run raw");
    assert!(measured["metrics"]["auc"].as_f64().unwrap() > 0.5, "{measured}");
    // A finished stream is not learned again, and not begun again by mistake.
    let again = json(dir, "train recipe.toml --stream --data . --out raw --resume");
    assert_eq!((&again["weights_xxh3"], &again["metrics"]), (&raw["weights_xxh3"], &raw["metrics"]));
    refused(dir, "train recipe.toml --stream --data . --out raw", &["raw", "--resume"]);
    refused(
        dir,
        "train recipe.toml --prepared prepared --out raw --resume",
        &["training.mode", "stream", "epochs"],
    );
}

#[test]
fn validation_lines_are_printed_as_the_stream_goes() {
    let dir = folder(2000);
    let output = run(dir.path(), "train recipe.toml --stream --data . --out run --report-every 1000 --quiet");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].contains("log-loss") && lines[0].contains("window auc"), "{text}");
    assert!(lines[2].trim_start().starts_with("2000 "), "{text}");
    assert!(lines[3].contains("weights are zero"), "{text}");
}

#[test]
fn what_a_stream_cannot_do_is_said_with_what_to_do() {
    let dir = folder(100);
    let dir = dir.path();
    let with = |name: &str, from: &str, to: &str| {
        assert!(RECIPE.contains(from), "{from}");
        put(dir, name, RECIPE.replacen(from, to, 1));
    };
    with("vocab.toml", "encoding = \"hash\"\n", "");
    refused(
        dir,
        "train vocab.toml --stream --data . --out run",
        &["feature `user`", "\"hash\"", "--prepared"],
    );
    with("scaled.toml", "transform = \"edges\"\nedges = [6, 12, 18]", "transform = \"standardise\"");
    refused(
        dir,
        "train scaled.toml --stream --data . --out run",
        &["feature `hour`", "\"edges\"", "--prepared"],
    );
    let model = "name = \"deepfm\"\nembedding = 4\nhidden = [16]\ndropout = 0.2";
    with("towers.toml", model, "name = \"two_tower\"");
    refused(dir, "train towers.toml --stream --data . --out run", &["two_tower", "needs a catalogue"]);
    with("trees.toml", model, "name = \"gbdt\"");
    refused(dir, "train trees.toml --stream --data . --out run", &["gbdt", "all rows at once"]);
    with("cosine.toml", "window = 500", "schedule = { kind = \"cosine\" }");
    refused(dir, "train cosine.toml --stream --data . --out run", &["training.schedule", "total_steps"]);
    with("stream.toml", "window = 500", "mode = \"stream\"");
    json(dir, "data prepare stream.toml --data . --out prepared");
    refused(dir, "train stream.toml --prepared prepared --out run", &["training.mode", "--stream"]);
    put(dir, "log.toml", format!("{LOG}[model]\nname = \"deepfm\"\n"));
    refused(
        dir,
        "train log.toml --stream --data . --out run",
        &["kind \"log\"", "data prepare", "--prepared"],
    );
    with("patient.toml", "window = 500", "mode = \"stream\"\nmonitor = \"auc\"");
    refused(dir, "train patient.toml --stream --data . --out run", &["training.monitor", "stream"]);
}

#[test]
fn bad_cells_are_counted_or_refused() {
    let dir = folder(100);
    let dir = dir.path();
    put(dir, "rows.csv", table(100) + "u1,i1,late,1\n");
    refused(dir, "train recipe.toml --stream --data . --out run --strict", &["rows.csv", "late"]);
    let output = run(dir, "train recipe.toml --stream --data . --out run");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("hour") && told.contains("--strict"), "{told}");
}

#[test]
fn a_progressive_recipe_averages_over_seeds() {
    let dir = folder(3000);
    let dir = dir.path();
    let target = "\n[target]\nat_most = { logloss = 0.8 }\nat_least = { auc = 0.4 }\nprotocol = \"p\"\nsource = \"s\"\n";
    put(
        dir,
        "stream.toml",
        RECIPE.replacen("window = 500", "window = 500\nmode = \"stream\"\nseed = 7", 1) + target,
    );
    let one = |seed: u64| json(dir, &format!("recipe run stream.toml --data . --seed {seed}"));
    let (a, b) = (one(7), one(8));
    let both = json(dir, "recipe run stream.toml --data . --seeds 2");
    let logloss = |report: &Value| report["metrics"]["logloss"].as_f64().unwrap();
    assert_ne!(logloss(&a), logloss(&b));
    assert!((logloss(&both) - (logloss(&a) + logloss(&b)) / 2.0).abs() < 1e-12);
    let sd = both["sd"]["logloss"].as_f64().unwrap();
    assert!((sd - (logloss(&a) - logloss(&b)).abs() / 2f64.sqrt()).abs() < 1e-12);
    assert_eq!((&both["seeds"], &both["seed"], &both["met"]), (&2.into(), &7.into(), &true.into()));
    assert_eq!(a["sd"], Value::Null);
    assert!(a["rows_per_second"].as_f64().unwrap() > 0.0 && a["sparsity"]["rows"].as_u64().unwrap() > 50);
}

#[test]
fn a_recipe_of_epochs_is_streamed_without_what_goes_by_epochs() {
    let dir = folder(2000);
    let dir = dir.path();
    let epochs = "window = 500\nmonitor = \"auc\"\nreduce_on_plateau = 0.1\naverage = { decay = 0.9, every = 2 }\n\
                  reset_rows_each_epoch = true";
    put(dir, "epochs.toml", RECIPE.replacen("window = 500", epochs, 1));
    let plain = json(dir, "train recipe.toml --stream --data . --out plain --threads 1");
    let output = run(dir, "train epochs.toml --stream --data . --out streamed --threads 1 --json");
    let told = String::from_utf8(output.stderr).unwrap();
    for key in ["average", "monitor", "reduce_on_plateau", "reset_rows_each_epoch"] {
        assert!(told.contains(key), "{told}");
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let streamed: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(streamed["weights_xxh3"], plain["weights_xxh3"]);
    // Of prepared rows it is known where they end, and so when a schedule does.
    put(dir, "cosine.toml", RECIPE.replacen("window = 500", "schedule = { kind = \"cosine\" }", 1));
    json(dir, "data prepare cosine.toml --data . --out prepared");
    let falling = json(dir, "train cosine.toml --stream --prepared prepared --out falling --threads 1");
    assert_ne!(falling["weights_xxh3"], plain["weights_xxh3"]);
}

#[test]
fn a_stream_goes_on_only_with_files_that_are_not_shorter() {
    let dir = folder(2000);
    let dir = dir.path();
    // Broken off by a bad label after the checkpoint at 1600 rows.
    put(dir, "rows.csv", table(2000) + "u1,i1,3,what\n");
    let train = "train recipe.toml --stream --data . --out run --checkpoint-every 800";
    assert_eq!(run(dir, train).status.code(), Some(2));
    put(dir, "rows.csv", table(1000));
    refused(dir, &format!("{train} --resume"), &["rows.csv", "1000 rows", "learned from before"]);
    put(dir, "rows.csv", table(2000));
    let resumed = json(dir, &format!("{train} --resume"));
    assert_eq!(resumed["rows"], 2000);
    // What had ended keeps its record.
    let record = || std::fs::read_to_string(dir.join("run/run.json")).unwrap();
    let before = record();
    json(dir, &format!("{train} --resume"));
    assert_eq!(record(), before);

    json(dir, "data prepare recipe.toml --data . --out prepared");
    let train = "train recipe.toml --stream --prepared prepared --out other --checkpoint-every 800";
    let mut child = command(dir, format!("{train} --quiet").split_whitespace());
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_another(&dir.join("other/latest.ckpt"), None);
    child.kill().unwrap();
    child.wait().unwrap();
    if dir.join("other/best.ckpt").exists() {
        return; // It was quicker than the kill.
    }
    put(dir, "rows.csv", table(300));
    json(dir, "data prepare recipe.toml --data . --out prepared");
    refused(dir, &format!("{train} --resume"), &["prepared", "300 training rows", "learned from before"]);
}

#[test]
fn a_stream_from_files_balances_nothing_and_says_so() {
    let dir = folder(100);
    let dir = dir.path();
    for (step, mode) in [
        ("method = \"negative_sampling\"\nkeep = 0.5", "mode = \"stream\""),
        ("method = \"smote\"", "window = 500"),
    ] {
        let balanced = RECIPE.replacen("[model]", &format!("[[balance]]\n{step}\n[model]"), 1);
        put(dir, "balanced.toml", balanced.replacen("window = 500", mode, 1));
        let parts = ["[[balance]]", "data prepare", "--prepared"];
        refused(dir, "train balanced.toml --stream --data . --out run", &parts);
    }
    let sampled = "[[balance]]\nmethod = \"negative_sampling\"\nkeep = 0.5\n[model]";
    let streamed = RECIPE.replacen("[model]", sampled, 1).replacen("window = 500", "mode = \"stream\"", 1);
    put(dir, "balanced.toml", streamed);
    refused(dir, "recipe run balanced.toml --data . --out zz", &["[[balance]]", "data prepare"]);
}
