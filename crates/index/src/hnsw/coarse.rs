//! int8 copies of vectors, for walks to compare. They are taken from a centre, which changes all inner products with
//! a query alike, so that the whole numbers tell how vectors differ and not what they have in common.
#![allow(unsafe_code)]

use super::search::again;
use crate::distance::dot;
use crate::error::Result;
use crate::rows::{Query, Rows, Storage};
use crate::topk::Top;
use rayon::prelude::*;

/// What vectors are measured from, and in which units, before they are written as int8.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    /// `[D]`.
    pub(super) centre: Vec<f32>,
    /// `[D]`, above 0 and at most 1: the unit of each number, the largest being 1.
    pub(super) units: Vec<f32>,
}

/// The smallest unit: what a query has to say in smaller ones is lost in its own rounding.
const SMALLEST: f64 = 1.0 / 4096.0;

/// Vectors whose nearest are looked for in a trial.
const TRIALS: usize = 32;

/// Nearest wanted in a trial.
const WANTED: usize = 10;

/// The share of the nearest that a trial must find.
const ENOUGH: f64 = 0.99;

/// Rows copied at once in a trial.
const BLOCK: usize = 1024;

impl Frame {
    /// Vectors as they are.
    pub(super) fn plain(dim: usize) -> Self {
        Self { centre: vec![0.0; dim], units: vec![1.0; dim] }
    }

    /// A frame in which int8 is precise enough for these vectors, `[rows, D]`: around their mean, and if that is not
    /// enough, with the deviation of each number as its unit. `None` when neither is.
    pub(super) fn fit(dim: usize, vectors: &[f32]) -> Option<Self> {
        let rows = (vectors.len() / dim).max(1) as f64;
        let mut centre = vec![0.0; dim];
        for vector in vectors.chunks_exact(dim) {
            centre.iter_mut().zip(vector).for_each(|(sum, &x)| *sum += f64::from(x) / rows);
        }
        let around = Self { centre: centre.iter().map(|&x| x as f32).collect(), ..Self::plain(dim) };
        if around.found(vectors) >= ENOUGH {
            return Some(around);
        }
        let mut spread = vec![0.0; dim];
        for vector in vectors.chunks_exact(dim) {
            let off = vector.iter().zip(&centre).map(|(&x, c)| (f64::from(x) - c).powi(2) / rows);
            spread.iter_mut().zip(off).for_each(|(sum, off)| *sum += off);
        }
        let widest = spread.iter().copied().fold(0.0, f64::max).sqrt().max(f64::MIN_POSITIVE);
        let units = spread.iter().map(|x| (x.sqrt() / widest).clamp(SMALLEST, 1.0) as f32).collect();
        Some(Self { units, ..around }).filter(|scaled| scaled.found(vectors) >= ENOUGH)
    }

    /// The share of the exactly nearest of some of these vectors, in [0, 1], that is among as many of the nearest by
    /// copies as a search scores again.
    fn found(&self, vectors: &[f32]) -> f64 {
        let dim = self.centre.len();
        let rows = vectors.len() / dim;
        let Ok(copies) = Coarse::zeroed(self.clone(), BLOCK) else { return 0.0 };
        let vector = |row: usize| &vectors[row * dim..][..dim];
        let trials = TRIALS.min(rows);
        let (exact, coarse) = (Top::new(WANTED), Top::new(again(WANTED)));
        let mut tops: Vec<(usize, Query, Top, Top)> = (0..trials)
            .map(|trial| trial * rows / trials)
            .map(|row| (row, copies.query(vector(row)), exact.clone(), coarse.clone()))
            .collect();
        for start in (0..rows).step_by(BLOCK) {
            let nodes: Vec<u32> = (0..BLOCK.min(rows - start) as u32).collect();
            // SAFETY: nobody else has these rows.
            nodes.iter().for_each(|&node| unsafe { copies.set(node, vector(start + node as usize)) });
            tops.par_iter_mut().for_each(|(asked, query, exact, coarse)| {
                let mut scores = vec![0.0; nodes.len()];
                copies.rows.scores(query, &nodes, &mut scores);
                for (row, score) in (start..).zip(scores).filter(|&(row, _)| row != *asked) {
                    exact.offer(row as u32, dot(vector(*asked), vector(row)));
                    coarse.offer(row as u32, score);
                }
            });
        }
        let (mut wanted, mut found) = (0, 0);
        for (asked, _, exact, coarse) in tops {
            let exact = exact.finish();
            let Some(worst) = exact.last() else { continue };
            // By score, as vectors may be equal.
            let score = |row: u32| dot(vector(asked), vector(row as usize));
            let among = coarse.finish().into_iter().filter(|hit| score(hit.item) >= worst.score).count();
            (wanted, found) = (wanted + exact.len(), found + among.min(exact.len()));
        }
        if wanted == 0 { 1.0 } else { found as f64 / wanted as f64 }
    }
}

