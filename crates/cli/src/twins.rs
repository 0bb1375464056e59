//! What each of several tasks reaches beside a model that learns it alone: negative transfer and see-saw, seen.

use millstream_train::Metrics;
use millstream_train::seeds::mean_and_sd;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::output;

/// Metrics that are compared: the larger the better for all but `logloss`.
const KEYS: [&str; 3] = ["auc", "gauc", "logloss"];
/// A mean difference is clear from so many of its standard errors on.
const CLEAR: f64 = 2.0;

/// All tasks, in the order of the recipe.
#[derive(Debug, Default, Serialize)]
pub struct Twins {
    tasks: Vec<Task>,
}

#[derive(Debug, Serialize)]
struct Task {
    task: String,
    /// By metric.
    metrics: BTreeMap<String, Beside>,
}

/// One metric of a task, with the others and alone; means over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Beside {
    joint: f64,
    single: f64,
    /// joint − single.
    difference: f64,
    /// Standard deviation of the differences, seed by seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    sd: Option<f64>,
    seeds: usize,
}

impl Twins {
    /// Adds a task: the joint model's test metrics and those of the task alone, seed by seed.
    pub fn add(&mut self, task: &str, joint: &[Metrics], single: &[Metrics]) {
        let of = |key: &str| {
            let pairs = joint
                .iter()
                .zip(single)
                .map(|(joint, single)| Some((*joint.get(&format!("{task}.{key}"))?, *single.get(key)?)));
            let pairs: Vec<(f64, f64)> = pairs.collect::<Option<_>>()?;
            Some((key.to_owned(), Beside::of(&pairs)?))
        };
        self.tasks.push(Task { task: task.to_owned(), metrics: KEYS.into_iter().filter_map(of).collect() });
    }

    /// The table, and what it comes to in a line.
    pub fn print(&self) {
        let row = |task: &str, key: &str, b: &Beside| {
            let sd = b.sd.map_or_else(|| "–".to_owned(), |sd| format!("{sd:.5}"));
            vec![
                task.to_owned(),
                key.to_owned(),
                format!("{:.5}", b.joint),
                format!("{:.5}", b.single),
                format!("{:+.5}", b.difference),
                sd,
            ]
        };
        let of_task = |t: &Task| t.metrics.iter().map(|(k, b)| row(&t.task, k, b)).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = self.tasks.iter().flat_map(of_task).collect();
        let header = ["task", "metric", "joint", "single", "joint − single", "sd"];
        output::line(output::table(&header, &rows).trim_end());
        output::line(self.verdict());
    }

    /// Which tasks the others help and which they hurt, by AUC.
    fn verdict(&self) -> String {
        let found: Vec<(&str, Beside)> =
            self.tasks.iter().filter_map(|t| Some((t.task.as_str(), *t.metrics.get("auc")?))).collect();
        if found.iter().any(|(_, b)| b.seeds < 2) {
            return "one seed: what of these differences is noise cannot be told; give --seeds".into();
        }
        let named = |sign: f64| {
            let clear = found.iter().filter(|(_, b)| sign * b.in_errors() >= CLEAR);
            clear.map(|(task, b)| format!("{task} {:+.5}", b.difference)).collect::<Vec<_>>().join(", ")
        };
        match (named(1.0).as_str(), named(-1.0).as_str()) {
            ("", "") => "AUC: no task gains or loses more than two standard errors".into(),
            (gains, "") => format!("AUC: no negative transfer beyond two standard errors; gains: {gains}"),
            ("", losses) => format!("AUC: NEGATIVE TRANSFER: {losses}"),
            (gains, losses) => format!("AUC: SEE-SAW: {gains}, at the cost of {losses}"),
        }
    }
}

impl Beside {
    fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let apart = pairs.iter().map(|(joint, single)| {
            Metrics::from([("j".into(), *joint), ("s".into(), *single), ("d".into(), joint - single)])
        });
        let apart: Vec<Metrics> = apart.collect();
        let (mean, sd) = mean_and_sd(&apart.iter().collect::<Vec<_>>());
        let sd = (pairs.len() > 1).then(|| sd.get("d").copied()).flatten();
        let (joint, single, difference) = (*mean.get("j")?, *mean.get("s")?, *mean.get("d")?);
        Some(Self { joint, single, difference, sd, seeds: pairs.len() })
    }

    /// The mean difference in its standard errors.
    fn in_errors(&self) -> f64 {
        let error = self.sd.unwrap_or(f64::INFINITY) / (self.seeds as f64).sqrt();
        if error > 0.0 { self.difference / error } else { self.difference * f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twins(income: [f64; 3], married: [f64; 3]) -> Twins {
        let joint = |at: usize| {
            Metrics::from([("income.auc".to_owned(), income[at]), ("married.auc".to_owned(), married[at])])
        };
        let single = vec![Metrics::from([("auc".to_owned(), 0.9)]); 3];
        let joint: Vec<Metrics> = (0..3).map(joint).collect();
        let mut twins = Twins::default();
        twins.add("income", &joint, &single);
        twins.add("married", &joint, &single);
        twins
    }

    #[test]
    fn differences_are_taken_seed_by_seed() {
        let found = twins([0.91, 0.92, 0.93], [0.9; 3]).tasks[0].metrics["auc"];
        assert!((found.joint - 0.92).abs() < 1e-12 && (found.difference - 0.02).abs() < 1e-12);
        assert!((found.sd.unwrap() - 0.01).abs() < 1e-12);
        assert_eq!(twins([0.91; 3], [0.9; 3]).tasks[0].metrics.len(), 1, "no GAUC, no row of it");
    }

    #[test]
    fn see_saw_and_negative_transfer_are_called_so() {
        let verdict = |a, b| twins(a, b).verdict();
        assert!(verdict([0.91, 0.911, 0.912], [0.88, 0.881, 0.882]).contains("SEE-SAW: income +0.01100"));
        assert!(verdict([0.9, 0.901, 0.899], [0.88, 0.881, 0.882]).contains("NEGATIVE TRANSFER: married"));
        assert!(verdict([0.91; 3], [0.9; 3]).contains("no negative transfer"));
        assert!(verdict([0.8, 1.0, 0.9], [0.9; 3]).contains("no task gains or loses"));
    }
}
