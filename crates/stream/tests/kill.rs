//! `kill -9` at random moments: whatever was acknowledged is there after a restart.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use millstream_schema::{Event, EventKind, Record};
use millstream_stream::{EventLog, Limits, Profiles, Stream};

const CHILD: &str = "MILLSTREAM_KILL_CHILD";
const ROUNDS: u64 = 20;

fn event(user: &str, item: String) -> Event {
    Event {
        user: user.into(),
        item,
        kind: EventKind::Click,
        time_ms: 1_700_000_000_000,
        value: 1.0,
        request: None,
        position: None,
    }
}

/// Run by itself this does nothing; the test below runs it in a child process.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (round, dir) = task.split_once(' ').unwrap();
    let stream = Stream::open(Path::new(dir)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let stream = &stream;
            scope.spawn(move || {
                for i in 0.. {
                    let name = format!("{round}-{thread}-{i}");
                    let pair = [event("u", format!("{name}-a")), event("u", format!("{name}-b"))];
                    let offset = stream.ledger.append(&pair).unwrap();
                    let record = Record { id: name.clone(), fields: BTreeMap::new() };
                    let stored = i % 7 == 0 && stream.records.items().create(&record).unwrap();
                    let line = format!("ACK {offset} {name} {stored}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// Lets a child append for `life`, kills it and returns what it had acknowledged.
fn run_child(dir: &Path, round: u64, life: Duration) -> Vec<(u64, String, bool)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_appends_until_it_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{round} {}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(out).split(b'\n').map_while(Result::ok);
        lines.filter_map(|line| parse(&String::from_utf8_lossy(&line))).collect()
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// A whole acknowledgement; the last line may be cut off, and the test harness may begin a line.
fn parse(line: &str) -> Option<(u64, String, bool)> {
    let (_, ack) = line.split_once("ACK ")?;
    let mut words = ack.split(' ');
    let (offset, name, stored) = (words.next()?, words.next()?, words.next()?);
    Some((offset.parse().ok()?, name.to_owned(), stored.parse().ok()?))
}

#[test]
fn every_acknowledged_event_survives_twenty_kills() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("stream");
    let mut acked: BTreeMap<u64, String> = BTreeMap::new();
    let mut records = Vec::new();
    for round in 0..ROUNDS {
        // From before the directory is made to well within the appending.
        let life = Duration::from_micros(2_000 + (round * 7_919) % 13 * 9_000);
        for (offset, name, stored) in run_child(&place, round, life) {
            if stored {
                records.push(name.clone());
            }
            assert!(acked.insert(offset, name).is_none(), "offset {offset} was given twice");
        }
        let stream = Stream::open(&place).unwrap();
        let held = stream.ledger.read(0, usize::MAX).unwrap();
        assert_eq!(held.len() as u64, stream.ledger.end());
        for (&offset, name) in &acked {
            assert_eq!(held[offset as usize].1.item, format!("{name}-a"));
            assert_eq!(held[offset as usize + 1].1.item, format!("{name}-b"), "half a batch is there");
        }
        for name in &records {
            assert!(stream.records.items().get(name).unwrap().is_some(), "record {name} is gone");
        }
    }
    assert!(acked.len() > 20, "the children were killed too early to try anything");
    let stream = Stream::open(&place).unwrap();
    let profiles = Profiles::rebuild(&stream, Limits::default(), &mut |_, _| ()).unwrap();
    assert_eq!(profiles.get("u").unwrap().history.len(), (2 * acked.len()).min(500));
}
