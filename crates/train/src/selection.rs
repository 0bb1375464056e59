//! Choosing features by what a cheap model makes of them: forward and backward selection.

use serde::Serialize;
use std::collections::BTreeSet;

use crate::Error;

/// From nothing up, or from everything down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Each round adds the feature that helps most.
    Forward,
    /// Each round leaves out the feature that is missed least.
    Backward,
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stop {
    /// Forward: a round that gains less ends the search. Backward: a round that loses more does.
    pub least: f64,
    /// Features at the end: at most (forward), at least (backward).
    pub features: usize,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelectionStep {
    /// The feature added or left out.
    pub feature: String,
    /// The metric afterwards.
    pub value: f64,
}

/// Where the search went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Selected {
    /// The metric before the first round: of all features (backward), or none (forward, `None`).
    pub begin: Option<f64>,
    /// The rounds, in order.
    pub steps: Vec<SelectionStep>,
    /// What was chosen, in the order of the candidates.
    pub features: Vec<String>,
    /// Models trained.
    pub trained: u64,
}

/// Metric of a model on these features, larger being better.
pub type EvaluateSubset<'a> = dyn FnMut(&[String]) -> Result<f64, Error> + 'a;

/// Greedy search (Whitney 1971; Marill and Green 1963): F features take at most F(F + 1)/2 trainings. Of equally good
/// ones the first is taken.
///
/// # Errors
/// Those of `evaluate`, or no candidates.
pub fn select(
    candidates: &[String],
    direction: Direction,
    stop: Stop,
    evaluate: &mut EvaluateSubset<'_>,
) -> Result<Selected, Error> {
    if candidates.is_empty() {
        return Err(Error::Config("there is no feature to choose from".into()));
    }
    let forward = direction == Direction::Forward;
    let mut chosen: BTreeSet<usize> = if forward { BTreeSet::new() } else { (0..candidates.len()).collect() };
    let names = |set: &BTreeSet<usize>| set.iter().map(|&i| candidates[i].clone()).collect::<Vec<_>>();
    let mut out = Selected { begin: None, steps: Vec::new(), features: Vec::new(), trained: 0 };
    let mut value = f64::NEG_INFINITY;
    if !forward {
        value = evaluate(&names(&chosen))?;
        (out.begin, out.trained) = (Some(value), 1);
    }
    while if forward {
        chosen.len() < stop.features.min(candidates.len())
    } else {
        chosen.len() > stop.features.max(1)
    } {
        let movable: Vec<usize> = (0..candidates.len()).filter(|i| chosen.contains(i) != forward).collect();
        let mut best: Option<(usize, f64)> = None;
        for &i in &movable {
            let mut tried = chosen.clone();
            if !tried.insert(i) {
                tried.remove(&i);
            }
            let found = evaluate(&names(&tried))?;
            out.trained += 1;
            if best.is_none_or(|b| found > b.1) {
                best = Some((i, found));
            }
        }
        let Some((i, found)) = best else { break };
        let gain = found - value;
        if if forward { gain < stop.least } else { -gain > stop.least } {
            break;
        }
        if !chosen.insert(i) {
            chosen.remove(&i);
        }
        value = found;
        out.steps.push(SelectionStep { feature: candidates[i].clone(), value });
    }
    out.features = names(&chosen);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<String> {
        ["noise", "strong", "weak", "copy of strong"].map(String::from).to_vec()
    }

    /// Strong or its copy is worth 0.2, weak 0.05; every feature costs 0.001.
    fn worth(features: &[String]) -> Result<f64, Error> {
        let has = |name: &str| features.iter().any(|f| f == name);
        let strong = if has("strong") || has("copy of strong") { 0.2 } else { 0.0 };
        Ok(0.5 + strong + if has("weak") { 0.05 } else { 0.0 } - 0.001 * features.len() as f64)
    }

    #[test]
    fn forward_takes_what_helps_and_stops() {
        let stop = Stop { least: 0.0, features: 10 };
        let mut tried = Vec::new();
        let found = select(&candidates(), Direction::Forward, stop, &mut |features| {
            tried.push(features.to_vec());
            worth(features)
        })
        .unwrap();
        assert_eq!(found.features, ["strong", "weak"]);
        assert_eq!(found.steps.iter().map(|s| s.feature.as_str()).collect::<Vec<_>>(), ["strong", "weak"]);
        assert_eq!((found.begin, found.trained), (None, 4 + 3 + 2));
        assert_eq!(tried[0], ["noise"]);
        let one =
            select(&candidates(), Direction::Forward, Stop { least: 0.0, features: 1 }, &mut |f| worth(f))
                .unwrap();
        assert_eq!(one.features, ["strong"]);
    }

    #[test]
    fn backward_leaves_out_what_is_not_missed() {
        let stop = Stop { least: 0.0, features: 1 };
        let found = select(&candidates(), Direction::Backward, stop, &mut |f| worth(f)).unwrap();
        assert_eq!(found.features, ["weak", "copy of strong"]);
        assert!((found.begin.unwrap() - 0.746).abs() < 1e-12);
        let kept = Stop { least: 1.0, features: 3 };
        assert_eq!(
            select(&candidates(), Direction::Backward, kept, &mut |f| worth(f)).unwrap().features.len(),
            3
        );
    }

    #[test]
    fn nothing_to_choose_from_and_failures_are_told() {
        let stop = Stop { least: 0.0, features: 1 };
        assert!(select(&[], Direction::Forward, stop, &mut |f| worth(f)).is_err());
        let failing = &mut |_: &[String]| Err(Error::Config("no".into()));
        assert!(select(&candidates(), Direction::Backward, stop, failing).is_err());
    }
}
