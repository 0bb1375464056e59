//! Stores read where they lie in their files.
#![allow(clippy::unwrap_used)]

use millstream_store::{
    ContainerWriter, DefaultRow, MappedStore, RowInit, RowOptim, RowType, Rows, RowsMut, Store, TableConfig,
};
use std::fs;
use std::path::Path;

fn tables() -> Vec<TableConfig> {
    let init = RowInit::Normal(0.1);
    let optim = RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8 };
    vec![
        TableConfig { init, optim, ..TableConfig::new("item", 16) },
        TableConfig { init, default_row: DefaultRow::Mean, ..TableConfig::new("user", 2) },
        TableConfig {
            init,
            dtype: RowType::Bf16,
            default_row: DefaultRow::Initial,
            ..TableConfig::new("half", 5)
        },
        TableConfig::new("empty", 3),
    ]
}

fn filled(rows: u64) -> Store {
    let store = Store::with_shards(tables(), 4).unwrap();
    let keys: Vec<u64> = (0..rows).map(|at| at * at).collect();
    for (table, config) in store.tables().take(3) {
        let grads: Vec<f32> = (0..keys.len() * config.dim).map(|at| (at as f32).sin()).collect();
        store.push(table, &keys, &grads).unwrap();
    }
    store
}

fn assert_same(store: &Store, mapped: &MappedStore, keys: &[u64]) {
    for (table, config) in store.tables() {
        let mut out = [vec![7.0; keys.len() * config.dim], vec![8.0; keys.len() * config.dim]];
        store.pull(table, keys, &mut out[0]).unwrap();
        mapped.pull(mapped.table(&config.name).unwrap(), keys, &mut out[1]).unwrap();
        assert!(out[0] == out[1], "table {}", config.name);
        assert_eq!(mapped.dim(table).unwrap(), config.dim);
        assert_eq!(mapped.len(table).unwrap(), store.len(table).unwrap());
    }
}

#[test]
fn a_mapped_store_answers_as_the_one_that_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.mill");
    for rows in [0, 1, 9, 20_000] {
        let store = filled(rows);
        // Every second key is unknown; there are enough to use several threads.
        let keys: Vec<u64> = (0..rows).flat_map(|at| [at * at, at * at + 1]).chain([5, 5]).collect();
        store.save(&path).unwrap();
        let mapped = MappedStore::open(&path).unwrap();
        mapped.verify().unwrap();
        assert_same(&store, &mapped, &keys);
        store.save_for_serving(&path).unwrap();
        let small = MappedStore::open(&path).unwrap();
        small.verify().unwrap();
        assert_same(&store, &small, &keys);
        assert_same(&store, &mapped, &keys); // the file under it was replaced
    }
}

#[test]
fn serving_files_hold_no_state_and_no_rows_of_zeros_and_are_not_trained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.mill");
    let optim = RowOptim::Ftrl { alpha: 0.1, beta: 1.0, l1: 1.0, l2: 0.0 };
    let store =
        Store::new(vec![TableConfig { init: RowInit::Zero, optim, ..TableConfig::new("w", 1) }]).unwrap();
    let table = store.table("w").unwrap();
    let keys: Vec<u64> = (0..1000).collect();
    let grads: Vec<f32> = keys.iter().map(|key| if key % 10 == 0 { 5.0 } else { 0.1 }).collect();
    store.push(table, &keys, &grads).unwrap();
    store.save(&path).unwrap();
    let whole = fs::metadata(&path).unwrap().len();
    store.save_for_serving(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().len() * 10 < whole);
    let mapped = MappedStore::open(&path).unwrap();
    assert_eq!((mapped.len(table).unwrap(), store.len(table).unwrap()), (100, 1000));
    let mut out = [vec![9.0; 1000], vec![9.0; 1000]];
    store.pull(table, &keys, &mut out[0]).unwrap();
    mapped.pull(table, &keys, &mut out[1]).unwrap();
    assert_eq!(out[0], out[1]);
    let said = Store::open(&path).unwrap_err().to_string();
    assert!(said.ends_with("without optimiser state; it can be mapped but not trained"), "{said}");
}

#[test]
fn rows_in_a_section_of_a_larger_file_are_mapped_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.mill");
    let store = filled(300);
    let mut out = ContainerWriter::create(&path, *b"MODL", 1).unwrap();
    out.section("header", |w| w.write_all(b"odd")).unwrap();
    out.section("rows", |w| store.write_to(w)).unwrap();
    out.section("tail", |w| w.write_all(b"more")).unwrap();
    out.commit().unwrap();
    let mapped = MappedStore::open_section(&path, *b"MODL", 1, "rows").unwrap();
    assert_same(&store, &mapped, &[0, 1, 2, 3, 4, 9]);
    let said = MappedStore::open_section(&path, *b"MODL", 1, "row").unwrap_err().to_string();
    assert!(said.ends_with("did you mean `rows`?"), "{said}");
    assert!(MappedStore::open_section(&path, *b"MODL", 1, "header").is_err());
}

#[test]
fn damage_is_found_at_opening_or_on_asking_and_a_pull_survives_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.mill");
    let store = filled(3);
    store.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let said = MappedStore::open(&path).unwrap_err().to_string();
        assert!(said.contains("rows.mill"), "cut to {len}: {said}");
    }
    let (mut early, mut late) = (0, 0);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x93;
        fs::write(&path, &bytes).unwrap();
        let Ok(mapped) = MappedStore::open(&path) else {
            early += 1;
            continue;
        };
        late += 1;
        assert!(mapped.verify().is_err(), "byte {at}");
        for (table, config) in mapped.tables() {
            mapped.pull(table, &[0, 1, 4, 9, 77, u64::MAX], &mut vec![0.0; 6 * config.dim]).unwrap();
        }
    }
    assert!(early > 100 && late > 300, "{early} early, {late} late");
}

#[test]
fn what_cannot_be_mapped_is_named() {
    let first = Path::new("tests/v1/rows.mill");
    let said = MappedStore::open(first).unwrap_err().to_string();
    assert!(said.ends_with("open it as a store and save it again"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.mill");
    assert!(MappedStore::open(&path).is_err());
    filled(3).save(&path).unwrap();
    let mapped = MappedStore::open(&path).unwrap();
    let said = mapped.table("itm").unwrap_err().to_string();
    assert_eq!(said, "unknown table `itm`; did you mean `item`?");
    let item = mapped.table("item").unwrap();
    assert!(mapped.pull(item, &[1], &mut [0.0; 3]).unwrap_err().to_string().contains("do not fit 3 floats"));
}
