use super::*;
use crate::recall::positives::worlds::{World, worlds};
use proptest::prelude::*;

/// s(u → v) by the formula, over sets; `None` where the users have nothing in common.
fn naive(cfg: &UserCfConfig, world: &World) -> Vec<Vec<Option<f64>>> {
    let lists = world.latest(cfg.max_user_items);
    // Each item's latest users.
    let mut takers: Vec<Vec<(usize, i64)>> = vec![Vec::new(); world.items];
    for (user, list) in lists.iter().enumerate() {
        list.iter().for_each(|(&item, &time)| takers[item as usize].push((user, time)));
    }
    for users in &mut takers {
        users.sort_by_key(|x| (std::cmp::Reverse(x.1), x.0));
        users.truncate(if cfg.max_item_users == 0 { usize::MAX } else { cfg.max_item_users });
    }
    let size = |u: usize| takers.iter().filter(|t| t.iter().any(|x| x.0 == u)).count() as f64;
    let time = |item: &Vec<(usize, i64)>, u: usize| item.iter().find(|x| x.0 == u).map(|x| x.1);
    let pair = |u: usize, v: usize| {
        let mut sum = None;
        for item in &takers {
            if let (Some(a), Some(b)) = (time(item, u), time(item, v)) {
                let n = item.len() as f64;
                let weight = match cfg.damping {
                    Damping::None => 1.0,
                    Damping::Log => 1.0 / (1.0 + n).ln(),
                    Damping::Power => n.powf(-f64::from(cfg.damping_power)),
                };
                let days = (a - b).abs() as f64 / 86_400_000.0;
                *sum.get_or_insert(0.0) += weight * (-f64::from(cfg.decay_per_day) * days).exp();
            }
        }
        let (alpha, beta) = (f64::from(cfg.source_power), f64::from(cfg.target_power));
        sum.map(|s: f64| s / (size(u).powf(alpha) * size(v).powf(beta) + f64::from(cfg.shrinkage)))
    };
    (0..world.users)
        .map(|u| (0..world.users).map(|v| if u == v { None } else { pair(u, v) }).collect())
        .collect()
}

fn any_config() -> impl Strategy<Value = UserCfConfig> {
    let damping = prop_oneof![Just(Damping::None), Just(Damping::Log), Just(Damping::Power)];
    (0usize..5, damping, 0usize..2, 0usize..2, 0usize..6, 0usize..5).prop_map(
        |(neighbours, damping, shrinkage, decay, max_user_items, max_item_users)| UserCfConfig {
            neighbours,
            damping,
            shrinkage: [0.0, 1.5][shrinkage],
            decay_per_day: [0.0, 0.2][decay],
            max_user_items,
            max_item_users,
            ..UserCfConfig::default()
        },
    )
}

