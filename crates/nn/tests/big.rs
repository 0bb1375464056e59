//! Sizes that are worked on in parallel, against plain loops.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;
use std::sync::Arc;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn near(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "at {i}: {a}, expected {b}");
    }
}

#[test]
fn a_big_linear_relu_layer_and_its_gradients_agree_with_loops() {
    let (n, i, o) = (2500, 37, 29);
    let mut params = Params::new(3);
    let x = params.dense("x", &[n, i], Init::Normal(1.0)).unwrap();
    let w = params.dense("w", &[o, i], Init::Normal(0.3)).unwrap();
    let b = params.dense("b", &[o], Init::Normal(0.3)).unwrap();
    let c = numbers(n * o, 9);
    let pass = Pass::new(&params, Mode::Train, 0);
    let y = pass.param(x).linear_relu(&pass.param(w), Some(&pass.param(b)));
    let loss = y.mul(&pass.constant(&[n, o], c.clone())).sum();
    let (xv, wv, bv) = (params.values(x), params.values(w), params.values(b));
    let mut want = vec![0.0; n * o];
    let (mut gx, mut gw, mut gb) = (vec![0.0; n * i], vec![0.0; o * i], vec![0.0; o]);
    for r in 0..n {
        for k in 0..o {
            let z: f32 = bv[k] + (0..i).map(|j| xv[r * i + j] * wv[k * i + j]).sum::<f32>();
            want[r * o + k] = z.max(0.0);
            let g = if y.data()[r * o + k] > 0.0 { c[r * o + k] } else { 0.0 };
            gb[k] += g;
            for j in 0..i {
                gx[r * i + j] += g * wv[k * i + j];
                gw[k * i + j] += g * xv[r * i + j];
            }
        }
    }
    near(y.data(), &want, 1e-4);
    let grads = pass.backward(&loss);
    near(grads.dense(x).unwrap(), &gx, 1e-4);
    near(grads.dense(w).unwrap(), &gw, 1e-3);
    near(grads.dense(b).unwrap(), &gb, 1e-3);
}

#[test]
fn a_big_scatter_agrees_with_a_loop_for_popular_and_rare_rows() {
    let (rows, width, n) = (700, 6, 30_000);
    let index: Vec<u32> = (0..n).map(|k| if k % 3 == 0 { 0 } else { (k * k % rows) as u32 }).collect();
    let mut params = Params::new(3);
    let table = params.dense("t", &[rows, width], Init::Normal(1.0)).unwrap();
    let c = numbers(n * width, 4);
    let pass = Pass::new(&params, Mode::Train, 0);
    let y = pass.param(table).gather(&Arc::new(index.clone()));
    let loss = y.mul(&pass.constant(&[n, width], c.clone())).sum();
    let mut want = vec![0.0; rows * width];
    for (k, row) in index.iter().enumerate() {
        assert_eq!(y.data()[k * width..][..width], params.values(table)[*row as usize * width..][..width]);
        (0..width).for_each(|j| want[*row as usize * width + j] += c[k * width + j]);
    }
    assert_eq!(pass.backward(&loss).dense(table).unwrap(), want, "additions keep their order");
}

#[test]
fn big_pools_agree_with_a_loop() {
    let (rows, width, count) = (500, 8, 6000);
    let mut offsets = vec![0u32];
    (0..count).for_each(|b| offsets.push(offsets[b] + (b * 7 % 5) as u32));
    let total = *offsets.last().unwrap() as usize;
    let index: Vec<u32> = (0..total).map(|e| (e * 31 % rows) as u32).collect();
    let weights: Vec<f32> = (0..total).map(|e| 0.1 + (e % 7) as f32).collect();
    let bags = Bags::new(offsets.clone(), index.clone(), Some(weights.clone()), Pooling::Mean).unwrap();
    let table = numbers(rows * width, 6);
    let params = Params::new(1);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let y = pass.constant(&[rows, width], table.clone()).pool(&bags);
    for b in 0..count {
        let range = offsets[b] as usize..offsets[b + 1] as usize;
        let sum: f32 = weights[range.clone()].iter().sum();
        let mut want = vec![0.0; width];
        for e in range {
            (0..width).for_each(|j| want[j] += weights[e] / sum * table[index[e] as usize * width + j]);
        }
        near(&y.data()[b * width..][..width], &want, 1e-5);
    }
}

#[test]
fn one_seed_gives_one_result() {
    let run = || {
        let mut params = Params::new(4);
        let config =
            MlpConfig { hidden: vec![64, 32], dropout: 0.3, batch_norm: true, ..MlpConfig::default() };
        let mlp = Mlp::new(&mut params, "mlp", 50, &config).unwrap();
        let cross = CrossNet::new(&mut params, "cross", 32, 2).unwrap();
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.01));
        for step in 0..4 {
            let pass = Pass::new(&params, Mode::Train, step);
            let x = pass.constant(&[3000, 50], numbers(150_000, step));
            let loss = cross.forward(&pass, &mlp.forward(&pass, &x)).square().mean();
            let gradients = pass.backward(&loss);
            optimiser.step(&mut params, &gradients);
        }
        params.weights()
    };
    assert_eq!(run(), run());
}

#[test]
fn inference_equals_training_without_dropout_and_records_nothing() {
    let mut params = Params::new(4);
    let config = MlpConfig { hidden: vec![30, 20], ..MlpConfig::default() };
    let mlp = Mlp::new(&mut params, "mlp", 10, &config).unwrap();
    let run = |mode| {
        let pass = Pass::new(&params, mode, 1);
        mlp.forward(&pass, &pass.constant(&[40, 10], numbers(400, 2))).to_vec()
    };
    assert_eq!(run(Mode::Train), run(Mode::Infer));
}

#[test]
fn batch_norm_infers_with_running_statistics() {
    let mut params = Params::new(4);
    let norm = BatchNorm::new(&mut params, "n", 3).unwrap();
    let mut optimiser = Optimiser::new(DenseOptim::sgd(0.0));
    for step in 0..200 {
        let pass = Pass::new(&params, Mode::Train, step);
        let x = pass.constant(&[500, 3], numbers(1500, 100 + step)).affine(4.0, 2.0);
        let gradients = pass.backward(&norm.forward(&pass, &x).mean());
        drop((x, pass));
        optimiser.step(&mut params, &gradients);
    }
    // Uniform in ±½, times 4, plus 2.
    let mean = params.values(params.find("n.mean").unwrap());
    let variance = params.values(params.find("n.variance").unwrap());
    near(mean, &[2.0; 3], 0.02);
    near(variance, &[16.0 / 12.0; 3], 0.03);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let y = norm.forward(&pass, &pass.constant(&[1, 3], vec![2.0, 3.0, 2.0]));
    near(y.data(), &[0.0, 1.0 / (16.0f32 / 12.0).sqrt(), 0.0], 0.05);
}
