//! Towers side by side, and gates that mix them.

use super::{Activate, BatchNorm, MlpConfig};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::ops::experts::Wiring;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;
use std::sync::Arc;

/// E linear layers of the same sizes, each with an input of its own or all with the same: y_e = x_{source of e} W_eᵀ + b_e.
#[derive(Debug, Clone)]
pub struct LinearEach {
    weight: ParamId,
    bias: ParamId,
    parts: usize,
    sources: Arc<[usize]>,
    outputs: usize,
}

impl LinearEach {
    /// Weights `name.weight` `[E, outputs, inputs]` and `name.bias` `[E · outputs]`, started as `init` says for one layer
    /// (with [`Init::KaimingUniform`] the biases as PyTorch's `Linear`, zeros otherwise). Layer e reads the columns of part
    /// `sources[e]` of `parts` equal parts of the input.
    ///
    /// # Errors
    /// No layer, a source that is not there, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (parts, sources): (usize, &[usize]),
        (inputs, outputs): (usize, usize),
        init: Init,
    ) -> Result<Self> {
        let count = sources.len();
        if count == 0 || sources.iter().any(|s| *s >= parts) {
            return Err(Error::Model(format!("`{name}` has {count} layers over {parts} parts of its input")));
        }
        let (weights, biases) = starts(init, inputs, outputs);
        Ok(Self {
            weight: params.dense(&format!("{name}.weight"), &[count, outputs, inputs], weights)?,
            bias: params.dense(&format!("{name}.bias"), &[count * outputs], biases)?,
            parts,
            sources: sources.into(),
            outputs,
        })
    }

    /// O: columns of one layer's output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[N, P·I]` → `[N, E·O]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let wiring = Wiring { parts: self.parts, sources: self.sources.clone() };
        x.linear_each(&pass.param(self.weight), &pass.param(self.bias), &wiring)
    }
}

/// How a layer of these sizes starts, written without the number of layers, which the shape would count as outputs.
fn starts(init: Init, inputs: usize, outputs: usize) -> (Init, Init) {
    let (i, o) = (inputs.max(1) as f32, outputs.max(1) as f32);
    match init {
        Init::KaimingUniform => (Init::Uniform(1.0 / i.sqrt()), Init::Uniform(1.0 / i.sqrt())),
        Init::KaimingNormal => (Init::Normal((2.0 / i).sqrt()), Init::Zeros),
        Init::XavierUniform => (Init::Uniform((6.0 / (i + o)).sqrt()), Init::Zeros),
        Init::XavierNormal => (Init::Normal((2.0 / (i + o)).sqrt()), Init::Zeros),
        other => (other, Init::Zeros),
    }
}

/// E multilayer perceptrons of the same sizes: the experts of a mixture, or the towers of several tasks. The layers of one
/// depth are one operation, and one product where all read the same input.
#[derive(Debug, Clone)]
pub struct Experts {
    layers: Vec<(LinearEach, Option<BatchNorm>, Activate)>,
    dropout: f32,
    count: usize,
    outputs: usize,
    /// For towers without a layer: the part that each hands on.
    sources: Vec<usize>,
    parts: usize,
}

