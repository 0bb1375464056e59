//! A tower over the fields and the pooled history: the control of the rankers that look at the history through the candidate.
//!
//! `[model.sequence] pool` says how it is pooled: `"mean"` (the default), `"sum"`, `"gap"`, `"strength"`, `"last"` or `"max"`.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("mean_pool", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::MeanPool, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
