//! Learning a row at a time: predict, then learn, so that each row is predicted with what all rows before it taught.
//!
//! Rankers that have such a kernel name it with [`RankerDef::with_online`](crate::RankerDef::with_online). A kernel works
//! on the tables and weights that the ranker itself asked for, under the optimisers that they are configured with: what
//! was learned this way is saved, opened and scored like any other model.

mod linear;
mod machine;
mod rows;

use millstream_nn::{Optimiser, Params};
use millstream_schema::{Batch, suggest};
use millstream_store::Store;

use crate::ranker::{RANKERS, Shape};
use crate::{Error, ModelConfig};

pub(crate) use machine::{Pairs, machine};

/// What learns: the weights and rows of a model, and the optimiser of the dense weights. (Rows have theirs in their
/// table's configuration.)
pub struct Live<'a> {
    /// Dense weights.
    pub params: &'a mut Params,
    /// Embedding rows.
    pub store: &'a mut Store,
    /// What moves the dense weights; its memory is all that a checkpoint must keep beside weights and rows.
    pub optimiser: &'a mut Optimiser,
}

/// A ranker that learns a row at a time.
///
/// The loss of a row is its (weighted) binary cross-entropy, its gradient unscaled: as a mini-batch step on that one row.
pub trait Progressive: Send + Sync {
    /// For each candidate of the batch in order: appends its logits `[T]` as they are before it is learned, then learns it.
    /// The same batches in the same order give the same weights however the rows are cut into batches, and at any
    /// number of threads.
    ///
    /// # Errors
    /// The batch was made by another encoder, or a logit is not finite.
    fn learn(&mut self, live: Live<'_>, batch: &Batch, logits: &mut Vec<f32>) -> Result<(), Error>;
}

/// Makes the kernel for a model that was built on these weights, whose tables the store has.
///
/// # Errors
/// What the kernel cannot do: optimisers or kinds of feature, by name.
pub type BuildOnline = fn(&ModelConfig, &Shape<'_>, &Params, &Store) -> Result<Box<dyn Progressive>, Error>;

/// The kernel of the ranker that `cfg` names.
///
/// # Errors
/// The ranker has none (the message lists those that do), or as [`BuildOnline`].
pub fn build(
    cfg: &ModelConfig,
    shape: &Shape<'_>,
    params: &Params,
    store: &Store,
) -> Result<Box<dyn Progressive>, Error> {
    let def = RANKERS.iter().find(|d| d.name == cfg.name).ok_or_else(|| {
        let valid: Vec<&str> = RANKERS.iter().map(|d| d.name).collect();
        Error::Config(suggest::unknown("ranker", &cfg.name, valid.iter().copied()))
    })?;
    let online = def.online.ok_or_else(|| {
        let able: Vec<&str> = RANKERS.iter().filter(|d| d.online.is_some()).map(|d| d.name).collect();
        Error::Config(format!("`{}` does not learn a row at a time; {} do", cfg.name, able.join(", ")))
    })?;
    online(cfg, shape, params, store)
}
