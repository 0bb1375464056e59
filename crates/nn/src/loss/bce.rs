//! Binary cross-entropy.

use super::shares;
use crate::ops::sigmoid;
use crate::tensor::{Shape, Tensor, own};

/// Mean over rows of Σ_t −y log σ(z) − (1 − y) log(1 − σ(z)), computed as max(z, 0) − z y + log(1 + e^−|z|).
///
/// `logits` `[N, T]`, `labels` `[N·T]` in `[0, 1]`. Row weights `[N]` make it Σ w l / Σ w (0 if Σ w is not positive);
/// none means all equal. For T tasks their losses are added.
///
/// # Panics
/// If the sizes do not fit.
pub fn bce_with_logits(logits: &Tensor, labels: &[f32], weights: &[f32]) -> Tensor {
    let (rows, tasks) = (logits.rows(), logits.width());
    assert_eq!(labels.len(), rows * tasks, "{} labels for logits {:?}", labels.len(), logits.shape);
    let shares = shares(weights, rows);
    let z = logits.data();
    let mut total = 0.0f64;
    for (i, (z, y)) in z.iter().zip(labels).enumerate() {
        let loss = z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
        // A row of weight zero may hold anything.
        if shares[i / tasks] != 0.0 {
            total += f64::from(loss) * f64::from(shares[i / tasks]);
        }
    }
    let (logits, labels) = (logits.clone(), labels.to_vec());
    let value = own(vec![total as f32].into());
    logits.clone().output(Shape::new(&[1]), value, logits.tracked(), move |g, grads| {
        let z = logits.data();
        grads.sum(logits.node, z.len(), |gz| {
            for (i, gz) in gz.iter_mut().enumerate() {
                let share = shares[i / tasks];
                if share != 0.0 {
                    *gz += g[0] * share * (sigmoid(z[i]) - labels[i]);
                }
            }
        });
    })
}
