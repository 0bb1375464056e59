//! Losses: scalars from logits and what happened.

mod bce;
mod in_batch;
mod softmax;

pub use bce::bce_with_logits;
pub use in_batch::{InBatch, in_batch_softmax};
pub use softmax::softmax_cross_entropy;

/// Weight of each row over their sum; `1 / rows` each if `weights` is empty, zeros if they sum to nothing positive.
fn shares(weights: &[f32], rows: usize) -> Vec<f32> {
    if weights.is_empty() {
        return vec![1.0 / rows.max(1) as f32; rows];
    }
    assert_eq!(weights.len(), rows, "{} weights for {rows} rows", weights.len());
    let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let scale = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    weights.iter().map(|w| (f64::from(*w) * scale) as f32).collect()
}
