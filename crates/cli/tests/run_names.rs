//! A run whose remote channel is down and whose ids are strange, from `quickstart` to `recall mine`; what its run.toml may not
//! say; and what becomes of a run without one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use support::data::{LOG, put};
use support::{Dice, json, refused, run};

/// Small models and a chain; `PORT` is where nobody listens.
const MODELS: &str = r#"
[retriever.model]
name = "two_tower"
embedding = 8
dim = 8
hidden = [8]
[retriever.training]
epochs = 1
monitor = "recall@50"
[ranker.model]
name = "lr"
[ranker.training]
epochs = 1
[pipeline.catalogue]
category = "shelf"
tags = ["shelf"]
keywords = ["words"]
[[pipeline.channel]]
name = "two_tower"
[[pipeline.channel]]
name = "item_cf"
options = { kinds = { order = 3 } }
[[pipeline.channel]]
name = "far"
kind = "remote"
fallback = "spare"
options = { url = "http://127.0.0.1:PORT/r" }
[[pipeline.channel]]
name = "spare"
kind = "hot"
standby = true
[[pipeline.channel]]
name = "i2i"
[[pipeline.channel]]
name = "tag"
[[pipeline.rule]]
name = "per_author"
[tune]
item_cf = [0.0, 0.5]
"#;

const ITEMS: u64 = 50;
const RUN: &str = "quickstart --once --dir run --port 0 --data . --models models.toml";

/// Logs and models in a folder.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(5);
    let mut events = String::from("user,item,time\n");
    for n in 0..1500 {
        let user = dice.below(40);
        let item = (dice.below(ITEMS / 2) * 2 + user % 2) % ITEMS;
        writeln!(events, "a b/c%41 Ж? {user},i{item},{}", 1_600_000_000 + n * 600).unwrap();
    }
    let items: String = (0..ITEMS).map(|i| format!("i{i},s{},w{} and w{}\n", i % 4, i % 7, i % 11)).collect();
    put(dir.path(), "events.csv", &events);
    put(dir.path(), "items.csv", format!("item,shelf,words\n{items}"));
    put(dir.path(), "dataset.toml", LOG);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    put(dir.path(), "models.toml", MODELS.replace("PORT", &port.to_string()));
    dir
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_run_is_made_measured_and_refused_by_name() {
    let folder = folder();
    let output = run(folder.path(), &format!("{RUN} --json"));
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let report: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let failed = &report["failed"][0];
    assert!(failed["channel"] == "far" && number(&failed["requests"]) > 3.0, "{failed}");
    assert!(report["feed"]["user"].as_str().unwrap().starts_with("a b/c%41 Ж? "), "{report}");
    assert_eq!(
        (&report["feed"]["personal"], report["feed"]["items"].as_array().unwrap().len()),
        (&true.into(), 10)
    );
    for said in [
        "note: channel `far` failed in",
        "note: rule `per_author` does nothing: no item has a field `author`",
    ] {
        assert!(stderr.contains(said), "{stderr}");
    }
    let run = folder.path().join("run");
    measured(&run);
    refusals(&run);
    without_a_run_file(&run);
}

fn measured(run_dir: &Path) {
    let report = json(run_dir, "recall eval --run . --split test --k 5,10,100000000");
    let users = number(&report["users"]);
    assert_eq!(report["k"], serde_json::json!([5, 10, ITEMS]), "no list is longer than the catalogue");
    for row in report["channels"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        assert_eq!(number(&row["failed"]), if name == "far" { users } else { 0.0 }, "{row}");
        assert_eq!(row["micros"].is_null(), ["far", "spare"].contains(&name), "{row}");
        let share = |key: &str| number(&row[key]);
        assert!(
            share("first_share") <= share("all_share") && share("only_share") <= share("first_share"),
            "{row}"
        );
        assert!(share("all_share") <= 1.0 && share("right_only_share") <= share("right_share"));
    }
    let merged = &report["merged"];
    let slowest =
        report["channels"].as_array().unwrap().iter().filter_map(|row| row["micros"]["mean"].as_f64());
    assert!(
        number(&merged["micros"]["mean"]) > slowest.fold(0.0, f64::max),
        "it is the time of all: {merged}"
    );
    let text = run(run_dir, "recall eval --run . --k 5,10 -q");
    let (text, notes) = (String::from_utf8(text.stdout).unwrap(), String::from_utf8(text.stderr).unwrap());
    for header in ["failed", "all-hit", "exclusive", "Recall@5  HitRate@5", "Recall@10  HitRate@10"] {
        assert!(text.contains(header), "{header}: {text}");
    }
    assert_eq!(text.matches("coverage").count(), 2, "{text}");
    assert!(notes.contains("note: channel `far` failed"), "{notes}");
    let mined = json(run_dir, "recall mine --run . --out hard.jsonl --keep 3 --skip 2 --page 5");
    assert!(mined["failed"][0]["channel"] == "far" && number(&mined["requests"]) > 0.0, "{mined}");
}