proptest! {
    #[test]
    fn similar_users_are_those_of_the_naive_twin(world in worlds(80), cfg in any_config()) {
        let model = world.first(world.events.len(), false, |p| UserCf::build(&cfg, p)).unwrap();
        for (user, want) in naive(&cfg, &world).into_iter().enumerate() {
            let got = model.similar().neighbours(user as u32);
            let met = want.iter().flatten().count();
            prop_assert_eq!(got.len(), if cfg.neighbours == 0 { met } else { cfg.neighbours.min(met) });
            let mut best: Vec<f64> = want.iter().flatten().copied().collect();
            best.sort_by(|a, b| b.total_cmp(a));
            for (place, &(other, score)) in got.iter().enumerate() {
                prop_assert!((f64::from(score) - want[other as usize].unwrap()).abs() < 1e-5);
                prop_assert!((f64::from(score) - best[place]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn following_events_gives_the_bits_of_a_rebuild(world in worlds(80), cfg in any_config(), cut in 0usize..80) {
        let (n, cut) = (world.events.len(), cut.min(world.events.len()));
        let mut model = world.first(cut, true, |p| UserCf::build(&cfg, p)).unwrap();
        model.update(&world.events[cut..]).unwrap();
        let whole = world.first(n, true, |p| UserCf::build(&cfg, p)).unwrap();
        prop_assert_eq!(model.similar(), whole.similar());
        prop_assert_eq!(&model.by_user, &whole.by_user);
        prop_assert_eq!(&model.sides, &whole.sides);
    }

    #[test]
    fn forgotten_users_leave_the_bits_of_a_rebuild_without_them(world in worlds(80), cfg in any_config(), cut in 0usize..80) {
        let (n, cut) = (world.events.len(), cut.min(world.events.len()));
        let (kept, odd) = world.without_odd(cut);
        let before = world.first(cut, false, |p| UserCf::build(&cfg, p)).unwrap();
        let model =
            before.following(&Changes { forgotten: odd, events: world.events[cut..n].to_vec() }).unwrap();
        let whole = kept.first(kept.events.len(), false, |p| UserCf::build(&cfg, p)).unwrap();
        prop_assert_eq!(model.similar(), whole.similar());
        prop_assert_eq!(&model.by_user, &whole.by_user);
    }

    #[test]
    fn a_known_users_history_folds_in_to_her_own_list(world in worlds(80), cfg in any_config()) {
        // Where no item's users are cut, a known user's list is her history's.
        let cfg = UserCfConfig { max_item_users: 0, ..cfg };
        let model = world.first(world.events.len(), false, |p| UserCf::build(&cfg, p)).unwrap();
        for (user, list) in world.latest(cfg.max_user_items).into_iter().enumerate() {
            let history: Vec<(u32, i64)> = list.into_iter().collect();
            let folded = model.similar_to(&history, Some(user as u32));
            let known = model.similar().neighbours(user as u32);
            prop_assert_eq!(folded.len(), known.len());
            for (a, b) in folded.iter().zip(known) {
                prop_assert!((a.1 - b.1).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn bytes_come_back(world in worlds(60), cfg in any_config()) {
        let model = world.first(world.events.len(), false, |p| UserCf::build(&cfg, p)).unwrap();
        let bytes = model.to_bytes().unwrap();
        let read = UserCf::from_bytes(&bytes).unwrap();
        prop_assert_eq!(read.similar(), model.similar());
        prop_assert_eq!(&read.sides, &model.sides);
        prop_assert_eq!(&read.weights, &model.weights);
        let mut bad = bytes.clone();
        bad[21] ^= 1;
        prop_assert!(UserCf::from_bytes(&bad).is_err());
    }
}

#[test]
fn an_item_scores_what_its_takers_are_worth() {
    // User 2 shares one of two items with user 0 and none with user 1.
    let p = Positives { items: 4, offsets: &[0, 2, 3, 5], item: &[0, 1, 2, 1, 3], time_ms: &[] };
    let cfg = UserCfConfig {
        damping: Damping::None,
        source_power: 0.0,
        target_power: 1.0,
        ..UserCfConfig::default()
    };
    let model = UserCf::build(&cfg, &p).unwrap();
    assert_eq!(model.similar().neighbours(2), [(0, 0.5)]);
    let similar = model.similar_to(&[(1, 0), (3, 0)], Some(2));
    assert_eq!(similar, [(0, 0.5)]);
    assert_eq!(model.recommend(&similar, 9, &|i| i != 1), [(0, 0.5)]);
    let mut scores = vec![7.0; 5];
    model.score_into(&similar, &mut scores);
    assert_eq!(scores, [0.5, 0.5, 0.0, 0.0, 0.0]);
    assert!(model.similar_to(&[(9, 0)], None).is_empty());
}

#[test]
fn wrong_options_are_refused_by_name() {
    let p = Positives { items: 0, offsets: &[0], item: &[], time_ms: &[] };
    let cfg = UserCfConfig { source_power: -1.0, ..UserCfConfig::default() };
    assert!(UserCf::build(&cfg, &p).unwrap_err().to_string().contains("source_power"));
}
