//! The graph index against the exact one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_index::{
    Candidates, DotScorer, Flat, Hit, Hnsw, HnswConfig, Index, IndexMut, Metric, Scorer, Storage, Walk,
};

const DIM: usize = 32;

struct Noise(u64);

impl Noise {
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 40) as f32 / (1 << 24) as f32
    }

    /// About normal: a sum of uniforms.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// Vectors in clusters whose lengths differ.
    fn clustered(&mut self, rows: usize, centres: &[f32]) -> Vec<f32> {
        let mut vectors = Vec::with_capacity(rows * DIM);
        for _ in 0..rows {
            let centre = (self.unit() * (centres.len() / DIM) as f32) as usize;
            let length = 0.5 + self.unit();
            for d in 0..DIM {
                vectors.push(length * (centres[centre * DIM + d] + 0.4 * self.normal()));
            }
        }
        vectors
    }
}

fn world(rows: usize, queries: usize) -> (Vec<u32>, Vec<f32>, Vec<f32>) {
    let mut noise = Noise(7);
    let centres: Vec<f32> = (0..50 * DIM).map(|_| noise.normal()).collect();
    let vectors = noise.clustered(rows, &centres);
    let queries = noise.clustered(queries, &centres);
    ((0..rows as u32).map(|row| row * 2 + 1).collect(), vectors, queries)
}

fn recall(found: &[Vec<Hit>], truth: &[Vec<Hit>]) -> f64 {
    let hit = |found: &Vec<Hit>, truth: &Vec<Hit>| {
        truth.iter().filter(|t| found.iter().any(|f| f.item == t.item)).count()
    };
    let hits: usize = found.iter().zip(truth).map(|(found, truth)| hit(found, truth)).sum();
    hits as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
}

fn both(metric: Metric) -> (Hnsw, Flat, Vec<f32>) {
    let (items, vectors, queries) = world(5000, 200);
    let graph = Hnsw::build(metric, HnswConfig::default(), DIM, &items, &vectors).unwrap();
    (graph, Flat::build(DIM, metric, &items, &vectors).unwrap(), queries)
}

#[test]
fn recall_at_10_is_at_least_95_percent_for_both_metrics() {
    for metric in [Metric::InnerProduct, Metric::Cosine] {
        let (graph, flat, queries) = both(metric);
        let found = graph.search_batch(&queries, 10, &|_, _| true).unwrap();
        let truth = flat.search_batch(&queries, 10, &|_, _| true).unwrap();
        let recall = recall(&found, &truth);
        assert!(recall >= 0.95, "{metric:?}: {recall}");
        for (found, query) in found.iter().zip(queries.chunks(DIM)) {
            assert_eq!(found, &graph.search(query, 10, &|_| true).unwrap());
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        }
    }
}

#[test]
fn filters_apply_during_the_search_and_pages_stay_full() {
    let (graph, flat, queries) = both(Metric::InnerProduct);
    for one_in in [2, 10, 100, 1000] {
        let keep = |query: usize, item: u32| (item as usize / 2 + query).is_multiple_of(one_in);
        let found = graph.search_batch(&queries, 10, &keep).unwrap();
        let truth = flat.search_batch(&queries, 10, &keep).unwrap();
        for (at, (found, truth)) in found.iter().zip(&truth).enumerate() {
            assert_eq!(found.len(), truth.len());
            assert!(found.iter().all(|hit| keep(at, hit.item)));
        }
        let recall = recall(&found, &truth);
        assert!(recall >= 0.95, "one in {one_in}: {recall}");
    }
    assert!(graph.search(&queries[..DIM], 10, &|_| false).unwrap().is_empty());
}

