//! What the tests of sequence layers share.

#![allow(dead_code)] // Each test file takes what it needs.

use millstream_nn::{Mode, Params, Pass, Tensor};

/// Σ c_i y_i with different c_i, so that no mix-up of places goes unseen.
pub fn probe(pass: &Pass, y: &Tensor) -> Tensor {
    let c = (0..y.len()).map(|i| ((i * 37 + 11) % 17) as f32 / 8.0 - 1.0).collect();
    y.mul(&pass.constant(y.shape(), c)).sum()
}

/// Outputs and the gradients of all weights.
pub fn run(params: &Params, f: impl Fn(&Pass) -> Tensor) -> (Vec<f32>, Vec<Vec<f32>>) {
    let pass = Pass::new(params, Mode::Train, 3);
    let y = f(&pass);
    let gradients = pass.backward(&probe(&pass, &y));
    (y.to_vec(), params.ids().map(|id| gradients.dense(id).unwrap_or(&[]).to_vec()).collect())
}

pub fn near(a: &[f32], b: &[f32], by: f32) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= by * (1.0 + b.abs()))
}

/// Martins & Astudillo 2016, algorithm 1.
pub fn sparsemax(z: &[f32]) -> Vec<f32> {
    let mut sorted = z.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut tau) = (0.0, 0.0);
    for (k, v) in sorted.iter().enumerate() {
        sum += v;
        if 1.0 + (k + 1) as f32 * v > sum {
            tau = (sum - 1.0) / (k + 1) as f32;
        }
    }
    z.iter().map(|v| (v - tau).max(0.0)).collect()
}
