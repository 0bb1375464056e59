use super::*;
use crate::recall::factors::Factors;

fn world(seed: u64) -> (Vec<u64>, Vec<u32>) {
    let mut draws = Draws::new(seed, 0);
    let (mut offsets, mut item) = (vec![0u64], Vec::new());
    for user in 0..60u32 {
        // Two kinds of users, each with items of their own.
        let kind = user % 2;
        (0..8).for_each(|_| item.push(kind * 20 + draws.below(20) as u32));
        offsets.push(item.len() as u64);
    }
    (offsets, item)
}

/// (Σ c (p − x·y)² + λ …) in full.
fn objective(config: &AlsConfig, lists: &Grouped, users: &[f32], items: &[f32], width: usize) -> f64 {
    let mut sum = 0.0;
    for (u, x) in users.chunks_exact(width).enumerate() {
        for (i, y) in items.chunks_exact(width).enumerate() {
            let taken = lists.of(u).contains(&(i as u32));
            let (p, c) = if taken { (1.0, 1.0 + f64::from(config.alpha)) } else { (0.0, 1.0) };
            let score: f64 = x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            sum += c * (p - score) * (p - score);
        }
    }
    sum + f64::from(config.l2) * users.iter().chain(items).map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
}

#[test]
fn every_round_lowers_the_objective_and_likes_stay_in_their_kind() {
    let (offsets, item) = world(1);
    let p = Positives { items: 41, offsets: &offsets, item: &item, time_ms: &[] };
    let config = AlsConfig { dim: 6, l2: 0.5, alpha: 4.0, ..AlsConfig::default() };
    let mut als = Als::new(&config, &p, 3).unwrap();
    let mut last = f64::INFINITY;
    for _ in 0..8 {
        als.step();
        let now = objective(&config, &als.by_user, &als.users, &als.items, als.width);
        assert!(now < last, "{now} after {last}");
        last = now;
    }
    let model = als.model().unwrap();
    for user in 0..60 {
        let best = model.recommend(model.user(user).unwrap(), 5, &|_| true);
        assert!(best.iter().all(|x| x.0 / 20 == user % 2), "{user}: {best:?}");
    }
    assert!(model.items()[40 * 6..].iter().all(|v| *v == 0.0), "an item never met");
}

/// Gauss's elimination in f64.
fn exact(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for k in 0..n {
        for i in k + 1..n {
            let f = a[i][k] / a[k][k];
            let above = a[k].clone();
            a[i].iter_mut().zip(&above).for_each(|(x, y)| *x -= f * y);
            b[i] -= f * b[k];
        }
    }
    for k in (0..n).rev() {
        let rest: f64 = (k + 1..n).map(|j| a[k][j] * b[j]).sum();
        b[k] = (b[k] - rest) / a[k][k];
    }
    b
}

#[test]
fn enough_steps_solve_the_system_and_so_does_folding_in() {
    let (offsets, item) = world(2);
    let p = Positives { items: 40, offsets: &offsets, item: &item, time_ms: &[] };
    let config = AlsConfig { dim: 8, l2: 1.0, alpha: 3.0, steps: 40, ..AlsConfig::default() };
    let mut als = Als::new(&config, &p, 3).unwrap();
    als.step();
    als.step();
    let by_user = als.by_user.clone();
    let model = als.model().unwrap();
    for user in 0..60 {
        let mut a = vec![vec![0.0f64; 8]; 8];
        let mut b = vec![0.0f64; 8];
        for (i, y) in model.items().chunks_exact(8).enumerate() {
            let taken = by_user.of(user).contains(&(i as u32));
            let c = if taken { 4.0 } else { 1.0 };
            for r in 0..8 {
                (0..8).for_each(|s| a[r][s] += c * f64::from(y[r]) * f64::from(y[s]));
                b[r] += if taken { c * f64::from(y[r]) } else { 0.0 };
            }
        }
        (0..8).for_each(|d| a[d][d] += 1.0);
        let history: Vec<(u32, f32)> = by_user.of(user).iter().map(|&i| (i, 1.0)).collect();
        let folded = model.user_vector(&history);
        for ((want, learned), folded) in exact(a, b).iter().zip(model.user(user as u32).unwrap()).zip(folded)
        {
            assert!((want - f64::from(*learned)).abs() < 1e-3, "{want} {learned}");
            assert!((want - f64::from(folded)).abs() < 1e-3, "{want} {folded}");
        }
    }
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    let (offsets, item) = world(4);
    let p = Positives { items: 40, offsets: &offsets, item: &item, time_ms: &[] };
    let fit = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| AlsConfig { dim: 5, ..AlsConfig::default() }.fit(&p, seed, &mut |_| {}).unwrap())
    };
    assert_eq!(fit(1, 7), fit(3, 7));
    assert_ne!(fit(1, 7), fit(1, 8));
}

#[test]
fn wrong_options_are_refused_by_name() {
    let p = Positives { items: 0, offsets: &[0], item: &[], time_ms: &[] };
    let of = |c: AlsConfig| c.fit(&p, 0, &mut |_| {}).unwrap_err().to_string();
    assert!(of(AlsConfig { dim: 300, ..AlsConfig::default() }).contains("`dim`"));
    assert!(of(AlsConfig { l2: 0.0, ..AlsConfig::default() }).contains("`l2`"));
    assert!(of(AlsConfig { steps: 0, ..AlsConfig::default() }).contains("`steps`"));
}
