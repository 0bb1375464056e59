//! What runs with several seeds reached together.

use crate::Metrics;

/// Mean and standard deviation (n − 1) of each metric that all runs have.
pub fn mean_and_sd(runs: &[&Metrics]) -> (Metrics, Metrics) {
    let n = runs.len() as f64;
    let (mut means, mut deviations) = (Metrics::new(), Metrics::new());
    for key in runs.first().into_iter().flat_map(|first| first.keys()) {
        let values: Option<Vec<f64>> = runs.iter().map(|run| run.get(key).copied()).collect();
        let Some(values) = values else { continue };
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        means.insert(key.clone(), mean);
        deviations.insert(key.clone(), (squares / (n - 1.0).max(1.0)).sqrt());
    }
    (means, deviations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_deviations_are_over_the_metrics_that_all_seeds_have() {
        let run = |auc: f64| Metrics::from([("auc".to_owned(), auc)]);
        let (first, last) = (run(0.7), Metrics::from([("auc".to_owned(), 0.9), ("gauc".to_owned(), 0.5)]));
        let (mean, sd) = mean_and_sd(&[&first, &run(0.8), &last]);
        assert!((mean["auc"] - 0.8).abs() < 1e-12 && (sd["auc"] - 0.1).abs() < 1e-12);
        assert_eq!((mean.len(), sd.len()), (1, 1));
    }
}
