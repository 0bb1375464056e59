//! Rows of which some columns belong to a request and are the same for all its candidates: what is linear in them is computed
//! once per request.

use crate::buffer::Buffer;
use crate::product::{Mat, Onto, product, product_then};
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

    /// The columns of a weight `[O, W]` that meet the request's (or the candidate's) columns, side by side.
    fn columns(&self, weight: &[f32], requests: bool) -> Buffer {
        let chosen: Vec<&Range<usize>> =
            self.stretches.iter().filter(|(_, of)| *of == requests).map(|(columns, _)| columns).collect();
        let (width, wanted) = (self.width(), chosen.iter().map(|c| c.len()).sum::<usize>());
        let mut out = Buffer::any(weight.len() / width * wanted);
        for (out, row) in out.chunks_exact_mut(wanted).zip(weight.chunks_exact(width)) {
            let mut at = 0;
            for columns in &chosen {
                out[at..at + columns.len()].copy_from_slice(&row[(*columns).clone()]);
                at += columns.len();
            }
        }
        out
    }

    /// `out = x wᵀ` for a weight `[O, W]`, then `finish(first row, rows)` for each block.
    pub(crate) fn product_then(
        &self,
        out: &mut [f32],
        (weight, o): (&[f32], usize),
        finish: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let n = self.map.len();
        let (shared, own) = (self.columns(weight, true), self.columns(weight, false));
        let (wide, narrow) = (shared.len() / o, own.len() / o);
        let requests = self.requests.len() / wide;
        let mut once = Buffer::any(requests * o);
        let by_request = Mat::new(&self.requests, requests, wide);
        product(&mut once, by_request, Mat::new(&shared, o, wide).t(), Onto::Write);
        let once = &once[..];
        let rows = Mat::new(&self.own, n, narrow);
        product_then(out, rows, Mat::new(&own, o, narrow).t(), Onto::Write, |from, y| {
            for (y, r) in y.chunks_exact_mut(o).zip(&self.map[from..]) {
                crate::chunks::add(y, &once[*r as usize * o..][..o]);
            }
            finish(from, y);
        });
    }
}
