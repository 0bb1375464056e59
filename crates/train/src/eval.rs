//! Measuring models: scores against labels, and ranked lists against what users did next.

use millstream_data::{EvalUsers, Ragged};
use millstream_index::{Flat, Index, Metric, topk_scores};
use millstream_models::embeds::{self, Embeds};
use millstream_schema::{Assembler, Batch, BatchSource};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::ops::Range;

use crate::metrics::{RankingMetrics, Scored};
use crate::run::Metrics;
use crate::{Error, Learner};

/// Items each user may be shown: not seen before, alive at the user's time.
pub struct Rules<'a> {
    /// The users.
    pub eval: &'a EvalUsers,
    /// First moment of each item, epoch milliseconds; empty when all were always there.
    pub created_ms: &'a [i64],
    /// First moment at which each item is gone; empty when none ever is.
    pub retired_ms: &'a [i64],
}

impl Rules<'_> {
    /// Whether `item` may be shown to the evaluated user of this place.
    pub fn allows(&self, place: usize, item: u32) -> bool {
        let (at, i) = (self.eval.time_ms[place], item as usize);
        self.created_ms.get(i).is_none_or(|&c| c <= at)
            && self.retired_ms.get(i).is_none_or(|&r| r > at)
            && self.eval.seen.row(place).binary_search(&item).is_err()
    }
}

/// The scores of a ranker over all batches of `source`, by task in the learner's order.
///
/// # Errors
/// Reading or scoring fails.
pub fn scored(
    learner: &Learner,
    source: &mut dyn BatchSource,
    seen: &dyn Fn(u64),
) -> Result<Vec<Scored>, Error> {
    let tasks = learner.tasks().len();
    let mut out = vec![Scored::of_logits(); tasks];
    let mut rows = 0;
    while let Some(batch) = source.next_batch()? {
        let logits = learner.calibrated(learner.logits(&batch)?);
        for (t, scored) in out.iter_mut().enumerate() {
            let of_task = |all: &[f32]| all.iter().skip(t).step_by(tasks).copied().collect::<Vec<f32>>();
            scored.push(&of_task(&logits), &of_task(&batch.labels), &batch.group, &batch.weights);
        }
        rows += batch.candidates() as u64;
        seen(rows);
    }
    Ok(out)
}

/// AUC, GAUC and log-loss of a ranker over all batches of `source`; with several tasks also `TASK.auc` and
/// so on, the bare keys being the first task's.
///
/// # Errors
/// Reading or scoring fails.
pub fn ranker(learner: &Learner, source: &mut dyn BatchSource, seen: &dyn Fn(u64)) -> Result<Metrics, Error> {
    let scored = scored(learner, source, seen)?;
    Ok(by_task(learner.tasks(), scored.iter().map(Scored::brief)))
}

/// Joins the metrics of several tasks: the bare keys are the first task's; with several, `TASK.key` of each, and
/// `mean.key` of those that all have (unless a task is called `mean`).
pub fn by_task(tasks: &[String], of_each: impl Iterator<Item = Metrics>) -> Metrics {
    let of_each: Vec<Metrics> = of_each.collect();
    let mut metrics = Metrics::new();
    let shared = of_each.first().into_iter().flatten().map(|(key, _)| key).filter(|_| of_each.len() > 1);
    for key in shared {
        let values: Option<Vec<f64>> = of_each.iter().map(|m| m.get(key).copied()).collect();
        if let Some(values) = values {
            metrics.insert(format!("mean.{key}"), values.iter().sum::<f64>() / values.len() as f64);
        }
    }
    for (t, (task, values)) in tasks.iter().zip(of_each).enumerate() {
        for (key, value) in values {
            if tasks.len() > 1 {
                metrics.insert(format!("{task}.{key}"), value);
            }
            if t == 0 {
                metrics.insert(key, value);
            }
        }
    }
    metrics
}

