//! What `kill -9` may not take: acknowledged feedback, and the result of a training run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use millstream_schema::{Event, EventKind};
use millstream_stream::{EventLog, Stream};
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::data::{RECIPE, put, table_folder};
use support::server::{Server, World, agent};
use support::{Dice, command, json};

/// Times the server is killed.
const KILLS: usize = 20;
/// Clients that send feedback at the same time.
const CLIENTS: usize = 4;

#[test]
fn every_acknowledged_event_is_there_after_each_of_twenty_kills() {
    let world = World::new();
    let (_, item) = world.ids();
    let mut dice = Dice(7);
    // Name of the event (its `request`) to its place in the ledger.
    let mut promised: HashMap<String, u64> = HashMap::new();
    for cycle in 0..KILLS {
        let server = Server::start(&world.run());
        let pause = Duration::from_millis(dice.below(120));
        let acknowledged = load_and_kill(server, cycle, &item, pause);
        assert!(!acknowledged.is_empty(), "kill {cycle}: nothing was acknowledged");
        promised.extend(acknowledged);
        if cycle % 3 == 0 {
            // A kill while the server starts may not take anything either.
            Server::start_and_kill(&world.run(), Duration::from_millis(dice.below(200)));
        }
        check_ledger(&world.run().join("live"), &promised);
    }
    println!("{} events acknowledged, {KILLS} kills, none lost", promised.len());
    let server = Server::start(&world.run());
    for client in 0..CLIENTS {
        let mine = promised.keys().filter(|name| name.contains(&format!("-{client}-"))).count();
        let (_, history) = server.get(&format!("/api/users/client-{client}/history"));
        let remembered = history["remembered"].as_u64().unwrap() as usize;
        assert!(remembered >= mine.min(50), "client {client}: {remembered} of {mine}");
    }
}

