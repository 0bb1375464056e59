//! Normalised discounted cumulative gain of graded labels (Järvelin and Kekäläinen 2002, gains of Burges et al. 2005).
//!
//! DCG@K = Σ over positions i < K of (2^grade − 1) / log₂(i + 2); NDCG@K divides by that of the best order.

/// 2^grade − 1.
pub fn gain(grade: f32) -> f64 {
    f64::from(grade).exp2() - 1.0
}

/// 1 / log₂(position + 2), positions from 0.
pub fn discount(position: usize) -> f64 {
    1.0 / (position as f64 + 2.0).log2()
}

/// DCG at `k` of the best order of these grades.
pub fn ideal_dcg(grades: &[f32], k: usize) -> f64 {
    let mut sorted = grades.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted.iter().take(k).enumerate().map(|(i, &g)| gain(g) * discount(i)).sum()
}

/// Places of the scores, best first; ties keep their order, and scores that are no numbers come last.
pub fn order(scores: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    let key = |at: &u32| {
        let score = scores[*at as usize];
        if score.is_nan() { f64::NEG_INFINITY } else { score }
    };
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    order
}

/// NDCG at `k` of one request's candidates. Without a grade above 0 every order is the best one: 1, as
/// LightGBM counts it.
///
/// ```
/// use millstream_models::ndcg::ndcg;
/// assert_eq!(ndcg(&[0.3, 0.2, 0.1], &[2.0, 1.0, 0.0], 10), 1.0);
/// assert!(ndcg(&[0.1, 0.2, 0.3], &[2.0, 1.0, 0.0], 10) < 0.7);
/// assert_eq!(ndcg(&[0.1, 0.2], &[0.0, 0.0], 10), 1.0);
/// ```
pub fn ndcg(scores: &[f64], grades: &[f32], k: usize) -> f64 {
    let ideal = ideal_dcg(grades, k);
    if ideal <= 0.0 {
        return 1.0;
    }
    let gains = order(scores).into_iter().take(k).enumerate();
    gains.map(|(i, at)| gain(grades[at as usize]) * discount(i)).sum::<f64>() / ideal
}

#[cfg(test)]
mod tests {
    use super::*;

    // sklearn.metrics.ndcg_score([[2**g - 1 for g in [3, 0, 1, 2, 0, 1]]], [[.1, .9, .8, .2, .7, .3]], k=k)
    // gives 0.067171713967 at 3 and 0.480035776588 at 6.
    #[test]
    fn ndcg_agrees_with_scikit_learn() {
        let (scores, grades) = ([0.1, 0.9, 0.8, 0.2, 0.7, 0.3], [3.0, 0.0, 1.0, 2.0, 0.0, 1.0]);
        for (k, expected) in [(3, 0.067171713967), (6, 0.480035776588)] {
            assert!(
                (ndcg(&scores, &grades, k) - expected).abs() < 1e-9,
                "{k}: {}",
                ndcg(&scores, &grades, k)
            );
        }
    }

    #[test]
    fn ties_keep_their_order_and_scores_that_are_no_numbers_come_last() {
        assert_eq!(order(&[f64::NAN, 1.0, 1.0, 2.0]), [3, 1, 2, 0]);
    }
}
