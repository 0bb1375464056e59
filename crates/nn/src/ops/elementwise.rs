//! Sums, products and their broadcast forms.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Tensor, own};

fn same_shape(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.shape, b.shape, "{what} of tensors of shapes {:?} and {:?}", a.shape, b.shape);
}

impl Tensor {
    /// a + b, same shapes.
    pub fn add(&self, other: &Tensor) -> Tensor {
        same_shape(self, other, "sum");
        let mut out = Buffer::any(self.len());
        chunks::zip(&mut out, self.data(), other.data(), |a, b| a + b);
        let (a, b) = (self.node, other.node);
        self.output(self.shape, own(out), a.is_some() || b.is_some(), move |g, grads| {
            if a.is_some() && b.is_some() {
                grads.add(a, Buffer::copy_of(&g));
                grads.add(b, g);
            } else {
                grads.add(a.or(b), g);
            }
        })
    }

    /// a − b, same shapes.
    pub fn sub(&self, other: &Tensor) -> Tensor {
        same_shape(self, other, "difference");
        let mut out = Buffer::any(self.len());
        chunks::zip(&mut out, self.data(), other.data(), |a, b| a - b);
        let (a, b) = (self.node, other.node);
        self.output(self.shape, own(out), a.is_some() || b.is_some(), move |g, grads| {
            if b.is_some() {
                let mut minus = Buffer::any(g.len());
                chunks::map(&mut minus, &g, |v| -v);
                grads.add(b, minus);
            }
            grads.add(a, g);
        })
    }

    /// a ⊙ b, same shapes.
    pub fn mul(&self, other: &Tensor) -> Tensor {
        same_shape(self, other, "product");
        let mut out = Buffer::any(self.len());
        chunks::zip(&mut out, self.data(), other.data(), |a, b| a * b);
        let (a, b) = (self.clone(), other.clone());
        self.output(self.shape, own(out), a.tracked() || b.tracked(), move |mut g, grads| {
            if b.tracked() {
                let mut gb = Buffer::any(g.len());
                chunks::zip(&mut gb, &g, a.data(), |g, a| g * a);
                grads.add(b.node, gb);
            }
            chunks::update(&mut g, b.data(), |g, b| g * b);
            grads.add(a.node, g);
        })
    }

    /// factor · a + offset.
    pub fn affine(&self, factor: f32, offset: f32) -> Tensor {
        let mut out = Buffer::any(self.len());
        chunks::map(&mut out, self.data(), |a| factor * a + offset);
        let node = self.node;
        self.output(self.shape, own(out), node.is_some(), move |mut g, grads| {
            chunks::rows(&mut g, 1, |_, g| g.iter_mut().for_each(|v| *v *= factor));
            grads.add(node, g);
        })
    }

    /// factor · a.
    pub fn scale(&self, factor: f32) -> Tensor {
        self.affine(factor, 0.0)
    }

    /// a ⊙ a.
    pub fn square(&self) -> Tensor {
        self.mul(self)
    }

    /// `[.., W]` + `[W]`: the same row added to every row.
    pub fn add_row(&self, row: &Tensor) -> Tensor {
        let width = self.width();
        assert_eq!(row.len(), width, "row of {:?} added to {:?}", row.shape, self.shape);
        let mut out = Buffer::any(self.len());
        let (a, r) = (self.data(), row.data());
        chunks::rows(&mut out, width, |from, out| {
            for (out, a) in out.chunks_exact_mut(width).zip(a[from * width..].chunks_exact(width)) {
                out.iter_mut().zip(a).zip(r).for_each(|((o, a), r)| *o = a + r);
            }
        });
        let (a, r) = (self.node, row.node);
        self.output(self.shape, own(out), a.is_some() || r.is_some(), move |g, grads| {
            grads.sum(r, width, |gr| chunks::column_sums(&g, width, gr));
            grads.add(a, g);
        })
    }

    /// `[.., W]` ⊙ `[W]`: every row multiplied by the same row.
    pub fn mul_row(&self, row: &Tensor) -> Tensor {
        let width = self.width();
        assert_eq!(row.len(), width, "{:?} multiplied by a row of {:?}", self.shape, row.shape);
        let (a, r) = (self.clone(), row.clone());
        let mut out = Buffer::copy_of(self.data());
        times_row(&mut out, row.data());
        self.output(self.shape, own(out), a.tracked() || r.tracked(), move |mut g, grads| {
            let values = a.data();
            grads.sum(r.node, width, |gr| {
                chunks::fold(&g, width, gr, |from, g, part| {
                    for (g, a) in g.chunks_exact(width).zip(values[from * width..].chunks_exact(width)) {
                        part.iter_mut().zip(g).zip(a).for_each(|((p, g), a)| *p += g * a);
                    }
                });
            });
            times_row(&mut g, r.data());
            grads.add(a.node, g);
        })
    }

    /// `[.., W]` ⊙ `[.., 1]`: each row multiplied by its own number (`column` has one value per row).
    pub fn mul_column(&self, column: &Tensor) -> Tensor {
        let width = self.width();
        assert_eq!(
            column.len(),
            self.rows(),
            "{:?} multiplied by a column of {:?}",
            self.shape,
            column.shape
        );
        let (a, c) = (self.clone(), column.clone());
        let mut out = Buffer::copy_of(self.data());
        times_column(&mut out, column.data(), width);
        self.output(self.shape, own(out), a.tracked() || c.tracked(), move |mut g, grads| {
            grads.sum(c.node, c.len(), |gc| {
                let (g, values) = (&g[..], a.data());
                chunks::rows(gc, 1, |from, gc| {
                    for (i, gc) in gc.iter_mut().enumerate() {
                        let at = (from + i) * width;
                        *gc += chunks::dot(&g[at..at + width], &values[at..at + width]);
                    }
                });
            });
            times_column(&mut g, c.data(), width);
            grads.add(a.node, g);
        })
    }

    /// `[.., W]` + `[.., 1]`: each row's own number added to all of its elements.
    pub fn add_column(&self, column: &Tensor) -> Tensor {
        let width = self.width();
        assert_eq!(column.len(), self.rows(), "column of {:?} added to {:?}", column.shape, self.shape);
        let mut out = Buffer::copy_of(self.data());
        let c = column.data();
        chunks::rows(&mut out, width, |from, out| {
            for (row, c) in out.chunks_exact_mut(width).zip(&c[from..]) {
                row.iter_mut().for_each(|v| *v += c);
            }
        });
        let (a, c, rows) = (self.node, column.node, column.len());
        self.output(self.shape, own(out), a.is_some() || c.is_some(), move |g, grads| {
            grads.sum(c, rows, |gc| {
                for (gc, row) in gc.iter_mut().zip(g.chunks_exact(width)) {
                    *gc += row.iter().sum::<f32>();
                }
            });
            grads.add(a, g);
        })
    }
}

fn times_row(a: &mut [f32], row: &[f32]) {
    chunks::rows(a, row.len(), |_, a| {
        for a in a.chunks_exact_mut(row.len()) {
            a.iter_mut().zip(row).for_each(|(a, r)| *a *= r);
        }
    });
}

fn times_column(a: &mut [f32], column: &[f32], width: usize) {
    chunks::rows(a, width, |from, a| {
        for (a, c) in a.chunks_exact_mut(width).zip(&column[from..]) {
            a.iter_mut().for_each(|v| *v *= c);
        }
    });
}
