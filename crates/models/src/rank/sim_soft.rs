//! SIM with soft search (Pi et al., CIKM 2020): the k actions whose embeddings have the greatest inner product with the candidate's,
//! then DIN's unit with the time gap as part of an element.
//!
//! Gradients flow through the chosen ones only. Unlike the paper's, the search goes by the very embeddings of the unit, instead of by ones
//! trained beside it. With k ≥ L it is DIN.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("sim_soft", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::SimSoft, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
