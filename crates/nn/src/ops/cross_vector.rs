//! The layer of the first cross network, as one operation; and the product-and-sum that low-rank layers end with.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Tensor, own};

impl Tensor {
    /// x' = x0 (x · w) + b + x (Wang et al. 2017, DCN, eq. 3); `self` is x, `[N, W]` as x0; w and b are `[W]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn cross_vector(&self, x0: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let (n, d) = (self.rows(), self.width());
        assert_eq!(self.shape, x0.shape, "cross layer over x {:?} and x0 {:?}", self.shape, x0.shape);
        assert!(weight.len() == d && bias.len() == d, "weights of a cross layer over {d} columns");
        let (mut out, mut along) = (Buffer::copy_of(self.data()), Buffer::any(n));
        let (first, w, b) = (x0.data(), weight.data(), bias.data());
        chunks::rows2((&mut out, d), (&mut along, 1), |from, out, along| {
            let rows = out.chunks_exact_mut(d).zip(first[from * d..].chunks_exact(d));
            for ((x, x0), s) in rows.zip(along) {
                *s = chunks::dot(x, w);
                for ((x, x0), b) in x.iter_mut().zip(x0).zip(b) {
                    *x += x0 * *s + b;
                }
            }
        });
        let (x, x0, weight, bias) = (self.clone(), x0.clone(), weight.clone(), bias.node);
        let tracked = x.tracked() || x0.tracked() || weight.tracked() || bias.is_some();
        self.output(self.shape, own(out), tracked, move |mut g, grads| {
            grads.sum(bias, d, |gb| chunks::column_sums(&g, d, gb));
            let (first, old) = (x0.data(), x.data());
            // Slope of each row's scalar product.
            let mut slopes = Buffer::any(n);
            chunks::rows(&mut slopes, 1, |from, slopes| {
                let rows = g[from * d..].chunks_exact(d).zip(first[from * d..].chunks_exact(d));
                slopes.iter_mut().zip(rows).for_each(|(s, (g, x0))| *s = chunks::dot(g, x0));
            });
            grads.sum(weight.node, d, |gw| weighted_sum(old, &slopes, gw));
            grads.sum(x0.node, n * d, |into| add_rows(into, &along, &g, d));
            let w = weight.data();
            chunks::rows(&mut g, d, |from, g| {
                g.chunks_exact_mut(d).zip(&slopes[from..]).for_each(|(g, s)| chunks::add_scaled(g, *s, w));
            });
            grads.add(x.node, g);
        })
    }

    /// a ⊙ b + c, same shapes; `self` is a.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn mul_add(&self, b: &Tensor, c: &Tensor) -> Tensor {
        assert!(
            self.shape == b.shape && self.shape == c.shape,
            "{:?} ⊙ {:?} + {:?}",
            self.shape,
            b.shape,
            c.shape
        );
        let mut out = Buffer::copy_of(c.data());
        add_product(&mut out, self.data(), b.data());
        let (a, b, c) = (self.clone(), b.clone(), c.node);
        self.output(self.shape, own(out), a.tracked() || b.tracked() || c.is_some(), move |g, grads| {
            grads.sum(a.node, g.len(), |into| add_product(into, &g, b.data()));
            grads.sum(b.node, g.len(), |into| add_product(into, &g, a.data()));
            grads.add(c, g);
        })
    }
}

/// `out += a ⊙ b`.
fn add_product(out: &mut [f32], a: &[f32], b: &[f32]) {
    chunks::rows(out, 1, |from, out| {
        for ((o, a), b) in out.iter_mut().zip(&a[from..]).zip(&b[from..]) {
            *o += a * b;
        }
    });
}

/// `out += Σ rows of a, each times its own weight`.
fn weighted_sum(a: &[f32], weights: &[f32], out: &mut [f32]) {
    let width = out.len();
    chunks::fold(a, width, out, |from, rows, part| {
        rows.chunks_exact(width).zip(&weights[from..]).for_each(|(row, w)| chunks::add_scaled(part, *w, row));
    });
}

/// Adds rows, each times its own weight, to those of `into`.
fn add_rows(into: &mut [f32], weights: &[f32], rows: &[f32], width: usize) {
    chunks::rows(into, width, |from, into| {
        let pairs = into.chunks_exact_mut(width).zip(rows[from * width..].chunks_exact(width));
        pairs.zip(&weights[from..]).for_each(|((into, row), w)| chunks::add_scaled(into, *w, row));
    });
}
