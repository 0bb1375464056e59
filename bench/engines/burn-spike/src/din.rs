//! DIN in burn: unit 128-80-40-1 over histories of up to 50 items × 32, tower 96-200-80-1 over [interest, candidate, their product],
//! ReLU, batch 1,024; plain operations on padded histories with a mask against the unit as one node over ragged ones.

use crate::clock;
use crate::table::Table;
use crate::unit::{D, UNIT, interest};
use crate::{affine, bce, floats};
use burn::module::Param;
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::Gradients;
use burn::tensor::activation::relu;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

const BATCH: usize = 1024;
const LENGTH: usize = 50;
const TOWER: [(usize, usize); 3] = [(3 * D, 200), (200, 80), (80, 1)];

#[derive(Module, Debug)]
struct Layers {
    weights: Vec<Param<Tensor<2>>>,
    biases: Vec<Param<Tensor<1>>>,
}

/// The unit as layers (plain) or as one flat parameter (fused), and the tower.
#[derive(Module, Debug)]
struct Din {
    unit: Option<Layers>,
    flat: Option<Param<Tensor<1>>>,
    tower: Layers,
}

/// Rows of a batch.
struct Rows {
    /// Elements: `[N · LENGTH, D]` for the plain unit, `[M, D]` for the fused one.
    h: Tensor<2>,
    /// Candidates `[N, D]`.
    t: Tensor<2>,
    lengths: Arc<Vec<usize>>,
}

impl Layers {
    /// From weight `[in, out]` and bias of each layer, one after the other.
    fn new(flat: &[f32], sizes: &[(usize, usize)], d: &Device) -> Self {
        let (mut weights, mut biases, mut at) = (Vec::new(), Vec::new(), 0);
        for (i, o) in sizes {
            weights.push(Param::from_tensor(tensor(flat[at..at + i * o].to_vec(), [*i, *o], d)));
            biases.push(Param::from_tensor(tensor(flat[at + i * o..][..*o].to_vec(), [*o], d)));
            at += i * o + o;
        }
        assert_eq!(at, flat.len());
        Self { weights, biases }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let last = self.weights.len() - 1;
        self.weights.iter().zip(&self.biases).enumerate().fold(x, |x, (l, (w, b))| {
            let y = affine(x, w, b);
            if l < last { relu(y) } else { y }
        })
    }

    /// Their gradients as `new` takes them.
    fn gradient(&self, grads: &mut Gradients) -> Vec<f32> {
        let each = self.weights.iter().zip(&self.biases);
        each.flat_map(|(w, b)| {
            let w = values(w.val().grad_remove(grads).unwrap());
            w.into_iter().chain(values(b.val().grad_remove(grads).unwrap()))
        })
        .collect()
    }
}

impl Din {
    fn new(fused: bool, unit: Vec<f32>, tower: &[f32], d: &Device) -> Self {
        let n = unit.len();
        Self {
            unit: (!fused).then(|| Layers::new(&unit, &UNIT, d)),
            flat: fused.then(|| Param::from_tensor(tensor(unit, [n], d))),
            tower: Layers::new(tower, &TOWER, d),
        }
    }

    fn loss(&self, x: &Rows, y: Tensor<2>, d: &Device) -> Tensor<1> {
        let t = x.t.clone();
        let v = match (&self.unit, &self.flat) {
            (None, Some(flat)) => interest(x.h.clone(), t.clone(), flat.val(), x.lengths.clone()),
            (Some(unit), _) => plain(unit, x, d),
            (None, None) => unreachable!("a model has one of the two"),
        };
        bce(self.tower.forward(Tensor::cat(vec![v.clone(), t.clone(), v * t], 1)), y)
    }
}

/// Interests `[N, D]` by burn's operations on padded histories.
fn plain(unit: &Layers, x: &Rows, d: &Device) -> Tensor<2> {
    let n = x.lengths.len();
    let inside: Vec<f32> =
        x.lengths.iter().flat_map(|l| (0..LENGTH).map(move |e| if e < *l { 1.0 } else { 0.0 })).collect();
    let h = x.h.clone().reshape([n, LENGTH, D]);
    let wide: Tensor<3> = x.t.clone().unsqueeze_dim::<3>(1).expand([n, LENGTH, D]);
    let pairs = Tensor::cat(vec![h.clone(), wide.clone(), h.clone() - wide.clone(), h.clone() * wide], 2);
    let weights = unit.forward(pairs.reshape([n * LENGTH, 4 * D])).reshape([n, LENGTH]);
    let weights = weights * tensor(inside, [n, LENGTH], d);
    weights.unsqueeze_dim::<3>(1).matmul(h).reshape([n, D])
}

