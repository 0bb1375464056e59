//! The step: one batch forward, backward and into the weights.

use millstream_models::Ranker;
use millstream_models::input::Planned;
use millstream_models::online::Live;
use millstream_models::retriever::{NextTargets, Targets};
use millstream_nn::{Gradients, Inputs, Mode, Pass, Tensor, fgm};
use millstream_schema::Batch;
use millstream_store::{Rows, RowsMut};
use rayon::prelude::*;

use crate::fit::fit_of;
use crate::learner::{Learner, Model};
use crate::weighing::Weighing;
use crate::{Error, every_row, rules};

/// The log-loss of a finite logit in single precision: quicker than [`crate::metrics::logloss::of_logit`], which what is reported
/// goes by.
fn loss_of(z: f32, y: f32) -> f32 {
    z.max(0.0) - z * y + (-z.abs()).exp().ln_1p()
}

/// What of the loss a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    All,
    /// One task's.
    Task(usize),
    /// What layers of the model add to the tasks' ([`Pass::add_loss`]).
    Layers,
}

/// What a pass found.
pub(crate) struct Passed {
    pub(crate) loss: f32,
    pub(crate) gradients: Gradients,
    /// Whether layers of the model have a loss of their own.
    pub(crate) layers: bool,
}

impl Learner {
    /// One step on one batch; gives the batch's loss.
    ///
    /// A retriever's batch holds R requests, whose positives are the first R candidates in order; candidates
    /// beyond those are negatives drawn from [`crate::Sampling::negatives`]. A model that learns from whole sequences takes
    /// batches of [`crate::whole`].
    ///
    /// # Errors
    /// The loss or a gradient is not finite, or the batch was made by another encoder.
    pub fn step(&mut self, batch: &Batch) -> Result<f32, Error> {
        self.take(batch, None)
    }

