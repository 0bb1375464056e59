//! Self-attention within sequences of different lengths, in tiles: no padding, and no matrix of all pairs is ever kept.
//!
//! Forward, each tile of queries walks over the tiles of keys it may see with a running maximum and sum (online softmax:
//! Milakov & Gimelshein 2018; Dao et al. 2022). Kept for the backward pass is one number per query and head, the log of
//! its sum; the weights are computed again. Memory is linear in the length.

use super::dropout::Dropout;
use super::exp::{exp_all, largest};
use crate::buffer::Buffer;
use crate::chunks::{self, vectorised};
use crate::pairs::pieces;
use crate::pass::Pass;
use crate::product::{Mat, Onto, block_product};
use crate::ragged::Ragged;
use crate::tensor::{Tensor, own};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Queries and keys of a tile.
const TILE: usize = 64;
/// Queries that one thread takes at a time going forward: longer sequences are shared out. Whole tiles, so that how they are shared
/// changes no sum.
const STRETCH: usize = 4 * TILE;

/// Who attends to whom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeqAttention {
    /// H: heads, each with an equal share of the columns.
    pub heads: usize,
    /// Factor on the scores, above 0; 1 / √(width of a head) in Vaswani et al. 2017.
    pub scale: f32,
    /// Whether an element sees itself and earlier ones only.
    pub causal: bool,
    /// Only elements less than so many places away are seen (sliding window), above 0; all when absent.
    pub window: Option<usize>,
    /// Probability that a weight is dropped in training, in [0, 1).
    pub dropout: f32,
}

impl SeqAttention {
    /// Elements that element `i` of a sequence of `len` sees; `i` is always among them.
    fn seen(&self, i: usize, len: usize) -> Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        let end = if self.causal { i + 1 } else { len.min(i.saturating_add(window)) };
        (i + 1).saturating_sub(window)..end
    }
}

impl Ragged {
    /// Queries (these vectors), keys and values `[L₁ + … + L_B, H·A]` → sequences of the same width: in each sequence and
    /// head, with that head's columns, Σ_j softmax_j(scale ⟨q_i, k_j⟩) v_j over the elements j that i sees (Vaswani et al.
    /// 2017). Time O(L²·A) per head (O(L·window·A) with a window), memory O(L).
    ///
    /// # Panics
    /// If the shapes differ, the heads do not divide the width, the window is 0, the scale not above 0 or the dropout not in [0, 1).
    pub fn attend(&self, pass: &Pass, keys: &Tensor, values: &Tensor, how: SeqAttention) -> Ragged {
        let q = self.values();
        let same = keys.shape == q.shape && values.shape == q.shape;
        assert!(same, "attention of {:?} to {:?} and {:?}", q.shape, keys.shape, values.shape);
        let total = self.width();
        assert!(how.heads > 0 && total.is_multiple_of(how.heads), "{} heads of {total} columns", how.heads);
        assert!(how.window != Some(0) && how.scale > 0.0, "a window of nothing, or a scale of {}", how.scale);
        let sizes = Sizes {
            how,
            total,
            width: total / how.heads,
            longest: (0..self.rows()).map(|b| self.len_of(b)).max().unwrap_or(0) as u32,
            dropout: Dropout::draw(pass, how.dropout),
        };
        let (mut out, mut logs) = (Buffer::zeros(q.len()), Buffer::any(self.elements() * how.heads));
        let given = Qkv { q: q.data(), k: keys.data(), v: values.data() };
        sizes.forward_all(self.offsets(), given, &mut out, &mut logs);
        let (q, k, v, offsets) = (q.clone(), keys.clone(), values.clone(), self.offsets().clone());
        let tracked = q.tracked() || k.tracked() || v.tracked();
        let out = own(out);
        let kept = out.clone();
        self.with(self.values().output(self.values().shape, out, tracked, move |g, grads| {
            let mut slopes = [Buffer::zeros(g.len()), Buffer::zeros(g.len()), Buffer::zeros(g.len())];
            let given = Qkv { q: q.data(), k: k.data(), v: v.data() };
            sizes.back_all(&offsets, given, (&kept, &logs, &g), &mut slopes);
            let [gq, gk, gv] = slopes;
            grads.add(q.node, gq);
            grads.add(k.node, gk);
            grads.add(v.node, gv);
        }))
    }
}

