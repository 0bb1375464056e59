//! Channels that stand in for others, channels of tails, and what is said of all of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::world::*;
use crate::channel::{Call, Candidate, Channel};
use crate::recall::Lane;
use crate::trace::{ChannelStatus, ChannelTrace};
use crate::{Error, Feed, Pipeline, PipelineConfig, Request};

const PATIENT: &str = "[recall]\ndeadline_ms = 600000\n";

struct Gives(Result<Vec<u32>, &'static str>);

impl Channel for Gives {
    fn recall(&self, _: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let items = self.0.clone().map_err(|why| Error::Part(why.into()))?;
        Ok(items.into_iter().take(k).map(|item| Candidate { item, score: 1.0 }).collect())
    }
}

fn lane(name: &str, quota: usize, gives: Result<Vec<u32>, &'static str>) -> Lane {
    Lane { quota, deadline: Duration::from_secs(600), ..Lane::new(name, false, Arc::new(Gives(gives))) }
}

/// A pipeline of these lanes alone.
fn of(lanes: Vec<Lane>) -> Pipeline {
    Pipeline { lanes, ..pipeline(PATIENT, resources()) }
}

fn told(user: u32) -> Request {
    Request { trace_all: true, ..request(user, 10) }
}

fn channel<'a>(feed: &'a Feed, name: &str) -> &'a ChannelTrace {
    feed.trace.channels.iter().find(|c| &*c.name == name).unwrap()
}

fn fine() -> Vec<u32> {
    let call = call(request(1, 10));
    (0..ITEMS).filter(|&i| call.keep(i)).collect()
}

#[test]
fn a_failing_a_late_and_a_short_channel_are_stood_in_for() {
    let fine = fine();
    let (first, second) = (fine[..40].to_vec(), fine[40..150].to_vec());
    for (gives, wanting) in [(Err("down"), 30), (Ok(vec![]), 30), (Ok(fine[150..152].to_vec()), 28)] {
        let failing = gives.is_err();
        let short = Lane { fallback: Some(1), short: 5, ..lane("short", 30, gives) };
        let spare = Lane { standby: true, ..lane("spare", 100, Ok(second.clone())) };
        let pipeline = of(vec![short, spare, lane("plain", 40, Ok(first.clone()))]);
        let feed = pipeline.recommend(&told(1)).unwrap();
        let spare = channel(&feed, "spare");
        assert_eq!((spare.returned, spare.status), (wanting, ChannelStatus::Answered));
        assert_eq!(spare.stands_in_for.iter().map(|n| &**n).collect::<Vec<_>>(), ["short"]);
        assert!(channel(&feed, "plain").stands_in_for.is_empty());
        // It has the weight of whom it stands in for: one item of each in turn.
        let second: Vec<&str> = feed
            .trace
            .items
            .iter()
            .filter(|t| t.merged.unwrap() < 20)
            .filter_map(|t| t.first_hit())
            .collect();
        assert!((8..=10).contains(&second.iter().filter(|c| **c == "spare").count()), "{second:?}");
        // A batch goes on without what fails, but not unnoticed; a short list is no failure.
        let batch = pipeline.recommend_batch(&[told(1)]).unwrap().remove(0);
        let short = channel(&batch, "short");
        assert_eq!(short.status == ChannelStatus::Failed, failing);
        assert_eq!(short.reason.as_deref(), failing.then_some("down"));
        assert_eq!(channel(&batch, "spare").returned, wanting);
        assert_eq!(batch.items, feed.items);
        let alone = pipeline.recall(&told(1), None).unwrap();
        assert_eq!(alone.failures, [failing.then(|| "down".to_owned()), None, None]);
        assert!(alone.lists[0].is_some());
        assert!(!failing || alone.lists[0].as_ref().is_some_and(Vec::is_empty));
    }
    let enough = Lane { fallback: Some(1), short: 2, ..lane("enough", 30, Ok(first[..2].to_vec())) };
    let spare = Lane { standby: true, ..lane("spare", 100, Ok(second)) };
    let feed = of(vec![enough, spare]).recommend(&told(1)).unwrap();
    let spare = channel(&feed, "spare");
    assert_eq!((spare.returned, spare.status), (0, ChannelStatus::Skipped));
    assert_eq!(spare.reason.as_deref(), Some("on standby"));
}

#[test]
fn a_channel_that_is_in_the_merge_anyway_gives_more_when_it_stands_in() {
    let fine = fine();
    let down = Lane { fallback: Some(1), ..lane("down", 30, Err("down")) };
    let hot = lane("hot", 20, Ok(fine[..100].to_vec()));
    let feed = of(vec![down, hot]).recommend(&told(1)).unwrap();
    assert_eq!(channel(&feed, "hot").returned, 50);
    let both_down = Lane { fallback: Some(1), ..lane("down", 30, Err("down")) };
    let feed = of(vec![both_down, lane("hot", 20, Err("down as well"))]).recommend(&told(1)).unwrap();
    assert_eq!(channel(&feed, "hot").status, ChannelStatus::Failed);
    assert_eq!(feed.items.len(), 10);
}

