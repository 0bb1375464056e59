//! Experts, gates and joint logits against naive twins and finite differences.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;
use std::sync::Arc;

const TOLERANCE: f32 = 3e-3;

fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * i * 5 + i * 3 + salt * 7) % 23) as f32 - 11.0) / 8.0).collect()
}

fn near(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{i} is {a}, not {b}");
    }
}

/// Σ c_i y_i with different c_i, so that no mix-up of places goes unseen.
fn probe(pass: &Pass, y: &Tensor) -> Tensor {
    let c = (0..y.len()).map(|i| ((i * 37 + 11) % 17) as f32 / 8.0 - 1.0).collect();
    y.mul(&pass.constant(y.shape(), c)).sum()
}

/// A layer over a learned input of `[rows, width]`, against finite differences.
fn check(mut params: Params, (rows, width): (usize, usize), layer: impl Fn(&Pass, &Tensor) -> Tensor) {
    let x = params.dense("x", &[rows, width], Init::Normal(1.0)).unwrap();
    gradcheck::check(&mut params, TOLERANCE, |pass| probe(pass, &layer(pass, &pass.param(x)))).unwrap();
}

/// x Wᵀ + b of one row.
fn linear(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let dot = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
    weight.chunks(x.len()).zip(bias).map(|(w, b)| dot(w) + b).collect()
}

#[test]
fn layers_side_by_side_are_the_layers_one_by_one() {
    // Rows enough for several chunks; sources that repeat, skip and turn around.
    for (parts, sources, rows) in [(1, vec![0, 0, 0], 37), (3, vec![2, 0, 2, 1], 700), (2, vec![1], 5)] {
        let (i, o) = (5, 7);
        let mut params = Params::new(3);
        let layer =
            LinearEach::new(&mut params, "l", (parts, &sources), (i, o), Init::KaimingUniform).unwrap();
        let get = |name: &str| params.values(params.find(name).unwrap()).to_vec();
        let (weight, bias, x) = (get("l.weight"), get("l.bias"), numbers(rows * parts * i, 1));
        let wanted: Vec<f32> = x
            .chunks(parts * i)
            .flat_map(|row| {
                let one = |(e, s): (usize, &usize)| {
                    linear(&row[s * i..][..i], &weight[e * o * i..][..o * i], &bias[e * o..][..o])
                };
                sources.iter().enumerate().flat_map(one).collect::<Vec<f32>>()
            })
            .collect();
        let pass = Pass::new(&params, Mode::Infer, 0);
        near(layer.forward(&pass, &pass.constant(&[rows, parts * i], x)).data(), &wanted);
    }
}

#[test]
fn layers_side_by_side_have_the_slopes_of_finite_differences() {
    for (parts, sources) in [(1, vec![0, 0]), (3, vec![2, 0, 2, 1]), (2, vec![1])] {
        let mut params = Params::new(4);
        let layer = LinearEach::new(&mut params, "l", (parts, &sources), (3, 2), Init::Normal(0.5)).unwrap();
        check(params, (4, parts * 3), |pass, x| layer.forward(pass, x));
    }
}

#[test]
fn experts_are_towers_of_their_own() {
    let config = MlpConfig { hidden: vec![4, 3], activation: Activation::Tanh, ..MlpConfig::default() };
    let mut params = Params::new(5);
    let experts = Experts::new(&mut params, "e", (2, &[1, 0, 1]), 6, &config).unwrap();
    let get = |name: &str| params.values(params.find(name).unwrap()).to_vec();
    let x = numbers(9 * 12, 2);
    let wanted: Vec<f32> = x
        .chunks(12)
        .flat_map(|row| {
            [1, 0, 1]
                .into_iter()
                .enumerate()
                .flat_map(|(e, s)| {
                    let tanh = |v: Vec<f32>| v.into_iter().map(f32::tanh).collect::<Vec<f32>>();
                    let (w, b) = (get("e.0.weight"), get("e.0.bias"));
                    let h = tanh(linear(&row[s * 6..][..6], &w[e * 24..][..24], &b[e * 4..][..4]));
                    let (w, b) = (get("e.1.weight"), get("e.1.bias"));
                    tanh(linear(&h, &w[e * 12..][..12], &b[e * 3..][..3]))
                })
                .collect::<Vec<f32>>()
        })
        .collect();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let made = experts.forward(&pass, &pass.constant(&[9, 12], x));
    assert_eq!(made.shape(), [9, 3, 3]);
    near(made.data(), &wanted);
    check(params.clone(), (3, 12), |pass, x| experts.forward(pass, x));
}

