//! Recall against speed: vectors to try an index on, and a measured point of the trade.

mod read;
mod sample;

pub use read::read_vectors;
pub use sample::{Shape, synthetic};

use crate::error::Result;
use crate::hit::Hit;
use crate::hnsw::Hnsw;
use crate::index::Index;
use millstream_schema::ItemRow;
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

/// What is asked for at each point.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// `[Q, D]`.
    pub queries: &'a [f32],
    /// The exact answers, among items that pass.
    pub truth: &'a [Vec<Hit>],
    /// Items wanted per query.
    pub k: usize,
    /// Items that pass.
    pub keep: &'a (dyn Fn(ItemRow) -> bool + Sync),
    /// How often all queries are asked: the speed is that of the fastest round.
    pub rounds: usize,
    /// On rayon's threads, or on this one.
    pub parallel: bool,
}

/// Searches with some `ef` and compares with the truth.
///
/// # Errors
/// As [`Hnsw::set_ef_search`] and [`Index::search`].
pub fn point(index: &mut Hnsw, ef: usize, asked: Asked<'_>) -> Result<Point> {
    let Asked { queries, truth, k, keep, rounds, parallel } = asked;
    index.set_ef_search(ef)?;
    let (mut fastest, mut found) = (f64::INFINITY, Vec::new());
    for _ in 0..rounds.max(1) {
        let started = Instant::now();
        let search = |query| index.search(query, k, keep);
        found = match parallel {
            true => queries.par_chunks_exact(index.dim()).map(search).collect::<Result<Vec<_>>>()?,
            false => queries.chunks_exact(index.dim()).map(search).collect::<Result<Vec<_>>>()?,
        };
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    Ok(Point { ef, recall: recall(&found, truth), qps: found.len() as f64 / fastest })
}

/// Whether an item is in a sample of about `share` of all, in [0, 1]: by its number alone, and spread evenly.
pub fn in_share(item: ItemRow, share: f64) -> bool {
    let x = u64::from(item).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((x ^ (x >> 31)) >> 11) as f64) < share * (1u64 << 53) as f64
}

/// The share of the true answers that were found, over all queries; 1 when no answer was wanted.
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
        for share in [0.0, 0.01, 0.3, 1.0] {
            let passing = (0..100_000).filter(|&item| in_share(item, share)).count() as f64 / 1e5;
            assert!((passing - share).abs() < 0.003, "{share}: {passing}");
        }
    }
}
