//! Graph indexes of a run, and `index bench`, through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use support::server::{Server, World};
use support::{json, refused};

/// The one file of the newest snapshot of the two towers' graph, and the number of that snapshot.
fn newest(run: &Path) -> (PathBuf, String) {
    let folder = run.join("index/retrievers/two_tower");
    let names = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let newest = names.filter(|name| !name.ends_with(".mill")).max().unwrap();
    (folder.join(&newest).join("graph.mill"), newest)
}

#[test]
fn a_server_opens_the_graph_that_an_earlier_start_published_and_builds_a_damaged_one_again() {
    let world = World::new();
    let (run, (user, _)) = (world.run(), world.ids());
    assert!(!run.join("index").exists(), "few items need no graph");
    let mut config: toml::Table =
        fs::read_to_string(run.join("run.toml")).unwrap_or_default().parse().unwrap();
    let index: toml::Table = "from = 1\nef = 200\nm = 8".parse().unwrap();
    config.insert("index".into(), index.into());
    fs::write(run.join("run.toml"), config.to_string()).unwrap();
    let feed = || {
        let server = Server::start(&run);
        let feed = server.feed(&user, 10);
        server.kill();
        feed
    };
    let first = feed();
    let (file, number) = newest(&run);
    let (bytes, written) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    assert_eq!((first.len(), feed()), (10, first.clone()));
    assert_eq!(newest(&run), (file.clone(), number.clone()));
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
    fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    assert_eq!(feed(), first);
    let (again, later) = newest(&run);
    assert!(later > number && fs::read(again).unwrap() == bytes);
    // Other options make another graph.
    config["index"].as_table_mut().unwrap().insert("storage".into(), "bf16".into());
    fs::write(run.join("run.toml"), config.to_string()).unwrap();
    assert_eq!(feed().len(), 10);
    let (smaller, last) = newest(&run);
    assert!(last > later && fs::metadata(smaller).unwrap().len() < bytes.len() as u64);
}

/// As `numpy.save` writes it.
fn npy(rows: usize, dim: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend((0..rows * dim).flat_map(|at| (at as f32 * 0.7).sin().to_le_bytes()));
    bytes
}

#[test]
fn a_filter_is_measured_and_the_report_says_what_it_measured() {
    let dir = tempfile::tempdir().unwrap();
    let bench = "index bench --synthetic clustered --items 2000 --dim 16 --queries 20 --rounds 1";
    let all = json(dir.path(), bench);
    assert_eq!(all["passing"], 2000);
    let some = json(dir.path(), &format!("{bench} --pass 0.05 --metric inner-product --ef 20,40"));
    let passing = some["passing"].as_u64().unwrap();
    assert!((50..200).contains(&passing), "{some}");
    let points = some["points"].as_array().unwrap();
    assert!(points.iter().all(|p| p["recall"].as_f64().unwrap() > 0.9 && p["qps"].as_f64().unwrap() > 0.0));
    assert_eq!((&some["at_most"], &some["qps_at_95"]), (&points[0]["ef"], &points[0]["qps"]));
}

#[test]
fn vectors_and_options_that_cannot_be_measured_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("items.npy"), npy(50, 4)).unwrap();
    fs::write(dir.join("none.npy"), npy(0, 4)).unwrap();
    fs::write(dir.join("neg.fvecs"), [(-3i32).to_le_bytes(), 1.0f32.to_le_bytes()].concat()).unwrap();
    let files = "index bench --vectors items.npy --queries-from";
    refused(dir, &format!("{files} none.npy"), &["none.npy holds no vectors"]);
    refused(dir, "index bench --vectors none.npy --queries-from items.npy", &["none.npy holds no vectors"]);
    refused(dir, "index bench --vectors neg.fvecs", &["neg.fvecs", "header is not sound", "-3 numbers"]);
    refused(dir, &format!("{files} items.npy --ef 5"), &["--ef 5", "--k 10"]);
    refused(dir, &format!("{files} items.npy --pass 2"), &["--pass is 2", "at most 1"]);
    refused(dir, &format!("{files} items.npy --pass 0.000001"), &["--pass 0.000001", "none of 50 items"]);
}
