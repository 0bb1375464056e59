//! Several channels of a kind side by side; queries of all sorts; triggers by scene; what is made ahead of time.

use std::sync::Arc;

use super::world::*;
use crate::channel::{Channel, find};
use crate::queries::{OfHistory, PerUser, Queries};
use crate::{DenseVectors, Error, ItemVectors, Request, Resources, Retrieval, VectorSearch};

/// Items by falling row, whatever is asked.
struct Falling;

impl VectorSearch for Falling {
    fn search(&self, _: &[f32], k: usize, keep: &dyn Fn(u32) -> bool) -> Result<Vec<(u32, f32)>, Error> {
        Ok((0..ITEMS).rev().filter(|&i| keep(i)).take(k).map(|i| (i, i as f32)).collect())
    }
}

fn with_mind() -> Resources {
    let mut parts = resources();
    let queries = parts.retrievers["two_tower"].queries.clone();
    parts.retrievers.insert("mind".into(), Retrieval { queries, search: Arc::new(Falling) });
    parts
}

#[test]
fn retrievers_and_hot_windows_are_channels_under_names_of_their_own() {
    let config = "[recall]\ndeadline_ms = 600000\n\
        [[channel]]\nname = \"two_tower\"\n[[channel]]\nname = \"mind\"\nkind = \"vector\"\nquota = 7\n\
        [[channel]]\nname = \"other\"\nkind = \"vector\"\noptions = { retriever = \"mind\", min_score = 150.0 }\n\
        [[channel]]\nname = \"hot_day\"\nkind = \"hot\"\noptions = { windows = [\"1d\"] }\n\
        [[channel]]\nname = \"hot_month\"\nkind = \"hot\"\noptions = { windows = [\"30d\"] }\n\
        [fuse]\nchannels = { mind = 0.5 }";
    let pipeline = pipeline(config, with_mind());
    let names: Vec<&str> = pipeline.channels().collect();
    assert_eq!(names, ["two_tower", "mind", "other", "hot_day", "hot_month"]);
    let feed = pipeline.recommend(&Request { trace_all: true, ..request(2, 10) }).unwrap();
    let returned: Vec<usize> = feed.trace.channels.iter().map(|c| c.returned).collect();
    assert_eq!(returned[1], 7);
    assert!(returned[2] < 50 && returned[2] > 30, "those above 150 that were not seen");
    let hits = feed.trace.items.iter().flat_map(|i| &i.channels);
    assert!(hits.filter(|h| &*h.channel == "mind").all(|h| h.score >= 190.0));
}

#[test]
fn users_may_be_asked_for_by_their_row_or_by_their_history() {
    let vectors: Arc<dyn ItemVectors> = Arc::new(DenseVectors::new(4, vectors()).unwrap());
    let call = call(request(3, 10));
    let known = |row: u32| {
        let mut out = vec![0.0; 4];
        vectors.copy(row, &mut out).then_some(out)
    };
    assert_eq!(PerUser(vectors.clone()).queries(&call).unwrap(), known(3).unwrap());
    let of_history = OfHistory { vectors: vectors.clone(), max_history: 3, decay: 0.5 };
    let got = of_history.queries(&call).unwrap();
    let latest: Vec<Vec<f32>> =
        call.request.history.iter().rev().take(3).filter_map(|a| known(a.item)).collect();
    for d in 0..4 {
        let want = (latest[0][d] + 0.5 * latest[1][d] + 0.25 * latest[2][d]) / 1.75;
        assert!((got[d] - want).abs() < 1e-6);
    }
    let stranger = super::world::call(Request::new("x", millstream_schema::ids::NO_ROW, NOW, 5));
    assert!(PerUser(vectors).queries(&stranger).unwrap().is_empty());
    assert!(of_history.queries(&stranger).unwrap().is_empty());
    let mut parts = resources();
    let retrieval = Retrieval { queries: Arc::new(of_history), search: parts.search.clone().unwrap() };
    parts.retrievers = [("item2vec".to_owned(), retrieval)].into();
    let channel = built(find("vector").unwrap(), "", &parts).unwrap();
    assert!(channel.recall(&stranger, 9).unwrap().is_empty());
    assert_eq!(channel.recall(&call, 9).unwrap().len(), 9, "the only retriever is meant where none is named");
}

fn items(channel: &Arc<dyn Channel>, request: &Request) -> Vec<u32> {
    channel.recall(&call(request.clone()), 500).unwrap().iter().map(|c| c.item).collect()
}

