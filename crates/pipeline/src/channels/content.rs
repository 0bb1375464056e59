//! Nearest items by what their texts say: an item that nobody has acted on yet is found as soon as the catalogue holds it.
//!
//! The index over text vectors, which have length 1, is asked with the weighted mean of the user's latest items and, with
//! `triggers`, with each of so many of the latest by itself, since the mean of unlike tastes may be like nothing; an item
//! counts with its best cosine.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_schema::ItemRow;
use rapidhash::RapidHashMap;
use serde::Deserialize;

use super::actions::Weighing;
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};
use crate::vectors::ContentVectors;

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "content",
    personal: true,
    quota: 100,
    weight: 1.0,
    tail: false,
    by_default: false,
    lacks: |parts| parts.content.is_none().then_some(NEEDED),
    build,
};

const NEEDED: &str = "vectors of item texts";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Only the latest so many actions count.
    max_history: usize,
    /// Half-life of an action's weight; 0 for none.
    half_life_days: f32,
    /// Weights of kinds of action; a kind that is not named weighs 1.
    kinds: BTreeMap<String, f32>,
    /// Latest distinct items that are searched from one by one, besides the mean.
    triggers: usize,
    /// Items less alike than this are left out.
    min_score: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_history: 50, half_life_days: 30.0, kinds: BTreeMap::new(), triggers: 0, min_score: 0.0 }
    }
}

struct Content {
    content: ContentVectors,
    weighing: Weighing,
    triggers: usize,
    min_score: f32,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    let content = setup.parts.content.clone().ok_or_else(|| setup.needs(NEEDED))?;
    if !(-1.0..=1.0).contains(&options.min_score) {
        return Err(setup.refuse("`min_score` is a cosine, from -1 to 1"));
    }
    let weighing = Weighing::new(setup, options.max_history, options.half_life_days, &options.kinds)?;
    Ok(Arc::new(Content { content, weighing, triggers: options.triggers, min_score: options.min_score }))
}

impl Content {
    /// The mean of the user's items, of length 1, then the latest by themselves; empty where no item's text is known.
    fn queries(&self, call: &Call) -> Vec<Vec<f32>> {
        let dim = self.content.vectors.dim();
        let (mut mean, mut latest) = (vec![0.0f32; dim], Vec::new());
        for (item, weight) in self.weighing.distinct(&call.request) {
            let mut vector = vec![0.0; dim];
            if weight > 0.0 && self.content.vectors.copy(item, &mut vector) {
                mean.iter_mut().zip(&vector).for_each(|(m, v)| *m += weight * v);
                latest.push(vector);
            }
        }
        let length = mean.iter().map(|m| m * m).sum::<f32>().sqrt();
        if length > 0.0 {
            mean.iter_mut().for_each(|m| *m /= length);
            latest.truncate(self.triggers);
            latest.insert(0, mean);
        }
        latest
    }
}

impl Channel for Content {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let mut best: RapidHashMap<ItemRow, f32> = RapidHashMap::default();
        for query in self.queries(call) {
            for (item, score) in self.content.search.search(&query, k, &|item| call.keep(item))? {
                let held = best.entry(item).or_insert(score);
                *held = held.max(score);
            }
        }
        Ok(super::best(best.into_iter().filter(|x| x.1 >= self.min_score).collect(), k))
    }
}