/// Each user's best `k` of the whole catalogue by inner product, in parallel blocks.
///
/// # Errors
/// Embedding fails.
pub fn retriever_lists(
    model: &dyn Embeds,
    assembler: &Assembler,
    rules: &Rules<'_>,
    k: usize,
) -> Result<Vec<Vec<u32>>, Error> {
    let items: Vec<u32> = (0..assembler.items() as u32).collect();
    let vectors = embeds::item_vectors(model, assembler, &items)?;
    let index = Flat::build(model.dim(), Metric::InnerProduct, &items, &vectors)?;
    let eval = rules.eval;
    let users = embeds::user_vectors(model, assembler, (&eval.users, &eval.time_ms, &eval.history))?;
    let interests = model.interests();
    let hits = index.search_batch(&users, k, &|query, item| rules.allows(query / interests, item))?;
    Ok(hits.chunks(interests).map(|of_user| merge(of_user, k)).collect())
}

/// How often the right items are found among the first of a few: each right item of each user against `negatives` items
/// drawn uniformly from those that `known` does not hold for the user, the same ones for every model with one seed.
/// Negatives with the right item's score are counted as ahead of it. Gives `sampled_hit_rate@K` and `sampled_ndcg@K`, means
/// over right items; nothing if there are none.
///
/// Not to be compared with figures of full rankings, nor of another number of negatives (Krichene & Rendle 2020).
///
/// # Errors
/// Embedding fails, or there is a user to whom too few items are unknown.
pub fn sampled(
    model: &dyn Embeds,
    assembler: &Assembler,
    (eval, known): (&EvalUsers, &Ragged<u32>),
    (k, negatives, seed): (&[usize], usize, u64),
) -> Result<Metrics, Error> {
    let catalogue = assembler.items() as u32;
    let most = (0..known.len()).map(|place| known.row(place).len()).max().unwrap_or(0);
    if (catalogue as usize) < most + negatives {
        return Err(Error::Config(format!(
            "evaluate.sampled: {negatives} negatives for each user are too many of {catalogue} items, of which \
             a user knows up to {most}"
        )));
    }
    let items: Vec<u32> = (0..catalogue).collect();
    let vectors = embeds::item_vectors(model, assembler, &items)?;
    let users = embeds::user_vectors(model, assembler, (&eval.users, &eval.time_ms, &eval.history))?;
    let (dim, interests) = (model.dim(), model.interests());
    let ranks: Vec<Vec<usize>> = (0..eval.users.len())
        .into_par_iter()
        .map(|place| {
            let own = &users[place * interests * dim..][..interests * dim];
            let score = |item: u32| {
                let vector = &vectors[item as usize * dim..][..dim];
                let of = |u: &[f32]| u.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
                own.chunks_exact(dim).map(of).fold(f32::NEG_INFINITY, f32::max)
            };
            let mut rng =
                Pcg64Mcg::seed_from_u64(seed ^ u64::from(eval.users[place]).wrapping_mul(0x9E37_79B9));
            let mut drawn: Vec<u32> = Vec::with_capacity(negatives);
            while drawn.len() < negatives {
                let item = rng.random_range(0..catalogue);
                if known.row(place).binary_search(&item).is_err() && !drawn.contains(&item) {
                    drawn.push(item);
                }
            }
            let others: Vec<f32> = drawn.iter().map(|&item| score(item)).collect();
            let ahead = |item: &u32| {
                let right = score(*item);
                // A score that is no number is behind none and finds nothing.
                others.iter().filter(|s| s.partial_cmp(&&right) != Some(Ordering::Less)).count()
            };
            eval.truth.row(place).iter().map(ahead).collect()
        })
        .collect();
    let ranks: Vec<usize> = ranks.into_iter().flatten().collect();
    let mut metrics = Metrics::new();
    for &k in k.iter().filter(|k| **k > 0 && !ranks.is_empty()) {
        let found = || ranks.iter().filter(|ahead| **ahead < k);
        let gain: f64 = found().map(|ahead| 1.0 / (*ahead as f64 + 2.0).log2()).sum();
        metrics.insert(format!("sampled_hit_rate@{k}"), found().count() as f64 / ranks.len() as f64);
        metrics.insert(format!("sampled_ndcg@{k}"), gain / ranks.len() as f64);
    }
    Ok(metrics)
}

