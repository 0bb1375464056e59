//! Searches, insertions and removals side by side.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_index::bench::{Shape, recall, synthetic};
use millstream_index::{Flat, Hnsw, HnswConfig, Index, IndexMut, Metric, Storage};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

const DIM: usize = 16;
const START: u32 = 3000;
const CHANGES: u32 = 2000;

/// What threads tell one another: items below `gone` were removed, and those from `START` to below `come` were put, all
/// acknowledged; one item changes its vector all the time.
struct World {
    index: Box<dyn IndexMut>,
    vectors: Vec<f32>,
    gone: AtomicU32,
    come: AtomicU32,
    ended: AtomicBool,
    searches: AtomicU64,
}

/// The item whose vector is replaced again and again.
const RESTLESS: u32 = u32::MAX;

impl World {
    fn vector(&self, item: u32) -> &[f32] {
        &self.vectors[item as usize * DIM..][..DIM]
    }

    fn change(&self) {
        for change in 0..CHANGES {
            self.index.upsert(START + change, self.vector(START + change)).unwrap();
            self.come.store(START + change + 1, SeqCst);
            assert!(self.index.remove(change));
            self.gone.store(change + 1, SeqCst);
            if change.is_multiple_of(4) {
                self.index.upsert(RESTLESS, self.vector(START + change)).unwrap();
            }
        }
        self.ended.store(true, SeqCst);
    }

    /// Looks for items by their own vectors until the changes end, and some more.
    fn search(&self, seed: u32) {
        let mut more = 100;
        let mut round = seed;
        while more > 0 {
            more -= u32::from(self.ended.load(SeqCst));
            round = round.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let (gone, come) = (self.gone.load(SeqCst), self.come.load(SeqCst));
            let item = gone + 1 + (round >> 8) % (come - gone - 1).max(1);
            let hits = self.index.search(self.vector(item), 10, &|_| true).unwrap();
            for hit in &hits {
                assert!(hit.item >= gone, "item {} was removed before the search", hit.item);
            }
            let removed_meanwhile = item < self.gone.load(SeqCst) + 1;
            let found = hits.iter().any(|hit| hit.item == item);
            assert!(found || removed_meanwhile, "item {item} was put before the search");
            let restless = self.index.search(self.vector(item), 1, &|item| item == RESTLESS).unwrap();
            assert_eq!(restless.len(), 1, "an item was missed while its vector was replaced");
            self.searches.fetch_add(1, SeqCst);
        }
    }
}

fn live(index: Box<dyn IndexMut>) {
    let vectors = synthetic(Shape::Clustered, (START + CHANGES) as usize, DIM, 7);
    let (gone, come) = (AtomicU32::new(0), AtomicU32::new(START));
    let world =
        World { index, vectors, gone, come, ended: AtomicBool::new(false), searches: AtomicU64::new(0) };
    (0..START).for_each(|item| world.index.upsert(item, world.vector(item)).unwrap());
    world.index.upsert(RESTLESS, world.vector(0)).unwrap();
    std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..3).map(|seed| (seed, &world)).collect();
        searchers.into_iter().for_each(|(seed, world)| {
            scope.spawn(move || world.search(seed));
        });
        world.change();
    });
    assert!(world.index.remove(RESTLESS));
    assert!(world.searches.load(SeqCst) >= 300 && world.index.len() == START as usize);
    // As good as one that was built of the same items.
    let items: Vec<u32> = (CHANGES..START + CHANGES).collect();
    let kept = &world.vectors[CHANGES as usize * DIM..];
    let flat = Flat::build(DIM, Metric::Cosine, &items, kept).unwrap();
    let rebuilt = Hnsw::build(Metric::Cosine, HnswConfig::default(), DIM, &items, kept).unwrap();
    let queries = synthetic(Shape::Clustered, 300, DIM, 8);
    let truth = flat.search_batch(&queries, 10, &|_, _| true).unwrap();
    let [changed, rebuilt] = [&world.index as &dyn Index, &rebuilt]
        .map(|index| recall(&index.search_batch(&queries, 10, &|_, _| true).unwrap(), &truth));
    assert!(changed >= rebuilt - 0.01, "{changed}, rebuilt {rebuilt}");
}

#[test]
fn acknowledged_changes_of_a_graph_hold_in_every_later_search() {
    live(Box::new(Hnsw::new(DIM, Metric::Cosine, HnswConfig::default()).unwrap()));
}

#[test]
fn they_hold_in_an_exact_index_too() {
    live(Box::new(Flat::new(DIM, Metric::Cosine).unwrap()));
}

#[test]
fn a_mapped_index_takes_changes_without_touching_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.mill");
    let vectors = synthetic(Shape::Clustered, 1000, DIM, 3);
    let items: Vec<u32> = (0..900).collect();
    for (storage, coarse) in
        [(Storage::F32, true), (Storage::F32, false), (Storage::Bf16, true), (Storage::Int8, true)]
    {
        let config = HnswConfig { storage, coarse, ..HnswConfig::default() };
        let index = Hnsw::build(Metric::Cosine, config, DIM, &items, &vectors[..900 * DIM]).unwrap();
        index.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mapped = Hnsw::open_mapped(&path).unwrap();
        let read = Hnsw::open(&path).unwrap();
        assert_eq!(mapped.config(), config);
        for round in 0..2 {
            let [a, b, c] = [&index, &mapped, &read]
                .map(|index| index.search_batch(&vectors[900 * DIM..], 10, &|_, _| true).unwrap());
            assert!(a == b && a == c, "{storage:?} {round}");
            assert_eq!(index.vector(7), mapped.vector(7));
            for index in [&index, &mapped, &read] {
                assert!(index.remove(5 + round));
                index.upsert(2000 + round, &vectors[950 * DIM..951 * DIM]).unwrap();
            }
        }
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}
