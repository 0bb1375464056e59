//! Recall by what items' texts say: of items that nobody has acted on, and by a graph as by looking at all.

use std::sync::Arc;

use millstream_index::{Flat, Hnsw, HnswConfig, Index, IndexMut, Metric};
use millstream_models::content::{TextConfig, TextEncoder, TfidfConfig};

use super::world::*;
use crate::channel::{Channel, Resources, find};
use crate::vectors::ContentVectors;

/// Words of 40 topics with ten words each, and some of all.
fn text(item: u64) -> String {
    let topic = (noise(item, 31) * 40.0) as u64;
    let own = (0..5).map(|n| format!("w{topic}x{}", (noise(item, n) * 10.0) as u64));
    let common = (0..3).map(|n| format!("c{}", (noise(item, 60 + n) * 50.0) as u64));
    own.chain(common).collect::<Vec<_>>().join(" ")
}

fn encoder(texts: &[String]) -> TextEncoder {
    let tfidf = TfidfConfig { dim: 32, ..TfidfConfig::default() };
    let config = TextConfig { tfidf: Some(tfidf), ..TextConfig::default() };
    config.encoder(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
}

fn channel_over(index: Arc<Flat>, options: &str) -> Arc<dyn Channel> {
    let content = Some(ContentVectors { vectors: index.clone(), search: index });
    built(find("content").unwrap(), options, &Resources { content, ..Resources::default() }).unwrap()
}

#[test]
fn a_graph_finds_nearly_all_that_looking_at_every_text_finds() {
    let texts: Vec<String> = (0..4000).map(text).collect();
    let encoder = encoder(&texts);
    let vectors = encoder.encode_all(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let items: Vec<u32> = (0..4000).collect();
    let all = Flat::build(32, Metric::InnerProduct, &items, &vectors).unwrap();
    let graph = Hnsw::build(Metric::InnerProduct, HnswConfig::default(), 32, &items, &vectors).unwrap();
    let (mut found, mut asked) = (0, 0);
    for query in vectors.chunks(32).step_by(20) {
        let exact = Index::search(&all, query, 10, &|_| true).unwrap();
        let near = Index::search(&graph, query, 10, &|_| true).unwrap();
        // Texts may be equal: what counts is to be as near as the tenth.
        let tenth = exact.last().unwrap().score - 1e-5;
        found += near.iter().filter(|hit| hit.score >= tenth).count();
        asked += exact.len();
    }
    assert!(found as f64 >= 0.95 * asked as f64, "{found} of {asked}");
}

#[test]
fn an_item_is_recalled_as_soon_as_its_text_is_in_the_index() {
    let texts: Vec<String> = (0..u64::from(ITEMS)).map(text).collect();
    let encoder = encoder(&texts);
    let call = call(request(4, 10));
    // What the user took last had a twin that came today.
    let taken = call.request.history.last().unwrap().item;
    let fresh = (0..ITEMS).find(|&i| call.keep(i) && i != taken).unwrap();
    let index = Arc::new(Flat::new(32, Metric::InnerProduct).unwrap());
    let put = |item: u32, text: &str| {
        let mut vector = vec![0.0; 32];
        assert!(encoder.encode(text, &mut vector));
        index.upsert(item, &vector).unwrap();
    };
    (0..ITEMS).filter(|i| *i != fresh).for_each(|i| put(i, &texts[i as usize]));
    let channel = channel_over(index.clone(), "triggers = 5");
    let before = channel.recall(&call, 200).unwrap();
    assert!(!before.is_empty() && before.iter().all(|c| c.item != fresh));
    put(fresh, &texts[taken as usize]);
    let after = channel.recall(&call, 200).unwrap();
    assert_eq!(after[0].item, fresh);
    assert!((after[0].score - 1.0).abs() < 1e-5);
    index.remove(fresh);
    assert_eq!(channel.recall(&call, 200).unwrap(), before);
}

#[test]
fn triggers_find_what_the_mean_of_unlike_tastes_does_not() {
    let index = Arc::new(Flat::new(3, Metric::InnerProduct).unwrap());
    let call = call(request(4, 10));
    let (a, b) = (call.request.history[9].item, call.request.history[8].item);
    assert_ne!(a, b);
    let free: Vec<u32> = (0..ITEMS).filter(|&i| call.keep(i)).take(2).collect();
    index.upsert(a, &[1.0, 0.0, 0.0]).unwrap();
    index.upsert(b, &[0.0, 1.0, 0.0]).unwrap();
    // One is half-way between both tastes and not quite like either, one is like the latest alone.
    index.upsert(free[0], &[0.6, 0.6, 0.529]).unwrap();
    index.upsert(free[1], &[1.0, 0.0, 0.0]).unwrap();
    let order = |options: &str| -> Vec<u32> {
        channel_over(index.clone(), options).recall(&call, 9).unwrap().iter().map(|c| c.item).collect()
    };
    assert_eq!(order("half_life_days = 0.0"), [free[0], free[1]]);
    assert_eq!(order("half_life_days = 0.0\ntriggers = 1"), [free[1], free[0]]);
    assert_eq!(order("half_life_days = 0.0\nmin_score = 0.8"), [free[0]]);
    // With weights that fade fast the latest item is all there is.
    assert_eq!(order("half_life_days = 0.01"), [free[1], free[0]]);
    assert!(built(find("content").unwrap(), "min_score = 2.0", &resources()).is_err());
}

#[test]
fn lists_from_item_to_item_may_be_those_of_texts() {
    let lists = resources().lists();
    let near = lists["content"].near(3, 5, &|i| i % 2 == 0).unwrap();
    assert!(near.len() == 5 && near.iter().all(|x| x.0 % 2 == 0));
    assert!(near.is_sorted_by(|a, b| a.1 >= b.1));
    assert!(built(find("i2i").unwrap(), "table = \"content\"", &resources()).is_ok());
}
