//! Counting channels against naive twins: everything is gone over, nothing is clever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use millstream_models::recall::popularity::{Popularity, Window};
use millstream_schema::examples::Action;
use millstream_schema::parse;
use proptest::prelude::*;

use super::world::*;
use crate::channel::{Call, Candidate, find};
use crate::merge::snake;
use crate::takers::{LiveTakers, Neighbourhood, Takers};
use crate::{Request, Resources};

const HOUR: i64 = 3_600_000;

/// A request of the user with this history: items, hours ago, kinds.
fn with_history(user: u32, history: &[(u32, i64, u16)]) -> Call {
    let mut request = Request::new(&format!("u{user}"), user, NOW, 10);
    let action = |&(item, hours, kind): &(u32, i64, u16)| Action {
        item,
        time_ms: NOW - hours * HOUR,
        kind,
        value: 1.0,
    };
    request.history = history.iter().map(action).collect();
    request.history.sort_by_key(|a| a.time_ms);
    request.seen = Arc::new(request.history.iter().take(2).map(|a| a.item).collect());
    request.segment = Some("fr".into());
    call(request)
}

fn history() -> impl Strategy<Value = Vec<(u32, i64, u16)>> {
    prop::collection::vec((0..ITEMS, 1..2000i64, 1..5u16), 0..25)
}

/// Weights as the channels' defaults have them: halved every 30 days from the latest action on.
fn weights(call: &Call, most: usize) -> Vec<(u32, f64)> {
    let latest = call.request.history.last().map_or(0, |a| a.time_ms);
    let weight = |a: &Action| (-((latest - a.time_ms) as f64) / (30 * DAY) as f64).exp2();
    call.request.history.iter().rev().take(most).map(|a| (a.item, weight(a))).collect()
}

