//! The pairs of a field-aware factorisation machine, as one operation.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Shape, Tensor, own};
use rayon::prelude::*;

impl Tensor {
    /// `[N, F, F·K]` → `[N, 1]`: Σ_{i<j} ⟨x[i, j], x[j, i]⟩, where x[i, j] is field i's vector of width K for field j:
    /// columns `j·K .. (j+1)·K` of its row (Juan et al. 2016, field-aware factorisation machines, eq. 4).
    ///
    /// # Panics
    /// If there are not three axes, or the last is no multiple of the middle one.
    pub fn ffm(&self) -> Tensor {
        let &[n, f, width] = self.shape() else { panic!("field-aware machine over {:?}", self.shape) };
        assert!(
            f > 0 && width % f == 0,
            "a field-aware machine needs a vector per pair, not {:?}",
            self.shape
        );
        let pairs = Pairs { f, k: width / f };
        let mut out = Buffer::any(n);
        let (x, step) = (self.data(), chunks::rows_per_chunk(f * width));
        out.par_chunks_mut(step).zip(x.par_chunks(step * f * width)).for_each(|(out, x)| {
            out.iter_mut().zip(x.chunks_exact(f * width)).for_each(|(o, x)| *o = pairs.sum(x));
        });
        let a = self.clone();
        self.output(Shape::new(&[n, 1]), own(out), a.tracked(), move |g, grads| {
            let (x, g) = (a.data(), &g[..]);
            grads.sum(a.node, x.len(), |into| {
                chunks::rows(into, f * width, |from, into| {
                    let x = x[from * f * width..].chunks_exact(f * width);
                    for ((into, x), g) in into.chunks_exact_mut(f * width).zip(x).zip(&g[from..]) {
                        pairs.add_slopes(*g, x, into);
                    }
                });
            });
        })
    }
}

/// The pairs of F fields within one row `[F, F·K]`.
#[derive(Clone, Copy)]
struct Pairs {
    f: usize,
    k: usize,
}

impl Pairs {
    /// Where field i's vector for field j stands.
    fn at(self, i: usize, j: usize) -> std::ops::Range<usize> {
        let from = (i * self.f + j) * self.k;
        from..from + self.k
    }

    fn sum(self, x: &[f32]) -> f32 {
        let mut sum = 0.0;
        for i in 0..self.f {
            for j in i + 1..self.f {
                sum += chunks::dot(&x[self.at(i, j)], &x[self.at(j, i)]);
            }
        }
        sum
    }

    /// The slope of a vector is its partner.
    fn add_slopes(self, g: f32, x: &[f32], into: &mut [f32]) {
        for i in 0..self.f {
            for j in (0..self.f).filter(|&j| j != i) {
                chunks::add_scaled(&mut into[self.at(i, j)], g, &x[self.at(j, i)]);
            }
        }
    }
}
