//! Measuring models: scores against labels, and ranked lists against what users did next.

use millstream_data::EvalUsers;
use millstream_index::{Flat, Index, Metric, topk_scores};
use millstream_models::embeds::{self, Embeds};
use millstream_schema::{Assembler, Batch, BatchSource};
use rayon::prelude::*;

use crate::metrics::{RankingMetrics, auc, gauc, logloss};
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

/// AUC, GAUC and log-loss of a ranker over all batches of `source`; with several tasks also `TASK.auc` and
/// so on, the bare keys being the first task's.
///
/// # Errors
/// Reading or scoring fails.
pub fn ranker(learner: &Learner, source: &mut dyn BatchSource, seen: &dyn Fn(u64)) -> Result<Metrics, Error> {
    let tasks = learner.tasks();
    let mut scores: Vec<Vec<f32>> = vec![Vec::new(); tasks.len()];
    let mut labels = scores.clone();
    let (mut groups, mut weights): (Vec<u32>, Vec<f32>) = (Vec::new(), Vec::new());
    while let Some(batch) = source.next_batch()? {
        let logits = learner.logits(&batch)?;
        for t in 0..tasks.len() {
            scores[t].extend(logits.iter().skip(t).step_by(tasks.len()));
            labels[t].extend(batch.labels.iter().skip(t).step_by(tasks.len()));
        }
        groups.extend_from_slice(&batch.group);
        weights.extend_from_slice(&batch.weights);
        seen(groups.len() as u64);
    }
    let mut metrics = Metrics::new();
    for (t, task) in tasks.iter().enumerate() {
        let values = [
            ("auc", auc::weighted(&scores[t], &labels[t], &weights).value),
            ("gauc", gauc::weighted(&scores[t], &labels[t], &groups, &weights).value),
            ("logloss", logloss::weighted_from_logits(&scores[t], &labels[t], &weights).value),
        ];
        for (key, value) in values.into_iter().filter_map(|(k, v)| Some((k, v?))) {
            if t == 0 {
                metrics.insert(key.to_owned(), value);
            }
            if tasks.len() > 1 {
                metrics.insert(format!("{task}.{key}"), value);
            }
        }
    }
    Ok(metrics)
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
    (0..rules.eval.users.len())
        .into_par_iter()
        .map_init(
            || vec![0.0f32; items],
            |scores, place| {
                score(place, scores);
                for (item, s) in scores.iter_mut().enumerate() {
                    if *s > f32::NEG_INFINITY && !rules.allows(place, item as u32) {
                        *s = f32::NEG_INFINITY;
                    }
                }
                let best = topk_scores(scores, k, &[]);
                best.iter().filter(|h| h.score > f32::NEG_INFINITY).map(|h| h.item).collect()
            },
        )
        .collect()
}

/// Recall, NDCG, HitRate, MRR and precision at each cut-off, averaged over users, and the share of a
/// catalogue of that size that was shown.
pub fn lists(eval: &EvalUsers, lists: &[Vec<u32>], k: &[usize], catalogue: usize) -> Metrics {
    let mut sums = RankingMetrics::with_catalogue(k, catalogue);
    for (place, list) in lists.iter().enumerate() {
        sums.add(list, eval.truth.row(place));
    }
    sums.finish()
}

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
