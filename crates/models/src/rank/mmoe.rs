//! MMoE (Ma et al., KDD 2018): shared experts, and for each task a gate that mixes them.
//!
//! h_t = Σ_e softmax_e(W_t x) expert_e(x), z_t = head_t(tower_t(h_t)), x = v₁ ‖ … ‖ v_F. `hidden` are the layers of each
//! expert, `tower_hidden` those of each task's tower. The first layers of all experts are one product, and so are all
//! gates.

use millstream_nn::{Experts, Gates, Inputs, Params, Pass, Tensor};

use crate::heads::{Heads, at_least_one, no_lhuc};
use crate::neural::{Fields, Neural, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("mmoe", |cfg| Config::of(cfg).map(drop), build);

options!(Neural::default();
    experts: usize = 8,
    /// Layers of each task's tower.
    tower_hidden: Vec<usize> = vec![64],
);

impl Config {
    fn of(cfg: &ModelConfig) -> Result<Self, Error> {
        let c: Self = cfg.options()?;
        at_least_one(cfg, &[("experts", c.experts)])?;
        no_lhuc(cfg, &c.neural()).map(|()| c)
    }
}

struct Mmoe {
    fields: Fields,
    experts: Experts,
    gates: Gates,
    heads: Heads,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c = Config::of(cfg)?;
    let (neural, tasks) = (c.neural(), shape.tasks);
    let fields = neural.fields(cfg, shape, params)?;
    let experts = Experts::new(params, "experts", (1, &vec![0; c.experts]), fields.width(), &neural.mlp)?;
    let all: Vec<usize> = (0..c.experts).collect();
    let gates = Gates::new(params, "gates", (1, &vec![0; tasks]), fields.width(), vec![all; tasks])?;
    let own: Vec<usize> = (0..tasks).collect();
    let heads = Heads::new(params, (tasks, &own), experts.outputs(), (&neural, &c.tower_hidden))?;
    Ok(Box::new(Mmoe { fields, experts, gates, heads }))
}

impl Ranker for Mmoe {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x).flatten(); // [N, F·D]
        let h = self.experts.forward(pass, &v); // [N, E, H]
        let h = self.gates.forward(pass, &v, &h); // [N, T, H]
        self.heads.forward(pass, &h) // [N, T]
    }
}
