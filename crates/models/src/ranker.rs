//! What a ranker is, and the list of them.

use millstream_nn::{Inputs, Params, Pass, Tensor, loss};
use millstream_schema::{Batch, Field, Side, suggest};
use std::sync::Arc;

use crate::online::BuildOnline;
use crate::rank::{
    autoint, bst, dcn, dcn_v2, deepfm, dien, din, din_self, dsin, ensemble, esmm, ffm, final_mlp, fm, gbdt,
    lr, mean_pool, mmoe, moe, ple, shared_bottom, sim_hard, sim_soft, wide_deep,
};
use crate::{Error, ModelConfig};

/// Scores candidates of requests, one logit per task.
pub trait Ranker: Send + Sync {
    /// Logits `[N, T]`, never squashed. A layer with an objective of its own gives it to [`Pass::add_loss`].
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor;

    /// Scalar training loss: the sum over tasks of the mean binary cross-entropy over each task's rows. Models with a
    /// loss of their own override it; it stands in where neither other losses nor task weights are asked for.
    fn loss(&self, logits: &Tensor, y: &Labels<'_>) -> Tensor {
        match self.objective(logits, y) {
            None => task_losses(logits, y),
            Some((logits, values)) => task_losses(&logits, &Labels { values: &values, ..*y }),
        }
    }

    /// What the losses of the tasks see in place of `forward`'s logits and the labels as they are, each `[N, T]`: for
    /// coupled heads. It goes before any loss and any weighting of the tasks.
    fn objective(&self, _logits: &Tensor, _y: &Labels<'_>) -> Option<(Tensor, Vec<f32>)> {
        None
    }

    /// Rankers that this one consists of and that learn apart from each other, each by its own loss; none in most.
    fn members(&self) -> &[Box<dyn Ranker>] {
        &[]
    }

    /// How much loss the splits on each column saved in all, by name; `None` for a model without splits.
    fn gain_importance(&self, _params: &Params) -> Option<Vec<(String, f64)>> {
        None
    }
}

/// What happened to the candidates of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    /// `[N, T]`, row-major, each in {0, 1}, or NaN for a row that is outside of the task's space.
    pub values: &'a [f32],
    /// `[N]`, or empty when all are 1.
    pub weights: &'a [f32],
}

/// Sum over T of the (weighted) mean over the task's rows of the binary cross-entropy with logits. A task without a row
/// in the batch adds nothing.
pub fn task_losses(logits: &Tensor, y: &Labels<'_>) -> Tensor {
    if !y.values.iter().any(|y| y.is_nan()) {
        return loss::bce_with_logits(logits, y.values, y.weights);
    }
    let task =
        |t| y.of_task(logits, t).loss(|z, labels, weights, _| loss::bce_with_logits(z, labels, weights));
    let sum = (0..logits.width()).map(task).reduce(|sum, loss| sum.add(&loss));
    sum.unwrap_or_else(|| loss::bce_with_logits(logits, y.values, y.weights))
}

/// What one task's loss sees: the rows in its space.
#[derive(Debug)]
pub struct TaskRows {
    /// `[M, 1]`.
    logits: Tensor,
    labels: Vec<f32>,
    /// `[M]`, or empty when all are 1.
    weights: Vec<f32>,
    /// Which rows of the batch they are, `[M]`; `None` for all.
    rows: Option<Arc<Vec<u32>>>,
}

impl Labels<'_> {
    /// The rows in the space of task `task` (those whose label is a number), with its column of `logits` `[N, T]`.
    pub fn of_task(&self, logits: &Tensor, task: usize) -> TaskRows {
        let tasks = logits.width();
        let all: Vec<f32> = self.values.iter().skip(task).step_by(tasks).copied().collect();
        let logits = if tasks == 1 { logits.clone() } else { logits.slice(task, 1) };
        if !all.iter().any(|y| y.is_nan()) {
            return TaskRows { logits, labels: all, weights: self.weights.to_vec(), rows: None };
        }
        let rows: Vec<u32> = (0..all.len() as u32).filter(|n| !all[*n as usize].is_nan()).collect();
        let pick = |from: &[f32]| rows.iter().filter_map(|n| from.get(*n as usize).copied()).collect();
        let (labels, weights, rows) = (pick(&all), pick(self.weights), Arc::new(rows));
        TaskRows { logits: logits.gather(&rows), labels, weights, rows: Some(rows) }
    }
}

