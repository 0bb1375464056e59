//! Shared bottom (Caruana, Machine Learning 1997): one tower below, a tower of its own above it for each task.
//!
//! z_t = head_t(tower_t(bottom(v₁ ‖ … ‖ v_F))). `hidden` are the layers of the bottom, `tower_hidden` those of each task's
//! tower; dropout, activation, batch normalisation and first weights are those of both. What the tasks have in common is
//! learned from all of them, and what hurts one of them is in the way of it: the control of `mmoe` and `ple`.

use millstream_nn::{Inputs, Params, Pass, Tensor};

use crate::heads::Heads;
use crate::neural::{Fields, Neural, Tower, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("shared_bottom", |cfg| cfg.options::<Config>().map(drop), build);

options!(Neural::default();
    /// Layers of each task's tower.
    tower_hidden: Vec<usize> = vec![64],
);

struct SharedBottom {
    fields: Fields,
    bottom: Tower,
    heads: Heads,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c: Config = cfg.options()?;
    let neural = c.neural();
    let fields = neural.fields(cfg, shape, params)?;
    let bottom = neural.tower((cfg, shape), params, "bottom", fields.width())?;
    let sources = vec![0; shape.tasks];
    let heads = Heads::new(params, (1, &sources), bottom.outputs(), (&neural, &c.tower_hidden))?;
    Ok(Box::new(SharedBottom { fields, bottom, heads }))
}

impl Ranker for SharedBottom {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x).flatten(); // [N, F·D]
        let h = self.bottom.forward(pass, x, &v); // [N, H]
        self.heads.forward(pass, &h) // [N, T]
    }
}
