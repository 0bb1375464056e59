//! The loss of two towers: each request's item against the other items of the batch.

use super::{Against, ChoiceItems, ChoiceLoss, choice, softmax_cross_entropy};
use crate::chunks;
use crate::ops::Transpose;
use crate::tensor::Tensor;

/// What is known about the columns and rows of an in-batch softmax.
#[derive(Debug, Clone, Copy)]
pub struct InBatch<'a> {
    /// Scalar products are divided by it; above 0.
    pub temperature: f32,
    /// `[C]`: log of each column's probability of being sampled, taken off its logits; empty for no correction.
    pub log_q: &'a [f32],
    /// `[C]`: item of each column; a column with the item of a row's positive is no negative for that row. Empty for no mask.
    pub items: &'a [u32],
    /// `[R]` row weights, or empty for all equal.
    pub weights: &'a [f32],
    /// Whether the other rows' positives are negatives of a row; if not, only the columns after the R positives are.
    pub mixed: bool,
    /// h: the last R · h columns are negatives of one row each, h after h in the order of the rows.
    pub own: usize,
}

impl Default for InBatch<'_> {
    fn default() -> Self {
        Self { temperature: 1.0, log_q: &[], items: &[], weights: &[], mixed: true, own: 0 }
    }
}

/// Softmax cross-entropy of ⟨u_r, v_c⟩ / τ − log q_c over columns c, column r being right for row r (Yi et al. 2019,
/// sampling-bias-corrected neural modelling, eq. 4–6); accidental hits are masked.
///
/// `users` `[R, D]`; `items` `[C, D]`, C ≥ R: the R positives in row order, then any further negatives, which are the only ones unless `mixed`, the last of them each row's `own`.
///
/// # Panics
/// If the sizes do not fit, or the temperature is not above 0.
pub fn in_batch_softmax(users: &Tensor, items: &Tensor, known: &InBatch<'_>) -> Tensor {
    let rows = users.rows();
    let targets: Vec<u32> = (0..rows as u32).collect();
    if known.weights.is_empty() && known.own == 0 {
        check(users, items, known);
        let right = known.items.get(..rows).unwrap_or(&[]);
        if !known.mixed {
            return against_drawn(users, items, known);
        }
        let of = ChoiceItems { right, columns: known.items, column_shift: known.log_q, right_shift: &[] };
        let (states, against) =
            (users.scale(1.0 / known.temperature), Against::Columns { targets: &targets });
        return choice(&states, items, against, of, ChoiceLoss::Softmax);
    }
    softmax_cross_entropy(&in_batch_logits(users, items, known), &targets, known.weights)
}

/// Rows of equal weight against the columns after the positives: R · R scores fewer.
fn against_drawn(users: &Tensor, items: &Tensor, known: &InBatch<'_>) -> Tensor {
    let (rows, columns) = (users.rows(), items.rows());
    let (own, drawn) = (items.slice_rows(0, rows), items.slice_rows(rows, columns - rows));
    let (right_shift, column_shift) = known.log_q.split_at(rows.min(known.log_q.len()));
    let of = ChoiceItems {
        right: known.items.get(..rows).unwrap_or(&[]),
        columns: known.items.get(rows..).unwrap_or(&[]),
        column_shift,
        right_shift,
    };
    let states = users.scale(1.0 / known.temperature);
    choice(&states, &drawn, Against::Shared { own: &own }, of, ChoiceLoss::Softmax)
}

/// `[R, C]`: ⟨u_r, v_c⟩ / τ − log q_c, what is no negative at −∞.
pub(crate) fn in_batch_logits(users: &Tensor, items: &Tensor, known: &InBatch<'_>) -> Tensor {
    check(users, items, known);
    let logits = users.scale(1.0 / known.temperature).matmul(items, Transpose::Right);
    if known.log_q.is_empty() && known.items.is_empty() && known.mixed && known.own == 0 {
        return logits;
    }
    let rows = users.rows();
    logits.shift(move |r, row| correct((r, rows), row, known))
}

fn check(users: &Tensor, items: &Tensor, known: &InBatch<'_>) {
    let (rows, columns) = (users.rows(), items.rows());
    let least = rows * (1 + known.own);
    assert!(columns >= least, "{rows} rows need {least} columns of their own, but there are {columns}");
    assert!(known.temperature > 0.0, "temperature {} is not above 0", known.temperature);
    assert!(
        known.log_q.is_empty() || known.log_q.len() == columns,
        "log-probabilities for {columns} columns"
    );
    assert!(known.items.is_empty() || known.items.len() == columns, "item numbers for {columns} columns");
}

/// Takes off log q, and takes out what is no negative.
fn correct((r, rows): (usize, usize), row: &mut [f32], known: &InBatch<'_>) {
    row.iter_mut().zip(known.log_q).for_each(|(v, q)| *v -= q);
    if !known.mixed {
        row[..rows].iter_mut().enumerate().filter(|(c, _)| *c != r).for_each(|(_, v)| *v = f32::NEG_INFINITY);
    }
    if known.own > 0 {
        let (first, others) = (row.len() - rows * known.own, f32::NEG_INFINITY);
        let mine = r * known.own..(r + 1) * known.own;
        row[first..].iter_mut().enumerate().filter(|(c, _)| !mine.contains(c)).for_each(|(_, v)| *v = others);
    }
    let Some(own) = known.items.get(r) else { return };
    for (c, (v, item)) in row.iter_mut().zip(known.items).enumerate() {
        if item == own && c != r {
            *v = f32::NEG_INFINITY;
        }
    }
}

impl Tensor {
    /// Changes rows by constants (or to −∞): gradients pass unchanged. A gradient of zero must flow to what becomes −∞.
    pub(crate) fn shift(&self, f: impl Fn(usize, &mut [f32]) + Sync) -> Tensor {
        let width = self.width();
        let mut out = crate::buffer::Buffer::copy_of(self.data());
        chunks::rows(&mut out, width, |from, rows| {
            rows.chunks_exact_mut(width).enumerate().for_each(|(i, row)| f(from + i, row));
        });
        let node = self.node;
        self.output(self.shape, crate::tensor::own(out), node.is_some(), move |g, grads| grads.add(node, g))
    }
}
