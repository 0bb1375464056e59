use super::*;
use crate::recall::positives::worlds::{World, worlds};
use crate::recall::top::by_score;
use proptest::prelude::*;

/// A small generated world: per user a list of items with times, repeats included.
fn world(users: u32, items: u32, seed: u64) -> (Vec<u64>, Vec<u32>, Vec<i64>) {
    let mut state = seed;
    let mut next = move |n: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as u32) % n
    };
    let (mut offsets, mut item, mut time) = (vec![0u64], vec![], vec![]);
    for _ in 0..users {
        for _ in 0..next(30) {
            item.push(next(items).min(next(items)));
            time.push(i64::from(next(1000)) * 3_600_000);
        }
        offsets.push(item.len() as u64);
    }
    (offsets, item, time)
}

/// The formula, pair by pair over sets.
fn naive(cfg: &ItemCfConfig, p: &Positives<'_>, a: u32, b: u32) -> f64 {
    let mut sum = 0.0;
    let (mut na, mut nb) = (0, 0);
    for span in p.offsets.windows(2) {
        let mut latest = std::collections::BTreeMap::new();
        for at in span[0] as usize..span[1] as usize {
            let t = latest.entry(p.item[at]).or_insert(i64::MIN);
            *t = p.time_ms[at].max(*t);
        }
        na += usize::from(latest.contains_key(&a));
        nb += usize::from(latest.contains_key(&b));
        if let (Some(ta), Some(tb)) = (latest.get(&a), latest.get(&b)) {
            let days = (ta - tb).abs() as f64 / 86_400_000.0;
            let n = latest.len() as f64;
            let weight = match cfg.damping {
                Damping::None => 1.0,
                Damping::Log => 1.0 / (1.0 + n).ln(),
                Damping::Power => n.powf(-f64::from(cfg.damping_power)),
            };
            sum += weight * (-f64::from(cfg.decay_per_day) * days).exp();
        }
    }
    let (alpha, beta) = (f64::from(cfg.source_power), f64::from(cfg.target_power));
    sum / ((na as f64).powf(alpha) * (nb as f64).powf(beta) + f64::from(cfg.shrinkage))
}

fn configs() -> Vec<ItemCfConfig> {
    let all = ItemCfConfig { neighbours: 0, max_user_items: 0, ..ItemCfConfig::default() };
    vec![
        ItemCfConfig { damping: Damping::None, source_power: 0.5, target_power: 0.5, ..all.clone() },
        ItemCfConfig { damping: Damping::Log, ..all.clone() },
        all.clone(),
        ItemCfConfig {
            damping: Damping::Power,
            decay_per_day: 0.1,
            shrinkage: 3.0,
            source_power: 0.3,
            target_power: 0.7,
            ..all
        },
    ]
}

#[test]
fn similarities_are_those_of_the_formula_for_every_pair() {
    let (offsets, item, time_ms) = world(60, 40, 1);
    let p = Positives { items: 40, offsets: &offsets, item: &item, time_ms: &time_ms };
    for cfg in configs() {
        let cf = cfg.build(&p).unwrap();
        for a in 0..40 {
            for b in (0..40).filter(|&b| b != a) {
                let got = cf.neighbours(a).iter().find(|x| x.0 == b).map_or(0.0, |x| x.1);
                let want = naive(&cfg, &p, a, b);
                let want = if want.is_nan() { 0.0 } else { want };
                assert!((f64::from(got) - want).abs() < 1e-5, "{cfg:?} {a} {b}: {got} for {want}");
            }
        }
    }
}

#[test]
fn the_k_kept_are_the_best_k_in_falling_order() {
    let (offsets, item, time_ms) = world(300, 400, 2);
    let p = Positives { items: 400, offsets: &offsets, item: &item, time_ms: &time_ms };
    let all = ItemCfConfig { neighbours: 0, ..Default::default() }.build(&p).unwrap();
    let few = ItemCfConfig { neighbours: 7, ..Default::default() }.build(&p).unwrap();
    for item in 0..400 {
        let want: Vec<_> = all.neighbours(item).iter().take(7).copied().collect();
        assert_eq!(few.neighbours(item), want);
        assert!(all.neighbours(item).iter().all(|x| x.0 != item));
    }
    assert!(all.neighbours(400).is_empty());
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (offsets, item, time_ms) = world(300, 400, 3);
    let p = Positives { items: 400, offsets: &offsets, item: &item, time_ms: &time_ms };
    let build = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| ItemCfConfig::default().build(&p).unwrap())
    };
    assert_eq!(build(1), build(3));
}

