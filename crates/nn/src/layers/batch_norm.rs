//! Normalisation over the batch.

use crate::buffer::Buffer;
use crate::chunks;
use crate::error::Result;
use crate::init::Init;
use crate::ops::dropout::Dropout;
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
    standardise: Standardise,
}

/// (x − mean) / √(var + eps) over each column, by batch or running statistics.
#[derive(Debug, Clone)]
pub(super) struct Standardise {
    mean: ParamId,
    variance: ParamId,
    eps: f32,
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
            standardise: Standardise::new(params, name, width, EPS)?,
        })
    }

    /// `[N, W]` → `[N, W]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let y = self.standardise.forward(pass, x);
        y.mul_row(&pass.param(self.gain)).add_row(&pass.param(self.bias))
    }

    /// As [`BatchNorm::forward`], then cut below zero and dropped out with probability `p` in training, in few walks over
    /// memory.
    ///
    /// # Panics
    /// If `p` is not in [0, 1).
    pub fn forward_relu_dropout(&self, pass: &Pass, x: &Tensor, p: f32) -> Tensor {
        let (gain, bias) = (pass.param(self.gain), pass.param(self.bias));
        if !pass.is_training() {
            return self.standardise.by_running_relu(pass, x, (gain.data(), bias.data()));
        }
        let (y, moments) = x.batch_norm_relu((&gain, &bias), self.standardise.eps, Dropout::draw(pass, p));
        self.standardise.note(pass, x.rows(), moments.mean, moments.variance);
        y
    }
}

impl Standardise {
    /// Statistics `name.mean`, `name.variance` `[width]`.
    pub(super) fn new(params: &mut Params, name: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            mean: params.statistic(&format!("{name}.mean"), &[width], Init::Zeros)?,
            variance: params.statistic(&format!("{name}.variance"), &[width], Init::Ones)?,
            eps,
        })
    }

    /// `[.., W]` → `[.., W]`.
    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        if pass.is_training() { self.by_batch(pass, x) } else { self.by_running(pass, x) }
    }

    fn by_batch(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (y, mean, variance) = x.standardise_columns(self.eps);
        self.note(pass, x.rows(), mean, variance);
        y
    }

    /// Blends a batch's statistics into the running ones.
    fn note(&self, pass: &Pass, rows: usize, mean: Vec<f32>, mut variance: Vec<f32>) {
        let n = rows as f32;
        // The running variance is the unbiased one, as in PyTorch.
        variance.iter_mut().for_each(|v| *v *= n / (n - 1.0).max(1.0));
        for (id, new) in [(self.mean, mean), (self.variance, variance)] {
            let old = pass.param(id);
            let blend = |(o, n): (&f32, f32)| (1.0 - MOMENTUM) * o + MOMENTUM * n;
            pass.note_statistic(id, old.data().iter().zip(new).map(blend).collect());
        }
    }

    fn by_running_relu(&self, pass: &Pass, x: &Tensor, (gain, bias): (&[f32], &[f32])) -> Tensor {
        let (mean, variance) = (pass.param(self.mean), pass.param(self.variance));
        let scale: Vec<f32> =
            variance.data().iter().zip(gain).map(|(v, g)| g / (v + self.eps).sqrt()).collect();
        let (width, mean, z) = (scale.len(), mean.data(), x.data());
        let mut out = Buffer::any(z.len());
        chunks::rows(&mut out, width, |from, out| {
            for (out, z) in out.chunks_exact_mut(width).zip(z[from * width..].chunks_exact(width)) {
                for j in 0..width {
                    out[j] = ((z[j] - mean[j]) * scale[j] + bias[j]).max(0.0);
                }
            }
        });
        pass.output(x.shape(), out, false, |_, _| ())
    }

    fn by_running(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (mean, variance) = (pass.param(self.mean), pass.param(self.variance));
        let scale: Vec<f32> = variance.data().iter().map(|v| 1.0 / (v + self.eps).sqrt()).collect();
        let mut out = Buffer::copy_of(x.data());
        shift_and_scale(&mut out, mean.data(), &scale);
        pass.constant(x.shape(), out.into_vec())
    }
}
