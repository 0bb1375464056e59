//! Progressive validation: how well rows are predicted that have not been learned yet.

use millstream_schema::Batch;
use serde::{Deserialize, Serialize};

use crate::Metrics;
use crate::metrics::{Bins, StreamAuc, WindowAuc, WindowMean, logloss};

/// Steps in which the oldest rows of the sliding window are dropped.
const PARTS: usize = 10;

/// Log-loss and AUC of each task, over the whole stream and over a sliding window, in fixed memory.
///
/// The AUC is exact at first, then that of a histogram of logits ([`StreamAuc`]); `auc.error` bounds what it may be off. Kept in
/// checkpoints, so that a resumed stream goes on with the same sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progressive {
    names: Vec<String>,
    tasks: Vec<OneTask>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OneTask {
    loss: f64,
    weight: f64,
    auc: StreamAuc,
    recent_loss: WindowMean,
    recent_auc: WindowAuc,
}

impl Progressive {
    /// Nothing predicted yet; the window covers the last `window` rows.
    pub fn new(tasks: &[String], window: u64) -> Self {
        let parts = PARTS.min(window as usize).max(1);
        let task = OneTask {
            loss: 0.0,
            weight: 0.0,
            auc: StreamAuc::new(Bins::default()),
            recent_loss: WindowMean::new(window, parts),
            recent_auc: WindowAuc::new(Bins::default(), window, parts),
        };
        Self { names: tasks.to_vec(), tasks: vec![task; tasks.len()] }
    }

    /// Takes in the logits `[N, T]` that a batch's rows were predicted with, in order.
    pub fn push(&mut self, batch: &Batch, logits: &[f32]) {
        let count = self.tasks.len();
        for (t, task) in self.tasks.iter_mut().enumerate() {
            let rows = logits.iter().zip(&batch.labels).skip(t).step_by(count);
            for (row, (z, y)) in rows.enumerate() {
                task.push(*z, *y, batch.weights.get(row).copied().unwrap_or(1.0));
            }
        }
    }

    /// `logloss`, `auc` and `auc.error` over the whole stream, `window.logloss` and `window.auc` over its last rows;
    /// those of the first task, and with several tasks all of them as `TASK.logloss` and so on.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        for (t, (name, task)) in self.names.iter().zip(&self.tasks).enumerate() {
            for (key, value) in task.values().into_iter().filter_map(|(k, v)| Some((k, v?))) {
                if t == 0 {
                    metrics.insert(key.to_owned(), value);
                }
                if self.tasks.len() > 1 {
                    metrics.insert(format!("{name}.{key}"), value);
                }
            }
        }
        metrics
    }
}

impl OneTask {
    /// A row outside of the task's space, whose label is NaN, does not count.
    fn push(&mut self, logit: f32, label: f32, weight: f32) {
        if label.is_nan() {
            return;
        }
        let (loss, w) = (logloss::of_logit(logit, label), f64::from(weight));
        self.loss += loss * w;
        self.weight += w;
        self.auc.push(logit, label, weight);
        self.recent_loss.push(loss, w);
        self.recent_auc.push(logit, label, weight);
    }

    fn values(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("logloss", (self.weight > 0.0).then(|| self.loss / self.weight)),
            ("auc", self.auc.value()),
            ("auc.error", self.auc.error_bound()),
            ("window.logloss", self.recent_loss.value()),
            ("window.auc", self.recent_auc.value()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::auc;

    fn batch(labels: Vec<f32>, tasks: usize) -> Batch {
        Batch { labels, tasks, ..Batch::default() }
    }

    #[test]
    fn it_agrees_with_the_exact_metrics_and_its_window_with_those_of_the_last_rows() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let labels: Vec<f32> = (0..5000).map(|_| f32::from(u8::from(next() < 0.3))).collect();
        let logits: Vec<f32> = labels.iter().map(|y| 3.0 * next() + y - 2.0).collect();
        let mut progressive = Progressive::new(&["click".to_owned()], 1000);
        for (logits, labels) in logits.chunks(64).zip(labels.chunks(64)) {
            progressive.push(&batch(labels.to_vec(), 1), logits);
        }
        let found = progressive.metrics();
        let exact = auc::weighted(&logits, &labels, &[]).value.unwrap();
        assert!((found["auc"] - exact).abs() <= found["auc.error"] && found["auc.error"] < 2e-3);
        let loss = logloss::from_logits(&logits, &labels).unwrap();
        assert!((found["logloss"] - loss).abs() < 1e-9);
        // The window holds 900 to 1000 rows.
        let near = |rows: usize| {
            let (logits, labels) = (&logits[5000 - rows..], &labels[5000 - rows..]);
            logloss::from_logits(logits, labels).unwrap()
        };
        let bounds = [near(900), near(1000)];
        assert!((found["window.logloss"] - bounds[0]).abs() < 0.03, "{found:?} {bounds:?}");
        assert_ne!(found["window.logloss"], found["logloss"]);
    }

    #[test]
    fn rows_outside_of_a_tasks_space_do_not_count_for_it() {
        let mut progressive = Progressive::new(&["click".to_owned(), "order".to_owned()], 10);
        let labels = vec![1.0, 0.0, 0.0, f32::NAN, 1.0, 1.0];
        progressive.push(&batch(labels, 2), &[1.0, -2.0, -1.0, 9.0, 1.0, 2.0]);
        let found = progressive.metrics();
        assert_eq!((found["click.auc"], found["order.auc"]), (1.0, 1.0));
        assert!((found["order.logloss"] - logloss::of_logit(2.0, 1.0)).abs() < 1e-9);
    }

    #[test]
    fn each_task_has_its_own_figures() {
        let mut progressive = Progressive::new(&["click".to_owned(), "order".to_owned()], 10);
        progressive.push(&batch(vec![1.0, 0.0, 0.0, 1.0], 2), &[2.0, 1.0, -2.0, -1.0]);
        let found = progressive.metrics();
        assert_eq!((found["auc"], found["click.auc"], found["order.auc"]), (1.0, 1.0, 0.0));
    }
}
