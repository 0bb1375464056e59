//! `millstream recall`: what recall finds and misses.

use clap::{Args, Subcommand, ValueEnum};
use millstream_data::{EvalUsers, Ragged, Split};
use millstream_pipeline::PipelineConfig;
use millstream_schema::History;
use rayon::prelude::*;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

use super::recall_table::{self, Found, Judged, slices};
use super::{recall_mine, recall_train};
use crate::chain::{Chain, RunDir};
use crate::progress::Bar;
use crate::{Failure, Global, Verdict, measure, output, run_file};

/// Recall: models for its channels, and what each channel finds and misses.
#[derive(Subcommand)]
pub enum Command {
    /// Train the models of a run's `[[recall.model]]` on its prepared log.
    Train(recall_train::Options),
    /// Measure every channel of a run, the merged set, and what the merged set loses without each channel.
    Eval(Options),
    /// Write down what a run's chain ranks and does not show, for `[training.hard_negatives]`.
    Mine(recall_mine::Options),
}

/// Measure every channel of a run, the merged set, and what the merged set loses without each channel.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream recall eval --run millstream-quickstart
  millstream recall eval --run millstream-quickstart --k 20,100 --split test --json
  millstream recall eval --run millstream-quickstart --channel two_tower --channel hot
  millstream recall eval --run millstream-quickstart --where region=r3 --max-history 5

Counting channels count what lies before the part that is measured. A channel that fails is counted as such and done without.
Choose by `valid`; look at `test` once.")]
pub struct Options {
    /// Folder of a run, as `quickstart` leaves it; its run.toml says which channels there are.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Which part to measure on.
    #[arg(long, value_enum, default_value = "valid")]
    split: Part,
    /// Lengths of the lists that are judged; none counts for more than the items there are.
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', default_value = "10,50,200")]
    k: Vec<usize>,
    /// Candidates that each channel is asked for, instead of its own quota.
    #[arg(long, value_name = "N")]
    quota: Option<usize>,
    /// Users at most, drawn by seed.
    #[arg(long, value_name = "N", default_value = "2000")]
    users: usize,
    /// Only these channels, and the merged set of these; may be repeated.
    #[arg(long = "channel", value_name = "NAME")]
    channels: Vec<String>,
    /// Only users whose record holds this value; may be repeated.
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    wheres: Vec<String>,
    /// Only users with at least so many past actions.
    #[arg(long, value_name = "N")]
    min_history: Option<usize>,
    /// Only users with at most so many past actions.
    #[arg(long, value_name = "N")]
    max_history: Option<usize>,
    /// Users by whom time is taken, one after the other.
    #[arg(long, value_name = "N", default_value = "500")]
    timed: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Valid,
    Test,
}

/// Runs the command.
pub fn run(command: Command, global: &Global) -> Result<Verdict, Failure> {
    let options = match command {
        Command::Train(options) => return recall_train::run(options, global),
        Command::Mine(options) => return recall_mine::run(options, global),
        Command::Eval(options) => options,
    };
    if options.k.contains(&0) || options.quota == Some(0) || options.users == 0 {
        return Err("--k, --quota and --users must be above 0".into());
    }
    let dir = RunDir(options.run.clone());
    let config = chosen(run_file::read(&dir)?, &options.channels)?;
    let (split, history): (Split, &[Split]) = match options.split {
        Part::Valid => (Split::Valid, &[Split::Train]),
        Part::Test => (Split::Test, &[Split::Train, Split::Valid]),
    };
    let chain = Chain::open(&dir, config, history)?;
    let users = evaluated(&chain, split, &options)?;
    let k = lengths(&options.k, chain.prepared.items.len());
    let bar = Bar::new("recall", users.users.len() as u64, "users", global.quiet);
    let found = recall(&chain, &users, (&options, k.iter().copied().max().unwrap_or(1)), &bar)?;
    bar.done(format!("{} users", users.users.len()));
    let judged = Judged { chain: &chain, users: &users, found: &found, k: &k };
    let (channels, merged) = judged.rows();
    recall_table::print(&channels, &merged, &k);
    judged.failing().tell(users.users.len());
    if global.json {
        output::json(&json!({
            "split": split.as_str(), "users": users.users.len(), "k": k, "channels": channels,
            "merged": merged, "peak_rss_mb": output::peak_rss_mb(),
        }));
    }
    Ok(Verdict::Done)
}

