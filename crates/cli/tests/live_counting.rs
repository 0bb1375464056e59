//! Counting tables over live feedback: through the real binary, over HTTP, across kills.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::data::put;
use support::server::Server;
use support::{Dice, refused, run};

/// Plays of half a length count.
const LOG: &str = r#"[dataset]
kind = "log"
[dataset.events]
files = ["events.csv"]
user = "user"
item = "item"
time = { column = "time", unit = "s" }
event = { column = "kind" }
value = "value"
[dataset.items]
files = ["items.csv"]
id = "item"
[[task]]
name = "play"
min_value = 0.5
"#;

const MODELS: &str = r#"[retriever.model]
name = "two_tower"
embedding = 4
hidden = [8]
dim = 4
[retriever.training]
epochs = 1
[ranker.model]
name = "lr"
[ranker.training]
epochs = 1
[pipeline.recall.refresh]
every_s = 1
events = 0
[[pipeline.recall.model]]
name = "swing"
[[pipeline.recall.model]]
name = "people"
kind = "user_cf"
[[pipeline.channel]]
name = "two_tower"
[[pipeline.channel]]
name = "item_cf"
[[pipeline.channel]]
name = "hot"
[[pipeline.channel]]
name = "takers"
kind = "user_cf"
[[pipeline.channel]]
name = "swing"
kind = "i2i"
options = { table = "swing" }
[[pipeline.channel]]
name = "people"
kind = "user_cf"
options = { model = "people" }
"#;

/// Channels that count.
const COUNTING: [&str; 4] = ["item_cf", "takers", "swing", "people"];

/// One action.
#[derive(Clone)]
struct Act {
    user: String,
    item: String,
    kind: &'static str,
    value: f32,
    /// Seconds.
    time: u64,
}

const START: u64 = 1_600_000_000;

fn act(user: impl Into<String>, item: impl Into<String>, kind: &'static str, value: f32, time: u64) -> Act {
    Act { user: user.into(), item: item.into(), kind, value, time: START + time }
}

/// What the log tells: most plays count, clicks and short plays do not.
fn log() -> Vec<Act> {
    let mut dice = Dice(5);
    let mut one = |n: u64| {
        let (user, item) = (format!("u{}", dice.below(20)), format!("i{}", dice.below(30)));
        match dice.below(10) {
            0 => act(user, item, "click", 1.0, n * 60),
            1 => act(user, item, "play", 0.25, n * 60),
            _ => act(user, item, "play", 0.75, n * 60),
        }
    };
    (0..300).map(&mut one).collect()
}

/// What comes later: of users of the log and of others, on items of the log and on `n1`.
fn later() -> Vec<Act> {
    let mut dice = Dice(6);
    let mut all = Vec::new();
    for n in 0..60u64 {
        let user = if n % 3 == 0 { format!("u{}", dice.below(20)) } else { format!("late{}", n % 12) };
        let item = if dice.below(4) == 0 { "n1".to_owned() } else { format!("i{}", dice.below(30)) };
        all.push(act(user, item, "play", 0.5, 20_000 + n * 60));
        // What does not count: another kind, and too short.
        all.push(act(format!("u{}", n % 20), "n1", "click", 1.0, 20_001 + n * 60));
        all.push(act(format!("u{}", n % 20), "n1", "play", 0.4375, 20_002 + n * 60));
    }
    all
}

/// A run over these actions and so many items; swing and people know all of the log.
fn quickstart(folder: &Path, acts: &[Act], (count, extra_item): (usize, Option<&str>)) -> PathBuf {
    let mut events = String::from("user,item,time,kind,value\n");
    for a in acts {
        writeln!(events, "{},{},{},{},{}", a.user, a.item, a.time, a.kind, a.value).unwrap();
    }
    let mut items = String::from("item,category\n");
    (0..count).for_each(|i| writeln!(items, "i{i},c{}", i % 4).unwrap());
    extra_item.iter().for_each(|id| writeln!(items, "{id},c1").unwrap());
    put(folder, "events.csv", events);
    put(folder, "items.csv", items);
    put(folder, "dataset.toml", LOG);
    put(folder, "models.toml", MODELS);
    succeed(folder, "quickstart --data . --models models.toml --once --dir run --port 0 --seed 3");
    let out = folder.join("run");
    succeed(&out, "recall train --run . --until test");
    out
}

fn succeed(dir: &Path, words: &str) {
    let output = run(dir, &format!("{words} --quiet"));
    assert_eq!(output.status.code(), Some(0), "`{words}`: {}", String::from_utf8_lossy(&output.stderr));
}

fn send(server: &Server, acts: &[Act]) {
    let event = |a: &Act| json!({ "user": a.user, "item": a.item, "kind": a.kind, "value": a.value, "time_ms": a.time * 1000 });
    let body = Value::from(acts.iter().map(event).collect::<Vec<_>>());
    let (status, answer) = server.feedback(body.to_string());
    assert_eq!(status, 200, "{answer}");
}

