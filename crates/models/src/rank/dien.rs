//! DIEN (Zhou et al., AAAI 2019): a GRU over the history, then a GRU whose update gate is scaled by the attention of the candidate
//! to the first one's states; its last state is the interest.
//!
//! Unlike the paper's, there is no auxiliary loss that predicts the next action from a state: a batch holds no sampled negatives of
//! histories.

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
