//! What a ranker is, and the list of them.

use millstream_nn::{Inputs, Params, Pass, Tensor, loss};
use millstream_schema::{Field, Side, suggest};

use crate::rank::{dcn_v2, deepfm};
use crate::{Error, ModelConfig};

/// Scores candidates of requests, one logit per task.
pub trait Ranker: Send + Sync {
    /// Logits `[N, T]`, never squashed.
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor;

    /// Scalar training loss: the sum over tasks of the mean binary cross-entropy. Models with coupled
    /// heads override it.
    fn loss(&self, logits: &Tensor, y: &Labels<'_>) -> Tensor {
        task_losses(logits, y)
    }
}

/// What happened to the candidates of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    /// `[N, T]`, row-major, each in {0, 1}.
    pub values: &'a [f32],
    /// `[N]`, or empty when all are 1.
    pub weights: &'a [f32],
}

/// Sum over T of the (weighted) mean over N of the binary cross-entropy with logits.
pub fn task_losses(logits: &Tensor, y: &Labels<'_>) -> Tensor {
    loss::bce_with_logits(logits, y.values, y.weights)
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
}

impl RankerDef {
    /// A ranker that learns by gradient steps.
    pub const fn new(
        name: &'static str,
        check: fn(&ModelConfig) -> Result<(), Error>,
        build: Build<dyn Ranker>,
    ) -> Self {
        Self { name, check, build }
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
pub const RANKERS: &[RankerDef] = &[deepfm::DEF, dcn_v2::DEF];

/// Builds the ranker that `cfg` names.
///
/// # Errors
/// An unknown name or option, a field that does not exist, a saved weight of another shape.
pub fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let def = RANKERS.iter().find(|d| d.name == cfg.name).ok_or_else(|| {
        let valid: Vec<&str> = RANKERS.iter().map(|d| d.name).collect();
        Error::Config(suggest::unknown("ranker", &cfg.name, valid.iter().copied()))
    })?;
    (def.build)(cfg, shape, params)
}
