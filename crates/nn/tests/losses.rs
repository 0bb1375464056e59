//! Losses against plain scalar code, and at their extremes.

#![allow(clippy::unwrap_used)]

use millstream_nn::loss::{InBatch, bce_with_logits, in_batch_softmax, softmax_cross_entropy};
use millstream_nn::{Mode, Params, Pass, TableId};

fn pass() -> Pass {
    Pass::new(&Params::new(0), Mode::Train, 0)
}

fn near(a: f32, b: f64) {
    assert!((f64::from(a) - b).abs() < 1e-5 * (1.0 + b.abs()), "{a}, expected {b}");
}

fn naive_bce(z: f64, y: f64) -> f64 {
    let p = 1.0 / (1.0 + (-z).exp());
    -y * p.ln() - (1.0 - y) * (1.0 - p).ln()
}

#[test]
fn bce_agrees_with_its_definition() {
    let (z, y) = ([0.3f32, -1.2, 2.0, 0.0], [1.0f32, 0.0, 0.25, 1.0]);
    let pass = pass();
    let logits = pass.constant(&[4, 1], z.to_vec());
    let each: Vec<f64> = z.iter().zip(&y).map(|(z, y)| naive_bce(f64::from(*z), f64::from(*y))).collect();
    near(bce_with_logits(&logits, &y, &[]).item(), each.iter().sum::<f64>() / 4.0);
    let weighted = (each[0] + 3.0 * each[1] + 0.5 * each[3]) / 4.5;
    near(bce_with_logits(&logits, &y, &[1.0, 3.0, 0.0, 0.5]).item(), weighted);
    let two = pass.constant(&[2, 2], z.to_vec());
    near(bce_with_logits(&two, &y, &[]).item(), each.iter().sum::<f64>() / 2.0);
}

#[test]
fn bce_is_finite_and_right_for_huge_logits() {
    let pass = pass();
    let z = pass.constant(&[4, 1], vec![1e4, -1e4, 1e4, -1e4]);
    near(bce_with_logits(&z, &[1.0, 0.0, 0.0, 1.0], &[]).item(), 5e3);
    assert_eq!(bce_with_logits(&z, &[1.0, 0.0, 0.0, 1.0], &[0.0; 4]).item(), 0.0);
}

#[test]
fn softmax_cross_entropy_agrees_with_its_definition() {
    let z = [1.0f32, 2.0, 0.5, -1.0, 0.0, 3.0];
    let pass = pass();
    let logits = pass.constant(&[2, 3], z.to_vec());
    let one = |row: &[f32], t: usize| {
        let sum: f64 = row.iter().map(|z| f64::from(*z).exp()).sum();
        sum.ln() - f64::from(row[t])
    };
    let (a, b) = (one(&z[..3], 2), one(&z[3..], 1));
    near(softmax_cross_entropy(&logits, &[2, 1], &[]).item(), (a + b) / 2.0);
    near(softmax_cross_entropy(&logits, &[2, 1], &[1.0, 3.0]).item(), (a + 3.0 * b) / 4.0);
}

#[test]
fn in_batch_softmax_agrees_with_scalar_code() {
    let (r, c, d) = (4usize, 6usize, 3usize);
    let users: Vec<f32> = (0..r * d).map(|i| ((i * 5 % 7) as f32 - 3.0) / 3.0).collect();
    let items: Vec<f32> = (0..c * d).map(|i| ((i * 4 % 9) as f32 - 4.0) / 4.0).collect();
    let (log_q, ids) = ([-1.0f32, -0.5, -2.0, -1.5, -3.0, -2.5], [10u32, 11, 10, 12, 11, 13]);
    let weights = [1.0f32, 2.0, 0.5, 1.0];
    let mut total = 0.0;
    for u in 0..r {
        let logit = |v: usize| {
            let s: f64 = (0..d).map(|j| f64::from(users[u * d + j]) * f64::from(items[v * d + j])).sum();
            s / 0.2 - f64::from(log_q[v])
        };
        let kept = (0..c).filter(|v| *v == u || ids[*v] != ids[u]);
        let sum: f64 = kept.map(|v| logit(v).exp()).sum();
        total += f64::from(weights[u]) * (sum.ln() - logit(u)) / 4.5;
    }
    let pass = pass();
    let (u, v) = (pass.constant(&[r, d], users), pass.constant(&[c, d], items));
    let known =
        InBatch { temperature: 0.2, log_q: &log_q, items: &ids, weights: &weights, mixed: true, own: 0 };
    near(in_batch_softmax(&u, &v, &known).item(), total);
}

