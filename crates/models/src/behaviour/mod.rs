//! Blocks that read what a user did before: options, and the vectors they add to a ranker's fields.
//!
//! `[model.sequence]` names a block for any ranker that crosses embedded fields, several `[[model.sequence]]` as many blocks, over one list of
//! actions or several: clicks and orders, long and short. Each block's vector, some embedding widths wide, joins the fields, in the order of
//! the blocks. The rankers named after a block are a tower over the fields with their block, and with others that name theirs. The
//! fields of sequences that are read so are then not pooled into the fields a second time.

mod block;
mod options;
mod search;

pub(crate) use block::Block;
use options::Behaviour;
pub(crate) use options::{Blocks, Kind, Place};

use millstream_nn::{Activation, Inputs, Linear, MlpConfig, Params, Pass, Tensor};

use crate::neural::{Fields, Neural, Tower};
use crate::ranker::{Ranker, Shape};
use crate::{Error, ModelConfig};

/// Why a ranker whose terms are of single fields takes no block.
pub(crate) const NO_BLOCKS: &str =
    "is for rankers with layers over embedded fields, such as `deepfm`, `dcn_v2` or `din`; leave it out";

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

/// A tower over the fields and the interest that `kind` reads out of the history; blocks that say `block` are beside it.
///
/// # Errors
/// No block is left to be the ranker's own, or as [`Neural::fields`].
pub(crate) fn build(
    kind: Kind,
    mut neural: Neural,
    (cfg, shape): (&ModelConfig, &Shape<'_>),
    params: &mut Params,
) -> Result<Box<dyn Ranker>, Error> {
    let Blocks(blocks) = &mut neural.sequence;
    if blocks.is_empty() {
        blocks.push(Behaviour::default());
    }
    if blocks.iter().all(|sequence| sequence.block.is_some()) {
        let of = if blocks.len() == 1 { "[model.sequence]" } else { "one [[model.sequence]]" };
        return Err(Error::Config(format!(
            "model `{}` has a block of its own; leave out `block` of {of}",
            cfg.name
        )));
    }
    blocks.iter_mut().for_each(|sequence| sequence.block = sequence.block.or(Some(kind)));
    let fields = neural.fields(cfg, shape, params)?;
    let tower = neural.tower((cfg, shape), params, "tower", fields.width())?;
    let head = Linear::new(params, "head", tower.outputs(), shape.tasks)?;
    Ok(Box::new(TowerOver { fields, tower, head }))
}

impl Ranker for TowerOver {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x); // [N, F, D], the interests last
        let h = self.tower.forward(pass, x, &v.flatten()); // [N, H]
        self.head.forward(pass, &h) // [N, T]
    }
}
