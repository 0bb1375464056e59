//! DIN (Zhou et al., KDD 2018): the interest of a candidate in a history, Σ_e a_e v_e with a_e by an activation unit, and a tower
//! over it and the fields. Unit and tower bend by Dice or PReLU; scores go through no softmax unless `weights` says so.
//!
//! The paper's mini-batch aware L2 is what `l2` of the rows does: the store adds a row's penalty to its gradient in the steps that touch
//! it, and leaves all other rows alone. Unlike the paper's, a row's penalty is not divided by how often its value occurs.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("din", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::Din, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
