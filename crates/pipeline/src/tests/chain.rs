//! The whole chain.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::world::*;
use crate::{Feed, Pipeline, PipelineConfig, Request, Resources};

/// Deadlines that never pass, so that a busy machine decides nothing.
const PATIENT: &str = "[recall]\ndeadline_ms = 600000\n";

fn patient(config: &str, parts: Resources) -> Pipeline {
    pipeline(&format!("{PATIENT}{config}"), parts)
}

fn ids(feed: &Feed) -> Vec<&str> {
    feed.items.iter().map(|i| i.item.as_str()).collect()
}

#[test]
fn every_item_is_explained_from_channel_to_page() {
    let pipeline = patient("[rank]\ncandidates = 80\n", resources());
    let mut request = request(3, 20);
    request.trace_all = true;
    let feed = pipeline.recommend(&request).unwrap();
    let trace = &feed.trace;
    assert!(feed.personal && trace.ranked && feed.reason.is_none());
    let names: Vec<&str> = trace.stages.iter().map(|s| s.name).collect();
    assert_eq!(names, ["recall", "merge", "filter", "rank", "rules", "page"]);
    assert!(trace.stages.windows(2).all(|w| w[0].output == w[1].input), "{:?}", trace.stages);
    assert_eq!(
        trace.channels.iter().map(|c| &*c.name).collect::<Vec<_>>(),
        pipeline.channels().collect::<Vec<_>>()
    );
    let mentions: usize = trace.items.iter().map(|i| i.channels.len()).sum();
    assert_eq!(mentions, trace.channels.iter().map(|c| c.returned).sum::<usize>());

    let merged: BTreeSet<u32> = trace.items.iter().filter_map(|i| i.merged).collect();
    assert_eq!(merged.len(), trace.stages[1].output);
    assert_eq!(merged.len(), trace.items.len());
    assert_eq!(trace.items.iter().filter(|i| i.rank.is_some()).count(), 80);
    for item in &trace.items {
        assert!(item.first_hit().is_some() && item.all_hits().count() >= 1);
        assert_eq!(item.rank.is_some(), item.score.is_some());
        assert_eq!(item.tasks.len(), if item.rank.is_some() { 2 } else { 0 });
        if let Some(score) = item.score {
            assert!((item.tasks[0].score + item.tasks[1].score - score).abs() < 1e-5);
        }
    }
    for (at, (item, shown)) in trace.items.iter().zip(&feed.items).enumerate() {
        assert_eq!((item.position, &item.item), (Some(at as u32), &shown.item));
        let moved = item.steps.last().and_then(|s| s.to).or(item.rank);
        assert_eq!(moved, Some(at as u32), "{item:?}");
    }
    let json = serde_json::to_value(&feed).unwrap();
    assert_eq!(json["items"][0]["position"], 0);
    assert!(json["trace"]["items"][0]["channels"][0]["channel"].is_string());
}

#[test]
fn without_rules_the_page_is_in_order_of_the_fused_score() {
    let config = "rule = []\n[fuse]\nkind = \"product\"\nweights = { click = 1.0, like = 0.5 }\n";
    let parsed = PipelineConfig::parse(config, "a.toml").unwrap();
    let pipeline = Pipeline::new(parsed, catalogue(), resources()).unwrap();
    let feeds = pipeline.recommend_batch(&[request(7, 200)]).unwrap();
    let ranked: Vec<f32> = feeds[0].items.iter().filter_map(|i| i.score).collect();
    assert!(ranked.len() > 50 && ranked.is_sorted_by(|a, b| a >= b));
    for item in feeds[0].trace.items.iter().filter(|i| i.score.is_some()) {
        let want = item.tasks[0].score * item.tasks[1].score.sqrt();
        assert!((item.score.unwrap() - want).abs() < 1e-5);
    }
}

#[test]
fn requests_in_a_batch_get_what_they_get_alone() {
    let pipeline = patient("[rank]\nbatch_requests = 7\n", resources());
    let mut requests: Vec<Request> = (0..USERS).map(|u| request(u, 15)).collect();
    requests.push(Request::new("x", millstream_schema::ids::NO_ROW, NOW, 15));
    requests.push(Request::new("u1", 1, NOW, 0));
    let batch = pipeline.recommend_batch(&requests).unwrap();
    assert_eq!(batch.len(), requests.len());
    for (request, feed) in requests.iter().zip(&batch) {
        let alone = pipeline.recommend(request).unwrap();
        assert_eq!(alone.items, feed.items);
        assert_eq!(alone.trace.items, feed.trace.items);
    }
    let distinct: BTreeSet<Vec<&str>> = batch.iter().map(ids).collect();
    assert!(distinct.len() > 30, "users get feeds of their own");
    assert!(pipeline.recommend_batch(&[]).unwrap().is_empty());
}

