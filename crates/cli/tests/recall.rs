//! `recall eval` and near-line recall through the real binary, on the smallest world.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use support::data::put;
use support::server::{Server, World};
use support::{json, refused};

const CHAIN: &str = r#"
[catalogue]
tags = ["category", "author"]
keywords = ["title"]
segment = "region"

[[channel]]
name = "two_tower"

[[channel]]
name = "item_cf"
fallback = "spare"
short = 20

[[channel]]
name = "spare"
kind = "hot"
standby = true

[[channel]]
name = "hot_6h"
kind = "hot"
options = { windows = ["6h"] }

[[channel]]
name = "new_items"
options = { pools = ["1h", "6h", "24h", "30d"], order = "author_record" }

[[channel]]
name = "i2i"

[[channel]]
name = "user_cf"

[[channel]]
name = "tag"

[[channel]]
name = "keyword"

[[channel]]
name = "content"
options = { triggers = 2 }

[[channel]]
name = "alike"
kind = "i2i"
options = { table = "content", short = "30d" }

[[channel]]
name = "near_line"

[content.tfidf]
dim = 16

[near_line]
keep = 40
candidates = 150

[passed_over]
keep = 6
skip = 0
"#;

/// The run's own settings of fusing, with the channels above.
fn chain_of(run: &Path) {
    let old = std::fs::read_to_string(run.join("run.toml")).unwrap();
    let mut old: toml::Table = old.parse().unwrap();
    let new: toml::Table = CHAIN.parse().unwrap();
    old.remove("channel");
    let mut catalogue = old.remove("catalogue").unwrap().as_table().unwrap().clone();
    catalogue.extend(new["catalogue"].as_table().unwrap().clone());
    old.extend(new);
    old.insert("catalogue".into(), catalogue.into());
    put(run, "run.toml", toml::to_string(&old).unwrap());
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn channels_are_measured_and_served_and_bests_survive_a_kill() {
    let world = World::new();
    let run = world.run();
    chain_of(&run);
    measured(&run);
    mined(&run);
    served(&run, &world.ids().0);
}

/// A run's chain names hard negatives.
fn mined(run: &Path) {
    let found = json(run, "recall mine --run . --out hard.jsonl --keep 4 --skip 2 --page 5");
    let text = std::fs::read_to_string(run.join("hard.jsonl")).unwrap();
    assert_eq!(text.lines().count() as f64, number(&found["requests"]));
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!((1..=4).contains(&line["items"].as_array().unwrap().len()), "{line}");
    }
    refused(run, "recall mine --run . --out none.jsonl --skip 100000", &["no candidate", "100000"]);
    assert!(!run.join("none.jsonl").exists());
}

