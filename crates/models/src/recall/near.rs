//! Item to item by vectors: the items with the highest cosines to each, as inverted lists.
//!
//! Vectors may come from anything: ALS, BPR, item2vec, node2vec, the spectrum of a graph, two towers. Up to a number of items
//! all pairs are scored, block by block as a matrix product; above it a graph index finds nearly the same. Either way a list does
//! not depend on the number of threads.

use std::ops::Range;

use millstream_index::{Flat, Hit, Hnsw, HnswConfig, Index, Metric};
use millstream_schema::ItemRow;

use crate::Error;
use crate::recall::lists::InvertedLists;

/// Queries of a block that an exact index multiplies at once; with fewer for each thread it makes smaller ones.
const BLOCK: usize = 32;

/// How neighbours are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Near {
    /// Entries per item, the highest cosines; above 0.
    pub neighbours: usize,
    /// Items from which on a graph index is asked instead of all pairs.
    pub graph_from: usize,
    /// Its shape; `ef_search` is raised to twice `neighbours` where it is less.
    pub hnsw: HnswConfig,
}

impl Default for Near {
    fn default() -> Self {
        Self { neighbours: 100, graph_from: 100_000, hnsw: HnswConfig::default() }
    }
}

impl Near {
    /// The items with the highest cosines above 0 to each of `vectors`, `[items, dim]` row-major; ties by row. A vector of zeros is
    /// nobody's neighbour and has none.
    ///
    /// # Errors
    /// No neighbours asked for, numbers that are no whole vectors, or one that is not finite.
    pub fn lists(&self, dim: usize, vectors: &[f32]) -> Result<InvertedLists, Error> {
        check(self.neighbours, dim, vectors)?;
        let items = known(dim, vectors, 0..(vectors.len() / dim) as u32);
        let floats = gathered(dim, vectors, &items);
        let mut found = vec![Vec::new(); vectors.len() / dim];
        self.fill((dim, &floats), &items, &mut found)?;
        Ok(joined("vectors", found))
    }

    /// The lists of [`Near::lists`], but each item's of those of its own cluster; `label` is the cluster of each item, and an item without
    /// one, which is `u32::MAX`, has no list.
    ///
    /// # Errors
    /// As [`Near::lists`], or there are not as many labels as vectors.
    pub fn within_clusters(
        &self,
        (dim, vectors): (usize, &[f32]),
        label: &[u32],
    ) -> Result<InvertedLists, Error> {
        check(self.neighbours, dim, vectors)?;
        if label.len() != vectors.len() / dim {
            return Err(Error::Corrupt("there are not as many labels as vectors".into()));
        }
        let mut order =
            known(dim, vectors, (0..label.len() as u32).filter(|&i| label[i as usize] != u32::MAX));
        order.sort_by_key(|&i| label[i as usize]);
        let mut found = vec![Vec::new(); label.len()];
        for members in order.chunk_by(|&a, &b| label[a as usize] == label[b as usize]) {
            self.fill((dim, &gathered(dim, vectors, members)), members, &mut found)?;
        }
        Ok(joined("clusters", found))
    }

    /// Puts the neighbours of each of these items, among these, into `found`; their vectors are `floats`.
    fn fill(
        &self,
        (dim, floats): (usize, &[f32]),
        items: &[ItemRow],
        found: &mut [Vec<(ItemRow, f32)>],
    ) -> Result<(), Error> {
        if items.len() < self.graph_from {
            return exact((dim, floats), items, self.neighbours, found);
        }
        let ef_search = self.hnsw.ef_search.max(2 * self.neighbours);
        let config = HnswConfig { ef_search, ..self.hnsw };
        let index = Hnsw::build(Metric::Cosine, config, dim, items, floats)?;
        ask(&index, (items, floats), self.neighbours, found)
    }
}

