//! Any activation as a layer.

use super::{Dice, Prelu};
use crate::error::Result;
use crate::ops::Activation;
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// An [`Activation`], with the weights that it learns if it does.
#[derive(Debug, Clone)]
pub enum Activate {
    /// One that learns nothing.
    Plain(Activation),
    /// [`Activation::Prelu`].
    Prelu(Prelu),
    /// [`Activation::Dice`].
    Dice(Dice),
}

impl Activate {
    /// For `width` columns; weights, if it has any, begin with `name`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize, activation: Activation) -> Result<Self> {
        Ok(match activation {
            Activation::Prelu => Self::Prelu(Prelu::new(params, name, width)?),
            Activation::Dice => Self::Dice(Dice::new(params, name, width)?),
            plain => Self::Plain(plain),
        })
    }

    /// `[.., W]` → `[.., W]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        match self {
            Self::Plain(plain) => x.activate(*plain),
            Self::Prelu(prelu) => prelu.forward(pass, x),
            Self::Dice(dice) => dice.forward(pass, x),
        }
    }
}