fn counts(a: &&Act) -> bool {
    a.kind == "play" && a.value >= 0.5
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "no {what} within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Scores in the feed of a user, by item and counting channel.
fn scores(server: &Server, user: &str) -> BTreeMap<(String, String), f64> {
    let (status, feed) = server.get(&format!("/api/recommend/{user}?n=200&trace=true"));
    assert_eq!(status, 200, "{feed}");
    let mut all = BTreeMap::new();
    for item in feed["items"].as_array().unwrap() {
        for channel in item["trace"]["channels"].as_array().unwrap() {
            let name = channel["channel"].as_str().unwrap();
            if COUNTING.contains(&name) {
                let id = item["id"].as_str().unwrap().to_owned();
                all.insert((id, name.to_owned()), channel["score"].as_f64().unwrap());
            }
        }
    }
    all
}

/// Channels by which the feed of a user has an item.
fn ways(server: &Server, user: &str, item: &str) -> Vec<String> {
    let mut found: Vec<String> =
        scores(server, user).into_keys().filter(|(id, _)| id == item).map(|x| x.1).collect();
    found.sort();
    found
}

fn neighbours(server: &Server, item: &str) -> Vec<(String, f64)> {
    let (status, list) = server.get(&format!("/api/item/{item}/neighbors?n=8"));
    assert_eq!(status, 200, "{list}");
    let all = list["neighbors"].as_array().unwrap_or_else(|| panic!("{list}"));
    all.iter().map(|x| (x["id"].as_str().unwrap().to_owned(), x["score"].as_f64().unwrap())).collect()
}

#[test]
fn live_feedback_counts_as_if_it_had_been_prepared() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, later) = (log(), later());
    let whole: Vec<Act> = log.iter().chain(&later).cloned().collect();
    let counted_anew = quickstart(b.path(), &whole, (30, Some("n1")));
    let live = quickstart(a.path(), &log, (30, None));
    let anew = Server::start(&counted_anew);
    let server = Server::start(&live);
    assert_eq!(server.metric("millstream_refresh_total"), 0.0, "nothing has come");
    // Feedback on an item without a record counts when the record has come.
    let mut sent = 0.0;
    for (at, part) in later.chunks(later.len().div_ceil(3)).enumerate() {
        send(&server, part);
        if at == 1 {
            server.put_item("n1", json!({ "category": "c1" }));
        }
        sent += part.iter().filter(counts).count() as f64;
        let on_n1 = later.iter().take((at + 1) * 60).filter(counts).filter(|a| a.item == "n1").count() as f64;
        let due = if at == 0 { sent - on_n1 } else { sent };
        wait_until("refresh", || server.metric("millstream_refresh_events_total") == due);
    }
    assert!(server.metric("millstream_refresh_total") >= 3.0);
    assert!(server.metric("millstream_refresh_last_time_ms") > 1.7e12);
    assert_eq!(server.metric("millstream_refresh_failed_total"), 0.0);
    let users = ["late1", "late2", "late4", "late8"];
    let items = ["i0", "i5", "i12", "n1"];
    let same = |server: &Server| {
        for user in users {
            let (live, want) = (scores(server, user), scores(&anew, user));
            let ways = |way: &str| want.keys().filter(|k| k.1 == way).count();
            assert!(COUNTING.iter().all(|way| ways(way) > 0), "{user}: {want:?}");
            assert_eq!(live, want, "{user}");
        }
        for item in items {
            assert_eq!(neighbours(server, item), neighbours(&anew, item), "{item}");
        }
    };
    same(&server);
    server.kill();
    // At a start all that came is taken in at once, before the first answer.
    let server = Server::start(&live);
    assert_eq!(server.metric("millstream_refresh_total"), 1.0);
    assert_eq!(server.metric("millstream_refresh_events_total"), sent);
    same(&server);
}

