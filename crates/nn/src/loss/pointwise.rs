//! Losses that look at each number alone.

use super::shares;
use crate::buffer::Buffer;
use crate::chunks;
use crate::ops::sigmoid;
use crate::tensor::{Shape, Tensor, own};

/// log(1 + eˣ), without overflow.
#[inline]
pub(crate) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Mean over rows (Σ w l / Σ w if weighted) of the sum over columns of l(z, y), where `f(z, y)` is (l, ∂l/∂z).
/// No labels are zeros. A row of weight zero may hold anything.
pub(super) fn pointwise(
    z: &Tensor,
    labels: &[f32],
    weights: &[f32],
    f: impl Fn(f32, f32) -> (f32, f32) + Sync,
) -> Tensor {
    let (rows, width) = (z.rows(), z.width());
    assert!(labels.is_empty() || labels.len() == z.len(), "{} labels for logits {:?}", labels.len(), z.shape);
    let shares = shares(weights, rows);
    let (mut slopes, mut losses) = (Buffer::copy_of(z.data()), Buffer::any(rows));
    chunks::rows2((&mut slopes, width), (&mut losses, 1), |from, slopes, losses| {
        for (i, (row, loss)) in slopes.chunks_exact_mut(width).zip(losses).enumerate() {
            let share = shares[from + i];
            let y = labels.get((from + i) * width..).unwrap_or(&[]);
            *loss = if share == 0.0 { 0.0 } else { share * row_loss(row, y, &f) };
            row.iter_mut().for_each(|v| *v = if share == 0.0 { 0.0 } else { *v * share });
        }
    });
    let (total, node) = (chunks::total(&losses) as f32, z.node);
    z.output(Shape::new(&[1]), own(vec![total].into()), node.is_some(), move |g, grads| {
        if g[0] != 1.0 {
            chunks::rows(&mut slopes, 1, |_, s| s.iter_mut().for_each(|v| *v *= g[0]));
        }
        grads.add(node, slopes);
    })
}

/// Replaces a row's numbers by their slopes; gives the sum of their losses.
fn row_loss(row: &mut [f32], labels: &[f32], f: &impl Fn(f32, f32) -> (f32, f32)) -> f32 {
    let mut sum = 0.0;
    for (i, v) in row.iter_mut().enumerate() {
        let (loss, slope) = f(*v, labels.get(i).copied().unwrap_or(0.0));
        sum += loss;
        *v = slope;
    }
    sum
}

/// −y log σ(z) − (1 − y) log(1 − σ(z)), and its slope σ(z) − y.
#[inline]
fn cross_entropy(z: f32, y: f32) -> (f32, f32) {
    (softplus(z) - z * y, sigmoid(z) - y)
}

/// Mean over rows of Σ_t −y log σ(z) − (1 − y) log(1 − σ(z)), computed as max(z, 0) − z y + log(1 + e^−|z|).
///
/// `logits` `[N, T]`, `labels` `[N·T]` in `[0, 1]`. Row weights `[N]` make it Σ w l / Σ w (0 if Σ w is not positive);
/// none means all equal. For T tasks their losses are added.
///
/// # Panics
/// If the sizes do not fit.
pub fn bce_with_logits(logits: &Tensor, labels: &[f32], weights: &[f32]) -> Tensor {
    assert_eq!(labels.len(), logits.len(), "{} labels for logits {:?}", labels.len(), logits.shape);
    pointwise(logits, labels, weights, cross_entropy)
}

/// [`bce_with_logits`] with labels y (1 − s) + s / 2 (label smoothing) and the positive part times p:
/// −p y log σ(z) − (1 − y) log(1 − σ(z)).
///
/// `options` are (s, p): s in [0, 1), 0 for none; p above 0, 1 for none.
///
/// # Panics
/// If the sizes do not fit.
pub fn bce(logits: &Tensor, labels: &[f32], weights: &[f32], options: (f32, f32)) -> Tensor {
    let (smoothing, positive) = options;
    if options == (0.0, 1.0) {
        return bce_with_logits(logits, labels, weights);
    }
    assert_eq!(labels.len(), logits.len(), "{} labels for logits {:?}", labels.len(), logits.shape);
    pointwise(logits, labels, weights, |z, y| {
        let y = y * (1.0 - smoothing) + 0.5 * smoothing;
        let loss = positive * y * softplus(-z) + (1.0 - y) * softplus(z);
        (loss, (1.0 - y) * sigmoid(z) - positive * y * sigmoid(-z))
    })
}

