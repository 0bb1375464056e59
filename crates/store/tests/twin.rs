//! The store against a map of scalars that does the same, slowly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_store::{RowInit, RowOptim, Rows, RowsMut, Store, TableConfig};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const DIM: usize = 3;

fn config(optim: RowOptim, l2: f32) -> TableConfig {
    let init = RowInit::Uniform(0.1);
    TableConfig { init, optim, l2, seed: 11, ..TableConfig::new("user/dim3", DIM) }
}

fn optims() -> [RowOptim; 9] {
    let (lr, eps, decay) = (0.1, 1e-4, 0.1);
    [
        RowOptim::AdaGradRowWise { lr, eps: 1e-8, initial_accumulator: 0.1 },
        RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        RowOptim::Sgd { lr },
        RowOptim::Momentum { lr, momentum: 0.9, nesterov: false },
        RowOptim::Momentum { lr, momentum: 0.5, nesterov: true },
        RowOptim::AdaGrad { lr, eps: 1e-8, initial_accumulator: 0.1 },
        RowOptim::LazyAdamW { lr: 0.01, beta1: 0.9, beta2: 0.999, eps, decay },
        RowOptim::RmsProp { lr: 0.01, alpha: 0.9, eps },
        RowOptim::Ftrl { alpha: 0.1, beta: 1.0, l1: 0.05, l2: 0.1 },
    ]
}

/// Weights, first and second moment (or accumulator) of one row, in f64.
type Row = [[f64; DIM]; 3];

struct Twin {
    config: TableConfig,
    rows: HashMap<u64, Row>,
    step: i32,
    scale: f64,
}

impl Twin {
    fn new(config: TableConfig) -> Self {
        Self { config, rows: HashMap::new(), step: 0, scale: 1.0 }
    }

    fn row(&mut self, key: u64) -> &mut Row {
        let config = &self.config;
        self.rows.entry(key).or_insert_with(|| {
            // A store of its own per key: a row must not depend on what came before it.
            let alone = Store::with_shards(vec![config.clone()], 1).unwrap();
            let mut start = [0.0; DIM];
            alone.pull_or_init(alone.table(&config.name).unwrap(), &[key], &mut start).unwrap();
            let mut row = [[0.0; DIM]; 3];
            row[0] = start.map(f64::from);
            match config.optim {
                RowOptim::AdaGradRowWise { initial_accumulator: a, .. }
                | RowOptim::AdaGrad { initial_accumulator: a, .. } => row[1] = [f64::from(a); DIM],
                RowOptim::Ftrl { alpha, beta, l1, l2 } => {
                    let slope = f64::from(beta) / f64::from(alpha) + f64::from(l2);
                    row[1] = row[0].map(|w| -(w * slope + w.signum() * f64::from(l1)));
                }
                _ => {}
            }
            row
        })
    }

    fn push(&mut self, keys: &[u64], grads: &[f32]) {
        self.step += 1;
        let mut sums: BTreeMap<u64, [f64; DIM]> = BTreeMap::new();
        for (key, grad) in keys.iter().zip(grads.chunks(DIM)) {
            let sum = sums.entry(*key).or_default();
            (0..DIM).for_each(|d| sum[d] += f64::from(grad[d]));
        }
        let (optim, l2, step, scale) = (self.config.optim, f64::from(self.config.l2), self.step, self.scale);
        for (key, mut g) in sums {
            let [w, m, v] = self.row(key);
            (0..DIM).for_each(|d| g[d] += l2 * w[d]);
            update(optim, [w, m, v], g, (step, scale));
        }
    }
}

fn update(optim: RowOptim, [w, m, v]: [&mut [f64; DIM]; 3], g: [f64; DIM], (step, scale): (i32, f64)) {
    if let RowOptim::AdaGradRowWise { .. } = optim {
        m[0] += g.iter().map(|g| g * g).sum::<f64>() / DIM as f64;
    }
    let first = m[0];
    for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
        match optim {
            RowOptim::Sgd { lr } => *w -= f64::from(lr) * scale * g,
            RowOptim::AdaGradRowWise { lr, eps, .. } => {
                *w -= f64::from(lr) * scale / (first.sqrt() + f64::from(eps)) * g;
            }
            RowOptim::LazyAdam { lr, beta1, beta2, eps } => {
                let [lr, b1, b2, eps] = [lr, beta1, beta2, eps].map(f64::from);
                let rate = lr * scale * (1.0 - b2.powi(step)).sqrt() / (1.0 - b1.powi(step));
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w -= rate * *m / (v.sqrt() + eps);
            }
            RowOptim::LazyAdamW { lr, beta1, beta2, eps, decay } => {
                let [lr, b1, b2, eps, decay] = [lr, beta1, beta2, eps, decay].map(f64::from);
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w -= lr * scale * decay * *w;
                let root = (*v / (1.0 - b2.powi(step))).sqrt() + eps;
                *w -= lr * scale * *m / (1.0 - b1.powi(step)) / root;
            }
            RowOptim::Momentum { lr, momentum, nesterov } => {
                *m = f64::from(momentum) * *m + g;
                let ahead = if nesterov { g + f64::from(momentum) * *m } else { *m };
                *w -= f64::from(lr) * scale * ahead;
            }
            RowOptim::AdaGrad { lr, eps, .. } => {
                *m += g * g;
                *w -= f64::from(lr) * scale * g / (m.sqrt() + f64::from(eps));
            }
            RowOptim::RmsProp { lr, alpha, eps } => {
                *m = f64::from(alpha) * *m + (1.0 - f64::from(alpha)) * g * g;
                *w -= f64::from(lr) * scale * g / (m.sqrt() + f64::from(eps));
            }
            RowOptim::Ftrl { alpha, beta, l1, l2 } => {
                let [alpha, beta, l1, l2] = [alpha, beta, l1, l2].map(f64::from);
                let alpha = alpha * scale;
                *m += g - ((*v + g * g).sqrt() - v.sqrt()) / alpha * *w;
                *v += g * g;
                let slope = (beta + v.sqrt()) / alpha + l2;
                *w = if m.abs() <= l1 { 0.0 } else { -(*m - l1 * m.signum()) / slope };
            }
        }
    }
}

