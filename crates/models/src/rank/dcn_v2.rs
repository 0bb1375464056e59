//! DCN V2 (Wang et al., WWW 2021): a cross network with full matrices, and an MLP.
//!
//! Cross layer: x_{l+1} = x₀ ⊙ (W_l x_l + b_l) + x_l. `structure = "stacked"` puts the MLP on top of the cross
//! network, `"parallel"` beside it, the two joined before the head.

use millstream_nn::{
    CrossNet, Embed, EmbedSpec, Inputs, Linear, Mlp, MlpConfig, Params, Pass, RowInit, Tensor,
};
use serde::Deserialize;

use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("dcn_v2", |cfg| cfg.options::<Config>().map(drop), build);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Structure {
    Stacked,
    Parallel,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D.
    embedding: usize,
    cross_layers: usize,
    structure: Structure,
    hidden: Vec<usize>,
    dropout: f32,
    batch_norm: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 16,
            cross_layers: 3,
            structure: Structure::Parallel,
            hidden: vec![400, 400, 400],
            dropout: 0.0,
            batch_norm: false,
            init_std: 1e-4,
        }
    }
}

struct DcnV2 {
    embed: Embed,
    cross: CrossNet,
    tower: Mlp,
    head: Linear,
    structure: Structure,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c: Config = cfg.options()?;
    let spec = EmbedSpec { init: RowInit::Normal(c.init_std), ..EmbedSpec::new(c.embedding) };
    let embed = Embed::new(params, shape.fields, &cfg.chosen(shape.fields)?, &spec)?;
    let width = embed.fields() * c.embedding;
    let cross = CrossNet::new(params, "cross", width, c.cross_layers)?;
    let mlp =
        MlpConfig { hidden: c.hidden, dropout: c.dropout, batch_norm: c.batch_norm, ..MlpConfig::default() };
    let tower = Mlp::new(params, "tower", width, &mlp)?;
    let joined = if c.structure == Structure::Parallel { width + tower.outputs() } else { tower.outputs() };
    let head = Linear::new(params, "head", joined, shape.tasks)?;
    Ok(Box::new(DcnV2 { embed, cross, tower, head, structure: c.structure }))
}

impl Ranker for DcnV2 {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let x0 = self.embed.forward(pass, x).flatten(); // [N, F·D]
        let crossed = self.cross.forward(pass, &x0); // [N, F·D]
        let h = match self.structure {
            Structure::Stacked => self.tower.forward(pass, &crossed), // [N, H]
            Structure::Parallel => Tensor::concat(&[&crossed, &self.tower.forward(pass, &x0)]), // [N, F·D + H]
        };
        self.head.forward(pass, &h) // [N, T]
    }
}
