//! Models that learned from all positives at once, as channels.

use std::sync::Arc;

use millstream_index::{Flat, Metric};
use millstream_models::recall::als::AlsConfig;
use millstream_models::recall::factors::{FactorModel, Factors};
use millstream_models::recall::item_cf::ItemCfConfig;
use millstream_models::recall::positives::Positives;
use millstream_models::recall::swing::SwingConfig;
use millstream_models::recall::user_cf::{UserCf, UserCfConfig};
use millstream_schema::ids::NO_ROW;

use super::world::*;
use crate::channel::{Channel, find};
use crate::queries::{Folded, Queries};
use crate::{Candidate, Error, Live, Request, Resources, Retrieval, Takers};

fn learned<R>(learn: impl FnOnce(&Positives<'_>) -> R) -> R {
    let mut all = actions();
    all.sort_unstable();
    let mut offsets = vec![0u64];
    offsets.extend((0..300).map(|user| all.partition_point(|a| a.0 <= user) as u64));
    let (item, time_ms): (Vec<u32>, Vec<i64>) = all.iter().map(|a| (a.1, a.2)).unzip();
    learn(&Positives { items: ITEMS as usize, offsets: &offsets, item: &item, time_ms: &time_ms })
}

fn als() -> Arc<FactorModel> {
    let config = AlsConfig { dim: 8, ..AlsConfig::default() };
    Arc::new(learned(|p| config.fit(p, 1, &mut |_| {})).unwrap())
}

fn parts() -> Resources {
    let model = als();
    let items: Vec<u32> = (0..ITEMS).collect();
    let search = Arc::new(Flat::build(8, Metric::InnerProduct, &items, model.items()).unwrap());
    let mut parts = resources();
    parts.retrievers.insert("als".into(), Retrieval { queries: Arc::new(Folded::new(model)), search });
    let swing = learned(|p| SwingConfig::default().build(p)).unwrap();
    parts.item_lists.insert("swing".into(), Arc::new(swing));
    let cf = learned(|p| UserCf::build(&UserCfConfig::default(), p)).unwrap();
    parts.user_cf.insert("people".into(), Arc::new(Live::new(cf)));
    parts
}

fn of(kind: &str, options: &str) -> Result<Arc<dyn Channel>, Error> {
    built(find(kind).unwrap(), options, &parts())
}

fn rows(found: &[Candidate]) -> Vec<u32> {
    found.iter().map(|c| c.item).collect()
}

#[test]
fn a_stranger_with_a_history_is_folded_in_and_one_without_gets_nothing() {
    let channel = of("vector", "retriever = \"als\"").unwrap();
    let stranger = Request { user_row: NO_ROW, ..request(3, 10) };
    let asked = call(stranger.clone());
    let found = channel.recall(&asked, 20).unwrap();
    let model = als();
    // Repeats add up, in order of their latest action.
    let mut history: Vec<(u32, f32)> = Vec::new();
    for action in stranger.history.iter().rev() {
        match history.iter_mut().find(|x| x.0 == action.item) {
            Some(held) => held.1 += 1.0,
            None => history.push((action.item, 1.0)),
        }
    }
    let want = model.recommend(&model.user_vector(&history), 20, &|i| asked.keep(i));
    assert_eq!(rows(&found), want.iter().map(|x| x.0).collect::<Vec<_>>());
    assert!(channel.recall(&call(Request::new("x", NO_ROW, NOW, 5)), 9).unwrap().is_empty());
    let mut unknown = stranger;
    unknown.history.iter_mut().for_each(|a| a.item = ITEMS + 5);
    assert!(Folded::new(model).queries(&call(unknown)).unwrap().is_empty());
}

#[test]
fn a_history_that_is_folded_in_may_be_weighed() {
    let model = als();
    let mut asked = request(3, 10);
    asked.history.truncate(3);
    for (at, action) in asked.history.iter_mut().enumerate() {
        (action.item, action.kind, action.time_ms) =
            ([10, 20, 10][at], [1, 4, 1][at], NOW - (2 - at as i64) * DAY);
    }
    let asked = call(asked);
    for (options, history) in [
        ("", vec![(10, 2.0), (20, 1.0)]),
        ("max_history = 2", vec![(10, 1.0), (20, 1.0)]),
        ("half_life_days = 1.0", vec![(10, 1.25), (20, 0.5)]),
        ("kinds = { like = 3.0 }", vec![(10, 2.0), (20, 3.0)]),
    ] {
        let channel = of("vector", &format!("retriever = \"als\"\n{options}")).unwrap();
        let found = channel.recall(&asked, 30).unwrap();
        let want = model.recommend(&model.user_vector(&history), 30, &|i| asked.keep(i));
        assert_eq!(rows(&found), want.iter().map(|x| x.0).collect::<Vec<_>>(), "{options}");
    }
    for (options, parts) in [
        ("retriever = \"two_tower\"\nmax_history = 2", ["max_history", "two_tower"]),
        ("retriever = \"als\"\nmax_history = 0", ["max_history", "above 0"]),
        ("retriever = \"alss\"", ["did you mean `als`", "retriever"]),
    ] {
        let error = of("vector", options).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn lists_of_other_models_are_tables_and_trained_users_have_neighbours() {
    let asked = call(request(3, 10));
    let swing = of("i2i", "table = \"swing\"").unwrap().recall(&asked, 40).unwrap();
    assert!(!swing.is_empty());
    assert_ne!(rows(&swing), rows(&of("i2i", "").unwrap().recall(&asked, 40).unwrap()));

    let channel = of("user_cf", "model = \"people\"\nmax_history = 4").unwrap();
    let found = channel.recall(&asked, 25).unwrap();
    let history: Vec<(u32, i64)> =
        asked.request.history.iter().rev().take(4).map(|a| (a.item, a.time_ms)).collect();
    let model = parts().user_cf["people"].get();
    let want = model.recommend(&model.similar_to(&history, Some(3)), 25, &|i| asked.keep(i));
    assert!(!want.is_empty());
    assert_eq!(rows(&found), want.iter().map(|x| x.0).collect::<Vec<_>>());
    assert!(channel.recall(&call(Request::new("x", NO_ROW, NOW, 5)), 9).unwrap().is_empty());
    for (options, parts) in [
        ("model = \"poeple\"", ["did you mean `people`", "model"]),
        ("model = \"people\"\nneighbours = 3", ["neighbours", "user_cf"]),
        ("model = \"people\"\nmax_history = 0", ["max_history", "above 0"]),
    ] {
        let error = of("user_cf", options).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let error =
        built(find("user_cf").unwrap(), "model = \"people\"", &resources()).err().unwrap().to_string();
    assert!(error.contains("needs") && error.contains("people"), "{error}");
}

#[test]
fn tables_that_are_replaced_count_from_the_next_call_on() {
    let parts = parts();
    let asked = call(request(3, 10));
    let of = |kind: &str, options: &str| built(find(kind).unwrap(), options, &parts).unwrap();
    let channels = [of("item_cf", ""), of("i2i", ""), of("user_cf", ""), of("user_cf", "model = \"people\"")];
    let found = |at: usize| rows(&channels[at].recall(&asked, 40).unwrap());
    let before: Vec<Vec<u32>> = (0..channels.len()).map(found).collect();
    assert!(before.iter().all(|list| !list.is_empty()), "{before:?}");
    // From now on everybody took what this user took, and item 7 besides, which is new to the user.
    let mut items: Vec<u32> = asked.request.history.iter().map(|a| a.item).filter(|i| *i != 7).collect();
    items.push(7);
    items.sort_unstable();
    items.dedup();
    assert!(asked.keep(7), "7 may be shown");
    let n = items.len() as u64;
    let offsets: Vec<u64> = (0..=20).map(|u| u * n).collect();
    let (item, time_ms) = (items.repeat(20), vec![NOW; items.len() * 20]);
    let p = Positives { items: ITEMS as usize, offsets: &offsets, item: &item, time_ms: &time_ms };
    parts.item_cf.as_ref().unwrap().set(ItemCfConfig::default().build(&p).unwrap());
    parts.user_cf["people"].set(UserCf::build(&UserCfConfig::default(), &p).unwrap());
    let actions: Vec<(u32, u32, i64)> =
        (0..20).flat_map(|u| items.iter().map(move |&i| (u, i, NOW))).collect();
    parts.takers.as_ref().unwrap().set(Takers::new(20, ITEMS as usize, &actions).unwrap());
    for at in 0..channels.len() {
        assert_eq!(found(at), [7], "channel {at}");
    }
}
