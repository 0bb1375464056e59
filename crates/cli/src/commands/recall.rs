//! `millstream recall`: what recall finds and misses.

use clap::{Args, Subcommand, ValueEnum};
use millstream_data::{EvalUsers, Ragged, Split};
use millstream_pipeline::{Candidate, PipelineConfig, Recalled};
use millstream_schema::History;
use millstream_train::{Metrics, eval};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

use super::{recall_mine, recall_train};
use crate::chain::{Chain, RunDir};
use crate::progress::Bar;
use crate::{Failure, Global, Verdict, measure, output, serving};

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

Counting channels count what lies before the part that is measured. Choose by `valid`; look at `test` once.")]
pub struct Options {
    /// Folder of a run, as `quickstart` leaves it; its run.toml says which channels there are.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Which part to measure on.
    #[arg(long, value_enum, default_value = "valid")]
    split: Part,
    /// Lengths of the lists that are judged.
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

/// One channel, or the merged set.
#[derive(Serialize)]
struct Row {
    name: String,
    /// Share of the users for whom it was asked.
    asked: f64,
    /// Candidates per user asked.
    candidates: f64,
    metrics: Metrics,
    /// Mean, median and 99th percentile of its time in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    micros: Option<Micros>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    part: Option<InMerged>,
}

/// A channel's part in the merged set, cut at the largest k.
#[derive(Serialize)]
struct InMerged {
    /// Share of the merged items that came in by it.
    first_share: f64,
    /// Share of the merged right items that it found, and that only it found.
    right_share: f64,
    right_only_share: f64,
    /// What each metric of the merged set is less without it.
    lost: Metrics,
}

#[derive(Serialize)]
struct Micros {
    mean: f64,
    p50: f64,
    p99: f64,
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
    let config = chosen(serving::configuration(&dir)?, &options.channels)?;
    let (split, history): (Split, &[Split]) = match options.split {
        Part::Valid => (Split::Valid, &[Split::Train]),
        Part::Test => (Split::Test, &[Split::Train, Split::Valid]),
    };
    let chain = Chain::open(&dir, config, history)?;
    let users = evaluated(&chain, split, &options)?;
    let bar = Bar::new("recall", users.users.len() as u64, "users", global.quiet);
    let found = recall(&chain, &users, &options, &bar)?;
    bar.done(format!("{} users", users.users.len()));
    let judged = Judged { chain: &chain, users: &users, found: &found, k: &options.k };
    let (channels, merged) = judged.rows(options.timed);
    print(&channels, &merged, &options.k);
    if global.json {
        output::json(&json!({
            "split": split.as_str(), "users": users.users.len(), "k": options.k, "channels": channels,
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
fn recall(chain: &Chain, users: &EvalUsers, options: &Options, bar: &Bar) -> Result<Vec<Recalled>, Failure> {
    let requests = chain.requests(users, options.k.iter().copied().max().unwrap_or(1));
    let one = |request| chain.pipeline.recall(request, options.quota);
    // The first request pays for what is made once.
    drop(one(&requests[0])?);
    let (timed, others) = requests.split_at(options.timed.min(requests.len()));
    let mut found = Vec::with_capacity(requests.len());
    for request in timed {
        found.push(one(request)?);
        bar.at(found.len() as u64);
    }
    found.extend(others.par_iter().map(one).collect::<Result<Vec<_>, _>>()?);
    Ok(found)
}

struct Judged<'a> {
    chain: &'a Chain,
    users: &'a EvalUsers,
    found: &'a [Recalled],
    k: &'a [usize],
}

impl Judged<'_> {
    fn most(&self) -> usize {
        self.k.iter().copied().max().unwrap_or(1)
    }

    fn metrics(&self, lists: &[Vec<u32>]) -> Metrics {
        let wanted = ["recall@", "hit_rate@", "ndcg@", "coverage@", "tail_share@", "gini@"];
        let mut metrics = eval::lists_beside(self.users, lists, self.k, &self.chain.prepared.item_positives);
        metrics.retain(|key, _| wanted.iter().any(|w| key.starts_with(w)));
        metrics
    }

    /// The merged lists without the channel at this place, if one is given.
    fn merged(&self, without: Option<usize>) -> Vec<Vec<u32>> {
        let of = |found: &Recalled| {
            let mut items = self.chain.pipeline.merge_lists(&slices(found), &|at| Some(at) != without).items;
            items.truncate(self.most());
            items
        };
        self.found.par_iter().map(of).collect()
    }

    fn rows(&self, timed: usize) -> (Vec<Row>, Row) {
        let lists = self.merged(None);
        let users = self.found.len() as f64;
        let candidates = lists.iter().map(Vec::len).sum::<usize>() as f64 / users;
        let metrics = self.metrics(&lists);
        let merged = Row { name: "merged".into(), asked: 1.0, candidates, metrics, micros: None, part: None };
        let names: Vec<&str> = self.chain.pipeline.channels().collect();
        let channels = names.iter().enumerate().map(|(at, name)| self.channel((at, name), &merged, timed));
        (channels.collect(), merged)
    }

    fn channel(&self, (at, name): (usize, &str), merged: &Row, timed: usize) -> Row {
        let list =
            |found: &Recalled| -> Vec<u32> { found.lists[at].iter().flatten().map(|c| c.item).collect() };
        let lists: Vec<Vec<u32>> = self.found.par_iter().map(list).collect();
        let asked = self.found.iter().filter(|f| f.lists[at].is_some()).count();
        let candidates = lists.iter().map(Vec::len).sum::<usize>() as f64 / asked.max(1) as f64;
        let without = self.metrics(&self.merged(Some(at)));
        let less = |(key, of_all): (&String, &f64)| Some((key.clone(), of_all - without.get(key)?));
        let lost = merged.metrics.iter().filter_map(less).collect();
        Row {
            name: name.to_owned(),
            asked: asked as f64 / self.found.len() as f64,
            candidates,
            metrics: self.metrics(&lists),
            micros: self.micros(at, timed),
            part: Some(self.part(at, lost)),
        }
    }

    fn part(&self, at: usize, lost: Metrics) -> InMerged {
        // [items, came in by it, right, right and found by it, right and found by it alone]
        let count = |(place, found): (usize, &Recalled)| -> [usize; 5] {
            let merged = self.chain.pipeline.merge_lists(&slices(found), &|_| true);
            let truth = self.users.truth.row(place);
            let mut sums = [0; 5];
            for (at_place, item) in merged.items.iter().take(self.most()).enumerate() {
                let hits = merged.hits(at_place);
                let own = hits.iter().any(|h| h.channel as usize == at);
                let right = truth.contains(item);
                sums[0] += 1;
                sums[1] += usize::from(hits.first().is_some_and(|h| h.channel as usize == at));
                sums[2] += usize::from(right);
                sums[3] += usize::from(right && own);
                sums[4] += usize::from(right && own && hits.len() == 1);
            }
            sums
        };
        let add = |a: [usize; 5], b: [usize; 5]| std::array::from_fn(|i| a[i] + b[i]);
        let sums = self.found.par_iter().enumerate().map(count).reduce(|| [0; 5], add);
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        InMerged {
            first_share: share(sums[1], sums[0]),
            right_share: share(sums[3], sums[2]),
            right_only_share: share(sums[4], sums[2]),
            lost,
        }
    }

    fn micros(&self, at: usize, timed: usize) -> Option<Micros> {
        let asked = self.found.iter().take(timed).filter(|f| f.lists[at].is_some());
        let mut all: Vec<u64> = asked.map(|f| f.micros[at]).collect();
        all.sort_unstable();
        let quantile = |q: f64| all.get(((all.len() as f64 * q) as usize).min(all.len().saturating_sub(1)));
        let mean = all.iter().sum::<u64>() as f64 / all.len().max(1) as f64;
        Some(Micros { mean, p50: *quantile(0.5)? as f64, p99: *quantile(0.99)? as f64 })
    }
}

fn slices(found: &Recalled) -> Vec<&[Candidate]> {
    found.lists.iter().map(|l| l.as_deref().unwrap_or_default()).collect()
}

fn print(channels: &[Row], merged: &Row, k: &[usize]) {
    let most = k.iter().copied().max().unwrap_or(1);
    let mut header = vec![String::new(), "asked".into(), "items".into()];
    header.extend(k.iter().map(|k| format!("Recall@{k}")));
    header.push(format!("HitRate@{most}"));
    header.extend(["coverage", "tail", "Gini", "mean µs", "p99 µs", "first-hit", "only"].map(String::from));
    header.extend(k.iter().map(|k| format!("lost@{k}")));
    let rows: Vec<Vec<String>> = channels.iter().chain([merged]).map(|row| cells(row, k, most)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    output::line(output::table(&header, &rows).trim_end());
    output::line(format!(
        "coverage, tail share, Gini and shares at {most}; only: right items that no other channel found; \
         lost: Recall of the merged set without the channel"
    ));
}

fn cells(row: &Row, k: &[usize], most: usize) -> Vec<String> {
    let metric = |key: &str, k: usize| output::figure(row.metrics.get(&format!("{key}@{k}")).copied());
    let time = |of: fn(&Micros) -> f64| row.micros.as_ref().map_or("–".into(), |m| format!("{:.0}", of(m)));
    let share = |of: fn(&InMerged) -> f64| output::figure(row.part.as_ref().map(of));
    let mut cells =
        vec![row.name.clone(), format!("{:.0} %", 100.0 * row.asked), format!("{:.1}", row.candidates)];
    cells.extend(k.iter().map(|&k| metric("recall", k)));
    cells.extend(["hit_rate", "coverage", "tail_share", "gini"].map(|key| metric(key, most)));
    cells.extend([time(|m| m.mean), time(|m| m.p99)]);
    cells.extend([share(|p| p.first_share), share(|p| p.right_only_share)]);
    let lost = |k: &usize| row.part.as_ref().and_then(|p| p.lost.get(&format!("recall@{k}")).copied());
    cells.extend(k.iter().map(|k| output::figure(lost(k))));
    cells
}