    /// Predicts, then learns: appends the logits `[N, T]` that the ranker gives before the step, as in inference,
    /// where a key never met before counts with its fresh row. Gives the batch's loss.
    ///
    /// Where the model computes the same in training and in inference (no dropout, no batch normalisation) nothing
    /// is computed twice. With updates = "row" each row is predicted with what all rows before it taught.
    ///
    /// A retriever gives a score for each candidate: positives for their request, further items for one of the requests in turn.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn learn(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<f32, Error> {
        self.take(batch, Some(logits))
    }

    fn take(&mut self, batch: &Batch, logits: Option<&mut Vec<f32>>) -> Result<f32, Error> {
        if fit_of(&self.setting.model).is_some() {
            let name = &self.setting.model.name;
            return Err(Error::Config(format!("model `{name}` is fitted on all rows at once, not by steps")));
        }
        if self.online.is_some() {
            return self.row_by_row(batch, logits);
        }
        self.check_labels(batch)?;
        self.set_factor();
        if let Some(frequency) = &mut self.frequency {
            // Positives are the first candidates, one for each request or for each element of whole sequences.
            let right = batch.labels.iter().step_by(batch.tasks.max(1)).filter(|y| **y > 0.0).count();
            frequency.meet(self.steps + 1, &batch.item[..right.max(batch.requests).min(batch.item.len())]);
        }
        // A model of a graph has the same rows in every step: all of them.
        let own = match &self.graph {
            Some(_) => None,
            None => Some(self.feeder.plan(&self.fields, batch)?),
        };
        let planned = match (&own, &self.graph) {
            (Some(planned), _) => planned,
            (None, Some(graph)) => graph.nodes().1,
            (None, None) => unreachable!("a batch was planned where there is no graph"),
        };
        let (value, mut gradients) = self.gradients(batch, planned, logits)?;
        self.check_finite(value, &gradients)?;
        if let Some(norm) = self.setting.training.clip_norm {
            gradients.clip(norm);
        }
        self.optimiser.step(&mut self.params, &gradients);
        self.push(planned, &gradients)?;
        self.steps += 1;
        self.expire();
        Ok(value)
    }

    /// Changes the rows of all tables, several tables at a time.
    fn push(&self, planned: &Planned, gradients: &Gradients) -> Result<(), Error> {
        let (store, training) = (&self.store, &self.setting.training);
        let tables: Vec<_> =
            self.params.tables().iter().zip(&self.tables).zip(self.params.table_ids()).collect();
        tables.into_par_iter().try_for_each(|((spec, table), id)| {
            let Some(grads) = gradients.rows(id) else { return Ok(()) };
            match rules::rows(spec, training).every_step {
                true => every_row::push(store, *table, planned.keys(spec), grads),
                false => Ok(store.push_unique(*table, planned.keys(spec), grads)?),
            }
        })
    }

    /// Each row by itself, by the ranker's kernel.
    fn row_by_row(&mut self, batch: &Batch, logits: Option<&mut Vec<f32>>) -> Result<f32, Error> {
        let Some(kernel) = &mut self.online else { return Ok(0.0) };
        let mut own = Vec::new();
        let logits = logits.unwrap_or(&mut own);
        let from = logits.len();
        let live = Live { params: &mut self.params, store: &mut self.store, optimiser: &mut self.optimiser };
        kernel.learn(live, batch, logits)?;
        self.steps += 1;
        self.expire();
        let (tasks, mut sum, mut weights) = (batch.tasks.max(1), 0.0, 0.0);
        for (i, (z, y)) in
            logits[from..].iter().zip(&batch.labels).enumerate().filter(|(_, (_, y))| !y.is_nan())
        {
            let weight = batch.weights.get(i / tasks).copied().unwrap_or(1.0);
            sum += f64::from(loss_of(*z, *y) * weight);
            weights += f64::from(weight) / tasks as f64;
        }
        Ok((sum / weights.max(f64::MIN_POSITIVE)) as f32)
    }

    /// Loss and gradients of a batch; with FGM those of a second pass are added.
    fn gradients(
        &self,
        batch: &Batch,
        planned: &Planned,
        logits: Option<&mut Vec<f32>>,
    ) -> Result<(f32, Gradients), Error> {
        if let Weighing::GradNorm(balance) = &self.weighing {
            return self.balanced(balance, (batch, planned), logits);
        }
        let first = self.pass((batch, planned), None, (Part::All, logits))?;
        let (value, mut gradients) = (first.loss, first.gradients);
        if let Some(fgm) = self.setting.training.fgm {
            let second = self.pass((batch, planned), Some((&gradients, fgm.epsilon)), (Part::All, None))?;
            gradients.add(second.gradients);
        }
        Ok((value, gradients))
    }

    /// One pass forward and back for part of the loss, with the rows as they are, or moved so far along the gradients of
    /// a pass before.
    pub(crate) fn pass(
        &self,
        (batch, planned): (&Batch, &Planned),
        moved: Option<(&Gradients, f32)>,
        (part, logits): (Part, Option<&mut Vec<f32>>),
    ) -> Result<Passed, Error> {
        let ids: Vec<_> = self.params.table_ids().collect();
        let pass = Pass::new(&self.params, Mode::Train, self.setting.training.seed ^ (self.steps << 20));
        let (store, tables) = (&self.store, &self.tables);
        let rows_of = self.graph.as_ref().map_or(batch, |graph| graph.nodes().0);
        let x = planned.inputs(&pass, (&self.fields, rows_of), self.params.tables(), |at, keys, out| {
            let Some((gradients, epsilon)) = moved else {
                return Ok(store.pull_or_init(tables[at], keys, out)?);
            };
            store.pull(tables[at], keys, out)?;
            if let Some(found) = gradients.rows(ids[at]) {
                out.copy_from_slice(&fgm::perturb(out, found, epsilon));
            }
            Ok(())
        })?;
        let x = match self.newest_ms {
            Some(newest_ms) => x.aged(newest_ms, &batch.request_time_ms),
            None => x,
        };
        let loss = self.loss((&pass, &x), (batch, planned), (part, logits))?;
        let layers = pass.take_losses();
        let loss = match (part, &layers) {
            (Part::All, Some(layers)) => loss.add(layers),
            (Part::Layers, Some(layers)) => layers.clone(),
            _ => loss,
        };
        let (value, layers) = (loss.item(), layers.is_some());
        Ok(Passed { loss: value, gradients: pass.backward(&loss), layers })
    }

    fn loss(
        &self,
        (pass, x): (&Pass, &Inputs),
        (batch, planned): (&Batch, &Planned),
        (part, wanted): (Part, Option<&mut Vec<f32>>),
    ) -> Result<Tensor, Error> {
        let task = if let Part::Task(task) = part { Some(task) } else { None };
        match &self.model {
            Model::Ranker(model) => {
                let one = |model: &dyn Ranker| {
                    let z = model.forward(pass, x);
                    (self.task_total((model, pass), &z, batch, task), z)
                };
                let apart = model.members().iter().map(|member| one(&**member));
                let (loss, z) = match apart.map(|(loss, _)| loss).reduce(|sum, loss| sum.add(&loss)) {
                    Some(sum) => (sum, None),
                    None => {
                        let (loss, z) = one(&**model);
                        (loss, Some(z))
                    }
                };
                if let Some(wanted) = wanted {
                    match z.filter(|_| pass.is_plain()) {
                        Some(z) => wanted.extend_from_slice(z.data()),
                        None => {
                            wanted.extend(self.infer_planned(batch, planned, |p, x| model.forward(p, x))?)
                        }
                    }
                }
                Ok(loss)
            }
            Model::Retriever(model) => {
                if let Some(wanted) = wanted {
                    wanted.extend(self.paired_scores(batch, planned)?);
                }
                if let Some(next) = model.next_items() {
                    let tasks = batch.tasks.max(1);
                    let elements = batch.labels.iter().step_by(tasks).filter(|y| **y > 0.0).count();
                    let (log_q, catalogue) = self.next_log_q(batch, (elements, next.in_batch()))?;
                    let scope = self.setting.training.negatives_for;
                    return Ok(next.loss(
                        pass,
                        x,
                        &NextTargets { items: &batch.item, log_q: &log_q, scope, catalogue },
                    )?);
                }
                if model.graph().is_some() {
                    return self.edges_loss(pass, x, batch);
                }
                let log_q = self.log_q(batch)?;
                let weights = batch.weights.get(..batch.requests).unwrap_or(&[]);
                let mixed = self.setting.training.in_batch;
                let own = self.setting.training.own_negatives();
                let y = Targets { items: &batch.item, log_q: &log_q, weights, mixed, own };
                Ok(model.learn(pass, x, &y))
            }
        }
    }

    /// The learning rates' factor of the next step.
    fn set_factor(&mut self) {
        let schedule = self.setting.training.schedule;
        let factor = self.rate * schedule.map_or(1.0, |s| s.factor(self.steps));
        self.optimiser.set_factor(factor);
        // The factor is finite and at least 0: the configuration was checked.
        let _ = self.store.set_learning_rate(factor);
    }

    /// Drops rows of all tables that may lose them, when the configuration of one says that it is time.
    fn expire(&mut self) {
        let training = &self.setting.training;
        let groups = training.groups.values().filter_map(|g| g.rows.as_ref());
        let mut expiries = groups.chain([&training.rows]).filter_map(|rows| rows.expiry);
        if expiries.any(|expiry| self.steps.is_multiple_of(expiry.every)) {
            self.store.expire();
        }
    }

    /// Labels and requests that the losses cannot use.
    fn check_labels(&self, batch: &Batch) -> Result<(), Error> {
        let tasks = self.setting.tasks.len();
        for (t, loss) in self.losses.iter().enumerate() {
            let name = &self.setting.tasks[t];
            if loss.is_grouped() && batch.requests > 1 && batch.candidates() == batch.requests {
                return Err(Error::Config(format!(
                    "training.loss: task `{name}` compares the candidates of one request, but each request of this \
                     data has a single one; group the rows, or take a pointwise loss such as \"bce\""
                )));
            }
            let most = loss.largest_label().unwrap_or(f32::INFINITY);
            let labels = batch.labels.iter().skip(t).step_by(tasks);
            if let Some(y) = labels.clone().find(|y| **y > most) {
                return Err(Error::Config(format!(
                    "training.loss: task `{name}` has a label of {y}, but its loss takes labels from 0 to {most}; \
                     graded labels need one such as \"lambda_rank\" or \"list_softmax\""
                )));
            }
        }
        Ok(())
    }

    fn check_finite(&self, loss: f32, gradients: &Gradients) -> Result<(), Error> {
        if loss.is_finite() {
            return Ok(());
        }
        let place = gradients.first_non_finite(&self.params).unwrap_or("the loss itself");
        Err(Error::Diverged(format!(
            "training diverged at step {}: the loss is {loss} (first bad gradient: {place}); lower the learning \
             rate or set training.clip_norm",
            self.steps + 1
        )))
    }
}
