//! Sparse matrices by rows, as far as their strongest directions need them.

use millstream_nn::kernels::vectorised;
use rayon::prelude::*;

/// A sparse matrix `[rows, width]`.
pub(crate) struct Csr {
    /// `[rows + 1]`, from 0.
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    width: usize,
}

impl Csr {
    /// Rows of (column, value), columns below `width` and rising.
    pub(crate) fn of_rows(rows: &[Vec<(u32, f32)>], width: usize) -> Self {
        let mut out = Self { offsets: vec![0], columns: Vec::new(), values: Vec::new(), width };
        for row in rows {
            out.columns.extend(row.iter().map(|x| x.0));
            out.values.extend(row.iter().map(|x| x.1));
            out.offsets.push(out.columns.len());
        }
        out
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The transpose; rows of it rise as well.
    pub(crate) fn transposed(&self) -> Self {
        let mut offsets = vec![0usize; self.width + 1];
        self.columns.iter().for_each(|&c| offsets[c as usize + 1] += 1);
        (0..self.width).for_each(|c| offsets[c + 1] += offsets[c]);
        let (mut next, mut columns, mut values) =
            (offsets.clone(), vec![0u32; self.columns.len()], vec![0.0f32; self.values.len()]);
        for row in 0..self.rows() {
            for at in self.offsets[row]..self.offsets[row + 1] {
                let place = &mut next[self.columns[at] as usize];
                (columns[*place], values[*place]) = (row as u32, self.values[at]);
                *place += 1;
            }
        }
        Self { offsets, columns, values, width: self.rows() }
    }

    /// The product with a dense `[width, by]`: `[rows, by]`. Every row is one sum in order of its columns, so that threads do
    /// not matter.
    pub(crate) fn times(&self, dense: &[f32], by: usize) -> Vec<f32> {
        let mut out = vec![0.0f32; self.rows() * by];
        out.par_chunks_exact_mut(by).enumerate().with_min_len(64).for_each(|(row, out)| {
            vectorised!({
                for at in self.offsets[row]..self.offsets[row + 1] {
                    let from = self.columns[at] as usize * by;
                    add(out, &dense[from..from + by], self.values[at]);
                }
            });
        });
        out
    }
}

/// `out` += `weight` · `row`.
#[inline(always)]
pub(crate) fn add(out: &mut [f32], row: &[f32], weight: f32) {
    out.iter_mut().zip(row).for_each(|(o, x)| *o += weight * x);
}
