//! Layer normalisation with gain and bias, in one sweep there and one back.

use crate::buffer::Buffer;
use crate::chunks;
use crate::kernels::sum;
use crate::tensor::{Tensor, own};

impl Tensor {
    /// `[.., W]` → gain ⊙ (x − mean) / √(var + eps) + bias over each row, gain and bias `[W]` (Ba et al. 2016).
    ///
    /// # Panics
    /// If gain or bias is not as wide as a row.
    pub fn layer_norm(&self, gain: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
        let width = self.width();
        assert!(gain.len() == width && bias.len() == width, "norm of {:?} by {:?}", self.shape, gain.shape);
        let (mut normed, mut scales) = (Buffer::copy_of(self.data()), Buffer::any(self.rows()));
        chunks::rows2((&mut normed, width), (&mut scales, 1), |_, normed, scales| {
            for (row, scale) in normed.chunks_exact_mut(width).zip(scales) {
                let mean = sum(row) / width as f32;
                row.iter_mut().for_each(|v| *v -= mean);
                *scale = 1.0 / (chunks::dot(row, row) / width as f32 + eps).sqrt();
                row.iter_mut().for_each(|v| *v *= *scale);
            }
        });
        let mut out = Buffer::any(self.len());
        let (g, b) = (gain.data(), bias.data());
        chunks::rows(&mut out, width, |from, out| {
            for (out, x) in out.chunks_exact_mut(width).zip(normed[from * width..].chunks_exact(width)) {
                for j in 0..width {
                    out[j] = x[j] * g[j] + b[j];
                }
            }
        });
        let (x, gain, bias) = (self.node, gain.clone(), bias.node);
        let tracked = x.is_some() || gain.tracked() || bias.is_some();
        self.output(self.shape, own(out), tracked, move |mut g, grads| {
            let mut sums = vec![0.0; 2 * width];
            let weights = gain.data();
            chunks::update_fold(&mut g, width, &mut sums, |from, g, sums| {
                let rows = g.chunks_exact_mut(width).zip(normed[from * width..].chunks_exact(width));
                for ((g, x), scale) in rows.zip(&scales[from..]) {
                    let (of_gain, of_bias) = sums.split_at_mut(width);
                    for j in 0..width {
                        of_gain[j] += g[j] * x[j];
                        of_bias[j] += g[j];
                        g[j] *= weights[j];
                    }
                    let (mean, along) = (sum(g) / width as f32, chunks::dot(g, x) / width as f32);
                    g.iter_mut().zip(x).for_each(|(g, x)| *g = scale * (*g - mean - along * x));
                }
            });
            let (of_gain, of_bias) = sums.split_at(width);
            grads.sum(gain.node, width, |sum| chunks::add(sum, of_gain));
            grads.sum(bias, width, |sum| chunks::add(sum, of_bias));
            grads.add(x, g);
        })
    }
}