/// Queries, keys and values.
#[derive(Clone, Copy)]
struct Qkv<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl<'a> Qkv<'a> {
    fn rows(self, at: Range<usize>) -> Self {
        Self { q: &self.q[at.clone()], k: &self.k[at.clone()], v: &self.v[at] }
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    how: SeqAttention,
    /// H·A.
    total: usize,
    /// A.
    width: usize,
    /// Elements of the longest sequence: weights of one query and head have so many places of dropout.
    longest: u32,
    dropout: Option<Dropout>,
}

/// Stretches of at most so many elements of each sequence, in order.
fn stretches(offsets: &[u32]) -> Vec<(usize, Range<usize>)> {
    let of = |(b, ends): (usize, &[u32])| {
        let len = (ends[1] - ends[0]) as usize;
        (0..len).step_by(STRETCH).map(move |from| (b, from..(from + STRETCH).min(len)))
    };
    offsets.windows(2).enumerate().flat_map(of).collect()
}

/// The slices of `data` (with `width` numbers per element) that belong to each sequence, with its place.
fn cut<'a>(offsets: &[u32], mut data: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(offsets.len());
    for ends in offsets.windows(2) {
        let (part, rest) = data.split_at_mut((ends[1] - ends[0]) as usize * width);
        parts.push(part);
        data = rest;
    }
    parts
}

impl Sizes {
    fn forward_all(&self, offsets: &Arc<Vec<u32>>, given: Qkv<'_>, out: &mut [f32], logs: &mut [f32]) {
        let jobs = stretches(offsets);
        let outs = pieces(out, jobs.iter().map(|(_, rows)| rows.len() * self.total));
        let logs = pieces(logs, jobs.iter().map(|(_, rows)| rows.len() * self.how.heads));
        let all = jobs.into_par_iter().zip(outs).zip(logs);
        all.for_each_init(Scratch::default, |scratch, (((b, rows), out), logs)| {
            let (first, end) = (offsets[b] as usize, offsets[b + 1] as usize);
            let given = given.rows(first * self.total..end * self.total);
            for h in 0..self.how.heads {
                self.forward((first, end - first, h), rows.clone(), given, scratch, (out, logs));
            }
        });
    }

    fn back_all(
        &self,
        offsets: &Arc<Vec<u32>>,
        given: Qkv<'_>,
        (out, logs, g): (&[f32], &[f32], &[f32]),
        slopes: &mut [Buffer; 3],
    ) {
        let [gq, gk, gv] = slopes;
        let slopes = cut(offsets, gq, self.total).into_par_iter().zip(cut(offsets, gk, self.total));
        let all = slopes.zip(cut(offsets, gv, self.total)).enumerate();
        all.for_each_init(Scratch::default, |scratch, (b, ((gq, gk), gv))| {
            let first = offsets[b] as usize;
            let at = first * self.total..first * self.total + gq.len();
            let len = gq.len() / self.total;
            let logs = &logs[first * self.how.heads..][..len * self.how.heads];
            let known = (&out[at.clone()], logs, &g[at.clone()]);
            for h in 0..self.how.heads {
                self.back((first, h), given.rows(at.clone()), known, scratch, (gq, gk, gv));
            }
        });
    }

