//! The matrix product: by our own tiles where they serve, else by the `gemm` crate, which only this file calls.
//!
//! Big products are cut into blocks of output rows, one sequential product per block; a block can be
//! finished (bias, activation) by the thread that made it while it is still in its cache.

#![allow(unsafe_code)]

use crate::chunks::vectorised;
use crate::tiles::{self, Panels};
use gemm::Parallelism;
use rayon::prelude::*;

/// Multiply-adds below which a product stays on the calling thread.
const PARALLEL_FROM: usize = 1 << 20;
/// Most rows of a block: the block of inputs and outputs should stay in the second-level cache.
const BLOCK_ROWS: usize = 1024;

/// A read-only strided matrix.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Elements from row to row.
    pub(crate) row_step: usize,
    /// Elements from column to column; this or the other is 1.
    pub(crate) col_step: usize,
}

impl<'a> Mat<'a> {
    /// Row-major `[rows, cols]`.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Row-major with `row_step` elements from row to row.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_step: usize) -> Self {
        let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_step + cols };
        assert!(data.len() >= needed, "matrix [{rows}, {cols}] needs {needed} values, has {}", data.len());
        Self { data, rows, cols, row_step, col_step: 1 }
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_step: self.col_step, col_step: self.row_step, ..self }
    }

    /// Rows `from .. from + n`.
    fn row_range(self, from: usize, n: usize) -> Self {
        Self { data: &self.data[(from * self.row_step).min(self.data.len())..], rows: n, ..self }
    }
}

/// Whether a product replaces or is added to what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// Replace.
    Write,
    /// Add.
    Add,
}

impl From<bool> for Onto {
    /// `true`: add.
    fn from(add: bool) -> Self {
        if add { Onto::Add } else { Onto::Write }
    }
}

/// `out = a b` or `out += a b`; `out` is row-major `[a.rows, b.cols]`.
pub(crate) fn product(out: &mut [f32], a: Mat<'_>, b: Mat<'_>, onto: Onto) {
    product_then(out, a, b, onto, |_, _| ());
}

/// As [`product`], then `finish(first row, rows)` for each block, on the thread that made it.
pub(crate) fn product_then(
    out: &mut [f32],
    a: Mat<'_>,
    b: Mat<'_>,
    onto: Onto,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (m, n) = (a.rows, b.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(a.cols, b.rows, "inner sizes of a product differ");
    let finish = |from: usize, rows: &mut [f32]| vectorised!(finish(from, rows));
    let block = block_rows(m, n, a.cols);
    if tiles::serve(m, n, a.cols) {
        return tiles::product(out, (a, b), onto, block < m, finish);
    }
    if block >= m {
        block_product(out, n, a, b, onto);
        return finish(0, out);
    }
    out[..m * n].par_chunks_mut(block * n).enumerate().for_each(|(c, chunk)| {
        block_product(chunk, n, a.row_range(c * block, chunk.len() / n), b, onto);
        finish(c * block, chunk);
    });
}

/// Whether [`panels`] serve for a right matrix `[k, n]` and `m` rows.
pub(crate) fn panels_serve(m: usize, n: usize, k: usize) -> bool {
    tiles::serve(m, n, k)
}

/// As [`product_then`] with panels of the right matrix: the same bits.
///
/// # Panics
/// If the sizes differ.
pub(crate) fn panels_product_then(
    out: &mut [f32],
    a: Mat<'_>,
    panels: &Panels,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) {
    let finish = |from: usize, rows: &mut [f32]| vectorised!(finish(from, rows));
    let parallel = block_rows(a.rows, panels.columns(), a.cols) < a.rows;
    panels.product(out, a, parallel, finish);
}

fn block_rows(m: usize, n: usize, k: usize) -> usize {
    let threads = rayon::current_num_threads();
    if threads == 1 || m * n * k < PARALLEL_FROM {
        return m;
    }
    let waves = m.div_ceil(threads * BLOCK_ROWS);
    m.div_ceil(threads * waves).next_multiple_of(8)
}

/// One product on this thread; `out` has `out_step` elements from row to row.
pub(crate) fn block_product(out: &mut [f32], out_step: usize, a: Mat<'_>, b: Mat<'_>, onto: Onto) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "inner sizes of a product differ");
    if m == 0 || n == 0 {
        return;
    }
    assert!(out_step >= n && out.len() >= (m - 1) * out_step + n, "output of a product is too short");
    if k == 0 {
        if onto == Onto::Write {
            out.chunks_mut(out_step).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    // SAFETY: `Mat` is only built and cut so that (rows-1)*row_step + (cols-1)*col_step lies inside its
    // slice; the same is asserted for `out` above; `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_step as isize,
            onto == Onto::Add,
            a.data.as_ptr(),
            a.col_step as isize,
            a.row_step as isize,
            b.data.as_ptr(),
            b.col_step as isize,
            b.row_step as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f32> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            }
        }
        out
    }

    fn transposed(a: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|i| a[i % rows * cols + i / rows]).collect()
    }

    #[test]
    fn every_layout_agrees_with_three_loops() {
        let small = [(1, 1, 1), (3, 5, 2), (7, 1, 4), (1, 33, 9), (40, 17, 1)];
        // Sizes for the tiles: odd rests on all sides, several stretches of the inner axis.
        let big = [(300, 70, 90), (96, 641, 16), (25, 1300, 23), (101, 37, 40), (207, 64, 97)];
        for (m, k, n) in small.into_iter().chain(big) {
            let a: Vec<f32> = (0..m * k).map(|i| ((i * 7 + 3) % 11) as f32 - 5.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| ((i * 5 + 1) % 13) as f32 - 6.0).collect();
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            let want = naive(&a, &b, (m, k, n));
            for (ma, mb) in [
                (Mat::new(&a, m, k), Mat::new(&b, k, n)),
                (Mat::new(&at, k, m).t(), Mat::new(&b, k, n)),
                (Mat::new(&a, m, k), Mat::new(&bt, n, k).t()),
                (Mat::new(&at, k, m).t(), Mat::new(&bt, n, k).t()),
            ] {
                let mut out = vec![9.0; m * n];
                product(&mut out, ma, mb, Onto::Write);
                assert_eq!(out, want, "{m}x{k}x{n}");
                product(&mut out, ma, mb, Onto::Add);
                assert!(out.iter().zip(&want).all(|(o, w)| *o == 2.0 * w));
            }
        }
    }

    #[test]
    fn a_product_over_nothing_is_zero() {
        let mut out = vec![9.0; 6];
        product(&mut out, Mat::new(&[], 2, 0), Mat::new(&[], 0, 3), Onto::Write);
        assert_eq!(out, vec![0.0; 6]);
    }
}