#[test]
fn forgotten_users_and_removed_items_leave_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let run = quickstart(folder.path(), &log(), (30, None));
    let server = Server::start(&run);
    server.put_item("n1", json!({ "category": "c2" }));
    send(&server, &[act("asker", "i5", "play", 1.0, 30_000)]);
    assert_eq!(ways(&server, "asker", "n1"), Vec::<String>::new());
    let fans: Vec<String> = (0..40).map(|n| format!("fan{n}")).collect();
    let both = |user: &String| ["i5", "n1"].map(|item| act(user, item, "play", 1.0, 30_100));
    send(&server, &fans.iter().flat_map(both).collect::<Vec<_>>());
    let all_ways = ["item_cf", "people", "swing", "takers"];
    wait_until("n1 by all counting channels", || ways(&server, "asker", "n1") == all_ways);
    assert_eq!(neighbours(&server, "i5")[0].0, "n1");
    server.kill();
    let server = Server::start(&run);
    assert_eq!(ways(&server, "asker", "n1"), all_ways);
    assert_eq!(neighbours(&server, "i5")[0].0, "n1");

    // A fan who is forgotten and comes back counts by what they do then.
    fans.iter().for_each(|fan| assert_eq!(server.delete(&format!("/api/users/{fan}")), 204));
    send(&server, &[act("fan3", "i9", "play", 1.0, 30_200)]);
    wait_until("table without who was forgotten", || ways(&server, "asker", "n1").is_empty());
    let by_tables = |server: &Server| scores(server, "asker");
    assert!(!by_tables(&server).is_empty(), "the log's users still count");
    assert_ne!(neighbours(&server, "i5")[0].0, "n1");
    // Users of the log count no longer either.
    for user in 0..20 {
        assert_eq!(server.delete(&format!("/api/users/u{user}")), 204);
    }
    wait_until("empty tables", || by_tables(&server).is_empty());
    let anew = |user: &str| ["i5", "i9"].map(|item| act(user, item, "play", 1.0, 30_300));
    send(&server, &["u1", "u2"].map(anew).concat());
    wait_until("u1 and u2 anew", || ways(&server, "asker", "i9") == all_ways);
    assert_eq!(scores(&server, "asker").len(), all_ways.len(), "nothing but i9");
    server.kill();
    let server = Server::start(&run);
    assert_eq!(ways(&server, "asker", "i9"), all_ways);
    assert_eq!(scores(&server, "asker").len(), all_ways.len(), "nothing but i9");

    assert_eq!(server.delete("/api/items/i9"), 204);
    assert!(by_tables(&server).is_empty() && neighbours(&server, "i5").iter().all(|x| x.0 != "i9"));
    server.kill();
    // A damaged note of where the log ends is named; a ledger from before there was one is served.
    let note = run.join("live/log_end");
    let text = std::fs::read_to_string(&note).unwrap();
    assert!(text.trim().parse::<usize>().unwrap() >= log().iter().filter(counts).count(), "{text}");
    put(&run, "live/log_end", "none");
    refused(&run, "serve --run . --port 0", &["log_end", "`none`", "no number of events"]);
    std::fs::remove_file(&note).unwrap();
    let server = Server::start(&run);
    server.put_item("i9", json!({ "category": "c0" }));
    wait_until("i9 again", || ways(&server, "asker", "i9") == all_ways);
}

#[test]
fn a_table_that_does_not_fit_its_budget_any_more_stays_as_it_is_and_the_refresh_can_be_turned_off() {
    let folder = tempfile::tempdir().unwrap();
    let run = quickstart(folder.path(), &log(), (300, None));
    let text = std::fs::read_to_string(run.join("run.toml")).unwrap();
    let off = text.replacen("every_s = 1\n", "every_s = 0\n", 1);
    assert_ne!(off, text);
    put(&run, "run.toml", &off);
    let server = Server::start(&run);
    send(&server, &[act("asker", "i5", "play", 1.0, 30_000)]);
    let fans: Vec<Act> = (0..40)
        .flat_map(|n| ["i5", "i21"].map(|item| act(format!("fan{n}"), item, "play", 1.0, 30_100)))
        .collect();
    let before = neighbours(&server, "i5");
    send(&server, &fans);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(neighbours(&server, "i5"), before);
    assert_eq!(server.metric("millstream_refresh_waiting"), 81.0);
    server.kill();
    // At a start it counts all the same.
    let server = Server::start(&run);
    assert_eq!(neighbours(&server, "i5")[0].0, "i21");
    server.kill();

    // A budget for what few items have in common; then somebody plays many.
    let bounded = "[[recall.model]]\nname = \"item_cf\"\noptions = { memory_mib = 1, neighbours = 0 }\n";
    put(&run, "run.toml", format!("{text}\n{bounded}"));
    succeed(&run, "recall train --run . --model item_cf --until test");
    let server = Server::start(&run);
    assert_eq!(server.metric("millstream_refresh_failed_total"), 0.0);
    let before = neighbours(&server, "i5");
    assert_eq!(before[0].0, "i21");
    let all: Vec<Act> = (30..190).map(|i| act("glutton", format!("i{i}"), "play", 1.0, 30_400)).collect();
    send(&server, &all);
    wait_until("failure", || server.metric("millstream_refresh_failed_total") == 1.0);
    assert_eq!(neighbours(&server, "i5"), before);
    // The others go on.
    let fan = |n: usize| ["i7", "i299"].map(|item| act(format!("fan{n}"), item, "play", 1.0, 30_500));
    send(&server, &(50..90).flat_map(fan).collect::<Vec<_>>());
    send(&server, &[act("other", "i7", "play", 1.0, 30_600)]);
    wait_until("i299", || ways(&server, "other", "i299") == ["people", "swing", "takers"]);
    assert_eq!(server.metric("millstream_refresh_failed_total"), 1.0, "it is said once");
}