#[test]
fn without_the_batch_only_drawn_columns_are_negatives() {
    let (r, c, d) = (3usize, 5usize, 2usize);
    let value = |i: usize| ((i * 7 % 11) as f32 - 5.0) / 5.0;
    let users: Vec<f32> = (0..r * d).map(value).collect();
    let items: Vec<f32> = (0..c * d).map(|i| value(i + 3)).collect();
    let (log_q, ids) = ([-1.0f32, -0.5, -2.0, -1.5, -3.0], [10u32, 11, 12, 12, 11]);
    for weights in [[1.0f32, 1.0, 1.0], [1.0, 2.0, 0.5]] {
        let sum: f32 = weights.iter().sum();
        let mut total = 0.0;
        for u in 0..r {
            let logit = |v: usize| {
                let s: f64 = (0..d).map(|j| f64::from(users[u * d + j]) * f64::from(items[v * d + j])).sum();
                s / 0.5 - f64::from(log_q[v])
            };
            let kept = (0..c).filter(|v| *v == u || *v >= r && ids[*v] != ids[u]);
            let all: f64 = kept.map(|v| logit(v).exp()).sum();
            total += f64::from(weights[u]) * (all.ln() - logit(u)) / f64::from(sum);
        }
        let pass = pass();
        let (u, v) = (pass.constant(&[r, d], users.clone()), pass.constant(&[c, d], items.clone()));
        // Equal weights take the way without the matrix of all scores.
        let weights: &[f32] = if weights[1] == 1.0 { &[] } else { &weights };
        let known = InBatch { temperature: 0.5, log_q: &log_q, items: &ids, weights, mixed: false, own: 0 };
        near(in_batch_softmax(&u, &v, &known).item(), total);
    }
}

#[test]
fn negatives_of_ones_own_count_for_that_row_alone() {
    let (r, c, d, h) = (2usize, 7usize, 2usize, 2usize);
    let value = |i: usize| ((i * 7 % 11) as f32 - 5.0) / 5.0;
    let users: Vec<f32> = (0..r * d).map(value).collect();
    let items: Vec<f32> = (0..c * d).map(|i| value(i + 3)).collect();
    // Row 1 has one negative alone: the other is its positive's item.
    let (log_q, ids) = ([-1.0f32, -0.5, -2.0, 0.0, 0.0, 0.0, 0.0], [10u32, 11, 12, 13, 14, 15, 11]);
    for mixed in [true, false] {
        for weights in [&[][..], &[1.0, 3.0]] {
            let weight = |u: usize| weights.get(u).map_or(0.5, |w| f64::from(*w) / 4.0);
            let mut total = 0.0;
            for u in 0..r {
                let logit = |v: usize| {
                    let s: f64 =
                        (0..d).map(|j| f64::from(users[u * d + j]) * f64::from(items[v * d + j])).sum();
                    s / 0.5 - f64::from(log_q[v])
                };
                let met = |v: &usize| match *v {
                    v if v < r => v == u || mixed,
                    v if v < c - r * h => true,
                    v => (v - (c - r * h)) / h == u,
                };
                let kept = (0..c).filter(met).filter(|v| *v == u || ids[*v] != ids[u]);
                total += weight(u) * (kept.map(|v| logit(v).exp()).sum::<f64>().ln() - logit(u));
            }
            let pass = pass();
            let (u, v) = (pass.constant(&[r, d], users.clone()), pass.constant(&[c, d], items.clone()));
            let known = InBatch { temperature: 0.5, log_q: &log_q, items: &ids, weights, mixed, own: h };
            near(in_batch_softmax(&u, &v, &known).item(), total);
        }
    }
}

#[test]
fn a_batch_of_one_item_only_has_nothing_to_learn() {
    let mut params = Params::new(0);
    let table: TableId = params.table("u/d2", "u", 2, millstream_nn::RowInit::Zero).unwrap();
    let pass = Pass::new(&params, Mode::Train, 0);
    let users = pass.table_rows(table, 2, vec![1.0, 2.0, 3.0, 4.0]);
    let items = pass.constant(&[2, 2], vec![1.0; 4]);
    let loss = in_batch_softmax(&users, &items, &InBatch { items: &[3, 3], ..InBatch::default() });
    assert_eq!(loss.item(), 0.0);
    let gradients = pass.backward(&loss);
    // What is masked has a share of e^-87 or less.
    assert!(gradients.rows(table).unwrap().iter().all(|g| g.abs() < 1e-30));
}