    /// Columns of head `h` in the rows `at` of one sequence.
    fn mat<'a>(&self, data: &'a [f32], at: &Range<usize>, h: usize) -> Mat<'a> {
        Mat::strided(&data[at.start * self.total + h * self.width..], at.len(), self.width, self.total)
    }

    /// Tiles of the keys that the queries `rows` see.
    fn tiles(&self, rows: &Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (from, to) = (self.how.seen(rows.start, len).start, self.how.seen(rows.end - 1, len).end);
        (from / TILE..to.div_ceil(TILE)).map(move |t| (t * TILE).max(from)..((t + 1) * TILE).min(to))
    }

    /// The part of tile `keys` that query `i` sees, counted from the tile's first.
    fn part(&self, i: usize, keys: &Range<usize>, len: usize) -> Range<usize> {
        let seen = self.how.seen(i, len);
        let from = seen.start.clamp(keys.start, keys.end) - keys.start;
        from..seen.end.clamp(keys.start + from, keys.end) - keys.start
    }

    /// Drops weights of query `i` (counted over all sequences) at keys from `first` on.
    fn drop_out(&self, (i, h): (usize, usize), first: usize, weights: &mut [f32]) {
        if let Some(dropout) = &self.dropout {
            let row = (i * self.how.heads + h) as u32;
            dropout.apply(row.wrapping_mul(self.longest) as usize + first, weights);
        }
    }

    /// One head of the elements `part` of one sequence of `len`, whose first element is the `first` of all.
    fn forward(
        &self,
        (first, len, h): (usize, usize, usize),
        part: Range<usize>,
        x: Qkv<'_>,
        scratch: &mut Scratch,
        (out, logs): (&mut [f32], &mut [f32]),
    ) {
        let at = |i: usize| (i - part.start) * self.total + h * self.width;
        for start in part.clone().step_by(TILE) {
            let rows = start..(start + TILE).min(part.end);
            let mut running = [(f32::NEG_INFINITY, 0.0f32); TILE];
            for keys in self.tiles(&rows, len) {
                let n = keys.len();
                let scores = &mut scratch.scores[..rows.len() * n];
                block_product(scores, n, self.mat(x.q, &rows, h), self.mat(x.k, &keys, h).t(), Onto::Write);
                vectorised!({
                    for (r, weights) in scores.chunks_exact_mut(n).enumerate() {
                        let i = rows.start + r;
                        let seen = self.part(i, &keys, len);
                        let out = &mut out[at(i)..][..self.width];
                        online(&mut running[r], weights, seen.clone(), self.how.scale, out);
                        self.drop_out((first + i, h), keys.start + seen.start, &mut weights[seen]);
                    }
                });
                let into = &mut out[at(start)..];
                let (weights, values) = (Mat::new(scores, rows.len(), n), self.mat(x.v, &keys, h));
                block_product(into, self.total, weights, values, Onto::Add);
            }
            for (i, (most, sum)) in rows.zip(running) {
                let out = &mut out[at(i)..][..self.width];
                out.iter_mut().for_each(|o| *o /= sum);
                logs[(i - part.start) * self.how.heads + h] = most + sum.ln();
            }
        }
    }

    /// Slopes of one head of one sequence, added.
    fn back(
        &self,
        (first, h): (usize, usize),
        x: Qkv<'_>,
        (out, logs, g): (&[f32], &[f32], &[f32]),
        scratch: &mut Scratch,
        (gq, gk, gv): (&mut [f32], &mut [f32], &mut [f32]),
    ) {
        let len = out.len() / self.total;
        let head = |i: usize| i * self.total + h * self.width;
        for start in (0..len).step_by(TILE) {
            let rows = start..(start + TILE).min(len);
            let along: [f32; TILE] = std::array::from_fn(|r| match rows.start + r {
                i if i < rows.end => chunks::dot(&g[head(i)..][..self.width], &out[head(i)..][..self.width]),
                _ => 0.0,
            });
            for keys in self.tiles(&rows, len) {
                let n = keys.len();
                let size = rows.len() * n;
                let (weights, slopes) = (&mut scratch.scores[..size], &mut scratch.slopes[..size]);
                let g_rows = self.mat(g, &rows, h);
                block_product(weights, n, self.mat(x.q, &rows, h), self.mat(x.k, &keys, h).t(), Onto::Write);
                block_product(slopes, n, g_rows, self.mat(x.v, &keys, h).t(), Onto::Write);
                vectorised!({
                    let both = weights.chunks_exact_mut(n).zip(slopes.chunks_exact_mut(n));
                    for (r, (weights, slopes)) in both.enumerate() {
                        let i = rows.start + r;
                        let part = self.part(i, &keys, len);
                        self.row_back(
                            (first + i, h, keys.start),
                            (weights, slopes, part),
                            (logs[i * self.how.heads + h], along[r]),
                        );
                    }
                });
                let (weights, slopes) = (Mat::new(weights, rows.len(), n), Mat::new(slopes, rows.len(), n));
                block_product(&mut gv[head(keys.start)..], self.total, weights.t(), g_rows, Onto::Add);
                let (q, k) = (self.mat(x.q, &rows, h), self.mat(x.k, &keys, h));
                block_product(&mut gq[head(start)..], self.total, slopes, k, Onto::Add);
                block_product(&mut gk[head(keys.start)..], self.total, slopes.t(), q, Onto::Add);
            }
        }
    }

    /// Scores of one query in a tile → its weights after dropout; ⟨g, v⟩ → slopes of ⟨q, k⟩.
    #[inline(always)]
    fn row_back(
        &self,
        (i, h, first_key): (usize, usize, usize),
        (weights, slopes, part): (&mut [f32], &mut [f32], Range<usize>),
        (log, along): (f32, f32),
    ) {
        for row in [&mut *weights, &mut *slopes] {
            row[..part.start].fill(0.0);
            row[part.end..].fill(0.0);
        }
        let first = first_key + part.start;
        let (weights, slopes) = (&mut weights[part.clone()], &mut slopes[part]);
        exp_all(weights, self.how.scale, log);
        self.drop_out((i, h), first, slopes);
        for (s, w) in slopes.iter_mut().zip(&*weights) {
            *s = self.how.scale * w * (*s - along);
        }
        self.drop_out((i, h), first, weights);
    }
}

/// Scores of one query in a tile → e^(score − maximum so far), zero where it does not look; what was summed under a smaller
/// maximum is scaled down.
#[inline(always)]
fn online((most, sum): &mut (f32, f32), row: &mut [f32], part: Range<usize>, scale: f32, out: &mut [f32]) {
    row[..part.start].fill(0.0);
    row[part.end..].fill(0.0);
    let part = &mut row[part];
    let new = (scale * largest(part)).max(*most);
    if new == f32::NEG_INFINITY {
        return;
    }
    if new > *most {
        let down = (*most - new).exp();
        *sum *= down;
        out.iter_mut().for_each(|o| *o *= down);
        *most = new;
    }
    *sum += exp_all(part, scale, *most);
}

/// What one thread needs at a time.
struct Scratch {
    scores: Vec<f32>,
    slopes: Vec<f32>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { scores: vec![0.0; TILE * TILE], slopes: vec![0.0; TILE * TILE] }
    }
}
