//! Permutation importance: what a trained ranker loses when a feature's column is shuffled.

use millstream_schema::{Batch, BatchSource, Column, Field};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::metrics::Scored;
use crate::{Error, Learner};

/// What one feature is worth to a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// The feature; a sequence's fields are shuffled together.
    pub feature: String,
    /// Mean over the seeds of AUC before − AUC after.
    pub auc_drop: f64,
    /// Its standard deviation (n − 1); 0 for one seed.
    pub sd: f64,
    /// Mean over the seeds of log-loss after − log-loss before.
    pub loss_rise: f64,
}

/// Importances and what they are measured from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importances {
    /// AUC with all columns in order.
    pub auc: f64,
    /// Log-loss with all columns in order.
    pub logloss: f64,
    /// Rows shuffled.
    pub rows: u64,
    /// The greatest drop first.
    pub features: Vec<Importance>,
}

/// Reads batches until about `most` rows are held.
///
/// # Errors
/// Reading fails.
pub fn hold(source: &mut dyn BatchSource, most: u64) -> Result<Vec<Batch>, Error> {
    let (mut batches, mut rows) = (Vec::new(), 0);
    while rows < most {
        let Some(batch) = source.next_batch()? else { break };
        rows += batch.candidates() as u64;
        batches.push(batch);
    }
    Ok(batches)
}

/// Shuffles each feature's column over all rows of `batches`, once per seed, and measures task `task` again (Breiman
/// 2001; Fisher, Rudin and Dominici 2019). Two features that say the same hide each other: neither is missed while the
/// other is there. `progress` hears the shufflings done.
///
/// `fields` are those of the encoder that made the batches; `names` gives the feature of each by [`Field::feature`].
///
/// # Errors
/// Scoring fails, or the rows have one class only.
pub fn permutation(
    learner: &Learner,
    batches: &mut [Batch],
    (fields, names): (&[Field], &[String]),
    (task, seeds): (usize, &[u64]),
    progress: &dyn Fn(u64),
) -> Result<Importances, Error> {
    let base = measure(learner, batches, task)?;
    let rows = batches.iter().map(|b| b.candidates() as u64).sum();
    let mut done = 0;
    let mut features = Vec::new();
    for (feature, name) in names.iter().enumerate() {
        let of_feature: Vec<usize> = (0..fields.len()).filter(|&f| fields[f].feature == feature).collect();
        if of_feature.is_empty() {
            continue;
        }
        let mut drops = Vec::new();
        for &seed in seeds {
            let shuffled = shuffle(batches, &of_feature, seed)?;
            let after = measure(learner, batches, task);
            restore(batches, &of_feature, shuffled);
            let after = after?;
            drops.push((base.0 - after.0, after.1 - base.1));
            done += 1;
            progress(done);
        }
        features.push(summary(name, &drops));
    }
    features.sort_by(|a, b| b.auc_drop.total_cmp(&a.auc_drop));
    Ok(Importances { auc: base.0, logloss: base.1, rows, features })
}

fn summary(name: &str, drops: &[(f64, f64)]) -> Importance {
    let n = drops.len().max(1) as f64;
    let mean = drops.iter().map(|d| d.0).sum::<f64>() / n;
    let squares: f64 = drops.iter().map(|d| (d.0 - mean).powi(2)).sum();
    Importance {
        feature: name.to_owned(),
        auc_drop: mean,
        sd: (squares / (n - 1.0).max(1.0)).sqrt(),
        loss_rise: drops.iter().map(|d| d.1).sum::<f64>() / n,
    }
}

/// AUC and log-loss of a task.
fn measure(learner: &Learner, batches: &[Batch], task: usize) -> Result<(f64, f64), Error> {
    let tasks = learner.tasks().len();
    let mut scored = Scored::of_logits();
    for batch in batches {
        let logits = learner.calibrated(learner.logits(batch)?);
        let of_task = |all: &[f32]| all.iter().skip(task).step_by(tasks).copied().collect::<Vec<f32>>();
        scored.push(&of_task(&logits), &of_task(&batch.labels), &batch.group, &batch.weights);
    }
    let found = scored.brief();
    match (found.get("auc"), found.get("logloss")) {
        (Some(auc), Some(loss)) => Ok((*auc, *loss)),
        _ => Err(Error::Config("the rows to measure on have one class only".into())),
    }
}