/// Mean over rows of Σ_t (z − y)²; sizes and weights as [`bce_with_logits`].
///
/// # Panics
/// If the sizes do not fit.
pub fn mse(z: &Tensor, labels: &[f32], weights: &[f32]) -> Tensor {
    pointwise(z, labels, weights, |z, y| ((z - y) * (z - y), 2.0 * (z - y)))
}

/// Mean over rows of Σ_t |z − y|, with slope 0 where they are equal; sizes and weights as [`bce_with_logits`].
///
/// # Panics
/// If the sizes do not fit.
pub fn mae(z: &Tensor, labels: &[f32], weights: &[f32]) -> Tensor {
    let sign = |d: f32| f32::from(d > 0.0) - f32::from(d < 0.0);
    pointwise(z, labels, weights, |z, y| ((z - y).abs(), sign(z - y)))
}

/// Mean over rows of Σ_t max(0, 1 − (2y − 1) z), labels 0 or 1; sizes and weights as [`bce_with_logits`].
///
/// # Panics
/// If the sizes do not fit.
pub fn hinge(logits: &Tensor, labels: &[f32], weights: &[f32]) -> Tensor {
    pointwise(logits, labels, weights, |z, y| {
        let sign = 2.0 * y - 1.0;
        let short = 1.0 - sign * z;
        if short > 0.0 { (short, -sign) } else { (0.0, 0.0) }
    })
}

/// Mean over rows of Σ_t KL(y ‖ σ(z)) = y log(y / σ(z)) + (1 − y) log((1 − y) / (1 − σ(z))), labels in [0, 1]: the
/// cross-entropy less the labels' own entropy. Sizes and weights as [`bce_with_logits`].
///
/// # Panics
/// If the sizes do not fit.
pub fn binary_kl(logits: &Tensor, labels: &[f32], weights: &[f32]) -> Tensor {
    let term = |p: f32| if p > 0.0 { p * p.ln() } else { 0.0 };
    pointwise(logits, labels, weights, |z, y| {
        let (loss, slope) = cross_entropy(z, y);
        (loss + term(y) + term(1.0 - y), slope)
    })
}

/// Mean over rows of Σ_t −α y (1 − p)^γ log p − (1 − α)(1 − y) p^γ log(1 − p), p = σ(z) (Lin et al. 2017, focal loss for
/// dense object detection, eq. 5); without α both weights are 1. Labels in [0, 1]; sizes and weights as
/// [`bce_with_logits`].
///
/// `options` are (γ, α): γ at least 0, α in (0, 1).
///
/// # Panics
/// If the sizes do not fit.
pub fn binary_focal(logits: &Tensor, labels: &[f32], weights: &[f32], options: (f32, Option<f32>)) -> Tensor {
    let (gamma, alpha) = options;
    class_focal(logits, labels, weights, (gamma, alpha.map_or([1.0, 1.0], |a| [1.0 - a, a])))
}

/// [`binary_focal`] with a weight for the part of class 0 and one for that of class 1; with γ = 0 cross-entropy with
/// class weights. `options` are (γ, weights).
///
/// # Panics
/// If the sizes do not fit.
pub fn class_focal(logits: &Tensor, labels: &[f32], weights: &[f32], options: (f32, [f32; 2])) -> Tensor {
    let (gamma, [negative, positive]) = options;
    pointwise(logits, labels, weights, |z, y| {
        let (hit, hit_slope) = focal_part(z, gamma);
        let (miss, miss_slope) = focal_part(-z, gamma);
        let (p, n) = (positive * y, negative * (1.0 - y));
        (p * hit + n * miss, p * hit_slope - n * miss_slope)
    })
}

/// −(1 − σ(z))^γ log σ(z), and its slope −q^γ (γ (1 − q) softplus(−z) + q) with q = σ(−z).
#[inline]
fn focal_part(z: f32, gamma: f32) -> (f32, f32) {
    let (q, loss) = (sigmoid(-z), softplus(-z));
    let weight = q.powf(gamma);
    (weight * loss, -weight * (gamma * sigmoid(z) * loss + q))
}
