//! Products of pairs of vectors.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Shape, Tensor, own};

impl Tensor {
    /// `[.., W]` · `[.., W]` → `[.., 1]`: scalar product of each pair of rows.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn dot_rows(&self, other: &Tensor) -> Tensor {
        assert_eq!(
            self.shape, other.shape,
            "scalar products of rows of {:?} and {:?}",
            self.shape, other.shape
        );
        let (n, width) = (self.rows(), self.width());
        let mut out = Buffer::any(n);
        let pairs = self.data().chunks_exact(width).zip(other.data().chunks_exact(width));
        out.iter_mut().zip(pairs).for_each(|(o, (a, b))| *o = chunks::dot(a, b));
        let (a, b) = (self.clone(), other.clone());
        self.output(self.shape.with_width(1), own(out), a.tracked() || b.tracked(), move |g, grads| {
            for (to, by) in [(&a, &b), (&b, &a)] {
                let by = by.data();
                grads.sum(to.node, n * width, |into| {
                    chunks::rows(into, width, |from, into| {
                        let rows = into.chunks_exact_mut(width).zip(by[from * width..].chunks_exact(width));
                        rows.zip(&g[from..]).for_each(|((into, by), g)| chunks::add_scaled(into, *g, by));
                    });
                });
            }
        })
    }

    /// `[N, F, D]` → `[N, 1]`: Σ over pairs of fields of their scalar product, computed as
    /// ½ Σ_d ((Σ_f x)² − Σ_f x²) (Rendle 2010, factorisation machines, lemma 3.1).
    ///
    /// # Panics
    /// If there are not three axes.
    pub fn fm(&self) -> Tensor {
        let &[n, f, d] = self.shape() else { panic!("factorisation machine over {:?}", self.shape) };
        let mut sums = Buffer::zeros(n * d);
        let mut out = Buffer::any(n);
        let x = self.data();
        chunks::rows2((&mut sums, d), (&mut out, 1), |from, sums, out| {
            let x = x[from * f * d..].chunks_exact(f * d);
            for ((sum, out), x) in sums.chunks_exact_mut(d).zip(out).zip(x) {
                x.chunks_exact(d).for_each(|v| chunks::add(sum, v));
                *out = 0.5 * (chunks::dot(sum, sum) - chunks::dot(x, x));
            }
        });
        let (a, sums) = (self.clone(), own(sums));
        self.output(Shape::new(&[n, 1]), own(out), a.tracked(), move |g, grads| {
            let (x, sums) = (a.data(), &sums[..]);
            grads.sum(a.node, n * f * d, |into| {
                chunks::rows(into, f * d, |from, into| {
                    for (i, into) in into.chunks_exact_mut(f * d).enumerate() {
                        let (at, g) = (from + i, g[from + i]);
                        let sum = &sums[at * d..][..d];
                        for (into, x) in into.chunks_exact_mut(d).zip(x[at * f * d..].chunks_exact(d)) {
                            into.iter_mut().zip(sum).zip(x).for_each(|((o, s), x)| *o += g * (s - x));
                        }
                    }
                });
            });
        })
    }
}
