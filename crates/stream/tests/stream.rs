//! The ledger and the records across restarts, against each other's processes and against damage.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use millstream_schema::{Event, EventKind, Record};
use millstream_stream::{Error, EventLog, Limits, Profiles, Stream};

fn event(user: &str, item: &str, kind: EventKind, time_ms: i64) -> Event {
    Event { user: user.into(), item: item.into(), kind, time_ms, value: 1.0, request: None, position: None }
}

fn record(id: &str, title: &str) -> Record {
    Record { id: id.into(), fields: BTreeMap::from([("title".to_owned(), title.to_owned())]) }
}

fn message<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

fn journals(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("fjall")).unwrap().map(|e| e.unwrap().path());
    files.filter(|p| p.extension().is_some_and(|e| e == "jnl")).collect()
}

#[test]
fn events_keep_their_offsets_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (0..100).map(|i| event("u", &format!("i{i}"), EventKind::Click, i)).collect();
    let stream = Stream::open(dir.path()).unwrap();
    assert_eq!(stream.ledger.append(&events[..60]).unwrap(), 0);
    drop(stream);
    let stream = Stream::open(dir.path()).unwrap();
    assert_eq!(stream.ledger.end(), 60);
    assert_eq!(stream.ledger.append(&events[60..]).unwrap(), 60);
    assert_eq!(stream.ledger.append(&[]).unwrap(), 100);
    let read = stream.ledger.read(50, 20).unwrap();
    let expected: Vec<(u64, Event)> = (50..70).map(|i| (i, events[i as usize].clone())).collect();
    assert_eq!(read, expected);
    assert!(stream.ledger.read(100, 5).unwrap().is_empty());
    assert!(stream.ledger.read(u64::MAX, usize::MAX).unwrap().is_empty());
}

#[test]
fn threads_that_append_together_each_get_their_own_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Stream::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let ledger = &stream.ledger;
            scope.spawn(move || {
                for i in 0..25 {
                    let name = format!("{thread}-{i}");
                    let at = ledger.append(&[event("u", &name, EventKind::Like, 1)]).unwrap();
                    assert_eq!(ledger.read(at, 1).unwrap()[0].1.item, name);
                }
            });
        }
    });
    assert_eq!(stream.ledger.end(), 200);
}

#[test]
fn rebuilt_profiles_equal_the_live_ones_but_for_the_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Stream::open(dir.path()).unwrap();
    let live = Profiles::new(Limits { history: 7, seen: 9 });
    for i in 0..200i64 {
        let kind = if i % 3 == 0 { EventKind::Impression } else { EventKind::Click };
        let e = event(&format!("u{}", i % 5), &format!("i{}", i % 31), kind, (i * 13) % 101);
        stream.ledger.append(std::slice::from_ref(&e)).unwrap();
        live.apply(&e);
    }
    stream.records.users().put(&record("u1", "one")).unwrap();
    assert!(stream.records.forget_user("u1", stream.ledger.end()).unwrap());
    live.forget("u1");
    let after = event("u1", "later", EventKind::Click, 5);
    stream.ledger.append(std::slice::from_ref(&after)).unwrap();
    live.apply(&after);
    drop(stream);
    let stream = Stream::open(dir.path()).unwrap();
    let mut told = (0, 0);
    let rebuilt =
        Profiles::rebuild(&stream, Limits { history: 7, seen: 9 }, &mut |n, of| told = (n, of)).unwrap();
    assert_eq!(told, (201, 201));
    assert_eq!(rebuilt.len(), 5);
    for u in 0..5 {
        assert_eq!(rebuilt.get(&format!("u{u}")), live.get(&format!("u{u}")));
    }
    assert_eq!(rebuilt.get("u1").unwrap().history.len(), 1);
}

