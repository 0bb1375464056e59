//! Normalisation over each row.

use crate::error::Result;
use crate::init::Init;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

/// gain ⊙ (x − mean) / √(var + 1e-5) + bias over each row (Ba et al. 2016).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    gain: ParamId,
    bias: ParamId,
}

impl LayerNorm {
    /// Weights `name.gain` and `name.bias`, both `[width]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize) -> Result<Self> {
        Ok(Self {
            gain: params.dense(&format!("{name}.gain"), &[width], Init::Ones)?,
            bias: params.dense(&format!("{name}.bias"), &[width], Init::Zeros)?,
        })
    }

    /// `[.., W]` → `[.., W]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.layer_norm(&pass.param(self.gain), &pass.param(self.bias), 1e-5)
    }
}
