//! Softmax cross-entropy.

use super::shares;
use crate::buffer::Buffer;
use crate::chunks;
use crate::ops::softmax_row;
use crate::tensor::{Shape, Tensor, own};

/// Mean over rows of log Σ_c e^{z_c} − z_target; weighted as Σ w l / Σ w if row weights `[N]` are given.
///
/// `logits` `[N, C]`; −∞ takes a class out. `targets` `[N]` are columns.
///
/// # Panics
/// If the sizes do not fit or a target is not a column.
pub fn softmax_cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Tensor {
    let (rows, width) = (logits.rows(), logits.width());
    assert_eq!(targets.len(), rows, "{} targets for logits {:?}", targets.len(), logits.shape);
    assert!(targets.iter().all(|t| (*t as usize) < width), "a target beyond the {width} columns");
    let shares = shares(weights, rows);
    let (mut probability, mut losses) = (Buffer::copy_of(logits.data()), Buffer::any(rows));
    chunks::rows2((&mut probability, width), (&mut losses, 1), |from, rows, losses| {
        for (i, (row, loss)) in rows.chunks_exact_mut(width).zip(losses).enumerate() {
            let hit = row[targets[from + i] as usize];
            *loss = softmax_row(row) - hit;
        }
    });
    let weighted = losses.iter().zip(&shares).filter(|(_, s)| **s != 0.0);
    let total: f64 = weighted.map(|(l, s)| f64::from(*l) * f64::from(*s)).sum();
    let (node, targets) = (logits.node, targets.to_vec());
    logits.output(Shape::new(&[1]), own(vec![total as f32].into()), node.is_some(), move |g, grads| {
        let mut gz = probability;
        chunks::rows(&mut gz, width, |from, gz| {
            for (i, gz) in gz.chunks_exact_mut(width).enumerate() {
                gz[targets[from + i] as usize] -= 1.0;
                let share = g[0] * shares[from + i];
                gz.iter_mut().for_each(|v| *v = if share == 0.0 { 0.0 } else { *v * share });
            }
        });
        grads.add(node, gz);
    })
}
