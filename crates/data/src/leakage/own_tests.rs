//! Counts and rates of labels with the own or later ones in them, each beside a twin that knows the past alone.

use super::tests::{category, number, numbers};
use super::*;

const DAY: i64 = 86_400_000;
const SEEDS: std::ops::Range<u64> = 0..5;

/// A world of users with rates of their own, in order of time.
struct World {
    users: Vec<u32>,
    rate: Vec<f64>,
    times: Vec<i64>,
    label: Vec<bool>,
    /// By user, their rows in order.
    rows: Vec<Vec<usize>>,
    price: Vec<f64>,
}

fn normal(next: &mut impl FnMut() -> f64) -> f64 {
    (0..12).map(|_| next()).sum::<f64>() - 6.0
}

/// `moods`: how much a user's rate wanders from session to session.
fn world(seed: u64, users: usize, rows: usize, moods: f64) -> World {
    let mut next = numbers(seed * 1000 + 17);
    let taste: Vec<f64> = (0..users).map(|_| normal(&mut next) * 0.8 - 1.3).collect();
    let mut mood = vec![(0.0, i64::MIN); users];
    let logistic = |z: f64| 1.0 / (1.0 + (-z).exp());
    let mut out = World {
        users: vec![],
        rate: taste.iter().map(|&z| logistic(z)).collect(),
        times: vec![],
        label: vec![],
        rows: vec![vec![]; users],
        price: vec![],
    };
    for row in 0..rows {
        let (user, price, time) = ((next() * users as f64) as usize, normal(&mut next), row as i64 * 50_000);
        if time > mood[user].1 {
            mood[user] = (normal(&mut next) * moods, time + DAY / 4);
        }
        out.label.push(next() < logistic(taste[user] + 0.5 * price + mood[user].0));
        out.rows[user].push(row);
        out.users.push(user as u32 + 1);
        out.times.push(1_700_000_000_000 + time);
        out.price.push(price);
    }
    out
}

impl World {
    /// Positives of the user's rows for which `counted(row, other)`, and rows.
    fn count(&self, counted: impl Fn(usize, usize) -> bool) -> Vec<(f64, f64)> {
        let of = |row: usize| {
            let others = self.rows[self.users[row] as usize - 1].iter().filter(|&&o| counted(row, o));
            others.fold((0.0, 0.0), |s, &o| (s.0 + f64::from(u8::from(self.label[o])), s.1 + 1.0))
        };
        (0..self.label.len()).map(of).collect()
    }

    fn positives(&self, counted: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        self.count(counted).into_iter().map(|s| s.0).collect()
    }

    fn rates(&self, prior: f64, counted: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        self.count(counted).into_iter().map(|s| (s.0 + 0.2 * prior) / (s.1 + prior)).collect()
    }

    /// Of the user's true rate.
    fn by_rate(&self, rule: impl Fn(f64) -> f64) -> Vec<f64> {
        self.users.iter().map(|&u| rule(self.rate[u as usize - 1])).collect()
    }

    fn sample(&self, timed: bool, planted: Vec<f64>) -> Sample {
        Sample {
            rows_seen: self.label.len() as u64,
            columns: vec![
                category("user", self.users.clone()),
                number("price", self.price.clone()),
                number("planted", planted),
            ],
            label: self.label.clone(),
            time_ms: if timed { self.times.clone() } else { vec![] },
            ..Sample::default()
        }
    }

    fn leaks(&self, timed: bool, kind: Leak, planted: Vec<f64>, what: &str) {
        let found = check(&self.sample(timed, planted));
        let [finding] = &found.findings[..] else { panic!("{what}: {:?}", found.findings) };
        assert_eq!(finding.column.as_deref(), Some("planted"), "{what}: {finding:?}");
        // Some are as good as copies.
        let found = finding.kind == kind && finding.reason.contains("`user`");
        assert!(found || finding.kind == Leak::LabelCopy, "{what}: {finding:?}");
    }

    fn honest(&self, timed: bool, planted: Vec<f64>, what: &str) {
        let found = check(&self.sample(timed, planted));
        assert!(found.findings.is_empty(), "{what}: {:?}", found.findings);
    }
}