impl TaskRows {
    /// Whether no row of the batch is in the task's space.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// `f(logits [M, 1], labels, weights, which rows, if not all)`; 0 without a row.
    pub fn loss(&self, f: impl FnOnce(&Tensor, &[f32], &[f32], Option<&[u32]>) -> Tensor) -> Tensor {
        match self.labels.is_empty() {
            true => self.logits.sum(),
            false => f(&self.logits, &self.labels, &self.weights, self.rows.as_deref().map(Vec::as_slice)),
        }
    }
}

/// Name of the part `name` that task `task` has to itself: the first task's is not marked.
pub(crate) fn of_task(name: &str, task: usize) -> String {
    if task == 0 { name.to_owned() } else { format!("{name}.{task}") }
}

/// Makes a model for this shape out of these weights; they are asked for by name.
pub type Build<M> = fn(&ModelConfig, &Shape<'_>, &mut Params) -> Result<Box<M>, Error>;

/// One entry of [`RANKERS`].
pub struct RankerDef {
    /// Name in configurations.
    pub name: &'static str,
    /// Whether the options are ones that the model has, without building it.
    pub check: fn(&ModelConfig) -> Result<(), Error>,
    /// Asks `Params` for what the model needs: created if absent, loaded if present.
    pub build: Build<dyn Ranker>,
    /// Makes the kernel that learns a row at a time, where the model has one.
    pub online: Option<BuildOnline>,
    /// Learns the weights from all rows at once, where the model does not learn by gradient steps.
    pub fit: Option<Fit>,
}

/// All rows that a ranker is fitted on as a whole.
pub struct FitData<'a> {
    /// What the weights are learned from.
    pub train: &'a [Batch],
    /// What decides how long to learn; empty where there is nothing to decide by.
    pub valid: &'a [Batch],
    /// Whether to learn for as many rounds as the weights that are there did, because [`Fitted::again`] asked for it.
    pub again: bool,
    /// Seeds the draws.
    pub seed: u64,
    /// Told after each round (counted over all tasks) its loss, on `valid` where there is one.
    pub progress: &'a dyn Fn(u64, f64),
}

/// How a fit went.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fitted {
    /// Rounds that were kept, over all tasks.
    pub rounds: u64,
    /// Loss after them, summed over tasks; on the validation part where there is one.
    pub loss: f64,
    /// Whether the weights should be learned once more, from training and validation rows together, now that it is
    /// known for how long.
    pub again: bool,
}

/// Learns the weights, which were asked for before, from all rows at once.
pub type Fit = fn(&ModelConfig, &Shape<'_>, &FitData<'_>, &mut Params) -> Result<Fitted, Error>;

impl RankerDef {
    /// A ranker that learns by gradient steps.
    pub const fn new(
        name: &'static str,
        check: fn(&ModelConfig) -> Result<(), Error>,
        build: Build<dyn Ranker>,
    ) -> Self {
        Self { name, check, build, online: None, fit: None }
    }

    /// The same, with a kernel that learns a row at a time.
    pub const fn with_online(self, online: BuildOnline) -> Self {
        Self { online: Some(online), ..self }
    }

    /// The same, fitted on all rows at once: gradient steps do nothing to it.
    pub const fn with_fit(self, fit: Fit) -> Self {
        Self { fit: Some(fit), ..self }
    }
}

/// What a model is built for.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// All fields of the encoder.
    pub fields: &'a [Field],
    /// For each field, whose property it is.
    pub sides: &'a [Side],
    /// Number of tasks T.
    pub tasks: usize,
}

/// All rankers. A new one is a file in `rank/` and a line here; it then stands the law suite.
pub const RANKERS: &[RankerDef] = &[
    lr::DEF,
    fm::DEF,
    ffm::DEF,
    wide_deep::DEF,
    deepfm::DEF,
    dcn::DEF,
    dcn_v2::DEF,
    autoint::DEF,
    final_mlp::DEF,
    gbdt::DEF,
    shared_bottom::DEF,
    moe::DEF,
    mmoe::DEF,
    ple::DEF,
    esmm::DEF,
    ensemble::DEF,
    mean_pool::DEF,
    din::DEF,
    din_self::DEF,
    bst::DEF,
    sim_hard::DEF,
    sim_soft::DEF,
    dien::DEF,
    dsin::DEF,
];

/// Builds the ranker that `cfg` names.
///
/// # Errors
/// An unknown name or option, a field that does not exist, a saved weight of another shape.
pub fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let def = RANKERS.iter().find(|d| d.name == cfg.name).ok_or_else(|| {
        let valid: Vec<&str> = RANKERS.iter().map(|d| d.name).collect();
        Error::Config(suggest::unknown("ranker", &cfg.name, valid.iter().copied()))
    })?;
    (def.build)(cfg, shape, params).map_err(|e| e.of_model(&cfg.name))
}
