//! Several vectors out of a sequence, and the losses of two towers.

#![allow(clippy::unwrap_used)]

mod common;

use common::{near, probe, run};
use millstream_nn::loss::{self, CosineContrastive, InBatch};
use millstream_nn::*;
use std::sync::Arc;

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 29 + 7) % 23) as f32 / 11.0 - 1.0).collect()
}

/// Sequences of 5, 0, 1 and 9 elements of width 3, as a weight `x`.
fn sequences(params: &mut Params) -> (ParamId, Arc<Vec<u32>>) {
    (params.dense("x", &[15, 3], Init::Normal(1.0)).unwrap(), Arc::new(vec![0, 5, 5, 6, 15]))
}

fn ragged(pass: &Pass, (id, offsets): &(ParamId, Arc<Vec<u32>>)) -> Ragged {
    Ragged::new(offsets.clone(), pass.param(*id)).unwrap()
}

#[test]
fn one_attentive_interest_is_attention_pooling_and_several_are_that_many_times_it() {
    let mut params = Params::new(1);
    let x = sequences(&mut params);
    let layer = SelfAttentive::new(&mut params, "a", (3, 6), 2).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let h = ragged(&pass, &x);
    let out = layer.forward(&pass, &h);
    assert_eq!(out.shape(), [4, 2, 3]);
    let weight = |name: &str| params.iter().find(|(n, ..)| *n == name).unwrap().2.to_vec();
    let (w1, w2) = (weight("a.hidden.weight"), weight("a.scores.weight"));
    for b in 0..4 {
        for k in 0..2 {
            let score = |e: usize| -> f32 {
                let row = &h.values().data()[e * 3..][..3];
                let hidden = |j: usize| (0..3).map(|c| w1[j * 3 + c] * row[c]).sum::<f32>().tanh();
                (0..6).map(|j| w2[k * 6 + j] * hidden(j)).sum()
            };
            let shares: Vec<f32> = h.span(b).map(|e| score(e).exp()).collect();
            let sum: f32 = shares.iter().sum();
            let naive: Vec<f32> = (0..3)
                .map(|c| h.span(b).zip(&shares).map(|(e, s)| s / sum * h.values().data()[e * 3 + c]).sum())
                .collect();
            assert!(near(&out.data()[(b * 2 + k) * 3..][..3], &naive, 1e-5), "{b} {k}");
        }
    }
    drop((out, h, pass));
    gradcheck::check(&mut params, 3e-3, |pass| probe(pass, &layer.forward(pass, &ragged(pass, &x)))).unwrap();
}

/// Dynamic routing by its definition, in double precision, from zero logits.
fn naive_routing(seen: &[Vec<Vec<f64>>], k: usize, rounds: usize) -> Vec<Vec<f64>> {
    let (l, d) = (seen.len(), seen.first().map_or(0, |e| e[0].len()));
    let mut logits = vec![vec![0.0f64; k]; l];
    let mut capsules = vec![vec![0.0; d]; k];
    for _ in 0..rounds {
        capsules = vec![vec![0.0; d]; k];
        for (e, logits) in seen.iter().zip(&logits) {
            let sum: f64 = logits.iter().map(|b| b.exp()).sum();
            for j in 0..k {
                for c in 0..d {
                    capsules[j][c] += logits[j].exp() / sum * e[j][c];
                }
            }
        }
        for capsule in &mut capsules {
            let squared: f64 = capsule.iter().map(|v| v * v).sum();
            capsule.iter_mut().for_each(|v| *v *= squared.sqrt() / (1.0 + squared));
        }
        for (e, logits) in seen.iter().zip(&mut logits) {
            for j in 0..k {
                logits[j] += e[j].iter().zip(&capsules[j]).map(|(a, b)| a * b).sum::<f64>();
            }
        }
    }
    capsules
}