/// Users and rows: many rows each, some, few.
const WORLDS: [(usize, usize); 3] = [(100, 8000), (300, 6000), (2000, 8000)];

#[test]
fn clicks_from_now_on_are_found_and_clicks_so_far_are_honest() {
    for (seed, (users, rows)) in SEEDS.flat_map(|s| WORLDS.map(|w| (s, w))) {
        let w = world(seed, users, rows, 0.0);
        let what = |name: &str| format!("{name}, seed {seed}, {users} users");
        for timed in [true, false] {
            w.leaks(timed, Leak::Future, w.positives(|row, o| o >= row), &what("from now on"));
            w.leaks(timed, Leak::OwnLabel, w.positives(|row, o| o <= row), &what("so far with this"));
            w.honest(timed, w.positives(|row, o| o < row), &what("so far"));
        }
        // Of few rows each the last say little.
        if users < 1000 {
            w.leaks(true, Leak::Future, w.positives(|row, o| o > row), &what("later"));
        }
    }
}

#[test]
fn clicks_of_the_next_day_are_found_and_those_of_the_last_are_honest() {
    for (seed, (users, rows)) in SEEDS.flat_map(|s| WORLDS.map(|w| (s, w))) {
        let w = world(seed, users, rows, 0.0);
        let what = |name: &str| format!("{name}, seed {seed}, {users} users");
        let gap = |row: usize, other: usize| w.times[other] - w.times[row];
        for (days, name) in [(1.0, "a day"), (0.37, "nine hours")] {
            let span = (days * DAY as f64) as i64;
            w.leaks(true, Leak::Future, w.positives(|r, o| (0..span).contains(&gap(r, o))), &what(name));
            w.leaks(true, Leak::OwnLabel, w.positives(|r, o| (0..span).contains(&gap(o, r))), &what(name));
            w.honest(true, w.positives(|r, o| (1..=span).contains(&gap(o, r))), &what(name));
            w.honest(true, w.rates(5.0, |r, o| (1..=span).contains(&gap(o, r))), &what(name));
        }
    }
}

#[test]
fn totals_and_rates_of_the_whole_file_are_found_and_those_of_the_past_are_honest() {
    for (seed, (users, rows)) in SEEDS.flat_map(|s| WORLDS.map(|w| (s, w))) {
        let w = world(seed, users, rows, 0.0);
        let what = |name: &str| format!("{name}, seed {seed}, {users} users");
        w.leaks(false, Leak::OwnLabel, w.positives(|_, _| true), &what("total"));
        w.leaks(true, Leak::OwnLabel, w.rates(0.0, |_, _| true), &what("rate"));
        w.leaks(true, Leak::OwnLabel, w.rates(10.0, |_, _| true), &what("smoothed rate"));
        w.leaks(true, Leak::OwnLabel, w.rates(10.0, |r, o| r != o), &what("without the own label"));
        w.honest(true, w.rates(10.0, |r, o| o < r), &what("past rate"));
        w.honest(true, w.by_rate(|p| p), &what("true rate"));
        // Clicks in a month before the file, and the rate then.
        let mut next = numbers(seed);
        let before: Vec<f64> =
            w.rate.iter().map(|&p| (0..40).filter(|_| next() < p).count() as f64).collect();
        let of = |rule: &dyn Fn(f64) -> f64| w.users.iter().map(|&u| rule(before[u as usize - 1])).collect();
        w.honest(true, of(&|c| c), &what("clicks before"));
        w.honest(true, of(&|c| (c / 40.0).sqrt()), &what("rate before"));
    }
}

