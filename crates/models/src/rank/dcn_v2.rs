//! DCN V2 (Wang et al., WWW 2021): a cross network with matrices, and an MLP.
//!
//! Cross layer: x_{l+1} = x₀ ⊙ (W_l x_l + b_l) + x_l. With `rank`, W = U Vᵀ; with `experts` besides, a gated mixture of
//! such layers, each U tanh(C tanh(Vᵀ x)). `structure = "stacked"` puts the MLP on top of the cross network, `"parallel"`
//! beside it, the two joined before the head. `cross_fields` lists the fields that are crossed: the network never
//! narrows, and a full matrix costs the square of its columns.

use millstream_nn::{CrossMixture, CrossNet, Inputs, Params, Pass, Tensor};

use crate::crossing::{Crosses, Crossing, Structure};
use crate::neural::{Neural, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("dcn_v2", |cfg| Config::of(cfg).map(drop), build);

options!(Neural::default();
    cross_layers: usize = 3,
    structure: Structure = Structure::Parallel,
    /// Fields that are crossed; all when empty.
    cross_fields: Vec<String> = Vec::new(),
    /// Rank of the matrices; full when absent.
    rank: Option<usize> = None,
    /// Low-rank layers that a gate mixes.
    experts: usize = 1,
);

impl Config {
    fn of(cfg: &ModelConfig) -> Result<Self, Error> {
        let c: Self = cfg.options()?;
        let fault = match (c.rank, c.experts) {
            (_, 0) => "experts must be at least 1",
            (Some(0), _) => "rank must be at least 1; leave it out for full matrices",
            (None, 2..) => "experts share the work of low-rank layers; set rank too",
            _ => return Ok(c),
        };
        Err(Error::Config(format!("model `{}`: {fault}", cfg.name)))
    }
}

struct DcnV2 {
    crossing: Crossing,
    cross: Box<dyn Crosses>,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c = Config::of(cfg)?;
    let crossing = Crossing::new(&c.neural(), (cfg, shape), params, c.structure, &c.cross_fields)?;
    let (width, layers) = (crossing.width(), c.cross_layers);
    let cross: Box<dyn Crosses> = match c.rank {
        None => Box::new(CrossNet::new(params, "cross", width, layers)?),
        Some(rank) => Box::new(CrossMixture::new(params, "cross", width, layers, (rank, c.experts))?),
    };
    Ok(Box::new(DcnV2 { crossing, cross }))
}

impl Ranker for DcnV2 {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.crossing.forward(pass, x, &*self.cross) // [N, T]
    }
}