#[test]
fn records_are_created_once_replaced_listed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Stream::open(dir.path()).unwrap();
    let items = stream.records.items();
    assert!(items.is_empty().unwrap());
    assert!(items.create(&record("b", "first")).unwrap());
    assert!(!items.create(&record("b", "second")).unwrap());
    items.put(&record("b", "third")).unwrap();
    items.put_many(&["a", "ab", "abc", "c"].map(|id| record(id, id))).unwrap();
    assert!(items.delete("c").unwrap());
    assert!(!items.delete("c").unwrap());
    drop(stream);
    let stream = Stream::open(dir.path()).unwrap();
    let items = stream.records.items();
    assert_eq!(items.get("b").unwrap().unwrap().get("title"), "third");
    assert_eq!(items.get("c").unwrap(), None);
    let ids = |after, prefix, limit| -> Vec<String> {
        items.list(after, prefix, limit).unwrap().into_iter().map(|r| r.id).collect()
    };
    assert_eq!(ids(None, "", 2), ["a", "ab"]);
    assert_eq!(ids(Some("ab"), "", 9), ["abc", "b"]);
    assert_eq!(ids(None, "ab", 9), ["ab", "abc"]);
    assert_eq!(ids(Some("ab"), "ab", 9), ["abc"]);
    assert!(stream.records.users().is_empty().unwrap());
}

#[test]
fn ids_that_cannot_be_stored_are_refused_and_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Stream::open(dir.path()).unwrap();
    let good = event("u", "i", EventKind::Click, 1);
    for bad in ["", "a\nb", &"x".repeat(300)] {
        let events = [good.clone(), event("u", bad, EventKind::Click, 1)];
        assert!(message(stream.ledger.append(&events)).contains("`item`"));
        assert!(message(stream.records.users().put(&record(bad, ""))).contains("`id`"));
    }
    assert_eq!(stream.ledger.end(), 0);
}

#[test]
fn a_directory_in_use_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let _held = Stream::open(dir.path()).unwrap();
    let told = message(Stream::open(dir.path()));
    assert!(told.contains("in use by another process"), "{told}");
}

#[test]
fn an_unfinished_last_write_is_dropped_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Stream::open(dir.path()).unwrap();
    stream.ledger.append(&[event("u", "i", EventKind::Click, 1)]).unwrap();
    drop(stream);
    drop(Stream::open(dir.path()).unwrap());
    // After a reopening the journal ends where its last write ends.
    let journal = journals(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&journal).unwrap();
    let torn = bytes[..20].to_vec();
    bytes.extend(torn);
    fs::write(&journal, bytes).unwrap();
    let stream = Stream::open(dir.path()).unwrap();
    assert_eq!(stream.ledger.end(), 1);
    assert_eq!(stream.ledger.append(&[event("u", "j", EventKind::Click, 1)]).unwrap(), 1);
}

#[test]
fn any_damage_to_the_journal_is_an_error_and_never_a_silent_loss() {
    for place in [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98] {
        let dir = tempfile::tempdir().unwrap();
        let stream = Stream::open(dir.path()).unwrap();
        for i in 0..50 {
            stream.ledger.append(&[event("u", &format!("i{i}"), EventKind::Click, i)]).unwrap();
        }
        drop(stream);
        drop(Stream::open(dir.path()).unwrap());
        let journal = journals(dir.path()).pop().unwrap();
        let mut bytes = fs::read(&journal).unwrap();
        let at = (bytes.len() as f64 * place) as usize;
        for byte in &mut bytes[at..at + 3] {
            *byte = !*byte;
        }
        fs::write(&journal, bytes).unwrap();
        match Stream::open(dir.path()) {
            // The sequence number of a write has no checksum; a wrong one does no harm.
            Ok(stream) => {
                let held = stream.ledger.read(0, 99).unwrap();
                assert!((0..50).all(|i| held[i].1.item == format!("i{i}")));
            }
            Err(error) => {
                let told = error.to_string();
                assert!(told.contains("damaged") && !told.contains('\n'), "{told}");
            }
        }
    }
}

#[test]
fn a_missing_or_junk_file_is_one_sentence() {
    for junk in [None, Some(vec![7u8; 5000])] {
        let dir = tempfile::tempdir().unwrap();
        drop(Stream::open(dir.path()).unwrap());
        let tree = dir.path().join("fjall/keyspaces/1/current");
        match junk {
            Some(junk) => fs::write(tree, junk).unwrap(),
            None => fs::write(dir.path().join("fjall/version"), b"junk").unwrap(),
        }
        let told = message(Stream::open(dir.path()));
        assert!(told.contains("damaged") && !told.contains('\n'), "{told}");
    }
}

#[test]
fn a_creation_that_was_cut_off_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("fjall.new/keyspaces")).unwrap();
    fs::write(dir.path().join("fjall.new/0.jnl"), b"").unwrap();
    assert_eq!(Stream::open(dir.path()).unwrap().ledger.end(), 0);
}
