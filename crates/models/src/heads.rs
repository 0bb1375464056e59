//! What rankers of many tasks share: the options of their towers, and a tower with an output per task.

use millstream_nn::{Experts, LinearEach, MlpConfig, Params, Pass, Tensor};

use crate::neural::Neural;
use crate::{Error, ModelConfig};

/// Refuses a gate on the layers of a model that has experts instead of a tower.
///
/// # Errors
/// `lhuc` is set.
pub(crate) fn no_lhuc(cfg: &ModelConfig, neural: &Neural) -> Result<(), Error> {
    match neural.lhuc {
        None => Ok(()),
        Some(_) => Err(Error::Config(format!(
            "model `{}`: lhuc scales the layers of one tower, and this model has experts; take it out, or take \
             `shared_bottom`",
            cfg.name
        ))),
    }
}

/// Refuses a number of experts or layers that is zero.
///
/// # Errors
/// Names the option.
pub(crate) fn at_least_one(cfg: &ModelConfig, options: &[(&str, usize)]) -> Result<(), Error> {
    match options.iter().find(|(_, n)| *n == 0) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Config(format!("model `{}`: {name} must be at least 1", cfg.name))),
    }
}

/// A tower for each of T tasks and its one output; the layers of one depth are one operation.
pub(crate) struct Heads {
    towers: Experts,
    outputs: LinearEach,
}

impl Heads {
    /// Layers `towers.0`, … of widths `hidden`, which a tower has for itself, and `heads`; task t reads part `sources[t]`
    /// of `parts` equal parts of the input, of `inputs` columns each.
    ///
    /// # Errors
    /// As [`Experts::new`].
    pub fn new(
        params: &mut Params,
        (parts, sources): (usize, &[usize]),
        inputs: usize,
        (neural, hidden): (&Neural, &[usize]),
    ) -> Result<Self, Error> {
        let config = MlpConfig { hidden: hidden.to_vec(), ..neural.mlp.clone() };
        let towers = Experts::new(params, "towers", (parts, sources), inputs, &config)?;
        let own: Vec<usize> = (0..sources.len()).collect();
        let wires = (sources.len(), &own[..]);
        let outputs = LinearEach::new(params, "heads", wires, (towers.outputs(), 1), config.weight_init)?;
        Ok(Self { towers, outputs })
    }

    /// `[N, parts, inputs]`, or `[N, inputs]` for one part → logits `[N, T]`.
    pub fn forward(&self, pass: &Pass, h: &Tensor) -> Tensor {
        self.outputs.forward(pass, &self.towers.forward(pass, &h.flatten()).flatten())
    }
}
