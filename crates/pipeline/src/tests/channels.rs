//! Every channel of the registry, the ones to come included.

use std::sync::Arc;

use super::world::*;
use crate::channel::{CHANNELS, Channel, Resources, find};
use crate::{Pipeline, PipelineConfig, Request};

fn each(check: impl Fn(&str, &dyn Channel)) {
    let parts = resources();
    for def in CHANNELS {
        let channel = built(def, &least(def.name), &parts).unwrap();
        check(def.name, &*channel);
    }
}

#[test]
fn channels_give_at_most_k_distinct_items_that_may_be_shown() {
    each(|name, channel| {
        for user in 0..10 {
            let call = call(request(user, 10));
            for k in [0, 1, 7, 1000] {
                let found = channel.recall(&call, k).unwrap();
                assert!(found.len() <= k, "{name}");
                let distinct: std::collections::BTreeSet<u32> = found.iter().map(|c| c.item).collect();
                assert_eq!(distinct.len(), found.len(), "{name} repeats an item");
                for item in distinct {
                    assert!(item < ITEMS && !DEAD.contains(&item), "{name} gives dead {item}");
                    assert!(!call.request.seen.contains(&item), "{name} gives seen {item}");
                }
            }
            assert!(!channel.recall(&call, 50).unwrap().is_empty(), "{name} finds nothing");
        }
    });
}

#[test]
fn channels_are_deterministic_and_a_smaller_k_is_a_prefix() {
    each(|name, channel| {
        let call = call(request(3, 10));
        let found = channel.recall(&call, 30).unwrap();
        assert_eq!(found, channel.recall(&call, 30).unwrap(), "{name}");
        let few = channel.recall(&call, 5).unwrap();
        assert_eq!(few, found[..few.len()], "{name}");
    });
}

#[test]
fn channels_bear_an_empty_history_and_a_stranger() {
    each(|name, channel| {
        let known = Request::new("u1", 1, NOW, 10);
        let stranger = Request::new("x", millstream_schema::ids::NO_ROW, NOW, 10);
        for request in [known, stranger] {
            assert!(channel.recall(&call(request), 20).is_ok(), "{name}");
        }
    });
}

#[test]
fn channels_take_no_unknown_option_and_say_which_part_they_lack() {
    for def in CHANNELS {
        let wrong = format!("no_such_option = 1\n{}", least(def.name));
        let err = built(def, &wrong, &resources()).err().unwrap().to_string();
        assert!(err.contains("no_such_option") && err.contains(def.name), "{err}");
        if (def.lacks)(&Resources::default()).is_some() {
            let err = built(def, &least(def.name), &Resources::default()).err().unwrap().to_string();
            assert!(err.contains("needs"), "{err}");
            let config = format!("[[channel]]\nname = \"{}\"", def.name);
            let config = PipelineConfig::parse(&config, "a.toml").unwrap();
            let err = Pipeline::new(config, catalogue(), Resources::default()).err().unwrap().to_string();
            assert!(err.contains("needs"), "{err}");
        }
    }
    assert!(find("two_towr").err().unwrap().to_string().contains("did you mean `two_tower`"));
}

#[test]
fn an_item_counts_with_the_best_of_the_interests() {
    let channel = channel("two_tower", "");
    let call = call(request(5, 10));
    let found = channel.recall(&call, 1000).unwrap();
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    let parts = resources();
    let (retriever, search) = (&parts.retrievers["two_tower"], parts.search.unwrap());
    let vectors = retriever.queries.queries(&call).unwrap();
    assert_eq!(vectors.len(), 8, "two interests");
    for interest in vectors.chunks(4) {
        for (item, score) in search.search(interest, 1000, &|i| call.keep(i)).unwrap() {
            let held = found.iter().find(|c| c.item == item).unwrap();
            assert!(held.score >= score);
        }
    }
}

#[test]
fn new_items_come_newest_first_and_only_while_they_are_new() {
    let channel = channel("new_items", "max_age_days = 3");
    let found = channel.recall(&call(Request::new("u1", 1, NOW, 5)), 100).unwrap();
    // Every fourth item was created row / 10 days ago.
    let want: Vec<u32> = (0..30).filter(|r| r % 4 == 0).collect();
    assert_eq!(found.iter().map(|c| c.item).collect::<Vec<_>>(), want);
    assert!(found.iter().all(|c| (0.0..=1.0).contains(&c.score)));
}

