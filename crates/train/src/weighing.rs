//! The losses of several tasks as one: fixed weights, learned uncertainties, or balanced gradients.

use millstream_models::Ranker;
use millstream_models::input::Planned;
use millstream_models::ranker::Labels;
use millstream_nn::loss::{Groups, TaskLoss, task_loss};
use millstream_nn::{Gradients, Init, ParamId, Params, Pass, Tensor};
use millstream_schema::{Batch, suggest};

use crate::config::{TaskWeights, WeightMethod};
use crate::step::Part;
use crate::{Error, Learner};

/// Least weight that GradNorm leaves a task: at 0 its gradient could not tell any more that it should count.
const LEAST: f32 = 1e-3;

/// How the tasks' losses become one.
pub(crate) enum Weighing {
    /// Σ_t L_t.
    Equal,
    /// Σ_t w_t L_t.
    Fixed(Vec<f32>),
    /// Σ_t L_t / (2 σ_t²) + log σ_t over the tasks with rows in the batch; the weight `[T]` holds log σ_t².
    Uncertainty(ParamId),
    /// Σ_t w_t L_t, and the w_t follow the gradients.
    GradNorm(GradNorm),
}

/// GradNorm's state lies with the weights, as statistics: it is saved, loaded and resumed with them.
pub(crate) struct GradNorm {
    /// w_t `[T]`, their sum T.
    weights: ParamId,
    /// L_t at the first step in which the task had rows `[T]`; 0 before.
    first: ParamId,
    /// Named shared weights; none: those that tasks are found to share.
    shared: Vec<ParamId>,
    alpha: f32,
    rate: f32,
}

impl Weighing {
    /// Asks for the weights that are learned; the model's own are there.
    ///
    /// # Errors
    /// A task or a shared weight that does not exist, with the nearest name.
    pub(crate) fn new(params: &mut Params, tasks: &[String], config: &TaskWeights) -> Result<Self, Error> {
        if let Some(name) = config.weights.keys().find(|name| !tasks.contains(name)) {
            let told = suggest::unknown("task", name, tasks.iter().map(String::as_str));
            return Err(Error::Config(format!("training.task_weights.weights: {told}")));
        }
        let count = &[tasks.len()];
        Ok(match config.method {
            WeightMethod::Fixed if config.weights.values().all(|w| *w == 1.0) => Self::Equal,
            WeightMethod::Fixed => {
                Self::Fixed(tasks.iter().map(|t| config.weights.get(t).copied().unwrap_or(1.0)).collect())
            }
            WeightMethod::Uncertainty => {
                let ask = |p: &mut Params| p.dense("task_weights.log_variance", count, Init::Zeros);
                Self::Uncertainty(params.grouped("task_weights", ask)?)
            }
            WeightMethod::GradNorm => Self::GradNorm(GradNorm {
                shared: named(params, &config.shared)?,
                weights: params.statistic("task_weights.weights", count, Init::Ones)?,
                first: params.statistic("task_weights.first_losses", count, Init::Zeros)?,
                alpha: config.alpha(),
                rate: config.learning_rate(),
            }),
        })
    }

    /// What each task's loss counts now; `None` where all count the same.
    pub(crate) fn weights(&self, params: &Params) -> Option<Vec<f32>> {
        match self {
            Self::Equal => None,
            Self::Fixed(weights) => Some(weights.clone()),
            Self::Uncertainty(s) => Some(params.values(*s).iter().map(|s| 0.5 * (-s).exp()).collect()),
            Self::GradNorm(balance) => Some(params.values(balance.weights).to_vec()),
        }
    }

    /// The one loss of the tasks' losses; a task without rows in the batch has none. `None` if no task has.
    fn total(&self, pass: &Pass, parts: Vec<Option<Tensor>>) -> Option<Tensor> {
        let log_variances = match self {
            Self::Uncertainty(id) => Some(pass.param(*id)),
            _ => None,
        };
        let weigh = |(t, loss): (usize, Option<Tensor>)| {
            let loss = loss?;
            Some(match (self, &log_variances) {
                (Self::Fixed(weights), _) => loss.scale(weights[t]),
                (_, Some(all)) => {
                    let s = all.slice(t, 1);
                    loss.mul(&s.scale(-1.0).exp()).add(&s).scale(0.5)
                }
                _ => loss,
            })
        };
        parts.into_iter().enumerate().filter_map(weigh).reduce(|sum, loss| sum.add(&loss))
    }
}

