//! Losses of the order of a whole group.

use super::groups::{Group, Groups, Part, in_groups};
use crate::ops::softmax_row;
use crate::tensor::Tensor;

/// Mean over groups of −Σ_i (yᵢ / Σ y) log softmax(z)ᵢ (Bruch et al. 2019); groups without a positive label do not count.
///
/// `logits` `[N, T]`, relevance `labels` `[N·T]`, at least 0; for T tasks losses are added. A group's weight is the mean
/// of its row weights `[N]` (none: all equal); a row of weight zero is no part of its group.
///
/// # Panics
/// If the sizes do not fit.
pub fn list_softmax(logits: &Tensor, labels: &[f32], weights: &[f32], groups: &Groups) -> Tensor {
    in_groups(logits, labels, weights, groups, |group, slopes| {
        let sum: f32 = group.labels.iter().sum();
        if sum <= 0.0 || group.labels.len() < 2 {
            return Part { loss: 0.0, count: 0.0 };
        }
        cross_entropy(group, slopes, group.labels.iter().map(|y| y / sum))
    })
}

/// Mean over groups of −Σ_i softmax(y)ᵢ log softmax(z)ᵢ: ListNet with the probabilities of the first place (Cao et al.
/// 2007, eq. 3); groups of one row do not count. Sizes and weights as [`list_softmax`].
///
/// # Panics
/// If the sizes do not fit.
pub fn list_net(logits: &Tensor, labels: &[f32], weights: &[f32], groups: &Groups) -> Tensor {
    in_groups(logits, labels, weights, groups, |group, slopes| {
        if group.labels.len() < 2 {
            return Part { loss: 0.0, count: 0.0 };
        }
        let mut target = group.labels.to_vec();
        softmax_row(&mut target);
        cross_entropy(group, slopes, target.into_iter())
    })
}

/// −Σ pᵢ log softmax(z)ᵢ for probabilities p.
fn cross_entropy(group: &Group<'_>, slopes: &mut [f32], target: impl Iterator<Item = f32>) -> Part {
    slopes.copy_from_slice(group.scores);
    let log_sum = softmax_row(slopes);
    let mut loss = 0.0;
    for ((slope, z), p) in slopes.iter_mut().zip(group.scores).zip(target) {
        if p > 0.0 {
            loss += f64::from(p * (log_sum - z));
        }
        *slope -= p;
    }
    Part { loss, count: 1.0 }
}

/// Mean over groups of −Σ_i log(e^{zᵢ} / Σ_{j: yⱼ ≤ yᵢ} e^{zⱼ}) over rows i from the highest label down, as far as the
/// first `top` places and above the lowest label: the likelihood of the right order (Xia et al. 2008, ListMLE). Rows of
/// equal label do not stand in each other's way; without such this is the paper's loss. Groups with one label only do
/// not count. Sizes and weights as [`list_softmax`].
///
/// # Panics
/// If the sizes do not fit.
pub fn list_mle(
    logits: &Tensor,
    labels: &[f32],
    weights: &[f32],
    groups: &Groups,
    top: Option<usize>,
) -> Tensor {
    let top = top.unwrap_or(usize::MAX);
    in_groups(logits, labels, weights, groups, |group, slopes| {
        let order = group.order(group.labels);
        let blocks: Vec<&[u32]> =
            order.chunk_by(|a, b| group.labels[*a as usize] == group.labels[*b as usize]).collect();
        if blocks.len() < 2 {
            return Part { loss: 0.0, count: 0.0 };
        }
        let score = |i: &u32| f64::from(group.scores[*i as usize]);
        let below = sums_below(&blocks, score);
        // log Σ over blocks so far of (its rows that count) / Σ_{j at or below it} e^{zⱼ}.
        let (mut loss, mut left, mut so_far) = (0.0, top, f64::NEG_INFINITY);
        for (b, block) in blocks.iter().enumerate() {
            let counting = if b + 1 < blocks.len() { block.len().min(left) } else { 0 };
            left -= counting;
            if counting > 0 {
                so_far = log_add(so_far, (counting as f64).ln() - below[b]);
            }
            for (place, i) in block.iter().enumerate() {
                let own = if place < counting { 1.0 } else { 0.0 };
                loss += own * (below[b] - score(i));
                slopes[*i as usize] = ((score(i) + so_far).exp() - own) as f32;
            }
        }
        Part { loss, count: 1.0 }
    })
}

/// For each block, log Σ e^z over it and all after it.
fn sums_below(blocks: &[&[u32]], score: impl Fn(&u32) -> f64) -> Vec<f64> {
    let mut sums = vec![f64::NEG_INFINITY; blocks.len()];
    let mut sum = f64::NEG_INFINITY;
    for (block, out) in blocks.iter().zip(&mut sums).rev() {
        sum = block.iter().fold(sum, |sum, i| log_add(sum, score(i)));
        *out = sum;
    }
    sums
}

/// log(eᵃ + eᵇ).
fn log_add(a: f64, b: f64) -> f64 {
    let (most, least) = if a > b { (a, b) } else { (b, a) };
    if least == f64::NEG_INFINITY { most } else { most + (least - most).exp().ln_1p() }
}
