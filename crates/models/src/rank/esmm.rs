//! ESMM (Ma et al., SIGIR 2018): steps of a funnel, each given the one before, learned over all exposures.
//!
//! Tasks are the steps in the order of the configuration: click, order, … A tower per step over shared embeddings gives
//! logits u_t of "step t, given the step before". What the losses see are the logits of "all steps up to t",
//! σ(z_t) = σ(z_{t−1}) σ(u_t), z_1 = u_1: pCTCVR = pCTR · pCVR. They are learned over all exposures: a row outside a task's
//! space (`space = "click"`) counts there as 0, since what was not clicked was not ordered either. So pCVR, which is never
//! fitted to clicked rows alone, is free of their selection. The paper has two steps; more are its successors' (ESM²).
//!
//! `served` says what `forward`, and so evaluation and serving, gives for the steps after the first: `"joint"` (the default)
//! z_t, pCTCVR, whose labels are over all exposures; `"conditional"` u_t, pCVR: give those tasks the step before as their
//! `space`, then their metrics are over its rows. `hidden` are the layers of each tower.

use millstream_nn::{Experts, Inputs, LinearEach, Params, Pass, Tensor};
use serde::Deserialize;

use crate::heads::no_lhuc;
use crate::neural::{Fields, Neural, options};
use crate::ranker::{Labels, Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("esmm", |cfg| Config::of(cfg).map(drop), build);

/// What a step after the first is scored by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Served {
    /// This step and all before it.
    Joint,
    /// This step, given the one before.
    Conditional,
}

options!(Neural::default();
    served: Served = Served::Joint,
);

impl Config {
    fn of(cfg: &ModelConfig) -> Result<Self, Error> {
        let c: Self = cfg.options()?;
        no_lhuc(cfg, &c.neural()).map(|()| c)
    }
}

struct Esmm {
    fields: Fields,
    towers: Experts,
    heads: LinearEach,
    served: Served,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c = Config::of(cfg)?;
    let (neural, tasks) = (c.neural(), shape.tasks);
    let fields = neural.fields(cfg, shape, params)?;
    let towers = Experts::new(params, "towers", (1, &vec![0; tasks]), fields.width(), &neural.mlp)?;
    let own: Vec<usize> = (0..tasks).collect();
    let sizes = (towers.outputs(), 1);
    let heads = LinearEach::new(params, "heads", (tasks, &own), sizes, neural.mlp.weight_init)?;
    Ok(Box::new(Esmm { fields, towers, heads, served: c.served }))
}

/// Logits `[N, T]` of all steps up to each, from those given the step before.
fn joint(steps: &Tensor) -> Tensor {
    let mut so_far: Vec<Tensor> = vec![steps.slice(0, 1)];
    for t in 1..steps.width() {
        so_far.push(so_far[t - 1].both(&steps.slice(t, 1)));
    }
    Tensor::join(so_far)
}

impl Ranker for Esmm {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x).flatten(); // [N, F·D]
        let h = self.towers.forward(pass, &v).flatten(); // [N, T·H]
        let steps = self.heads.forward(pass, &h); // [N, T]
        match self.served {
            Served::Joint => joint(&steps),
            Served::Conditional => steps,
        }
    }

    fn objective(&self, logits: &Tensor, y: &Labels<'_>) -> Option<(Tensor, Vec<f32>)> {
        let logits = match self.served {
            Served::Joint => logits.clone(),
            Served::Conditional => joint(logits),
        };
        // A row that did not take the step before did not take this one.
        let tasks = logits.width();
        let label = |(at, y): (usize, &f32)| if at % tasks > 0 && y.is_nan() { 0.0 } else { *y };
        Some((logits, y.values.iter().enumerate().map(label).collect()))
    }
}