/// What run.toml may not say.
fn refusals(run: &Path) {
    let config = std::fs::read_to_string(run.join("run.toml")).unwrap();
    for (from, to, parts) in [
        ("item_id = \"item\"", "item_id = \"itme\"", ["`item_id`", "did you mean `item`?"]),
        ("user_id = \"user\"", "user_id = \"x\"", ["`user_id`", "expected one of user"]),
        ("category = \"shelf\"", "category = \"shelff\"", ["`category`", "did you mean `shelf`?"]),
        ("author = \"author\"", "author = \"brand\"", ["`author`", "unknown item field `brand`"]),
        ("tags = [\"shelf\"]", "tags = [\"shelff\"]", ["`tags`", "did you mean `shelf`?"]),
        ("keywords = [\"words\"]", "keywords = [\"word\"]", ["`keywords`", "did you mean `words`?"]),
        ("[catalogue]", "[catalogue]\nsegment = \"usr\"", ["`segment`", "did you mean `user`?"]),
        ("order = 3", "ordr = 3", ["`item_cf`: key `kinds`", "did you mean `order`?"]),
        (
            "name = \"i2i\"",
            "name = \"i2i\"\noptions = { kinds = { clik = 1 } }",
            ["`i2i`", "did you mean `click`?"],
        ),
        ("name = \"i2i\"", "name = \"i2i\"\noptions = { scene = \"gagdet\" }", ["`scene`", "`gagdet`"]),
        (
            "name = \"tag\"",
            "name = \"tag\"\noptions = { user_fields = [\"usr\"] }",
            ["`user_fields`", "did you mean `user`?"],
        ),
        ("name = \"two_tower\"", "name = \"two_tower\"\ndeadline_ms = 0", ["run.toml", "`deadline_ms`"]),
        (
            "name = \"two_tower\"",
            "name = \"two_tower\"\noptions = { min_score = nan }",
            ["`two_tower`", "`min_score`"],
        ),
        ("deadline_ms = 100", "deadline_ms = 0", ["run.toml: [recall]", "above 0"]),
        ("threads = 0", "threads = 100000", ["run.toml: [recall]", "at most 256"]),
    ] {
        let changed = config.replacen(from, to, 1);
        assert_ne!(changed, config, "`{from}` is not in {config}");
        put(run, "run.toml", changed);
        refused(run, "recall eval --run .", &parts);
    }
    // Names that are not said are those of the data.
    put(run, "run.toml", config.replace("item_id = \"item\"", "").replace("user_id = \"user\"", ""));
    let of_data = json(run, "recall eval --run . --channel two_tower");
    put(run, "run.toml", &config);
    let as_written = json(run, "recall eval --run . --channel two_tower");
    assert_eq!(of_data["merged"]["metrics"], as_written["merged"]["metrics"]);
    refused(run, "recall eval --run . --threads 100000", &["--threads must be at most 1024", "100000"]);
}

fn without_a_run_file(run: &Path) {
    std::fs::rename(run.join("run.toml"), run.join("kept.toml")).unwrap();
    for command in [
        "serve --run . --port 0",
        "recall eval --run .",
        "recall mine --run . --out x.jsonl",
        "recall train --run .",
    ] {
        refused(run, command, &["run.toml: no such file", "quickstart"]);
    }
    // An empty one means the defaults.
    put(run, "run.toml", "");
    assert_eq!(json(run, "recall eval --run .")["channels"].as_array().unwrap().len(), 4);
}

#[test]
fn a_wrong_chain_is_found_before_anything_is_trained() {
    let folder = folder();
    let models = std::fs::read_to_string(folder.path().join("models.toml")).unwrap();
    for (from, to, part) in [
        ("tags = [\"shelf\"]", "tags = [\"shlef\"]", "did you mean `shelf`?"),
        (
            "category =",
            "item_id = \"itm\"\ncategory =",
            "`item_id`: unknown column of ids `itm`; did you mean `item`?",
        ),
        (
            "name = \"tag\"",
            "name = \"tag\"\ndeadline_ms = 0",
            "models.toml: channel `tag`: key `deadline_ms`",
        ),
    ] {
        put(folder.path(), "models.toml", models.replacen(from, to, 1));
        let output = run(folder.path(), &format!("{RUN} -q"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(part), "{said}");
        assert!(
            !folder.path().join("run/retriever").exists() && !folder.path().join("run/run.toml").exists()
        );
    }
}
