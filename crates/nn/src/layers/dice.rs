//! An activation that bends where the data is.

use super::batch_norm::Standardise;
use crate::error::Result;
use crate::init::Init;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

/// Added to the variance (Zhou et al. 2018, §5.3).
const EPS: f32 = 1e-8;

/// p s + (1 − p) α s with p = σ((s − mean) / √(var + 1e-8)) over each column, α per channel, from 0 on (Zhou et al. 2018,
/// deep interest network, eq. 4): batch statistics in training, running ones in inference, as in batch normalisation.
#[derive(Debug, Clone)]
pub struct Dice {
    alpha: ParamId,
    standardise: Standardise,
}

impl Dice {
    /// Weight `name.alpha` and statistics `name.mean`, `name.variance`, all `[width]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize) -> Result<Self> {
        Ok(Self {
            alpha: params.dense(&format!("{name}.alpha"), &[width], Init::Zeros)?,
            standardise: Standardise::new(params, name, width, EPS)?,
        })
    }

    /// `[.., W]` → `[.., W]`.
    pub fn forward(&self, pass: &Pass, s: &Tensor) -> Tensor {
        s.dice(&self.standardise.forward(pass, s), &pass.param(self.alpha))
    }
}
