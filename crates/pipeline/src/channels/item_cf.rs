//! Items that the users of one's recent items also took. An action weighs by its kind and by its age
//! relative to the user's latest one, halving every `half_life_days`.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_models::recall::item_cf::ItemCf;
use millstream_schema::{EventKind, ItemRow};
use serde::Deserialize;

use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources};
use crate::{Error, Request};

/// Entry of the list of channels.
pub const DEF: ChannelDef =
    ChannelDef { name: "item_cf", personal: true, quota: 200, weight: 2.0, lacks, build };

const DAY_MS: f64 = 86_400_000.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Only the latest so many actions trigger.
    max_history: usize,
    /// Half-life of an action's weight; 0 for none.
    half_life_days: f32,
    /// Weights of kinds of action; a kind that is not named weighs 1.
    kinds: BTreeMap<String, f32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_history: 100, half_life_days: 30.0, kinds: BTreeMap::new() }
    }
}

struct ItemCfChannel {
    table: Arc<ItemCf>,
    options: Options,
    /// (code, weight).
    kinds: Vec<(u8, f32)>,
}

fn lacks(parts: &Resources) -> Option<&'static str> {
    parts.item_cf.is_none().then_some("an ItemCF table")
}

fn build(options: &toml::Table, parts: &Resources) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = super::options(options, DEF.name)?;
    let Some(table) = parts.item_cf.clone() else {
        return Err(Error::Config("channel `item_cf` needs an ItemCF table".into()));
    };
    let fine = |x: &f32| x.is_finite() && *x >= 0.0;
    if !fine(&options.half_life_days) || !options.kinds.values().all(fine) {
        let what = "`half_life_days` and the weights of `kinds` must be 0 or more";
        return Err(Error::Config(format!("options of channel `item_cf`: {what}")));
    }
    let mut kinds = Vec::new();
    for (name, weight) in &options.kinds {
        kinds.push((name.parse::<EventKind>()?.code(), *weight));
    }
    Ok(Arc::new(ItemCfChannel { table, options, kinds }))
}

impl ItemCfChannel {
    /// The latest actions with their weights.
    fn triggers(&self, request: &Request) -> Vec<(ItemRow, f32)> {
        let latest = request.history.last().map_or(0, |a| a.time_ms);
        let half_life = f64::from(self.options.half_life_days) * DAY_MS;
        let actions = request.history.iter().rev().take(self.options.max_history);
        actions
            .map(|a| {
                let kind = self.kinds.iter().find(|k| k.0 == a.kind).map_or(1.0, |k| k.1);
                let age = (latest - a.time_ms).max(0) as f64;
                let fresh = if half_life > 0.0 { (-age / half_life).exp2() as f32 } else { 1.0 };
                (a.item, kind * fresh)
            })
            .collect()
    }
}

impl Channel for ItemCfChannel {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let found = self.table.recommend(&self.triggers(&call.request), k, &|item| call.keep(item));
        Ok(found.into_iter().map(|(item, score)| Candidate { item, score }).collect())
    }
}
