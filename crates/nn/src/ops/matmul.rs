//! Matrix products between tensors.

use crate::buffer::Buffer;
use crate::product::{Mat, Onto, block_product, product};
use crate::tensor::{Shape, Tensor, own};
use rayon::prelude::*;

/// Which operands of a product are taken transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transpose {
    /// a b.
    Neither,
    /// aᵀ b.
    Left,
    /// a bᵀ.
    Right,
    /// aᵀ bᵀ.
    Both,
}

impl Transpose {
    fn left(self) -> bool {
        matches!(self, Transpose::Left | Transpose::Both)
    }
    fn right(self) -> bool {
        matches!(self, Transpose::Right | Transpose::Both)
    }
}

fn mat(data: &[f32], (rows, cols): (usize, usize), transposed: bool) -> Mat<'_> {
    let m = Mat::new(data, rows, cols);
    if transposed { m.t() } else { m }
}

/// Sizes of one matrix as it is stored, and after transposing.
fn sizes(t: &Tensor, transposed: bool) -> ((usize, usize), (usize, usize)) {
    let axes = t.shape();
    assert!(axes.len() >= 2, "matrix product with a tensor of shape {:?}", t.shape);
    let (r, c) = (axes[axes.len() - 2], axes[axes.len() - 1]);
    ((r, c), if transposed { (c, r) } else { (r, c) })
}

impl Tensor {
    /// `[M, K]` · `[K, L]` → `[M, L]`, after transposing as told; or the same for each of B matrices, `[B, M, K]` · `[B, K, L]`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn matmul(&self, other: &Tensor, transpose: Transpose) -> Tensor {
        let (ta, tb) = (transpose.left(), transpose.right());
        let ((sa, (m, k)), (sb, (k2, l))) = (sizes(self, ta), sizes(other, tb));
        let batched = self.shape().len() == 3;
        let count = if batched { self.shape()[0] } else { 1 };
        let fits = k == k2
            && self.shape().len() == other.shape().len()
            && (!batched || self.shape()[0] == other.shape()[0]);
        assert!(fits, "product of {:?} and {:?} ({transpose:?} transposed)", self.shape, other.shape);
        let mut out = Buffer::any(count * m * l);
        each(&mut out, count, (self.data(), sa, ta), (other.data(), sb, tb), Onto::Write);
        let shape = if batched { Shape::new(&[count, m, l]) } else { Shape::new(&[m, l]) };
        let (a, b) = (self.clone(), other.clone());
        self.output(shape, own(out), a.tracked() || b.tracked(), move |g, grads| {
            let g = (&g[..], (m, l));
            grads.write(a.node, a.len(), |ga, add| {
                let b = (b.data(), sb);
                // a' = g bᵀ, and its transpose where a was taken transposed.
                if ta {
                    each(ga, count, (b.0, b.1, tb), (g.0, g.1, true), add.into());
                } else {
                    each(ga, count, (g.0, g.1, false), (b.0, b.1, !tb), add.into());
                }
            });
            grads.write(b.node, b.len(), |gb, add| {
                let a = (a.data(), sa);
                if tb {
                    each(gb, count, (g.0, g.1, true), (a.0, a.1, ta), add.into());
                } else {
                    each(gb, count, (a.0, a.1, !ta), (g.0, g.1, false), add.into());
                }
            });
        })
    }
}

type Operand<'a> = (&'a [f32], (usize, usize), bool);

/// One product per matrix of the batch; a single one is cut up itself when big.
fn each(out: &mut [f32], count: usize, a: Operand<'_>, b: Operand<'_>, onto: Onto) {
    if count == 1 {
        return product(out, mat(a.0, a.1, a.2), mat(b.0, b.1, b.2), onto);
    }
    if out.is_empty() {
        return;
    }
    let step = out.len() / count;
    let (sa, sb) = (a.1.0 * a.1.1, b.1.0 * b.1.1);
    let cols = if b.2 { b.1.0 } else { b.1.1 };
    let one = |(i, out): (usize, &mut [f32])| {
        let (ai, bi) = (&a.0[i * sa..(i + 1) * sa], &b.0[i * sb..(i + 1) * sb]);
        block_product(out, cols, mat(ai, a.1, a.2), mat(bi, b.1, b.2), onto);
    };
    out.par_chunks_mut(step).with_min_len(8).enumerate().for_each(one);
}
