//! Behaviour lists are the same in training and at serving: kinds of the log's own, many of one kind, all of them taken over.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use support::data::put;
use support::server::Server;
use support::{Dice, json, refused};

const DATASET: &str = r#"[dataset]
kind = "log"
[dataset.events]
files = ["events.csv"]
user = "who"
item = "thing"
time = { column = "at", unit = "s" }
event = { column = "what", map = { seen = "impression" } }
[dataset.items]
files = ["items.csv"]
id = "thing"
[split]
by = "time"
valid = 0.15
test = 0.15
[[task]]
name = "click"
[examples]
max_history = 20
[[feature]]
name = "who"
side = "user"
kind = "categorical"
[[feature]]
name = "thing"
side = "item"
kind = "categorical"
[[feature]]
name = "clicks"
kind = "sequence"
events = ["click"]
elements = ["thing"]
max_len = 20
[[feature]]
name = "follows"
kind = "sequence"
events = ["follow"]
elements = ["thing"]
max_len = 20
"#;

const MODELS: &str = r#"
[retriever.model]
name = "two_tower"
embedding = 4
hidden = [8]
dim = 4
[retriever.training]
batch_size = 128
epochs = 1
[ranker.model]
name = "din"
embedding = 4
hidden = [8]
sequence = { feature = "clicks", unit = [4] }
[ranker.training]
batch_size = 128
epochs = 1
[pipeline.catalogue]
user_id = "who"
item_id = "thing"
category = "thing"
author = "thing"
"#;

/// Impressions, clicks on every third, and a `follow`, `skip` or `order` now and then. `follow` and `skip` once shared a code.
fn log() -> String {
    let mut dice = Dice(5);
    let mut text = String::from("at,who,thing,what\n");
    for step in 0..4000u64 {
        let (at, who, thing) = (1_700_000_000 + step * 600, step % 12, dice.below(60));
        let mut write = |at: u64, what: &str| writeln!(text, "{at},u{who},i{thing},{what}").unwrap();
        write(at, "seen");
        if dice.below(3) == 0 {
            write(at + 1, "click");
        }
        if dice.below(40) == 0 {
            write(at + 2, ["follow", "skip", "order"][(step % 3) as usize]);
        }
    }
    text
}

/// How many actions of each kind a user has in the log.
fn counts<'a>(log: &'a str, user: &str) -> BTreeMap<&'a str, usize> {
    let mut out = BTreeMap::new();
    for line in log.lines().filter(|line| line.split(',').nth(1) == Some(user)) {
        *out.entry(line.rsplit(',').next().unwrap()).or_default() += 1;
    }
    out.remove("seen");
    out
}

#[test]
fn a_server_starts_with_every_action_of_the_log_by_its_own_kind() {
    let folder = tempfile::tempdir().unwrap();
    let (log, items) = (log(), (0..60).map(|i| format!("i{i}\n")).collect::<String>());
    std::fs::create_dir(folder.path().join("shop")).unwrap();
    put(folder.path(), "shop/dataset.toml", DATASET);
    put(folder.path(), "shop/events.csv", &log);
    put(folder.path(), "shop/items.csv", format!("thing\n{items}"));
    put(folder.path(), "models.toml", MODELS);
    json(folder.path(), "quickstart --data shop --dir run --models models.toml --once --port 0");
    let server = Server::start(&folder.path().join("run"));
    for user in ["u0", "u1", "u5"] {
        let (status, history) = server.get(&format!("/api/users/{user}/history?n=500"));
        assert_eq!(status, 200, "{history}");
        let mut told: BTreeMap<&str, usize> = BTreeMap::new();
        for action in history["actions"].as_array().unwrap() {
            *told.entry(action["kind"].as_str().unwrap()).or_default() += 1;
        }
        let expected = counts(&log, user);
        assert!(expected["click"] > 60 && expected.len() == 2, "{expected:?}");
        assert_eq!(told, expected, "{user}");
    }
    drop(server);
    // A list of another kind is another list.
    let prepare = |events: &str| {
        let text = DATASET.replace("events = [\"follow\"]", &format!("events = [\"{events}\"]"));
        put(folder.path(), "shop/dataset.toml", text);
    };
    prepare("folow");
    let words = "data prepare shop/dataset.toml --data shop --out p";
    refused(folder.path(), words, &["feature `follows`", "`folow`", "did you mean `follow`"]);
    assert!(!folder.path().join("p").exists());
}
