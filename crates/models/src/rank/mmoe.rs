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
pub const DEF: RankerDef = RankerDef::new("mmoe", check, build);

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

/// Whether the options are ones of a mixture of experts.
///
/// # Errors
/// As [`ModelConfig::options`]; no expert, or a gate on layers that there are not.
pub(super) fn check(cfg: &ModelConfig) -> Result<(), Error> {
    Config::of(cfg).map(drop)
}

struct Mixture {
    fields: Fields,
    experts: Experts,
    gates: Gates,
    heads: Heads,
}

/// Experts that all tasks share, mixed by the gates called `name`: one for each task, or one for all.
///
/// # Errors
/// As [`check`], or as [`Neural::fields`].
pub(super) fn mixture(
    (name, each): (&str, bool),
    (cfg, shape): (&ModelConfig, &Shape<'_>),
    params: &mut Params,
) -> Result<Box<dyn Ranker>, Error> {
    let c = Config::of(cfg)?;
    let neural = c.neural();
    let fields = neural.fields(cfg, shape, params)?;
    let experts = Experts::new(params, "experts", (1, &vec![0; c.experts]), fields.width(), &neural.mlp)?;
    let count = if each { shape.tasks } else { 1 };
    let all: Vec<usize> = (0..c.experts).collect();
    let gates = Gates::new(params, name, (1, &vec![0; count]), fields.width(), vec![all; count])?;
    let sources: Vec<usize> = (0..shape.tasks).map(|t| if each { t } else { 0 }).collect();
    let heads = Heads::new(params, (count, &sources), experts.outputs(), (&neural, &c.tower_hidden))?;
    Ok(Box::new(Mixture { fields, experts, gates, heads }))
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    mixture(("gates", true), (cfg, shape), params)
}

impl Ranker for Mixture {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x).flatten(); // [N, F·D]
        let h = self.experts.forward(pass, &v); // [N, E, H]
        let h = self.gates.forward(pass, &v, &h); // [N, G, H], a mixture per gate
        self.heads.forward(pass, &h) // [N, T]
    }
}
