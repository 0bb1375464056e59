//! Snapshots, and crashes at every step between the first file and the metadata.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_index::{Error, Hnsw, HnswConfig, Index, IndexMut, Inverted, Metric, Opened, Snapshots};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A vector index and an inverted one of so many items, which must always be opened together.
fn write(folder: &Path, items: u32) -> Result<(), Error> {
    let (graph, terms) = of(items);
    graph.save(folder.join("vectors.mill"))?;
    terms.save(folder.join("terms.mill"))
}

fn of(items: u32) -> (Hnsw, Inverted) {
    let graph = Hnsw::new(2, Metric::Cosine, HnswConfig { m: 4, ..HnswConfig::default() }).unwrap();
    let mut terms = Inverted::new();
    for item in 0..items {
        graph.upsert(item, &[1.0, item as f32]).unwrap();
        terms.upsert(item, item as f32, &["all"]).unwrap();
    }
    (graph, terms)
}

/// Number, items and metadata of what opens.
fn open(snapshots: &Snapshots) -> Option<(u64, usize, Vec<u8>)> {
    let opened = snapshots.open(|folder| {
        let graph = Hnsw::open_mapped(folder.join("vectors.mill"))?;
        Ok((graph, Inverted::open(folder.join("terms.mill"))?))
    });
    let Opened { value: (graph, terms), number, metadata, .. } = opened.unwrap()?;
    assert_eq!(graph.len(), terms.len(), "the files of two snapshots were mixed");
    Some((number, graph.len(), metadata))
}

#[test]
fn a_crash_at_any_step_leaves_the_older_complete_snapshot_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(dir.path().join("index")).unwrap();
    assert_eq!(open(&snapshots), None);
    let stop = || Err(Error::Input("the machine stops here".into()));
    assert!(snapshots.publish(b"", |_| stop()).is_err());
    assert_eq!(open(&snapshots), None);
    assert_eq!(snapshots.publish(b"first", |folder| write(folder, 3)).unwrap(), 1);
    let first = Some((1, 3, b"first".to_vec()));
    // Before the first file, after it, after the last.
    for files in 0..=2 {
        let outcome = snapshots.publish(b"lost", |folder| {
            let (graph, terms) = of(5);
            if files > 0 {
                graph.save(folder.join("vectors.mill"))?;
            }
            if files > 1 {
                terms.save(folder.join("terms.mill"))?;
            }
            stop()
        });
        assert!(outcome.is_err());
        assert_eq!(open(&snapshots), first);
    }
    // After the last file, within writing the manifest: it still has its temporary name.
    let manifest = fs::read(dir.path().join("index/snapshot-0000000001.mill")).unwrap();
    fs::write(dir.path().join("index/.snapshot-0000000002.mill.77-0.tmp"), &manifest[..9]).unwrap();
    assert_eq!(open(&snapshots), first);
    // After the manifest, before older ones are deleted: they are, the next time.
    assert_eq!(snapshots.publish(b"second", |folder| write(folder, 4)).unwrap(), 2);
    assert_eq!(open(&snapshots), Some((2, 4, b"second".to_vec())));
    assert_eq!(snapshots.publish(b"third", |folder| write(folder, 5)).unwrap(), 3);
    let mut left: Vec<String> = fs::read_dir(dir.path().join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let names = |n: u64| [format!("snapshot-{n:010}"), format!("snapshot-{n:010}.mill")];
    assert_eq!(left, [names(2), names(3)].concat());
}

#[test]
fn damage_to_any_file_of_the_newest_leads_back_to_the_one_before_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(dir.path()).unwrap();
    snapshots.publish(b"old", |folder| write(folder, 3)).unwrap();
    snapshots.publish(b"new", |folder| write(folder, 4)).unwrap();
    let newest = dir.path().join("snapshot-0000000002");
    for path in [newest.join("vectors.mill"), newest.join("terms.mill"), newest.with_extension("mill")] {
        let whole = fs::read(&path).unwrap();
        for at in [0, 9, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            for damaged in [&bytes[..], &whole[..at]] {
                fs::write(&path, damaged).unwrap();
                assert_eq!(open(&snapshots), Some((1, 3, b"old".to_vec())));
            }
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(open(&snapshots), Some((1, 3, b"old".to_vec())));
        fs::write(&path, whole).unwrap();
        assert_eq!(open(&snapshots), Some((2, 4, b"new".to_vec())));
    }
    fs::write(newest.join("terms.mill"), b"?").unwrap();
    let skipped = snapshots.open(|_| Ok(())).unwrap().unwrap().skipped;
    assert!(skipped.len() == 1 && skipped[0].0 == 2 && skipped[0].1.to_string().contains("terms.mill"));
    fs::remove_dir_all(dir.path().join("snapshot-0000000001")).unwrap();
    let said = snapshots.open(|_| Ok(())).unwrap_err().to_string();
    assert!(said.contains("no snapshot opens") && !said.contains('\n'), "{said}");
}

const CHILD: &str = "MILLSTREAM_TEST_SNAPSHOTS";

/// Publishes snapshots for ever, each of two files that say the same: what the test below kills.
#[test]
fn publish_until_killed() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let snapshots = Snapshots::new(folder).unwrap();
    for round in 0u32.. {
        let text = round.to_string().repeat(2000);
        let put = |path: &Path| {
            fs::write(path, &text).map_err(|source| Error::Io {
                path: path.to_owned(),
                action: "write",
                source,
            })
        };
        snapshots
            .publish(&round.to_le_bytes(), |to| put(&to.join("a")).and_then(|()| put(&to.join("b"))))
            .unwrap();
    }
}

#[test]
fn a_process_killed_at_any_moment_leaves_a_complete_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(dir.path()).unwrap();
    let mut newest = 0;
    for kill in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "publish_until_killed"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It must have published at least one more, then dies somewhere.
        while snapshots.open(|_| Ok(())).ok().flatten().is_none_or(|opened| opened.number <= newest) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(kill * 137));
        child.kill().unwrap();
        child.wait().unwrap();
        let read = |path: &Path| fs::read_to_string(path).map_err(|e| Error::Input(e.to_string()));
        let opened = snapshots
            .open(|folder| Ok([read(&folder.join("a"))?, read(&folder.join("b"))?]))
            .unwrap()
            .unwrap();
        assert!(opened.skipped.is_empty() && opened.number > newest);
        newest = opened.number;
        let round = u32::from_le_bytes(opened.metadata.try_into().unwrap());
        assert_eq!(opened.value, [round.to_string().repeat(2000), round.to_string().repeat(2000)]);
    }
}
