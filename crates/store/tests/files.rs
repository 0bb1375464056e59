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
        init: RowInit::Normal(0.1),
        optim,
        l2: 0.001,
        seed: 3,
        ..TableConfig::new(name, dim)
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

// Made by version 1 of the format, with this program:
//     let config = |name: &str, dim, init, optim| TableConfig { name: name.into(), dim, init, optim, l2: 0.01, seed: 9 };
//     let store = Store::new(vec![
//         config("item", 3, RowInit::Normal(0.1), RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8 }),
//         config("user", 2, RowInit::Uniform(0.5), RowOptim::AdaGradRowWise { lr: 0.1, eps: 1e-6, initial_accumulator: 0.1 }),
//         config("bias", 1, RowInit::Zero, RowOptim::Sgd { lr: 0.1 }),
//     ])?;
//     store.set_learning_rate(0.5)?;
//     for (name, dim) in [("item", 3), ("user", 2), ("bias", 1), ("item", 3)] {
//         let keys = [7, 1 << 40, 7, u64::MAX, 0];
//         let grads: Vec<f32> = (0..keys.len() * dim).map(|at| at as f32 / 8.0 - 0.5).collect();
//         store.push(store.table(name)?, &keys, &grads)?;
//     }
//     store.save("rows.mill")?; // then the bits of all rows were printed
#[test]
fn a_file_of_version_1_opens_and_learns_on() {
    let path = Path::new("tests/v1/rows.mill");
    let store = Store::open(path).unwrap();
    assert_eq!(store.learning_rate(), 0.5);
    let bits = |name: &str| {
        let mut rows = Vec::new();
        let each = |key, row: &[f32]| rows.push((key, row.iter().map(|x| x.to_bits()).collect::<Vec<_>>()));
        store.for_each_row(store.table(name).unwrap(), each).unwrap();
        rows
    };
    let item = [
        [0xbb99_4de7, 0x3e37_0d46, 0xbe0e_c36f],
        [0x3dc4_6808, 0x3dac_e479, 0x3cee_6c6d],
        [0x3ca0_6d0e, 0xbb86_edf2, 0x3d26_a5be],
        [0x3d8a_6c25, 0xbe39_bedd, 0xbd08_fb67],
    ];
    let user = [[0x3e24_1631, 0xbe9d_3536], [0xbd87_1d82, 0x3dd4_33f1], [0x3e3b_270c, 0xbede_8752]];
    let keys = [0, 7, 1 << 40, u64::MAX];
    assert_eq!(bits("item"), keys.into_iter().zip(item.map(Vec::from)).collect::<Vec<_>>());
    assert_eq!(bits("user")[..3], keys.into_iter().zip(user.map(Vec::from)).collect::<Vec<_>>());
    assert_eq!(bits("bias")[1..3], [(7, vec![0x3d19_999a]), (1 << 40, vec![0x3c99_999a])]);
    let (_, config) = store.tables().next().unwrap();
    let optim = RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8 };
    let init = RowInit::Normal(0.1);
    assert_eq!(*config, TableConfig { init, optim, l2: 0.01, seed: 9, ..TableConfig::new("item", 3) });
    // Saved in the present version it is the same, and goes on alike.
    let again = Store::read_from(&mut &bytes(&store)[..], Path::new("again")).unwrap();
    for store in [&store, &again] {
        store.push(store.table("item").unwrap(), &[7, 8], &[0.5; 6]).unwrap();
    }
    assert!(bytes(&store) == bytes(&again));
    let mark = store.mark();
    store.push(store.table("bias").unwrap(), &[7], &[0.5]).unwrap();
    assert_eq!(store.delta_since(&mark).unwrap().rows(), (1, 0), "the one row touched since");
}

#[test]
fn any_number_of_shards_reads_what_any_other_wrote() {
    let store = Store::with_shards(tables(), 1).unwrap();
    step(&store, 5000);
    let whole = bytes(&store);
    for shards in [1, 2, 64, 4096] {
        let again = Store::read_with_shards(&mut &whole[..], Path::new("rows"), shards).unwrap();
        assert!(whole == bytes(&again), "{shards} shards");
        step(&again, 100);
        let other = Store::read_with_shards(&mut &whole[..], Path::new("rows"), 8).unwrap();
        step(&other, 100);
        assert!(bytes(&other) == bytes(&again), "{shards} shards");
    }
    for shards in [0, 3, 8192] {
        assert!(Store::read_with_shards(&mut &whole[..], Path::new("rows"), shards).is_err());
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
