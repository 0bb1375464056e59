//! Losses of the right item against others, for every element of sequences: scores, loss and slopes are made block by
//! block, so that the matrix of all scores is never kept.

use crate::buffer::Buffer;
use crate::chunks::{self, vectorised};
use crate::ops::{LANES, exp_all, fast_exp, fast_sigmoid, largest};
use crate::product::{Mat, Onto, block_product, product};
use crate::tensor::{Shape, Tensor, own};
use rayon::prelude::*;
use std::ops::Range;

/// Scores made at a time, at most.
const BLOCK: usize = 1 << 20;

/// What the right item is compared by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChoiceLoss {
    /// −log of the right item's softmax share.
    Softmax,
    /// −(β log σ(s⁺) + Σ_j log(1 − σ(s_j))) / (k + 1) over k negatives; β = 1 is binary cross-entropy, see
    /// [`gbce_beta`] for gBCE (Petrov & Macdonald 2023, eq. 15).
    Binary {
        /// β, above 0.
        beta: f32,
    },
    /// −log Σ_j w_j σ(s⁺ − s_j) + λ Σ_j w_j s_j², w the softmax of the negatives' scores (Hidasi & Karatzoglou 2018).
    BprMax {
        /// λ, at least 0.
        penalty: f32,
    },
    /// Σ_j w_j (σ(s_j − s⁺) + σ(s_j²)), w the softmax of the negatives' scores (Hidasi & Karatzoglou 2018, TOP1-max).
    Top1Max,
}

/// β of gBCE for `negatives` uniformly drawn out of `items` and calibration t in [0, 1]: α (t (1 − 1/α) + 1/α) with
/// α = negatives / (items − 1); t = 0 gives 1, plain binary cross-entropy (Petrov & Macdonald 2023, eq. 14).
pub fn gbce_beta(negatives: usize, items: usize, calibration: f32) -> f32 {
    let alpha = (negatives as f64 / (items.max(2) - 1) as f64).min(1.0);
    let t = f64::from(calibration);
    (alpha * (t * (1.0 - 1.0 / alpha) + 1.0 / alpha)) as f32
}

/// Which columns an element's right item is compared with.
#[derive(Debug, Clone, Copy)]
pub enum Against<'a> {
    /// All columns; element p's right one is `targets[p]`.
    Columns {
        /// `[P]`.
        targets: &'a [u32],
    },
    /// Its own right vector, and the same columns for all elements.
    Shared {
        /// `[P, D]`.
        own: &'a Tensor,
    },
    /// Its own right vector, and k columns for each sequence: sequence b has `b·k..(b + 1)·k`.
    PerSequence {
        /// `[P, D]`.
        own: &'a Tensor,
        /// `[B + 1]`: elements of each sequence.
        offsets: &'a [u32],
        /// k.
        each: usize,
    },
}

/// What is known of the items behind vectors and columns.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChoiceItems<'a> {
    /// `[P]` right item of each element; a negative column of that item does not count. Empty for no check.
    pub right: &'a [u32],
    /// `[C]` item of each column, or empty with `right`.
    pub columns: &'a [u32],
    /// `[C]` taken off the columns' scores, or empty.
    pub column_shift: &'a [f32],
    /// `[P]` taken off the own right vectors' scores, or empty.
    pub right_shift: &'a [f32],
}

