//! Losses of one choice among columns.

use super::shares;
use crate::buffer::Buffer;
use crate::chunks;
use crate::ops::softmax_row;
use crate::tensor::{Shape, Tensor, own};

/// Mean over rows (Σ w l / Σ w if weighted) of a loss that `f(row number, logits)` gives, and in whose place it puts
/// its slopes.
fn by_row(logits: &Tensor, weights: &[f32], f: impl Fn(usize, &mut [f32]) -> f32 + Sync) -> Tensor {
    let (rows, width) = (logits.rows(), logits.width());
    let shares = shares(weights, rows);
    let (mut slopes, mut losses) = (Buffer::copy_of(logits.data()), Buffer::any(rows));
    chunks::rows2((&mut slopes, width), (&mut losses, 1), |from, slopes, losses| {
        for (i, (row, loss)) in slopes.chunks_exact_mut(width).zip(losses).enumerate() {
            *loss = f(from + i, row);
        }
    });
    let weighted = losses.iter().zip(&shares).filter(|(_, s)| **s != 0.0);
    let total: f64 = weighted.map(|(l, s)| f64::from(*l) * f64::from(*s)).sum();
    let node = logits.node;
    logits.output(Shape::new(&[1]), own(vec![total as f32].into()), node.is_some(), move |g, grads| {
        chunks::rows(&mut slopes, width, |from, slopes| {
            for (row, share) in slopes.chunks_exact_mut(width).zip(&shares[from..]) {
                let share = g[0] * share;
                row.iter_mut().for_each(|v| *v = if share == 0.0 { 0.0 } else { *v * share });
            }
        });
        grads.add(node, slopes);
    })
}

fn check_targets(logits: &Tensor, targets: &[u32]) {
    assert_eq!(targets.len(), logits.rows(), "{} targets for logits {:?}", targets.len(), logits.shape);
    let width = logits.width();
    assert!(targets.iter().all(|t| (*t as usize) < width), "a target beyond the {width} columns");
}

/// Mean over rows of log Σ_c e^{z_c} − z_target; weighted as Σ w l / Σ w if row weights `[N]` are given
/// ([`super::weights_by_class`] makes them from class weights).
///
/// `logits` `[N, C]`; −∞ takes a class out. `targets` `[N]` are columns.
///
/// # Panics
/// If the sizes do not fit or a target is not a column.
pub fn softmax_cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Tensor {
    check_targets(logits, targets);
    by_row(logits, weights, |i, row| {
        let target = targets[i] as usize;
        let hit = row[target];
        let loss = softmax_row(row) - hit;
        row[target] -= 1.0;
        loss
    })
}

/// [`softmax_cross_entropy`] with targets smoothed to 1 − s for the right class and s / C more for each of the C classes
/// (Szegedy et al. 2016, §7); s in [0, 1). No class may be taken out.
///
/// # Panics
/// If the sizes do not fit or a target is not a column.
pub fn smoothed_cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32], smoothing: f32) -> Tensor {
    check_targets(logits, targets);
    let share = smoothing / logits.width() as f32;
    by_row(logits, weights, |i, row| {
        let target = targets[i] as usize;
        let (hit, sum) = (row[target], row.iter().sum::<f32>());
        let loss = softmax_row(row) - (1.0 - smoothing) * hit - share * sum;
        row.iter_mut().for_each(|p| *p -= share);
        row[target] -= 1.0 - smoothing;
        loss
    })
}

/// Mean over rows of −(1 − p)^γ log p, p the softmax of the target's column (Lin et al. 2017); γ at least 0. Sizes,
/// weights and −∞ as [`softmax_cross_entropy`].
///
/// # Panics
/// If the sizes do not fit or a target is not a column.
pub fn softmax_focal(logits: &Tensor, targets: &[u32], weights: &[f32], gamma: f32) -> Tensor {
    check_targets(logits, targets);
    by_row(logits, weights, |i, row| {
        let target = targets[i] as usize;
        let hit = row[target];
        let loss = softmax_row(row) - hit;
        let p = row[target];
        row[target] = 0.0;
        // 1 − p, by the other classes: exact where p is nearly 1.
        let rest: f32 = row.iter().sum();
        row[target] = p;
        let weight = rest.powf(gamma);
        // ∂/∂z_c = (γ (1 − p)^(γ−1) p · −log p + (1 − p)^γ) (p_c − [c = target]).
        let along = if rest > 0.0 && gamma > 0.0 { gamma * weight / rest * p * loss } else { 0.0 };
        let slope = along + weight;
        row.iter_mut().for_each(|q| *q *= slope);
        row[target] = -slope * rest;
        weight * loss
    })
}

/// Mean over rows of KL(y ‖ softmax(z)) = Σ_c y_c (log y_c − log softmax(z)_c), where each row of `targets` `[N·C]` is a
/// distribution. Sizes, weights and −∞ (where y is 0) as [`softmax_cross_entropy`].
///
/// # Panics
/// If the sizes do not fit.
pub fn kl_divergence(logits: &Tensor, targets: &[f32], weights: &[f32]) -> Tensor {
    assert_eq!(targets.len(), logits.len(), "{} targets for logits {:?}", targets.len(), logits.shape);
    let width = logits.width();
    by_row(logits, weights, |i, row| {
        let y = &targets[i * width..][..width];
        let fit: f32 = row.iter().zip(y).filter(|(_, y)| **y > 0.0).map(|(z, y)| y * (y.ln() - z)).sum();
        let mass: f32 = y.iter().sum();
        let loss = fit + mass * softmax_row(row);
        row.iter_mut().zip(y).for_each(|(p, y)| *p = *p * mass - y);
        loss
    })
}