fn check(neighbours: usize, dim: usize, vectors: &[f32]) -> Result<(), Error> {
    if neighbours == 0 {
        return Err(Error::Config("item to item by vectors: `neighbours` must be above 0".into()));
    }
    if dim == 0 || !vectors.len().is_multiple_of(dim) {
        return Err(Error::Corrupt(format!("{} numbers are no whole vectors of {dim}", vectors.len())));
    }
    Ok(())
}

/// Those of these items whose vector is not zero.
fn known(dim: usize, vectors: &[f32], items: impl Iterator<Item = ItemRow>) -> Vec<ItemRow> {
    let at = |item: ItemRow| -> Range<usize> { item as usize * dim..(item as usize + 1) * dim };
    items.filter(|&item| vectors[at(item)].iter().any(|x| *x != 0.0)).collect()
}

fn gathered(dim: usize, vectors: &[f32], items: &[ItemRow]) -> Vec<f32> {
    items.iter().flat_map(|&i| &vectors[i as usize * dim..][..dim]).copied().collect()
}

/// Scores all pairs of these items, whose vectors are `floats`, and puts the neighbours of each into `found`.
fn exact(
    (dim, floats): (usize, &[f32]),
    items: &[ItemRow],
    k: usize,
    found: &mut [Vec<(ItemRow, f32)>],
) -> Result<(), Error> {
    let index = Flat::build(dim, Metric::Cosine, items, floats)?;
    // A product of another shape may differ in the last bits: with queries of zeros all blocks are whole on any number of threads.
    let whole = items.len().next_multiple_of(BLOCK).max(BLOCK * rayon::current_num_threads());
    let mut queries = floats.to_vec();
    queries.resize(whole * dim, 0.0);
    ask(&index, (items, &queries), k, found)
}

/// Puts the neighbours of each item of the index into `found`; there may be queries beyond the items' own.
fn ask(
    index: &dyn Index,
    (items, queries): (&[ItemRow], &[f32]),
    k: usize,
    found: &mut [Vec<(ItemRow, f32)>],
) -> Result<(), Error> {
    let keep = |query: usize, item: ItemRow| items.get(query).is_some_and(|own| *own != item);
    let hits = index.search_batch(queries, k, &keep)?;
    for (&item, hits) in items.iter().zip(hits) {
        let entry = |h: Hit| (h.score > 0.0).then_some((h.item, h.score));
        found[item as usize] = hits.into_iter().filter_map(entry).collect();
    }
    Ok(())
}

