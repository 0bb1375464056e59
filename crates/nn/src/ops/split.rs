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
    /// Columns `[R, W]` of requests and nothing of the candidates'.
    pub(crate) fn of_requests(requests: &Tensor, map: &Arc<Vec<u32>>) -> Self {
        Self {
            requests: Buffer::copy_of(requests.data()),
            own: Buffer::any(0),
            map: map.clone(),
            stretches: vec![(0..requests.width(), true)],
        }
    }

    /// The parts of `[N, W1]`, `[N, W2]`, .. side by side, if any of them has parts; of one that has none all columns are the
    /// candidate's.
    pub(crate) fn joined(parts: &[&Tensor]) -> Option<Self> {
        let map = parts.iter().find_map(|p| p.split_rows(p.width()))?.map.clone();
        let splits: Vec<Option<&Split>> = parts.iter().map(|p| p.split_rows(p.width())).collect();
        if splits.iter().flatten().any(|s| !Arc::ptr_eq(&s.map, &map)) {
            return None;
        }
        let (mut stretches, mut at): (Vec<(Range<usize>, bool)>, usize) = (Vec::new(), 0);
        for (part, split) in parts.iter().zip(&splits) {
            let whole = [(0..part.width(), false)];
            for (columns, of) in split.map_or(&whole[..], |s| &s.stretches) {
                match stretches.last_mut() {
                    Some((last, before)) if before == of => last.end = at + columns.end,
                    _ => stretches.push((at + columns.start..at + columns.end, *of)),
                }
            }
            at += part.width();
        }
        let requests = splits.iter().flatten().map(|s| (&s.requests[..], s.wide(true)));
        let own = parts.iter().zip(&splits).map(|(part, split)| match split {
            Some(split) => (&split.own[..], split.wide(false)),
            None => (part.data(), part.width()),
        });
        Some(Self {
            requests: side_by_side(&requests.collect::<Vec<_>>()),
            own: side_by_side(&own.collect::<Vec<_>>()),
            map,
            stretches,
        })
    }

    /// How many columns are the request's, or the candidate's.
    fn wide(&self, requests: bool) -> usize {
        self.columns(requests).iter().map(ExactSizeIterator::len).sum()
    }

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
        if narrow == 0 {
            chunks::rows(out, o, |from, y| {
                for (y, r) in y.chunks_exact_mut(o).zip(&self.map[from..]) {
                    y.copy_from_slice(&once[*r as usize * o..][..o]);
                }
                finish(from, y);
            });
            return;
        }
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
                vectorised!({
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

/// Rows of several arrays, each with its width, side by side.
fn side_by_side(parts: &[(&[f32], usize)]) -> Buffer {
    let width: usize = parts.iter().map(|(_, w)| w).sum();
    let mut out = Buffer::any(parts.iter().map(|(data, _)| data.len()).sum());
    chunks::rows(&mut out, width, |from, out| {
        for (i, row) in out.chunks_exact_mut(width).enumerate() {
            let mut rest = row;
            for (data, w) in parts {
                let (to, next) = rest.split_at_mut(*w);
                to.copy_from_slice(&data[(from + i) * w..][..*w]);
                rest = next;
            }
        }
    });
    out
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Params, Pass};
    use std::rc::Rc;

    #[test]
    fn joined_rows_keep_their_parts_and_meet_a_weight_as_whole_rows_do() {
        let params = Params::new(1);
        let pass = Pass::new(&params, Mode::Infer, 0);
        let number = |i: usize| ((i * 37 + 11) % 19) as f32 / 9.0 - 1.0;
        let filled = |rows: usize, width: usize, salt: usize| {
            pass.constant(&[rows, width], (0..rows * width).map(|i| number(i + salt)).collect())
        };
        let map: Arc<Vec<u32>> = Arc::new((0..12).map(|n| n / 7).collect());
        let (request, own, more) = (filled(2, 3, 0), filled(12, 2, 5), filled(12, 4, 9));
        let of_request = |t: &Tensor| {
            let whole = t.gather(&map);
            Tensor { split: Some(Rc::new(Split::of_requests(t, &map))), ..whole }
        };
        let (mean, first) = (filled(2, 2, 3), of_request(&request));
        let x = Tensor::concat(&[&Tensor::concat(&[&first, &own]), &more, &of_request(&mean)]);
        let split = x.split_rows(11).unwrap();
        assert_eq!(split.stretches, [(0..3, true), (3..9, false), (9..11, true)]);
        assert_eq!((split.requests.len(), split.own.len()), (2 * 5, 12 * 6));
        let weight = filled(5, 11, 2);
        let whole = Tensor { split: None, ..x.clone() };
        let near = |a: &Tensor, b: &Tensor| a.data().iter().zip(b.data()).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&x.linear(&weight, None), &whole.linear(&weight, None)));
        // Rows that are the request's alone.
        let weight = filled(5, 3, 4);
        let whole = Tensor { split: None, ..first.clone() };
        assert!(near(&first.linear_relu(&weight, None), &whole.linear_relu(&weight, None)));
        // Parts of other requests are not mixed up.
        let other = Arc::new(vec![0u32; 12]);
        let strange = Tensor { split: Some(Rc::new(Split::of_requests(&mean, &other))), ..own.clone() };
        assert!(Split::joined(&[&first, &strange]).is_none());
    }
}
