//! Distances between pairs of vectors.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Tensor, own};

/// Added to each difference, as PyTorch's `pairwise_distance` does: no distance is zero, and slopes exist everywhere.
const APART: f32 = 1e-6;

impl Tensor {
    /// `[.., W]`, `[.., W]` → `[.., 1]`: ‖a − b + 1e-6‖ of each pair of rows.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn distance_rows(&self, other: &Tensor) -> Tensor {
        assert_eq!(self.shape, other.shape, "distances of rows of {:?} and {:?}", self.shape, other.shape);
        let width = self.width();
        let mut d = Buffer::any(self.len());
        chunks::zip(&mut d, self.data(), other.data(), |a, b| a - b + APART);
        let mut lengths = Buffer::any(self.rows());
        chunks::rows2((&mut d, width), (&mut lengths, 1), |_, d, lengths| {
            for (d, length) in d.chunks_exact_mut(width).zip(lengths) {
                *length = chunks::dot(d, d).sqrt().max(f32::MIN_POSITIVE);
                d.iter_mut().for_each(|v| *v /= *length);
            }
        });
        let (a, b) = (self.node, other.node);
        let shape = self.shape.with_width(1);
        self.output(shape, own(lengths), a.is_some() || b.is_some(), move |g, grads| {
            // ∂‖d‖/∂a is d / ‖d‖, and the opposite for b.
            chunks::rows(&mut d, width, |from, d| {
                for (d, g) in d.chunks_exact_mut(width).zip(&g[from..]) {
                    d.iter_mut().for_each(|v| *v *= g);
                }
            });
            if b.is_some() {
                let mut minus = Buffer::any(d.len());
                chunks::map(&mut minus, &d, |v| -v);
                grads.add(b, minus);
            }
            grads.add(a, d);
        })
    }
}
