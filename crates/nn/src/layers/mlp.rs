//! A tower of fully connected layers.

use super::{BatchNorm, Linear};
use crate::error::{Error, Result};
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
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: vec![400, 400, 400], activation: Activation::Relu, dropout: 0.0, batch_norm: false }
    }
}

/// Per layer: x Wᵀ + b, batch normalisation if asked for, activation, dropout.
#[derive(Debug, Clone)]
pub struct Mlp {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    activation: Activation,
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
            let linear = Linear::new(params, &format!("{name}.{i}"), width, next)?;
            let norm = config
                .batch_norm
                .then(|| BatchNorm::new(params, &format!("{name}.{i}.norm"), next))
                .transpose()?;
            layers.push((linear, norm));
            width = next;
        }
        Ok(Self { layers, activation: config.activation, dropout: config.dropout, outputs: width })
    }

    /// Width of the last layer (of the input, if there is no layer).
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[N, inputs]` → `[N, outputs]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let mut x = x.clone();
        for (linear, norm) in &self.layers {
            x = match norm {
                None if self.activation == Activation::Relu => linear.forward_relu(pass, &x),
                None => linear.forward(pass, &x).activate(self.activation),
                Some(norm) => norm.forward(pass, &linear.forward(pass, &x)).activate(self.activation),
            };
            x = x.dropout(pass, self.dropout);
        }
        x
    }
}
