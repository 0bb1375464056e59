//! A moving average of all weights over the steps, which is what gets judged, saved as best and served.

use millstream_store::{Store, TableId};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::learner::Learner;

/// `[training.average]`: a ← d a + (1 − d) w after every so many steps, over dense weights, running statistics and rows alike
/// (Polyak and Juditsky 1992 as an exponential average). It wanders less than the weights themselves; training goes on
/// from those. The n-th taking counts with d = min(decay, (1 + n)/(10 + n)), so that the start is soon forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AverageConfig {
    /// How much of the average stays at a taking, in (0, 1).
    pub decay: f32,
    /// Steps between takings, at least 1; each costs as much as the tables are large.
    pub every: u64,
}

impl Default for AverageConfig {
    fn default() -> Self {
        Self { decay: 0.99, every: 10 }
    }
}

impl AverageConfig {
    /// Whether the numbers are in their ranges.
    ///
    /// # Errors
    /// The one that is not, with its range.
    pub fn check(&self) -> Result<(), Error> {
        if !(self.decay > 0.0 && self.decay < 1.0) {
            return Err(Error::Config(format!(
                "training.average.decay must be a number above 0 and below 1, not {}",
                self.decay
            )));
        }
        if self.every == 0 {
            return Err(Error::Config("training.average.every must be above 0, not 0".into()));
        }
        Ok(())
    }
}

/// The average so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Average {
    takings: u64,
    /// In the order of the parameters.
    dense: Vec<Vec<f32>>,
    /// In the order of the tables.
    rows: Vec<TableAverage>,
}

/// Averaged rows of one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct TableAverage {
    /// Rising.
    keys: Vec<u64>,
    /// `[keys, D]`.
    values: Vec<f32>,
}

impl Learner {
    /// Takes the weights into the average, when one is kept and the step is one of its own.
    ///
    /// # Errors
    /// None that the configuration, which was checked, allows.
    pub(crate) fn follow(&mut self) -> Result<(), Error> {
        let Some(config) = self.setting.training.average else { return Ok(()) };
        if !self.steps.is_multiple_of(config.every) {
            return Ok(());
        }
        let mut average = self.average.take().unwrap_or_default();
        average.take_in(self, config.decay)?;
        self.average = Some(average);
        Ok(())
    }

    /// Runs `work` with the average in the place of the weights; without an average, on the weights.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) fn averaged<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(mut average) = self.average.take() else { return work(self) };
        average.swap(self)?;
        let out = work(self);
        average.swap(self)?;
        self.average = Some(average);
        out
    }
}

impl Average {
    fn take_in(&mut self, learner: &Learner, decay: f32) -> Result<(), Error> {
        let n = self.takings as f32;
        let keep = decay.min((1.0 + n) / (10.0 + n));
        self.takings += 1;
        let values = learner.params.iter().map(|(_, _, values)| values);
        if self.dense.is_empty() {
            self.dense = values.map(<[f32]>::to_vec).collect();
        } else {
            self.dense.iter_mut().zip(values).for_each(|(a, w)| blend(a, w, keep));
        }
        self.rows.resize_with(learner.tables.len(), TableAverage::default);
        for (average, table) in self.rows.iter_mut().zip(&learner.tables) {
            average.take_in(&learner.store, *table, keep)?;
        }
        Ok(())
    }

    /// Exchanges the average and the weights. Rows met after the last taking stay as they are.
    fn swap(&mut self, learner: &mut Learner) -> Result<(), Error> {
        for (id, values) in learner.params.ids().zip(&mut self.dense) {
            learner.params.values_mut(id).swap_with_slice(values);
        }
        let mut store = learner.store.exclusive();
        let mut places = Vec::new();
        for (average, table) in self.rows.iter_mut().zip(&learner.tables) {
            store.find(*table, &average.keys, &mut places)?;
            let dim = average.values.len() / average.keys.len().max(1);
            for (&place, values) in places.iter().zip(average.values.chunks_exact_mut(dim.max(1))) {
                if place.is_some() {
                    store.row(*table, place)[..dim].swap_with_slice(values);
                }
            }
        }
        Ok(())
    }
}

impl TableAverage {
    /// Merges the table's rows, which come in rising order of key: a row met for the first time begins as it is, one that
    /// is gone is forgotten.
    fn take_in(&mut self, store: &Store, table: TableId, keep: f32) -> Result<(), Error> {
        let before = std::mem::take(self);
        let dim = before.values.len() / before.keys.len().max(1);
        let mut at = 0;
        store.for_each_row(table, |key, weights| {
            at += before.keys[at..].partition_point(|k| *k < key);
            self.keys.push(key);
            self.values.extend_from_slice(weights);
            if before.keys.get(at) == Some(&key) {
                let from = self.values.len() - dim;
                let average = &mut self.values[from..];
                let old = &before.values[at * dim..(at + 1) * dim];
                average.iter_mut().zip(old).for_each(|(w, a)| *w = keep * a + (1.0 - keep) * *w);
            }
        })?;
        Ok(())
    }
}

fn blend(average: &mut [f32], weights: &[f32], keep: f32) {
    average.iter_mut().zip(weights).for_each(|(a, w)| *a = keep * *a + (1.0 - keep) * w);
}