#[test]
fn routing_with_a_matrix_each_is_the_definition() {
    let mut params = Params::new(2);
    let x = sequences(&mut params);
    let config = CapsuleConfig {
        interests: 3,
        iterations: 3,
        bilinear: Bilinear::Each,
        logit_std: 0.0,
        dynamic: false,
    };
    let layer = Capsules::new(&mut params, "c", 3, config).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let h = ragged(&pass, &x);
    let out = layer.forward(&pass, &h);
    let weight = params.iter().find(|(n, ..)| *n == "c.weight").unwrap().2.to_vec();
    for b in 0..4 {
        let see = |e: usize, j: usize| -> Vec<f64> {
            let row = &h.values().data()[e * 3..][..3];
            (0..3)
                .map(|o| (0..3).map(|c| f64::from(weight[(j * 3 + o) * 3 + c]) * f64::from(row[c])).sum())
                .collect()
        };
        let seen: Vec<Vec<Vec<f64>>> = h.span(b).map(|e| (0..3).map(|j| see(e, j)).collect()).collect();
        let naive: Vec<f32> = match seen.is_empty() {
            true => vec![0.0; 9],
            false => naive_routing(&seen, 3, 3).concat().iter().map(|v| *v as f32).collect(),
        };
        assert!(near(&out.data()[b * 9..][..9], &naive, 1e-5), "sequence {b}");
    }
}

#[test]
fn capsules_of_one_matrix_differ_by_their_first_logits_alone() {
    let mut params = Params::new(3);
    let x = sequences(&mut params);
    let with = |params: &mut Params, name: &str, logit_std: f32, dynamic: bool| {
        let config = CapsuleConfig { logit_std, dynamic, interests: 4, ..CapsuleConfig::default() };
        Capsules::new(params, name, 3, config).unwrap()
    };
    let (same, apart) = (with(&mut params, "a", 0.0, false), with(&mut params, "b", 1.0, false));
    let dynamic = with(&mut params, "c", 1.0, true);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let h = ragged(&pass, &x);
    let rows = |layer: &Capsules, b: usize| -> Vec<Vec<f32>> {
        let out = layer.forward(&pass, &h);
        (0..4).map(|k| out.data()[(b * 4 + k) * 3..][..3].to_vec()).collect()
    };
    let equal = rows(&same, 3);
    assert!(equal[1..].iter().all(|capsule| *capsule == equal[0]), "zero logits make one capsule");
    let four = rows(&apart, 3);
    assert!((0..4).all(|i| (0..i).all(|j| four[i] != four[j])), "{four:?}");
    assert!(four.iter().flatten().all(|v| v.abs() < 1.0));
    // log2 of 9, 5 and 1 elements: 3, 2 and at least 1 interests; the others are copies of the first.
    for (b, own) in [(3, 3), (0, 2), (2, 1)] {
        let found = rows(&dynamic, b);
        assert!((0..own).all(|i| (0..i).all(|j| found[i] != found[j])), "{b}: {found:?}");
        assert!(found[own..].iter().all(|capsule| *capsule == found[0]), "{b}: {found:?}");
    }
    assert!(rows(&dynamic, 1).iter().flatten().all(|v| *v == 0.0));
}

#[test]
fn slopes_of_capsules_flow_through_the_last_sum() {
    // With one round the weights do not depend on the elements, and slopes are those of the whole.
    for bilinear in [Bilinear::Shared, Bilinear::Each] {
        let mut params = Params::new(4);
        let x = sequences(&mut params);
        let config = CapsuleConfig { iterations: 1, interests: 2, bilinear, ..CapsuleConfig::default() };
        let layer = Capsules::new(&mut params, "c", 3, config).unwrap();
        gradcheck::check(&mut params, 3e-3, |pass| probe(pass, &layer.forward(pass, &ragged(pass, &x))))
            .unwrap();
    }
    assert!(
        Capsules::new(&mut Params::new(1), "c", 3, CapsuleConfig { interests: 0, ..Default::default() })
            .is_err()
    );
    assert!(
        Capsules::new(&mut Params::new(1), "c", 3, CapsuleConfig { iterations: 0, ..Default::default() })
            .is_err()
    );
}

