//! Mixture of experts with one gate for all tasks (OMoE in Ma et al., KDD 2018; the layer of Jacobs et al. 1991).
//!
//! h = Σ_e softmax_e(W x) expert_e(x), z_t = head_t(tower_t(h)), x = v₁ ‖ … ‖ v_F. `hidden` are the layers of each expert,
//! `tower_hidden` those of each task's tower. All tasks see the same mixture: what `mmoe` is held against.

use millstream_nn::{Experts, Gates, Inputs, Params, Pass, Tensor};

use crate::heads::{Heads, at_least_one, no_lhuc};
use crate::neural::{Fields, Neural, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("moe", |cfg| Config::of(cfg).map(drop), build);

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

struct Moe {
    fields: Fields,
    experts: Experts,
    gate: Gates,
    heads: Heads,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c = Config::of(cfg)?;
    let neural = c.neural();
    let fields = neural.fields(cfg, shape, params)?;
    let experts = Experts::new(params, "experts", (1, &vec![0; c.experts]), fields.width(), &neural.mlp)?;
    let gate = Gates::new(params, "gate", (1, &[0]), fields.width(), vec![(0..c.experts).collect()])?;
    let sources = vec![0; shape.tasks];
    let heads = Heads::new(params, (1, &sources), experts.outputs(), (&neural, &c.tower_hidden))?;
    Ok(Box::new(Moe { fields, experts, gate, heads }))
}

impl Ranker for Moe {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x).flatten(); // [N, F·D]
        let h = self.experts.forward(pass, &v); // [N, E, H]
        let h = self.gate.forward(pass, &v, &h); // [N, 1, H]
        self.heads.forward(pass, &h) // [N, T]
    }
}
