//! AutoInt (Song et al., CIKM 2019): self-attention between the fields, layer upon layer.
//!
//! A layer: ReLU(‖_h Σ_j softmax_j⟨Q_h x_i, K_h x_j⟩ V_h x_j + R x_i). All fields must share the width D, which `embedding`
//! says. With `hidden` there is an MLP over the embeddings beside it (the paper's AutoInt+), with `wide` linear terms.
//! Attention scores are not scaled, as in the paper, unless `scaled` says so.

use millstream_nn::{FieldAttention, Inputs, Linear, LinearTerms, Params, Pass, Tensor};

use crate::neural::{Fields, Neural, Tower, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("autoint", |cfg| cfg.options::<Config>().map(drop), build);

options!(Neural::without_tower();
    attention_layers: usize = 3,
    heads: usize = 2,
    /// Width of a head; a field is `heads · head_dim` wide after a layer.
    head_dim: usize = 32,
    residual: bool = true,
    scaled: bool = false,
    wide: bool = false,
);

struct AutoInt {
    fields: Fields,
    layers: Vec<FieldAttention>,
    tower: Option<Tower>,
    wide: Option<LinearTerms>,
    head: Linear,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c: Config = cfg.options()?;
    let neural = c.neural();
    let fields = neural.fields(cfg, shape, params)?;
    let (mut layers, mut width) = (Vec::new(), c.embedding);
    for l in 0..c.attention_layers {
        let (name, heads) = (format!("attention.{l}"), (c.heads, c.head_dim));
        let layer = FieldAttention::new(params, &name, width, heads, (c.residual, c.scaled))?;
        width = layer.outputs();
        layers.push(layer);
    }
    let towered = !c.hidden.is_empty() || c.lhuc.is_some();
    let tower = towered.then(|| neural.tower((cfg, shape), params, "tower", fields.width())).transpose()?;
    let wide =
        c.wide.then(|| LinearTerms::new(params, shape.fields, &fields.chosen, "linear")).transpose()?;
    let joined = fields.count() * width + tower.as_ref().map_or(0, Tower::outputs);
    let head = Linear::new(params, "head", joined, shape.tasks)?;
    Ok(Box::new(AutoInt { fields, layers, tower, wide, head }))
}

impl Ranker for AutoInt {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x); // [N, F, D]
        let h = self.layers.iter().fold(v.clone(), |h, layer| layer.forward(pass, &h)).flatten(); // [N, F·H·A]
        let deep = self.tower.iter().map(|tower| tower.forward(pass, x, &v.flatten()));
        let y = self.head.forward(pass, &Tensor::join(std::iter::once(h).chain(deep))); // [N, T]
        match &self.wide {
            Some(wide) => y.add_column(&wide.forward(pass, x)),
            None => y,
        }
    }
}
