//! Nearest items to the user's vectors (Huang et al., CIKM 2013; Yi et al., RecSys 2019). With several
//! interests per user each is searched for, and an item counts with its best score.

use std::sync::Arc;

use millstream_schema::{Examples, History, ItemRow};
use rapidhash::RapidHashMap;
use serde::Deserialize;

use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources, UserVectors};
use crate::vectors::VectorSearch;

/// Entry of the list of channels.
pub const DEF: ChannelDef =
    ChannelDef { name: "two_tower", personal: true, quota: 200, weight: 2.0, lacks, build };

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Items scored below this are left out.
    min_score: Option<f32>,
}

struct TwoTower {
    users: Arc<dyn UserVectors>,
    search: Arc<dyn VectorSearch>,
    min_score: f32,
}

fn lacks(parts: &Resources) -> Option<&'static str> {
    (parts.user_vectors.is_none() || parts.search.is_none()).then_some("a retriever with an index")
}

fn build(options: &toml::Table, parts: &Resources) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = super::options(options, DEF.name)?;
    let (Some(users), Some(search)) = (parts.user_vectors.clone(), parts.search.clone()) else {
        return Err(Error::Config("channel `two_tower` needs a retriever with an index".into()));
    };
    Ok(Arc::new(TwoTower { users, search, min_score: options.min_score.unwrap_or(f32::NEG_INFINITY) }))
}

impl Channel for TwoTower {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let vectors = self.users.users(&call.catalogue.assembler().batch(&asked(call)?)?)?;
        let keep = |item: ItemRow| call.keep(item);
        let mut best: RapidHashMap<ItemRow, f32> = RapidHashMap::default();
        for interest in vectors.chunks_exact(self.users.dim().max(1)) {
            for (item, score) in self.search.search(interest, k, &keep)? {
                let held = best.entry(item).or_insert(score);
                *held = held.max(score);
            }
        }
        let kept = best.into_iter().filter(|x| x.1 >= self.min_score);
        let mut found: Vec<Candidate> = kept.map(|(item, score)| Candidate { item, score }).collect();
        found.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
        found.truncate(k);
        Ok(found)
    }
}

/// The request without candidates: all that the user side reads.
fn asked(call: &Call) -> Result<Examples, Error> {
    let mut history = History::default();
    history.push(call.request.history.iter().copied());
    Ok(Examples {
        request_user: vec![call.request.user_row],
        request_time_ms: vec![call.request.time_ms],
        history,
        context: call.context.clone(),
        exposure: call.catalogue.assembler().encoder().exposure_defaults(0)?,
        ..Examples::default()
    })
}