#[test]
fn experts_without_a_layer_hand_on_what_they_read() {
    let config = MlpConfig { hidden: vec![], ..MlpConfig::default() };
    let mut params = Params::new(5);
    let experts = Experts::new(&mut params, "e", (2, &[1, 1, 0]), 2, &config).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let made = experts.forward(&pass, &pass.constant(&[1, 4], vec![1.0, 2.0, 3.0, 4.0]));
    assert_eq!((made.shape(), made.data()), (&[1, 3, 2][..], &[3.0, 4.0, 3.0, 4.0, 1.0, 2.0][..]));
    assert!(Experts::new(&mut params, "none", (1, &[]), 2, &config).is_err());
    let dropped = MlpConfig { dropout: 1.0, ..config };
    let said = Experts::new(&mut params, "d", (1, &[0]), 2, &dropped).unwrap_err().to_string();
    assert!(said.contains("dropout of `d` is 1"), "{said}");
}

#[test]
fn mixtures_are_the_double_loop_over_their_members() {
    let (n, e, d) = (600, 4, 5);
    let members: Arc<[Vec<usize>]> = vec![vec![0, 3], vec![1], vec![0, 1, 2, 3]].into();
    let (h, w) = (numbers(n * e * d, 3), numbers(n * 7, 4));
    let mut wanted = Vec::new();
    for row in 0..n {
        let mut column = 0;
        for seen in members.iter() {
            let mut sum = vec![0.0; d];
            for m in seen {
                (0..d).for_each(|j| sum[j] += w[row * 7 + column] * h[(row * e + m) * d + j]);
                column += 1;
            }
            wanted.extend(sum);
        }
    }
    let params = Params::new(0);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let mixed = pass.constant(&[n, e, d], h).mix(&pass.constant(&[n, 7], w), &members);
    assert_eq!(mixed.shape(), [n, 3, d]);
    near(mixed.data(), &wanted);

    let mut params = Params::new(6);
    let w = params.dense("w", &[2, 7], Init::Normal(1.0)).unwrap();
    check(params, (2, e * d), |pass, x| x.reshape(&[2, e, d]).mix(&pass.param(w), &members));
}

#[test]
fn gates_give_shares_over_the_experts_they_see() {
    let mut params = Params::new(7);
    let members = vec![vec![0, 2], vec![1, 2], vec![0, 1, 2]];
    let gates = Gates::new(&mut params, "g", (2, &[0, 1, 1]), 3, members).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let x = pass.constant(&[4, 6], numbers(24, 5));
    for row in gates.weights(&pass, &x).data().chunks(7) {
        for part in [&row[..2], &row[2..4], &row[4..]] {
            assert!((part.iter().sum::<f32>() - 1.0).abs() < 1e-6 && part.iter().all(|w| *w > 0.0));
        }
    }
    // Two gates that see two experts each are one product, the third is another.
    assert_eq!(params.shape(params.find("g.0.weight").unwrap()), [2, 2, 3]);
    assert_eq!(params.shape(params.find("g.1.weight").unwrap()), [1, 3, 3]);
    let h = params.dense("h", &[3, 6], Init::Normal(1.0)).unwrap();
    check(params, (3, 6), |pass, x| gates.forward(pass, x, &pass.param(h).reshape(&[3, 3, 2])));
    let mut params = Params::new(7);
    assert!(Gates::new(&mut params, "g", (1, &[0]), 3, vec![vec![]]).is_err());
}

#[test]
fn the_logit_of_two_events_is_that_of_the_product_of_their_probabilities() {
    let params = Params::new(0);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let (a, b) = (numbers(40, 1), numbers(40, 6));
    let sigmoid = |x: f32| 1.0 / (1.0 + f64::from(-x).exp());
    let wanted: Vec<f32> = a
        .iter()
        .zip(&b)
        .map(|(a, b)| {
            let p = sigmoid(*a) * sigmoid(*b);
            (p / (1.0 - p)).ln() as f32
        })
        .collect();
    near(pass.constant(&[40], a).both(&pass.constant(&[40], b)).data(), &wanted);
    // Far out: log σ(a) σ(b) for rare events, log 2 below the smaller one where both are nearly sure.
    let far = |a, b| pass.constant(&[1], vec![a]).both(&pass.constant(&[1], vec![b])).item();
    assert_eq!(far(-90.0, -80.0), -170.0);
    assert!((far(60.0, 60.0) - (60.0 - 2.0f32.ln())).abs() < 1e-4);
    assert!((far(200.0, -3.0) + 3.0).abs() < 1e-5);
    let mut params = Params::new(8);
    let other = params.dense("other", &[4, 2], Init::Normal(2.0)).unwrap();
    check(params, (4, 2), |pass, x| x.both(&pass.param(other)));
}