#[test]
fn recommending_agrees_with_dense_scores() {
    let (offsets, item, time_ms) = world(200, 150, 4);
    let p = Positives { items: 150, offsets: &offsets, item: &item, time_ms: &time_ms };
    let cf = ItemCfConfig { neighbours: 20, ..Default::default() }.build(&p).unwrap();
    let history = [(3, 1.0), (9, 0.5), (9, 0.25), (140, 2.0), (9_999, 1.0)];
    let keep = |i: u32| !i.is_multiple_of(5);
    let mut dense = vec![7.0; 150];
    cf.score_into(&history, &mut dense);
    let mut want: Vec<(u32, f32)> =
        dense.iter().enumerate().map(|(i, &s)| (i as u32, s)).filter(|x| x.1 > 0.0 && keep(x.0)).collect();
    want.sort_by(by_score);
    want.truncate(10);
    assert_eq!(cf.recommend(&history, 10, &keep), want);
    assert_eq!(cf.recommend(&history, 10, &keep), want);
    assert!(cf.recommend(&[], 10, &keep).is_empty());
    assert!(cf.recommend(&history, 0, &keep).is_empty());
}

#[test]
fn only_the_latest_items_of_a_user_count_when_limited() {
    let p = Positives { items: 4, offsets: &[0, 4], item: &[0, 1, 2, 3], time_ms: &[40, 10, 30, 20] };
    let cfg = ItemCfConfig { max_user_items: 2, ..Default::default() };
    let cf = cfg.build(&p).unwrap();
    assert_eq!(cf.neighbours(0).iter().map(|x| x.0).collect::<Vec<_>>(), [2]);
    assert!(cf.neighbours(1).is_empty());
}

#[test]
fn bytes_come_back_and_damage_is_found() {
    let (offsets, item, time_ms) = world(50, 30, 5);
    let p = Positives { items: 30, offsets: &offsets, item: &item, time_ms: &time_ms };
    let cf = ItemCfConfig::default().build(&p).unwrap();
    let bytes = cf.to_bytes().unwrap();
    assert_eq!(ItemCf::from_bytes(&bytes).unwrap(), cf);
    for at in [0, 9, 15, 21, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 0x40;
        assert!(ItemCf::from_bytes(&bad).is_err(), "byte {at}");
    }
    assert!(ItemCf::from_bytes(&bytes[..10]).unwrap_err().to_string().contains("too short"));
}

#[test]
fn wrong_options_and_lists_are_refused() {
    let p = Positives { items: 2, offsets: &[0, 2], item: &[0, 5], time_ms: &[] };
    assert!(ItemCfConfig::default().build(&p).is_err());
    let p = Positives { items: 2, offsets: &[0, 2], item: &[0, 1], time_ms: &[] };
    let cfg = ItemCfConfig { shrinkage: f32::NAN, ..Default::default() };
    assert!(cfg.build(&p).unwrap_err().to_string().contains("shrinkage"));
    let empty = Positives { items: 0, offsets: &[0], item: &[], time_ms: &[] };
    assert_eq!(ItemCfConfig::default().build(&empty).unwrap().items(), 0);
}

/// As [`naive`], with the limit on a user's items.
fn twin(cfg: &ItemCfConfig, world: &World) -> Vec<Vec<(u32, f64)>> {
    let users = world.latest(cfg.max_user_items);
    let count = |item: u32| users.iter().filter(|l| l.contains_key(&item)).count() as f64;
    let pair = |a: u32, b: u32| {
        let mut sum = 0.0;
        for list in &users {
            if let (Some(ta), Some(tb)) = (list.get(&a), list.get(&b)) {
                let n = list.len() as f64;
                let weight = match cfg.damping {
                    Damping::None => 1.0,
                    Damping::Log => 1.0 / (1.0 + n).ln(),
                    Damping::Power => n.powf(-f64::from(cfg.damping_power)),
                };
                let days = (ta - tb).abs() as f64 / 86_400_000.0;
                sum += weight * (-f64::from(cfg.decay_per_day) * days).exp();
            }
        }
        let (alpha, beta) = (f64::from(cfg.source_power), f64::from(cfg.target_power));
        if sum == 0.0 {
            0.0
        } else {
            sum / (count(a).powf(alpha) * count(b).powf(beta) + f64::from(cfg.shrinkage))
        }
    };
    let items = world.items as u32;
    (0..items).map(|a| (0..items).filter(|&b| b != a).map(|b| (b, pair(a, b))).collect()).collect()
}

