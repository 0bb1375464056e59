//! Losses against sampled negatives.

use super::pointwise::bce_with_logits;
use super::{InBatch, in_batch_logits, softmax_cross_entropy, softmax_focal};
use crate::tensor::Tensor;

/// What is known about sampled negatives: K of them, the same for all N rows or each row's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sampled<'a> {
    /// `[N]`: log of how often each row's positive is expected among K drawn (log K q when drawn with replacement); empty
    /// for no correction.
    pub positive_log_q: &'a [f32],
    /// `[K]` or `[N·K]`: the same for the negatives; empty for no correction.
    pub negative_log_q: &'a [f32],
    /// `[N]`: item of each row's positive. Empty for no mask.
    pub positive_items: &'a [u32],
    /// `[K]` or `[N·K]`: items of the negatives; one that is the row's positive is no negative for it. Empty for no mask.
    pub negative_items: &'a [u32],
    /// `[N]` row weights, or empty for all equal.
    pub weights: &'a [f32],
}

impl Sampled<'_> {
    /// `[N, 1]`, `[N, K]` → `[N, 1 + K]` with log q taken off, and accidental hits at `out`.
    fn logits(&self, positive: &Tensor, negative: &Tensor, out: f32) -> Tensor {
        let (n, k) = (positive.rows(), negative.width());
        assert_eq!((positive.width(), negative.rows()), (1, n), "{positive:?} beside {negative:?}");
        let fits = |len: usize| len == 0 || len == k || len == n * k;
        assert!(fits(self.negative_log_q.len()) && fits(self.negative_items.len()), "{k} negatives a row");
        for len in [self.positive_log_q.len(), self.positive_items.len()] {
            assert!(len == 0 || len == n, "{len} positives for {n} rows");
        }
        let both = (self.positive_log_q.is_empty(), self.positive_items.is_empty());
        let others = (self.negative_log_q.is_empty(), self.negative_items.is_empty());
        assert_eq!(both, others, "log q and items are given for positives and negatives, or for none");
        let logits = Tensor::concat(&[positive, negative]);
        if both == (true, true) { logits } else { logits.shift(|r, row| self.correct(r, row, out)) }
    }

    fn correct(&self, r: usize, row: &mut [f32], out: f32) {
        if let [positive, negatives @ ..] = row {
            *positive -= self.positive_log_q.get(r).unwrap_or(&0.0);
            let k = negatives.len();
            negatives.iter_mut().zip(of_row(self.negative_log_q, r, k)).for_each(|(v, q)| *v -= q);
            let Some(own) = self.positive_items.get(r) else { return };
            let hits = negatives.iter_mut().zip(of_row(self.negative_items, r, k)).filter(|(_, i)| *i == own);
            hits.for_each(|(v, _)| *v = out);
        }
    }
}

/// The K values of row r, of which there are K for all rows or for each.
fn of_row<T>(values: &[T], r: usize, k: usize) -> &[T] {
    if values.len() > k { &values[r * k..][..k] } else { values }
}

/// Sampled softmax (Jean et al. 2015; Bengio & Senécal 2008): softmax cross-entropy of the positive against K sampled
/// negatives, log q taken off, accidental hits masked.
///
/// `positive` `[N, 1]`, `negative` `[N, K]`.
///
/// # Panics
/// If the sizes do not fit.
pub fn sampled_softmax(positive: &Tensor, negative: &Tensor, known: &Sampled<'_>) -> Tensor {
    let logits = known.logits(positive, negative, f32::NEG_INFINITY);
    softmax_cross_entropy(&logits, &vec![0; positive.rows()], known.weights)
}

/// Noise-contrastive estimation (Gutmann & Hyvärinen 2010; Mnih & Teh 2012): with z′ = z − log(K q),
/// −log σ(z′₊) − Σ_k log σ(−z′_k), the mean over rows. Accidental hits are masked. Sizes as [`sampled_softmax`].
///
/// # Panics
/// If the sizes do not fit.
pub fn nce(positive: &Tensor, negative: &Tensor, known: &Sampled<'_>) -> Tensor {
    // So low that it adds nothing, and finite.
    let logits = known.logits(positive, negative, -1e30);
    let mut labels = vec![0.0; logits.len()];
    labels.iter_mut().step_by(logits.width()).for_each(|y| *y = 1.0);
    bce_with_logits(&logits, &labels, known.weights)
}

/// Negative sampling (Mikolov et al. 2013, eq. 4): −log σ(z₊) − Σ_k log σ(−z_k), the mean over rows; [`nce`] without a
/// correction. Sizes as [`sampled_softmax`]; row weights `[N]`, or none.
///
/// # Panics
/// If the sizes do not fit.
pub fn negative_sampling(positive: &Tensor, negative: &Tensor, weights: &[f32]) -> Tensor {
    nce(positive, negative, &Sampled { weights, ..Sampled::default() })
}

/// InfoNCE (van den Oord et al. 2018): softmax cross-entropy of ⟨q_r, k_c⟩ / τ, key r being right for query r; all other
/// keys are negatives. [`super::in_batch_softmax`] corrects for popularity besides.
///
/// `queries` `[R, D]`; `keys` `[C, D]`, C ≥ R; τ above 0.
///
/// # Panics
/// If the sizes do not fit, or τ is not above 0.
pub fn info_nce(queries: &Tensor, keys: &Tensor, temperature: f32, weights: &[f32]) -> Tensor {
    super::in_batch_softmax(queries, keys, &InBatch { temperature, weights, ..InBatch::default() })
}

/// InfoNCE with the focal weight (1 − p)^γ on each row's −log p, p the softmax of its own key: rows that are told apart
/// easily lose weight. γ at least 0; sizes as [`super::in_batch_softmax`], whose corrections apply.
///
/// # Panics
/// If the sizes do not fit, or the temperature is not above 0.
pub fn focal_nce(queries: &Tensor, keys: &Tensor, known: &InBatch<'_>, gamma: f32) -> Tensor {
    let targets: Vec<u32> = (0..queries.rows() as u32).collect();
    softmax_focal(&in_batch_logits(queries, keys, known), &targets, known.weights, gamma)
}
