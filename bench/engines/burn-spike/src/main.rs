//! DCN-v2 and DIN in burn: plain operations against one fused node.
//!
//! `burn-spike plain|fused DIR STEPS` trains DCN-v2; DIR holds what `bench/peers/dense.py` writes (ids, labels, rows and weights
//! in PyTorch's layout). `burn-spike din plain|fused DIR full|ragged STEPS` trains DIN on what `bench/peers/din.py` writes; both
//! can be run by those programs (`--burn`). `burn-spike din check` holds the fused unit's gradients to those of burn's own operations.

use burn::module::Param;
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::activation::relu;
use std::time::Instant;

mod block;
mod clock;
mod din;
mod table;
mod unit;
use block::{H, LAYERS, X};
use table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 4096;
const FIELDS: usize = 39;
const DIM: usize = 16;

#[derive(Module, Debug)]
struct Plain {
    weights: Vec<Param<Tensor<2>>>,
    biases: Vec<Param<Tensor<1>>>,
    head: Param<Tensor<2>>,
    head_bias: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct Fused {
    body: Param<Tensor<1>>,
    head: Param<Tensor<2>>,
    head_bias: Param<Tensor<1>>,
}

fn affine(x: Tensor<2>, w: &Param<Tensor<2>>, b: &Param<Tensor<1>>) -> Tensor<2> {
    x.matmul(w.val()) + b.val().unsqueeze::<2>()
}

fn bce(z: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
    (relu(z.clone()) - z.clone() * y + (z.abs().neg().exp() + 1.0).log()).mean()
}

impl Plain {
    fn loss(&self, x0: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
        let mut x = x0.clone();
        for l in 0..3 {
            x = x0.clone() * affine(x.clone(), &self.weights[l], &self.biases[l]) + x;
        }
        let h = (3..6).fold(x0, |h, l| relu(affine(h, &self.weights[l], &self.biases[l])));
        bce(affine(Tensor::cat(vec![x, h], 1), &self.head, &self.head_bias), y)
    }
}

impl Fused {
    fn loss(&self, x0: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
        bce(affine(block::body(x0, self.body.val()), &self.head, &self.head_bias), y)
    }
}

fn floats(path: String) -> Vec<f32> {
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments[1..].iter().map(String::as_str).collect();
    match words[..] {
        ["din", "check"] => std::process::exit(i32::from(!din::check())),
        ["din", mode @ ("plain" | "fused"), dir, shape @ ("full" | "ragged"), steps] => {
            return din::run(dir, mode == "fused", shape == "ragged", steps.parse().unwrap());
        }
        ["plain" | "fused", _, _] => {}
        _ => panic!("expected: plain|fused DIR STEPS, din plain|fused DIR full|ragged STEPS, or din check"),
    }
    let (mode, dir, steps) = (&arguments[1], &arguments[2], arguments[3].parse::<usize>().unwrap());
    let device = Device::flex().autodiff();
    let d = &device;
    let ids: Vec<u32> = floats(format!("{dir}/ids.bin")).iter().map(|v| v.to_bits()).collect();
    let labels = floats(format!("{dir}/labels.bin"));
    let rows = floats(format!("{dir}/rows.bin"));
    let mut table = Table::new(rows, DIM);
    let flat = floats(format!("{dir}/weights.bin"));
    // From [out, in] to [in, out].
    let (mut body, mut at) = (Vec::new(), 0);
    for (i, o) in LAYERS {
        let w = &flat[at..at + i * o];
        body.extend((0..i * o).map(|k| w[k % o * i + k / o]));
        body.extend_from_slice(&flat[at + i * o..][..o]);
        at += i * o + o;
    }
    let two =
        |v: Vec<f32>, s: [usize; 2]| Param::from_tensor(Tensor::<2>::from_data(TensorData::new(v, s), d));
    let one = |v: Vec<f32>| {
        let n = v.len();
        Param::from_tensor(Tensor::<1>::from_data(TensorData::new(v, [n]), d))
    };
    let (head, head_bias) = (flat[at..at + X + H].to_vec(), flat[at + X + H..at + X + H + 1].to_vec());
    let (mut weights, mut biases, mut from) = (Vec::new(), Vec::new(), 0);
    for (i, o) in LAYERS {
        weights.push(two(body[from..from + i * o].to_vec(), [i, o]));
        biases.push(one(body[from + i * o..][..o].to_vec()));
        from += i * o + o;
    }
    assert_eq!(body.len(), block::parameters());
    let mut plain = Some(Plain {
        weights,
        biases,
        head: two(head.clone(), [X + H, 1]),
        head_bias: one(head_bias.clone()),
    });
    let mut fused = Some(Fused { body: one(body), head: two(head, [X + H, 1]), head_bias: one(head_bias) });
    let mut plain_adam = AdamConfig::new().with_epsilon(1e-8).init();
    let mut fused_adam = AdamConfig::new().with_epsilon(1e-8).init();
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let start = Instant::now();
        let b = step % (labels.len() / BATCH);
        let ids = &ids[b * BATCH * FIELDS..][..BATCH * FIELDS];
        let x0 = Tensor::<2>::from_data(TensorData::new(table.gather(ids), [BATCH, X]), d).require_grad();
        let y = Tensor::<2>::from_data(TensorData::new(labels[b * BATCH..][..BATCH].to_vec(), [BATCH, 1]), d);
        let (loss, gradient) = if mode == "fused" {
            let model = fused.take().unwrap();
            let loss = model.loss(x0.clone(), y);
            let mut grads = loss.backward();
            let gradient = x0.grad_remove(&mut grads).unwrap();
            let grads = GradientsParams::from_grads(grads, &model);
            fused = Some(fused_adam.step(1e-3, model, grads));
            (loss, gradient)
        } else {
            let model = plain.take().unwrap();
            let loss = model.loss(x0.clone(), y);
            let mut grads = loss.backward();
            let gradient = x0.grad_remove(&mut grads).unwrap();
            let grads = GradientsParams::from_grads(grads, &model);
            plain = Some(plain_adam.step(1e-3, model, grads));
            (loss, gradient)
        };
        table.update(ids, &gradient.into_data().try_into_vec::<f32>().unwrap());
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
