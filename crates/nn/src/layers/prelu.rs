//! A rectifier with learned slopes.

use crate::error::Result;
use crate::init::Init;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

/// x, or α x where x is not above zero, α per channel, from 0.25 on (He et al. 2015, delving deep into rectifiers).
#[derive(Debug, Clone)]
pub struct Prelu {
    alpha: ParamId,
}

impl Prelu {
    /// Weight `name.alpha` `[width]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize) -> Result<Self> {
        Ok(Self { alpha: params.dense(&format!("{name}.alpha"), &[width], Init::Constant(0.25))? })
    }

    /// `[.., W]` → `[.., W]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.prelu(&pass.param(self.alpha))
    }
}
