//! The first cross network.

use crate::error::Result;
use crate::init::Init;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

/// x_{l+1} = x_0 (x_l · w_l) + b_l + x_l with one vector a layer (Wang et al. 2017, DCN, eq. 3).
#[derive(Debug, Clone)]
pub struct VectorCross {
    layers: Vec<(ParamId, ParamId)>,
}

impl VectorCross {
    /// `layers` layers over `width` columns: `name.0.weight` and `name.0.bias`, both `[width]`, ..
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize, layers: usize) -> Result<Self> {
        let start = Init::Normal((2.0 / (width as f32 + 1.0)).sqrt());
        let layer = |l| {
            let weight = params.dense(&format!("{name}.{l}.weight"), &[width], start)?;
            Ok((weight, params.dense(&format!("{name}.{l}.bias"), &[width], Init::Zeros)?))
        };
        Ok(Self { layers: (0..layers).map(layer).collect::<Result<_>>()? })
    }

    /// `[N, W]` → `[N, W]`.
    pub fn forward(&self, pass: &Pass, x0: &Tensor) -> Tensor {
        let cross =
            |x: Tensor, (w, b): &(ParamId, ParamId)| x.cross_vector(x0, &pass.param(*w), &pass.param(*b));
        self.layers.iter().fold(x0.clone(), cross)
    }
}
