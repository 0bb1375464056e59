//! The first-order part of factorisation machines and wide models.

use super::{Embed, EmbedSpec};
use crate::error::Result;
use crate::init::{Init, RowInit};
use crate::inputs::Inputs;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;
use millstream_schema::Field;

/// Σ over fields of one weight per key (tables of width 1, starting at zero) and of w · x for numbers, plus a bias.
#[derive(Debug, Clone)]
pub struct LinearTerms {
    embed: Embed,
    bias: ParamId,
}

impl LinearTerms {
    /// Over the chosen fields (places in `fields`): tables `space/suffix`, weight `suffix.bias`.
    ///
    /// # Errors
    /// As [`Embed::new`].
    pub fn new(params: &mut Params, fields: &[Field], chosen: &[usize], suffix: &str) -> Result<Self> {
        let spec = EmbedSpec { dim: 1, suffix: suffix.into(), init: RowInit::Zero };
        Ok(Self {
            embed: Embed::new(params, fields, chosen, &spec)?,
            bias: params.dense(&format!("{suffix}.bias"), &[1], Init::Zeros)?,
        })
    }

    /// `[N, 1]`.
    pub fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.embed.forward(pass, x).flatten().sum_rows().add_row(&pass.param(self.bias))
    }
}
