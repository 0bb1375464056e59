//! Rows that belong together: the candidates of one request.

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor, own};
use rayon::prelude::*;

/// Which rows belong together.
///
/// ```
/// use millstream_nn::loss::Groups;
/// let groups = Groups::by_request(&[7, 3, 7]);
/// assert_eq!(groups.iter().collect::<Vec<_>>(), [&[1][..], &[0, 2]]);
/// assert_eq!(Groups::by_offsets(&[0, 2, 3])?, Groups::by_request(&[0, 0, 1]));
/// # Ok::<(), millstream_nn::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    offsets: Vec<u32>,
    rows: Vec<u32>,
}

impl Groups {
    /// Rows with the same number belong together (a batch's `candidate_request`, or any other number per row).
    pub fn by_request(requests: &[u32]) -> Self {
        let mut rows: Vec<u32> = (0..requests.len() as u32).collect();
        if !requests.is_sorted() {
            rows.sort_by_key(|row| requests[*row as usize]);
        }
        let mut offsets = vec![0];
        for group in rows.chunk_by(|a, b| requests[*a as usize] == requests[*b as usize]) {
            offsets.push(offsets[offsets.len() - 1] + group.len() as u32);
        }
        Self { offsets, rows }
    }

    /// Rows `offsets[g] .. offsets[g + 1]` are group g.
    ///
    /// # Errors
    /// Offsets that do not begin with 0 or that fall.
    pub fn by_offsets(offsets: &[u32]) -> Result<Self> {
        if offsets.first().is_some_and(|first| *first != 0) || !offsets.is_sorted() {
            return Err(Error::Batch("group offsets must begin with 0 and never fall".into()));
        }
        let rows = (0..offsets.last().copied().unwrap_or(0)).collect();
        Ok(Self { offsets: if offsets.is_empty() { vec![0] } else { offsets.to_vec() }, rows })
    }

    /// Number of rows in all groups.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The row numbers of each group.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.offsets.windows(2).map(|w| &self.rows[w[0] as usize..w[1] as usize])
    }
}

/// The rows of one group that count, for one task.
pub(super) struct Group<'a> {
    pub(super) scores: &'a [f32],
    pub(super) labels: &'a [f32],
}

impl Group<'_> {
    /// Places from the highest to the lowest of `by`; equal ones keep their order.
    pub(super) fn order(&self, by: &[f32]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.scores.len() as u32).collect();
        order.sort_by(|a, b| by[*b as usize].total_cmp(&by[*a as usize]));
        order
    }
}

/// What a group adds: its loss, and how much it counts in the mean.
pub(super) struct Part {
    pub(super) loss: f64,
    pub(super) count: f64,
}

/// Rows per task.
const ROWS: usize = 512;

/// Σ_g w_g l_g / Σ_g w_g c_g, added up over the T columns of `logits`; `f(group, slopes)` gives l_g and c_g, and puts
/// ∂l_g/∂score into `slopes`, which come as zeros. w_g is the mean weight of the group's rows, those of weight zero being
/// left out of their group. 0 if nothing counts.
pub(super) fn in_groups(
    logits: &Tensor,
    labels: &[f32],
    weights: &[f32],
    groups: &Groups,
    f: impl Fn(&Group<'_>, &mut [f32]) -> Part + Sync,
) -> Tensor {
    let (n, tasks) = (logits.rows(), logits.width());
    assert_eq!(labels.len(), n * tasks, "{} labels for logits {:?}", labels.len(), logits.shape);
    assert!(weights.is_empty() || weights.len() == n, "{} weights for {n} rows", weights.len());
    assert_eq!(groups.rows(), n, "groups of {} rows for logits {:?}", groups.rows(), logits.shape);
    let kept = Kept::new(groups, weights);
    let (mut slopes, mut total) = (Buffer::zeros(n * tasks), 0.0);
    for task in 0..tasks {
        let of = |values: &[f32]| kept.rows.iter().map(|r| values[*r as usize * tasks + task]).collect();
        let (scores, labels): (Vec<f32>, Vec<f32>) = (of(logits.data()), of(labels));
        let (own, part) = kept.run(&scores, &labels, &f);
        let scale = if part.count > 0.0 { 1.0 / part.count } else { 0.0 };
        total += part.loss * scale;
        let placed = kept.rows.iter().zip(&own[..]);
        placed.for_each(|(row, v)| slopes[*row as usize * tasks + task] = *v * scale as f32);
    }
    let node = logits.node;
    logits.output(Shape::new(&[1]), own(vec![total as f32].into()), node.is_some(), move |g, grads| {
        slopes.iter_mut().for_each(|v| *v *= g[0]);
        grads.add(node, slopes);
    })
}

/// Groups without the rows of weight zero.
struct Kept {
    rows: Vec<u32>,
    /// Length and mean weight of each group that is left.
    groups: Vec<(usize, f64)>,
}

impl Kept {
    fn new(groups: &Groups, weights: &[f32]) -> Self {
        let weight = |row: &u32| weights.get(*row as usize).copied().unwrap_or(1.0);
        let mut kept = Self { rows: Vec::with_capacity(groups.rows()), groups: Vec::new() };
        for group in groups.iter() {
            let before = kept.rows.len();
            kept.rows.extend(group.iter().filter(|row| weight(row) != 0.0));
            let rows = &kept.rows[before..];
            if !rows.is_empty() {
                let sum: f64 = rows.iter().map(|r| f64::from(weight(r))).sum();
                kept.groups.push((rows.len(), sum / rows.len() as f64));
            }
        }
        kept
    }

    /// Slopes in the order of `rows`, and the sum of all parts; groups are worked on in parallel, a batch of groups
    /// to a task, and added up in order.
    fn run(
        &self,
        scores: &[f32],
        labels: &[f32],
        f: &(impl Fn(&Group<'_>, &mut [f32]) -> Part + Sync),
    ) -> (Buffer, Part) {
        let mut slopes = Buffer::zeros(scores.len());
        let mut tasks = Vec::new();
        let (mut rest, mut first, mut at) = (&mut slopes[..], 0, 0);
        while first < self.groups.len() {
            let (mut last, mut rows) = (first, 0);
            while last < self.groups.len() && rows < ROWS {
                rows += self.groups[last].0;
                last += 1;
            }
            let (own, after) = std::mem::take(&mut rest).split_at_mut(rows);
            tasks.push((&self.groups[first..last], at, own));
            (rest, first, at) = (after, last, at + rows);
        }
        let parts: Vec<Part> = tasks
            .into_par_iter()
            .map(|(groups, at, slopes)| batch(groups, (&scores[at..], &labels[at..]), slopes, f))
            .collect();
        let sum = |pick: fn(&Part) -> f64| parts.iter().map(pick).sum();
        let all = Part { loss: sum(|p| p.loss), count: sum(|p| p.count) };
        (slopes, all)
    }
}

/// Works through neighbouring groups.
fn batch(
    groups: &[(usize, f64)],
    (mut scores, mut labels): (&[f32], &[f32]),
    mut slopes: &mut [f32],
    f: &impl Fn(&Group<'_>, &mut [f32]) -> Part,
) -> Part {
    let mut sum = Part { loss: 0.0, count: 0.0 };
    for &(len, weight) in groups {
        let (own, after) = std::mem::take(&mut slopes).split_at_mut(len);
        let part = f(&Group { scores: &scores[..len], labels: &labels[..len] }, own);
        own.iter_mut().for_each(|v| *v *= weight as f32);
        sum.loss += weight * part.loss;
        sum.count += weight * part.count;
        (slopes, scores, labels) = (after, &scores[len..], &labels[len..]);
    }
    sum
}
