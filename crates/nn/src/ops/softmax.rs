//! Softmax over rows.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Tensor, own};

/// Replaces a row by its softmax; returns log Σ e^x. A row of −∞ only becomes zeros, with −∞.
pub(crate) fn softmax_row(row: &mut [f32]) -> f32 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        row.fill(0.0);
        return most;
    }
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - most).exp();
        sum += *v;
    }
    row.iter_mut().for_each(|v| *v /= sum);
    most + sum.ln()
}

impl Tensor {
    /// `[.., W]` → `[.., W]`: e^x / Σ e^x over each row.
    pub fn softmax(&self) -> Tensor {
        let width = self.width();
        let mut out = Buffer::copy_of(self.data());
        chunks::rows(&mut out, width, |_, rows| {
            rows.chunks_exact_mut(width).for_each(|row| {
                softmax_row(row);
            });
        });
        let (out, node) = (own(out), self.node);
        let kept = out.clone();
        self.output(self.shape, out, node.is_some(), move |mut g, grads| {
            let y = &kept[..];
            chunks::rows(&mut g, width, |from, g| {
                for (g, y) in g.chunks_exact_mut(width).zip(y[from * width..].chunks_exact(width)) {
                    let mean = chunks::dot(g, y);
                    g.iter_mut().zip(y).for_each(|(g, y)| *g = y * (*g - mean));
                }
            });
            grads.add(node, g);
        })
    }
}
