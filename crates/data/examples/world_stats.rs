//! Prints what the default world looks like: time to make and simulate it, click rates of the log by
//! channel, and the true click rate of the top 10 of an oracle, of popularity and of chance.
//!
//! `cargo run --release -p millstream-data --example world_stats [world.toml [folder]]`; with a folder the world is written there.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use millstream_data::synth::{FileFormat, ItemRow, LogChannel, UserRow, World, WorldConfig, write_world};

fn main() {
    let config = match std::env::args().nth(1) {
        Some(path) => WorldConfig::from_toml(&std::fs::read_to_string(&path).unwrap(), &path).unwrap(),
        None => WorldConfig::default(),
    };
    let clock = Instant::now();
    let world = World::new(&config).unwrap();
    println!("make world        {:>8.2?}", clock.elapsed());
    let recent = simulate(&world);
    events(&world);
    top_tens(&world, &recent);
    if let Some(dir) = std::env::args().nth(2) {
        let clock = Instant::now();
        let written = write_world(&world, dir.as_ref(), FileFormat::Csv, &mut |_| ()).unwrap();
        println!("write             {:>8.2?} {} events", clock.elapsed(), written.event_rows);
    }
}

/// Simulates, prints the log's figures, returns clicks per item during the last week.
fn simulate(world: &World) -> Vec<u32> {
    let clock = Instant::now();
    let mut shown = [0u64; 3];
    let mut clicked = [0u64; 3];
    let mut by_user = vec![0u32; world.users().len()];
    let mut by_item = vec![0u32; world.items().len()];
    let mut recent = vec![0u32; world.items().len()];
    let week = world.end_ms() - 7 * 86_400_000;
    world.simulate(|e| {
        let channel = match e.channel {
            LogChannel::Popularity => 0,
            LogChannel::Interest => 1,
            LogChannel::Random => 2,
        };
        shown[channel] += 1;
        if let Some(ms) = e.outcome.click_ms {
            clicked[channel] += 1;
            by_user[e.user as usize] += 1;
            by_item[e.item as usize] += 1;
            recent[e.item as usize] += u32::from(ms >= week);
        }
    });
    println!("simulate          {:>8.2?}", clock.elapsed());
    let rate = |i: usize| clicked[i] as f64 / shown[i].max(1) as f64;
    let all = clicked.iter().sum::<u64>() as f64 / shown.iter().sum::<u64>() as f64;
    println!(
        "logged click rate {all:.4}: popularity {:.4}, interest {:.4}, random {:.4}",
        rate(0),
        rate(1),
        rate(2)
    );
    println!("clicks per user: {}", quantiles(&mut by_user));
    println!("clicks per item: {}", quantiles(&mut by_item));
    recent
}

fn quantiles(counts: &mut [u32]) -> String {
    counts.sort_unstable();
    let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    let at = |q: f64| counts[((counts.len() - 1) as f64 * q) as usize];
    let top: u64 = counts.iter().rev().take(counts.len() / 100).map(|&c| u64::from(c)).sum();
    format!(
        "min {} p10 {} median {} p90 {} p99 {} max {} (total {total}, top 1% hold {:.0}%)",
        at(0.0),
        at(0.1),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        100.0 * top as f64 / total.max(1) as f64
    )
}

fn events(world: &World) {
    let clock = Instant::now();
    let mut counts = std::collections::BTreeMap::new();
    for event in world.events() {
        *counts.entry(event.action.as_str()).or_insert(0u64) += 1;
    }
    println!("simulate, ordered {:>8.2?} {counts:?}", clock.elapsed());
}

fn top_tens(world: &World, recent: &[u32]) {
    let now = world.end_ms() - 1;
    let alive: Vec<ItemRow> =
        (0..world.items().len() as ItemRow).filter(|&i| world.items()[i as usize].alive(now)).collect();
    let mut hot = alive.clone();
    hot.sort_by_key(|&i| std::cmp::Reverse(recent[i as usize]));
    let users: Vec<UserRow> = (0..world.users().len() as UserRow).take(1000).collect();
    let clock = Instant::now();
    let mut out = vec![0.0; world.items().len()];
    let mut mean = vec![0.0f64; out.len()];
    for &user in &users {
        world.score_all(user, now, &mut out);
        mean.iter_mut().zip(&out).for_each(|(m, p)| *m += f64::from(*p));
    }
    println!(
        "score_all         {:>8.2?} for {} users, {} items alive at the end",
        clock.elapsed(),
        users.len(),
        alive.len()
    );
    let clock = Instant::now();
    let oracle: f64 =
        users.iter().flat_map(|&u| world.best(u, now, 10, |_| true)).map(|b| f64::from(b.1)).sum();
    println!("oracle            {:>8.2?}", clock.elapsed());
    let n = users.len() as f64;
    let of = |list: &[ItemRow]| list.iter().map(|&i| mean[i as usize]).sum::<f64>() / n / list.len() as f64;
    let mut known = alive.clone();
    known.sort_by(|&a, &b| mean[b as usize].total_cmp(&mean[a as usize]));
    println!(
        "true click rate of the top 10: oracle {:.3}, best non-personal {:.3}, popularity (7 days) {:.3}, random {:.3}",
        oracle / n / 10.0,
        of(&known[..10]),
        of(&hot[..10]),
        of(&alive)
    );
}
