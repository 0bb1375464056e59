use super::*;
use crate::recall::positives::worlds::{World, worlds};
use proptest::prelude::*;

/// The formula over sets, for row i's latest users.
fn naive(cfg: &SwingConfig, world: &World) -> Vec<Vec<f64>> {
    let lists = world.latest(cfg.max_user_items);
    let weight = |u: usize| (lists[u].len() as f64).powf(-f64::from(cfg.user_power));
    let items = world.items as u32;
    let row = |i: u32| {
        let mut takers: Vec<(usize, i64)> =
            (0..lists.len()).filter_map(|u| lists[u].get(&i).map(|t| (u, *t))).collect();
        takers.sort_by_key(|x| (std::cmp::Reverse(x.1), x.0));
        takers.truncate(if cfg.max_item_users == 0 { usize::MAX } else { cfg.max_item_users });
        let mut scores = vec![0.0; items as usize];
        for (n, &(u, _)) in takers.iter().enumerate() {
            for &(v, _) in &takers[n + 1..] {
                let common: Vec<u32> =
                    lists[u].keys().filter(|j| lists[v].contains_key(j)).copied().collect();
                let term = weight(u) * weight(v) / (f64::from(cfg.alpha) + common.len() as f64);
                common.iter().filter(|j| **j != i).for_each(|&j| scores[j as usize] += term);
            }
        }
        scores
    };
    (0..items).map(row).collect()
}

fn any_config() -> impl Strategy<Value = SwingConfig> {
    (0usize..5, 0usize..2, 0usize..2, 0usize..7, 0usize..6).prop_map(
        |(neighbours, alpha, power, max_user_items, max_item_users)| SwingConfig {
            neighbours,
            alpha: [0.5, 3.0][alpha],
            user_power: [0.0, 0.5][power],
            max_user_items,
            max_item_users,
            memory_mib: 0,
        },
    )
}

proptest! {
    #[test]
    fn lists_are_those_of_the_naive_twin(world in worlds(90), cfg in any_config()) {
        let lists = world.first(world.events.len(), false, |p| cfg.build(p)).unwrap();
        for (item, want) in naive(&cfg, &world).into_iter().enumerate() {
            let got = lists.neighbours(item as u32);
            let mut best: Vec<f64> = want.iter().copied().filter(|s| *s > 0.0).collect();
            best.sort_by(|a, b| b.total_cmp(a));
            best.truncate(if cfg.neighbours == 0 { usize::MAX } else { cfg.neighbours });
            prop_assert_eq!(got.len(), best.len());
            for (&(other, score), best) in got.iter().zip(best) {
                prop_assert!((f64::from(score) - want[other as usize]).abs() < 1e-5);
                prop_assert!((f64::from(score) - best).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn following_events_gives_the_bits_of_a_rebuild(world in worlds(90), cfg in any_config(), cut in 0usize..90) {
        let (n, cut) = (world.events.len(), cut.min(world.events.len()));
        let mut live = world.first(cut, true, |p| LiveSwing::new(&cfg, p)).unwrap();
        live.update(&world.events[cut..]).unwrap();
        let whole = world.first(n, true, |p| cfg.build(p)).unwrap();
        prop_assert_eq!(live.lists(), &whole);
    }

    #[test]
    fn forgotten_users_leave_the_bits_of_a_rebuild_without_them(world in worlds(90), cfg in any_config(), cut in 0usize..90) {
        let (n, cut) = (world.events.len(), cut.min(world.events.len()));
        let (kept, odd) = world.without_odd(cut);
        let before = Arc::new(world.first(cut, false, |p| cfg.build(p)).unwrap());
        let mut live = world.first(cut, false, |p| LiveSwing::resume(&cfg, p, before.clone())).unwrap();
        prop_assert!(Arc::ptr_eq(&live.shared(), &before), "nothing is counted twice");
        live.follow(&Changes { forgotten: odd, events: world.events[cut..n].to_vec() }).unwrap();
        let whole = kept.first(kept.events.len(), false, |p| cfg.build(p)).unwrap();
        prop_assert_eq!(live.lists(), &whole);
        let other = kept.first(kept.events.len(), false, |p| LiveSwing::resume(&cfg, p, before)).unwrap();
        prop_assert_eq!(other.lists(), &whole, "lists of other positives are not taken");
    }
}

#[test]
fn a_pair_with_little_else_in_common_says_more() {
    // Users 0 and 1 share items 0 and 1 alone; users 2 and 3 share 0, 2, 3 and 4.
    let p = Positives {
        items: 5,
        offsets: &[0, 2, 4, 8, 12],
        item: &[0, 1, 0, 1, 0, 2, 3, 4, 0, 2, 3, 4],
        time_ms: &[],
    };
    let cfg = SwingConfig { user_power: 0.0, ..SwingConfig::default() };
    let lists = cfg.build(&p).unwrap();
    assert_eq!(lists.neighbours(0)[0], (1, 1.0 / 3.0));
    assert_eq!(lists.neighbours(0)[1], (2, 1.0 / 5.0));
}

#[test]
fn wrong_options_and_budgets_are_refused() {
    let p = Positives { items: 50_000, offsets: &[0, 1], item: &[0], time_ms: &[] };
    let of = |cfg: SwingConfig| cfg.build(&p).unwrap_err().to_string();
    assert!(of(SwingConfig { alpha: 0.0, ..SwingConfig::default() }).contains("alpha"));
    assert!(of(SwingConfig { user_power: f32::NAN, ..SwingConfig::default() }).contains("user_power"));
    assert!(of(SwingConfig { memory_mib: 2, ..SwingConfig::default() }).contains("memory_mib"));
}
