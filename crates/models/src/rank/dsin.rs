//! DSIN (Feng et al., IJCAI 2019): a history falls into sessions, each has an interest, interests lead to one another, and the candidate
//! takes from both what concerns it.
//!
//! Sessions come with the history: `session_gap_mins = 30` of the sequence feature ends one where nothing happens for longer. Within a session
//! a transformer block over elements with a bias for session, place and column; across them an LSTM in each direction, whose outputs are
//! added up (the paper leaves open how its ⊕ joins them); activation of both by softmax, or as `weights` of `[model.sequence]` says.
//! Unlike the paper's, sessions are counted back from the latest, so that the bias of the last one does not depend on how long the user
//! has been there.

use millstream_nn::Params;

use crate::behaviour::{self, Kind};
use crate::neural::options;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("dsin", |cfg| cfg.options::<Config>().map(drop), build);

options!(behaviour::defaults(););

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    behaviour::build(Kind::Dsin, cfg.options::<Config>()?.neural(), (cfg, shape), params)
}