impl Experts {
    /// Layers `name.0`, `name.1`, … as [`LinearEach`]; expert e reads part `sources[e]` of `parts` equal parts, of `inputs`
    /// columns each. Without a hidden layer an expert hands its input on.
    ///
    /// # Errors
    /// A dropout outside [0, 1), no expert, a source that is not there, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (parts, sources): (usize, &[usize]),
        inputs: usize,
        config: &MlpConfig,
    ) -> Result<Self> {
        if !(0.0..1.0).contains(&config.dropout) {
            let dropout = config.dropout;
            return Err(Error::Model(format!(
                "dropout of `{name}` is {dropout}, expected 0 up to but below 1"
            )));
        }
        let count = sources.len();
        if count == 0 || sources.iter().any(|s| *s >= parts) {
            return Err(Error::Model(format!(
                "`{name}` has {count} experts over {parts} parts of its input"
            )));
        }
        let own: Vec<usize> = (0..count).collect();
        let mut layers = Vec::with_capacity(config.hidden.len());
        let mut width = inputs;
        for (l, &next) in config.hidden.iter().enumerate() {
            let (name, wires) =
                (format!("{name}.{l}"), if l == 0 { (parts, sources) } else { (count, &own[..]) });
            let linear = LinearEach::new(params, &name, wires, (width, next), config.weight_init)?;
            let norm = || BatchNorm::new(params, &format!("{name}.norm"), count * next);
            let norm = config.batch_norm.then(norm).transpose()?;
            layers.push((linear, norm, Activate::new(params, &name, count * next, config.activation)?));
            width = next;
        }
        Ok(Self { layers, dropout: config.dropout, count, outputs: width, sources: sources.to_vec(), parts })
    }

    /// E.
    pub fn count(&self) -> usize {
        self.count
    }

    /// O: columns of one expert's output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[N, P·I]` → `[N, E, O]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let mut h = x.clone();
        for (linear, norm, activate) in &self.layers {
            h = linear.forward(pass, &h);
            if let Some(norm) = norm {
                h = norm.forward(pass, &h);
            }
            h = activate.forward(pass, &h).dropout(pass, self.dropout);
        }
        if self.layers.is_empty() {
            return h.reshape(&[h.rows(), self.parts, self.outputs]).pick_middle(&self.sources);
        }
        h.reshape(&[h.rows(), self.count, self.outputs])
    }
}

/// Gates over experts: mixture t is Σ_e softmax_e(W_t x_t) h_e over the experts that it may see (Jacobs et al. 1991; a gate
/// per task: Ma et al., KDD 2018).
#[derive(Debug, Clone)]
pub struct Gates {
    /// One per run of mixtures that read the same part and see as many experts.
    runs: Vec<Run>,
    parts: usize,
    members: Arc<[Vec<usize>]>,
}

/// Mixtures that share one product: as many experts each.
#[derive(Debug, Clone)]
struct Run {
    logits: LinearEach,
    gates: usize,
    members: usize,
}

impl Gates {
    /// Gate t reads part `sources[t]` of `parts` equal parts of its input, of `inputs` columns each, and sees the experts
    /// `members[t]`. Weights `name.0.weight` `[gates, members, inputs]`, …: one for each run of gates that see equally many.
    ///
    /// # Errors
    /// A gate without experts, or as [`LinearEach::new`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (parts, sources): (usize, &[usize]),
        inputs: usize,
        members: Vec<Vec<usize>>,
    ) -> Result<Self> {
        if sources.len() != members.len() || members.iter().any(Vec::is_empty) {
            return Err(Error::Model(format!("a gate of `{name}` has no expert to choose from")));
        }
        let mut runs = Vec::new();
        let mut first = 0;
        for alike in members.chunk_by(|a, b| a.len() == b.len()) {
            let (gates, seen) = (alike.len(), alike[0].len());
            let (name, wires) = (format!("{name}.{}", runs.len()), (parts, &sources[first..first + gates]));
            let logits = LinearEach::new(params, &name, wires, (inputs, seen), Init::KaimingUniform)?;
            runs.push(Run { logits, gates, members: seen });
            first += gates;
        }
        Ok(Self { runs, parts, members: members.into() })
    }

    /// Weights `[N, K]`, K = Σ_t experts that gate t sees; those of one gate sum to 1. `x` is `[N, P·I]`.
    pub fn weights(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let weights = self.runs.iter().map(|run| {
            let logits = run.logits.forward(pass, x); // [N, gates · members]
            logits.reshape(&[x.rows(), run.gates, run.members]).softmax().flatten()
        });
        Tensor::join(weights)
    }

    /// What each gate mixes of the experts `h` `[N, E, D]` for its input `x` `[N, P·I]` → `[N, T, D]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor, h: &Tensor) -> Tensor {
        h.mix(&self.weights(pass, x), &self.members)
    }

    /// Parts of the input.
    pub fn parts(&self) -> usize {
        self.parts
    }
}