/// The same items in the same order, but for places where the twin's scores are too near to be told apart.
fn agree(found: &[Candidate], naive: &BTreeMap<u32, f64>, k: usize) -> Result<(), TestCaseError> {
    let mut order: Vec<(f64, u32)> = naive.iter().map(|(item, score)| (*score, *item)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    order.truncate(k);
    prop_assert_eq!(found.len(), order.len());
    for (got, want) in found.iter().zip(&order) {
        let (score, own) = (f64::from(got.score), naive.get(&got.item).copied());
        prop_assert!(
            own.is_some_and(|own| (own - want.0).abs() <= 1e-4 * want.0.abs().max(1e-9)),
            "{got:?} for {want:?}"
        );
        prop_assert!((score - want.0).abs() <= 1e-3 * want.0.abs().max(1e-9), "{got:?} for {want:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn hot_items_are_those_of_decayed_sums(
        events in prop::collection::vec((0..ITEMS, 0..2000i64, 1..4u8, any::<bool>()), 1..300),
        window in prop::sample::select(vec!["90m", "6h", "1d", "7d", "30d", "90d"]),
        k in 0..60usize,
        by_segment in any::<bool>(),
    ) {
        let length: Window = window.parse().unwrap();
        let mut popularity = Popularity::with_windows(&[length, Window::DAY]);
        for &(item, hours, weight, french) in &events {
            popularity.add(item, NOW - hours * HOUR, f32::from(weight), Some(if french { "fr" } else { "it" }));
        }
        let parts = Resources { popularity: Arc::new(RwLock::new(popularity)), ..Resources::default() };
        let options = format!("windows = [\"{window}\"]\nby_segment = {by_segment}");
        let hot = built(find("hot").unwrap(), &options, &parts).unwrap();
        let call = with_history(1, &[(5, 10, 1), (6, 9, 1)]);
        let found = hot.recall(&call, k).unwrap();
        let top = |french_only: bool| -> Vec<u32> {
            let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
            for (item, hours, weight, _) in events.iter().filter(|e| e.3 || !french_only) {
                let age = (hours * HOUR) as f64 / length.ms() as f64;
                *sums.entry(*item).or_default() += f64::from(*weight) * (-age).exp2();
            }
            let mut all: Vec<(u32, f64)> = sums.into_iter().filter(|x| call.keep(x.0)).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all.iter().take(k).map(|x| x.0).collect()
        };
        // Items of equal sums may change places, for the channel sums logarithms: compare as sets of the whole.
        let lists = if by_segment { vec![top(true), top(false)] } else { vec![top(false)] };
        let mut want: Vec<u32> = Vec::new();
        for at in 0..k {
            for list in &lists {
                want.extend(list.get(at).filter(|i| !want.contains(i)));
            }
        }
        want.truncate(k);
        prop_assert_eq!(found.len(), want.len());
        let count = |item: u32| parts.hot().count(item, length, NOW);
        if !by_segment {
            for (got, want) in found.iter().zip(&want) {
                let (got, want) = (count(got.item), count(*want));
                prop_assert!((got - want).abs() <= 1e-4 * want.max(1e-12), "{} for {}", got, want);
            }
        }
        let distinct: BTreeSet<u32> = found.iter().map(|c| c.item).collect();
        prop_assert_eq!(distinct.len(), found.len());
    }

    #[test]
    fn lists_merge_as_by_hand(
        lists in prop::collection::vec(prop::collection::vec(0..60u32, 0..25), 1..6),
        weights in prop::collection::vec(prop::sample::select(vec![0.25f32, 0.5, 1.0, 2.0, 3.0]), 6),
    ) {
        let lists: Vec<Vec<Candidate>> = lists
            .iter()
            .map(|items| {
                let mut met = BTreeSet::new();
                let distinct = items.iter().filter(|i| met.insert(**i));
                distinct.map(|&item| Candidate { item, score: 0.5 }).collect()
            })
            .collect();
        let slices: Vec<&[Candidate]> = lists.iter().map(Vec::as_slice).collect();
        let got = snake(&slices, &weights[..lists.len()]).items;
        // By hand: purses of whole and quarter coins, one list after the other, there and back.
        let (mut left, mut purse) = (lists.clone(), vec![0.0; lists.len()]);
        let mut want: Vec<u32> = Vec::new();
        for round in 0.. {
            if left.iter().all(Vec::is_empty) {
                break;
            }
            let mut order: Vec<usize> = (0..left.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for at in order {
                purse[at] += weights[at];
                while purse[at] >= 1.0 && !left[at].is_empty() {
                    let item = left[at].remove(0).item;
                    if !want.contains(&item) {
                        want.push(item);
                        purse[at] -= 1.0;
                    }
                }
            }
        }
        prop_assert_eq!(got, want);
    }

    #[test]
    fn tags_find_what_going_over_all_items_finds(
        history in history(),
        user in 0..USERS,
        k in prop::sample::select(vec![0, 1, 10, 300]),
        heat in prop::sample::select(vec![0.0f32, 0.5]),
        with_record in any::<bool>(),
    ) {
        let call = with_history(user, &history);
        let fields = if with_record { "[\"likes\"]" } else { "[]" };
        let options = format!("max_tags = 1000\nheat = {heat:.1}\nuser_fields = {fields}");
        let found = channel("tag", &options).recall(&call, k).unwrap();
        let tags = |row: u32| -> BTreeSet<String> {
            let record = item(row).record;
            let moods = record.get("mood").split('|').map(|m| format!("mood={m}"));
            moods.chain([format!("category={}", record.get("category"))]).collect()
        };
        let all: Vec<BTreeSet<String>> = (0..ITEMS).map(tags).collect();
        let mut taste: BTreeMap<String, f64> = BTreeMap::new();
        for (row, weight) in weights(&call, 100) {
            let own = &all[row as usize];
            own.iter().for_each(|t| *taste.entry(t.clone()).or_default() += weight / own.len() as f64);
        }
        if with_record {
            *taste.entry(format!("mood=m{}", user % 8)).or_default() += 1.0;
        }
        let parts = resources();
        let mut naive = BTreeMap::new();
        for row in (0..ITEMS).filter(|&i| call.keep(i)) {
            let worth = |t: &String| {
                let with = all.iter().filter(|tags| tags.contains(t)).count() as f64;
                taste.get(t).map(|w| w * (f64::from(ITEMS) / with).ln_1p())
            };
            let parts: Vec<f64> = {
                let count = parts.hot().count(row, Window::MONTH, NOW);
                let hot = 1.0 + f64::from(heat) * count.ln_1p();
                all[row as usize].iter().filter_map(worth).map(|x| x * hot).collect()
            };
            if !parts.is_empty() {
                naive.insert(row, parts.iter().sum::<f64>());
            }
        }
        agree(&found, &naive, k)?;
    }

    #[test]
    fn keywords_find_what_bm25_over_all_items_finds(
        history in history(),
        user in 0..USERS,
        k in prop::sample::select(vec![0, 1, 10, 300]),
        share in prop::sample::select(vec![0.04f32, 0.2, 1.0]),
    ) {
        let call = with_history(user, &history);
        let options = format!("max_words = 1000\nmax_share = {share}\nuser_fields = [\"about\"]");
        let found = channel("keyword", &options).recall(&call, k).unwrap();
        let words = |text: &str| parse::words(text).collect::<BTreeSet<String>>();
        let all: Vec<BTreeSet<String>> = (0..ITEMS).map(|row| words(item(row).record.get("title"))).collect();
        let with = |w: &String| all.iter().filter(|words| words.contains(w)).count() as f64;
        let tells = |w: &String| with(w) > 0.0 && with(w) <= f64::from(share) * f64::from(ITEMS);
        let mut profile: BTreeMap<String, f64> = BTreeMap::new();
        for (row, weight) in weights(&call, 50) {
            let own: Vec<&String> = all[row as usize].iter().filter(|w| tells(w)).collect();
            own.iter().for_each(|w| *profile.entry((*w).clone()).or_default() += weight / own.len() as f64);
        }
        for word in words(&user_about(user)).into_iter().filter(|w| tells(w)) {
            *profile.entry(word).or_default() += 1.0;
        }
        let mean = all.iter().map(BTreeSet::len).sum::<usize>() as f64 / f64::from(ITEMS);
        let mut naive = BTreeMap::new();
        for row in (0..ITEMS).filter(|&i| call.keep(i)) {
            let own = &all[row as usize];
            let norm = 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * own.len() as f64 / mean));
            let idf = |w: &String| ((f64::from(ITEMS) - with(w) + 0.5) / (with(w) + 0.5)).ln_1p();
            let parts: Vec<f64> = own.iter().filter_map(|w| profile.get(w).map(|q| q * idf(w) * norm)).collect();
            if !parts.is_empty() {
                naive.insert(row, parts.iter().sum::<f64>());
            }
        }
        agree(&found, &naive, k)?;
    }

    #[test]
    fn users_alike_are_those_of_all_pairs(
        taken in prop::collection::vec((0..25u32, 0..40u32, 0..50i64), 1..200),
        history in prop::collection::btree_map(0..40u32, 1..4u16, 0..10),
        own in 0..25u32,
        k in 0..50usize,
    ) {
        let takers = Takers::new(25, 40, &taken).unwrap();
        let history: Vec<(u32, f32)> = history.into_iter().map(|(item, w)| (item, f32::from(w))).collect();
        let how = Neighbourhood { neighbours: 25, max_takers: 25, max_items: 40 };
        let pairs: BTreeSet<(u32, u32)> = taken.iter().map(|t| (t.0, t.1)).collect();
        let users_of = |item: u32| pairs.iter().filter(|p| p.1 == item).count() as f64;
        let mut naive = BTreeMap::new();
        for user in (0..25).filter(|&u| u != own) {
            let both = history.iter().filter(|(item, _)| pairs.contains(&(user, *item)));
            let sum: f64 = both.map(|(item, w)| f64::from(*w) / users_of(*item).ln_1p()).sum();
            let items = pairs.iter().filter(|p| p.0 == user).map(|p| p.1).collect::<Vec<_>>();
            for item in items.iter().filter(|_| sum > 0.0) {
                *naive.entry(*item).or_insert(0.0) += sum / (items.len() as f64).sqrt();
            }
        }
        naive.retain(|item, _| item % 3 > 0);
        let found = takers.recommend((&history, own), &how, k, &|item| item % 3 > 0);
        let found: Vec<Candidate> = found.into_iter().map(|(item, score)| Candidate { item, score }).collect();
        agree(&found, &naive, k)?;
        // Lists are latest first, at the latest time of repeats.
        let latest = |user: u32, item: u32| {
            taken.iter().filter(|t| (t.0, t.1) == (user, item)).map(|t| t.2).max().unwrap()
        };
        for user in 0..25 {
            let times: Vec<i64> = takers.items(user).iter().map(|&i| latest(user, i)).collect();
            prop_assert!(times.is_sorted_by(|a, b| a >= b));
            prop_assert_eq!(times.len(), pairs.iter().filter(|p| p.0 == user).count());
        }
    }

    #[test]
    fn lists_that_followed_actions_are_those_of_all_actions_that_are_left(
        taken in prop::collection::vec((0..25u32, 0..40u32, 0..50i64), 0..200),
        cuts in (0..200usize, 0..200usize),
        modulus in 1..5u32,
    ) {
        let n = taken.len();
        let (a, b) = (cuts.0.min(cuts.1).min(n), cuts.0.max(cuts.1).min(n));
        let most = |of: fn(&(u32, u32, i64)) -> u32, all: &[(u32, u32, i64)]| {
            all.iter().map(|t| of(t) as usize + 1).max().unwrap_or(0)
        };
        let grown = |all: &[(u32, u32, i64)]| (most(|t| t.0, all), most(|t| t.1, all));
        let (users, items) = grown(&taken[..a]);
        let mut live = LiveTakers::new(users, items, &taken[..a]).unwrap();
        live.follow(&[], &taken[a..b]);
        let forgotten: Vec<u32> = (0..25).filter(|u| u % modulus == 0).collect();
        live.follow(&forgotten, &taken[b..]);
        let mut left: Vec<(u32, u32, i64)> = taken[..b].to_vec();
        left.retain(|t| !forgotten.contains(&t.0));
        left.extend_from_slice(&taken[b..]);
        let (users, items) = grown(&taken);
        prop_assert_eq!(live.takers(), Takers::new(users, items, &left).unwrap());
    }

    #[test]
    fn triggers_pull_their_lists_as_by_hand(history in history(), k in 0..200usize) {
        let call = with_history(3, &history);
        let options = "short = \"10d\"\nshort_triggers = 4\nlong_triggers = 3\nshort_weight = 2.0\nper_trigger = 12\n\
                       kinds = { click = 1.0, cart = 2.0, order = 0.5 }";
        let found = channel("i2i", options).recall(&call, k).unwrap();
        let weight = |kind: u16| match kind { 1 => Some(1.0f32), 2 => Some(2.0), 3 => Some(0.5), _ => None };
        let since = NOW - 10 * DAY;
        let mut triggers: Vec<(u32, f32)> = Vec::new();
        for a in call.request.history.iter().rev().filter(|a| a.time_ms >= since) {
            let Some(w) = weight(a.kind) else { continue };
            match triggers.iter().position(|t| t.0 == a.item) {
                Some(at) => triggers[at].1 = triggers[at].1.max(2.0 * w),
                None if triggers.len() < 4 => triggers.push((a.item, 2.0 * w)),
                None => {}
            }
        }
        let long: Vec<&Action> =
            call.request.history.iter().filter(|a| a.time_ms < since && weight(a.kind).is_some()).collect();
        let mut items: Vec<u32> = long.iter().map(|a| a.item).collect();
        items.sort_unstable();
        items.dedup();
        items.retain(|i| triggers.iter().all(|t| t.0 != *i));
        let of = |item: u32| long.iter().filter(move |a| a.item == item);
        let sum = |item: u32| of(item).map(|a| weight(a.kind).unwrap()).sum::<f32>();
        let last = |item: u32| of(item).map(|a| a.time_ms).max();
        items.sort_by(|&a, &b| sum(b).total_cmp(&sum(a)).then(last(b).cmp(&last(a))).then(a.cmp(&b)));
        let most = |item: u32| of(item).map(|a| weight(a.kind).unwrap()).fold(0.0, f32::max);
        triggers.extend(items.iter().take(3).map(|&i| (i, most(i))));
        let table = resources().item_cf.unwrap().get();
        let lists: Vec<Vec<Candidate>> = triggers
            .iter()
            .map(|t| {
                let fine = table.neighbours(t.0).iter().filter(|x| call.keep(x.0)).take(12);
                fine.map(|&(item, score)| Candidate { item, score }).collect()
            })
            .collect();
        let slices: Vec<&[Candidate]> = lists.iter().map(Vec::as_slice).collect();
        let want = snake(&slices, &triggers.iter().map(|t| t.1).collect::<Vec<_>>()).items;
        prop_assert_eq!(found.iter().map(|c| c.item).collect::<Vec<_>>(), &want[..k.min(want.len())]);
    }
}

fn user_about(row: u32) -> String {
    user(row).get("about").to_owned()
}