fn tensor<const K: usize>(v: Vec<f32>, shape: [usize; K], d: &Device) -> Tensor<K> {
    Tensor::from_data(TensorData::new(v, shape), d)
}

fn values<const K: usize>(t: Tensor<K>) -> Vec<f32> {
    t.into_data().try_into_vec::<f32>().unwrap()
}

/// From weight `[out, in]` and bias of each layer, as PyTorch has them, to weight `[in, out]` and bias.
fn turned(flat: &[f32], sizes: &[(usize, usize)]) -> Vec<f32> {
    let (mut out, mut at) = (Vec::with_capacity(flat.len()), 0);
    for (i, o) in sizes {
        out.extend((0..i * o).map(|k| flat[at + k % o * i + k / o]));
        out.extend_from_slice(&flat[at + i * o..][..*o]);
        at += i * o + o;
    }
    out
}

fn parameters(sizes: &[(usize, usize)]) -> usize {
    sizes.iter().map(|(i, o)| i * o + o).sum()
}

/// Trains on what `bench/peers/din.py` writes into `dir`, and prints a line of JSON: rows per second by the median step, µs of CPU a row
/// after the first step (all of it, and what of it goes into the rows outside the engine, the fused unit, all else that burn's graph
/// does forward and backward, and Adam), the first losses.
pub fn run(dir: &str, fused: bool, ragged: bool, steps: usize) {
    let device = Device::flex().autodiff();
    let d = &device;
    let words = |name: &str| -> Vec<u32> {
        floats(format!("{dir}/{name}.bin")).iter().map(|v| v.to_bits()).collect()
    };
    let (history, lengths, items) = (words("history"), words("lengths"), words("items"));
    let labels = floats(format!("{dir}/labels.bin"));
    let mut table = Table::new(floats(format!("{dir}/rows.bin")), D);
    let flat = floats(format!("{dir}/weights.bin"));
    let (unit, tower) = flat.split_at(parameters(&UNIT));
    let mut model = Some(Din::new(fused, turned(unit, &UNIT), &turned(tower, &TOWER), d));
    let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    let (mut outside, mut graph, mut optimiser, mut first) = (0, 0, 0, 0);
    for step in 0..steps {
        if step == 1 {
            first = clock::nanoseconds();
            (outside, graph, optimiser) = (0, 0, 0);
            clock::UNIT.store(0, Ordering::Relaxed);
        }
        let start = Instant::now();
        let mut last = clock::nanoseconds();
        let mut spent = |on: &mut u64| {
            let now = clock::nanoseconds();
            *on += now - last;
            last = now;
        };
        let b = step % (items.len() / BATCH);
        let rows = b * BATCH..(b + 1) * BATCH;
        let long: Vec<usize> =
            rows.clone().map(|n| if ragged { lengths[n] as usize } else { LENGTH }).collect();
        let mut ids = Vec::with_capacity(BATCH * (LENGTH + 1));
        for (n, length) in rows.clone().zip(&long) {
            ids.extend_from_slice(&history[n * LENGTH..][..if fused { *length } else { LENGTH }]);
        }
        let elements = ids.len();
        let x = Rows {
            h: tensor(table.gather(&ids), [elements, D], d).require_grad(),
            t: tensor(table.gather(&items[rows.clone()]), [BATCH, D], d).require_grad(),
            lengths: Arc::new(long),
        };
        let y = tensor(labels[rows.clone()].to_vec(), [BATCH, 1], d);
        spent(&mut outside);
        let net = model.take().unwrap();
        let loss = net.loss(&x, y, d);
        let mut grads = loss.backward();
        let mut g = values(x.h.grad_remove(&mut grads).unwrap());
        g.extend(values(x.t.grad_remove(&mut grads).unwrap()));
        spent(&mut graph);
        let grads = GradientsParams::from_grads(grads, &net);
        model = Some(adam.step(1e-3, net, grads));
        spent(&mut optimiser);
        ids.extend_from_slice(&items[rows]);
        table.update(&ids, &g);
        losses.push(loss.into_scalar::<f32>());
        spent(&mut outside);
        times.push(start.elapsed().as_secs_f64());
    }
    let all = clock::nanoseconds() - first;
    let unit = clock::UNIT.load(Ordering::Relaxed);
    let mut sorted = times[(steps / 5).min(3)..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let a_row = |time: u64| time as f64 / 1e3 / (BATCH * (steps.max(2) - 1)) as f64;
    println!(
        "{{\"rows_s\": {:.1}, \"cpu_us_row\": {:.2}, \"rows_us\": {:.2}, \"unit_us\": {:.2}, \"graph_us\": {:.2}, \
         \"adam_us\": {:.2}, \"steps\": {steps}, \"losses\": {:?}}}",
        BATCH as f64 / sorted[sorted.len() / 2],
        a_row(all),
        a_row(outside),
        a_row(unit),
        a_row(graph - unit),
        a_row(optimiser),
        &losses[..steps.min(5)]
    );
}

/// Numbers of mean zero that do not repeat soon (a linear congruential sequence).
fn noise(n: usize, seed: u64, size: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 2.0 * size
    };
    (0..n).map(|_| next()).collect()
}

