//! Deep & Cross Network (Wang et al., ADKDD 2017): a cross network with one vector a layer, and an MLP.
//!
//! Cross layer: x_{l+1} = x₀ (x_l · w_l) + b_l + x_l. As in the paper the MLP stands beside the cross network by default;
//! `structure = "stacked"` puts it on top. `cross_fields` lists the fields that are crossed, whose columns all layers keep.

use millstream_nn::{Inputs, Params, Pass, Tensor, VectorCross};

use crate::crossing::{Crossing, Structure};
use crate::neural::{Neural, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("dcn", |cfg| cfg.options::<Config>().map(drop), build);

options!(Neural::default();
    cross_layers: usize = 3,
    structure: Structure = Structure::Parallel,
    /// Fields that are crossed; all when empty.
    cross_fields: Vec<String> = Vec::new(),
);

struct Dcn {
    crossing: Crossing,
    cross: VectorCross,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c: Config = cfg.options()?;
    let crossing = Crossing::new(&c.neural(), (cfg, shape), params, c.structure, &c.cross_fields)?;
    let cross = VectorCross::new(params, "cross", crossing.width(), c.cross_layers)?;
    Ok(Box::new(Dcn { crossing, cross }))
}

impl Ranker for Dcn {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.crossing.forward(pass, x, &self.cross) // [N, T]
    }
}