#[test]
fn removed_items_never_come_back_and_the_rest_is_still_found() {
    let (graph, flat, queries) = both(Metric::InnerProduct);
    let (_, fresh, _) = world(15_000, 0);
    for step in 0..2500u32 {
        let gone = (step * 4 + 1) % 10_000;
        assert_eq!(graph.remove(gone), flat.remove(gone));
        if step.is_multiple_of(3) {
            // A new item in a freed place, and an old one with another vector.
            for (item, row) in [(20_000 + step, 6000 + step), (step * 4 + 3, 10_000 + step)] {
                let vector = &fresh[row as usize * DIM..][..DIM];
                graph.upsert(item, vector).unwrap();
                flat.upsert(item, vector).unwrap();
            }
        }
    }
    assert_eq!(graph.len(), flat.len());
    let found = graph.search_batch(&queries, 10, &|_, _| true).unwrap();
    let truth = flat.search_batch(&queries, 10, &|_, _| true).unwrap();
    assert!(found.iter().flatten().all(|hit| flat.vector(hit.item).is_some()));
    let recall = recall(&found, &truth);
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn what_is_put_is_found_by_its_own_vector_whatever_comes_and_goes_afterwards() {
    let (items, vectors, _) = world(9000, 0);
    // So few links that many nodes would be led to by none that a search comes by.
    let config = HnswConfig { m: 5, ef_construction: 32, ef_search: 20, ..HnswConfig::default() };
    let vector = |row: usize| &vectors[row * DIM..][..DIM];
    let graph = Hnsw::build(Metric::Cosine, config, DIM, &items[..6000], &vectors[..6000 * DIM]).unwrap();
    let lost = |rows: std::ops::Range<usize>| {
        let found = |row: usize| {
            let hits = graph.search(vector(row), 10, &|_| true).unwrap();
            hits.iter().any(|hit| hit.item == items[row])
        };
        rows.filter(|&row| !found(row)).count()
    };
    let built = lost(0..6000);
    let mut at_once = 0;
    for row in 6000..9000 {
        graph.upsert(items[row], vector(row)).unwrap();
        at_once += lost(row..row + 1);
        assert!(graph.remove(items[row - 6000]));
    }
    let later = lost(3000..9000);
    // Where nobody looks for what was put: 70, 11 and 143.
    assert!(built <= 3 && at_once <= 3 && later <= 50, "{built}, {at_once}, {later}");
}

#[test]
fn an_index_can_be_emptied_and_filled_again() {
    let (items, vectors, _) = world(300, 0);
    let config = HnswConfig { m: 8, ef_construction: 64, ef_search: 32, seed: 3, ..HnswConfig::default() };
    let graph = Hnsw::build(Metric::Cosine, config, DIM, &items, &vectors).unwrap();
    for round in 0..3 {
        items.iter().for_each(|&item| assert!(graph.remove(item), "{round}"));
        assert!(graph.is_empty() && graph.search(&vectors[..DIM], 5, &|_| true).unwrap().is_empty());
        for (&item, vector) in items.iter().zip(vectors.chunks(DIM)) {
            graph.upsert(item, vector).unwrap();
            graph.upsert(item, vector).unwrap();
        }
        let hits = graph.search(&vectors[..DIM], 1, &|_| true).unwrap();
        assert_eq!(hits[0].item, items[0]);
    }
    let all = graph.search(&vectors[..DIM], 1000, &|_| true).unwrap();
    assert_eq!(all.len(), items.len());
}

#[test]
fn equal_vectors_all_stay_within_reach() {
    let items: Vec<u32> = (0..2000).collect();
    let vectors = [0.5; 2].repeat(2000);
    let graph = Hnsw::build(Metric::InnerProduct, HnswConfig::default(), 2, &items, &vectors).unwrap();
    for item in (0..2000).step_by(97) {
        let hits = graph.search(&[1.0, 1.0], 1, &|found| found == item).unwrap();
        assert_eq!(hits, [Hit { item, score: 1.0 }]);
    }
}

/// A model that prefers what an inner product alone, here times a factor, would not find first.
struct Model<'a>(DotScorer<'a>, f32, usize);

