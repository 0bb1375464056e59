//! Rows of which some columns belong to a request and are the same for all its candidates: what is linear in them is computed
//! once per request.

use super::linear::rows_by_weight;
use crate::buffer::Buffer;
use crate::chunks::{self, vectorised};
use crate::kept::Choice;
use crate::product::Mat;
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The parts of `[N, W]` rows: columns of the request `[R, Wr]`, and the candidate's own `[N, Wc]`.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) requests: Buffer,
    pub(crate) own: Buffer,
    /// `[N]`: the request of each row.
    pub(crate) map: Arc<Vec<u32>>,
    /// Whose each stretch of columns is, in order: its columns, and whether they are the request's.
    pub(crate) stretches: Vec<(Range<usize>, bool)>,
}

impl Split {
    /// W.
    pub(crate) fn width(&self) -> usize {
        self.stretches.last().map_or(0, |(columns, _)| columns.end)
    }

    /// R.
    pub(super) fn request_rows(&self) -> usize {
        let wide: usize = self.columns(true).iter().map(ExactSizeIterator::len).sum();
        self.requests.len() / wide
    }

    /// The columns of the request, or of the candidate, in order.
    pub(super) fn columns(&self, requests: bool) -> Vec<Range<usize>> {
        self.stretches.iter().filter(|(_, of)| *of == requests).map(|(columns, _)| columns.clone()).collect()
    }

    /// `out = x wᵀ` for a weight `[O, W]`, then `finish(first row, rows)` for each block.
    pub(crate) fn product_then(
        &self,
        out: &mut [f32],
        weight: &Tensor,
        finish: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (n, o) = (self.map.len(), weight.rows());
        let once = self.by_request(weight, &self.columns(true));
        let columns = self.columns(false);
        let narrow = self.own.len() / n;
        let choice = Choice { columns: &columns, ..Choice::default() };
        rows_by_weight(out, Mat::new(&self.own, n, narrow), (weight, choice), |from, y| {
            for (y, r) in y.chunks_exact_mut(o).zip(&self.map[from..]) {
                chunks::add(y, &once[*r as usize * o..][..o]);
            }
            finish(from, y);
        });
    }

    /// `[R, O]`: what the request's columns come to.
    fn by_request(&self, weight: &Tensor, columns: &[Range<usize>]) -> Buffer {
        let (o, width) = (weight.rows(), weight.width());
        let wide: usize = columns.iter().map(ExactSizeIterator::len).sum();
        let requests = self.requests.len() / wide;
        let mut once = Buffer::any(requests * o);
        if requests >= ROWS_FROM {
            let x = Mat::new(&self.requests, requests, wide);
            rows_by_weight(&mut once, x, (weight, Choice { columns, ..Choice::default() }), |_, _| ());
            return once;
        }
        for (once, x) in once.chunks_exact_mut(o).zip(self.requests.chunks_exact(wide)) {
            let rows = weight.data().par_chunks(PART * width);
            once.par_chunks_mut(PART).zip(rows).for_each(|(once, rows)| {
                vectorised(|| {
                    for (y, row) in once.iter_mut().zip(rows.chunks_exact(width)) {
                        *y = dot(row, columns, x);
                    }
                });
            });
        }
        once
    }
}

/// Numbers of a request that one thread makes at a time.
pub(super) const PART: usize = 128;
/// Requests from which their rows meet a weight as a matrix.
const ROWS_FROM: usize = 8;

/// Scalar product of the columns of a row, side by side, and `x`.
#[inline(always)]
fn dot(row: &[f32], columns: &[Range<usize>], x: &[f32]) -> f32 {
    let (mut sum, mut at) = (0.0, 0);
    for column in columns {
        sum += chunks::dot(&row[column.clone()], &x[at..at + column.len()]);
        at += column.len();
    }
    sum
}