/// Weights that are called so, or whose names begin so up to a dot.
fn named(params: &Params, names: &[String]) -> Result<Vec<ParamId>, Error> {
    let mut found = Vec::new();
    for name in names {
        let below = |full: &str| {
            full.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let before = found.len();
        found.extend(params.ids().filter(|id| params.is_trained(*id) && below(params.name(*id))));
        if found.len() == before {
            let valid: Vec<&str> = params.ids().map(|id| params.name(id)).collect();
            let told = suggest::unknown("weight", name, valid.iter().copied());
            return Err(Error::Config(format!("training.task_weights.shared: {told}")));
        }
    }
    Ok(found)
}

/// The loss of each task over the rows in its space; `only` one task's, if told. A task without rows has none.
fn parts(
    losses: &[TaskLoss],
    (logits, y): (&Tensor, &Labels<'_>),
    batch: &Batch,
    only: Option<usize>,
) -> Vec<Option<Tensor>> {
    let part = |(t, loss): (usize, &TaskLoss)| {
        if only.is_some_and(|only| only != t) {
            return None;
        }
        let rows = y.of_task(logits, t);
        (!rows.is_empty()).then(|| {
            rows.loss(|z, labels, weights, rows| {
                let requests: Vec<u32> = match rows {
                    None => batch.candidate_request.clone(),
                    Some(rows) => rows.iter().map(|n| batch.candidate_request[*n as usize]).collect(),
                };
                task_loss(loss, z, labels, weights, &Groups::by_request(&requests))
            })
        })
    };
    losses.iter().enumerate().map(part).collect()
}

impl Learner {
    /// A ranker's loss of these logits `[N, T]`: the model's own, unless other losses or weights are asked for. With `only`
    /// it is that task's alone, not weighted.
    pub(crate) fn task_total(
        &self,
        (model, pass): (&dyn Ranker, &Pass),
        z: &Tensor,
        batch: &Batch,
        only: Option<usize>,
    ) -> Tensor {
        let y = Labels { values: &batch.labels, weights: &batch.weights };
        let plain = self.losses.iter().all(|loss| *loss == TaskLoss::default());
        if plain && only.is_none() && matches!(self.weighing, Weighing::Equal) {
            return model.loss(z, &y);
        }
        let seen = model.objective(z, &y);
        let (z, values) = seen.as_ref().map_or((z, y.values), |(z, values)| (z, &values[..]));
        let parts = parts(&self.losses, (z, &Labels { values, ..y }), batch, only);
        match only {
            Some(_) => parts.into_iter().flatten().next(),
            None => self.weighing.total(pass, parts),
        }
        // Not a single label in the batch.
        .unwrap_or_else(|| z.sum().scale(0.0))
    }

    /// Loss and gradients of a batch under GradNorm: a pass per task, whose gradients are added with the weights of before
    /// the step. The new weights go with the gradients, as statistics.
    pub(crate) fn balanced(
        &self,
        balance: &GradNorm,
        (batch, planned): (&Batch, &Planned),
        mut logits: Option<&mut Vec<f32>>,
    ) -> Result<(f32, Gradients), Error> {
        let tasks = self.setting.tasks.len();
        let mut passes = Vec::with_capacity(tasks);
        for t in 0..tasks {
            passes.push(self.pass((batch, planned), None, (Part::Task(t), logits.take()))?);
        }
        // What layers add is of no task: it counts once and is not balanced.
        let layers = match passes.iter().any(|passed| passed.layers) {
            true => Some(self.pass((batch, planned), None, (Part::Layers, None))?),
            false => None,
        };
        let passes: Vec<(f32, Gradients)> = passes.into_iter().map(|p| (p.loss, p.gradients)).collect();
        let weights = self.params.values(balance.weights);
        let losses: Vec<f32> = passes.iter().map(|(loss, _)| *loss).collect();
        let norms = balance.norms(&self.params, &passes)?;
        let state = balance.next(&self.params, &losses, &norms);
        let of_tasks: f32 = losses.iter().zip(weights).map(|(loss, w)| loss * w).sum();
        let value = of_tasks + layers.as_ref().map_or(0.0, |layers| layers.loss);
        let scaled = passes.into_iter().zip(weights).map(|((_, mut gradients), w)| {
            gradients.scale(*w);
            gradients
        });
        let add = |mut sum: Gradients, more| {
            sum.add(more);
            sum
        };
        let mut all = scaled.reduce(add).unwrap_or_default();
        layers.into_iter().for_each(|layers| all.add(layers.gradients));
        for (id, values) in state {
            all.note_statistic(id, values);
        }
        Ok((value, all))
    }
}

impl GradNorm {
    /// ‖∂L_t/∂W‖ of each task over the shared weights.
    fn norms(&self, params: &Params, passes: &[(f32, Gradients)]) -> Result<Vec<f64>, Error> {
        let shared: Vec<ParamId> = match self.shared.is_empty() {
            true => params.ids().filter(|id| is_shared(*id, passes)).collect(),
            false => self.shared.clone(),
        };
        // Without a slope that reaches the rows all units of a task are at rest in this batch; that tells nothing.
        let slopes = |rows: &[f32]| rows.iter().any(|v| *v != 0.0);
        let flows = |(_, g): &(f32, Gradients)| params.table_ids().any(|t| g.rows(t).is_some_and(slopes));
        if shared.is_empty() && passes.len() > 1 && passes.iter().all(flows) {
            return Err(Error::Config(
                "training.task_weights: \"grad_norm\" balances the gradients of dense weights that tasks share, and \
                 this model has none; take \"uncertainty\", or a model with a shared part"
                    .into(),
            ));
        }
        let squares = |g: &[f32]| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let norm = |(_, g): &(f32, Gradients)| {
            shared.iter().filter_map(|id| g.dense(*id)).map(squares).sum::<f64>().sqrt()
        };
        Ok(passes.iter().map(norm).collect())
    }

    /// The first losses and the weights after this step: w_t − rate · sign(G_t − mean G · r_t^α) ‖∂L_t/∂W‖ with
    /// G_t = w_t ‖∂L_t/∂W‖, which is the slope of Σ_t |G_t − mean G · r_t^α| with the second part held, as the paper has it
    /// (there followed by Adam); then scaled to the sum T. Nothing moves while a task has no rows or no slope.
    fn next(&self, params: &Params, losses: &[f32], norms: &[f64]) -> Vec<(ParamId, Vec<f32>)> {
        let known = params.values(self.first);
        let first: Vec<f32> = known.iter().zip(losses).map(|(k, l)| if *k > 0.0 { *k } else { *l }).collect();
        let weights = params.values(self.weights);
        let told = |weights: Vec<f32>| vec![(self.first, first.clone()), (self.weights, weights)];
        if norms.iter().any(|n| *n <= 0.0) || first.iter().chain(losses).any(|l| *l <= 0.0) {
            return told(weights.to_vec());
        }
        let moved = balanced_weights(weights, (losses, &first), norms, (self.alpha, self.rate));
        told(moved)
    }
}

/// One step of GradNorm's weights; see [`GradNorm::next`].
fn balanced_weights(
    weights: &[f32],
    (losses, first): (&[f32], &[f32]),
    norms: &[f64],
    (alpha, rate): (f32, f32),
) -> Vec<f32> {
    let tasks = weights.len() as f64;
    let kept: Vec<f64> = losses.iter().zip(first).map(|(l, f)| f64::from(*l) / f64::from(*f)).collect();
    let mean_kept = kept.iter().sum::<f64>() / tasks;
    let lengths: Vec<f64> = weights.iter().zip(norms).map(|(w, n)| f64::from(*w) * n).collect();
    let mean = lengths.iter().sum::<f64>() / tasks;
    let moved = (0..weights.len()).map(|t| {
        let wanted = mean * (kept[t] / mean_kept).powf(f64::from(alpha));
        let slope = match lengths[t] - wanted {
            d if d > 0.0 => norms[t],
            d if d < 0.0 => -norms[t],
            _ => 0.0,
        };
        (weights[t] - rate * slope as f32).max(LEAST)
    });
    let moved: Vec<f32> = moved.collect();
    let scale = tasks as f32 / moved.iter().sum::<f32>();
    moved.into_iter().map(|w| w * scale).collect()
}

/// Whether some number of a weight has a gradient from more than one task.
fn is_shared(id: ParamId, passes: &[(f32, Gradients)]) -> bool {
    let found: Vec<&[f32]> = passes.iter().filter_map(|(_, g)| g.dense(id)).collect();
    let len = found.first().map_or(0, |g| g.len());
    found.len() > 1 && (0..len).any(|i| found.iter().filter(|g| g[i] != 0.0).count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradient_norms_are_pulled_to_their_mean() {
        // Norms of the unweighted gradients stay; with α = 0 the weighted ones must become equal.
        let (norms, mut weights) = ([4.0, 1.0, 0.5], vec![1.0, 1.0, 1.0]);
        for _ in 0..4000 {
            weights = balanced_weights(&weights, (&[1.0; 3], &[1.0; 3]), &norms, (0.0, 1e-3));
        }
        let lengths: Vec<f64> = weights.iter().zip(norms).map(|(w, n)| f64::from(*w) * n).collect();
        assert!((weights.iter().sum::<f32>() - 3.0).abs() < 1e-5);
        assert!(lengths.iter().all(|l| (l / lengths[0] - 1.0).abs() < 0.05), "{lengths:?}");
    }

    #[test]
    fn a_task_that_learns_slowly_is_pulled_up() {
        let even = balanced_weights(&[1.0, 1.0], (&[0.5, 0.5], &[1.0, 1.0]), &[1.0, 1.0], (1.5, 0.1));
        assert_eq!(even, [1.0, 1.0]);
        let slow = balanced_weights(&[1.0, 1.0], (&[0.9, 0.3], &[1.0, 1.0]), &[1.0, 1.0], (1.5, 0.1));
        assert!(slow[0] > 1.05 && slow[1] < 0.95, "{slow:?}");
        // By hand: mean length 1; r = (1.5, 0.5), wanted 1.837 and 0.354; w = (1.1, 0.9), whose sum is 2.
        assert!((slow[0] - 1.1).abs() < 1e-6 && (slow[1] - 0.9).abs() < 1e-6);
    }
}
