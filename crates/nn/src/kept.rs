//! A weight as the parameters keep it: its values, and what products have copied of them for reuse.

use crate::fixed::FixedPanels;
use crate::product::Mat;
use crate::tiles::Panels;
use std::ops::{Deref, Range};
use std::slice::from_ref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The next stamp.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn stamp() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Values of a weight. Panels that products made of them live as long as the values do not change, so that requests to a model
/// that no longer learns share them.
#[derive(Debug)]
pub(crate) struct Kept {
    values: Vec<f32>,
    made: Mutex<Made>,
    stamp: u64,
}

/// What was made of a weight's values.
#[derive(Debug, Default)]
struct Made {
    panels: Vec<Chosen<Panels>>,
    fixed: Vec<Chosen<FixedPanels>>,
}

/// Panels of the transpose of a part of a weight `[O, I]`.
#[derive(Debug)]
struct Chosen<P> {
    outputs: usize,
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
    panels: Arc<P>,
}

/// Some rows and columns of a weight `[O, I]`, side by side; all of them where there is no range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    pub(crate) rows: &'a [Range<usize>],
    pub(crate) columns: &'a [Range<usize>],
}

impl Choice<'_> {
    /// Whether it is all of the weight.
    fn is_all(&self) -> bool {
        self.rows.is_empty() && self.columns.is_empty()
    }

    /// Sizes of the part of a weight `[outputs, inputs]`.
    pub(crate) fn sizes(&self, outputs: usize, inputs: usize) -> (usize, usize) {
        let of = |ranges: &[Range<usize>], all: usize| match ranges {
            [] => all,
            ranges => ranges.iter().map(ExactSizeIterator::len).sum(),
        };
        (of(self.rows, outputs), of(self.columns, inputs))
    }

    /// What `then` makes of the part of a weight `[outputs, ..]`.
    pub(crate) fn part<T>(&self, values: &[f32], outputs: usize, then: impl FnOnce(Mat<'_>) -> T) -> T {
        let width = values.len() / outputs;
        if self.is_all() {
            return then(Mat::new(values, outputs, width));
        }
        let (o, i) = self.sizes(outputs, width);
        let chosen = match self.rows {
            [] => side_by_side(values, width, self.columns),
            rows => {
                let rows = rows.iter().map(|r| &values[r.start * width..r.end * width]);
                let all = 0..width;
                let columns = if self.columns.is_empty() { from_ref(&all) } else { self.columns };
                rows.flat_map(|rows| side_by_side(rows, width, columns)).collect()
            }
        };
        then(Mat::new(&chosen, o, i))
    }
}