/// The best `k` of several lists; an item counts with its best score.
fn merge(lists: &[Vec<millstream_index::Hit>], k: usize) -> Vec<u32> {
    let mut all: Vec<_> = lists.iter().flatten().collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
    let mut out: Vec<u32> = Vec::with_capacity(k);
    for hit in all {
        if out.len() < k && !out.contains(&hit.item) {
            out.push(hit.item);
        }
    }
    out
}

/// Each user's best `k` by dense scores: `score(place of the user, out)` writes one score per item, −∞ for
/// items it does not know.
pub fn scored_lists(
    rules: &Rules<'_>,
    items: usize,
    k: usize,
    score: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Vec<Vec<u32>> {
    let each = |places: Range<usize>, out: &mut [f32]| {
        places.zip(out.chunks_exact_mut(items.max(1))).for_each(|(place, out)| score(place, out));
    };
    scored_together(rules, (items, 1), k, &each)
}

/// As [`scored_lists`], up to `together` users scored at once: `score(places, out)` writes `[places, items]`.
pub fn scored_together(
    rules: &Rules<'_>,
    (items, together): (usize, usize),
    k: usize,
    score: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
) -> Vec<Vec<u32>> {
    let (users, together) = (rules.eval.users.len(), together.max(1));
    let best = |place: usize, scores: &mut [f32]| {
        for (item, s) in scores.iter_mut().enumerate() {
            if *s > f32::NEG_INFINITY && !rules.allows(place, item as u32) {
                *s = f32::NEG_INFINITY;
            }
        }
        let best = topk_scores(scores, k, &[]);
        best.iter().filter(|h| h.score > f32::NEG_INFINITY).map(|h| h.item).collect()
    };
    let block = |scores: &mut Vec<f32>, from: usize| -> Vec<Vec<u32>> {
        let places = from..(from + together).min(users);
        let scores = &mut scores[..places.len() * items];
        score(places.clone(), scores);
        places.zip(scores.chunks_exact_mut(items.max(1))).map(|(place, scores)| best(place, scores)).collect()
    };
    let blocks = (0..users).into_par_iter().step_by(together);
    blocks.map_init(|| vec![0.0f32; together * items], block).flatten_iter().collect()
}

/// Metrics of lists at each cut-off, averaged over users ([`RankingMetrics`]), with coverage and Gini of a catalogue of
/// that size.
pub fn lists(eval: &EvalUsers, lists: &[Vec<u32>], k: &[usize], catalogue: usize) -> Metrics {
    added(RankingMetrics::with_catalogue(k, catalogue), eval, lists)
}

/// [`lists`] with novelty and tail share, from the catalogue's past interactions by item.
pub fn lists_beside(eval: &EvalUsers, lists: &[Vec<u32>], k: &[usize], interactions: &[u32]) -> Metrics {
    added(RankingMetrics::with_popularity(k, interactions), eval, lists)
}

/// In parallel blocks; the sums are exact, so that their order does not matter.
fn added(empty: RankingMetrics, eval: &EvalUsers, lists: &[Vec<u32>]) -> Metrics {
    let block = |(block, lists): (usize, &[Vec<u32>])| {
        let mut sums = empty.clone();
        for (i, list) in lists.iter().enumerate() {
            sums.add(list, eval.truth.row(block * BLOCK + i));
        }
        sums
    };
    let parts: Vec<RankingMetrics> = lists.par_chunks(BLOCK).enumerate().map(block).collect();
    let mut sums = empty.clone();
    parts.iter().for_each(|part| sums.merge(part));
    sums.finish()
}

/// Users whose lists are judged in one go.
const BLOCK: usize = 4096;

impl Embeds for Learner {
    fn users(&self, batch: &Batch) -> Result<Vec<f32>, millstream_models::Error> {
        self.users(batch).map_err(to_model)
    }

    fn items(&self, batch: &Batch) -> Result<Vec<f32>, millstream_models::Error> {
        self.items(batch).map_err(to_model)
    }

    fn dim(&self) -> usize {
        self.retriever().map_or(0, |r| r.dim())
    }

    fn interests(&self) -> usize {
        self.retriever().map_or(1, |r| r.interests())
    }
}

fn to_model(error: Error) -> millstream_models::Error {
    match error {
        Error::Model(inner) => inner,
        other => millstream_models::Error::Config(other.to_string()),
    }
}