#[test]
fn triggers_know_kinds_times_and_scenes() {
    let mut asked = request(3, 10);
    asked.history = asked.history[..4].to_vec();
    for (at, action) in asked.history.iter_mut().enumerate() {
        action.item = [150, 20, 76, 43][at];
        action.kind = [1, 2, 4, 1][at];
        action.time_ms = NOW - [40, 30, 3, 2][at] * DAY;
    }
    asked.seen = Arc::default();
    let table = resources().item_cf.unwrap().get();
    let then = call(asked.clone());
    let near = |item: u32| -> Vec<u32> {
        let all = table.neighbours(item).iter().map(|x| x.0);
        all.filter(|&i| then.keep(i)).take(50).collect()
    };
    let i2i = |options: &str| channel("i2i", options);
    assert_eq!(items(&i2i("kinds = { cart = 1.0 }"), &asked), near(20));
    assert_eq!(items(&i2i("kinds = { like = 1.0 }"), &asked), near(76));
    assert_eq!(items(&i2i("short = \"50h\"\nlong_triggers = 0"), &asked), near(43));
    assert_eq!(items(&i2i("short = \"50h\"\nshort_triggers = 0\nlong_triggers = 1"), &asked), near(76));
    assert!(items(&i2i("kinds = { order = 1.0, search = 2.0 }"), &asked).is_empty());
    // Only 150 (row % 3 = 0) is a product; the scene is the value of a context field.
    asked.context.insert("device".into(), "product".into());
    let scene = "scene = \"device\"\nscene_field = \"kind\"";
    assert_eq!(items(&i2i(scene), &asked), near(150));
    let only = i2i("scene = \"device\"\nscenes = [\"product\", \"desk\"]");
    assert!(!items(&only, &asked).is_empty());
    asked.context.insert("device".into(), "phone".into());
    assert!(items(&only, &asked).is_empty());
    assert!(items(&i2i(scene), &asked).is_empty());
    // Vectors are lists as well.
    let by_vector = items(&i2i("table = \"vectors\"\nkinds = { cart = 1.0 }\nper_trigger = 5"), &asked);
    assert_eq!(by_vector.len(), 5);
    assert!(!by_vector.contains(&20));
    for wrong in
        ["per_trigger = 0", "scenes = [\"x\"]", "short_weight = 0.0", "kinds = { \"Big Cart\" = 1.0 }"]
    {
        assert!(built(find("i2i").unwrap(), wrong, &resources()).is_err(), "{wrong}");
    }
}

#[test]
fn bests_are_ranked_more_widely_and_without_their_own_past() {
    let config = "[recall]\ndeadline_ms = 600000\n[rank]\ncandidates = 20\n\
        [near_line]\nkeep = 30\ncandidates = 90\nwiden = 3\n\
        [[channel]]\nname = \"two_tower\"\nquota = 20\n[[channel]]\nname = \"hot\"\nquota = 10\n\
        [[channel]]\nname = \"near_line\"\nquota = 10";
    let pipeline = pipeline(config, resources());
    let asked = request(4, 10);
    let best = pipeline.best(&asked).unwrap();
    assert_eq!(best.len(), 30);
    assert!(best.is_sorted_by(|a, b| a.1 >= b.1));
    assert!(best.iter().all(|x| !asked.has_seen(x.0) && !DEAD.contains(&x.0)));
    // By hand: two towers' 60 and hot's 30, all ranked.
    let wide = "[[channel]]\nname = \"two_tower\"\nquota = 60\n[[channel]]\nname = \"hot\"\nquota = 30\n\
        [rank]\ncandidates = 90";
    let wide = super::world::pipeline(&format!("rule = []\n{}", wide), resources());
    let feed = wide.recommend_batch(&[Request { n: 30, ..asked.clone() }]).unwrap();
    let want: Vec<u32> = feed[0].items.iter().map(|i| i.row).collect();
    assert_eq!(best.iter().map(|x| x.0).collect::<Vec<_>>(), want);
    let none = super::world::pipeline("", Resources { scorer: None, ..resources() });
    assert!(none.best(&asked).is_err());
}

#[test]
fn bests_that_are_too_old_are_not_used() {
    let call = call(request(4, 10));
    let found = |options: &str| channel("near_line", options).recall(&call, 300).unwrap();
    assert!(found("").len() > 100);
    assert_eq!(found("max_age = \"25h\""), found(""));
    assert!(found("max_age = \"23h\"").is_empty());
}

#[test]
fn lists_for_evaluation_are_those_of_a_request() {
    let config = "[recall]\ndeadline_ms = 600000\n[[channel]]\nname = \"two_tower\"\n[[channel]]\nname = \"hot\"\n\
        fallback = \"spare\"\n[[channel]]\nname = \"spare\"\nkind = \"new_items\"\nstandby = true";
    let pipeline = pipeline(config, resources());
    let requests: Vec<Request> = (0..5).map(|u| Request { trace_all: true, ..request(u, 10) }).collect();
    let recalled = requests.iter().map(|r| pipeline.recall(r, None).unwrap());
    let feeds = pipeline.recommend_batch(&requests).unwrap();
    for (found, feed) in recalled.zip(&feeds) {
        assert!(found.lists[2].is_none(), "on standby");
        let lists: Vec<_> = found.lists.iter().map(|l| l.as_deref().unwrap_or(&[])).collect();
        let merged = pipeline.merge_lists(&lists, &|_| true);
        let mut order: Vec<(u32, &str)> =
            feed.trace.items.iter().filter_map(|t| Some((t.merged?, t.item.as_str()))).collect();
        order.sort_unstable();
        let ids: Vec<String> = merged.items.iter().map(|i| format!("i{i}")).collect();
        assert_eq!(order.iter().map(|x| x.1).collect::<Vec<_>>(), ids);
        let without = pipeline.merge_lists(&lists, &|at| at != 0);
        assert_eq!(without.items, lists[1].iter().map(|c| c.item).collect::<Vec<_>>());
    }
    let fewer = pipeline.recall(&requests[0], Some(3)).unwrap();
    assert!(fewer.lists.iter().flatten().all(|l| l.len() == 3));
}
