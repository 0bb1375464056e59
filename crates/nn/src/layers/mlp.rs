//! A tower of fully connected layers.

use super::{Activate, BatchNorm, Linear};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::ops::Activation;
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// Sizes and options of an [`Mlp`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Width of each layer.
    pub hidden: Vec<usize>,
    /// Between layers, after normalising.
    pub activation: Activation,
    /// Probability of dropping an activation, in [0, 1).
    pub dropout: f32,
    /// Whether each layer's sums are normalised over the batch.
    pub batch_norm: bool,
    /// How weight matrices start; biases start as PyTorch's do with [`Init::KaimingUniform`], at zero otherwise.
    pub weight_init: Init,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            hidden: vec![400, 400, 400],
            activation: Activation::Relu,
            dropout: 0.0,
            batch_norm: false,
            weight_init: Init::KaimingUniform,
        }
    }
}

/// Per layer: x Wᵀ + b, batch normalisation if asked for, activation, dropout.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<(Linear, Option<BatchNorm>, Activate)>,
    dropout: f32,
    outputs: usize,
}

impl Mlp {
    /// Layers `name.0`, `name.1`, .. over `inputs` columns.
    ///
    /// # Errors
    /// A dropout outside [0, 1), or as [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, inputs: usize, config: &MlpConfig) -> Result<Self> {
        if !(0.0..1.0).contains(&config.dropout) {
            return Err(Error::Model(format!(
                "dropout of `{name}` is {}, expected 0 up to but below 1",
                config.dropout
            )));
        }
        let mut layers = Vec::with_capacity(config.hidden.len());
        let mut width = inputs;
        for (i, &next) in config.hidden.iter().enumerate() {
            let name = format!("{name}.{i}");
            let linear = match config.weight_init {
                Init::KaimingUniform => Linear::new(params, &name, width, next)?,
                init => Linear::with_init(params, &name, (width, next), init)?,
            };
            let norm = config
                .batch_norm
                .then(|| BatchNorm::new(params, &format!("{name}.norm"), next))
                .transpose()?;
            let activate = Activate::new(params, &name, next, config.activation)?;
            layers.push((linear, norm, activate));
            width = next;
        }
        Ok(Self { layers, dropout: config.dropout, outputs: width })
    }

    /// Width of the last layer (of the input, if there is no layer).
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Width of each layer.
    pub fn widths(&self) -> Vec<usize> {
        self.layers.iter().map(|(linear, ..)| linear.outputs()).collect()
    }

    /// `[N, inputs]` → `[N, outputs]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        self.forward_gated(pass, x, &[])
    }

    /// As [`Mlp::forward`], each layer's activations multiplied by its gate, of the layer's shape; no gates, or one per
    /// layer.
    pub fn forward_gated(&self, pass: &Pass, x: &Tensor, gates: &[Tensor]) -> Tensor {
        let mut x = x.clone();
        for (l, (linear, norm, activate)) in self.layers.iter().enumerate() {
            let cut = matches!(activate, Activate::Plain(Activation::Relu)) && gates.get(l).is_none();
            if cut {
                x = match norm {
                    None => linear.forward_relu_dropout(pass, &x, self.dropout),
                    Some(norm) => norm.forward_relu_dropout(pass, &linear.forward(pass, &x), self.dropout),
                };
                continue;
            }
            x = match (norm, activate) {
                (None, activate) => activate.forward(pass, &linear.forward(pass, &x)),
                (Some(norm), activate) => {
                    activate.forward(pass, &norm.forward(pass, &linear.forward(pass, &x)))
                }
            };
            x = match gates.get(l) {
                Some(gate) => x.mul(gate).dropout(pass, self.dropout),
                None => x.dropout(pass, self.dropout),
            };
        }
        x
    }
}