/// The configuration with the named channels alone; what does not take part is no fallback either.
fn chosen(mut config: PipelineConfig, names: &[String]) -> Result<PipelineConfig, Failure> {
    if names.is_empty() {
        return Ok(config);
    }
    if config.channels.is_empty() {
        config.channels = millstream_pipeline::CHANNELS
            .iter()
            .filter(|d| d.by_default)
            .map(|d| millstream_pipeline::config::ChannelConfig::of(d.name))
            .collect();
    }
    for name in names {
        if !config.channels.iter().any(|c| c.name == *name) {
            let known = config.channels.iter().map(|c| c.name.as_str());
            let problem = millstream_schema::suggest::unknown("channel", name, known.clone());
            return Err(format!("--channel: {problem}").into());
        }
    }
    config.channels.retain(|c| names.contains(&c.name));
    for channel in &mut config.channels {
        (channel.fallback, channel.short, channel.standby) = (None, None, false);
    }
    config.fuse.channels.retain(|name, _| names.contains(name));
    Ok(config)
}

/// The users that the filters let through, at most as many as asked for.
fn evaluated(chain: &Chain, split: Split, options: &Options) -> Result<EvalUsers, Failure> {
    let mut wheres = Vec::new();
    for filter in &options.wheres {
        let parted = filter.split_once('=').filter(|(field, _)| !field.is_empty());
        wheres.push(parted.ok_or_else(|| format!("--where `{filter}`: write FIELD=VALUE"))?);
    }
    let records = &chain.records.users;
    if let Some((field, _)) = wheres.iter().find(|(f, _)| records.iter().all(|r| !r.fields.contains_key(*f)))
    {
        let known: std::collections::BTreeSet<&str> =
            records.iter().flat_map(|r| r.fields.keys().map(String::as_str)).collect();
        let problem = millstream_schema::suggest::unknown("user field", field, known.iter().copied());
        return Err(format!("--where: {problem}").into());
    }
    let (least, most) = (options.min_history.unwrap_or(0), options.max_history.unwrap_or(usize::MAX));
    let filtered = !wheres.is_empty() || options.min_history.is_some() || options.max_history.is_some();
    let limit = (!filtered).then_some(options.users);
    let all = chain.prepared.eval_users(split, limit, measure::EVAL_SEED)?;
    let fits = |place: usize| {
        let record = records.get(all.users[place] as usize);
        let has = |(field, value): &(&str, &str)| record.is_some_and(|r| r.get(field) == *value);
        (least..=most).contains(&all.history.span(place).len()) && wheres.iter().all(has)
    };
    let mut places: Vec<usize> = (0..all.users.len()).filter(|&place| fits(place)).collect();
    // A draw by seed that does not depend on who else is there.
    let draw = |place: &usize| {
        (u64::from(all.users[*place]) ^ measure::EVAL_SEED).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    };
    if filtered && places.len() > options.users {
        places.sort_by_key(draw);
        places.truncate(options.users);
        places.sort_unstable();
    }
    let mut users = EvalUsers {
        users: Vec::new(),
        time_ms: Vec::new(),
        history: History::default(),
        truth: Ragged::default(),
        seen: Ragged::default(),
    };
    for place in places {
        users.users.push(all.users[place]);
        users.time_ms.push(all.time_ms[place]);
        users.history.push(all.history.span(place).map(|at| all.history.action(at)));
        users.truth.push(all.truth.row(place).iter().copied());
        users.seen.push(all.seen.row(place).iter().copied());
    }
    if users.users.is_empty() {
        return Err("no user with a past and a future around the split is left by the filters".into());
    }
    Ok(users)
}

/// Every user's lists: the first ones one after the other, for their times, the others in parallel.
fn recall(
    chain: &Chain,
    users: &EvalUsers,
    (options, most): (&Options, usize),
    bar: &Bar,
) -> Result<Vec<Found>, Failure> {
    let requests = chain.requests(users, most);
    let one = |request| chain.pipeline.recall(request, options.quota);
    // The first request pays for what is made once.
    drop(one(&requests[0])?);
    let (timed, others) = requests.split_at(options.timed.min(requests.len()));
    let mut found = Vec::with_capacity(requests.len());
    for request in timed {
        let start = Instant::now();
        let recalled = one(request)?;
        let merged = chain.pipeline.merge_lists(&slices(&recalled), &|_| true);
        let micros = start.elapsed().as_micros() as u64;
        drop(merged);
        found.push(Found { recalled, micros: Some(micros) });
        bar.at(found.len() as u64);
    }
    let untimed = |request| one(request).map(|recalled| Found { recalled, micros: None });
    found.extend(others.par_iter().map(untimed).collect::<Result<Vec<_>, _>>()?);
    Ok(found)
}

/// The lengths without repetitions, none beyond the number of items there are: longer lists hold no more.
fn lengths(k: &[usize], items: usize) -> Vec<usize> {
    let mut all: Vec<usize> = Vec::new();
    for k in k.iter().map(|&k| k.min(items)) {
        if !all.contains(&k) {
            all.push(k);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_no_longer_than_the_catalogue() {
        assert_eq!(lengths(&[10, 50, 10, 200], 1000), [10, 50, 200]);
        assert_eq!(lengths(&[10, 50, 100_000_000], 40), [10, 40]);
    }
}
