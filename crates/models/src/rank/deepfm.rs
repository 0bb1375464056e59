//! DeepFM (Guo et al., IJCAI 2017): a factorisation machine and an MLP over one shared embedding.
//!
//! logit = b + Σᵢ wᵢ + ½ Σ_d [(Σᵢ vᵢ)² − Σᵢ vᵢ²] + MLP(v₁ ‖ … ‖ v_F).
//! Unlike the paper's, several tasks may be asked for: they share the machine, the MLP has an output each.

use millstream_nn::{
    Embed, EmbedSpec, Inputs, Linear, LinearTerms, Mlp, MlpConfig, Params, Pass, RowInit, Tensor,
};
use serde::Deserialize;

use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("deepfm", |cfg| cfg.options::<Config>().map(drop), build);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D.
    embedding: usize,
    hidden: Vec<usize>,
    dropout: f32,
    batch_norm: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { embedding: 10, hidden: vec![400, 400, 400], dropout: 0.0, batch_norm: false, init_std: 1e-4 }
    }
}

struct DeepFm {
    embed: Embed,
    linear: LinearTerms,
    tower: Mlp,
    head: Linear,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let Config { embedding: dim, hidden, dropout, batch_norm, init_std } = cfg.options()?;
    let chosen = cfg.chosen(shape.fields)?;
    let spec = EmbedSpec { init: RowInit::Normal(init_std), ..EmbedSpec::new(dim) };
    let embed = Embed::new(params, shape.fields, &chosen, &spec)?;
    let linear = LinearTerms::new(params, shape.fields, &chosen, "linear")?;
    let mlp = MlpConfig { hidden, dropout, batch_norm, ..MlpConfig::default() };
    let tower = Mlp::new(params, "tower", embed.fields() * dim, &mlp)?;
    let head = Linear::new(params, "head", tower.outputs(), shape.tasks)?;
    Ok(Box::new(DeepFm { embed, linear, tower, head }))
}

impl Ranker for DeepFm {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.embed.forward(pass, x); // [N, F, D]
        let machine = self.linear.forward(pass, x).add(&v.fm()); // [N, 1]
        let h = self.tower.forward(pass, &v.flatten()); // [N, H]
        self.head.forward(pass, &h).add_column(&machine) // [N, T]
    }
}