#[test]
fn the_segment_has_its_own_hot_list() {
    let parts = resources();
    {
        let mut popularity = parts.popularity.write().unwrap();
        (0..1000).for_each(|_| popularity.add(190, NOW, 1.0, Some("it")));
    }
    let build = |options: &str| built(find("hot").unwrap(), options, &parts).unwrap();
    let hot = build("windows = [\"1d\"]");
    let mut request = Request::new("u1", 1, NOW, 5);
    request.segment = Some("fr".into());
    let found = hot.recall(&call(request.clone()), 2).unwrap();
    assert_eq!(found[1].item, 190);
    assert_ne!(found[0].item, 190);
    let everyone = build("windows = [\"1d\"]\nby_segment = false");
    assert_eq!(everyone.recall(&call(request), 2).unwrap()[0].item, 190);
}

#[test]
fn feedback_counts_in_the_hot_list_at_once() {
    let parts = resources();
    let hot = built(find("hot").unwrap(), "", &parts).unwrap();
    let before = hot.recall(&call(Request::new("u1", 1, NOW, 5)), 1).unwrap();
    parts.popularity.write().unwrap().add(199, NOW, 1e6, None);
    let after = hot.recall(&call(Request::new("u1", 1, NOW, 5)), 1).unwrap();
    assert_ne!(before[0].item, 199);
    assert_eq!(after[0].item, 199);
    assert!(Arc::strong_count(&parts.popularity) >= 2);
}

#[test]
fn new_items_come_in_pools_by_age_and_by_their_authors() {
    let call = call(request(3, 5));
    let ages = |options: &str| -> Vec<i64> {
        let found = channel("new_items", options).recall(&call, 200).unwrap();
        found.iter().map(|c| (NOW - call.catalogue.created_ms(c.item).unwrap()) / (DAY / 10)).collect()
    };
    // Pools of up to 2, 5 and 10 days: one of each in turn, within a pool the newest first.
    let pooled = ages("pools = [\"2d\", \"5d\", \"10d\"]");
    assert!(pooled[..3].windows(2).all(|w| w[0] < w[1]), "{pooled:?}");
    let pool = |age: &i64| [20, 50, 100].iter().position(|most| age < most).unwrap();
    assert_eq!(pooled[..9].iter().map(pool).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    for p in 0..3 {
        assert!(pooled.iter().filter(|a| pool(a) == p).collect::<Vec<_>>().is_sorted(), "{pooled:?}");
    }
    let mut all = ages("max_age_days = 9.99");
    let mut same = pooled.clone();
    all.sort_unstable();
    same.sort_unstable();
    assert_eq!(all, same, "pools part what one pool holds");

    let items = |order: &str| -> Vec<u32> {
        let options = format!("max_age_days = 10\norder = \"{order}\"");
        channel("new_items", &options).recall(&call, 200).unwrap().iter().map(|c| c.item).collect()
    };
    let author = |item: u32| call.catalogue.author(item);
    let parts = resources();
    let record = |item: &u32| {
        let own: Vec<u32> = (0..ITEMS).filter(|&i| author(i) == author(*item)).collect();
        let window = millstream_models::recall::popularity::Window::MONTH;
        own.iter().map(|&i| parts.hot().count(i, window, NOW)).sum::<f64>() / own.len() as f64
    };
    let by_record = items("author_record");
    assert!(by_record.iter().map(record).collect::<Vec<_>>().is_sorted_by(|a, b| a >= b));
    let own = |item: &u32| call.request.history.iter().any(|a| author(a.item) == author(*item));
    let by_own = items("own_authors");
    assert!(by_own.is_sorted_by_key(|i| !own(i)) && by_own.iter().any(own));
    assert_ne!(by_own, items("newest"));
    for wrong in ["pools = [\"6h\", \"1h\"]", "pools = [\"1h\"]\nmax_age_days = 2.0", "pools = [\"soon\"]"] {
        assert!(built(find("new_items").unwrap(), wrong, &parts).is_err(), "{wrong}");
    }
}
