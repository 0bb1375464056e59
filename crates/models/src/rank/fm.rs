//! Factorisation machine (Rendle, ICDM 2010): logit = b + Σᵢ wᵢ xᵢ + Σ_{i<j} ⟨vᵢ, vⱼ⟩ xᵢ xⱼ, the pairs in O(F·D) as
//! ½ Σ_d [(Σᵢ vᵢ xᵢ)² − Σᵢ (vᵢ xᵢ)²].
//!
//! Tables `space/linear` of width 1, starting at zero, and `space/d{D}` of width D; for a field of numbers the weights
//! `field/linear` `[1, width]` and `field/d{D}` `[D, width]`; the bias `linear.bias` `[1]`. Each further task t has its
//! own, with `.t` at the end of `linear` and `d{D}`. A field of several keys or numbers enters as one vector. The linear terms are
//! parameter group `linear`.

use millstream_nn::{Embed, EmbedSpec, Inputs, LinearTerms, Params, Pass, RowInit, Tensor};
use millstream_store::Store;
use serde::Deserialize;

use crate::behaviour::NO_BLOCKS;
use crate::online::{Pairs, Progressive, machine};
use crate::ranker::{Ranker, RankerDef, Shape, of_task};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("fm", |cfg| read(cfg).map(drop), build).with_online(online);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D.
    embedding: usize,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { embedding: 10, init_std: 1e-2 }
    }
}

struct Machine {
    linear: LinearTerms,
    embed: Embed,
}

/// One per task.
struct Fm(Vec<Machine>);

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    cfg.without("sequence", NO_BLOCKS)?;
    cfg.options()
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let Config { embedding: dim, init_std } = read(cfg)?;
    let chosen = cfg.chosen(shape.fields)?;
    let task = |t| {
        let suffix = of_task(&format!("d{dim}"), t);
        let spec = EmbedSpec { dim, suffix, init: RowInit::Normal(init_std) };
        Ok(Machine {
            linear: params
                .grouped("linear", |p| LinearTerms::new(p, shape.fields, &chosen, &of_task("linear", t)))?,
            embed: Embed::new(params, shape.fields, &chosen, &spec)?,
        })
    };
    Ok(Box::new(Fm((0..shape.tasks).map(task).collect::<Result<_, Error>>()?)))
}

/// Learns a row at a time.
fn online(
    cfg: &ModelConfig,
    shape: &Shape<'_>,
    params: &Params,
    store: &Store,
) -> Result<Box<dyn Progressive>, Error> {
    let Config { embedding: dim, .. } = cfg.options()?;
    machine(cfg, shape, (params, store), Pairs::Fm { dim })
}

impl Ranker for Fm {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let task = |m: &Machine| m.embed.forward(pass, x).fm().add(&m.linear.forward(pass, x)); // [N, 1]
        Tensor::join(self.0.iter().map(task)) // [N, T]
    }
}