/// Clients send as fast as they are answered; after the first answer and a pause the server is killed.
fn load_and_kill(server: Server, cycle: usize, item: &str, pause: Duration) -> HashMap<String, u64> {
    let (acknowledged, down) = (Mutex::new(HashMap::new()), AtomicBool::new(false));
    let answered = AtomicUsize::new(0);
    let url = format!("{}/api/feedback", server.base);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (acknowledged, down, answered, url) = (&acknowledged, &down, &answered, &url);
            scope.spawn(move || {
                let agent = agent();
                for n in 0.. {
                    let names: Vec<String> =
                        (0..1 + n % 4).map(|i| format!("{cycle}-{client}-{n}-{i}")).collect();
                    let event = |name: &String| {
                        serde_json::json!({ "user": format!("client-{client}"), "item": item,
                            "kind": "click", "request": name })
                    };
                    let body: Vec<_> = names.iter().map(event).collect();
                    let sent = agent.post(url).send(serde_json::Value::from(body).to_string());
                    let told = sent.and_then(|mut a| a.body_mut().read_to_string());
                    let told = told.ok().and_then(|t| serde_json::from_str::<serde_json::Value>(&t).ok());
                    let Some(told) = told else { break };
                    let first = told["offset"].as_u64().unwrap_or_else(|| panic!("{told}"));
                    let mut all = acknowledged.lock().unwrap();
                    all.extend(names.into_iter().zip(first..));
                    answered.fetch_add(1, Ordering::Release);
                    if down.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        wait_until("an answer", || answered.load(Ordering::Acquire) > 0);
        std::thread::sleep(pause);
        server.kill();
        down.store(true, Ordering::Release);
    });
    acknowledged.into_inner().unwrap()
}

/// Each event lies where its acknowledgement said, once.
fn check_ledger(live: &Path, promised: &HashMap<String, u64>) {
    let stream = Stream::open(live).unwrap();
    let events = stream.ledger.read(0, usize::MAX >> 1).unwrap();
    assert_eq!(events.len() as u64, stream.ledger.end());
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for (offset, event) in &events {
        places.entry(event.request.as_deref().unwrap_or("")).or_default().push(*offset);
    }
    for (name, offset) in promised {
        assert_eq!(places.get(name.as_str()), Some(&vec![*offset]), "event {name}");
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "no {what} within a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn feedback_changes_the_next_response_and_stays_after_a_restart() {
    let world = World::new();
    assert_eq!(world.report["table"].as_array().map(Vec::len), Some(5));
    assert!(!world.report["feed"]["items"][0]["trace"].is_null());
    let (user, _) = world.ids();
    let server = Server::start(&world.run());
    let first = server.feed(&user, 10);
    let before = server.history(&user);
    let clicked = first[0].clone();
    let body = serde_json::json!({ "user": user, "item": clicked, "kind": "click" });
    let (status, answer) = server.feedback(body.to_string());
    assert_eq!(status, 200, "{answer}");
    let (next, history) = (server.feed(&user, 10), server.history(&user));
    assert!(!next.contains(&clicked), "{clicked} is still in {next:?}");
    assert_eq!(history[0], clicked);
    assert_eq!(history.len(), before.len() + 1);
    server.kill();
    let server = Server::start(&world.run());
    assert_eq!(server.history(&user), history);
    assert!(!server.feed(&user, 200).contains(&clicked));
}

#[test]
fn a_log_half_taken_over_when_the_server_was_killed_is_taken_over_again() {
    let world = World::new();
    let (user, item) = world.ids();
    let (live, draft) = (world.run().join("live"), world.run().join("live.new"));
    let whole = Stream::open(&live).unwrap().ledger.end();
    std::fs::remove_dir_all(&live).unwrap();
    {
        let half = Stream::open(&draft).unwrap();
        let click = Event {
            user,
            item,
            kind: EventKind::Click,
            time_ms: 1_735_700_000_000,
            value: 1.0,
            request: None,
            position: None,
        };
        half.ledger.append(&[click]).unwrap();
    }
    Server::start(&world.run()).kill();
    assert!(!draft.exists());
    assert_eq!(Stream::open(&live).unwrap().ledger.end(), whole);
}

/// Kills before the run may go on to its end.
const TRAIN_KILLS: u64 = 6;

#[test]
fn a_run_killed_again_and_again_ends_with_the_weights_of_an_unbroken_one() {
    let dir = table_folder(3000);
    let dir = dir.path();
    put(
        dir,
        "recipe.toml",
        RECIPE.replacen("[16]", "[64, 32]", 1).replacen("epochs = 3", "epochs = 6\npatience = 9", 1),
    );
    json(dir, "data prepare recipe.toml --data . --out prepared");
    let train = "train recipe.toml --prepared prepared --threads 2";
    let unbroken = json(dir, &format!("{train} --out unbroken"));
    let mut dice = Dice(11);
    let latest = dir.join("broken/latest.ckpt");
    let words = format!("{train} --out broken --resume --quiet");
    for kill in 0..TRAIN_KILLS {
        let mut child = command(dir, words.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..1 + dice.below(4) {
            let was = stamp(&latest);
            wait_until("new checkpoint", || stamp(&latest) != was);
        }
        std::thread::sleep(Duration::from_micros(dice.below(8000)));
        assert!(child.try_wait().unwrap().is_none(), "the run ended before kill {kill}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let broken = json(dir, &format!("{train} --out broken --resume"));
    assert_eq!(broken["weights_xxh3"], unbroken["weights_xxh3"]);
    assert_eq!(broken["best"], unbroken["best"]);
    assert_eq!(broken["evaluations"], unbroken["evaluations"]);
    let left: Vec<String> = support::listing(&dir.join("broken")).into_iter().map(|(path, _)| path).collect();
    // best.ckpt, latest.ckpt and run.json: no temporary file outlives a kill and a resume.
    assert_eq!(left.len(), 3, "{left:?}");
}

/// What tells one checkpoint from the next.
fn stamp(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}