fn joined(kind: &str, found: Vec<Vec<(ItemRow, f32)>>) -> InvertedLists {
    let mut offsets = vec![0u64];
    offsets.extend(found.iter().scan(0u64, |end, list| {
        *end += list.len() as u64;
        Some(*end)
    }));
    InvertedLists::new(kind, offsets, found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::draws::Draws;
    use proptest::prelude::*;

    fn cosine(dim: usize, vectors: &[f32], a: u32, b: u32) -> f64 {
        let row = |i: u32| vectors[i as usize * dim..][..dim].iter().map(|&x| f64::from(x));
        let length = |i: u32| row(i).map(|x| x * x).sum::<f64>().sqrt();
        let dot: f64 = row(a).zip(row(b)).map(|(x, y)| x * y).sum();
        dot / (length(a) * length(b))
    }

    /// The neighbours' cosines, best first.
    fn naive(dim: usize, vectors: &[f32], item: u32, k: usize, with: impl Fn(u32) -> bool) -> Vec<f64> {
        let mut all: Vec<f64> = (0..(vectors.len() / dim) as u32)
            .filter(|&other| other != item && with(other))
            .map(|other| cosine(dim, vectors, item, other))
            .filter(|c| *c > 1e-6)
            .collect();
        all.sort_by(|a, b| b.total_cmp(a));
        all.truncate(k);
        all
    }

    proptest! {
        #[test]
        fn lists_are_those_of_the_naive_twin(
            (dim, vectors) in (1usize..20).prop_flat_map(|dim| {
                (Just(dim), prop::collection::vec(-3i8..4, 0..dim * 60).prop_map(move |mut v| {
                    v.truncate(v.len() / dim * dim);
                    v.into_iter().map(f32::from).collect::<Vec<f32>>()
                }))
            }),
            neighbours in 1usize..12,
            clusters in 1u32..4,
        ) {
            let items = (vectors.len() / dim) as u32;
            let label: Vec<u32> = (0..items).map(|i| if i % 7 == 6 { u32::MAX } else { i % clusters }).collect();
            let near = Near { neighbours, ..Near::default() };
            let lists = near.lists(dim, &vectors).unwrap();
            let own = near.within_clusters((dim, &vectors), &label).unwrap();
            prop_assert_eq!((lists.items(), lists.kind(), own.kind()), (items as usize, "vectors", "clusters"));
            for item in 0..items {
                let same = |other: u32| label[item as usize] != u32::MAX && label[item as usize] == label[other as usize];
                for (got, want) in [
                    (lists.neighbours(item), naive(dim, &vectors, item, neighbours, |_| true)),
                    (own.neighbours(item), naive(dim, &vectors, item, neighbours, same)),
                ] {
                    // What rounding leaves of a right angle may be there or not.
                    let got: Vec<_> = got.iter().filter(|g| g.1 > 1e-6).collect();
                    prop_assert_eq!(got.len(), want.len());
                    for (&&(other, score), want) in got.iter().zip(&want) {
                        prop_assert!((f64::from(score) - want).abs() < 1e-5);
                        prop_assert!((f64::from(score) - cosine(dim, &vectors, item, other)).abs() < 1e-5);
                    }
                    prop_assert!(got.windows(2).all(|w| (-w[0].1, w[0].0) < (-w[1].1, w[1].0)));
                }
                prop_assert!(own.neighbours(item).iter().all(|x| same(x.0)));
            }
        }
    }

    fn cloud(items: usize, dim: usize) -> Vec<f32> {
        let mut draws = Draws::new(1, 1);
        (0..items * dim).map(|_| draws.normal()).collect()
    }

    #[test]
    fn threads_do_not_matter_exactly_or_by_a_graph() {
        for (items, graph_from) in [(700, 1), (700, 10_000), (37, 10_000)] {
            let vectors = cloud(items, 24);
            let near = Near { neighbours: 10, graph_from, ..Near::default() };
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| near.lists(24, &vectors).unwrap())
            };
            assert_eq!(on(1), on(2));
        }
    }

    #[test]
    fn a_graph_finds_nearly_all_of_what_all_pairs_give() {
        let vectors = cloud(3000, 16);
        let exact = Near { neighbours: 10, ..Near::default() }.lists(16, &vectors).unwrap();
        let graph = Near { neighbours: 10, graph_from: 1, ..Near::default() }.lists(16, &vectors).unwrap();
        let mut found = 0;
        for item in 0..3000 {
            let there = exact.neighbours(item);
            found += graph.neighbours(item).iter().filter(|x| there.iter().any(|y| y.0 == x.0)).count();
        }
        assert!(found as f64 > 0.97 * exact.pairs() as f64, "{found} of {}", exact.pairs());
    }

    #[test]
    fn wrong_shapes_and_numbers_are_refused() {
        let near = Near::default();
        assert!(near.lists(3, &[0.0; 4]).is_err());
        assert!(near.lists(0, &[]).is_err());
        assert!(near.lists(2, &[1.0, f32::NAN]).is_err());
        assert!(Near { neighbours: 0, ..near }.lists(2, &[1.0, 2.0]).is_err());
        assert!(near.within_clusters((2, &[1.0, 2.0]), &[0, 0]).is_err());
        assert_eq!(near.lists(2, &[0.0, 0.0, 1.0, 2.0, 1.0, 2.0]).unwrap().neighbours(0), []);
    }
}