impl Scorer for Model<'_> {
    fn score(&mut self, candidates: Candidates<'_>, scores: &mut [f32]) {
        self.0.score(candidates, scores);
        self.2 += candidates.len();
        for (at, score) in scores.iter_mut().enumerate() {
            let length: f32 = candidates.vector(at).iter().map(|x| x * x).sum();
            let bonus = if candidates.item(at).is_multiple_of(3) { 0.1 } else { 0.0 };
            *score = (self.1 * *score).tanh() - 0.01 * length + bonus;
        }
    }
}

#[test]
fn any_scorer_can_walk_the_graph_and_scoring_every_node_is_exact() {
    // With vectors of any length, a model that heeds the inner product: links lead to what is best by that.
    for (metric, factor) in [(Metric::Cosine, 1.0), (Metric::InnerProduct, 0.02)] {
        let (graph, _, queries) = both(metric);
        for query in queries.chunks(DIM).take(20) {
            let mut model = Model(DotScorer { query }, factor, 0);
            let walk = Walk { k: 10, ef: 5000, budget: usize::MAX };
            let all = graph.search_with(&mut model, walk, &|_| true);
            assert_eq!(all.scored, model.2);
            assert!(all.complete && all.scored >= 4990);
            let near = graph.search_with(&mut model, Walk { ef: 100, ..walk }, &|_| true);
            assert!(near.scored < all.scored);
            assert!(recall(&[near.hits], &[all.hits]) >= 0.8);
            let short = graph.search_with(&mut model, Walk { budget: 50, ..walk }, &|_| true);
            assert!(!short.complete && short.scored < 300 && short.hits.len() == 10);
        }
    }
}

#[test]
fn the_same_items_in_the_same_order_give_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let save = |name: &str, seed| {
        let (items, vectors, _) = world(800, 0);
        let config = HnswConfig { seed, ..HnswConfig::default() };
        let graph = Hnsw::build(Metric::Cosine, config, DIM, &items, &vectors).unwrap();
        graph.save(dir.path().join(name)).unwrap();
        std::fs::read(dir.path().join(name)).unwrap()
    };
    let first = save("a", 1);
    assert!(first == save("b", 1));
    assert!(first != save("c", 2));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn every_storage_finds_the_neighbours_that_its_precision_allows() {
    let (items, vectors, queries) = world(3000, 100);
    let flat = Flat::build(DIM, Metric::Cosine, &items, &vectors).unwrap();
    let truth = flat.search_batch(&queries, 10, &|_, _| true).unwrap();
    // An int8 step of 1/127 of the largest number moves neighbours that are nearly as near.
    for (storage, least) in [(Storage::F32, 0.97), (Storage::Bf16, 0.95), (Storage::Int8, 0.9)] {
        for coarse in [true, false] {
            let config = HnswConfig { storage, coarse, ..HnswConfig::default() };
            let graph = Hnsw::build(Metric::Cosine, config, DIM, &items, &vectors).unwrap();
            let found = graph.search_batch(&queries, 10, &|_, _| true).unwrap();
            let recall = recall(&found, &truth);
            assert!(recall >= least, "{storage:?} {coarse}: {recall}");
            for hit in found.iter().flatten() {
                assert!(hit.score <= 1.01);
            }
        }
    }
}

#[test]
fn any_number_of_threads_builds_the_same_graph() {
    let dir = tempfile::tempdir().unwrap();
    let (items, vectors, _) = world(3000, 0);
    let files = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let build =
            || Hnsw::build(Metric::InnerProduct, HnswConfig::default(), DIM, &items, &vectors).unwrap();
        let path = dir.path().join(threads.to_string());
        pool.install(build).save(&path).unwrap();
        std::fs::read(path).unwrap()
    });
    assert!(files[0] == files[1] && files[0] == files[2]);
}

/// Vectors without clusters, of lengths that vary by `exp(spread · normal)` around `mean`.
fn uneven(rows: usize, spread: f32, mean: f32) -> Vec<f32> {
    let mut noise = Noise(11);
    let mut vectors = Vec::with_capacity(rows * DIM);
    for _ in 0..rows {
        let length = (spread * noise.normal()).exp();
        vectors.extend((0..DIM).map(|_| mean + length * noise.normal()));
    }
    vectors
}

