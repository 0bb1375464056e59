//! Deltas: the store that takes them in order is the store that gave them, bit for bit.
#![allow(clippy::unwrap_used)]

use millstream_store::{
    Admission, DefaultRow, Delta, Expiry, RowInit, RowOptim, RowType, RowsMut, Store, TableConfig,
};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn tables() -> Vec<TableConfig> {
    let init = RowInit::Normal(0.1);
    let expiry = Some(Expiry { max_age: Some(3), zero_after: Some(0) });
    vec![
        TableConfig {
            init,
            optim: RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8 },
            expiry,
            admission: Some(Admission::Count { sightings: 2 }),
            ..TableConfig::new("item", 3)
        },
        TableConfig {
            init,
            dtype: RowType::Bf16,
            default_row: DefaultRow::Mean,
            admission: Some(Admission::CountMin { sightings: 2, counters: 1 }),
            ..TableConfig::new("user", 5)
        },
        TableConfig { optim: RowOptim::Sgd { lr: 0.5 }, expiry, ..TableConfig::new("plain", 1) },
    ]
}

fn bytes(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.write_to(&mut bytes).unwrap();
    bytes
}

fn see(store: &Store, keys: &[u64]) {
    for (table, config) in store.tables() {
        store.pull_or_init(table, keys, &mut vec![0.0; keys.len() * config.dim]).unwrap();
    }
}

fn push(store: &Store, keys: &[u64]) {
    for (table, config) in store.tables() {
        let grads: Vec<f32> = (0..keys.len() * config.dim).map(|at| (at as f32 + 0.5).sin()).collect();
        store.push(table, keys, &grads).unwrap();
    }
}

