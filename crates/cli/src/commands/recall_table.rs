//! What `recall eval` judges and prints: a row for each channel and one for the merged set.

use millstream_data::EvalUsers;
use millstream_pipeline::{Candidate, Recalled};
use millstream_train::{Metrics, eval};
use rayon::prelude::*;
use serde::Serialize;

use crate::chain::Chain;
use crate::failing::Failing;
use crate::output;

/// One channel, or the merged set.
#[derive(Serialize)]
pub struct Row {
    name: String,
    /// Share of the users for whom it was asked.
    asked: f64,
    /// Users for whom it failed, and found nothing.
    failed: usize,
    /// Candidates per user asked.
    candidates: f64,
    metrics: Metrics,
    /// Mean, median and 99th percentile of its time in microseconds; of the merged set, of all channels one after the other and the
    /// merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    micros: Option<Micros>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    part: Option<InMerged>,
}

/// A channel's part in the merged set, cut at the largest k.
#[derive(Serialize)]
struct InMerged {
    /// Share of the merged items that came in by it (first-hit), that it found (all-hit), and that only it found (exclusive).
    first_share: f64,
    all_share: f64,
    only_share: f64,
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

impl Micros {
    fn of(mut all: Vec<u64>) -> Option<Self> {
        all.sort_unstable();
        let quantile = |q: f64| all.get(((all.len() as f64 * q) as usize).min(all.len().saturating_sub(1)));
        let mean = all.iter().sum::<u64>() as f64 / all.len().max(1) as f64;
        Some(Self { mean, p50: *quantile(0.5)? as f64, p99: *quantile(0.99)? as f64 })
    }
}

/// What was found for one user.
pub struct Found {
    /// Every channel's list.
    pub recalled: Recalled,
    /// Time of all channels and the merge in microseconds, where it was taken.
    pub micros: Option<u64>,
}

/// All that was found, to be judged by what the users took.
pub struct Judged<'a> {
    /// The chain that found it.
    pub chain: &'a Chain,
    /// The users, with what is right.
    pub users: &'a EvalUsers,
    /// By user.
    pub found: &'a [Found],
    /// Lengths of the lists, each once.
    pub k: &'a [usize],
}

/// The lists of the channels; empty where a channel was not asked.
pub fn slices(found: &Recalled) -> Vec<&[Candidate]> {
    found.lists.iter().map(|l| l.as_deref().unwrap_or_default()).collect()
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
        let of = |found: &Found| {
            let lists = slices(&found.recalled);
            let mut items = self.chain.pipeline.merge_lists(&lists, &|at| Some(at) != without).items;
            items.truncate(self.most());
            items
        };
        self.found.par_iter().map(of).collect()
    }

    /// The channels' rows, and that of the merged set.
    pub fn rows(&self) -> (Vec<Row>, Row) {
        let lists = self.merged(None);
        let merged = Row {
            name: "merged".into(),
            asked: 1.0,
            failed: 0,
            candidates: lists.iter().map(Vec::len).sum::<usize>() as f64 / self.found.len() as f64,
            metrics: self.metrics(&lists),
            micros: Micros::of(self.found.iter().filter_map(|f| f.micros).collect()),
            part: None,
        };
        let names: Vec<&str> = self.chain.pipeline.channels().collect();
        let channels = names.iter().enumerate().map(|(at, name)| self.channel((at, name), &merged));
        (channels.collect(), merged)
    }

    /// The channels that failed.
    pub fn failing(&self) -> Failing {
        let mut failing = Failing::default();
        for found in self.found {
            for (name, failure) in self.chain.pipeline.channels().zip(&found.recalled.failures) {
                failure.iter().for_each(|why| failing.count(name, why));
            }
        }
        failing
    }

    fn channel(&self, (at, name): (usize, &str), merged: &Row) -> Row {
        let own = |found: &Found| -> Vec<u32> {
            found.recalled.lists[at].iter().flatten().map(|c| c.item).collect()
        };
        let lists: Vec<Vec<u32>> = self.found.par_iter().map(own).collect();
        let asked = self.found.iter().filter(|f| f.recalled.lists[at].is_some()).count();
        let without = self.metrics(&self.merged(Some(at)));
        let less = |(key, of_all): (&String, &f64)| Some((key.clone(), of_all - without.get(key)?));
        let lost = merged.metrics.iter().filter_map(less).collect();
        Row {
            name: name.to_owned(),
            asked: asked as f64 / self.found.len() as f64,
            failed: self.found.iter().filter(|f| f.recalled.failures[at].is_some()).count(),
            candidates: lists.iter().map(Vec::len).sum::<usize>() as f64 / asked.max(1) as f64,
            metrics: self.metrics(&lists),
            micros: self.micros(at),
            part: Some(self.part(at, lost)),
        }
    }

    fn part(&self, at: usize, lost: Metrics) -> InMerged {
        // [items, came in by it, found by it, by it alone, right, right and found by it, right and found by it alone]
        let count = |(place, found): (usize, &Found)| -> [usize; 7] {
            let merged = self.chain.pipeline.merge_lists(&slices(&found.recalled), &|_| true);
            let truth = self.users.truth.row(place);
            let mut sums = [0; 7];
            for (at_place, item) in merged.items.iter().take(self.most()).enumerate() {
                let hits = merged.hits(at_place);
                let own = hits.iter().any(|h| h.channel as usize == at);
                let (alone, right) = (own && hits.len() == 1, truth.contains(item));
                let first = hits.first().is_some_and(|h| h.channel as usize == at);
                let counted = [true, first, own, alone, right, right && own, right && alone];
                sums.iter_mut().zip(counted).for_each(|(sum, one)| *sum += usize::from(one));
            }
            sums
        };
        let add = |a: [usize; 7], b: [usize; 7]| std::array::from_fn(|i| a[i] + b[i]);
        let sums = self.found.par_iter().enumerate().map(count).reduce(|| [0; 7], add);
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        InMerged {
            first_share: share(sums[1], sums[0]),
            all_share: share(sums[2], sums[0]),
            only_share: share(sums[3], sums[0]),
            right_share: share(sums[5], sums[4]),
            right_only_share: share(sums[6], sums[4]),
            lost,
        }
    }

    /// Its times where time was taken and it answered.
    fn micros(&self, at: usize) -> Option<Micros> {
        let timed = self.found.iter().filter(|f| f.micros.is_some()).map(|f| &f.recalled);
        let answered = timed.filter(|r| r.lists[at].is_some() && r.failures[at].is_none());
        Micros::of(answered.map(|r| r.micros[at]).collect())
    }
}

