//! SimpleX's loss: right items near, others no nearer than a margin.

use super::shares;
use crate::buffer::Buffer;
use crate::chunks;
use crate::ops::Transpose;
use crate::tensor::{Shape, Tensor, own};

/// What is known about the rows and columns of a cosine contrastive loss.
#[derive(Debug, Clone, Copy)]
pub struct CosineContrastive<'a> {
    /// m: a negative with a smaller cosine costs nothing; in [−1, 1).
    pub margin: f32,
    /// w: what all negatives of a row count together beside its positive; at least 0.
    pub negative_weight: f32,
    /// `[C]`: item of each column; a column with the item of a row's positive is no negative for that row. Empty for no mask.
    pub items: &'a [u32],
    /// `[R]` row weights, or empty for all equal.
    pub weights: &'a [f32],
}

/// Mean over rows of (1 − cos(u_r, v_r)) + w/|N| Σ_{c ∈ N} max(0, cos(u_r, v_c) − m) (Mao et al., SimpleX, CIKM 2021, eq. 1).
///
/// `users` `[R, D]`, `items` `[C, D]`, both of unit length, C ≥ R: the R positives in row order, then the negatives N that all rows share; where
/// there are none, the other rows' positives are a row's negatives.
///
/// # Panics
/// If the sizes do not fit.
pub fn cosine_contrastive(users: &Tensor, items: &Tensor, known: &CosineContrastive<'_>) -> Tensor {
    let (rows, columns) = (users.rows(), items.rows());
    assert!(columns >= rows, "{rows} rows need as many positives, but there are {columns} columns");
    let fits = |len: usize, wanted: usize| len == 0 || len == wanted;
    assert!(
        fits(known.items.len(), columns) && fits(known.weights.len(), rows),
        "items or weights do not fit"
    );
    let cosines = users.matmul(items, Transpose::Right); // [R, C]
    let share = shares(known.weights, rows);
    let mut slopes = Buffer::zeros(rows * columns);
    let mut losses = Buffer::any(rows);
    let shared = if columns > rows { rows..columns } else { 0..columns };
    let data = cosines.data();
    chunks::rows2((&mut slopes, columns), (&mut losses, 1), |from, slopes, losses| {
        for (i, (slopes, loss)) in slopes.chunks_exact_mut(columns).zip(losses).enumerate() {
            let r = from + i;
            let row = &data[r * columns..][..columns];
            let own = known.items.get(r);
            let is_other = |c: &usize| *c != r && (own.is_none() || known.items.get(*c) != own);
            let count = shared.clone().filter(is_other).count().max(1) as f32;
            let weight = share[r];
            let each = known.negative_weight / count;
            let mut sum = 0.0;
            for c in shared.clone().filter(is_other) {
                let over = row[c] - known.margin;
                if over > 0.0 {
                    sum += over;
                    slopes[c] = weight * each;
                }
            }
            slopes[r] -= weight;
            *loss = weight * (1.0 - row[r] + each * sum);
        }
    });
    let value = chunks::total(&losses) as f32;
    let node = cosines.node;
    cosines.output(Shape::new(&[1]), own(vec![value].into()), node.is_some(), move |g, grads| {
        let mut slopes = slopes;
        chunks::rows(&mut slopes, 1, |_, part| part.iter_mut().for_each(|s| *s *= g[0]));
        grads.add(node, slopes);
    })
}
