//! Batches of whole sequences, and the evaluation of right items among a few drawn ones.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_data::{EvalUsers, Interactions, Ragged};
use millstream_models::embeds::Embeds;
use millstream_models::retriever::Scope;
use millstream_schema::{Assembler, Batch, BatchSource, Column, Fitter, Frame, History, Schema, Side};
use millstream_train::sampler::Sampler;
use millstream_train::whole::{WholeOptions, WholeSequences, learnable};
use millstream_train::{Sampling, eval};
use std::sync::Arc;

const ITEMS: usize = 40;

fn assembler() -> Arc<Assembler> {
    let schema: Schema = "[[feature]]\nname = \"item_id\"\nside = \"item\"\nkind = \"categorical\"\n\
         [[feature]]\nname = \"clicks\"\nkind = \"sequence\"\nelements = [\"item_id\"]\nmax_len = 20\n"
        .parse()
        .unwrap();
    let mut items = Frame::new("items", &["item_id"]);
    (0..ITEMS).for_each(|i| items.push_row(i as u64, &[&format!("i{i:02}")]));
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::Item], &items).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let columns = encoder.encode(&[Side::Item], &items, &mut Default::default()).unwrap();
    Arc::new(Assembler::new(encoder, Default::default(), columns).unwrap())
}

/// User u has acted on u, u + 1, … (u + 1 items, none for every fourth user).
fn interactions() -> Interactions {
    let mut offsets = vec![0];
    let mut items: Vec<u32> = Vec::new();
    for u in 0..10u32 {
        items.extend((0..if u % 4 == 3 { 0 } else { u + 1 }).map(|k| u + k));
        offsets.push(items.len() as u32);
    }
    let n = items.len();
    let time_ms = (0..n as i64).collect();
    Interactions { offsets, items, time_ms, kind: vec![1; n], value: vec![1.0; n] }
}

fn batches(options: WholeOptions) -> Vec<Batch> {
    let sampling = Sampling {
        positives: Sampler::new(&[1.0; ITEMS]),
        negatives: Sampler::new(&[1.0; ITEMS]),
        hard: None,
    };
    let mut source =
        WholeSequences::new(Arc::new(interactions()), assembler(), Arc::new(sampling), (options, 1)).unwrap();
    let mut all = Vec::new();
    while let Some(batch) = source.next_batch().unwrap() {
        all.push(batch);
    }
    all
}

fn options(scope: Scope) -> WholeOptions {
    WholeOptions { batch_size: 3, longest: 20, negatives: 4, scope, seed: 7, skip_batches: 0 }
}

/// Histories of a batch as keys, and the keys of its candidates.
fn keys(batch: &Batch) -> (Vec<Vec<u64>>, Vec<u64>) {
    let (mut histories, mut candidates) = (Vec::new(), Vec::new());
    for column in &batch.columns {
        match column {
            Column::Keys { offsets, keys, .. } => {
                histories = offsets.windows(2).map(|e| keys[e[0] as usize..e[1] as usize].to_vec()).collect();
            }
            Column::Key(keys) => candidates.clone_from(keys),
            Column::Dense { .. } => {}
        }
    }
    (histories, candidates)
}

#[test]
fn each_element_is_followed_by_its_candidate_and_each_user_comes_once() {
    for scope in [Scope::Batch, Scope::Sequence, Scope::Element, Scope::Catalogue] {
        let mut users = Vec::new();
        for batch in batches(options(scope)) {
            let (histories, candidates) = keys(&batch);
            let elements: usize = histories.iter().map(Vec::len).sum();
            let mut next = candidates.iter();
            for history in &histories {
                let own: Vec<u64> = next.by_ref().take(history.len()).copied().collect();
                assert_eq!(history[1..], own[..own.len() - 1], "what follows is the history, one on");
                assert_ne!(history.last(), own.last());
            }
            let drawn = match scope {
                Scope::Batch => 4,
                Scope::Sequence => 4 * histories.len(),
                Scope::Element => 4 * elements,
                Scope::Catalogue => ITEMS,
            };
            assert_eq!((batch.candidates(), batch.item.len()), (elements + drawn, elements + drawn));
            assert_eq!(batch.labels.iter().filter(|y| **y > 0.0).count(), elements);
            users.extend(batch.group[..elements].iter().copied());
        }
        users.sort_unstable();
        users.dedup();
        assert_eq!(users, learnable(&interactions()));
    }
}