/// Greatest difference, as a share of the greatest absolute value.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = a.iter().fold(0.0f32, |m, a| m.max(a.abs()));
    a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / most
}

/// Loss and gradients of the fused unit against those of burn's own operations, on 37 candidates with histories of 0 to 50 elements;
/// prints the greatest differences and says whether all are below 1e-4 of the greatest value.
pub fn check() -> bool {
    let device = Device::flex().autodiff();
    let d = &device;
    let lengths: Vec<usize> = (0..37).map(|n| n * 29 % (LENGTH + 1)).chain([LENGTH, 0]).collect();
    let n = lengths.len();
    let (padded, t) = (noise(n * LENGTH * D, 1, 1.0), noise(n * D, 2, 1.0));
    let inside = |all: &[f32]| -> Vec<f32> {
        let rows = all.chunks_exact(LENGTH * D).zip(&lengths);
        rows.flat_map(|(row, length)| row[..length * D].iter().copied()).collect()
    };
    let (unit, tower) = (noise(parameters(&UNIT), 3, 0.3), noise(parameters(&TOWER), 4, 0.3));
    let labels: Vec<f32> = (0..n).map(|n| (n % 2) as f32).collect();
    let of = |fused: bool| {
        let h = if fused { inside(&padded) } else { padded.clone() };
        let rows = h.len() / D;
        let x = Rows {
            h: tensor(h, [rows, D], d).require_grad(),
            t: tensor(t.clone(), [n, D], d).require_grad(),
            lengths: Arc::new(lengths.clone()),
        };
        let net = Din::new(fused, unit.clone(), &tower, d);
        let loss = net.loss(&x, tensor(labels.clone(), [n, 1], d), d);
        let mut grads = loss.backward();
        let h = values(x.h.grad_remove(&mut grads).unwrap());
        let t = values(x.t.grad_remove(&mut grads).unwrap());
        let unit = match (&net.unit, &net.flat) {
            (Some(unit), _) => unit.gradient(&mut grads),
            (_, flat) => values(flat.as_ref().unwrap().val().grad_remove(&mut grads).unwrap()),
        };
        let tower = net.tower.gradient(&mut grads);
        [vec![loss.into_scalar::<f32>()], if fused { h } else { inside(&h) }, t, unit, tower]
    };
    let (plain, fused) = (of(false), of(true));
    let names = ["loss", "elements", "candidates", "unit", "tower"];
    let apart: Vec<f32> = plain.iter().zip(&fused).map(|(a, b)| apart(a, b)).collect();
    names.iter().zip(&apart).for_each(|(name, apart)| println!("{name:>12}: {apart:.1e}"));
    apart.iter().all(|a| *a < 1e-4)
}