/// Mean over elements of a [`ChoiceLoss`] of scores ⟨state, column⟩.
///
/// `states` `[P, D]`, `columns` `[C, D]`. Time O(P · columns compared · D); memory a block of scores.
///
/// # Panics
/// If the sizes do not fit.
pub fn choice(
    states: &Tensor,
    columns: &Tensor,
    against: Against<'_>,
    items: ChoiceItems<'_>,
    loss: ChoiceLoss,
) -> Tensor {
    let (p, d, c) = (states.rows(), states.width(), columns.rows());
    assert_eq!(columns.width(), d, "states {:?} meet columns {:?}", states.shape, columns.shape);
    let none = |n: usize, wanted: usize| n == 0 || n == wanted;
    let fits = none(items.right.len(), p)
        && none(items.columns.len(), c)
        && items.right.is_empty() == items.columns.is_empty()
        && none(items.column_shift.len(), c)
        && none(items.right_shift.len(), p);
    assert!(fits, "items and shifts do not fit {p} elements and {c} columns");
    let own_right = match against {
        Against::Columns { targets } => {
            let there = targets.len() == p && targets.iter().all(|t| (*t as usize) < c);
            assert!(there, "{} targets among {c} columns for {p} elements", targets.len());
            None
        }
        Against::Shared { own } => Some(own),
        Against::PerSequence { own, offsets, each } => {
            let ends = offsets.last().map_or(0, |end| *end as usize);
            assert!(ends == p && (offsets.len() - 1) * each == c, "{c} columns of {each} for each sequence");
            Some(own)
        }
    };
    assert!(own_right.is_none_or(|o| o.shape == states.shape), "right vectors for states {:?}", states.shape);
    let right = own_right.map_or(&[][..], Tensor::data);
    let targets = if let Against::Columns { targets } = against { Some(targets) } else { None };
    let work = Work { x: states.data(), right, columns: columns.data(), d, targets, items, loss };
    let tracked = states.tracked() || columns.tracked() || own_right.is_some_and(Tensor::tracked);
    let mut slopes = tracked.then(|| Slopes::zeros(p * d, right.len(), c * d));
    let total = match against {
        Against::PerSequence { offsets, each, .. } => work.per_sequence((offsets, each), slopes.as_mut()),
        _ => work.shared((p, c), slopes.as_mut()),
    };
    let scale = 1.0 / p.max(1) as f32;
    let nodes = (states.node, own_right.and_then(|o| o.node), columns.node);
    let value = (total * f64::from(scale)) as f32;
    states.output(Shape::new(&[1]), own(vec![value].into()), tracked, move |g, grads| {
        let Some(mut slopes) = slopes else { return };
        for part in [&mut slopes.states, &mut slopes.right, &mut slopes.columns] {
            chunks::rows(part, 1, |_, part| part.iter_mut().for_each(|s| *s *= g[0] * scale));
        }
        grads.add(nodes.0, slopes.states);
        grads.add(nodes.1, slopes.right);
        grads.add(nodes.2, slopes.columns);
    })
}

struct Slopes {
    states: Buffer,
    right: Buffer,
    columns: Buffer,
}

impl Slopes {
    fn zeros(states: usize, right: usize, columns: usize) -> Self {
        Self { states: Buffer::any(states), right: Buffer::any(right), columns: Buffer::zeros(columns) }
    }
}

/// One loss's inputs.
struct Work<'a> {
    x: &'a [f32],
    /// Own right vectors, or nothing.
    right: &'a [f32],
    columns: &'a [f32],
    d: usize,
    /// Of each element, where its right item is one of the columns.
    targets: Option<&'a [u32]>,
    items: ChoiceItems<'a>,
    loss: ChoiceLoss,
}

