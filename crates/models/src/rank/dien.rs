//! DIEN (Zhou et al., AAAI 2019): a GRU over the history, then a GRU whose update gate is scaled by the attention of the candidate
//! to the first one's states; its last state is the interest.
//!
//! `auxiliary` of `[model.sequence]` (1, as in the authors' code; 0 for none) is the weight of the auxiliary loss: the state after an action
//! is to tell the item of the next one from that of an action of the batch, drawn anew in each step by the training's seed
//! (see [`millstream_nn::Sequence::next_action_loss`]). It looks at histories only, never at a candidate, and is no part of what is served.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("dien", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::Dien, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