#[test]
fn nothing_seen_dead_or_repeated_is_shown_and_the_page_is_full() {
    let pipeline = patient("", resources());
    for user in 0..USERS {
        let request = request(user, 50);
        let feed = pipeline.recommend(&request).unwrap();
        assert_eq!(feed.items.len(), 50);
        let rows: BTreeSet<u32> = feed.items.iter().map(|i| i.row).collect();
        assert_eq!(rows.len(), 50);
        assert!(rows.iter().all(|r| !request.seen.contains(r) && !DEAD.contains(r)));
    }
}

#[test]
fn feedback_that_comes_while_ranking_still_takes_the_item_out() {
    let ranker = FakeScorer::new();
    let ranking = ranker.asked.clone();
    let pipeline = patient("", Resources { scorer: Some(Arc::new(ranker)), ..resources() });
    let mut request = request(5, 10);
    request.trace_all = true;
    let best = pipeline.recommend(&request).unwrap().items[0].row;
    ranking.store(false, Ordering::SeqCst);
    request.seen_now = Some(Arc::new(move |item| item == best && ranking.load(Ordering::SeqCst)));
    let feed = pipeline.recommend(&request).unwrap();
    assert_eq!(feed.items.len(), 10);
    assert!(feed.items.iter().all(|i| i.row != best));
    let id = format!("i{best}");
    let gone = feed.trace.items.iter().find(|t| t.item == id).unwrap();
    assert_eq!((gone.dropped_by(), gone.rank.is_some()), (Some("seen"), true));
}

#[test]
fn a_short_list_is_filled_up_from_the_merged_rest_then_hot_then_the_catalogue() {
    let config = "[rank]\ncandidates = 5\n[[channel]]\nname = \"new_items\"\nquota = 8\n\
                  [[rule]]\nname = \"per_author\"\noptions = { max = 1, hard = true }\n";
    let pipeline = patient(config, resources());
    let feed = pipeline.recommend(&request(9, 190)).unwrap();
    let from: Vec<Option<&str>> = feed.trace.items.iter().map(|i| i.refill).collect();
    assert_eq!(feed.items.len(), from.len());
    let order =
        |f: &Option<&str>| ["", "merged", "hot", "catalogue"].iter().position(|n| *n == f.unwrap_or(""));
    assert!(from.is_sorted_by_key(order), "{from:?}");
    assert!(from.contains(&Some("hot")) && from.contains(&Some("catalogue")));
    let all: BTreeSet<u32> = feed.items.iter().map(|i| i.row).collect();
    assert_eq!(all.len(), feed.items.len());

    let pipeline = patient("[rank]\ncandidates = 5\n", resources());
    let few = pipeline.recommend(&request(9, 3)).unwrap();
    assert!(few.trace.items.iter().all(|i| i.refill.is_none()));
}

#[test]
fn more_than_there_is_gives_all_that_may_be_shown() {
    let pipeline = patient("", resources());
    let request = request(2, usize::MAX);
    let feed = pipeline.recommend(&request).unwrap();
    let snapshot = pipeline.catalogue().snapshot();
    let want = (0..ITEMS).filter(|&i| snapshot.is_alive(i, NOW) && !request.has_seen(i)).count();
    assert_eq!(feed.items.len(), want);
}

#[test]
fn a_user_who_does_not_exist_gets_the_feed_for_everyone_and_is_told() {
    let pipeline = patient("", resources());
    let stranger = Request::new("nobody", millstream_schema::ids::NO_ROW, NOW, 10);
    let feed = pipeline.recommend(&stranger).unwrap();
    assert!(!feed.personal);
    assert_eq!(feed.reason.as_deref(), Some("user `nobody` is not known"));
    assert_eq!(feed.items.len(), 10);
    assert!(!feed.trace.ranked && feed.items.iter().all(|i| i.score.is_none()));
    for item in &feed.trace.items {
        assert!(item.all_hits().all(|c| c == "hot" || c == "new_items"));
    }
    let ranked = patient("[rank]\nstrangers = true\n", resources());
    assert!(ranked.recommend(&stranger).unwrap().trace.ranked);
}

#[test]
fn scores_that_are_not_numbers_stand_last_and_are_counted() {
    let mut parts = resources();
    parts.scorer = Some(Arc::new(FakeScorer { nan_every: 3, ..FakeScorer::new() }));
    let pipeline = patient("", parts);
    let mut request = request(6, 40);
    request.trace_all = true;
    let feed = pipeline.recommend(&request).unwrap();
    let ranks = |nan: bool| {
        let row = |t: &crate::ItemTrace| t.item[1..].parse::<u32>().unwrap();
        let some = feed.trace.items.iter().filter(move |t| row(t).is_multiple_of(3) == nan);
        some.filter_map(|t| t.rank).collect::<Vec<_>>()
    };
    assert_eq!(feed.trace.non_finite as usize, ranks(true).len());
    assert!(ranks(true).iter().min() > ranks(false).iter().max());
    assert!(feed.items.iter().all(|i| i.row % 3 != 0));
    assert!(serde_json::to_string(&feed).is_ok());
}