#[test]
fn a_sequences_own_negatives_are_none_of_its_items() {
    for batch in batches(options(Scope::Sequence)) {
        let (histories, _) = keys(&batch);
        let elements: usize = histories.iter().map(Vec::len).sum();
        let mut at = 0;
        for (row, history) in histories.iter().enumerate() {
            let user = batch.group[at];
            at += history.len();
            let own = interactions().items_of(user).to_vec();
            assert!(batch.item[elements + row * 4..][..4].iter().all(|item| !own.contains(item)));
        }
    }
}

#[test]
fn a_resumed_pass_goes_on_where_it_was_and_seeds_differ() {
    let whole = batches(options(Scope::Element));
    assert_eq!(whole.len(), 3);
    let rest = batches(WholeOptions { skip_batches: 1, ..options(Scope::Element) });
    assert_eq!(rest, whole[1..]);
    assert_eq!(batches(options(Scope::Element)), whole);
    assert_ne!(batches(WholeOptions { seed: 8, ..options(Scope::Element) }), whole);
}

#[test]
fn only_the_latest_elements_of_a_long_sequence_are_learned() {
    let cut = WholeOptions { longest: 2, batch_size: 100, ..options(Scope::Batch) };
    let (histories, candidates) = keys(&batches(cut)[0]);
    assert!(histories.iter().all(|h| h.len() <= 2) && histories.iter().any(|h| h.len() == 2));
    assert_eq!(candidates.len(), histories.iter().map(Vec::len).sum::<usize>() + 4);
}

/// User u likes item u best, then u + 1 and so on in a circle.
struct Circle;

impl Embeds for Circle {
    fn users(&self, batch: &Batch) -> Result<Vec<f32>, millstream_models::Error> {
        let (histories, _) = keys(batch);
        let one =
            |h: &Vec<u64>| (0..ITEMS).map(|i| if h[0] as usize % ITEMS == i { 1.0 } else { 0.0 }).collect();
        Ok(histories.iter().flat_map(|h| -> Vec<f32> { one(h) }).collect())
    }
    fn items(&self, batch: &Batch) -> Result<Vec<f32>, millstream_models::Error> {
        // ⟨user, item⟩ falls with the item's distance from the user's own key.
        let (_, candidates) = keys(batch);
        let far = |key: u64, i: usize| ((key as usize + ITEMS - i) % ITEMS) as f32;
        Ok(candidates
            .iter()
            .flat_map(|&key| (0..ITEMS).map(move |i| -far(key, i)).collect::<Vec<_>>())
            .collect())
    }
    fn dim(&self) -> usize {
        ITEMS
    }
    fn interests(&self) -> usize {
        1
    }
}

/// One user who has met item 0 and is to find `right`.
fn one_user(right: u32) -> EvalUsers {
    let mut history = History::default();
    history.push([millstream_schema::examples::Action { item: 0, time_ms: 0, kind: 1, value: 1.0 }]);
    let mut truth = Ragged::default();
    truth.push([right]);
    let mut seen = Ragged::default();
    seen.push([0]);
    EvalUsers { users: vec![0], time_ms: vec![1], history, truth, seen }
}

#[test]
fn a_right_item_is_ranked_among_drawn_ones_that_the_user_does_not_know() {
    let assembler = assembler();
    let rate = |right: u32, negatives: usize, known: Vec<u32>| {
        let mut all = Ragged::default();
        all.push(known);
        let how = (&[1, 5][..], negatives, 3);
        eval::sampled(&Circle, &assembler, (&one_user(right), &all), how)
    };
    // The nearest item that is not known comes first whatever is drawn.
    let near = rate(1, 10, vec![0, 1]).unwrap();
    assert_eq!((near["sampled_hit_rate@1"], near["sampled_ndcg@5"]), (1.0, 1.0));
    // All 38 others are drawn: the item at distance 4 has those at 1, 2 and 3 before it.
    let fourth = rate(4, 38, vec![0, 4]).unwrap();
    assert_eq!((fourth["sampled_hit_rate@1"], fourth["sampled_hit_rate@5"]), (0.0, 1.0));
    assert!((fourth["sampled_ndcg@5"] - 1.0 / 5f64.log2()).abs() < 1e-12);
    // Known items are never drawn: then nothing is before it.
    assert_eq!(rate(4, 30, vec![0, 1, 2, 3, 4]).unwrap()["sampled_hit_rate@1"], 1.0);
    let message = rate(4, 39, vec![0, 4]).unwrap_err().to_string();
    assert!(message.contains("too many of 40 items"), "{message}");
}