#[test]
fn what_is_known_at_the_time_is_honest() {
    for (seed, (users, rows)) in (0..3).flat_map(|s| WORLDS.map(|w| (s, w))) {
        for moods in [0.0, 1.5] {
            let w = world(seed, users, rows, moods);
            let mut next = numbers(seed + 50);
            let mut last: Vec<Option<usize>> = vec![None; users];
            let (mut since, mut waited, mut previous, mut so_far) = (vec![], vec![], vec![], vec![]);
            let mut seen = vec![(0.0, f64::NAN); users];
            for row in 0..rows {
                let user = w.users[row] as usize - 1;
                since.push(last[user].map_or(f64::NAN, |l| (w.times[row] - w.times[l]) as f64));
                waited.push(match last[user] {
                    Some(l) => w.rows[user].iter().filter(|&&o| o > l && o < row).count() as f64,
                    None => 99.0,
                });
                previous.push(seen[user].1);
                so_far.push(seen[user].0);
                seen[user] = (seen[user].0 + 1.0, f64::from(u8::from(w.label[row])));
                if w.label[row] {
                    last[user] = Some(row);
                }
            }
            let what = |name: &str| format!("{name}, seed {seed}, {users} users, moods {moods}");
            w.honest(true, since, &what("time since the last click"));
            w.honest(true, waited, &what("rows since the last click"));
            w.honest(true, previous, &what("the label before"));
            w.honest(true, so_far, &what("rows so far"));
            w.honest(true, w.users.iter().map(|&u| f64::from(u)).collect(), &what("the user's number"));
            w.honest(true, w.by_rate(|p| (p * 20.0).round()), &what("segment"));
            w.honest(true, w.positives(|r, o| o < r), &what("clicks so far"));
            w.honest(true, w.positives(|r, o| o < r && w.times[r] - w.times[o] < DAY / 4), &what("session"));
            let noisy = w.price.iter().map(|p| p + next()).collect();
            w.honest(true, noisy, &what("another price"));
        }
    }
}

#[test]
fn a_leak_beside_an_honest_count_is_blamed_alone() {
    for (seed, (users, rows)) in SEEDS.flat_map(|s| WORLDS.map(|w| (s, w))) {
        let w = world(seed, users, rows, 0.0);
        let mut sample = w.sample(true, w.positives(|r, o| o <= r));
        sample.columns.push(number("honest", w.positives(|r, o| o < r)));
        sample.columns.push(number("rows so far", w.count(|r, o| o < r).iter().map(|s| s.1).collect()));
        let found = check(&sample);
        let [finding] = &found.findings[..] else {
            panic!("seed {seed}, {users} users: {:?}", found.findings)
        };
        assert_eq!(finding.column.as_deref(), Some("planted"), "seed {seed}, {users} users: {finding:?}");
    }
}

#[test]
fn counts_of_rows_that_are_left_out_are_said_not_to_be_checked() {
    let w = world(1, 300, 6000, 0.0);
    let mut sample = w.sample(true, w.positives(|_, _| true));
    assert!(!check(&sample).not_checked.iter().any(|n| n.contains("--rows")));
    sample.rows_seen = 4 * sample.rows() as u64;
    assert!(check(&sample).not_checked.iter().any(|n| n.contains("--rows")));
}

/// After each positive as many negatives as the user's ratio says; the ratio and counts are honest.
#[test]
fn samples_of_so_many_negatives_to_a_positive_raise_no_alarm() {
    for seed in SEEDS {
        let mut w = world(seed, 200, 8000, 0.0);
        let mut seen = vec![0usize; 200];
        for row in 0..w.label.len() {
            let user = w.users[row] as usize - 1;
            w.label[row] = seen[user].is_multiple_of(2 + user % 5);
            seen[user] += 1;
        }
        let ratio: Vec<f64> = w.users.iter().map(|&u| f64::from((u - 1) % 5)).collect();
        w.honest(true, ratio.clone(), "ratio");
        let rows: Vec<f64> = w.users.iter().map(|&u| w.rows[u as usize - 1].len() as f64).collect();
        w.honest(true, rows.clone(), "rows");
        w.honest(false, w.positives(|r, o| o < r), "so far");
        let found = check(&w.sample(true, ratio));
        assert!(found.not_checked.iter().any(|n| n.contains("keep apart")), "{:?}", found.not_checked);
        // One in four of each user's rows, shuffled: rows tell the count.
        let mut next = numbers(seed + 9);
        for rows in &w.rows {
            let mut order = rows.clone();
            (1..order.len()).rev().for_each(|i| order.swap(i, (next() * (i + 1) as f64) as usize));
            order.iter().enumerate().for_each(|(i, &row)| w.label[row] = i % 4 == 1);
        }
        w.honest(true, rows, "rows of a shuffled sample");
    }
}
