//! Stores and containers on disk: what comes back, and what is said of damage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_store::{
    Container, ContainerWriter, Error, RowInit, RowOptim, Rows, RowsMut, Store, TableConfig, TableId,
};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

fn tables() -> Vec<TableConfig> {
    let config = |name: &str, dim, optim| TableConfig {
        name: name.into(),
        dim,
        init: RowInit::Normal(0.1),
        optim,
        l2: 0.001,
        seed: 3,
    };
    vec![
        config("item", 5, RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8 }),
        config("user", 2, RowOptim::AdaGradRowWise { lr: 0.1, eps: 1e-6, initial_accumulator: 0.0 }),
        config("empty", 4, RowOptim::Sgd { lr: 0.1 }),
    ]
}

fn step(store: &Store, keys: u64) {
    for (table, dim) in [("item", 5), ("user", 2)] {
        let keys: Vec<u64> = (0..keys).map(|key| key.wrapping_mul(0x1234_5678_9abc_def1)).collect();
        let grads: Vec<f32> = (0..keys.len() * dim).map(|at| (at as f32).sin()).collect();
        store.push(store.table(table).unwrap(), &keys, &grads).unwrap();
    }
}

fn bytes(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.write_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_reopened_store_answers_and_learns_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.mill");
    let store = Store::with_shards(tables(), 4).unwrap();
    step(&store, 3000);
    store.set_learning_rate(0.25).unwrap();
    store.save(&path).unwrap();
    let again = Store::open(&path).unwrap();
    again.check_tables(&tables()).unwrap();
    assert_eq!(again.learning_rate(), 0.25);
    assert!(bytes(&store) == bytes(&again));
    step(&store, 4000);
    step(&again, 4000);
    assert!(bytes(&store) == bytes(&again));
    let pull = |store: &Store, table: TableId| {
        let mut out = vec![0.0; 2 * store.dim(table).unwrap()];
        store.pull(table, &[0, 0x1234_5678_9abc_def1], &mut out).unwrap();
        out
    };
    for (table, _) in store.tables() {
        assert_eq!(pull(&store, table), pull(&again, table));
    }
}

#[test]
fn a_store_of_other_tables_is_told_apart() {
    let store = Store::new(tables()).unwrap();
    let mut other = tables();
    other[1].dim = 3;
    assert!(store.check_tables(&other).unwrap_err().to_string().starts_with("table `user` differs"));
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_saved_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.mill");
    let store = Store::new(tables()).unwrap();
    step(&store, 4);
    store.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: String| {
        fs::write(&path, bytes).unwrap();
        let said = Store::open(&path).expect_err(&what).to_string();
        assert!(said.contains("rows.mill") && !said.contains('\n'), "{what}: {said}");
    };
    for len in 0..whole.len() {
        refused(&whole[..len], format!("cut to {len}"));
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        refused(&bytes, format!("byte {at} flipped"));
    }
    refused(&[whole.clone(), vec![0]].concat(), "one byte more".into());
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_bare_stream_is_refused() {
    let store = Store::new(tables()).unwrap();
    step(&store, 3);
    let whole = bytes(&store);
    let read = |bytes: &[u8]| Store::read_from(&mut &bytes[..], Path::new("stream"));
    assert!(bytes(&read(&whole).unwrap()) == whole);
    for len in 0..whole.len() {
        let said = read(&whole[..len]).unwrap_err().to_string();
        assert_eq!(said, "stream is damaged: it is cut short");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x80;
        assert!(read(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn sections_come_back_by_name_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.mill");
    let mut out = ContainerWriter::create(&path, *b"TEST", 3).unwrap();
    out.section("one", |w| w.write_all(b"first")).unwrap();
    out.section("none", |_| Ok(())).unwrap();
    out.section("big", |w| (0..300_000u32).try_for_each(|x| w.write_all(&x.to_le_bytes()))).unwrap();
    assert!(matches!(out.section("one", |_| Ok(())), Err(Error::Input(_))));
    assert!(!path.exists());
    out.commit().unwrap();
    let mut file = Container::open(&path, *b"TEST", 5).unwrap();
    assert_eq!(file.version(), 3);
    assert_eq!(file.names().collect::<Vec<_>>(), ["one", "none", "big"]);
    assert_eq!(file.section("big").unwrap().len(), 1_200_000);
    assert_eq!(file.section("one").unwrap(), b"first");
    assert_eq!(file.section("none").unwrap(), b"");
    let said = file.section("bog").unwrap_err().to_string();
    assert!(said.ends_with("unknown section `bog`; did you mean `big`?"), "{said}");
}

#[test]
fn each_wrong_file_gets_its_own_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.mill");
    let open = |max| Container::open(&path, *b"TEST", max).map(|_| ()).unwrap_err();
    assert!(open(1).to_string().starts_with("cannot open "));
    fs::write(&path, b"PK\x03\x04 some other thing that is long enough").unwrap();
    assert!(open(1).to_string().ends_with("file.mill is not a Millstream file"));
    fs::write(&path, b"").unwrap();
    assert!(open(1).to_string().ends_with("file.mill is damaged: it is cut short"));
    ContainerWriter::create(&path, *b"OTHR", 1).unwrap().commit().unwrap();
    assert!(open(1).to_string().ends_with("file.mill holds `OTHR`, expected `TEST`"));
    ContainerWriter::create(&path, *b"TEST", 9).unwrap().commit().unwrap();
    assert!(open(1).to_string().ends_with("has format version 9, this program reads up to 1"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(Container::open(&path, *b"TEST", 1).is_err());
    assert!(ContainerWriter::create(dir.path().join("no/such/x"), *b"TEST", 1).is_err());
}

#[test]
fn a_writer_that_fails_leaves_the_old_file_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.mill");
    fs::write(&path, b"old").unwrap();
    let mut out = ContainerWriter::create(&path, *b"TEST", 1).unwrap();
    let full = |_: &mut dyn Write| Err(io::Error::from(io::ErrorKind::StorageFull));
    let said = out.section("one", full).unwrap_err().to_string();
    assert!(said.starts_with("cannot write ") && said.contains("file.mill"), "{said}");
    assert!(out.commit().is_err());
    drop(ContainerWriter::create(&path, *b"TEST", 1).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_a_killed_writer_left_is_cleared_but_a_living_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.mill");
    let left = dir.path().join(".file.mill.99-0.tmp");
    let foreign = dir.path().join(".file.mill.notes.tmp");
    fs::write(&left, b"half").unwrap();
    fs::write(&foreign, b"mine").unwrap();
    let living = ContainerWriter::create(&path, *b"TEST", 1).unwrap();
    ContainerWriter::create(&path, *b"TEST", 2).unwrap().commit().unwrap();
    living.commit().unwrap();
    assert!(!left.exists() && foreign.exists());
    assert_eq!(Container::open(&path, *b"TEST", 2).unwrap().version(), 1);
}
