//! Row optimisers against PyTorch, and FTRL against a scalar program in f64.
#![allow(clippy::unwrap_used)]

use millstream_store::{RowInit, RowOptim, Rows, RowsMut, Store, TableConfig, TableId};

const DIM: usize = 3;

fn store(optim: RowOptim, l2: f32, dim: usize) -> (Store, TableId) {
    let config = TableConfig { init: RowInit::Zero, optim, l2, ..TableConfig::new("t", dim) };
    let store = Store::new(vec![config]).unwrap();
    let table = store.table("t").unwrap();
    (store, table)
}

/// Gradient of key `k`, coordinate `d`, step `s`.
fn gradient(k: i64, d: i64, s: i64) -> f32 {
    ((k * 7 + d * 3 + s * 5) % 11 - 5) as f32 / 4.0
}

/// Runs five steps from rows of 0.5 and gives both rows.
fn five_steps(optim: RowOptim, l2: f32, keys_of: impl Fn(i64) -> Vec<u64>) -> Vec<f32> {
    let (mut store, table) = store(optim, l2, DIM);
    let mut rows = store.exclusive();
    let mut places = Vec::new();
    rows.locate(table, &[0, 1], &mut places).unwrap();
    places.iter().for_each(|&place| rows.row(table, place)[..DIM].fill(0.5));
    for s in 1..=5 {
        let keys = keys_of(s);
        let grads: Vec<f32> =
            keys.iter().flat_map(|&k| (0..DIM as i64).map(move |d| gradient(k as i64, d, s))).collect();
        store.push(table, &keys, &grads).unwrap();
    }
    let mut out = vec![0.0; 2 * DIM];
    store.pull(table, &[0, 1], &mut out).unwrap();
    out
}

fn assert_near(what: &str, found: &[f32], expected: [f32; 2 * DIM]) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6);
    assert!(near, "{what}: {found:?}, expected {expected:?}");
}

// import torch
// g = lambda k, d, s: (((k * 7 + d * 3 + s * 5) % 11) - 5) / 4  # gradient of key k, coordinate d, step s
// for name, make in [
//     ("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
//     ("nesterov", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
//     ("adagrad", lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-10, initial_accumulator_value=0.1)),
//     ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.5)),
//     ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-3)),
//     ("sgd with l2", lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.5)),
// ]:
//     w = torch.full((2, 3), 0.5, requires_grad=True)
//     optim = make([w])
//     for s in range(1, 6):
//         w.grad = torch.tensor([[g(k, d, s) for d in range(3)] for k in range(2)])
//         optim.step()
//     print(name, [round(x, 7) for x in w.flatten().tolist()])
#[test]
fn dense_steps_agree_with_torch() {
    let eps = 1e-3;
    let adamw = RowOptim::LazyAdamW { lr: 0.1, beta1: 0.9, beta2: 0.99, eps, decay: 0.5 };
    let momentum = |nesterov| RowOptim::Momentum { lr: 0.1, momentum: 0.9, nesterov };
    for (optim, l2, expected) in [
        (momentum(false), 0.0, [-0.0021250, 0.4802925, 0.6206375, 1.0372851, 0.3264775, 0.8088951]),
        (momentum(true), 0.0, [-0.1019125, 0.5072633, 0.5335737, 1.0585566, 0.3188298, 0.9280054]),
        (
            RowOptim::AdaGrad { lr: 0.1, eps: 1e-10, initial_accumulator: 0.1 },
            0.0,
            [0.3904991, 0.4823196, 0.4928337, 0.587514, 0.5050547, 0.5529871],
        ),
        (adamw, 0.0, [0.1873179, 0.3211086, 0.4933541, 0.6363451, 0.3699798, 0.4395275]),
        (
            RowOptim::RmsProp { lr: 0.1, alpha: 0.9, eps },
            0.0,
            [0.1456891, 0.4322538, 0.4571285, 0.7779928, 0.6304778, 0.6417795],
        ),
        (RowOptim::Sgd { lr: 0.1 }, 0.5, [0.2572811, 0.4149806, 0.2996413, 0.4347192, 0.3703906, 0.5280902]),
    ] {
        assert_near(&format!("{optim:?}"), &five_steps(optim, l2, |_| vec![0, 1]), expected);
    }
}

