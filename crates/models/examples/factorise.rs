//! Counting and factorisation models under full ranking on lists of items per user (`user item item …` per line):
//!
//! ```text
//! cargo run --release -p millstream-models --example factorise -- TRAIN TEST|valid MODEL seed=1 key=value …
//! ```
//! MODEL is `item_cf`, `user_cf`, `swing`, `als`, `bpr` or `item2vec`, keys are those of its options. With `valid`, a tenth of each
//! user's training items is held out instead of TEST. With `none`, nothing is judged: only the seconds count. Prints one line of JSON.

use std::time::Instant;

use millstream_models::recall::als::{Als, AlsConfig};
use millstream_models::recall::bpr::BprConfig;
use millstream_models::recall::factors::{FactorModel, Factors};
use millstream_models::recall::item_cf::ItemCfConfig;
use millstream_models::recall::item2vec::Item2VecConfig;
use millstream_models::recall::lists::InvertedLists;
use millstream_models::recall::positives::Positives;
use millstream_models::recall::swing::SwingConfig;
use millstream_models::recall::user_cf::{UserCf, UserCfConfig};
use rayon::prelude::*;

type Lists = Vec<Vec<u32>>;
type Failure = Box<dyn std::error::Error>;

enum Model {
    Lists(InvertedLists),
    Users(Box<UserCf>),
    Factors(FactorModel),
}

fn read(path: &str) -> Result<Lists, Failure> {
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
fn judge(model: &Model, user: usize, train: &[u32], test: &[u32]) -> (f64, f64) {
    let history: Vec<(u32, f32)> = train.iter().map(|&i| (i, 1.0)).collect();
    let keep = |i: u32| train.binary_search(&i).is_err();
    let top = match model {
        Model::Lists(lists) => lists.recommend(&history, 20, &keep),
        Model::Users(cf) => cf.recommend(cf.similar().neighbours(user as u32), 20, &keep),
        Model::Factors(f) => {
            let vector = f.user(user as u32).map_or_else(|| f.user_vector(&history), <[f32]>::to_vec);
            f.recommend(&vector, 20, &keep)
        }
    };
    let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let hits: Vec<usize> = (0..top.len()).filter(|&p| test.contains(&top[p].0)).collect();
    let ideal: f64 = (0..test.len().min(20)).map(gain).sum();
    (hits.len() as f64 / test.len() as f64, hits.iter().map(|&p| gain(p)).sum::<f64>() / ideal)
}

/// User and system seconds of this process, to a hundredth.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some((fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?) / 100.0)
}

/// The model, with the seconds of each of its rounds.
fn learn(
    name: &str,
    options: toml::Table,
    p: &Positives<'_>,
    seed: u64,
) -> Result<(Model, Vec<f64>), Failure> {
    let mut rounds = Vec::new();
    let mut last = Instant::now();
    let mut tick = || {
        rounds.push(last.elapsed().as_secs_f64());
        last = Instant::now();
    };
    let model = match name {
        "item_cf" => Model::Lists(options.try_into::<ItemCfConfig>()?.build(p)?),
        "swing" => Model::Lists(options.try_into::<SwingConfig>()?.build(p)?),
        "user_cf" => Model::Users(Box::new(UserCf::build(&options.try_into::<UserCfConfig>()?, p)?)),
        "als" => {
            let config: AlsConfig = options.try_into()?;
            let mut als = Als::new(&config, p, seed)?;
            tick();
            for _ in 0..config.iterations {
                als.step();
                tick();
            }
            Model::Factors(als.model()?)
        }
        "bpr" => Model::Factors(options.try_into::<BprConfig>()?.fit(p, seed, &mut |_, _| tick())?),
        "item2vec" => Model::Factors(options.try_into::<Item2VecConfig>()?.fit(p, seed, &mut |_| tick())?),
        other => return Err(format!("no model `{other}`").into()),
    };
    Ok((model, rounds))
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, name, options @ ..] = args.as_slice() else {
        return Err("usage: factorise TRAIN TEST|valid|none MODEL [key=value …]".into());
    };
    let mut options: toml::Table = options.join("\n").parse()?;
    let seed = options.remove("seed").and_then(|s| s.as_integer()).unwrap_or(1) as u64;
    let every = options.remove("every").and_then(|s| s.as_integer()).unwrap_or(1).max(1) as usize;
    let (mut train, test) = match test.as_str() {
        "valid" => hold_out(read(train)?),
        "none" => (read(train)?, Lists::new()),
        path => (read(train)?, read(path)?),
    };
    train.iter_mut().for_each(|l| l.sort_unstable());
    let items = train.iter().chain(&test).flatten().max().map_or(0, |&m| m as usize + 1);
    let mut offsets = vec![0u64];
    train.iter().for_each(|l| offsets.push(offsets[offsets.len() - 1] + l.len() as u64));
    let item = train.concat();
    let positives = Positives { items, offsets: &offsets, item: &item, time_ms: &[] };

    let (start, before) = (Instant::now(), cpu_seconds());
    let (model, mut rounds) = learn(name, options, &positives, seed)?;
    let (seconds, cpu) =
        (start.elapsed().as_secs_f64(), cpu_seconds().zip(before).map_or(f64::NAN, |(a, b)| a - b));
    rounds.sort_by(f64::total_cmp);
    let users: Vec<usize> =
        (0..test.len()).step_by(every).filter(|&u| !test[u].is_empty() && u < train.len()).collect();
    let judged: Vec<(f64, f64)> = users.par_iter().map(|&u| judge(&model, u, &train[u], &test[u])).collect();
    let mean = |f: fn(&(f64, f64)) -> f64| judged.iter().map(f).sum::<f64>() / judged.len().max(1) as f64;
    println!(
        "{{\"recall@20\":{:.5},\"ndcg@20\":{:.5},\"users\":{},\"events\":{},\"seconds\":{seconds:.4},\"cpu_s\":{cpu:.2},\"round_s\":{:.4}}}",
        mean(|x| x.0),
        mean(|x| x.1),
        users.len(),
        item.len(),
        rounds.get(rounds.len() / 2).copied().unwrap_or(seconds)
    );
    Ok(())
}