fn measured(run: &Path) {
    let report = json(run, "recall eval --run . --k 5,40 --split test");
    let users = number(&report["users"]);
    assert!(users > 3.0 && report["split"] == "test");
    let names: Vec<&str> =
        report["channels"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let all = [
        "two_tower",
        "item_cf",
        "spare",
        "hot_6h",
        "new_items",
        "i2i",
        "user_cf",
        "tag",
        "keyword",
        "content",
        "alike",
        "near_line",
    ];
    assert_eq!(names, all);
    let merged = &report["merged"]["metrics"];
    let mut first_share = 0.0;
    for row in report["channels"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let idle = ["spare", "near_line"].contains(&name);
        assert_eq!(number(&row["candidates"]) == 0.0, idle, "{row}");
        assert_eq!(number(&row["asked"]), if name == "spare" { 0.0 } else { 1.0 }, "{row}");
        first_share += number(&row["first_share"]);
        assert!(number(&row["right_only_share"]) <= number(&row["right_share"]));
        assert_eq!(row["micros"].is_null(), name == "spare");
        if idle {
            assert_eq!(number(&row["lost"]["recall@40"]), 0.0, "{name} brings nothing, so nothing is lost");
            continue;
        }
        for key in ["recall", "hit_rate", "coverage", "tail_share", "gini"] {
            let value = number(&row["metrics"][format!("{key}@40")]);
            assert!((0.0..=1.0).contains(&value), "{name} {key} {value}");
        }
        assert!(number(&row["metrics"]["recall@5"]) <= number(&row["metrics"]["recall@40"]));
        assert!(number(&row["micros"]["p50"]) <= number(&row["micros"]["p99"]));
    }
    assert!((first_share - 1.0).abs() < 1e-9);
    assert!(number(&merged["coverage@40"]) > 0.1);

    // One channel alone is the merged set: without it nothing is left.
    let alone = json(run, "recall eval --run . --k 40 --split test --channel hot_6h --quota 40 --users 3");
    let row = &alone["channels"][0];
    assert_eq!((alone["channels"].as_array().unwrap().len(), &row["name"]), (1, &"hot_6h".into()));
    assert_eq!(number(&alone["users"]), 3.0);
    assert_eq!(row["metrics"], alone["merged"]["metrics"]);
    assert_eq!(row["lost"]["recall@40"], alone["merged"]["metrics"]["recall@40"]);
    assert_eq!(number(&row["first_share"]), 1.0);
    assert!(number(&row["candidates"]) <= 40.0);

    // Filters part the users.
    let some = json(run, "recall eval --run . --split test --channel tag --max-history 4");
    let others = json(run, "recall eval --run . --split test --channel tag --min-history 5");
    assert_eq!(number(&some["users"]) + number(&others["users"]), users);
    for (words, parts) in [
        ("--channel hot_6", ["did you mean `hot_6h`", "--channel"]),
        ("--where regio=r1", ["did you mean `region`", "--where"]),
        ("--where region", ["FIELD=VALUE", "region"]),
        ("--where region=nowhere", ["no user", "filters"]),
        ("--k 0", ["--k", "above 0"]),
    ] {
        refused(run, &format!("recall eval --run . {words}"), &parts);
    }
    let chain = std::fs::read_to_string(run.join("run.toml")).unwrap();
    put(run, "run.toml", chain.replace("[content.tfidf]", "[content]\ntexts = [\"titel\"]\n[content.tfidf]"));
    refused(run, "recall eval --run .", &["[content]", "did you mean `title`"]);
    put(run, "run.toml", chain);
}

/// Waits until `/metrics` holds a line that begins so.
fn wait_for(server: &Server, line: &str) -> String {
    let start = Instant::now();
    loop {
        let text = server.get("/metrics").1.as_str().unwrap_or_default().to_owned();
        if text.lines().any(|l| l.starts_with(line)) {
            return text;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "`{line}` is not in {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn channel<'a>(feed: &'a Value, name: &str) -> &'a Value {
    feed["channels"].as_array().unwrap().iter().find(|c| c["channel"] == name).unwrap()
}

fn served(run: &Path, user: &str) {
    let server = Server::start(run);
    let ask = format!("/api/recommend/{user}?n=10&trace=true");
    let first = server.get(&ask).1;
    assert_eq!(channel(&first, "near_line")["candidates"], 0);
    // What was ranked and not shown is written down.
    let passed = std::fs::read_to_string(run.join("passed_over.jsonl")).unwrap();
    let passed: Value = serde_json::from_str(passed.lines().next().unwrap()).unwrap();
    let shown: Vec<&Value> = first["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    let items = passed["items"].as_array().unwrap();
    assert!(passed["user"] == user && (1..=6).contains(&items.len()), "{passed}");
    assert!(items.iter().all(|item| !shown.contains(&item)), "{passed} {first}");
    // The miss has put the user into the queue.
    let text = wait_for(&server, "millstream_near_line_made_total 1");
    assert!(text.contains(r#"millstream_channel_requests_total{channel="near_line",status="answered"}"#));
    let second = server.get(&ask).1;
    let kept = number(&channel(&second, "near_line")["candidates"]);
    assert!((1.0..=40.0).contains(&kept), "{second}");
    // Feedback makes the list anew.
    let item = second["items"][0]["id"].as_str().unwrap();
    let click = format!(r#"{{"user": "{user}", "item": "{item}", "kind": "click"}}"#);
    assert_eq!(server.feedback(click).0, 200);
    wait_for(&server, "millstream_near_line_made_total 2");
    server.kill();
    let server = Server::start(run);
    let third = server.get(&ask).1;
    assert!(number(&channel(&third, "near_line")["candidates"]) > 0.0, "it is there after a kill");
    let shown: f64 = third["channels"].as_array().unwrap().iter().map(|c| number(&c["shown_first"])).sum();
    let refilled = third["items"].as_array().unwrap().iter();
    let refilled = refilled.filter(|i| i["trace"]["channels"].as_array().unwrap().is_empty()).count();
    assert_eq!(shown as usize + refilled, third["items"].as_array().unwrap().len());
}
