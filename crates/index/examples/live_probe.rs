//! A graph of 200,000 vectors of dim 64 that takes 1,000 insertions and 1,000 removals a second while it answers 2,000
//! queries a second, for a minute. Prints what the rates were, how long searches took, how many removed items were
//! returned after their removal was acknowledged, how many inserted ones were not found by their own vector, how many of all that live at the
//! end are not, and the recall beside that of an index built of the same items. Run with
//! `cargo run --release -p millstream-index --example live_probe -- [SECONDS [ITEMS]]`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use millstream_index::bench::{Shape, recall, synthetic};
use millstream_index::{Error, Flat, Hnsw, HnswConfig, Index, IndexMut, Metric};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

const DIM: usize = 64;
const CHANGES_PER_SEC: u32 = 1000;
const QUERIES_PER_SEC: u32 = 2000;

struct World {
    index: Hnsw,
    vectors: Vec<f32>,
    /// Items below were removed, acknowledged.
    gone: AtomicU32,
    /// Items below were put, acknowledged.
    come: AtomicU32,
}

#[derive(Default)]
struct Seen {
    micros: Vec<f64>,
    returned_after_removal: usize,
    not_found: usize,
    /// Of those, how many were among the 1,000 latest.
    not_found_new: usize,
}

impl World {
    fn vector(&self, item: u32) -> &[f32] {
        &self.vectors[item as usize * DIM..][..DIM]
    }

    /// Puts and removes items at their rate; gives the seconds it took.
    fn change(&self, start: u32, changes: u32) -> Result<f64, Error> {
        let started = Instant::now();
        for change in 0..changes {
            wait(started, change, CHANGES_PER_SEC);
            self.index.upsert(start + change, self.vector(start + change))?;
            self.come.store(start + change + 1, SeqCst);
            self.index.remove(change);
            self.gone.store(change + 1, SeqCst);
        }
        Ok(started.elapsed().as_secs_f64())
    }

    /// Looks for items by their own vectors, half of them among the latest.
    fn search(&self, queries: u32) -> Result<Seen, Error> {
        let (started, mut seen, mut draw) = (Instant::now(), Seen::default(), 1u32);
        for query in 0..queries {
            wait(started, query, QUERIES_PER_SEC);
            draw = draw.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let (gone, come) = (self.gone.load(SeqCst), self.come.load(SeqCst));
            let span = if query.is_multiple_of(2) { (come - gone).min(1000) } else { come - gone };
            let item = come - 1 - (draw >> 4) % span;
            let asked = Instant::now();
            let hits = self.index.search(self.vector(item), 10, &|_| true)?;
            seen.micros.push(asked.elapsed().as_secs_f64() * 1e6);
            seen.returned_after_removal += hits.iter().filter(|hit| hit.item < gone).count();
            let removed = item < self.gone.load(SeqCst) + 1;
            let missed = !removed && hits.iter().all(|hit| hit.item != item);
            seen.not_found += usize::from(missed);
            seen.not_found_new += usize::from(missed && come - item <= 1000);
        }
        Ok(seen)
    }
}

/// Until it is time for number `at` at this rate.
fn wait(started: Instant, at: u32, per_sec: u32) {
    let due = Duration::from_secs_f64(f64::from(at) / f64::from(per_sec));
    if let Some(early) = due.checked_sub(started.elapsed()) {
        std::thread::sleep(early);
    }
}

fn main() -> Result<(), Error> {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u32>().unwrap());
    let (seconds, start) = (numbers.next().unwrap_or(60), numbers.next().unwrap_or(200_000));
    let changes = seconds * CHANGES_PER_SEC;
    let vectors = synthetic(Shape::Clustered, (start + changes + 1000) as usize, DIM, 1);
    let items: Vec<u32> = (0..start).collect();
    let index =
        Hnsw::build(Metric::Cosine, HnswConfig::default(), DIM, &items, &vectors[..start as usize * DIM])?;
    let world = World { index, vectors, gone: AtomicU32::new(0), come: AtomicU32::new(start) };
    let (took, seen) = std::thread::scope(|scope| {
        let searcher = scope.spawn(|| world.search(seconds * QUERIES_PER_SEC));
        let took = world.change(start, changes);
        (took, searcher.join().unwrap())
    });
    let (took, mut seen) = (took?, seen?);
    seen.micros.sort_by(f64::total_cmp);
    let quantile = |share: f64| seen.micros[((seen.micros.len() - 1) as f64 * share) as usize];
    let count = seen.micros.len();
    println!("{changes} insertions and as many removals in {took:.1} s, {count} searches meanwhile");
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(quantile);
    println!("search: p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, longest {:.0} us", quantile(1.0));
    println!(
        "returned after removal: {}, inserted and not found: {} ({} of them among the 1,000 latest)",
        seen.returned_after_removal, seen.not_found, seen.not_found_new
    );
    let items: Vec<u32> = (changes..start + changes).collect();
    let (kept, queries) = world.vectors[changes as usize * DIM..].split_at(start as usize * DIM);
    let truth = Flat::build(DIM, Metric::Cosine, &items, kept)?.search_batch(queries, 10, &|_, _| true)?;
    let rebuilt = Hnsw::build(Metric::Cosine, HnswConfig::default(), DIM, &items, kept)?;
    let [lost, lost_anew] = [&world.index, &rebuilt].map(|index| {
        let found = index.search_batch(kept, 10, &|_, _| true).unwrap();
        found.iter().zip(&items).filter(|(hits, item)| hits.iter().all(|hit| hit.item != **item)).count()
    });
    println!(
        "of {} living items not found by their own vectors: {lost}, in an index built anew {lost_anew}",
        items.len()
    );
    let [changed, rebuilt] =
        [&world.index, &rebuilt].map(|index| index.search_batch(queries, 10, &|_, _| true));
    println!(
        "recall@10: {:.4}, of an index built anew {:.4}",
        recall(&changed?, &truth),
        recall(&rebuilt?, &truth)
    );
    Ok(())
}
