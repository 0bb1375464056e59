use super::*;

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
        let cf = ItemCf::build(&cfg, &p).unwrap();
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
    let all = ItemCf::build(&ItemCfConfig { neighbours: 0, ..Default::default() }, &p).unwrap();
    let few = ItemCf::build(&ItemCfConfig { neighbours: 7, ..Default::default() }, &p).unwrap();
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
        pool.install(|| ItemCf::build(&ItemCfConfig::default(), &p).unwrap())
    };
    assert_eq!(build(1), build(3));
}

#[test]
fn recommending_agrees_with_dense_scores() {
    let (offsets, item, time_ms) = world(200, 150, 4);
    let p = Positives { items: 150, offsets: &offsets, item: &item, time_ms: &time_ms };
    let cf = ItemCf::build(&ItemCfConfig { neighbours: 20, ..Default::default() }, &p).unwrap();
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
    let cf = ItemCf::build(&cfg, &p).unwrap();
    assert_eq!(cf.neighbours(0).iter().map(|x| x.0).collect::<Vec<_>>(), [2]);
    assert!(cf.neighbours(1).is_empty());
}

#[test]
fn bytes_come_back_and_damage_is_found() {
    let (offsets, item, time_ms) = world(50, 30, 5);
    let p = Positives { items: 30, offsets: &offsets, item: &item, time_ms: &time_ms };
    let cf = ItemCf::build(&ItemCfConfig::default(), &p).unwrap();
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
    assert!(ItemCf::build(&ItemCfConfig::default(), &p).is_err());
    let p = Positives { items: 2, offsets: &[0, 2], item: &[0, 1], time_ms: &[] };
    let cfg = ItemCfConfig { shrinkage: f32::NAN, ..Default::default() };
    assert!(ItemCf::build(&cfg, &p).unwrap_err().to_string().contains("shrinkage"));
    let empty = Positives { items: 0, offsets: &[0], item: &[], time_ms: &[] };
    assert_eq!(ItemCf::build(&ItemCfConfig::default(), &empty).unwrap().items(), 0);
}
