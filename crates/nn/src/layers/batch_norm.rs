//! Normalisation over the batch.

use crate::buffer::Buffer;
use crate::error::Result;
use crate::init::Init;
use crate::ops::norm::shift_and_scale;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

const EPS: f32 = 1e-5;
/// Weight of the newest batch in the running statistics (PyTorch's default).
const MOMENTUM: f32 = 0.1;

/// gain ⊙ (x − mean) / √(var + 1e-5) + bias over each column (Ioffe & Szegedy 2015): the batch's statistics in
/// training, running ones in inference. The running ones are put in place by the optimiser's step.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    gain: ParamId,
    bias: ParamId,
    mean: ParamId,
    variance: ParamId,
}

impl BatchNorm {
    /// Weights `name.gain`, `name.bias` and statistics `name.mean`, `name.variance`, all `[width]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize) -> Result<Self> {
        Ok(Self {
            gain: params.dense(&format!("{name}.gain"), &[width], Init::Ones)?,
            bias: params.dense(&format!("{name}.bias"), &[width], Init::Zeros)?,
            mean: params.statistic(&format!("{name}.mean"), &[width], Init::Zeros)?,
            variance: params.statistic(&format!("{name}.variance"), &[width], Init::Ones)?,
        })
    }

    /// `[N, W]` → `[N, W]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let y = if pass.is_training() { self.by_batch(pass, x) } else { self.by_running(pass, x) };
        y.mul_row(&pass.param(self.gain)).add_row(&pass.param(self.bias))
    }

    fn by_batch(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (y, mean, mut variance) = x.standardise_columns(EPS);
        let n = x.rows() as f32;
        // The running variance is the unbiased one, as in PyTorch.
        variance.iter_mut().for_each(|v| *v *= n / (n - 1.0).max(1.0));
        for (id, new) in [(self.mean, mean), (self.variance, variance)] {
            let old = pass.param(id);
            let blend = |(o, n): (&f32, f32)| (1.0 - MOMENTUM) * o + MOMENTUM * n;
            pass.note_statistic(id, old.data().iter().zip(new).map(blend).collect());
        }
        y
    }

    fn by_running(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (mean, variance) = (pass.param(self.mean), pass.param(self.variance));
        let scale: Vec<f32> = variance.data().iter().map(|v| 1.0 / (v + EPS).sqrt()).collect();
        let mut out = Buffer::copy_of(x.data());
        shift_and_scale(&mut out, mean.data(), &scale);
        pass.constant(x.shape(), out.into_vec())
    }
}
