//! The inverted index against going through all items.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_index::{Hit, Inverted};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;

const TERMS: [&str; 6] = ["a", "b", "tag:é", "author=7", "long term with spaces", "z"];

/// Items by number, each with score and terms.
type Naive = BTreeMap<u32, (f32, Vec<&'static str>)>;

#[derive(Debug, Clone)]
enum Change {
    Upsert(u32, u8, Vec<usize>),
    Score(u32, u8),
    Remove(u32),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0u32..40, 0u8..12, prop::collection::vec(0usize..6, 0..5)).prop_map(|(i, s, t)| Change::Upsert(i, s, t)),
        1 => (0u32..40, 0u8..12).prop_map(|(i, s)| Change::Score(i, s)),
        2 => (0u32..40).prop_map(Change::Remove),
    ]
}

fn apply(change: &Change, index: &mut Inverted, naive: &mut Naive) {
    match change {
        Change::Upsert(item, score, terms) => {
            let terms: Vec<&str> = terms.iter().map(|&t| TERMS[t]).collect();
            index.upsert(*item, f32::from(*score), &terms).unwrap();
            naive.insert(*item, (f32::from(*score), terms));
        }
        Change::Score(item, score) => {
            let known = naive.get_mut(item);
            assert_eq!(index.set_score(*item, f32::from(*score)).unwrap(), known.is_some());
            known.map(|entry| entry.0 = f32::from(*score)).unwrap_or_default();
        }
        Change::Remove(item) => assert_eq!(index.remove(*item), naive.remove(item).is_some()),
    }
}

/// The best of all items whose terms are worth something.
fn best(naive: &Naive, k: usize, worth: impl Fn(u32, f32, &[&str]) -> Option<f32>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = naive
        .iter()
        .filter_map(|(&item, (score, terms))| Some(Hit { item, score: worth(item, *score, terms)? }))
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
    hits.truncate(k);
    hits
}

fn compare(index: &Inverted, naive: &Naive, k: usize, wanted: &[(usize, u8)]) {
    let keep = |item: u32| !item.is_multiple_of(5);
    let names: Vec<&str> = wanted.iter().map(|&(term, _)| TERMS[term]).collect();
    let any = best(naive, k, |i, s, t| (keep(i) && names.iter().any(|n| t.contains(n))).then_some(s));
    assert_eq!(index.any(&names, k, &keep), any);
    let all = best(naive, k, |i, s, t| {
        (keep(i) && !names.is_empty() && names.iter().all(|n| t.contains(n))).then_some(s)
    });
    assert_eq!(index.all(&names, k, &keep), all);
    let weights: Vec<(&str, f32)> =
        wanted.iter().map(|&(term, w)| (TERMS[term], f32::from(w) / 4.0)).collect();
    let weighted = best(naive, k, |i, s, t| {
        let sum: f32 = weights.iter().filter(|(n, _)| t.contains(n)).map(|(_, w)| w).sum();
        (keep(i) && sum > 0.0).then_some(sum * s)
    });
    assert_eq!(index.weighted(&weights, k, &keep).unwrap(), weighted);
    for term in TERMS {
        let of_term = best(naive, k, |_, s, t| t.contains(&term).then_some(s));
        assert_eq!(index.top(term, k, &|_| true), of_term);
        let count = naive.values().filter(|(_, t)| t.contains(&term)).count();
        assert_eq!(index.count(term), count);
        assert_eq!(index.terms().find(|&(name, _)| name == term), (count > 0).then_some((term, count)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_query_equals_going_through_all_items(
        changes in prop::collection::vec(change(), 0..120),
        k in 0usize..30,
        wanted in prop::collection::vec((0usize..6, 0u8..5), 0..5),
    ) {
        let (mut index, mut naive) = (Inverted::new(), Naive::new());
        changes.iter().for_each(|change| apply(change, &mut index, &mut naive));
        prop_assert_eq!(index.len(), naive.len());
        compare(&index, &naive, k, &wanted);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("terms.mill");
        index.save(&path).unwrap();
        let again = Inverted::open(&path).unwrap();
        compare(&again, &naive, k, &wanted);
        for (&item, (score, terms)) in &naive {
            prop_assert_eq!(again.score(item), Some(*score));
            let mut own: Vec<&str> = again.terms_of(item).collect();
            let mut expected = terms.clone();
            own.sort_unstable();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(own, expected);
        }
        let bytes = fs::read(&path).unwrap();
        again.save(&path).unwrap();
        prop_assert!(bytes == fs::read(&path).unwrap());
    }
}

#[test]
fn bad_scores_terms_and_weights_are_refused_and_change_nothing() {
    let mut index = Inverted::new();
    index.upsert(3, 1.0, &["a"]).unwrap();
    let say = |e: millstream_index::Error| e.to_string();
    assert_eq!(
        say(index.upsert(3, f32::NAN, &["b"]).unwrap_err()),
        "the score of item 3 is NaN, expected a finite number of at least 0"
    );
    assert!(index.set_score(3, -1.0).is_err());
    assert_eq!(
        say(index.upsert(3, 2.0, &["b", ""]).unwrap_err()),
        "a term of item 3 has 0 bytes, expected 1 to 4096"
    );
    assert!(index.upsert(3, 2.0, &[&"x".repeat(5000)]).is_err());
    assert!(say(index.weighted(&[("a", -1.0)], 1, &|_| true).unwrap_err()).contains("weight of `a` is -1"));
    assert_eq!(index.top("a", 9, &|_| true), [Hit { item: 3, score: 1.0 }]);
    assert_eq!(index.terms().count(), 1);
}

#[test]
fn terms_without_items_leave_no_trace() {
    let mut index = Inverted::new();
    for round in 0..1000u32 {
        index.upsert(1, 1.0, &[&format!("word {round}")]).unwrap();
    }
    assert_eq!(index.terms().collect::<Vec<_>>(), [("word 999", 1)]);
    assert!(index.remove(1) && !index.remove(1) && index.is_empty());
    assert_eq!(index.terms().count(), 0);
}

#[test]
fn damaged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("terms.mill");
    let mut index = Inverted::new();
    index.upsert(1, 2.0, &["a", "b"]).unwrap();
    index.upsert(4, 3.0, &["b"]).unwrap();
    index.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let said = Inverted::open(&path).unwrap_err().to_string();
        assert!(said.contains("terms.mill cannot be used") && !said.contains('\n'), "{said}");
    };
    (0..whole.len()).for_each(|len| refused(&whole[..len]));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x24;
        refused(&bytes);
        if at >= 28 {
            // With a checksum that agrees it may open or not, but never panic.
            let sum = xxhash_rust::xxh3::xxh3_64(&bytes[28..]).to_le_bytes();
            bytes[20..28].copy_from_slice(&sum);
            fs::write(&path, &bytes).unwrap();
            let _ = Inverted::open(&path);
        }
    }
}
