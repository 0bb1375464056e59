//! DIN over a history whose elements have seen each other: multi-head self-attention (Vaswani et al. 2017), then the activation unit of
//! Zhou et al. (KDD 2018).
//!
//! What an action means depends on those around it; the unit then looks at what they mean through the candidate. The transformer sees
//! both ways (SASRec's, Kang & McAuley 2018, is had by `causal = true` of `[model.sequence.transformer]`) and does not know the
//! candidate: a request's history is encoded once for all its candidates. Blocks normalise before (`norm = "before"`), so that
//! an element stays where its embedding is and can be compared with the candidate's.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("din_self", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::DinSelf, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
