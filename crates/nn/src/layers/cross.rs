//! The cross network of DCN V2.

use crate::error::Result;
use crate::init::Init;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

/// x_{l+1} = x_0 ⊙ (x_l W_lᵀ + b_l) + x_l with full matrices (Wang et al. 2021, eq. 1): after l layers, all
/// interactions of the columns up to order l + 1.
#[derive(Debug, Clone)]
pub struct CrossNet {
    layers: Vec<(ParamId, ParamId)>,
}

impl CrossNet {
    /// `layers` layers over `width` columns: `name.0.weight` `[width, width]`, `name.0.bias` `[width]`, ..
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize, layers: usize) -> Result<Self> {
        let bound = 1.0 / (width as f32).sqrt();
        let layer = |l| {
            let weight =
                params.dense(&format!("{name}.{l}.weight"), &[width, width], Init::KaimingUniform)?;
            Ok((weight, params.dense(&format!("{name}.{l}.bias"), &[width], Init::Uniform(bound))?))
        };
        Ok(Self { layers: (0..layers).map(layer).collect::<Result<_>>()? })
    }

    /// `[N, W]` → `[N, W]`.
    pub fn forward(&self, pass: &Pass, x0: &Tensor) -> Tensor {
        let cross = |x: Tensor, (w, b): &(ParamId, ParamId)| x.cross(x0, &pass.param(*w), &pass.param(*b));
        self.layers.iter().fold(x0.clone(), cross)
    }

    /// What a linear head makes of the network: as `forward` followed by `[N, W]` · `[T, W]`ᵀ → `[N, T]`. In inference where some columns
    /// belong to requests with many candidates each; `None` elsewhere. It spares the last layer what those columns of it cost.
    pub fn forward_by_head(&self, pass: &Pass, x0: &Tensor, head: &Tensor) -> Option<Tensor> {
        let ((weight, bias), before) = self.layers.split_last().filter(|_| x0.pays_by_head(head))?;
        let cross = |x: Tensor, (w, b): &(ParamId, ParamId)| x.cross(x0, &pass.param(*w), &pass.param(*b));
        let x = before.iter().fold(x0.clone(), cross);
        Some(x.cross_by_head(x0, (&pass.param(*weight), &pass.param(*bias)), head))
    }
}