fn recall_of(graph: &Hnsw, flat: &Flat, queries: &[f32], one_in: u32) -> f64 {
    let keep = |_: usize, item: u32| item.is_multiple_of(one_in);
    let found = graph.search_batch(queries, 10, &keep).unwrap();
    recall(&found, &flat.search_batch(queries, 10, &keep).unwrap())
}

#[test]
fn inner_product_finds_its_best_among_vectors_of_very_different_length() {
    // Where links are chosen as if all lay on one sphere: 0.28 and 0.24.
    for spread in [0.5, 1.0] {
        let (vectors, queries) = (uneven(4000, spread, 0.0), uneven(200, 0.0, 0.0));
        let items: Vec<u32> = (0..4000).collect();
        let graph = Hnsw::build(Metric::InnerProduct, HnswConfig::default(), DIM, &items, &vectors).unwrap();
        let flat = Flat::build(DIM, Metric::InnerProduct, &items, &vectors).unwrap();
        for one_in in [1, 10, 100] {
            let recall = recall_of(&graph, &flat, &queries, one_in);
            assert!(recall >= 0.97, "{spread}, one in {one_in}: {recall}");
        }
    }
}

#[test]
fn inner_product_stays_as_good_while_items_come_one_by_one_and_go() {
    let (vectors, queries) = (uneven(4000, 0.7, 0.0), uneven(200, 0.0, 0.0));
    let graph = Hnsw::new(DIM, Metric::InnerProduct, HnswConfig::default()).unwrap();
    let flat = Flat::new(DIM, Metric::InnerProduct).unwrap();
    for (item, vector) in vectors.chunks(DIM).enumerate() {
        let item = item as u32;
        graph.upsert(item, vector).unwrap();
        flat.upsert(item, vector).unwrap();
        // The longest are among those that go.
        if item >= 2000 {
            assert!(graph.remove(item - 2000) && flat.remove(item - 2000));
        }
    }
    for one_in in [1, 10] {
        let recall = recall_of(&graph, &flat, &queries, one_in);
        assert!(recall >= 0.97, "one in {one_in}: {recall}");
    }
}

#[test]
fn walks_by_copies_find_neighbours_far_from_the_origin_and_do_without_copies_that_tell_nothing_apart() {
    let items: Vec<u32> = (0..4000).collect();
    let far = uneven(4000, 0.0, 10.0);
    // One number is much larger than the others and has two values.
    let hidden: Vec<f32> = far
        .iter()
        .enumerate()
        .map(|(at, x)| if at.is_multiple_of(DIM) { 2000.0 * (x - 10.0).signum() } else { x - 10.0 })
        .collect();
    for (vectors, coarse) in [(far, true), (hidden, false)] {
        let flat = Flat::build(DIM, Metric::InnerProduct, &items, &vectors).unwrap();
        let truth = flat.search_batch(&vectors[..200 * DIM], 10, &|_, _| true).unwrap();
        let share = |coarse| {
            let config = HnswConfig { coarse, ..HnswConfig::default() };
            let graph = Hnsw::build(Metric::InnerProduct, config, DIM, &items, &vectors).unwrap();
            let found = graph.search_batch(&vectors[..200 * DIM], 10, &|_, _| true).unwrap();
            (recall(&found, &truth), graph.is_coarse())
        };
        let ((by_copies, is_coarse), (by_vectors, _)) = (share(true), share(false));
        assert_eq!(is_coarse, coarse);
        assert!(by_copies >= by_vectors - 0.01, "{by_copies}, {by_vectors}");
    }
    let vectors = uneven(4000, 0.0, 10.0);
    let graph = Hnsw::build(Metric::Cosine, HnswConfig::default(), DIM, &items, &vectors).unwrap();
    let flat = Flat::build(DIM, Metric::Cosine, &items, &vectors).unwrap();
    let recall = recall_of(&graph, &flat, &vectors[..200 * DIM], 1);
    // With copies of the vectors as they are: 0.92.
    assert!(graph.is_coarse() && recall >= 0.97, "{recall}");
}