#[test]
fn without_a_ranker_or_with_a_failing_one_the_merged_order_stands() {
    let none = patient("", Resources { scorer: None, ..resources() });
    let fails = Arc::new(FakeScorer { fails: true, ..FakeScorer::new() });
    let failing = patient("", Resources { scorer: Some(fails), ..resources() });
    let feeds = [none.recommend(&request(1, 20)).unwrap(), failing.recommend(&request(1, 20)).unwrap()];
    assert_eq!(ids(&feeds[0]), ids(&feeds[1]));
    assert!(feeds.iter().all(|f| !f.trace.ranked && f.trace.items.iter().all(|i| i.rank == i.merged)));
    assert!(feeds[0].trace.rank_error.is_none());
    assert!(feeds[1].trace.rank_error.as_deref().unwrap().contains("out of order"));
    assert!(failing.recommend_batch(&[request(1, 20)]).is_err());
}

#[test]
fn context_reaches_the_ranker_and_a_wrong_field_is_named() {
    let pipeline = patient("", resources());
    let (phone, mut desk) = (request(4, 10), request(4, 10));
    desk.context.insert("device".into(), "desk".into());
    assert_ne!(ids(&pipeline.recommend(&phone).unwrap()), ids(&pipeline.recommend(&desk).unwrap()));
    desk.context.insert("hour".into(), "noon".into());
    assert_eq!(pipeline.recommend(&desk).unwrap().trace.bad_context, 1);
    desk.context.insert("devise".into(), "x".into());
    let err = pipeline.recommend(&desk).unwrap_err().to_string();
    assert_eq!(err, "unknown context field `devise`; did you mean `device`?");
}

#[test]
fn configurations_are_checked_key_by_key() {
    let wrong = [
        ("[rank]\ncandidate = 3", "did you mean `candidates`"),
        ("[[channel]]\nname = \"hot\"\nquoata = 3", "did you mean `quota`"),
        ("[[channel]]\nname = \"hott\"", "did you mean `hot`"),
        ("[[channel]]\nname = \"hot\"\n[[channel]]\nname = \"hot\"", "named twice"),
        ("[[channel]]\nname = \"hot\"\nweight = 0.0", "weight"),
        ("[[channel]]\nname = \"hot\"\noptions = { windows = [\"2d\"] }", "2d"),
        ("[[rule]]\nname = \"mmrr\"", "did you mean `mmr`"),
        ("[[rule]]\nname = \"mmr\"\noptions = { lamda = 0.5 }", "did you mean `lambda`"),
        ("[fuse]\nweights = { clicks = 1.0 }", "did you mean `click`"),
        ("[rank]\ncandidates = 0", "above 0"),
        ("[recall]\ndeadline_ms = 0", "`deadline_ms` must be above 0"),
        ("[recall]\nthreads = 257", "at most 256"),
        ("[[channel]]\nname = \"hot\"\ndeadline_ms = 0", "channel `hot`: key `deadline_ms` must be above 0"),
        ("[[channel]]\nname = \"two_tower\"\noptions = { min_score = nan }", "`min_score`"),
    ];
    for (text, word) in wrong {
        let made =
            PipelineConfig::parse(text, "a.toml").and_then(|c| Pipeline::new(c, catalogue(), resources()));
        let err = made.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(err.contains(word), "{text}: {err}");
    }
    let written = toml::to_string(&PipelineConfig::default()).unwrap();
    assert_eq!(PipelineConfig::parse(&written, "a.toml").unwrap(), PipelineConfig::default());
}

#[test]
fn similar_items_come_from_common_users_then_from_vectors() {
    let pipeline = patient("", resources());
    let found = pipeline.similar_items(150, 500, NOW).unwrap();
    let sources: Vec<&str> = found.iter().map(|s| s.source).collect();
    assert!(sources.contains(&"item_cf") && sources.contains(&"vectors"));
    assert!(sources.is_sorted());
    let rows: BTreeSet<u32> = found.iter().map(|s| s.row).collect();
    assert!(rows.len() == 196 && !rows.contains(&150) && DEAD.iter().all(|d| !rows.contains(d)));
    assert!(pipeline.similar_items(17, 5, NOW).is_err());
    assert!(pipeline.similar_items(ITEMS + 9, 5, NOW).is_err());
}