#[test]
fn squashed_vectors_keep_their_direction_and_zero_stays_zero() {
    let mut params = Params::new(5);
    let id = params.dense("x", &[4, 3], Init::Normal(1.0)).unwrap();
    gradcheck::check(&mut params, 3e-3, |pass| probe(pass, &pass.param(id).squash())).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let out = pass.constant(&[2, 2], vec![3.0, 4.0, 0.0, 0.0]).squash();
    assert!(near(out.data(), &[0.6 * 25.0 / 26.0, 0.8 * 25.0 / 26.0, 0.0, 0.0], 1e-6));
}

#[test]
fn in_batch_softmax_is_the_same_by_blocks_and_by_rows_with_weights() {
    let mut params = Params::new(6);
    let (u, v) = (
        params.dense("u", &[5, 4], Init::Normal(1.0)).unwrap(),
        params.dense("v", &[8, 4], Init::Normal(1.0)).unwrap(),
    );
    let (log_q, items) = (values(8), [3, 1, 3, 2, 0, 1, 7, 8]);
    let loss = |pass: &Pass, weights: &[f32]| {
        let known = InBatch { temperature: 0.3, log_q: &log_q, items: &items, weights, mixed: true, own: 0 };
        loss::in_batch_softmax(&pass.param(u), &pass.param(v), &known)
    };
    let (blocks, slopes) = run(&params, |pass| loss(pass, &[]));
    let (rows, others) = run(&params, |pass| loss(pass, &[1.0; 5]));
    assert!(near(&blocks, &rows, 1e-5), "{blocks:?} {rows:?}");
    slopes.iter().zip(&others).for_each(|(a, b)| assert!(near(a, b, 1e-5), "{a:?} {b:?}"));
    gradcheck::check(&mut params, 3e-3, |pass| loss(pass, &[])).unwrap();
}

#[test]
fn the_cosine_contrastive_loss_is_its_definition() {
    let mut params = Params::new(7);
    let u = params.dense("u", &[3, 4], Init::Normal(1.0)).unwrap();
    let v = params.dense("v", &[7, 4], Init::Normal(1.0)).unwrap();
    let items = [5, 6, 7, 8, 5, 9, 6];
    for (columns, weights) in [(7, &[][..]), (7, &[2.0, 0.0, 1.0]), (3, &[])] {
        let known =
            CosineContrastive { margin: -0.1, negative_weight: 2.0, items: &items[..columns], weights };
        let loss = |pass: &Pass| {
            let items = pass.param(v).slice_rows(0, columns).l2_normalise();
            loss::cosine_contrastive(&pass.param(u).l2_normalise(), &items, &known)
        };
        let pass = Pass::new(&params, Mode::Infer, 0);
        let (a, b) = (pass.param(u).l2_normalise(), pass.param(v).l2_normalise());
        let cosine = |r: usize, c: usize| -> f32 {
            a.data()[r * 4..][..4].iter().zip(&b.data()[c * 4..][..4]).map(|(x, y)| x * y).sum()
        };
        let mut naive = 0.0;
        for r in 0..3 {
            let negatives: Vec<usize> =
                (if columns == 3 { 0..3 } else { 3..7 }).filter(|c| items[*c] != items[r]).collect();
            let over: f32 = negatives.iter().map(|c| (cosine(r, *c) + 0.1).max(0.0)).sum();
            let share = if weights.is_empty() { 1.0 / 3.0 } else { weights[r] / 3.0 };
            naive += share * (1.0 - cosine(r, r) + 2.0 * over / negatives.len() as f32);
        }
        assert!((loss(&pass).item() - naive).abs() < 1e-5, "{columns} columns");
        drop((a, b, pass));
        gradcheck::check(&mut params, 3e-3, loss).unwrap();
    }
}