fn batches() -> impl Strategy<Value = Vec<Vec<(u64, [f32; DIM])>>> {
    let entry = (0u64..12, prop::array::uniform3(-1.0f32..1.0));
    prop::collection::vec(prop::collection::vec(entry, 0..30), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_pushes_agree_with_the_scalar_twin(batches in batches(), l2 in 0.0f32..0.1, shards in 0u32..4) {
        for optim in optims() {
            let store = Store::with_shards(vec![config(optim, l2)], 1 << shards).unwrap();
            let table = store.table("user/dim3").unwrap();
            let mut twin = Twin::new(config(optim, l2));
            for (at, batch) in batches.iter().enumerate() {
                let keys: Vec<u64> = batch.iter().map(|(key, _)| *key).collect();
                let grads: Vec<f32> = batch.iter().flat_map(|(_, grad)| *grad).collect();
                twin.scale = f64::from(1.0 / (at as f32 + 1.0));
                store.set_learning_rate(twin.scale as f32).unwrap();
                store.push(table, &keys, &grads).unwrap();
                twin.push(&keys, &grads);
            }
            prop_assert_eq!(store.len(table).unwrap(), twin.rows.len());
            for (key, row) in &twin.rows {
                let mut out = [0.0; DIM];
                store.pull(table, &[*key], &mut out).unwrap();
                for d in 0..DIM {
                    prop_assert!((f64::from(out[d]) - row[0][d]).abs() < 4e-6, "{optim:?} {out:?} {row:?}");
                }
            }
        }
    }
}

/// Numbers that look random but are the same each time.
fn noise(at: usize) -> f32 {
    ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 24) as f32 - 0.5
}

fn weights(store: &Store, name: &str) -> Vec<(u64, Vec<u32>)> {
    let mut rows = Vec::new();
    let table = store.table(name).unwrap();
    store
        .for_each_row(table, |key, row| rows.push((key, row.iter().map(|x| x.to_bits()).collect())))
        .unwrap();
    rows
}

