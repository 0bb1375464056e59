//! Models of `[[recall.model]]` from training to a served feed, through the real binary, on the smallest world.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::path::Path;
use support::data::{flip, put};
use support::server::Server;
use support::{json, refused};

/// Beside what `quickstart` trains anyway.
const MODELS: &str = r#"
[[pipeline.recall.model]]
name = "item_cf"
options = { damping = "log" }

[[pipeline.recall.model]]
name = "swing"

[[pipeline.recall.model]]
name = "people"
kind = "user_cf"

[[pipeline.recall.model]]
name = "als"
neighbours = 20
options = { dim = 8, iterations = 5 }

[[pipeline.recall.model]]
name = "walks"
kind = "node2vec"
options = { graph = { edges = "consecutive", span = 2 }, q = 0.5, walks = 4, length = 10, word2vec = { dim = 8, epochs = 2 } }

[[pipeline.recall.model]]
name = "spectral"
options = { dim = 6, inflation = 1.0 }

[[pipeline.channel]]
name = "two_tower"

[[pipeline.channel]]
name = "item_cf"

[[pipeline.channel]]
name = "swing"
kind = "i2i"
options = { table = "swing" }

[[pipeline.channel]]
name = "like_people"
kind = "user_cf"
options = { model = "people" }

[[pipeline.channel]]
name = "als"
kind = "vector"
options = { max_history = 20 }

[[pipeline.channel]]
name = "als_lists"
kind = "i2i"
options = { table = "als" }

[[pipeline.channel]]
name = "walks"
kind = "vector"

[[pipeline.channel]]
name = "same_cluster"
kind = "i2i"
options = { table = "spectral.clusters" }
"#;

/// Channels that live of the models above.
const CHANNELS: [&str; 7] = ["item_cf", "swing", "like_people", "als", "als_lists", "walks", "same_cluster"];

fn channel<'a>(of: &'a Value, key: &str, name: &str) -> &'a Value {
    of["channels"].as_array().unwrap().iter().find(|c| c[key] == name).unwrap()
}

#[test]
fn models_are_trained_measured_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let preset = include_str!("../presets/quickstart.toml");
    put(folder.path(), "models.toml", format!("{preset}\n{MODELS}"));
    let report = json(
        folder.path(),
        "quickstart --once --dir run --port 0 --users 60 --items 200 --exposures 4000 --seed 3 --models models.toml",
    );
    // Swing's lists are short here: who is asked for may have nothing left in them.
    for name in CHANNELS.into_iter().filter(|name| *name != "swing") {
        let row = channel(&report["feed"], "channel", name);
        assert!(row["candidates"].as_u64().unwrap() > 0, "{row}");
    }
    let run = folder.path().join("run");
    measured(&run);
    refusals(&run);
    served(&run);
}

fn measured(run: &Path) {
    let report = json(run, "recall eval --run . --k 5,40");
    for name in CHANNELS {
        let row = channel(&report, "name", name);
        assert!(row["candidates"].as_f64().unwrap() > 1.0, "{row}");
        assert!(row["metrics"]["coverage@40"].as_f64().unwrap() > 0.0, "{row}");
    }
    // Another seed is another model, the same seed the same.
    let file = run.join("recall/walks.mill");
    let before = std::fs::read(&file).unwrap();
    let taught = json(run, "recall train --run . --model walks --model swing --seed 3");
    let names: Vec<&str> =
        taught["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!((names, &taught["models"][0]["dim"]), (vec!["walks", "swing"], &Value::from(8)));
    assert_eq!(std::fs::read(&file).unwrap(), before, "quickstart trained it with --seed 3");
    json(run, "recall train --run . --model walks --seed 4 --threads 1");
    let other = std::fs::read(&file).unwrap();
    assert_ne!(other, before);
    json(run, "recall train --run . --model walks --seed 4 --threads 2");
    assert_eq!(std::fs::read(&file).unwrap(), other, "threads do not matter");
}

fn refusals(run: &Path) {
    let eval = "recall eval --run . --channel als --channel swing";
    refused(run, "recall train --run . --model alss", &["--model", "did you mean `als`"]);
    // What was learned from the part that is measured must not be measured.
    json(run, "recall train --run . --model als --until test");
    refused(run, eval, &["als.mill", "`valid`", "--until train"]);
    json(run, "recall train --run . --model als --until valid");
    refused(run, eval, &["als.mill", "`valid`"]);
    assert!(json(run, &format!("{eval} --split test"))["users"].as_u64().unwrap() > 0);

    let config = std::fs::read_to_string(run.join("run.toml")).unwrap();
    let with = |from: &str, to: &str| {
        let changed = config.replacen(from, to, 1);
        assert_ne!(changed, config, "`{from}` is not in {config}");
        put(run, "run.toml", changed);
    };
    for (from, to, parts) in [
        ("iterations = 5", "iterations = 6", ["als.mill", "other options"]),
        ("neighbours = 20", "neighbours = 21", ["als.mill", "other options"]),
        ("kind = \"node2vec\"", "kind = \"node2wec\"", ["walks", "did you mean `node2vec`"]),
        ("iterations = 5", "iteration = 5", ["als", "did you mean `iterations`"]),
        ("table = \"swing\"", "table = \"swnig\"", ["swing", "did you mean `swing`"]),
        (
            "name = \"walks\"\nkind = \"vector\"",
            "name = \"walk\"\nkind = \"vector\"",
            ["walk", "did you mean"],
        ),
    ] {
        with(from, to);
        let words = if to.contains("walk\"") { "recall eval --run . --channel walk" } else { eval };
        refused(run, &format!("{words} --split test"), &parts);
    }
    put(run, "run.toml", &config);

    let file = run.join("recall/als.mill");
    let whole = std::fs::read(&file).unwrap();
    flip(&file, whole.len() as i64 / 2);
    refused(run, &format!("{eval} --split test"), &["als.mill"]);
    std::fs::remove_file(&file).unwrap();
    refused(run, &format!("{eval} --split test"), &["als.mill", "recall train --run . --model als"]);
    json(run, "recall train --run . --until test");
}

fn served(run: &Path) {
    let server = Server::start(run);
    let item = server.get("/api/recommend/nobody?n=3").1["items"][0]["id"].as_str().unwrap().to_owned();
    assert!(!item.is_empty());
    // Somebody who came after training, with one action.
    let click = format!(r#"{{"user": "newcomer", "item": "{item}", "kind": "click"}}"#);
    assert_eq!(server.feedback(click).0, 200);
    let feed = server.get("/api/recommend/newcomer?n=10&trace=true").1;
    for name in ["als", "als_lists", "walks", "like_people"] {
        let row = channel(&feed, "channel", name);
        assert!(row["candidates"].as_u64().unwrap() > 0, "{row}");
    }
    let shown = feed["items"].as_array().unwrap();
    assert!(shown.iter().all(|i| i["id"] != item.as_str()), "what was seen is not shown again");
}