/// Prints what the channels are like, then for each k how good they are.
pub fn print(channels: &[Row], merged: &Row, k: &[usize]) {
    let rows = || channels.iter().chain([merged]);
    let most = k.iter().copied().max().unwrap_or(1);
    let header = [
        "",
        "asked",
        "failed",
        "items",
        "mean µs",
        "p99 µs",
        "first-hit",
        "all-hit",
        "exclusive",
        "only right",
    ];
    output::line(output::table(&header, &rows().map(about).collect::<Vec<_>>()).trim_end());
    output::line(format!(
        "shares of the merged set's first {most}; only right: of its right items, those that no other channel found; time of the merged \
         set: of all channels one after the other, and the merge"
    ));
    for &k in k {
        let named = ["Recall", "HitRate", "NDCG"].map(|name| format!("{name}@{k}"));
        let [recall, hit_rate, ndcg] = named.each_ref().map(String::as_str);
        let header = ["", recall, hit_rate, ndcg, "coverage", "tail", "Gini", "lost"];
        let rows: Vec<Vec<String>> = rows().map(|row| at_k(row, k)).collect();
        output::line(format!("\n{}", output::table(&header, &rows).trim_end()));
    }
    output::line("lost: Recall of the merged set that it would not have without the channel");
}

fn about(row: &Row) -> Vec<String> {
    let time = |of: fn(&Micros) -> f64| row.micros.as_ref().map_or("–".into(), |m| format!("{:.0}", of(m)));
    let share = |of: fn(&InMerged) -> f64| output::figure(row.part.as_ref().map(of));
    vec![
        row.name.clone(),
        format!("{:.0} %", 100.0 * row.asked),
        row.failed.to_string(),
        format!("{:.1}", row.candidates),
        time(|m| m.mean),
        time(|m| m.p99),
        share(|p| p.first_share),
        share(|p| p.all_share),
        share(|p| p.only_share),
        share(|p| p.right_only_share),
    ]
}

fn at_k(row: &Row, k: usize) -> Vec<String> {
    let metric = |key: &str| output::figure(row.metrics.get(&format!("{key}@{k}")).copied());
    let lost = row.part.as_ref().and_then(|p| p.lost.get(&format!("recall@{k}")).copied());
    let mut cells = vec![row.name.clone()];
    cells.extend(["recall", "hit_rate", "ndcg", "coverage", "tail_share", "gini"].map(metric));
    cells.push(output::figure(lost));
    cells
}