#[derive(Debug, Clone)]
enum Act {
    See(Vec<u64>),
    Push(Vec<u64>),
    Expire,
    Delta,
    /// The follower is saved and opened again.
    Reopen,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let keys = || prop::collection::vec(0u64..12, 0..10);
    let act = prop_oneof![
        2 => keys().prop_map(Act::See),
        3 => keys().prop_map(Act::Push),
        1 => Just(Act::Expire),
        2 => Just(Act::Delta),
        1 => Just(Act::Reopen),
    ];
    prop::collection::vec(act, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_follower_is_equal_bit_for_bit_after_each_delta(acts in acts(), shards in 0u32..4) {
        let store = Store::with_shards(tables(), 1 << shards).unwrap();
        let mut follower = Store::with_shards(tables(), 2).unwrap();
        for act in acts.iter().chain([&Act::Delta]) {
            match act {
                Act::See(keys) => see(&store, keys),
                Act::Push(keys) => push(&store, keys),
                Act::Expire => {
                    store.expire();
                }
                Act::Delta => {
                    let delta = store.delta_since(&follower.mark()).unwrap();
                    follower.apply(&delta).unwrap();
                    prop_assert!(bytes(&store) == bytes(&follower));
                }
                Act::Reopen => {
                    let saved = bytes(&follower);
                    follower = Store::read_with_shards(&mut &saved[..], Path::new("f"), 8).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_delta_holds_what_was_touched_and_no_more() {
    let store = Store::new(tables()).unwrap();
    see(&store, &(0..500).collect::<Vec<_>>());
    push(&store, &(0..500).collect::<Vec<_>>());
    push(&store, &[]);
    let mark = store.mark();
    push(&store, &[3, 4, 3, 900]);
    let plain = |delta: &Delta| (delta.rows(), delta.from() == mark, delta.to() == store.mark());
    // Three rows of `plain`, where every key is admitted; `item` and `user` saw no key twice.
    assert_eq!(plain(&store.delta_since(&mark).unwrap()), ((3, 0), true, true));
    assert_eq!(plain(&store.delta_since(&store.mark()).unwrap()).0, (0, 0));
}

#[test]
fn deltas_out_of_order_missing_repeated_or_foreign_are_refused_and_change_nothing() {
    let store = Store::new(tables()).unwrap();
    let mut follower = Store::new(tables()).unwrap();
    let mut deltas = Vec::new();
    for step in 0..3 {
        let mark = store.mark();
        push(&store, &[step, step + 1]);
        deltas.push(store.delta_since(&mark).unwrap());
    }
    let before = bytes(&follower);
    let said = |follower: &mut Store, at: usize| follower.apply(&deltas[at]).unwrap_err().to_string();
    assert_eq!(
        said(&mut follower, 1),
        "this delta does not follow, one before it is missing or another was applied: \
         table `item` is at step 0, the delta goes from 1 to 2"
    );
    assert!(before == bytes(&follower));
    follower.apply(&deltas[0]).unwrap();
    assert!(said(&mut follower, 0).starts_with("this delta is already in the store"));
    assert!(said(&mut follower, 2).starts_with("this delta does not follow"));
    follower.apply(&deltas[1]).unwrap();
    follower.apply(&deltas[2]).unwrap();
    assert!(bytes(&store) == bytes(&follower));
    let mut other = tables();
    other[1].seed = 8;
    let mut other = Store::new(other).unwrap();
    assert!(said(&mut other, 0).contains("its table `user` differs from table `user`"));
    let mut fewer = Store::new(tables()[..2].to_vec()).unwrap();
    assert!(said(&mut fewer, 0).contains("of 3 tables, this store has 2"));
    assert!(fewer.delta_since(&store.mark()).unwrap_err().to_string().contains("the mark is of 3 tables"));
    let ahead = Store::new(tables()).unwrap().delta_since(&store.mark()).unwrap_err().to_string();
    assert_eq!(ahead, "table `item` is at step 0, the mark at 3");
}

#[test]
fn a_mark_before_an_expiry_that_is_forgotten_asks_for_a_snapshot() {
    let store = Store::new(tables()).unwrap();
    let mark = store.mark();
    push(&store, &[1]);
    (0..5).for_each(|_| push(&store, &[]));
    assert!(store.expire() > 0);
    assert_eq!(store.delta_since(&mark).unwrap().rows().1, 1);
    let saved = bytes(&store);
    let opened = Store::read_from(&mut &saved[..], Path::new("f")).unwrap();
    let said = opened.delta_since(&mark).unwrap_err().to_string();
    assert!(said.ends_with("expired since step 0 is no longer known; save a snapshot"), "{said}");
    assert_eq!(opened.delta_since(&opened.mark()).unwrap().rows(), (0, 0));
    // More dropped rows than are remembered.
    let keys: Vec<u64> = (0..70_000).collect();
    let plain = store.table("plain").unwrap();
    store.push(plain, &keys, &vec![1.0; keys.len()]).unwrap();
    let mark = store.mark();
    (0..5).for_each(|_| push(&store, &[]));
    assert_eq!(store.expire(), keys.len());
    assert!(store.delta_since(&mark).is_err());
}

#[test]
fn a_writer_killed_between_snapshot_and_delta_leaves_a_chain_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let store = Store::new(tables()).unwrap();
    push(&store, &[1, 2, 3]);
    store.save(path("rows.mill")).unwrap();
    let mut states = vec![bytes(&store)];
    for at in 0..3u64 {
        let mark = store.mark();
        see(&store, &[at, at + 1]);
        push(&store, &[at, at + 1]);
        store.delta_since(&mark).unwrap().save(path(&format!("delta-{at}.mill"))).unwrap();
        states.push(bytes(&store));
    }
    // Killed while it wrote the fourth delta: half a hidden file and nothing under the name.
    fs::write(path(".delta-3.mill.99-0.tmp"), b"MILLSTRM").unwrap();
    let catch_up = |store: &mut Store| {
        let mut at = 0;
        while let Ok(delta) = Delta::open(path(&format!("delta-{at}.mill"))) {
            if delta.from() == store.mark() {
                store.apply(&delta).unwrap();
            }
            at += 1;
        }
        at
    };
    let mut again = Store::open(path("rows.mill")).unwrap();
    assert!(bytes(&again) == states[0]);
    assert_eq!(catch_up(&mut again), 3);
    assert!(bytes(&again) == states[3]);
    // Killed after a new snapshot, before the deltas that it holds were removed.
    again.save(path("rows.mill")).unwrap();
    let mut newest = Store::open(path("rows.mill")).unwrap();
    catch_up(&mut newest);
    assert!(bytes(&newest) == states[3]);
    // Killed before the second delta had its name: what follows is not taken for it.
    fs::remove_file(path("delta-1.mill")).unwrap();
    store.save(path("late.mill")).unwrap();
    let mut broken = Store::new(tables()).unwrap();
    push(&broken, &[1, 2, 3]);
    broken.apply(&Delta::open(path("delta-0.mill")).unwrap()).unwrap();
    let said = broken.apply(&Delta::open(path("delta-2.mill")).unwrap()).unwrap_err().to_string();
    assert!(said.contains("one before it is missing"), "{said}");
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_delta_is_refused() {
    let mut configs = tables();
    configs.remove(1); // its sketch is long
    let store = Store::new(configs).unwrap();
    let mark = store.mark();
    see(&store, &[1, 1, 2]);
    push(&store, &[1, 2]);
    let delta = store.delta_since(&mark).unwrap();
    let mut whole = Vec::new();
    delta.write_to(&mut whole).unwrap();
    let read = |bytes: &[u8]| Delta::read_from(&mut &bytes[..], Path::new("delta"));
    let mut again = Vec::new();
    read(&whole).unwrap().write_to(&mut again).unwrap();
    assert!(whole == again);
    for len in 0..whole.len() {
        let said = read(&whole[..len]).unwrap_err().to_string();
        assert!(said.starts_with("delta is damaged: it is cut short"), "{len}: {said}");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x24;
        assert!(read(&flipped).is_err(), "byte {at}");
    }
    assert!(read(&[whole.clone(), vec![0]].concat()).is_err());
    let mut snapshot = Vec::new();
    store.write_to(&mut snapshot).unwrap();
    assert!(read(&snapshot).unwrap_err().to_string().ends_with("delta is not a Millstream file"));
    assert!(Store::read_from(&mut &whole[..], Path::new("d")).is_err(), "a delta is no store");
}