/// Copies by node.
#[derive(Debug)]
pub(super) struct Coarse {
    pub(super) frame: Frame,
    pub(super) rows: Rows,
}

impl Coarse {
    pub(super) fn zeroed(frame: Frame, nodes: usize) -> Result<Self> {
        let rows = Rows::zeroed(Storage::Int8, frame.centre.len(), nodes)?;
        Ok(Self { frame, rows })
    }

    /// Writes the copy of a vector.
    ///
    /// # Safety
    /// As [`Rows::set`].
    pub(super) unsafe fn set(&self, node: u32, vector: &[f32]) {
        let Frame { centre, units } = &self.frame;
        let off = vector.iter().zip(centre).zip(units).map(|((x, centre), unit)| (x - centre) / unit);
        let off: Vec<f32> = off.map(|x| x.clamp(f32::MIN, f32::MAX)).collect();
        // SAFETY: the caller's promise.
        unsafe { self.rows.set(node, &off) };
    }

    /// A vector to compare copies with: by its inner product with them, less that with the centre.
    pub(super) fn query(&self, vector: &[f32]) -> Query {
        let scaled: Vec<f32> = vector.iter().zip(&self.frame.units).map(|(x, unit)| x * unit).collect();
        self.rows.query(&scaled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Shape, synthetic};

    const DIM: usize = 16;

    /// Clustered vectors, each number changed as `change(at, x)` says.
    fn vectors(change: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let plain = synthetic(Shape::Clustered, 2000, DIM, 1);
        plain.iter().enumerate().map(|(at, &x)| change(at % DIM, x)).collect()
    }

    #[test]
    fn copies_are_taken_around_the_mean_in_units_where_it_takes_them_and_not_at_all_where_neither_does() {
        let plain = Frame::plain(DIM);
        assert!(plain.found(&vectors(|_, x| x)) >= ENOUGH);
        let mut far = vectors(|_, x| 30.0 + x);
        far.chunks_mut(DIM).for_each(|far| {
            let length = dot(far, far).sqrt();
            far.iter_mut().for_each(|x| *x /= length);
        });
        let around = Frame::fit(DIM, &far).unwrap();
        assert!(plain.found(&far) < 0.9 && around.found(&far) >= ENOUGH);
        assert!(around.centre.iter().all(|x| (x - 0.25).abs() < 0.01) && around.units == plain.units);
        // Half of the numbers differ little, and what little there is weighs much.
        let narrow = vectors(|at, x| if at < 8 { 100.0 + 0.01 * x } else { x });
        let scaled = Frame::fit(DIM, &narrow).unwrap();
        assert!(Frame { units: plain.units.clone(), ..scaled.clone() }.found(&narrow) < ENOUGH);
        assert!(scaled.units[..8].iter().all(|unit| (0.008..0.012).contains(unit)), "{:?}", scaled.units);
        // One number is the same for half of the vectors and hides the others by its size.
        let hidden = vectors(|at, x| if at == 0 { 1000.0 * x.signum() } else { x });
        assert_eq!(Frame::fit(DIM, &hidden), None);
    }

    #[test]
    fn few_and_equal_vectors_have_a_frame() {
        for rows in [0, 1, 5, 3000] {
            assert!(Frame::fit(2, &[0.5, f32::MAX].repeat(rows)).is_some(), "{rows}");
        }
    }
}
