//! Items that the users of one's recent items also took. An action weighs by its kind and by its age
//! relative to the user's latest one, halving every `half_life_days`.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_models::recall::item_cf::ItemCf;
use serde::Deserialize;

use super::actions::Weighing;
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources, Setup};
use crate::live::Live;

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "item_cf",
    personal: true,
    quota: 200,
    weight: 2.0,
    tail: false,
    by_default: true,
    lacks,
    build,
};

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
    table: Arc<Live<ItemCf>>,
    weighing: Weighing,
}

fn lacks(parts: &Resources) -> Option<&'static str> {
    parts.item_cf.is_none().then_some("an ItemCF table")
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    let table = setup.parts.item_cf.clone().ok_or_else(|| setup.needs("an ItemCF table"))?;
    let weighing = Weighing::new(setup, options.max_history, options.half_life_days, &options.kinds)?;
    Ok(Arc::new(ItemCfChannel { table, weighing }))
}

impl Channel for ItemCfChannel {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let found = self.table.get().recommend(&self.weighing.of(&call.request), k, &|item| call.keep(item));
        Ok(super::candidates(found))
    }
}
