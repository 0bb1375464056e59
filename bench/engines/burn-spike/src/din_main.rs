//! DIN training on what `bench/peers/din.py` writes: `burn-spike din-plain|din-fused DIR full|ragged STEPS`.

use crate::din::{D, UNIT, interest};
use crate::{Table, affine, bce, floats};
use burn::module::Param;
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::activation::relu;
use std::time::Instant;

const BATCH: usize = 1024;
const LENGTH: usize = 50;
const TOWER: [(usize, usize); 3] = [(3 * D, 200), (200, 80), (80, 1)];

/// The unit as layers (plain) or as one flat parameter (fused), and the tower's layers.
#[derive(Module, Debug)]
struct Din {
    unit: Vec<(Param<Tensor<2>>, Param<Tensor<1>>)>,
    flat: Option<Param<Tensor<1>>>,
    tower: Vec<(Param<Tensor<2>>, Param<Tensor<1>>)>,
}

/// Rows of a batch: elements `[M, D]` (padded for the plain model), candidates `[N, D]`, and what each model needs of lengths.
struct Rows {
    h: Tensor<2>,
    t: Tensor<2>,
    /// `[N, LENGTH]` of 0 and 1.
    inside: Tensor<2>,
    /// `[N]`.
    ends: Tensor<1>,
}

fn layers(x: Tensor<2>, layers: &[(Param<Tensor<2>>, Param<Tensor<1>>)]) -> Tensor<2> {
    let last = layers.len() - 1;
    layers.iter().enumerate().fold(x, |x, (l, (w, b))| {
        let y = affine(x, w, b);
        if l < last { relu(y) } else { y }
    })
}

impl Din {
    fn loss(&self, x: &Rows, y: Tensor<2>) -> Tensor<1> {
        let t = x.t.clone();
        let v = match &self.flat {
            Some(flat) => interest(x.h.clone(), t.clone(), x.ends.clone(), flat.val()),
            None => {
                let h = x.h.clone();
                let wide = t.clone().unsqueeze_dim::<3>(1).repeat_dim(1, LENGTH).reshape([BATCH * LENGTH, D]);
                let pairs =
                    Tensor::cat(vec![h.clone(), wide.clone(), h.clone() - wide.clone(), h.clone() * wide], 1);
                let a = layers(pairs, &self.unit).reshape([BATCH, LENGTH]) * x.inside.clone();
                a.unsqueeze_dim::<3>(1).matmul(h.reshape([BATCH, LENGTH, D])).reshape([BATCH, D])
            }
        };
        bce(layers(Tensor::cat(vec![v.clone(), t.clone(), v * t], 1), &self.tower), y)
    }
}

/// Reads `weights.bin`: weight `[out, in]` and bias of each layer in order; gives `[in, out]` and bias.
fn layer(flat: &[f32], at: &mut usize, (i, o): (usize, usize)) -> (Vec<f32>, Vec<f32>) {
    let w = &flat[*at..*at + i * o];
    let bias = flat[*at + i * o..][..o].to_vec();
    *at += i * o + o;
    ((0..i * o).map(|k| w[k % o * i + k / o]).collect(), bias)
}

pub fn run(fused: bool, dir: &str, ragged: bool, steps: usize) {
    let device = Device::flex().autodiff();
    let d = &device;
    let words = |name: &str| -> Vec<u32> {
        floats(format!("{dir}/{name}.bin")).iter().map(|v| v.to_bits()).collect()
    };
    let (history, lengths, items) = (words("history"), words("lengths"), words("items"));
    let labels = floats(format!("{dir}/labels.bin"));
    let mut table = Table::new(floats(format!("{dir}/rows.bin")), D);
    let flat = floats(format!("{dir}/weights.bin"));
    let mut at = 0;
    let parameters = |(w, b): (Vec<f32>, Vec<f32>), (i, o): (usize, usize)| {
        (
            Param::from_tensor(Tensor::<2>::from_data(TensorData::new(w, [i, o]), d)),
            Param::from_tensor(Tensor::<1>::from_data(TensorData::new(b, [o]), d)),
        )
    };
    let raw: Vec<_> = UNIT.iter().map(|s| layer(&flat, &mut at, *s)).collect();
    let whole: Vec<f32> = raw.iter().flat_map(|(w, b)| w.iter().chain(b).copied()).collect();
    let tower = TOWER.iter().map(|s| parameters(layer(&flat, &mut at, *s), *s)).collect();
    let n = whole.len();
    let mut model = Some(Din {
        unit: if fused { vec![] } else { raw.into_iter().zip(UNIT).map(|(l, s)| parameters(l, s)).collect() },
        flat: fused.then(|| Param::from_tensor(Tensor::<1>::from_data(TensorData::new(whole, [n]), d))),
        tower,
    });
    let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let start = Instant::now();
        let b = step % (items.len() / BATCH);
        let tid = &items[b * BATCH..][..BATCH];
        let long = |n: usize| if ragged { lengths[b * BATCH + n] as usize } else { LENGTH };
        let (mut ids, mut ends, mut inside) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..BATCH {
            let kept = if fused { long(n) } else { LENGTH };
            ids.extend_from_slice(&history[(b * BATCH + n) * LENGTH..][..kept]);
            ends.push(ids.len() as f32);
            inside.extend((0..LENGTH).map(|e| f32::from(u8::from(e < long(n)))));
        }
        let two = |v: Vec<f32>, w: usize| {
            let rows = v.len() / w;
            Tensor::<2>::from_data(TensorData::new(v, [rows, w]), d)
        };
        let x = Rows {
            h: two(table.gather(&ids), D).require_grad(),
            t: two(table.gather(tid), D).require_grad(),
            inside: two(inside, LENGTH),
            ends: Tensor::<1>::from_data(TensorData::new(ends, [BATCH]), d),
        };
        let y = two(labels[b * BATCH..][..BATCH].to_vec(), 1);
        let net = model.take().unwrap();
        let loss = net.loss(&x, y);
        let mut grads = loss.backward();
        let back = |t: &Tensor<2>, grads: &mut _| {
            t.grad_remove(grads).unwrap().into_data().into_vec::<f32>().unwrap()
        };
        let (mut g, gt) = (back(&x.h, &mut grads), back(&x.t, &mut grads));
        let grads = GradientsParams::from_grads(grads, &net);
        model = Some(adam.step(1e-3, net, grads));
        ids.extend_from_slice(tid);
        g.extend(gt);
        table.update(&ids, &g);
        losses.push(loss.into_scalar::<f32>());
        times.push(start.elapsed().as_secs_f64());
    }
    let mut sorted = times[(steps / 5).min(3)..].to_vec();
    sorted.sort_by(f64::total_cmp);
    println!(
        "{{\"rows_s\": {:.1}, \"steps\": {steps}, \"losses\": {:?}}}",
        BATCH as f64 / sorted[sorted.len() / 2],
        &losses[..steps.min(5)]
    );
}
