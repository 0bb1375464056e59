//! Mixture of experts with one gate for all tasks (OMoE in Ma et al., KDD 2018; the layer of Jacobs et al. 1991).
//!
//! h = Σ_e softmax_e(W x) expert_e(x), z_t = head_t(tower_t(h)), x = v₁ ‖ … ‖ v_F. `hidden` are the layers of each expert,
//! `tower_hidden` those of each task's tower. All tasks see the same mixture: what `mmoe` is held against.

use millstream_nn::Params;

use super::mmoe;
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("moe", mmoe::check, build);

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    mmoe::mixture(("gate", false), (cfg, shape), params)
}
