//! The exact index and top-k selection against sorting everything.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_index::{Flat, Hit, Index, IndexMut, Metric, topk_scores};
use proptest::prelude::*;

fn by_sorting(scores: &[f32], k: usize, exclude: &[u32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..scores.len() as u32).filter(|item| !exclude.contains(item)).collect();
    let key = |id: u32| {
        let score = scores[id as usize];
        if score.is_nan() { f32::NEG_INFINITY } else { score }
    };
    ids.sort_by(|&a, &b| {
        let nan = |id: u32| scores[id as usize].is_nan();
        nan(a).cmp(&nan(b)).then(key(b).partial_cmp(&key(a)).unwrap()).then(a.cmp(&b))
    });
    ids.truncate(k);
    ids
}

fn ids(hits: &[Hit]) -> Vec<u32> {
    hits.iter().map(|hit| hit.item).collect()
}

fn score() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -4i32..4,
        1 => Just(100),
        1 => Just(101),
    ]
    .prop_map(|x| match x {
        100 => f32::NAN,
        101 => f32::NEG_INFINITY,
        x => x as f32 / 2.0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn selection_equals_sorting(
        scores in prop::collection::vec(score(), 0..300),
        k in 0usize..60,
        exclude in prop::collection::vec(0u32..320, 0..40),
    ) {
        let hits = topk_scores(&scores, k, &exclude);
        prop_assert_eq!(ids(&hits), by_sorting(&scores, k, &exclude));
        for hit in hits {
            let score = scores[hit.item as usize];
            prop_assert!(hit.score == score || (hit.score.is_nan() && score.is_nan()));
        }
    }
}

/// Numbers in [-0.5, 0.5) that look random but are the same each time.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let draw = |at: u64| (at ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mix = |x: u64| (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
    (0..count as u64).map(|at| mix(draw(at + 1)) as f32 / (1 << 24) as f32 - 0.5).collect()
}

#[test]
fn batches_over_several_tiles_equal_single_searches_and_brute_force() {
    for (dim, rows) in [(1, 50), (17, 5000), (64, 1500)] {
        // Multiples of 1/8, so that every order of summation gives the same score and ties abound.
        let coarse = |x: Vec<f32>| x.iter().map(|x| (x * 8.0).round() / 8.0).collect::<Vec<f32>>();
        let vectors = coarse(noise(rows * dim, 1));
        let items: Vec<u32> = (0..rows as u32).map(|row| row * 3 % 100_003).collect();
        let queries = coarse(noise(70 * dim, 2));
        let index = Flat::build(dim, Metric::InnerProduct, &items, &vectors).unwrap();
        let keep = |query: usize, item: u32| !(item as usize + query).is_multiple_of(3);
        let batch = index.search_batch(&queries, 20, &keep).unwrap();
        assert_eq!(batch.len(), 70);
        for (at, query) in queries.chunks(dim).enumerate() {
            let mut all: Vec<(f32, u32)> = items
                .iter()
                .zip(vectors.chunks(dim))
                .filter(|(item, _)| keep(at, **item))
                .map(|(&item, v)| (query.iter().zip(v).map(|(a, b)| a * b).sum(), item))
                .collect();
            all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
            let expected: Vec<Hit> =
                all.into_iter().take(20).map(|(score, item)| Hit { item, score }).collect();
            assert_eq!(batch[at], expected);
            assert_eq!(index.search(query, 20, &|item| keep(at, item)).unwrap(), expected);
        }
    }
}

#[test]
fn cosine_ignores_length_and_gives_the_zero_vector_nothing() {
    let index = Flat::new(2, Metric::Cosine).unwrap();
    for (item, vector) in [(1, [5.0, 0.0]), (2, [0.1, 0.1]), (3, [0.0, 0.0])] {
        index.upsert(item, &vector).unwrap();
    }
    let hits = index.search(&[3.0, 3.0], 3, &|_| true).unwrap();
    assert_eq!(ids(&hits), [2, 1, 3]);
    assert!((hits[0].score - 1.0).abs() < 1e-6 && hits[2].score == 0.0);
}

#[test]
fn items_can_be_replaced_and_removed() {
    let index = Flat::build(1, Metric::InnerProduct, &[5, 6, 7], &[1.0, 2.0, 3.0]).unwrap();
    index.upsert(5, &[9.0]).unwrap();
    assert!(index.remove(6) && !index.remove(6) && index.remove(7));
    index.upsert(8, &[4.0]).unwrap();
    assert_eq!(ids(&index.search(&[1.0], 9, &|_| true).unwrap()), [5, 8]);
    assert_eq!((index.len(), index.vector(8), index.vector(7)), (2, Some(vec![4.0]), None));
    assert!(index.search(&[1.0], 0, &|_| true).unwrap().is_empty());
}

#[test]
fn bad_vectors_are_refused_with_one_sentence() {
    let index = Flat::new(2, Metric::InnerProduct).unwrap();
    let say = |e: millstream_index::Error| e.to_string();
    assert_eq!(
        say(index.upsert(4, &[1.0]).unwrap_err()),
        "the vector of item 4 has 1 numbers, this index holds 2"
    );
    assert_eq!(
        say(index.search(&[1.0, f32::NAN], 1, &|_| true).unwrap_err()),
        "the query has a NaN at place 1"
    );
    assert!(index.search_batch(&[1.0; 3], 1, &|_, _| true).is_err());
    assert!(Flat::new(0, Metric::Cosine).is_err());
    assert!(Flat::build(2, Metric::Cosine, &[1], &[1.0]).is_err());
    assert!(index.is_empty());
}