fn any_config() -> impl Strategy<Value = ItemCfConfig> {
    let damping = prop_oneof![Just(Damping::None), Just(Damping::Log), Just(Damping::Power)];
    let powers = (0usize..3, 0usize..3).prop_map(|(a, b)| ([0.0, 0.5, 0.7][a], [0.0, 0.5, 1.0][b]));
    (0usize..6, damping, powers, 0usize..2, 0usize..2, 0usize..6).prop_map(
        |(neighbours, damping, (source_power, target_power), shrinkage, decay, max_user_items)| {
            ItemCfConfig {
                neighbours,
                damping,
                damping_power: 0.4,
                source_power,
                target_power,
                shrinkage: [0.0, 2.5][shrinkage],
                decay_per_day: [0.0, 0.3][decay],
                max_user_items,
                memory_mib: 0,
            }
        },
    )
}

proptest! {
    #[test]
    fn lists_are_those_of_the_naive_twin(world in worlds(80), cfg in any_config()) {
        let lists = world.first(world.events.len(), false, |p| cfg.build(p)).unwrap();
        for (item, want) in twin(&cfg, &world).into_iter().enumerate() {
            let got = lists.neighbours(item as u32);
            let positive = want.iter().filter(|x| x.1 > 0.0).count();
            let kept = if cfg.neighbours == 0 { positive } else { cfg.neighbours.min(positive) };
            prop_assert_eq!(got.len(), kept);
            let mut best: Vec<f64> = want.iter().map(|x| x.1).collect();
            best.sort_by(|a, b| b.total_cmp(a));
            for (place, &(other, score)) in got.iter().enumerate() {
                let true_score = want.iter().find(|x| x.0 == other).unwrap().1;
                prop_assert!((f64::from(score) - true_score).abs() < 1e-5);
                prop_assert!((f64::from(score) - best[place]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn following_events_gives_the_bits_of_a_rebuild(world in worlds(80), cfg in any_config(), cuts in (0usize..80, 0usize..80)) {
        let n = world.events.len();
        let (a, b) = (cuts.0.min(cuts.1).min(n), cuts.0.max(cuts.1).min(n));
        let mut live = world.first(a, true, |p| LiveItemCf::new(&cfg, p)).unwrap();
        for part in [&world.events[a..b], &world.events[b..]] {
            live.update(part).unwrap();
        }
        let whole = world.first(n, true, |p| cfg.build(p)).unwrap();
        prop_assert_eq!(live.lists(), &whole);
    }
}

proptest! {
    #[test]
    fn forgotten_users_leave_the_bits_of_a_rebuild_without_them(world in worlds(80), cfg in any_config(), cut in 0usize..80) {
        let (n, cut) = (world.events.len(), cut.min(world.events.len()));
        let (kept, odd) = world.without_odd(cut);
        let mut live = world.first(cut, false, |p| LiveItemCf::new(&cfg, p)).unwrap();
        live.follow(&Changes { forgotten: odd, events: world.events[cut..n].to_vec() }).unwrap();
        let whole = kept.first(kept.events.len(), false, |p| cfg.build(p)).unwrap();
        prop_assert_eq!(live.lists(), &whole);
    }

    #[test]
    fn lists_are_gone_on_from_where_they_are_those_of_the_positives(world in worlds(80), cfg in any_config(), cut in 0usize..80) {
        let cut = cut.min(world.events.len());
        let before = Arc::new(world.first(cut, false, |p| cfg.build(p)).unwrap());
        let same = world.first(cut, false, |p| LiveItemCf::resume(&cfg, p, before.clone())).unwrap();
        prop_assert!(Arc::ptr_eq(&same.shared(), &before), "nothing is counted twice");
        // Few rows: all are looked at, and lists of other positives are not taken.
        let other = world.first(world.events.len(), false, |p| LiveItemCf::resume(&cfg, p, before)).unwrap();
        let whole = world.first(world.events.len(), false, |p| cfg.build(p)).unwrap();
        prop_assert_eq!(other.lists(), &whole);
    }
}

#[test]
fn wide_rows_and_further_tiles_agree_with_pairs_counted_one_by_one() {
    // 70,000 items need two tiles, item 0's long lists a whole scan, item 3's 600 users counts beyond eight bits.
    let items = 70_000u32;
    let mut lists: Vec<Vec<u32>> = (0..600u32).map(|u| vec![u % 3, 3, 69_999 - u % 5]).collect();
    lists.extend((8..14).map(|n| (0..items).filter(|i| i % n == 0).collect::<Vec<u32>>()));
    let mut offsets = vec![0u64];
    for list in &mut lists {
        list.sort_unstable();
        list.dedup();
        offsets.push(offsets[offsets.len() - 1] + list.len() as u64);
    }
    let item = lists.concat();
    let p = Positives { items: items as usize, offsets: &offsets, item: &item, time_ms: &[] };
    for damping in [Damping::None, Damping::Power] {
        let cfg = ItemCfConfig {
            damping,
            neighbours: 50,
            max_user_items: 0,
            source_power: 0.5,
            target_power: 0.5,
            ..Default::default()
        };
        let built = cfg.build(&p).unwrap();
        let weight = |list: &Vec<u32>| {
            if damping == Damping::None { 1.0 } else { (list.len() as f64).powf(-f64::from(0.6f32)) }
        };
        let mut count = vec![0.0f64; items as usize];
        lists.iter().flatten().for_each(|&i| count[i as usize] += 1.0);
        for a in [0u32, 3, 60, 30_030, 69_999] {
            let mut sums = vec![0.0f64; items as usize];
            for list in lists.iter().filter(|l| l.binary_search(&a).is_ok()) {
                list.iter().for_each(|&b| sums[b as usize] += weight(list));
            }
            sums[a as usize] = 0.0;
            let mut want: Vec<(u32, f32)> = (0..items)
                .filter(|&b| sums[b as usize] > 0.0)
                .map(|b| (b, (sums[b as usize] / (count[a as usize] * count[b as usize]).sqrt()) as f32))
                .collect();
            want.sort_by(by_score);
            let got = built.neighbours(a);
            assert_eq!(got.len(), want.len().min(50));
            for (g, w) in got.iter().zip(&want) {
                assert!((g.1 - w.1).abs() <= 1e-5 * w.1.max(1e-3), "{a}: {g:?} for {w:?}");
            }
        }
    }
}

#[test]
fn powers_beyond_what_floats_hold_end_with_nobody_similar() {
    let offsets = [0, 3, 6];
    let positives = Positives { items: 4, offsets: &offsets, item: &[0, 1, 2, 0, 1, 3], time_ms: &[] };
    let cfg = ItemCfConfig { damping: Damping::None, source_power: 1000.0, ..ItemCfConfig::default() };
    let lists = cfg.build(&positives).unwrap();
    // Two users took item 0: 2^1000 is infinite. One took item 2, and 1 stays 1.
    assert!(lists.neighbours(0).is_empty());
    assert_eq!(lists.neighbours(2).len(), 2);
}

#[test]
fn a_budget_that_cannot_do_is_refused_with_what_it_takes() {
    let (offsets, item, time_ms) = world(300, 400, 3);
    let p = Positives { items: 40_000, offsets: &offsets, item: &item, time_ms: &time_ms };
    let error = ItemCfConfig { memory_mib: 4, ..Default::default() }.build(&p).unwrap_err().to_string();
    assert!(error.contains("memory_mib") && error.contains("lower `neighbours`"), "{error}");
    let cfg = ItemCfConfig { memory_mib: 64, neighbours: 20, ..Default::default() };
    assert_eq!(cfg.build(&p).unwrap(), ItemCfConfig { memory_mib: 0, ..cfg }.build(&p).unwrap());
}

#[test]
fn a_large_catalogue_has_shorter_lists_by_default() {
    let of = |items| ItemCfConfig::default().for_items(items).neighbours;
    assert_eq!((of(1000), of(2_000_000)), (200, 67));
    assert_eq!(ItemCfConfig { memory_mib: 0, ..Default::default() }.for_items(1 << 40).neighbours, 200);
}
