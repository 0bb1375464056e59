//! Losses of pairs of which one should score higher.

use super::groups::{Group, Groups, Part, in_groups};
use super::pointwise::{pointwise, softplus};
use crate::ops::sigmoid;
use crate::tensor::Tensor;

/// Mean over the pairs of one group with yᵢ > yⱼ of log(1 + e^(−σ (zᵢ − zⱼ))) (Burges et al. 2005, with their target
/// probability 1). σ above 0.
///
/// `logits` `[N, T]`, graded relevance `labels` `[N·T]`; for T tasks losses are added. Pairs of a group count with the
/// mean of the row weights `[N]` of the group (none: all equal); a row of weight zero has no pairs. Work grows with the
/// pairs inside of groups only. 0 if there is no pair.
///
/// # Panics
/// If the sizes do not fit.
pub fn rank_net(logits: &Tensor, labels: &[f32], weights: &[f32], groups: &Groups, sigma: f32) -> Tensor {
    in_groups(logits, labels, weights, groups, |group, slopes| {
        pairs(group, slopes, |d| (softplus(-sigma * d), -sigma * sigmoid(-sigma * d)))
    })
}

/// Mean over the same pairs of max(0, m − zᵢ + zⱼ); sizes and weights as [`rank_net`].
///
/// # Panics
/// If the sizes do not fit.
pub fn margin_in_groups(
    logits: &Tensor,
    labels: &[f32],
    weights: &[f32],
    groups: &Groups,
    margin: f32,
) -> Tensor {
    in_groups(logits, labels, weights, groups, |group, slopes| {
        pairs(group, slopes, |d| if d < margin { (margin - d, -1.0) } else { (0.0, 0.0) })
    })
}

/// Sums `f(zᵢ − zⱼ)`, a loss and its slope, over pairs with yᵢ > yⱼ.
fn pairs(group: &Group<'_>, slopes: &mut [f32], f: impl Fn(f32) -> (f32, f32)) -> Part {
    let order = group.order(group.labels);
    let of = |values: &[f32]| order.iter().map(|i| values[*i as usize]).collect::<Vec<f32>>();
    let (scores, labels) = (of(group.scores), of(group.labels));
    let mut sums = vec![0.0f32; scores.len()];
    let mut all = Part { loss: 0.0, count: 0.0 };
    let mut lower = 0;
    for i in 0..scores.len() {
        lower += labels[lower..].iter().take_while(|y| **y >= labels[i]).count();
        let (mut loss, mut own) = (0.0f64, 0.0f32);
        for (z, sum) in scores[lower..].iter().zip(&mut sums[lower..]) {
            let (l, slope) = f(scores[i] - z);
            loss += f64::from(l);
            own += slope;
            *sum -= slope;
        }
        sums[i] += own;
        all.loss += loss;
        all.count += (scores.len() - lower) as f64;
    }
    order.iter().zip(&sums).for_each(|(i, v)| slopes[*i as usize] = *v);
    all
}

/// Mean over rows and over their K negatives of −log σ(p − n) (Rendle et al. 2009, BPR-Opt without its prior).
///
/// `positive` `[N, 1]`, `negative` `[N, K]`. Row weights `[N]` make it Σ w l / Σ w.
///
/// # Panics
/// If the sizes do not fit.
pub fn bpr(positive: &Tensor, negative: &Tensor, weights: &[f32]) -> Tensor {
    let share = 1.0 / negative.width() as f32;
    let d = negative.scale(-1.0).add_column(positive); // [N, K]
    pointwise(&d, &[], weights, |d, _| (share * softplus(-d), -share * sigmoid(-d)))
}

/// Mean over rows and over their K negatives of max(0, m − p + n); sizes and weights as [`bpr`].
///
/// # Panics
/// If the sizes do not fit.
pub fn margin(positive: &Tensor, negative: &Tensor, weights: &[f32], margin: f32) -> Tensor {
    let share = 1.0 / negative.width() as f32;
    let d = negative.scale(-1.0).add_column(positive); // [N, K]
    pointwise(&d, &[], weights, |d, _| if d < margin { (share * (margin - d), -share) } else { (0.0, 0.0) })
}

/// Mean over rows of max(0, m + ‖a − p‖ − ‖a − n‖), with 1e-6 added to each difference as PyTorch does (Schroff et al.
/// 2015 have squared distances). `anchor`, `positive`, `negative` `[N, D]`; weights as [`bpr`].
///
/// # Panics
/// If the sizes do not fit.
pub fn triplet(
    anchor: &Tensor,
    positive: &Tensor,
    negative: &Tensor,
    weights: &[f32],
    margin: f32,
) -> Tensor {
    let near = anchor.distance_rows(positive); // [N, 1]
    let far = anchor.distance_rows(negative); // [N, 1]
    pointwise(
        &near.sub(&far),
        &[],
        weights,
        |d, _| {
            if margin + d > 0.0 { (margin + d, 1.0) } else { (0.0, 0.0) }
        },
    )
}
