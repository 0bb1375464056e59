//! A fully connected layer.

use crate::error::Result;
use crate::init::Init;
use crate::ops::dropout::Dropout;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

/// y = x Wᵀ + b, W `[O, I]`; starts like PyTorch's `Linear` (uniform in ±1/√I, both).
#[derive(Debug, Clone)]
pub struct Linear {
    weight: ParamId,
    bias: Option<ParamId>,
    outputs: usize,
}

impl Linear {
    /// Weights `name.weight` `[outputs, inputs]` and `name.bias` `[outputs]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let mut layer = Self::without_bias(params, name, (inputs, outputs), Init::KaimingUniform)?;
        let bound = 1.0 / (inputs as f32).sqrt();
        layer.bias = Some(params.dense(&format!("{name}.bias"), &[outputs], Init::Uniform(bound))?);
        Ok(layer)
    }

    /// As [`Linear::new`] with another start of the weight, and a bias that starts at zero.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn with_init(params: &mut Params, name: &str, sizes: (usize, usize), init: Init) -> Result<Self> {
        let mut layer = Self::without_bias(params, name, sizes, init)?;
        layer.bias = Some(params.dense(&format!("{name}.bias"), &[sizes.1], Init::Zeros)?);
        Ok(layer)
    }

    /// y = x Wᵀ; `sizes` are (inputs, outputs).
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn without_bias(params: &mut Params, name: &str, sizes: (usize, usize), init: Init) -> Result<Self> {
        let (inputs, outputs) = sizes;
        let weight = params.dense(&format!("{name}.weight"), &[outputs, inputs], init)?;
        Ok(Self { weight, bias: None, outputs })
    }

    /// O.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// W `[O, I]`.
    pub(crate) fn weight(&self, pass: &Pass) -> Tensor {
        pass.param(self.weight)
    }

    /// `[.., I]` → `[.., O]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.linear(&pass.param(self.weight), self.bias.map(|b| pass.param(b)).as_ref())
    }

    /// Columns `from .. from + n` of W: `[O, n]`.
    ///
    /// # Panics
    /// If they are not there.
    pub fn columns(&self, pass: &Pass, from: usize, n: usize) -> Tensor {
        self.weight(pass).slice(from, n)
    }

    /// `[.., n]` → `[.., O]`: as `forward`, where `x` are the columns from `from` on and the others are zero.
    ///
    /// # Panics
    /// If there are not so many columns.
    pub fn forward_columns(&self, pass: &Pass, x: &Tensor, from: usize) -> Tensor {
        x.linear(&self.columns(pass, from, x.width()), self.bias.map(|b| pass.param(b)).as_ref())
    }

    /// `[.., I]` → `[.., O]`, cut below zero.
    pub fn forward_relu(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.linear_relu(&pass.param(self.weight), self.bias.map(|b| pass.param(b)).as_ref())
    }
    /// `[.., I]` → `[.., O]`, cut below zero, then dropped out with probability `p` in training.
    ///
    /// # Panics
    /// If `p` is not in [0, 1).
    pub fn forward_relu_dropout(&self, pass: &Pass, x: &Tensor, p: f32) -> Tensor {
        let bias = self.bias.map(|b| pass.param(b));
        x.linear_relu_dropout(&pass.param(self.weight), bias.as_ref(), Dropout::draw(pass, p))
    }
}
