//! Field-aware factorisation machine (Juan et al., RecSys 2016):
//! logit = b + Σᵢ wᵢ xᵢ + 1/‖x‖² Σ_{i<j} ⟨v_{i, field j}, v_{j, field i}⟩ xᵢ xⱼ.
//!
//! Tables `space/linear` of width 1, starting at zero, and `space/ffm{K}` of width F·K: a key's vector for the j-th field
//! of the model stands in columns `j·K .. (j+1)·K`. For a field of numbers the weights `field/linear` `[1, width]` and
//! `field/ffm{K}` `[F·K, width]`; the bias `linear.bias` `[1]`. Each further task t has its own, with `.t` at the end of
//! `linear` and `ffm{K}`. Unlike libffm there are linear terms, and the row's length scales the pairs alone; they
//! are parameter group `linear`.

use millstream_nn::{FieldAware, Inputs, LinearTerms, Params, Pass, RowInit, Tensor};
use millstream_store::Store;
use serde::Deserialize;

use crate::behaviour::NO_BLOCKS;
use crate::online::{Pairs, Progressive, machine};
use crate::ranker::{Ranker, RankerDef, Shape, of_task};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("ffm", |cfg| read(cfg).map(drop), build).with_online(online);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// K: width of a vector; a row holds one for each field.
    embedding: usize,
    /// Standard deviation of fresh vectors.
    init_std: f32,
    /// Fresh vectors are uniform and not normal: quicker to draw where most keys are new.
    init_uniform: bool,
    /// Whether pairs are divided by ‖x‖² (with keys alone: by their number), as if each row had length 1.
    normalise: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { embedding: 4, init_std: 1e-2, init_uniform: false, normalise: true }
    }
}

struct Machine {
    linear: LinearTerms,
    pairs: FieldAware,
}

/// One per task.
struct Ffm(Vec<Machine>);

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    cfg.without("sequence", NO_BLOCKS)?;
    cfg.options()
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let Config { embedding: k, init_std, init_uniform, normalise } = read(cfg)?;
    let init = match init_uniform {
        true => RowInit::Uniform(3f32.sqrt() * init_std),
        false => RowInit::Normal(init_std),
    };
    let chosen = cfg.chosen(shape.fields)?;
    let task = |t| {
        let (suffix, start) = (of_task(&format!("ffm{k}"), t), (k, init));
        Ok(Machine {
            linear: params
                .grouped("linear", |p| LinearTerms::new(p, shape.fields, &chosen, &of_task("linear", t)))?,
            pairs: FieldAware::new(params, (shape.fields, &chosen), &suffix, start, normalise)?,
        })
    };
    Ok(Box::new(Ffm((0..shape.tasks).map(task).collect::<Result<_, Error>>()?)))
}

/// Learns a row at a time.
fn online(
    cfg: &ModelConfig,
    shape: &Shape<'_>,
    params: &Params,
    store: &Store,
) -> Result<Box<dyn Progressive>, Error> {
    let Config { embedding: dim, normalise, .. } = cfg.options()?;
    machine(cfg, shape, (params, store), Pairs::Ffm { dim, normalise })
}

impl Ranker for Ffm {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let task = |m: &Machine| m.pairs.forward(pass, x).add(&m.linear.forward(pass, x)); // [N, 1]
        Tensor::join(self.0.iter().map(task)) // [N, T]
    }
}
