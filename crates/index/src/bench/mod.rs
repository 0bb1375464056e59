//! Recall against speed: vectors to try an index on, and a measured point of the trade.

mod read;
mod sample;

pub use read::read_vectors;
pub use sample::{Shape, synthetic};

use crate::error::Result;
use crate::hit::Hit;
use crate::hnsw::Hnsw;
use crate::index::Index;
use rayon::prelude::*;
use std::time::Instant;

/// What a search with some `ef` is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Nodes remembered.
    pub ef: usize,
    /// Mean share of the exact best that was found, in [0, 1].
    pub recall: f64,
    /// Queries per second.
    pub qps: f64,
}

/// Searches for the best `k` of each of `queries`, `[Q, D]`, on one thread or on rayon's, as often as `rounds`, and
/// compares with the `truth`. The speed is that of the fastest round.
///
/// # Errors
/// As [`Hnsw::set_ef_search`] and [`Index::search`].
pub fn point(
    index: &mut Hnsw,
    queries: &[f32],
    truth: &[Vec<Hit>],
    (k, ef, rounds): (usize, usize, usize),
    parallel: bool,
) -> Result<Point> {
    index.set_ef_search(ef)?;
    let (mut fastest, mut found) = (f64::INFINITY, Vec::new());
    for _ in 0..rounds.max(1) {
        let started = Instant::now();
        let queries_of = |query| index.search(query, k, &|_| true);
        found = match parallel {
            true => queries.par_chunks_exact(index.dim()).map(queries_of).collect::<Result<Vec<_>>>()?,
            false => queries.chunks_exact(index.dim()).map(queries_of).collect::<Result<Vec<_>>>()?,
        };
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    Ok(Point { ef, recall: recall(&found, truth), qps: found.len() as f64 / fastest })
}

/// The share of the true answers that were found, over all queries; 1 when there are none.
pub fn recall(found: &[Vec<Hit>], truth: &[Vec<Hit>]) -> f64 {
    let all: usize = truth.iter().map(Vec::len).sum();
    let of_query = |(found, truth): (&Vec<Hit>, &Vec<Hit>)| {
        truth.iter().filter(|wanted| found.iter().any(|hit| hit.item == wanted.item)).count()
    };
    let hits: usize = found.iter().zip(truth).map(of_query).sum();
    if all == 0 { 1.0 } else { hits as f64 / all as f64 }
}

/// The speed at a recall, between the two nearest of the measured points, which must be in order of `ef`: the
/// logarithm of the speed taken as linear in recall. `None` when the points do not span that recall.
pub fn speed_at(points: &[Point], recall: f64) -> Option<f64> {
    let pair = points.windows(2).find(|pair| pair[0].recall <= recall && recall <= pair[1].recall)?;
    let [low, high] = [pair[0], pair[1]];
    let share =
        if high.recall > low.recall { (recall - low.recall) / (high.recall - low.recall) } else { 1.0 };
    Some((low.qps.ln() + share * (high.qps.ln() - low.qps.ln())).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_counts_what_was_wanted_and_speed_lies_between_the_points() {
        let hits = |items: &[u32]| items.iter().map(|&item| Hit { item, score: 0.0 }).collect::<Vec<_>>();
        assert_eq!(recall(&[hits(&[1, 2, 9]), hits(&[])], &[hits(&[2, 1]), hits(&[3, 4])]), 0.5);
        assert_eq!(recall(&[vec![]], &[vec![]]), 1.0);
        let point = |recall, qps| Point { ef: 1, recall, qps };
        let points = [point(0.5, 400.0), point(0.9, 100.0), point(1.0, 25.0)];
        assert!((speed_at(&points, 0.9).unwrap() - 100.0).abs() < 1e-9);
        assert!((speed_at(&points, 0.95).unwrap() - 50.0).abs() < 1e-9);
        assert_eq!(speed_at(&points, 0.4), None);
    }
}
