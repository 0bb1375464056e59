//! Nearest items to the user's vectors in the space of a named retriever (Huang et al., CIKM 2013; Yi et al.,
//! RecSys 2019), or of a model of factors that folds the user's history in. With several interests per user each is searched for (Li et al., CIKM 2019), and an item counts with
//! its best score. Several channels of this kind may stand side by side, each with a retriever of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_schema::{ItemRow, suggest};
use rapidhash::RapidHashMap;
use serde::Deserialize;

use super::actions::Weighing;
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};
use crate::vectors::Retrieval;

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "vector",
    personal: true,
    quota: 200,
    weight: 2.0,
    tail: false,
    by_default: false,
    lacks: |parts| parts.retrievers.is_empty().then_some("a retriever with an index"),
    build,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Which retriever; the one of the channel's name where not said, or the only one.
    retriever: Option<String>,
    /// Items scored below this are left out.
    min_score: Option<f32>,
    /// Of a model that folds histories in: only the latest so many actions count; all where not said.
    max_history: Option<usize>,
    /// Of such a model: half-life of an action's weight; none where not said.
    half_life_days: Option<f32>,
    /// Of such a model: weights of kinds of action; a kind that is not named weighs 1.
    kinds: Option<BTreeMap<String, f32>>,
}

struct Vector {
    retrieval: Retrieval,
    min_score: f32,
}

/// Makes the channel; also for `two_tower`.
pub(super) fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    if options.min_score.is_some_and(|least| !least.is_finite()) {
        return Err(setup.refuse("key `min_score` must be a finite number"));
    }
    let all = &setup.parts.retrievers;
    let wanted = match (&options.retriever, all.len()) {
        (Some(name), _) => name.as_str(),
        (None, 1) if setup.name == DEF.name => all.keys().next().map_or("", String::as_str),
        (None, _) => setup.name,
    };
    let Some(mut retrieval) = all.get(wanted).cloned() else {
        if all.is_empty() {
            return Err(setup.needs("a retriever with an index"));
        }
        return Err(setup.refuse(suggest::unknown("retriever", wanted, all.keys().map(String::as_str))));
    };
    if options.max_history.is_some() || options.half_life_days.is_some() || options.kinds.is_some() {
        let (most, half_life) =
            (options.max_history.unwrap_or(usize::MAX), options.half_life_days.unwrap_or(0.0));
        let weighing = Weighing::new(setup, most, half_life, &options.kinds.unwrap_or_default())?;
        let own = "`max_history`, `half_life_days` and `kinds` are for models that fold histories in";
        let refused = || setup.refuse(format!("{own}, and `{wanted}` reads them in a way of its own"));
        retrieval.queries = retrieval.queries.weighed(weighing).ok_or_else(refused)?;
    }
    Ok(Arc::new(Vector { retrieval, min_score: options.min_score.unwrap_or(f32::NEG_INFINITY) }))
}

impl Channel for Vector {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let vectors = self.retrieval.queries.queries(call)?;
        let keep = |item: ItemRow| call.keep(item);
        let mut best: RapidHashMap<ItemRow, f32> = RapidHashMap::default();
        for interest in vectors.chunks_exact(self.retrieval.queries.dim().max(1)) {
            for (item, score) in self.retrieval.search.search(interest, k, &keep)? {
                let held = best.entry(item).or_insert(score);
                *held = held.max(score);
            }
        }
        Ok(super::best(best.into_iter().filter(|x| x.1 >= self.min_score).collect(), k))
    }
}