impl Work<'_> {
    /// The sum of all losses, all elements against the same columns; fills the slopes if wanted. Blocks of elements one after
    /// the other, each on all threads.
    fn shared(&self, (p, c): (usize, usize), mut slopes: Option<&mut Slopes>) -> f64 {
        let (d, step) = (self.d, (BLOCK / c.max(1)).clamp(16, p.max(16)));
        let (mut scores, mut losses) = (Buffer::any(step.min(p) * c), vec![0.0f32; p]);
        let columns = Mat::new(self.columns, c, d);
        for from in (0..p).step_by(step) {
            let rows = from..(from + step).min(p);
            let n = rows.len();
            let x = Mat::new(&self.x[from * d..], n, d);
            let scores = &mut scores[..n * c];
            product(scores, x, columns.t(), Onto::Write);
            let mut ends = vec![0.0f32; n];
            let each = scores.par_chunks_mut(c.max(1)).zip(&mut losses[rows.clone()]).zip(&mut ends);
            if c > 0 {
                each.with_min_len(16).enumerate().for_each(|(i, ((row, loss), end))| {
                    (*loss, *end) = self.row(from + i, 0, row);
                });
            }
            let Some(slopes) = slopes.as_deref_mut() else { continue };
            let scores = Mat::new(scores, n, c);
            let into = &mut slopes.states[from * d..rows.end * d];
            product(into, scores, columns, Onto::Write);
            product(&mut slopes.columns, scores.t(), x, Onto::Add);
            if !self.right.is_empty() {
                let right = &mut slopes.right[from * d..rows.end * d];
                self.own_slopes(rows, &ends, (into, right));
            }
        }
        losses.iter().map(|l| f64::from(*l)).sum()
    }

    /// Each sequence against its own columns: sequences in parallel.
    fn per_sequence(&self, (offsets, each): (&[u32], usize), slopes: Option<&mut Slopes>) -> f64 {
        let d = self.d;
        let spans: Vec<Range<usize>> = offsets.windows(2).map(|e| e[0] as usize..e[1] as usize).collect();
        let one = |scores: &mut Vec<f32>, b: usize, rows: &Range<usize>, slopes: Option<[&mut [f32]; 3]>| {
            let n = rows.len();
            let columns = Mat::new(&self.columns[b * each * d..], each, d);
            let x = Mat::new(&self.x[rows.start * d..], n, d);
            scores.resize(scores.len().max(n * (each + 1)), 0.0);
            let (scores, ends) = scores[..n * (each + 1)].split_at_mut(n * each);
            small_product(scores, x, columns.t());
            let mut sum = 0.0;
            for (i, end) in ends.iter_mut().enumerate() {
                let found = self.row(rows.start + i, b * each, &mut scores[i * each..][..each]);
                sum += f64::from(found.0);
                *end = found.1;
            }
            if let Some([of_states, of_right, of_columns]) = slopes {
                let scores = Mat::new(scores, n, each);
                small_product(of_states, scores, columns);
                small_product(of_columns, scores.t(), x);
                self.own_slopes(rows.clone(), ends, (of_states, of_right));
            }
            sum
        };
        // Small ones are taken several at a time.
        let least = (spans.len() << 16).div_ceil(self.x.len().max(1) * each.max(1));
        let Some(slopes) = slopes else {
            let all = spans.par_iter().enumerate().with_min_len(least);
            let sums: Vec<f64> = all.map_init(Vec::new, |s, (b, rows)| one(s, b, rows, None)).collect();
            return sums.iter().sum();
        };
        let (mut states, mut right) = (&mut slopes.states[..], &mut slopes.right[..]);
        let mut parts = Vec::with_capacity(spans.len());
        for (rows, columns) in spans.iter().zip(slopes.columns.chunks_exact_mut((each * d).max(1))) {
            let (of_states, rest) = states.split_at_mut(rows.len() * d);
            let (of_right, others) = right.split_at_mut(rows.len() * d);
            (states, right) = (rest, others);
            parts.push([of_states, of_right, columns]);
        }
        let all = parts.into_par_iter().zip(&spans).enumerate().with_min_len(least);
        let sums: Vec<f64> =
            all.map_init(Vec::new, |s, (b, (slopes, rows))| one(s, b, rows, Some(slopes))).collect();
        sums.iter().sum()
    }

    /// Loss of element `p`, whose scores of the columns from `first` on become their slopes; the slope of its own right
    /// score.
    fn row(&self, p: usize, first: usize, row: &mut [f32]) -> (f32, f32) {
        vectorised!({
            let target = self.targets.map(|targets| targets[p] as usize);
            if !self.items.column_shift.is_empty() {
                row.iter_mut().zip(&self.items.column_shift[first..]).for_each(|(s, q)| *s -= q);
            }
            let right = match target {
                Some(target) => std::mem::replace(&mut row[target], f32::NEG_INFINITY),
                None => {
                    let at = p * self.d..(p + 1) * self.d;
                    let shift = self.items.right_shift.get(p).copied().unwrap_or(0.0);
                    chunks::dot(&self.x[at.clone()], &self.right[at]) - shift
                }
            };
            if let Some(own) = self.items.right.get(p) {
                let columns = &self.items.columns[first..];
                row.iter_mut()
                    .zip(columns)
                    .filter(|(_, c)| *c == own)
                    .for_each(|(s, _)| *s = f32::NEG_INFINITY);
            }
            let (loss, slope) = match self.loss {
                ChoiceLoss::Softmax => softmax(right, row),
                ChoiceLoss::Binary { beta } => binary(right, row, (beta, target.is_some())),
                ChoiceLoss::BprMax { penalty } => bpr_max(right, row, penalty),
                ChoiceLoss::Top1Max => top1_max(right, row),
            };
            match target {
                Some(target) => {
                    row[target] = slope;
                    (loss, 0.0)
                }
                None => (loss, slope),
            }
        })
    }

    /// Own right scores: adds end · right to the states' slopes, writes end · state to those of the right vectors.
    fn own_slopes(&self, rows: Range<usize>, ends: &[f32], (of_states, of_right): (&mut [f32], &mut [f32])) {
        let d = self.d;
        for ((p, end), (of_state, of_right)) in
            rows.zip(ends).zip(of_states.chunks_exact_mut(d).zip(of_right.chunks_exact_mut(d)))
        {
            chunks::add_scaled(of_state, *end, &self.right[p * d..][..d]);
            of_right.iter_mut().zip(&self.x[p * d..][..d]).for_each(|(o, x)| *o = end * x);
        }
    }
}

/// `out = a b` on this thread; the smallest without the overhead of a product of matrices.
fn small_product(out: &mut [f32], a: Mat<'_>, b: Mat<'_>) {
    let (n, k) = (b.cols, a.cols);
    if a.rows * n * k > 1024 {
        return block_product(out, n, a, b, Onto::Write);
    }
    let at = |m: &Mat<'_>, i: usize, j: usize| m.data[i * m.row_step + j * m.col_step];
    for (i, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
        if b.row_step == 1 && a.col_step == 1 {
            let row = &a.data[i * a.row_step..][..k];
            out.iter_mut()
                .enumerate()
                .for_each(|(j, o)| *o = chunks::dot(row, &b.data[j * b.col_step..][..k]));
        } else {
            out.fill(0.0);
            for l in 0..k {
                let (w, row) = (at(&a, i, l), l * b.row_step);
                out.iter_mut().enumerate().for_each(|(j, o)| *o += w * b.data[row + j * b.col_step]);
            }
        }
    }
}

