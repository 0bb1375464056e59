//! What a retriever is, and the list of them.

use millstream_nn::{Inputs, Params, Pass, Tensor};
use millstream_schema::suggest;

use crate::ranker::{Build, Shape};
use crate::recall::two_tower;
use crate::{Error, ModelConfig};

/// Puts users and items into one space, where the inner product says how well they go together.
pub trait Retriever: Send + Sync {
    /// User vectors `[R, K, D]`, K interests each.
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor;
    /// Item vectors `[N, D]`.
    fn items(&self, pass: &Pass, x: &Inputs) -> Tensor;
    /// Scalar training loss.
    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor;
    /// D.
    fn dim(&self) -> usize;
    /// K.
    fn interests(&self) -> usize {
        1
    }
}

/// What a retriever learns from: request r's positive is item column r; the columns after the R
/// positives are sampled negatives.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// `[N]` catalogue row of each item column, so that another request's positive that is also one's
    /// own is not taken for a negative.
    pub items: &'a [u32],
    /// `[N]`: log of how often a column is expected to be drawn; subtracted from its logits.
    pub log_q: &'a [f32],
    /// `[R]`, or empty when all are 1.
    pub weights: &'a [f32],
}

/// One entry of [`RETRIEVERS`].
pub struct RetrieverDef {
    /// Name in configurations.
    pub name: &'static str,
    /// Whether the options are ones that the model has, without building it.
    pub check: fn(&ModelConfig) -> Result<(), Error>,
    /// Asks `Params` for what the model needs: created if absent, loaded if present.
    pub build: Build<dyn Retriever>,
}

/// All retrievers. A new one is a file in `recall/` and a line here.
pub const RETRIEVERS: &[RetrieverDef] = &[two_tower::DEF];

/// Builds the retriever that `cfg` names.
///
/// # Errors
/// An unknown name or option, a field that does not exist, a saved weight of another shape.
pub fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let def = RETRIEVERS.iter().find(|d| d.name == cfg.name).ok_or_else(|| {
        let valid: Vec<&str> = RETRIEVERS.iter().map(|d| d.name).collect();
        Error::Config(suggest::unknown("retriever", &cfg.name, valid.iter().copied()))
    })?;
    (def.build)(cfg, shape, params)
}
