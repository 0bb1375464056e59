//! Adversarial training on embeddings: the fast gradient method (Miyato et al. 2017).
//!
//! A step takes two passes. The first is the usual one; its gradients of the rows say where the loss grows fastest.
//! The second sees the rows moved there by ε; its gradients are added, and the rows themselves, which were never
//! changed, take the step.
//!
//! ```
//! use millstream_nn::{Mode, Params, Pass, RowInit, fgm};
//! let mut params = Params::new(1);
//! let table = params.table("user/d2", "user", 2, RowInit::Zero)?;
//! let rows = vec![1.0, 2.0];
//! let gradients_at = |rows: Vec<f32>| {
//!     let pass = Pass::new(&params, Mode::Train, 0);
//!     let loss = pass.table_rows(table, 2, rows).square().sum();
//!     pass.backward(&loss)
//! };
//! let mut gradients = gradients_at(rows.clone());
//! if let Some(found) = gradients.rows(table) {
//!     let moved = fgm::perturb(&rows, found, 0.5);
//!     gradients.add(gradients_at(moved));
//! }
//! assert!(gradients.rows(table).is_some_and(|g| g[0] > 4.0 && g[1] > 8.0));
//! # Ok::<(), millstream_nn::Error>(())
//! ```

use crate::chunks;

/// rows + ε g / ‖g‖, with the norm over all rows of the table together; the rows themselves if g is zero or not finite.
///
/// `rows` and `grads` `[U, D]`, as pulled from one table and as [`crate::Gradients::rows`] has them.
///
/// # Panics
/// If the sizes differ.
pub fn perturb(rows: &[f32], grads: &[f32], eps: f32) -> Vec<f32> {
    assert_eq!(rows.len(), grads.len(), "{} gradients for rows of {} values", grads.len(), rows.len());
    let norm = grads.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 || !norm.is_finite() {
        return rows.to_vec();
    }
    let (step, mut moved) = ((f64::from(eps) / norm) as f32, vec![0.0; rows.len()]);
    chunks::zip(&mut moved, rows, grads, |row, g| row + step * g);
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchNorm, Init, Mode, Params, Pass, RowInit};

    #[test]
    fn rows_move_by_eps_along_their_gradient() {
        // ‖(3, 0, 0, 4)‖ = 5.
        let moved = perturb(&[1.0, 2.0, 3.0, 4.0], &[3.0, 0.0, 0.0, 4.0], 0.5);
        let wanted = [1.3, 2.0, 3.0, 4.4];
        assert!(moved.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{moved:?}");
    }

    #[test]
    fn both_gradients_are_added_and_statistics_stay_those_of_the_clean_pass() {
        let mut params = Params::new(1);
        let table = params.table("t/d2", "t", 2, RowInit::Zero).unwrap();
        let norm = BatchNorm::new(&mut params, "n", 1).unwrap();
        let w = params.dense("w", &[1, 2], Init::Ones).unwrap();
        let rows = vec![1.0, 2.0];
        let at = |rows: &[f32]| {
            let pass = Pass::new(&params, Mode::Train, 0);
            let sum = pass.table_rows(table, 2, rows.to_vec()).linear(&pass.param(w), None); // r₁ + r₂
            let _ = norm.forward(&pass, &sum);
            pass.backward(&sum.square().sum())
        };
        // The loss is (w·r)²: ∂r = 2 (w·r) w = (6, 6), ∂w = 2 (w·r) r = (6, 12).
        let mut gradients = at(&rows);
        let moved = perturb(&rows, gradients.rows(table).unwrap(), 2f32.sqrt());
        assert!(moved.iter().zip([2.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{moved:?}");
        // At (2, 3): ∂r = (10, 10), ∂w = (20, 30).
        let clean = gradients.statistics.clone();
        gradients.add(at(&[2.0, 3.0]));
        assert_eq!(gradients.rows(table), Some(&[16.0, 16.0][..]));
        assert_eq!(gradients.dense(w), Some(&[26.0, 42.0][..]));
        assert_eq!(gradients.statistics, clean);
        assert_eq!(rows, [1.0, 2.0]);
    }

    #[test]
    fn rows_without_a_direction_stay() {
        assert_eq!(perturb(&[1.0, 2.0], &[0.0, 0.0], 0.5), [1.0, 2.0]);
        assert_eq!(perturb(&[1.0, 2.0], &[f32::NAN, 0.0], 0.5), [1.0, 2.0]);
    }
}