/// Puts the columns of these fields into one drawn order over all batches; gives the columns as they were.
fn shuffle(batches: &mut [Batch], fields: &[usize], seed: u64) -> Result<Vec<Vec<Column>>, Error> {
    let mut kept = Vec::new();
    for &field in fields {
        let mut whole: Option<Column> = None;
        for batch in batches.iter() {
            match &mut whole {
                Some(whole) => whole.append(&batch.columns[field])?,
                None => whole = Some(batch.columns[field].clone()),
            }
        }
        let Some(whole) = whole else { continue };
        // Fields of one feature have as many rows, so that the same seed gives the same order.
        let mut order: Vec<u32> = (0..whole.rows() as u32).collect();
        order.shuffle(&mut rand_pcg::Pcg64Mcg::seed_from_u64(seed));
        let mut at = 0;
        let old = batches.iter_mut().map(|batch| {
            let rows = batch.columns[field].rows();
            let new = whole.gather(&order[at..at + rows]);
            at += rows;
            std::mem::replace(&mut batch.columns[field], new)
        });
        kept.push(old.collect());
    }
    Ok(kept)
}

fn restore(batches: &mut [Batch], fields: &[usize], kept: Vec<Vec<Column>>) {
    for (&field, columns) in fields.iter().zip(kept) {
        for (batch, column) in batches.iter_mut().zip(columns) {
            batch.columns[field] = column;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(from: u64, n: u64) -> Batch {
        Batch {
            requests: n as usize,
            candidate_request: (0..n as u32).collect(),
            columns: vec![
                Column::Key((from..from + n).collect()),
                Column::Dense {
                    width: 2,
                    values: (from..from + n).flat_map(|i| [i as f32, -(i as f32)]).collect(),
                },
            ],
            labels: (from..from + n).map(|i| (i % 2) as f32).collect(),
            tasks: 1,
            ..Batch::default()
        }
    }

    #[test]
    fn shuffling_moves_rows_over_all_batches_and_is_undone() {
        let whole = [batch(0, 40), batch(40, 25), batch(65, 7)];
        let mut moved = whole.clone();
        let kept = shuffle(&mut moved, &[0, 1], 5).unwrap();
        let keys = |batches: &[Batch]| -> Vec<u64> {
            let of = |b: &Batch| match &b.columns[0] {
                Column::Key(keys) => keys.clone(),
                _ => vec![],
            };
            batches.iter().flat_map(of).collect()
        };
        let mut sorted = keys(&moved);
        assert_ne!(sorted, keys(&whole));
        assert!(sorted[65..].iter().any(|k| *k < 65), "across batches");
        for (b, batch) in moved.iter().enumerate() {
            let Column::Dense { values, .. } = &batch.columns[1] else { panic!("dense") };
            let Column::Key(of) = &batch.columns[0] else { panic!("keys") };
            assert!(
                values.chunks(2).zip(of).all(|(v, k)| v[0] == *k as f32 && v[1] == -v[0]),
                "fields stay together"
            );
            assert_eq!(batch.columns[0].rows(), whole[b].columns[0].rows());
        }
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..72));
        restore(&mut moved, &[0, 1], kept);
        assert_eq!(moved, whole);
    }

    #[test]
    fn means_and_deviations_are_over_seeds() {
        let found = summary("x", &[(0.1, 1.0), (0.3, 3.0)]);
        assert!((found.auc_drop - 0.2).abs() < 1e-12 && (found.sd - 0.02f64.sqrt()).abs() < 1e-12);
        assert_eq!((found.loss_rise, summary("x", &[(0.1, 0.0)]).sd), (2.0, 0.0));
    }

    #[test]
    fn only_as_many_batches_are_held_as_it_takes() {
        struct Endless;
        impl BatchSource for Endless {
            fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
                Ok(Some(batch(0, 10)))
            }
        }
        assert_eq!(hold(&mut Endless, 25).unwrap().len(), 3);
    }
}
