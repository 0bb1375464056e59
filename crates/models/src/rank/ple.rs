//! PLE (Tang et al., RecSys 2020): layers of experts of which some belong to one task and some to all.
//!
//! In extraction layer l each task t has `task_experts` experts that read x_t, and all share `shared_experts` that read x_s;
//! the next x_t is a mixture, by softmax(W_t x_t), of the task's own experts and the shared ones, the next x_s one, by
//! softmax(W_s x_s), of all experts. The first layer's x_t and x_s are v₁ ‖ … ‖ v_F; after the last one nobody needs x_s.
//! With `layers = 1` it is CGC, the paper's customised gate control. `hidden` are the layers of each expert, `tower_hidden`
//! those of each task's tower.

use millstream_nn::{Experts, Gates, Inputs, Params, Pass, Tensor};

use crate::heads::{Heads, at_least_one, no_lhuc};
use crate::neural::{Fields, Neural, options};
use crate::ranker::{Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("ple", |cfg| Config::of(cfg).map(drop), build);

options!(Neural::default();
    /// Extraction layers.
    layers: usize = 2,
    /// Experts of each task in each layer.
    task_experts: usize = 2,
    /// Experts of all tasks in each layer.
    shared_experts: usize = 2,
    /// Layers of each task's tower.
    tower_hidden: Vec<usize> = vec![64],
);

impl Config {
    fn of(cfg: &ModelConfig) -> Result<Self, Error> {
        let c: Self = cfg.options()?;
        let sizes =
            [("layers", c.layers), ("task_experts", c.task_experts), ("shared_experts", c.shared_experts)];
        at_least_one(cfg, &sizes)?;
        no_lhuc(cfg, &c.neural()).map(|()| c)
    }
}

struct Ple {
    fields: Fields,
    layers: Vec<(Experts, Gates)>,
    heads: Heads,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let c = Config::of(cfg)?;
    let (neural, tasks) = (c.neural(), shape.tasks);
    let fields = neural.fields(cfg, shape, params)?;
    let (mut layers, mut width) = (Vec::with_capacity(c.layers), fields.width());
    for l in 0..c.layers {
        let (experts, gates) = layer(&c, params, (l, tasks), width)?;
        width = experts.outputs();
        layers.push((experts, gates));
    }
    let own: Vec<usize> = (0..tasks).collect();
    let heads = Heads::new(params, (tasks, &own), width, (&neural, &c.tower_hidden))?;
    Ok(Box::new(Ple { fields, layers, heads }))
}

/// Extraction layer `l`: the first task's experts, the second's, …, then the shared ones. Its input is one part for the
/// first layer, else a part per task and the shared one.
fn layer(
    c: &Config,
    params: &mut Params,
    (l, tasks): (usize, usize),
    width: usize,
) -> Result<(Experts, Gates), Error> {
    let part = |p: usize| if l == 0 { 0 } else { p };
    let parts = part(tasks) + 1;
    let owners = (0..tasks).flat_map(|t| std::iter::repeat_n(t, c.task_experts));
    let owners: Vec<usize> = owners.chain(std::iter::repeat_n(tasks, c.shared_experts)).collect();
    let sources: Vec<usize> = owners.iter().map(|o| part(*o)).collect();
    let experts = Experts::new(params, &format!("experts.{l}"), (parts, &sources), width, &c.neural().mlp)?;
    // The last layer has no shared gate.
    let readers: Vec<usize> = (0..tasks + usize::from(l + 1 < c.layers)).collect();
    let sees = |reader: usize| {
        let seen = |e: &usize| reader == tasks || owners[*e] == reader || owners[*e] == tasks;
        (0..owners.len()).filter(seen).collect::<Vec<usize>>()
    };
    let sources: Vec<usize> = readers.iter().map(|r| part(*r)).collect();
    let members = readers.iter().map(|r| sees(*r)).collect();
    let gates = Gates::new(params, &format!("gates.{l}"), (parts, &sources), width, members)?;
    Ok((experts, gates))
}

impl Ranker for Ple {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let mut h = self.fields.forward(pass, x).flatten(); // [N, F·D]
        for (experts, gates) in &self.layers {
            let made = experts.forward(pass, &h); // [N, E, H]
            h = gates.forward(pass, &h, &made).flatten(); // [N, (T + 1)·H], the last time [N, T·H]
        }
        self.heads.forward(pass, &h) // [N, T]
    }
}
