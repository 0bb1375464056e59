//! SIM with hard search (Pi et al., CIKM 2020): the latest k actions on items of the candidate's category, then DIN's unit with the
//! time gap as part of an element.
//!
//! `[model.sequence] category` names the element that is compared; a candidate whose category is missing or unknown finds nothing.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("sim_hard", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::SimHard, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
