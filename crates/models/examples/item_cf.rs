//! ItemCF under full ranking on lists of items per user (`user item item …` per line):
//!
//! ```text
//! cargo run --release -p millstream-models --example item_cf -- train.txt test.txt key=value …
//! ```
//! With `test.txt` = `valid`, a tenth of each user's training items is held out instead. Keys are those
//! of `ItemCfConfig`. Prints Recall@20, NDCG@20 and the time of building.

use std::time::Instant;

use millstream_models::recall::item_cf::{ItemCf, ItemCfConfig};
use millstream_models::recall::positives::Positives;
use rayon::prelude::*;

type Lists = Vec<Vec<u32>>;

fn read(path: &str) -> Result<Lists, Box<dyn std::error::Error>> {
    let mut lists = Lists::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let Some(user) = numbers.next().transpose()? else { continue };
        lists.resize(lists.len().max(user as usize + 1), Vec::new());
        lists[user as usize] = numbers.collect::<Result<_, _>>()?;
    }
    Ok(lists)
}

/// Holds out a tenth of each user's items, by a hash of user and item.
fn hold_out(lists: Lists) -> (Lists, Lists) {
    let held = |user: usize, item: u32| {
        let x = (user as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(item).wrapping_mul(0xC2B2_AE3D);
        (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40 & 1023 < 102
    };
    let split = lists.into_iter().enumerate().map(|(u, l)| l.into_iter().partition(|&i| !held(u, i)));
    split.unzip()
}

/// (Recall@20, NDCG@20) of one user.
fn judge(cf: &ItemCf, train: &[u32], test: &[u32]) -> (f64, f64) {
    let history: Vec<(u32, f32)> = train.iter().map(|&i| (i, 1.0)).collect();
    let top = cf.recommend(&history, 20, &|i| train.binary_search(&i).is_err());
    let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let hits: Vec<usize> = (0..top.len()).filter(|&p| test.contains(&top[p].0)).collect();
    let ideal: f64 = (0..test.len().min(20)).map(gain).sum();
    (hits.len() as f64 / test.len() as f64, hits.iter().map(|&p| gain(p)).sum::<f64>() / ideal)
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, options @ ..] = args.as_slice() else {
        return Err("usage: item_cf TRAIN TEST|valid [key=value …]".into());
    };
    let cfg: ItemCfConfig = toml::from_str(&options.join("\n"))?;
    let (mut train, test) = match test.as_str() {
        "valid" => hold_out(read(train)?),
        path => (read(train)?, read(path)?),
    };
    train.iter_mut().for_each(|l| l.sort_unstable());
    let items = train.iter().chain(&test).flatten().max().map_or(0, |&m| m as usize + 1);
    let mut offsets = vec![0u64];
    train.iter().for_each(|l| offsets.push(offsets[offsets.len() - 1] + l.len() as u64));
    let item = train.concat();

    let start = Instant::now();
    let cf = ItemCf::build(&cfg, &Positives { items, offsets: &offsets, item: &item, time_ms: &[] })?;
    let built = start.elapsed();
    let start = Instant::now();
    let users: Vec<usize> = (0..test.len()).filter(|&u| !test[u].is_empty() && u < train.len()).collect();
    let judged: Vec<(f64, f64)> = users.par_iter().map(|&u| judge(&cf, &train[u], &test[u])).collect();
    let mean = |f: fn(&(f64, f64)) -> f64| judged.iter().map(f).sum::<f64>() / judged.len() as f64;
    println!(
        "Recall@20 {:.5}  NDCG@20 {:.5}  users {}  pairs {}  build {:.2?}  evaluate {:.2?}",
        mean(|x| x.0),
        mean(|x| x.1),
        users.len(),
        cf.pairs(),
        built,
        start.elapsed()
    );
    Ok(())
}
