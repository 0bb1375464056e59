//! Weights of classes that are met unequally often.

/// Weight of each class, (1 − β) / (1 − β^n_c), scaled so that they sum to the number of classes (Cui et al. 2019,
/// class-balanced loss based on effective number of samples, eq. 2 and §4). β = 0 weighs all alike; β → 1 weighs by
/// 1 / n. A class without examples weighs 0.
///
/// ```
/// use millstream_nn::loss::class_balanced_weights;
/// assert_eq!(class_balanced_weights(0.0, &[5, 50]), [1.0, 1.0]);
/// let w = class_balanced_weights(0.999_999_9, &[10, 30]);
/// assert!((w[0] - 1.5).abs() < 1e-4 && (w[1] - 0.5).abs() < 1e-4);
/// ```
///
/// # Panics
/// If β is not in [0, 1).
pub fn class_balanced_weights(beta: f64, counts: &[u64]) -> Vec<f32> {
    assert!((0.0..1.0).contains(&beta), "beta {beta} is not in [0, 1)");
    let weight = |&n: &u64| match n {
        0 => 0.0,
        // 1 − βⁿ, without loss for β near 1.
        n => (1.0 - beta) / -f64::exp_m1(n as f64 * beta.ln()),
    };
    let raw: Vec<f64> = counts.iter().map(weight).collect();
    let scale = counts.len() as f64 / raw.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    raw.iter().map(|w| (w * scale) as f32).collect()
}

/// Row weights for classes `targets` `[N]`: weight of the class, times the row's own weight where there are any.
///
/// # Panics
/// If a target has no class weight, or the sizes do not fit.
pub fn weights_by_class(classes: &[f32], targets: &[u32], weights: &[f32]) -> Vec<f32> {
    assert!(weights.is_empty() || weights.len() == targets.len(), "{} row weights", weights.len());
    let own = |i: usize| weights.get(i).copied().unwrap_or(1.0);
    targets.iter().enumerate().map(|(i, t)| classes[*t as usize] * own(i)).collect()
}