#[test]
fn nobody_stands_in_for_a_channel_that_does_not_know_a_stranger() {
    let personal = Lane { fallback: Some(1), personal: true, ..lane("personal", 30, Ok(fine())) };
    let spare = Lane { standby: true, ..lane("spare", 100, Ok(fine())) };
    let stranger = Request::new("nobody", millstream_schema::ids::NO_ROW, NOW, 10);
    let feed = of(vec![personal, spare]).recommend(&stranger).unwrap();
    assert_eq!(channel(&feed, "spare").status, ChannelStatus::Skipped);
}

#[test]
fn a_tail_takes_the_place_of_the_last_candidates() {
    let fine = fine();
    let tail = Lane { tail: true, ..lane("ahead", 30, Ok(fine[100..140].to_vec())) };
    let mut pipeline = of(vec![lane("now", 100, Ok(fine[..90].to_vec())), tail]);
    pipeline.config.rank.candidates = 80;
    let feed = pipeline.recommend(&told(1)).unwrap();
    let ranked: Vec<&crate::ItemTrace> = feed.trace.items.iter().filter(|t| t.rank.is_some()).collect();
    assert_eq!(ranked.len(), 80);
    let by = |name: &str| ranked.iter().filter(|t| t.first_hit() == Some(name)).count();
    assert_eq!((by("now"), by("ahead")), (50, 30));
    let place = |t: &&&crate::ItemTrace| t.merged.unwrap();
    let latest_now = ranked.iter().filter(|t| t.first_hit() == Some("now")).map(|t| place(&t)).max();
    assert!(ranked.iter().filter(|t| t.first_hit() == Some("ahead")).all(|t| Some(place(&t)) > latest_now));
}

#[test]
fn hits_shares_and_exposures_are_those_of_the_items() {
    let names = ["two_tower", "item_cf", "hot", "new_items", "tag", "user_cf", "near_line"];
    let config: String = names.iter().map(|n| format!("[[channel]]\nname = \"{n}\"\n")).collect();
    let pipeline = pipeline(&format!("{PATIENT}{config}"), resources());
    for user in 0..10 {
        let feed = pipeline.recommend(&told(user)).unwrap();
        let merged = feed.trace.items.iter().filter(|t| t.merged.is_some()).count();
        let mut shares = 0.0;
        for c in &feed.trace.channels {
            let first = |t: &&crate::ItemTrace| t.first_hit() == Some(&*c.name);
            let has = |t: &&crate::ItemTrace| t.all_hits().any(|n| n == &*c.name);
            let only = |t: &&crate::ItemTrace| has(t) && t.channels.len() == 1;
            let all = || feed.trace.items.iter();
            let page = || feed.trace.items.iter().filter(|t| t.position.is_some());
            assert_eq!(c.first_hits, all().filter(first).count());
            assert_eq!(c.returned, all().filter(has).count());
            assert_eq!(c.shown.first, page().filter(first).count());
            assert_eq!(c.shown.all, page().filter(has).count());
            assert_eq!(c.shown.only, page().filter(only).count());
            assert!((c.share - c.first_hits as f32 / merged as f32).abs() < 1e-6);
            shares += c.share;
        }
        assert!((shares - 1.0).abs() < 1e-5);
        let shown: usize = feed.trace.channels.iter().map(|c| c.shown.first).sum();
        assert_eq!(shown, feed.items.len());
    }
}

#[test]
fn what_channels_say_of_each_other_is_checked() {
    let wrong = [
        ("name = \"hot\"\nfallback = \"hot\"", "its own fallback"),
        ("name = \"hot\"\nfallback = \"new\"\n[[channel]]\nname = \"new_items\"", "did you mean `new_items`"),
        ("name = \"hot\"\nstandby = true", "no channel names it"),
        ("name = \"hot\"\nshort = 3", "needs a `fallback`"),
        ("name = \"hot\"\nshort = 0", "above 0"),
        ("name = \"mine\"", "unknown channel `mine`"),
        ("name = \"mine\"\nkind = \"hott\"", "did you mean `hot`"),
        ("name = \"mind\"\nkind = \"vector\"", "unknown retriever `mind`"),
        ("name = \"i2i\"\noptions = { table = \"swing\" }", "unknown table `swing`"),
        ("name = \"tag\"\noptions = { fields = [\"moods\"] }", "did you mean `mood`"),
        (
            "name = \"a\"\nkind = \"hot\"\nfallback = \"b\"\n[[channel]]\nname = \"b\"\nkind = \"hot\"\n\
             standby = true\nfallback = \"a\"",
            "no fallback of its own",
        ),
    ];
    for (text, word) in wrong {
        let text = format!("[[channel]]\n{text}");
        let made =
            PipelineConfig::parse(&text, "a.toml").and_then(|c| Pipeline::new(c, catalogue(), resources()));
        let err = made.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(err.contains(word), "{text}: {err}");
    }
    let err = PipelineConfig::parse("[near_line]\nkeep = 0", "a.toml").unwrap_err().to_string();
    assert!(err.contains("[near_line]"), "{err}");
    let all: BTreeSet<&str> = crate::CHANNELS.iter().map(|d| d.name).collect();
    assert_eq!(all.len(), crate::CHANNELS.len(), "kinds have names of their own");
}
