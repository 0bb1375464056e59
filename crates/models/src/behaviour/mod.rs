//! Blocks that read what a user did before: options, and the vectors they add to a ranker's fields.
//!
//! `[model.sequence]` names a block for any ranker that crosses embedded fields; its vector, some embedding widths wide, joins the fields.
//! The rankers named after a block are a tower over the fields with their block. The sequence's own fields are then not pooled into
//! the fields a second time.

mod block;
mod options;
mod search;

pub(crate) use block::Block;
pub(crate) use options::{Behaviour, Kind};

use millstream_nn::{Activation, Inputs, Linear, MlpConfig, Params, Pass, Tensor};

use crate::neural::{Fields, Neural, Tower};
use crate::ranker::{Ranker, Shape};
use crate::{Error, ModelConfig};

/// A tower over the fields and a block's interest: what the rankers named after a block are.
struct TowerOver {
    fields: Fields,
    tower: Tower,
    head: Linear,
}

/// The defaults of those rankers: a tower of 200 and 80 with Dice, as in DIN's paper.
pub(crate) fn defaults() -> Neural {
    let mlp = MlpConfig { hidden: vec![200, 80], activation: Activation::Dice, ..MlpConfig::default() };
    Neural { mlp, ..Neural::default() }
}

/// A tower over the fields and the interest that `kind` reads out of the history.
///
/// # Errors
/// `block` beside a ranker that has its own, or as [`Neural::fields`].
pub(crate) fn build(
    kind: Kind,
    mut neural: Neural,
    (cfg, shape): (&ModelConfig, &Shape<'_>),
    params: &mut Params,
) -> Result<Box<dyn Ranker>, Error> {
    let mut sequence = neural.sequence.take().unwrap_or_default();
    if sequence.block.is_some() {
        return Err(Error::Config(format!(
            "model `{}` has a block of its own; leave out `block` of [model.sequence]",
            cfg.name
        )));
    }
    sequence.block = Some(kind);
    neural.sequence = Some(sequence);
    let fields = neural.fields(cfg, shape, params)?;
    let tower = neural.tower((cfg, shape), params, "tower", fields.width())?;
    let head = Linear::new(params, "head", tower.outputs(), shape.tasks)?;
    Ok(Box::new(TowerOver { fields, tower, head }))
}

impl Ranker for TowerOver {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x); // [N, F, D], the interest last
        let h = self.tower.forward(pass, x, &v.flatten()); // [N, H]
        self.head.forward(pass, &h) // [N, T]
    }
}
