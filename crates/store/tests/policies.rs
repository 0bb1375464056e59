//! Admission, expiry, default rows and bf16 rows against a map that does the same, slowly.
#![allow(clippy::unwrap_used)]

use millstream_store::{
    Admission, DefaultRow, Expiry, RowInit, RowOptim, RowType, Rows, RowsMut, Store, TableConfig, TableId,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const DIM: usize = 2;

fn config() -> TableConfig {
    let init = RowInit::Uniform(0.5);
    TableConfig { init, optim: RowOptim::Sgd { lr: 0.5 }, seed: 3, ..TableConfig::new("t", DIM) }
}

fn open(config: TableConfig, shards: usize) -> (Store, TableId) {
    let store = Store::with_shards(vec![config], shards).unwrap();
    let table = store.table("t").unwrap();
    (store, table)
}

/// The row that a key starts with, asked of a store that has no other.
fn initial(key: u64) -> [f32; DIM] {
    let (store, table) = open(config(), 1);
    let mut row = [0.0; DIM];
    store.pull_or_init(table, &[key], &mut row).unwrap();
    row
}

/// A table in one map: weights and the step of the last touch.
struct Naive {
    config: TableConfig,
    rows: HashMap<u64, ([f32; DIM], u64)>,
    counts: HashMap<u64, u32>,
    step: u64,
}

impl Naive {
    fn pull_or_init(&mut self, keys: &[u64]) -> Vec<f32> {
        for &key in keys {
            if self.rows.contains_key(&key) {
                continue;
            }
            let enough = match self.config.admission {
                Some(Admission::Count { sightings }) => sightings,
                _ => 1,
            };
            let count = self.counts.entry(key).or_default();
            *count += 1;
            if *count >= enough {
                self.counts.remove(&key);
                self.rows.insert(key, (initial(key), self.step + 1));
            }
        }
        self.pull(keys)
    }

    fn pull(&self, keys: &[u64]) -> Vec<f32> {
        let one = |key: &u64| match (self.rows.get(key), self.config.default_row) {
            (Some((row, _)), _) => *row,
            (None, DefaultRow::Initial) => initial(*key),
            _ => [0.0; DIM],
        };
        keys.iter().flat_map(one).collect()
    }

    fn push(&mut self, keys: &[u64], grads: &[f32]) {
        self.step += 1;
        let mut sums: BTreeMap<u64, [f32; DIM]> = BTreeMap::new();
        for (key, grad) in keys.iter().zip(grads.chunks(DIM)) {
            let sum = sums.entry(*key).or_default();
            (0..DIM).for_each(|d| sum[d] += grad[d]);
        }
        for (key, sum) in sums {
            if self.config.admission.is_none() {
                self.rows.entry(key).or_insert_with(|| (initial(key), 0));
            }
            if let Some((row, touched)) = self.rows.get_mut(&key) {
                (0..DIM).for_each(|d| row[d] -= 0.5 * (sum[d] + 0.0 * row[d]));
                *touched = self.step;
            }
        }
    }

    fn expire(&mut self) -> usize {
        let Some(Expiry { max_age, zero_after }) = self.config.expiry else { return 0 };
        let (step, before) = (self.step, self.rows.len());
        self.rows.retain(|_, (row, touched)| {
            let age = step.saturating_sub(*touched);
            let zero = row.iter().all(|w| *w == 0.0);
            !(max_age.is_some_and(|most| age > most) || zero && zero_after.is_some_and(|least| age >= least))
        });
        self.counts.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
        before - self.rows.len()
    }
}

#[derive(Debug, Clone)]
enum Act {
    See(Vec<u64>),
    Pull(Vec<u64>),
    Push(Vec<u64>),
    /// A push that makes a row's weights zeros.
    Zero(u64),
    Expire,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let keys = || prop::collection::vec(0u64..10, 0..8);
    let act = prop_oneof![
        keys().prop_map(Act::See),
        keys().prop_map(Act::Pull),
        keys().prop_map(Act::Push),
        (0u64..10).prop_map(Act::Zero),
        Just(Act::Expire),
    ];
    prop::collection::vec(act, 1..40)
}

fn policies() -> impl Strategy<Value = TableConfig> {
    let admission = prop::option::of((1u32..4).prop_map(|sightings| Admission::Count { sightings }));
    let rule = (prop::option::of(0u64..6), prop::option::of(0u64..4));
    let expiry = prop::option::of(rule.prop_map(|(max_age, zero_after)| Expiry { max_age, zero_after }));
    let default_row = prop_oneof![Just(DefaultRow::Zeros), Just(DefaultRow::Initial)];
    (admission, expiry, default_row).prop_map(|(admission, expiry, default_row)| TableConfig {
        admission,
        expiry,
        default_row,
        ..config()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_store_answers_as_the_naive_one(
        config in policies(), acts in acts(), shards in 0u32..4,
    ) {
        let (store, table) = open(config.clone(), 1 << shards);
        let mut naive = Naive { config, rows: HashMap::new(), counts: HashMap::new(), step: 0 };
        for act in &acts {
            match act {
                Act::See(keys) => {
                    let mut out = vec![9.0; keys.len() * DIM];
                    store.pull_or_init(table, keys, &mut out).unwrap();
                    prop_assert_eq!(out, naive.pull_or_init(keys));
                }
                Act::Pull(keys) => {
                    let mut out = vec![9.0; keys.len() * DIM];
                    store.pull(table, keys, &mut out).unwrap();
                    prop_assert_eq!(out, naive.pull(keys));
                }
                Act::Push(keys) => {
                    let grads: Vec<f32> = (0..keys.len() * DIM).map(|at| at as f32 / 16.0 - 0.25).collect();
                    store.push(table, keys, &grads).unwrap();
                    naive.push(keys, &grads);
                }
                Act::Zero(key) => {
                    let grads: Vec<f32> = naive.pull(&[*key]).iter().map(|w| 2.0 * w).collect();
                    store.push(table, &[*key], &grads).unwrap();
                    naive.push(&[*key], &grads);
                }
                Act::Expire => prop_assert_eq!(store.expire(), naive.expire()),
            }
            prop_assert_eq!(store.len(table).unwrap(), naive.rows.len());
        }
        let mut keys = BTreeSet::new();
        store.for_each_row(table, |key, _| { keys.insert(key); }).unwrap();
        prop_assert_eq!(keys, naive.rows.keys().copied().collect());
    }
}

#[test]
fn a_key_that_a_sketch_lets_in_early_is_rare_and_none_comes_late() {
    let admission = Some(Admission::CountMin { sightings: 3, counters: 1 << 18 });
    let (store, table) = open(TableConfig { admission, ..config() }, 8);
    let keys: Vec<u64> = (0..10_000).collect();
    let mut out = vec![0.0; keys.len() * DIM];
    let rows = [0; 3].map(|_| {
        store.pull_or_init(table, &keys, &mut out).unwrap();
        store.len(table).unwrap()
    });
    assert!(rows[0] < 50 && rows[1] < 50, "{rows:?}");
    assert_eq!(rows[2], keys.len());
    let (bounded, table) = open(TableConfig { admission, ..config() }, 8);
    let empty = bounded.memory_bytes();
    bounded.pull_or_init(table, &(0..60_000).collect::<Vec<_>>(), &mut vec![0.0; 60_000 * DIM]).unwrap();
    assert!(bounded.memory_bytes() < empty + (100 << 10), "keys without a row cost nothing");
}

#[test]
fn a_mean_row_answers_for_keys_without_one() {
    let default_row = DefaultRow::Mean;
    for shards in [1, 16] {
        let (store, table) = open(TableConfig { default_row, ..config() }, shards);
        let keys: Vec<u64> = (0..1000).collect();
        let mut rows = vec![0.0; keys.len() * DIM];
        store.pull(table, &[5000], &mut rows[..DIM]).unwrap();
        assert_eq!(rows[..DIM], [0.0; DIM], "no row, no mean");
        store.pull_or_init(table, &keys, &mut rows).unwrap();
        store.push(table, &keys, &vec![0.25; rows.len()]).unwrap();
        store.pull(table, &keys, &mut rows).unwrap();
        let mean = |d| rows.iter().skip(d).step_by(DIM).map(|w| f64::from(*w)).sum::<f64>() / 1000.0;
        let mut out = [0.0; DIM];
        store.pull(table, &[5000], &mut out).unwrap();
        assert!((0..DIM).all(|d| (f64::from(out[d]) - mean(d)).abs() < 1e-6), "{out:?}");
        assert_eq!(store.len(table).unwrap(), 1000);
    }
}

#[test]
fn bf16_rows_take_half_the_memory_learn_in_small_steps_and_give_the_same_bits_at_any_number_of_shards() {
    let config = |dtype| TableConfig { dtype, init: RowInit::Zero, dim: 65, ..config() };
    let keys: Vec<u64> = (0..4000).map(|at| at * 977).collect();
    let grads = vec![-0.002; keys.len() * 65];
    let run = |dtype, shards| {
        let (store, table) = open(config(dtype), shards);
        let mut out = vec![0.0; grads.len()];
        for _ in 0..1000 {
            store.push(table, &keys[..40], &grads[..40 * 65]).unwrap();
        }
        store.push(table, &keys, &grads).unwrap();
        store.pull(table, &keys, &mut out).unwrap();
        (store.memory_bytes(), out)
    };
    let (wide, exact) = run(RowType::F32, 1);
    let (narrow, rounded) = run(RowType::Bf16, 1);
    assert!(narrow * 100 < wide * 60, "{narrow} of {wide} bytes");
    assert_eq!(rounded, run(RowType::Bf16, 32).1);
    assert!(rounded.iter().all(|w| w.to_bits() & 0xffff == 0));
    let mean = |rows: &[f32]| rows[..40 * 65].iter().map(|w| f64::from(*w)).sum::<f64>() / 2600.0;
    // 1,001 steps of 0.001; to the nearest, the weight would stop at 0.25, where half a unit is 0.001.
    assert!((mean(&exact) - 1.001).abs() < 1e-3 && (mean(&rounded) - 1.001).abs() < 5e-3);
}

#[test]
fn policies_out_of_range_are_refused() {
    let said = |admission| {
        let config = TableConfig { admission: Some(admission), ..config() };
        Store::new(vec![config]).unwrap_err().to_string()
    };
    assert!(said(Admission::Count { sightings: 0 }).contains("after 0 sightings, expected from 1"));
    let many = Admission::CountMin { sightings: 256, counters: 1 };
    assert!(said(many).contains("after 256 sightings, expected from 1 to 255"));
    let none = Admission::CountMin { sightings: 2, counters: 0 };
    assert!(said(none).contains("with 0 counters"));
}
