//! What trees are fitted to: first and second derivatives of the loss by the score of each row.

use rayon::prelude::*;
use serde::Deserialize;

use super::Config;
use crate::ndcg::{discount, gain, ideal_dcg, ndcg, order};

/// Loss of a forest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Objective {
    /// Binary cross-entropy; labels are 0 or 1.
    #[default]
    Binary,
    /// Squared error.
    Regression,
    /// Pairs of a request weighted by the NDCG that exchanging them changes (Burges et al. 2006; Wu et al. 2010).
    LambdaRank,
    /// All pairs of a request alike (Burges et al. 2005).
    RankNet,
}

/// The labels that scores are judged by.
pub(super) struct Truth<'a> {
    /// `[N]`.
    pub(super) labels: &'a [f32],
    /// `[N]`, or empty when all are 1.
    pub(super) weights: &'a [f32],
    /// Rows up to the end of each request, rising.
    pub(super) ends: &'a [usize],
}

impl Truth<'_> {
    fn weight(&self, row: usize) -> f64 {
        self.weights.get(row).map_or(1.0, |&w| f64::from(w))
    }

    fn requests(&self) -> impl IndexedParallelIterator<Item = std::ops::Range<usize>> + '_ {
        let start = |at: usize| if at == 0 { 0 } else { self.ends[at - 1] };
        (0..self.ends.len()).into_par_iter().map(move |at| start(at)..self.ends[at])
    }

    fn mean(&self, of: impl Fn(usize) -> f64) -> f64 {
        let (sum, total) = (0..self.labels.len()).fold((0.0, 0.0), |(sum, total), row| {
            let w = self.weight(row);
            (sum + w * of(row), total + w)
        });
        if total > 0.0 { sum / total } else { 0.0 }
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl Objective {
    /// Whether it compares the rows of a request with each other.
    pub(super) fn compares(self) -> bool {
        matches!(self, Self::LambdaRank | Self::RankNet)
    }

    /// The best score that is the same for all rows.
    pub(super) fn base(self, y: &Truth<'_>) -> f64 {
        let mean = y.mean(|row| f64::from(y.labels[row]));
        match self {
            Self::Binary => {
                let p = mean.clamp(1e-6, 1.0 - 1e-6);
                (p / (1.0 - p)).ln()
            }
            Self::Regression => mean,
            Self::LambdaRank | Self::RankNet => 0.0,
        }
    }

    /// What early stopping watches, smaller being better: the loss itself, or 1 − NDCG of rankings.
    pub(super) fn badness(self, cfg: &Config, scores: &[f64], y: &Truth<'_>) -> f64 {
        let label = |row: usize| f64::from(y.labels[row]);
        match self {
            // ln(1 + e^z) − y z, stable for any z.
            Self::Binary => y.mean(|row| {
                scores[row].max(0.0) - scores[row] * label(row) + (-scores[row].abs()).exp().ln_1p()
            }),
            Self::Regression => y.mean(|row| (scores[row] - label(row)).powi(2)),
            Self::LambdaRank | Self::RankNet => {
                let all: Vec<f64> = y
                    .requests()
                    .map(|span| ndcg(&scores[span.clone()], &y.labels[span], cfg.ndcg_at))
                    .collect();
                1.0 - all.iter().sum::<f64>() / all.len().max(1) as f64
            }
        }
    }

    /// Gradients and Hessians `[N]` at these scores.
    pub(super) fn derivatives(self, cfg: &Config, scores: &[f64], y: &Truth<'_>) -> (Vec<f32>, Vec<f32>) {
        let row_by_row = |of: &dyn Fn(f64, f64) -> (f64, f64)| {
            let one = |row: usize| {
                let (g, h) = of(scores[row], f64::from(y.labels[row]));
                let w = y.weight(row);
                ((w * g) as f32, (w * h) as f32)
            };
            (0..scores.len()).map(one).unzip()
        };
        match self {
            Self::Binary => row_by_row(&|z, label| {
                let p = sigmoid(z);
                (p - label, (p * (1.0 - p)).max(1e-16))
            }),
            Self::Regression => row_by_row(&|z, label| (z - label, 1.0)),
            Self::LambdaRank | Self::RankNet => self.pairs(cfg, scores, y),
        }
    }

    /// Derivatives of the pairs of all requests; a row's weight scales its own.
    fn pairs(self, cfg: &Config, scores: &[f64], y: &Truth<'_>) -> (Vec<f32>, Vec<f32>) {
        let of_requests: Vec<Vec<(f64, f64)>> = y
            .requests()
            .map(|span| request_pairs(self, cfg, &scores[span.clone()], &y.labels[span]))
            .collect();
        let all = of_requests.into_iter().flatten().enumerate();
        all.map(|(row, (g, h))| ((y.weight(row) * g) as f32, (y.weight(row) * h) as f32)).unzip()
    }
}

/// Gradient and Hessian of each candidate of one request.
///
/// For each pair with grade i > grade j, one of them among the first `truncation` by score: with s = score i −
/// score j, ρ = 1 / (1 + e^(σ s)) and weight Δ, gradient −σ ρ Δ for i and its opposite for j, Hessian σ² ρ (1 − ρ) Δ
/// for both. Δ is |ΔNDCG@truncation| for LambdaRank, 1 for RankNet. With `normalise`, Δ is divided by 0.01 +
/// |s| where scores differ, and the request's sums by Λ / log₂(1 + Λ), Λ being the sum of the absolute
/// gradients, so that long and easy requests do not rule (as LightGBM does).
fn request_pairs(objective: Objective, cfg: &Config, scores: &[f64], grades: &[f32]) -> Vec<(f64, f64)> {
    let (n, sigma) = (scores.len(), f64::from(cfg.sigmoid));
    let mut out = vec![(0.0, 0.0); n];
    let ideal = ideal_dcg(grades, cfg.truncation);
    if n < 2 || ideal <= 0.0 {
        return out;
    }
    let order = order(scores);
    let differ = scores[order[0] as usize] != scores[order[n - 1] as usize];
    let ranking = objective == Objective::LambdaRank;
    let mut total = 0.0;
    for first in 0..cfg.truncation.min(n - 1) {
        for second in first + 1..n {
            let (a, b) = (order[first] as usize, order[second] as usize);
            if grades[a] == grades[b] {
                continue;
            }
            let (high, low) = if grades[a] > grades[b] { (a, b) } else { (b, a) };
            let s = scores[high] - scores[low];
            let mut weight = 1.0;
            if ranking {
                let discounts = (discount(first) - discount(second)).abs();
                weight = (gain(grades[high]) - gain(grades[low])) * discounts / ideal;
            }
            if cfg.normalise && differ && ranking {
                weight /= 0.01 + s.abs();
            }
            let rho = sigmoid(-sigma * s);
            let (g, h) = (sigma * rho * weight, sigma * sigma * rho * (1.0 - rho) * weight);
            out[high] = (out[high].0 - g, out[high].1 + h);
            out[low] = (out[low].0 + g, out[low].1 + h);
            total += 2.0 * g;
        }
    }
    if cfg.normalise && total > 0.0 {
        let factor = (1.0 + total).log2() / total;
        out.iter_mut().for_each(|(g, h)| (*g, *h) = (*g * factor, *h * factor));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth<'a>(labels: &'a [f32], ends: &'a [usize]) -> Truth<'a> {
        Truth { labels, weights: &[], ends }
    }

    #[test]
    fn gradients_and_hessians_are_the_derivatives_of_the_loss() {
        let cfg = Config::default();
        let (labels, scores) = ([1.0, 0.0, 1.0], [0.3, -0.7, 2.0]);
        let y = truth(&labels, &[3]);
        for objective in [Objective::Binary, Objective::Regression] {
            // The mean of the squared error has twice the gradient.
            let scale = if objective == Objective::Regression { 1.5 } else { 3.0 };
            let (g, h) = objective.derivatives(&cfg, &scores, &y);
            for at in 0..3 {
                let moved = |d: f64| {
                    let mut s = scores;
                    s[at] += d;
                    objective.badness(&cfg, &s, &y) * scale
                };
                let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                let bend = (moved(1e-3) - 2.0 * moved(0.0) + moved(-1e-3)) / 1e-6;
                assert!((slope - f64::from(g[at])).abs() < 1e-4, "{objective:?} {at}");
                assert!((bend - f64::from(h[at])).abs() < 1e-4, "{objective:?} {at}");
            }
        }
    }

    #[test]
    fn rank_net_is_the_derivative_of_the_logistic_loss_of_pairs() {
        let cfg = Config { normalise: false, ..Config::default() };
        let (labels, scores) = ([2.0f32, 0.0, 1.0, 1.0], [0.3, 0.4, -0.7, 1.0]);
        let (g, _) = Objective::RankNet.derivatives(&cfg, &scores, &truth(&labels, &[4]));
        let loss = |s: &[f64; 4]| -> f64 {
            let pairs =
                (0..4).flat_map(|i| (0..4).map(move |j| (i, j))).filter(|&(i, j)| labels[i] > labels[j]);
            pairs.map(|(i, j)| (1.0 + (s[j] - s[i]).exp()).ln()).sum()
        };
        for at in 0..4 {
            let moved = |d: f64| {
                let mut s = scores;
                s[at] += d;
                loss(&s)
            };
            let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!((slope - f64::from(g[at])).abs() < 1e-5, "{at}: {slope} and {}", g[at]);
        }
    }

    #[test]
    fn lambdas_pull_apart_what_matters_most_and_no_more_than_a_request() {
        let cfg = Config::default();
        let labels = [0.0, 0.0, 3.0, 1.0, 0.0, 2.0];
        let (g, h) = Objective::LambdaRank.derivatives(&cfg, &[0.0; 6], &truth(&labels, &[3, 6]));
        assert!(g[2] < 0.0 && g[0] > g[1] && g[1] > 0.0, "the first place is worth most: {g:?}");
        assert!((g[..3].iter().sum::<f32>()).abs() < 1e-6 && (g[3..].iter().sum::<f32>()).abs() < 1e-6);
        assert!(h.iter().all(|&h| h > 0.0));
        let (g, h) = Objective::LambdaRank.derivatives(&cfg, &[0.0; 2], &truth(&[1.0, 1.0], &[2]));
        assert!(g.iter().chain(&h).all(|&x| x == 0.0), "equal grades say nothing");
    }
}
