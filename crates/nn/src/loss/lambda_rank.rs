//! LambdaRank.

use super::groups::{Group, Groups, Part, in_groups};
use super::pointwise::softplus;
use crate::ops::sigmoid;
use crate::tensor::Tensor;

/// Constants of [`lambda_rank`]; the default is LightGBM's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambdaRank {
    /// σ, above 0.
    pub sigma: f32,
    /// k, at least 1: pairs count that have a member among the k best scores, and NDCG is NDCG@k's.
    pub truncation: usize,
    /// Whether a pair's slope is divided by 0.01 + |zᵢ − zⱼ| (in groups whose scores are not all equal), and those of a
    /// group multiplied by log₂(1 + S) / S, S the sum of their sizes over both members.
    pub normalise: bool,
}

impl Default for LambdaRank {
    fn default() -> Self {
        Self { sigma: 1.0, truncation: 30, normalise: true }
    }
}

/// RankNet with each pair weighted by what swapping the two would change in NDCG@k (Burges 2010, from RankNet to
/// LambdaRank to LambdaMART, §4), to LightGBM's convention: for yᵢ > yⱼ,
/// λ = −σ |ΔNDCG| / (1 + e^(σ (zᵢ − zⱼ))) is added to ∂/∂zᵢ and taken off ∂/∂zⱼ, with gain 2^y − 1 and discount
/// 1 / log₂(2 + rank).
///
/// The value is Σ |ΔNDCG| log(1 + e^(−σ (zᵢ − zⱼ))), the mean over groups that have pairs; gradients take |ΔNDCG| and the
/// normalisation for constant. Sizes and weights as [`super::rank_net`].
///
/// # Panics
/// If the sizes do not fit.
pub fn lambda_rank(
    logits: &Tensor,
    labels: &[f32],
    weights: &[f32],
    groups: &Groups,
    rule: &LambdaRank,
) -> Tensor {
    in_groups(logits, labels, weights, groups, |group, slopes| of_group(group, slopes, rule))
}

fn of_group(group: &Group<'_>, slopes: &mut [f32], rule: &LambdaRank) -> Part {
    let best = best_dcg(group.labels, rule.truncation);
    if best <= 0.0 {
        return Part { loss: 0.0, count: 0.0 };
    }
    let order = group.order(group.scores);
    let ranked = Ranked {
        scores: order.iter().map(|i| group.scores[*i as usize]).collect(),
        gains: order.iter().map(|i| gain(group.labels[*i as usize])).collect(),
        discounts: (0..order.len()).map(discount).collect(),
    };
    let mut sums = vec![0.0f32; order.len()];
    let (mut loss, mut size, mut met) = (0.0f64, 0.0f64, false);
    for i in 0..order.len().min(rule.truncation) {
        for j in i + 1..order.len() {
            let Some(Lambda { value, slope }) = ranked.pair(i, j, best, rule) else { continue };
            let up = if ranked.gains[i] > ranked.gains[j] { slope } else { -slope };
            sums[i] += up;
            sums[j] -= up;
            loss += f64::from(value);
            size -= 2.0 * f64::from(slope);
            met = true;
        }
    }
    let scale = if rule.normalise && size > 0.0 { (1.0 + size).log2() / size } else { 1.0 };
    order.iter().zip(&sums).for_each(|(i, v)| slopes[*i as usize] = *v * scale as f32);
    Part { loss: loss * scale, count: f64::from(u8::from(met)) }
}

/// A group from its best score down.
struct Ranked {
    scores: Vec<f32>,
    gains: Vec<f32>,
    discounts: Vec<f32>,
}

/// What a pair adds to the loss, and to the slope of its more relevant member.
struct Lambda {
    value: f32,
    slope: f32,
}

impl Ranked {
    fn pair(&self, i: usize, j: usize, best: f32, rule: &LambdaRank) -> Option<Lambda> {
        let gap = self.gains[i] - self.gains[j];
        if gap == 0.0 {
            return None;
        }
        let lead = self.scores[i] - self.scores[j];
        let d = if gap > 0.0 { lead } else { -lead };
        let mut change = gap.abs() * (self.discounts[i] - self.discounts[j]).abs() / best;
        if rule.normalise && self.scores[0] != self.scores[self.scores.len() - 1] {
            change /= 0.01 + d.abs();
        }
        let slope = -rule.sigma * change * sigmoid(-rule.sigma * d);
        Some(Lambda { value: change * softplus(-rule.sigma * d), slope })
    }
}

fn gain(label: f32) -> f32 {
    label.exp2() - 1.0
}

fn discount(rank: usize) -> f32 {
    1.0 / ((2 + rank) as f32).log2()
}

/// DCG@k of the best order.
fn best_dcg(labels: &[f32], k: usize) -> f32 {
    let mut sorted = labels.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.iter().take(k).enumerate().map(|(rank, y)| gain(*y) * discount(rank)).sum()
}
