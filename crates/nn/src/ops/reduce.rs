//! Sums and means.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Shape, Tensor, own};

impl Tensor {
    /// Sum of all elements, `[1]`.
    pub fn sum(&self) -> Tensor {
        self.total_times(1.0)
    }

    /// Mean of all elements, `[1]`; 0 if there are none.
    pub fn mean(&self) -> Tensor {
        self.total_times(1.0 / self.len().max(1) as f64)
    }

    fn total_times(&self, factor: f64) -> Tensor {
        let total = (chunks::total(self.data()) * factor) as f32;
        let (node, len) = (self.node, self.len());
        self.output(Shape::new(&[1]), own(vec![total].into()), node.is_some(), move |g, grads| {
            let v = g[0] * factor as f32;
            grads.sum(node, len, |a| chunks::rows(a, 1, |_, a| a.iter_mut().for_each(|a| *a += v)));
        })
    }

    /// `[.., W]` → `[.., 1]`: sum of each row.
    pub fn sum_rows(&self) -> Tensor {
        let width = self.width();
        let mut out = Buffer::any(self.rows());
        for (o, row) in out.iter_mut().zip(self.data().chunks_exact(width.max(1))) {
            *o = row.iter().sum();
        }
        let (node, len) = (self.node, self.len());
        self.output(self.shape.with_width(1), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, len, |a| {
                chunks::rows(a, width, |from, a| {
                    for (a, g) in a.chunks_exact_mut(width).zip(&g[from..]) {
                        a.iter_mut().for_each(|a| *a += g);
                    }
                });
            });
        })
    }

    /// `[N, F, D]` → `[N, D]`: sum over the middle axis.
    ///
    /// # Panics
    /// If there are not three axes.
    pub fn sum_middle(&self) -> Tensor {
        let &[n, f, d] = self.shape() else {
            panic!("sum over the middle axis of a tensor of shape {:?}", self.shape)
        };
        let mut out = Buffer::zeros(n * d);
        let a = self.data();
        chunks::rows(&mut out, d, |from, out| {
            for (out, a) in out.chunks_exact_mut(d).zip(a[from * f * d..].chunks_exact(f * d)) {
                a.chunks_exact(d).for_each(|a| chunks::add(out, a));
            }
        });
        let node = self.node;
        self.output(Shape::new(&[n, d]), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, n * f * d, |a| {
                chunks::rows(a, f * d, |from, a| {
                    for (a, g) in a.chunks_exact_mut(f * d).zip(g[from * d..].chunks_exact(d)) {
                        a.chunks_exact_mut(d).for_each(|a| chunks::add(a, g));
                    }
                });
            });
        })
    }
}
