//! Several linear layers side by side, mixtures of what they give, and the logit of two events together.

use crate::buffer::Buffer;
use crate::chunks;
use crate::product::{Mat, Onto, block_product, product};
use crate::tensor::{Shape, Tensor, own};
use std::sync::Arc;

/// Which part of an input meets which of several layers: layer e reads part `sources[e]` of `parts` equal ones.
#[derive(Clone)]
pub(crate) struct Wiring {
    pub(crate) parts: usize,
    pub(crate) sources: Arc<[usize]>,
}

impl Wiring {
    /// Columns I and O of one layer for an input of `width` columns and a weight `[E, O, I]`.
    fn sizes(&self, width: usize, weight: &Tensor) -> (usize, usize) {
        let &[e, o, i] = weight.shape() else {
            panic!("layers side by side have a weight [layers, out, in], not {:?}", weight.shape)
        };
        let fits = e == self.sources.len() && width == self.parts * i;
        assert!(fits, "{} parts, {width} columns in all, meet layers {:?}", self.parts, weight.shape);
        assert!(self.sources.iter().all(|s| *s < self.parts), "a layer reads a part that is not there");
        (i, o)
    }
}

impl Tensor {
    /// `[N, P·I]`, weight `[E, O, I]`, bias `[E·O]` → `[N, E·O]`: columns `e·O ..` are x_{source of e} W_eᵀ + b_e. Layers
    /// that all read the same single part are one product.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn linear_each(&self, weight: &Tensor, bias: &Tensor, wiring: &Wiring) -> Tensor {
        let (width, (i, o)) = (self.width(), wiring.sizes(self.width(), weight));
        let e = wiring.sources.len();
        if wiring.parts == 1 {
            return self.linear(&weight.reshape(&[e * o, i]), Some(bias));
        }
        assert_eq!(bias.len(), e * o, "bias of {e} layers of {o} outputs");
        let n = self.rows();
        let mut out = Buffer::any(n * e * o);
        let (x, w, b) = (self.data(), weight.data(), bias.data());
        chunks::rows(&mut out, e * o, |from, out| {
            let rows = out.len() / (e * o);
            for (l, &part) in wiring.sources.iter().enumerate() {
                let x = Mat::strided(&x[from * width + part * i..], rows, i, width);
                let w = Mat::new(&w[l * o * i..][..o * i], o, i).t();
                block_product(&mut out[l * o..], e * o, x, w, Onto::Write);
            }
            out.chunks_exact_mut(e * o).for_each(|row| chunks::add(row, b));
        });
        let (x, w, b, wiring) = (self.clone(), weight.clone(), bias.node, wiring.clone());
        let tracked = x.tracked() || w.tracked() || b.is_some();
        self.output(Shape::new(&[n, e * o]), own(out), tracked, move |g, grads| {
            grads.sum(b, e * o, |gb| chunks::column_sums(&g, e * o, gb));
            grads.write(w.node, w.len(), |gw, add| {
                for (l, &part) in wiring.sources.iter().enumerate() {
                    let g = Mat::strided(&g[l * o..], n, o, e * o);
                    let x = Mat::strided(&x.data()[part * i..], n, i, width);
                    product(&mut gw[l * o * i..][..o * i], g.t(), x, add.into());
                }
            });
            grads.sum(x.node, x.len(), |gx| each_back(gx, &g, (w.data(), &wiring), (i, o)));
        })
    }

    /// Mixtures of E vectors a row: `[N, E, D]`, weights `[N, K]` → `[N, T, D]`. Mixture t is the sum of the vectors
    /// `members[t]`, each times its weight; the columns of the weights are those of the first mixture's members, then the
    /// second's, and so on (K = Σ_t members of t).
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn mix(&self, weights: &Tensor, members: &Arc<[Vec<usize>]>) -> Tensor {
        let &[n, e, d] = self.shape() else { panic!("mixtures of vectors of shape {:?}", self.shape) };
        let (t, k) = (members.len(), members.iter().map(Vec::len).sum::<usize>());
        let fits = weights.rows() == n && weights.width() == k && members.iter().flatten().all(|m| *m < e);
        assert!(fits, "{t} mixtures of {:?} by weights {:?}", self.shape, weights.shape);
        let mut out = Buffer::zeros(n * t * d);
        let (h, w) = (self.data(), weights.data());
        chunks::rows(&mut out, t * d, |from, out| {
            for (r, out) in out.chunks_exact_mut(t * d).enumerate() {
                let (h, mut w) = (&h[(from + r) * e * d..][..e * d], w[(from + r) * k..][..k].iter());
                for (out, members) in out.chunks_exact_mut(d).zip(members.iter()) {
                    let pairs = members.iter().zip(&mut w);
                    pairs.for_each(|(m, w)| chunks::add_scaled(out, *w, &h[m * d..][..d]));
                }
            }
        });
        let (h, w, members) = (self.clone(), weights.clone(), members.clone());
        let tracked = h.tracked() || w.tracked();
        self.output(Shape::new(&[n, t, d]), own(out), tracked, move |g, grads| {
            grads.sum(w.node, n * k, |gw| {
                let (g, h) = (&g[..], h.data());
                chunks::rows(gw, k, |from, gw| {
                    for (r, gw) in gw.chunks_exact_mut(k).enumerate() {
                        let g = g[(from + r) * t * d..][..t * d].chunks_exact(d);
                        let h = &h[(from + r) * e * d..][..e * d];
                        let pairs =
                            g.zip(members.iter()).flat_map(|(g, all)| all.iter().map(move |m| (g, m)));
                        gw.iter_mut()
                            .zip(pairs)
                            .for_each(|(gw, (g, m))| *gw += chunks::dot(g, &h[m * d..][..d]));
                    }
                });
            });
            grads.sum(h.node, n * e * d, |gh| {
                let (g, w) = (&g[..], w.data());
                chunks::rows(gh, e * d, |from, gh| {
                    for (r, gh) in gh.chunks_exact_mut(e * d).enumerate() {
                        let g = g[(from + r) * t * d..][..t * d].chunks_exact(d);
                        let mut w = w[(from + r) * k..][..k].iter();
                        for (g, members) in g.zip(members.iter()) {
                            let pairs = members.iter().zip(&mut w);
                            pairs.for_each(|(m, w)| chunks::add_scaled(&mut gh[m * d..][..d], *w, g));
                        }
                    }
                });
            });
        })
    }

    /// The logit of two events together, where the second's logit is given the first: σ(z) = σ(a) σ(b), so
    /// z = −log(e^−a + e^−b + e^−(a+b)), without overflow. Same shapes.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn both(&self, other: &Tensor) -> Tensor {
        assert_eq!(self.shape, other.shape, "events of shapes {:?} and {:?}", self.shape, other.shape);
        let (a, b) = (self.clone(), other.clone());
        let mut out = Buffer::any(a.len());
        chunks::zip(&mut out, a.data(), b.data(), |a, b| both_parts(a, b).0);
        self.output(self.shape, own(out), a.tracked() || b.tracked(), move |g, grads| {
            for (to, first, second) in [(&a, &a, &b), (&b, &b, &a)].into_iter().filter(|t| t.0.tracked()) {
                let mut slopes = Buffer::any(g.len());
                chunks::zip(&mut slopes, first.data(), second.data(), |a, b| both_parts(a, b).1);
                chunks::update(&mut slopes, &g, |s, g| s * g);
                grads.add(to.node, slopes);
            }
        })
    }
}

/// The logit of both events, and its slope by the first's: the shares of e^−a and e^−(a+b) in the sum.
#[inline]
fn both_parts(a: f32, b: f32) -> (f32, f32) {
    let exponents = [-a, -b, -a - b];
    let most = exponents.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let [x, y, xy] = exponents.map(|v| (v - most).exp());
    let sum = x + y + xy;
    (-(most + sum.ln()), (x + xy) / sum)
}

/// Adds the gradient of the input of [`Tensor::linear_each`].
fn each_back(gx: &mut [f32], g: &[f32], (w, wiring): (&[f32], &Wiring), (i, o): (usize, usize)) {
    let (width, total) = (wiring.parts * i, wiring.sources.len() * o);
    chunks::rows(gx, width, |from, gx| {
        let rows = gx.len() / width;
        for (l, &part) in wiring.sources.iter().enumerate() {
            let g = Mat::strided(&g[from * total + l * o..], rows, o, total);
            let w = Mat::new(&w[l * o * i..][..o * i], o, i);
            block_product(&mut gx[part * i..], width, g, w, Onto::Add);
        }
    });
}