#[test]
fn many_keys_in_parallel_give_the_bits_of_one_shard() {
    let keys: Vec<u64> = (0..20_000u64).map(|at| (at * 7919) % 15_000).collect();
    let grads: Vec<f32> = (0..keys.len() * DIM).map(noise).collect();
    for optim in optims() {
        let run = |shards| {
            let store = Store::with_shards(vec![config(optim, 0.01)], shards).unwrap();
            let table = store.table("user/dim3").unwrap();
            let mut out = vec![0.0; grads.len()];
            for _ in 0..3 {
                store.pull_or_init(table, &keys, &mut out).unwrap();
                store.push(table, &keys, &grads).unwrap();
            }
            store.pull(table, &keys, &mut out).unwrap();
            (weights(&store, "user/dim3"), out.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        };
        assert!(run(1) == run(64), "{optim:?}");
    }
}

#[test]
fn unique_keys_take_the_fast_path_to_the_same_bits() {
    let keys: Vec<u64> = (0..9_000).map(|at| at * 31).collect();
    let grads: Vec<f32> = (0..keys.len() * DIM).map(noise).collect();
    for optim in optims() {
        let [slow, fast] = [0, 1].map(|_| Store::new(vec![config(optim, 0.01)]).unwrap());
        let table = slow.table("user/dim3").unwrap();
        slow.push(table, &keys, &grads).unwrap();
        fast.push_unique(table, &keys, &grads).unwrap();
        assert!(weights(&slow, "user/dim3") == weights(&fast, "user/dim3"));
    }
}

#[test]
fn a_new_row_does_not_depend_on_the_order_of_arrival_but_on_name_seed_and_key() {
    let start = |name: &str, seed, keys: &[u64]| {
        let config = TableConfig { name: name.into(), seed, ..config(optims()[0], 0.0) };
        let store = Store::new(vec![config]).unwrap();
        let mut out = vec![0.0; keys.len() * DIM];
        store.pull_or_init(store.table(name).unwrap(), keys, &mut out).unwrap();
        weights(&store, name)
    };
    let first = start("a", 1, &[5, 9, 1]);
    assert_eq!(first, start("a", 1, &[1, 5, 9, 5]));
    assert_ne!(first, start("b", 1, &[5, 9, 1]));
    assert_ne!(first, start("a", 2, &[5, 9, 1]));
    assert_ne!(first[0].1, first[1].1);
}

#[test]
fn initial_rows_have_the_asked_for_spread() {
    for (init, deviation) in
        [(RowInit::Zero, 0.0), (RowInit::Uniform(0.3), 0.3 / 3f64.sqrt()), (RowInit::Normal(0.2), 0.2)]
    {
        let store = Store::new(vec![TableConfig { init, dim: 5, ..config(optims()[0], 0.0) }]).unwrap();
        let keys: Vec<u64> = (0..20_000).collect();
        let mut out = vec![0.0; keys.len() * 5];
        store.pull_or_init(store.table("user/dim3").unwrap(), &keys, &mut out).unwrap();
        let mean = out.iter().map(|&x| f64::from(x)).sum::<f64>() / out.len() as f64;
        let square = out.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / out.len() as f64;
        assert!(mean.abs() < 0.003 && (square.sqrt() - deviation).abs() < 0.003, "{init:?}");
    }
}

#[test]
fn an_unknown_key_pulls_zeros_and_makes_no_row() {
    let store = Store::new(vec![config(optims()[1], 0.0)]).unwrap();
    let table = store.table("user/dim3").unwrap();
    let mut out = [7.0; 2 * DIM];
    store.pull(table, &[3, 3], &mut out).unwrap();
    assert_eq!(out, [0.0; 2 * DIM]);
    assert!(store.is_empty() && store.len(table).unwrap() == 0);
}

#[test]
fn bad_calls_are_refused_with_one_sentence_and_change_nothing() {
    let store = Store::new(vec![config(optims()[0], 0.0)]).unwrap();
    let table = store.table("user/dim3").unwrap();
    let say = |e: millstream_store::Error| e.to_string();
    assert_eq!(
        say(store.table("user/dim4").unwrap_err()),
        "unknown table `user/dim4`; did you mean `user/dim3`?"
    );
    assert_eq!(
        say(store.push(table, &[8, 9], &[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0]).unwrap_err()),
        "push on table `user/dim3`: the gradient of key 9 is not finite"
    );
    assert!(say(store.push(table, &[8], &[0.0]).unwrap_err()).contains("do not fit 1 floats"));
    assert!(store.pull(table, &[8], &mut []).is_err());
    assert!(store.set_learning_rate(f32::NAN).is_err() && store.is_empty());
    let flawed = |change: fn(&mut TableConfig)| {
        let mut config = config(optims()[1], 0.0);
        change(&mut config);
        say(Store::new(vec![config]).unwrap_err())
    };
    assert!(flawed(|c| c.dim = 0).contains("dim is 0, expected from 1"));
    assert!(flawed(|c| c.optim = RowOptim::Sgd { lr: -1.0 }).contains("lr is -1"));
    assert!(flawed(|c| c.l2 = f32::NAN).contains("l2 is NaN"));
    let twice = vec![config(optims()[0], 0.0), config(optims()[1], 0.0)];
    assert!(say(Store::new(twice).unwrap_err()).contains("there twice"));
}

#[test]
fn threads_that_push_at_once_lose_no_update() {
    let mut config = config(RowOptim::Sgd { lr: 1.0 }, 0.0);
    config.init = RowInit::Zero;
    let store = Store::new(vec![config]).unwrap();
    let table = store.table("user/dim3").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    store.push(table, &[1, 2, 1], &[-1.0; 3 * DIM]).unwrap();
                }
            });
        }
    });
    let mut out = [0.0; 2 * DIM];
    store.pull(table, &[1, 2], &mut out).unwrap();
    assert_eq!(out, [1600.0, 1600.0, 1600.0, 800.0, 800.0, 800.0]);
}

#[test]
fn few_keys_at_a_time_and_many_pull_the_same_rows() {
    for shards in [1, 64] {
        let store = Store::with_shards(vec![config(RowOptim::Sgd { lr: 0.1 }, 0.0)], shards).unwrap();
        let table = store.table("user/dim3").unwrap();
        let there: Vec<u64> = (0..3000).map(|k| k * 2).collect();
        store.pull_or_init(table, &there, &mut vec![0.0; 3000 * DIM]).unwrap();
        // Repeated keys, and every other one that is not there.
        let keys: Vec<u64> = (0..9000).map(|k| k * 7 % 6001).collect();
        let pull = |keys: &[u64]| {
            let mut out = vec![f32::NAN; keys.len() * DIM];
            store.pull(table, keys, &mut out).unwrap();
            out
        };
        let whole = pull(&keys);
        assert!(whole.iter().all(|v| v.is_finite()) && whole[14 * DIM] != 0.0);
        for at_once in [1, 15, 16, 17, 500] {
            let parts: Vec<f32> = keys.chunks(at_once).flat_map(pull).collect();
            assert_eq!(parts, whole, "{at_once} at a time, {shards} shards");
        }
    }
}