// w = torch.nn.Embedding(2, 3, sparse=True)
// w.weight.data.fill_(0.5)
// optim = torch.optim.SparseAdam(w.parameters(), lr=0.1, betas=(0.9, 0.99), eps=1e-3)
// for s in range(1, 6):
//     optim.zero_grad()
//     keys = [0, 1, 1] if s % 2 else [1]  # key 0 only at odd steps, key 1 twice
//     loss = (w(torch.tensor(keys)) * torch.tensor([[g(k, d, s) for d in range(3)] for k in keys])).sum()
//     loss.backward()
//     optim.step()
// print("sparse adam", [round(x, 7) for x in w.weight.flatten().tolist()])
#[test]
fn lazy_steps_with_repeats_agree_with_torch() {
    let optim = RowOptim::LazyAdam { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-3 };
    let keys = |s: i64| if s % 2 == 1 { vec![0, 1, 1] } else { vec![1] };
    let expected = [0.6300954, 0.2436951, 0.5650895, 0.8059205, 0.6026738, 0.4370244];
    assert_near("lazy adam", &five_steps(optim, 0.0, keys), expected);
}

/// FTRL-Proximal as in the paper's algorithm 1, one coordinate, in f64.
struct Scalar {
    w: f64,
    z: f64,
    n: f64,
}

impl Scalar {
    fn step(&mut self, g: f64, [alpha, beta, l1, l2]: [f64; 4]) {
        let sigma = ((self.n + g * g).sqrt() - self.n.sqrt()) / alpha;
        self.z += g - sigma * self.w;
        self.n += g * g;
        self.w = match self.z.abs() <= l1 {
            true => 0.0,
            false => -(self.z - l1 * self.z.signum()) / ((beta + self.n.sqrt()) / alpha + l2),
        };
    }
}

/// Numbers in [-0.5, 0.5) that look random but are the same each time.
fn noise(at: u64) -> f32 {
    let x = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 24) as f32 - 0.5
}

/// Ten thousand steps on 64 coordinates of which each is drawn to a target of its own; the greatest gap
/// to the scalar program and the share of zeros.
fn ten_thousand_steps(l1: f32) -> (f64, f64) {
    let (alpha, beta, l2) = (0.1, 1.0, 0.01);
    let optim = RowOptim::Ftrl { alpha, beta, l1, l2 };
    let (store, table) = store(optim, 0.0, 64);
    let mut scalars: Vec<Scalar> = (0..64).map(|_| Scalar { w: 0.0, z: 0.0, n: 0.0 }).collect();
    let (mut worst, mut zeros) = (0.0f64, 0.0);
    let mut out = [0.0f32; 64];
    for step in 0..10_000u64 {
        // The gradient of a half square around a noisy target: it depends on the weight, as in training.
        let grads: Vec<f32> =
            (0..64).map(|d| 0.2 * (out[d] - noise(d as u64)) + noise(64 * step + d as u64)).collect();
        store.push(table, &[5], &grads).unwrap();
        for (scalar, &g) in scalars.iter_mut().zip(&grads) {
            scalar.step(f64::from(g), [alpha, beta, l1, l2].map(f64::from));
        }
        store.pull(table, &[5], &mut out).unwrap();
        let gap = |(s, w): (&Scalar, &f32)| (s.w - f64::from(*w)).abs();
        worst = scalars.iter().zip(&out).map(gap).fold(worst, f64::max);
        zeros += out.iter().filter(|w| **w == 0.0).count() as f64 / 64e4;
    }
    (worst, zeros)
}

#[test]
fn ftrl_agrees_with_the_scalar_program_over_ten_thousand_steps_and_l1_makes_zeros() {
    let shares = [0.0, 1.0, 10.0, 100.0].map(|l1| {
        let (worst, zeros) = ten_thousand_steps(l1);
        assert!(worst < 1e-5, "l1 {l1}: gap {worst:e}");
        zeros
    });
    assert!(shares.is_sorted_by(|a, b| a < b) && shares[0] < 0.01 && shares[3] > 0.3, "{shares:?}");
}

#[test]
fn a_fresh_ftrl_row_keeps_its_initial_weights_until_it_is_pushed_away() {
    let optim = RowOptim::Ftrl { alpha: 0.5, beta: 1.0, l1: 0.1, l2: 0.2 };
    let config = TableConfig { init: RowInit::Uniform(0.3), optim, ..TableConfig::new("t", 4) };
    let store = Store::new(vec![config]).unwrap();
    let table = store.table("t").unwrap();
    let (mut start, mut after) = ([0.0; 4], [0.0; 4]);
    store.pull_or_init(table, &[9], &mut start).unwrap();
    store.push(table, &[9], &[0.0; 4]).unwrap();
    store.pull(table, &[9], &mut after).unwrap();
    assert!(start.iter().zip(after).all(|(a, b)| (a - b).abs() < 1e-7 && *a != 0.0), "{start:?} {after:?}");
    store.set_learning_rate(0.0).unwrap();
    store.push(table, &[9], &[9.0; 4]).unwrap();
    let before = std::mem::replace(&mut after, [0.0; 4]);
    store.pull(table, &[9], &mut after).unwrap();
    assert_eq!(before, after, "a learning rate of zero changes nothing");
}