/// Negatives' scores → slopes; loss and the right score's slope.
#[inline(always)]
fn softmax(right: f32, row: &mut [f32]) -> (f32, f32) {
    let most = largest(row).max(right);
    let hit = (right - most).exp();
    let sum = exp_all(row, 1.0, most) + hit;
    let scale = 1.0 / sum;
    row.iter_mut().for_each(|s| *s *= scale);
    (most + sum.ln() - right, hit * scale - 1.0)
}

#[inline(always)]
fn binary(right: f32, row: &mut [f32], (beta, among): (f32, bool)) -> (f32, f32) {
    let share = 1.0 / (row.len() + usize::from(!among)) as f32;
    let mut sum = 0.0f32;
    for part in row.chunks_mut(64 * LANES) {
        // Σ log(1 + e^s) = Σ max(s, 0) + log Π (1 + e^−|s|): one logarithm for up to 64 factors, each at most 2.
        let (mut above, mut product) = ([0.0f32; LANES], [1.0f32; LANES]);
        let (blocks, rest) = part.as_chunks_mut::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                let e = fast_exp(-block[i].abs());
                above[i] += block[i].max(0.0);
                product[i] *= 1.0 + e;
                block[i] = share * if block[i] < 0.0 { e } else { 1.0 } / (1.0 + e);
            }
        }
        sum += above.iter().sum::<f32>() + product.iter().map(|p| p.ln()).sum::<f32>();
        for s in rest {
            sum += softplus(*s);
            *s = share * fast_sigmoid(*s);
        }
    }
    let loss = beta * softplus(-right) + sum;
    (share * loss, -share * beta * fast_sigmoid(-right))
}

/// log(1 + e^x) = max(x, 0) + log(1 + e^−|x|).
#[inline(always)]
fn softplus(x: f32) -> f32 {
    x.max(0.0) + fast_exp(-x.abs()).ln_1p()
}

#[inline(always)]
fn bpr_max(right: f32, row: &mut [f32], penalty: f32) -> (f32, f32) {
    let most = largest(row);
    if most == f32::NEG_INFINITY {
        row.fill(0.0);
        return (0.0, 0.0);
    }
    // Weights, and what they weigh.
    let sum: f32 = row.iter().map(|s| fast_exp(s - most)).sum();
    let weight = |s: f32| if s == f32::NEG_INFINITY { 0.0 } else { fast_exp(s - most) / sum };
    let (mut won, mut squares, mut of_right) = (0.0f32, 0.0f32, 0.0f32);
    for &s in row.iter().filter(|s| **s > f32::NEG_INFINITY) {
        let (w, p) = (weight(s), fast_sigmoid(right - s));
        won += w * p;
        squares += w * s * s;
        of_right += w * p * (1.0 - p);
    }
    let won = won.max(f32::MIN_POSITIVE);
    for s in row.iter_mut() {
        if *s == f32::NEG_INFINITY {
            *s = 0.0;
            continue;
        }
        let (w, p) = (weight(*s), fast_sigmoid(right - *s));
        let by_rank = -w * (p - won - p * (1.0 - p)) / won;
        *s = by_rank + penalty * w * (2.0 * *s + *s * *s - squares);
    }
    (penalty * squares - won.ln(), -of_right / won)
}

#[inline(always)]
fn top1_max(right: f32, row: &mut [f32]) -> (f32, f32) {
    let most = largest(row);
    if most == f32::NEG_INFINITY {
        row.fill(0.0);
        return (0.0, 0.0);
    }
    let sum: f32 = row.iter().map(|s| fast_exp(s - most)).sum();
    let weight = |s: f32| if s == f32::NEG_INFINITY { 0.0 } else { fast_exp(s - most) / sum };
    // What a negative costs, and its slopes by the difference and by the square.
    let cost = |s: f32| {
        let (above, square) = (fast_sigmoid(s - right), fast_sigmoid(s * s));
        (above + square, above * (1.0 - above), square * (1.0 - square))
    };
    let (mut loss, mut of_right) = (0.0f32, 0.0f32);
    for &s in row.iter().filter(|s| **s > f32::NEG_INFINITY) {
        let (w, (cost, by_difference, _)) = (weight(s), cost(s));
        loss += w * cost;
        of_right -= w * by_difference;
    }
    for s in row.iter_mut() {
        if *s == f32::NEG_INFINITY {
            *s = 0.0;
            continue;
        }
        let (w, (cost, by_difference, by_square)) = (weight(*s), cost(*s));
        *s = w * (cost - loss + by_difference + 2.0 * *s * by_square);
    }
    (loss, of_right)
}
