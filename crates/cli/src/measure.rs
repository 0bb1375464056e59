//! Measuring models on a part of a prepared directory.

use millstream_data::{EvalUsers, Prepared, Source, SourceOptions, Split, Use};
use millstream_models::embeds::Embeds;
use millstream_models::recall::item_cf::ItemCf;
use millstream_models::recall::positives::Positives;
use millstream_train::eval::{self, Rules};
use millstream_train::{Error, Learner, Metrics};

use crate::progress::Bar;
use crate::recipe::EvaluateConfig;
use crate::{Failure, Global};

/// AUC, GAUC and log-loss of a ranker.
pub fn scores(
    prepared: &Prepared,
    learner: &Learner,
    split: Split,
    seen: &dyn Fn(u64),
) -> Result<Metrics, Error> {
    let mut source = in_order(prepared, split)?;
    eval::ranker(learner, &mut source, seen)
}

/// Which items an evaluated user may be shown.
pub fn rules<'a>(prepared: &'a Prepared, users: &'a EvalUsers) -> Rules<'a> {
    Rules { eval: users, created_ms: &prepared.item_created_ms, retired_ms: &prepared.item_retired_ms }
}

/// Full-ranking metrics of a retriever.
pub fn vectors(
    prepared: &Prepared,
    model: &dyn Embeds,
    users: &EvalUsers,
    k: &[usize],
) -> Result<Metrics, Error> {
    let most = k.iter().copied().max().unwrap_or(0);
    let lists = eval::retriever_lists(model, &prepared.assembler, &rules(prepared, users), most)?;
    Ok(eval::lists(users, &lists, k, prepared.items.len()))
}

/// Each user's best `k` by ItemCF from their whole history.
pub fn item_cf_lists(prepared: &Prepared, model: &ItemCf, users: &EvalUsers, k: usize) -> Vec<Vec<u32>> {
    eval::scored_lists(&rules(prepared, users), prepared.items.len(), k, &|place, out| {
        let history: Vec<(u32, f32)> = users.seen.row(place).iter().map(|&item| (item, 1.0)).collect();
        out.fill(0.0);
        model.score_into(&history, out);
        // An item that nothing points to is not recommended.
        out.iter_mut().filter(|s| **s <= 0.0).for_each(|s| *s = f32::NEG_INFINITY);
    })
}

/// Each user's best `k` by one score per item for all.
pub fn shared_lists(prepared: &Prepared, scores: &[f32], users: &EvalUsers, k: usize) -> Vec<Vec<u32>> {
    eval::scored_lists(&rules(prepared, users), prepared.items.len(), k, &|_, out| {
        out.copy_from_slice(scores)
    })
}

/// ItemCF counted on the training positives.
pub fn count_item_cf(
    prepared: &Prepared,
    config: &millstream_models::recall::item_cf::ItemCfConfig,
    splits: &[Split],
) -> Result<ItemCf, Failure> {
    let parts = splits.iter().map(|&s| prepared.interactions(s)).collect::<Result<Vec<_>, _>>()?;
    let (mut offsets, mut item, mut time_ms) = (vec![0u64], Vec::new(), Vec::new());
    for user in 0..prepared.users.len() {
        for part in &parts {
            let span = part.offsets[user] as usize..part.offsets[user + 1] as usize;
            item.extend_from_slice(&part.items[span.clone()]);
            time_ms.extend_from_slice(&part.time_ms[span]);
        }
        offsets.push(item.len() as u64);
    }
    let positives =
        Positives { items: prepared.items.len(), offsets: &offsets, item: &item, time_ms: &time_ms };
    Ok(ItemCf::build(config, &positives)?)
}

/// What a trained model reaches on a part; retrievers are judged by full rankings.
pub fn part(
    prepared: &Prepared,
    learner: &Learner,
    split: Split,
    config: &EvaluateConfig,
    global: &Global,
) -> Result<Metrics, Failure> {
    if learner.retriever().is_ok() {
        let users = prepared.eval_users(split, config.users, EVAL_SEED)?;
        return Ok(vectors(prepared, learner, &users, &config.k)?);
    }
    let rows = prepared.rows(split, Use::Rank);
    let bar = Bar::new("evaluate", rows, "rows", global.quiet);
    let metrics = scores(prepared, learner, split, &|done| bar.at(done))?;
    bar.done(format!("{rows} rows"));
    Ok(metrics)
}

/// Seeds the draw of users where not all are evaluated; the same users for every model.
pub const EVAL_SEED: u64 = 20_26;

/// Batches of a part in file order, for measuring.
fn in_order(prepared: &Prepared, split: Split) -> Result<Source, millstream_data::Error> {
    prepared.source(split, Use::Rank, SourceOptions { batch_size: 8192, shuffle: None, skip_batches: 0 })
}
