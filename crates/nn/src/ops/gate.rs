//! Activations with a learned slope per channel.

use crate::buffer::Buffer;
use crate::chunks;
use crate::ops::sigmoid;
use crate::tensor::{Tensor, own};

impl Tensor {
    /// `[.., W]`, α `[W]` → `[.., W]`: x, or α x where x is not above zero (He et al. 2015).
    ///
    /// # Panics
    /// If there is not one α per column.
    pub fn prelu(&self, alpha: &Tensor) -> Tensor {
        let width = self.width();
        assert_eq!(alpha.len(), width, "slopes {:?} for {:?}", alpha.shape, self.shape);
        let (x, a) = (self.clone(), alpha.clone());
        let mut out = Buffer::copy_of(x.data());
        lean(&mut out, x.data(), a.data());
        self.output(self.shape, own(out), x.tracked() || a.tracked(), move |mut g, grads| {
            let values = x.data();
            grads.sum(a.node, width, |ga| {
                chunks::fold(&g, width, ga, |from, g, part| {
                    for (g, x) in g.chunks_exact(width).zip(values[from * width..].chunks_exact(width)) {
                        part.iter_mut().zip(g).zip(x).for_each(|((p, g), x)| *p += g * x.min(0.0));
                    }
                });
            });
            lean(&mut g, values, a.data());
            grads.add(x.node, g);
        })
    }

    /// s `[.., W]`, x̂ `[.., W]`, α `[W]` → p s + (1 − p) α s with p = σ(x̂): the gate of Dice.
    pub(crate) fn dice(&self, standard: &Tensor, alpha: &Tensor) -> Tensor {
        let width = self.width();
        assert_eq!(alpha.len(), width, "slopes {:?} for {:?}", alpha.shape, self.shape);
        let (s, x, a) = (self.clone(), standard.clone(), alpha.clone());
        let mut out = Buffer::copy_of(s.data());
        let (xs, slopes) = (x.data(), a.data());
        chunks::rows(&mut out, width, |from, out| {
            for (out, x) in out.chunks_exact_mut(width).zip(xs[from * width..].chunks_exact(width)) {
                out.iter_mut().zip(x).zip(slopes).for_each(|((o, x), a)| *o *= a + sigmoid(*x) * (1.0 - a));
            }
        });
        let tracked = s.tracked() || x.tracked() || a.tracked();
        self.output(self.shape, own(out), tracked, move |mut g, grads| {
            grads.sum(a.node, width, |ga| dice_slopes(&g, s.data(), x.data(), ga));
            let mut gx = Buffer::any(g.len());
            dice_back((&mut g, &mut gx), (s.data(), x.data(), a.data()));
            grads.add(x.node, gx);
            grads.add(s.node, g);
        })
    }
}

/// Multiplies `v` by α where x is not above zero.
fn lean(v: &mut [f32], x: &[f32], alpha: &[f32]) {
    let width = alpha.len();
    chunks::rows(v, width, |from, v| {
        for (v, x) in v.chunks_exact_mut(width).zip(x[from * width..].chunks_exact(width)) {
            v.iter_mut().zip(x).zip(alpha).for_each(|((v, x), a)| *v *= if *x > 0.0 { 1.0 } else { *a });
        }
    });
}

/// Adds ∂/∂α = Σ g s (1 − p).
fn dice_slopes(g: &[f32], s: &[f32], x: &[f32], into: &mut [f32]) {
    let width = into.len();
    chunks::fold(g, width, into, |from, g, part| {
        let at = from * width;
        let rows = s[at..].chunks_exact(width).zip(x[at..].chunks_exact(width));
        for (g, (s, x)) in g.chunks_exact(width).zip(rows) {
            for j in 0..width {
                part[j] += g[j] * s[j] * sigmoid(-x[j]);
            }
        }
    });
}

/// ∂/∂x̂ = g s (1 − α) p (1 − p) into `gx`, and ∂/∂s (x̂ held) = g (α + p (1 − α)) into `g`.
fn dice_back((g, gx): (&mut [f32], &mut [f32]), (s, x, alpha): (&[f32], &[f32], &[f32])) {
    let width = alpha.len();
    chunks::rows2((g, width), (gx, width), |from, g, gx| {
        let at = from * width;
        let inputs = s[at..].chunks_exact(width).zip(x[at..].chunks_exact(width));
        let outputs = g.chunks_exact_mut(width).zip(gx.chunks_exact_mut(width));
        for ((g, gx), (s, x)) in outputs.zip(inputs) {
            for j in 0..width {
                let p = sigmoid(x[j]);
                gx[j] = g[j] * s[j] * (1.0 - alpha[j]) * p * (1.0 - p);
                g[j] *= alpha[j] + p * (1.0 - alpha[j]);
            }
        }
    });
}
