//! DeepFM (Guo et al., IJCAI 2017): a factorisation machine and an MLP over one shared embedding.
//!
//! logit = b + Σᵢ wᵢ + ½ Σ_d [(Σᵢ vᵢ)² − Σᵢ vᵢ²] + MLP(v₁ ‖ … ‖ v_F).
//! Unlike the paper's, several tasks may be asked for: they share the machine, the MLP has an output each.

use millstream_nn::{Inputs, Linear, LinearTerms, Params, Pass, Tensor};

use crate::neural::{Fields, Neural, Tower, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("deepfm", |cfg| cfg.options::<Config>().map(drop), build);

options!(Neural::default(););

struct DeepFm {
    fields: Fields,
    linear: LinearTerms,
    tower: Tower,
    head: Linear,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let neural = cfg.options::<Config>()?.neural();
    let fields = neural.fields(cfg, shape, params)?;
    let linear = LinearTerms::new(params, shape.fields, &fields.chosen, "linear")?;
    let tower = neural.tower((cfg, shape), params, "tower", fields.width())?;
    let head = Linear::new(params, "head", tower.outputs(), shape.tasks)?;
    Ok(Box::new(DeepFm { fields, linear, tower, head }))
}

impl Ranker for DeepFm {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x); // [N, F, D]
        let machine = self.linear.forward(pass, x).add(&v.fm()); // [N, 1]
        let h = self.tower.forward(pass, x, &v.flatten()); // [N, H]
        self.head.forward(pass, &h).add_column(&machine) // [N, T]
    }
}