impl Kept {
    /// The values, to change: whatever was made of them is dropped.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        *self.made.get_mut().unwrap_or_else(PoisonError::into_inner) = Made::default();
        self.stamp = stamp();
        &mut self.values
    }

    /// A number that no other values of this process have: as long as it is the same, so are they.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Panels of the transpose of a part of a weight of `outputs` rows; made when asked for the first time, on this thread:
    /// another one may wait for them.
    pub(crate) fn panels(&self, outputs: usize, choice: Choice<'_>) -> Arc<Panels> {
        let made = &mut self.made.lock().unwrap_or_else(PoisonError::into_inner).panels;
        self.find(made, (outputs, choice), |part| Panels::of(part.t()))
    }

    /// As [`Kept::panels`], in fixed point.
    pub(crate) fn fixed(&self, outputs: usize, choice: Choice<'_>) -> Arc<FixedPanels> {
        let made = &mut self.made.lock().unwrap_or_else(PoisonError::into_inner).fixed;
        self.find(made, (outputs, choice), FixedPanels::of_transpose)
    }

    fn find<P>(
        &self,
        made: &mut Vec<Chosen<P>>,
        (outputs, choice): (usize, Choice<'_>),
        make: impl FnOnce(Mat<'_>) -> P,
    ) -> Arc<P> {
        let same =
            |c: &&Chosen<P>| (c.outputs, Choice { rows: &c.rows, columns: &c.columns }) == (outputs, choice);
        if let Some(found) = made.iter().find(same) {
            return found.panels.clone();
        }
        let panels = Arc::new(choice.part(&self.values, outputs, make));
        let (rows, columns) = (choice.rows.to_vec(), choice.columns.to_vec());
        made.push(Chosen { outputs, rows, columns, panels: panels.clone() });
        panels
    }
}

/// The columns of rows of `width`, side by side.
fn side_by_side(rows: &[f32], width: usize, columns: &[Range<usize>]) -> Vec<f32> {
    let wanted: usize = columns.iter().map(ExactSizeIterator::len).sum();
    let mut out = Vec::with_capacity(rows.len() / width * wanted);
    for row in rows.chunks_exact(width) {
        columns.iter().for_each(|c| out.extend_from_slice(&row[c.clone()]));
    }
    out
}

impl From<Vec<f32>> for Kept {
    fn from(values: Vec<f32>) -> Self {
        Self { values, made: Mutex::default(), stamp: stamp() }
    }
}

/// A copy is made to be changed: it begins without panels.
impl Clone for Kept {
    fn clone(&self) -> Self {
        self.values.clone().into()
    }
}

impl Deref for Kept {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Init, Mode, Params, Pass};

    #[test]
    fn changed_weights_are_packed_anew() {
        let (n, i, o) = (64, 64, 48);
        let mut params = Params::new(1);
        let w = params.dense("w", &[o, i], Init::Normal(1.0)).unwrap();
        let x: Vec<f32> = (0..n * i).map(|v| ((v * 7) % 11) as f32 - 5.0).collect();
        let infer = |params: &Params| {
            let pass = Pass::new(params, Mode::Infer, 0);
            pass.constant(&[n, i], x.clone()).linear(&pass.param(w), None).to_vec()
        };
        let copy = params.clone();
        let before = infer(&params);
        assert_eq!(before, infer(&params));
        params.values_mut(w).iter_mut().for_each(|v| *v *= 2.0);
        let doubled: Vec<f32> = before.iter().map(|v| 2.0 * v).collect();
        assert_eq!(infer(&params), doubled);
        assert_eq!(infer(&copy), before);
    }

    #[test]
    fn a_stamp_lasts_as_long_as_the_values() {
        let mut params = Params::new(1);
        let w = params.dense("w", &[2], Init::Zeros).unwrap();
        let before = params.stamp(w);
        assert_eq!(Pass::new(&params, Mode::Infer, 0).stamp(w), before);
        params.values_mut(w)[0] = 1.0;
        assert_ne!(params.stamp(w), before);
    }

    #[test]
    fn columns_are_put_side_by_side_in_order() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(side_by_side(&rows, 4, &[0..1, 2..4]), [1.0, 3.0, 4.0, 5.0, 7.0, 8.0]);
    }

    #[test]
    fn panels_are_made_once_per_choice_of_columns() {
        let kept: Kept = (0..48 * 64).map(|v| v as f32).collect::<Vec<_>>().into();
        let part = Choice { columns: &[0..20, 30..64], ..Choice::default() };
        let (all, some) = (kept.panels(48, Choice::default()), kept.panels(48, part));
        assert!(Arc::ptr_eq(&all, &kept.panels(48, Choice::default())) && !Arc::ptr_eq(&all, &some));
        assert!(Arc::ptr_eq(&some, &kept.panels(48, part)));
        assert_eq!(kept.clone().made.lock().unwrap().panels.len(), 0);
    }

    #[test]
    fn a_part_is_its_rows_and_columns_side_by_side() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let part = |rows: &[Range<usize>], columns: &[Range<usize>]| {
            Choice { rows, columns }.part(&values, 3, |m| (m.rows, m.cols, m.data.to_vec()))
        };
        assert_eq!(part(&[0..1, 2..3], &[]), (2, 4, vec![0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0]));
        assert_eq!(part(from_ref(&(1..2)), &[0..1, 3..4]), (1, 2, vec![4.0, 7.0]));
        assert_eq!(part(&[], &[]), (3, 4, values.clone()));
    }
}
