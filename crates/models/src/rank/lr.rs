//! Logistic regression: logit = b + Σᵢ wᵢ xᵢ.
//!
//! Tables `space/linear` of width 1, starting at zero; for a field of numbers the weight `field/linear` `[1, width]`; the
//! bias `linear.bias` `[1]`. Each further task t has its own, named `linear.t`.

use millstream_nn::{Inputs, LinearTerms, Params, Pass, Tensor};
use millstream_store::Store;
use serde::Deserialize;

use crate::behaviour::NO_BLOCKS;
use crate::online::{Pairs, Progressive, machine};
use crate::ranker::{Ranker, RankerDef, Shape, of_task};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("lr", |cfg| read(cfg).map(drop), build).with_online(online);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

/// One per task.
struct Lr(Vec<LinearTerms>);

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    cfg.without("sequence", NO_BLOCKS)?;
    cfg.options()
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let Config {} = read(cfg)?;
    let chosen = cfg.chosen(shape.fields)?;
    let mut task = |t| LinearTerms::new(params, shape.fields, &chosen, &of_task("linear", t));
    Ok(Box::new(Lr((0..shape.tasks).map(&mut task).collect::<Result<_, _>>()?)))
}

/// Learns a row at a time.
fn online(
    cfg: &ModelConfig,
    shape: &Shape<'_>,
    params: &Params,
    store: &Store,
) -> Result<Box<dyn Progressive>, Error> {
    machine(cfg, shape, (params, store), Pairs::None)
}

impl Ranker for Lr {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        Tensor::join(self.0.iter().map(|task| task.forward(pass, x))) // [N, T]
    }
}
