//! Items under the tags of a user's history and record, the hotter first among equals:
//!
//! ```text
//! score(i) = [ Σ_{t ∈ tags(i) ∩ taste} w_t · ln(1 + N / N_t) ] · (1 + heat · ln(1 + count(i)))
//! ```
//! w_t is the weight of the actions on items with the tag, N the number of items, N_t of those with the tag, and
//! count the item's decayed number of actions over 30 days. Tags are the values of the record fields that
//! `[catalogue] tags` names. Costs the length of the lists of at most `max_tags` tags.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use millstream_models::recall::popularity::{Popularity, Window};
use millstream_schema::{ItemRow, suggest};
use serde::Deserialize;

use super::actions::Weighing;
use super::taste::{matched, strongest, taste};
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};
use crate::facts::{CatalogueConfig, elements, tag};

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "tag",
    personal: true,
    quota: 100,
    weight: 1.0,
    tail: false,
    by_default: false,
    lacks: |_| None,
    build,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Tags of these fields alone; empty: of all fields of `[catalogue] tags`.
    fields: Vec<String>,
    /// User fields whose values are tags as well, whatever the item field.
    user_fields: Vec<String>,
    /// Only the latest so many actions count.
    max_history: usize,
    /// Half-life of an action's weight; 0 for none.
    half_life_days: f32,
    /// Weights of kinds of action; a kind that is not named weighs 1.
    kinds: BTreeMap<String, f32>,
    /// Tags looked up, the strongest.
    max_tags: usize,
    /// How much an item's heat counts; 0: not at all.
    heat: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            user_fields: Vec::new(),
            max_history: 100,
            half_life_days: 30.0,
            kinds: BTreeMap::new(),
            max_tags: 10,
            heat: 0.5,
        }
    }
}

struct Tag {
    /// Each followed by `=`, as tags begin.
    starts: Vec<String>,
    weighing: Weighing,
    options: Options,
    catalogue: CatalogueConfig,
    popularity: Arc<RwLock<Popularity>>,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    let known = &setup.catalogue.tags;
    if known.is_empty() {
        return Err(setup.needs("an item field that `[catalogue] tags` names"));
    }
    if let Some(name) = options.fields.iter().find(|f| !known.contains(f)) {
        let what = suggest::unknown("field of `[catalogue] tags`", name, known.iter().map(String::as_str));
        return Err(setup.refuse(what));
    }
    if options.max_tags == 0 || !(options.heat.is_finite() && options.heat >= 0.0) {
        return Err(setup.refuse("`max_tags` must be above 0 and `heat` 0 or more"));
    }
    let fields = if options.fields.is_empty() { known } else { &options.fields };
    let starts = fields.iter().map(|f| tag(f, "")).collect();
    super::check_user_fields(setup, &options.user_fields)?;
    let weighing = Weighing::new(setup, options.max_history, options.half_life_days, &options.kinds)?;
    let (catalogue, popularity) = (setup.catalogue.clone(), setup.parts.popularity.clone());
    Ok(Arc::new(Tag { starts, weighing, options, catalogue, popularity }))
}

impl Tag {
    /// The tags of the user's own record.
    fn of_record(&self, call: &Call) -> Vec<u32> {
        let index = call.catalogue.tags();
        let Some(record) = call.catalogue.user_record(call.request.user_row) else { return Vec::new() };
        let cells = self.options.user_fields.iter().map(|f| record.get(f));
        let values = cells.flat_map(|cell| elements(cell, &self.catalogue));
        let codes =
            values.flat_map(|v| self.starts.iter().filter_map(move |s| index.code(&format!("{s}{v}"))));
        codes.collect()
    }
}

impl Channel for Tag {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let index = call.catalogue.tags();
        let counts = |code: u32| self.starts.iter().any(|s| index.term(code).starts_with(s));
        let weights =
            taste(index, &self.weighing.of(&call.request), self.of_record(call).into_iter(), counts);
        let rarity = |code: u32| (index.len() as f32 / index.items(code).len().max(1) as f32).ln_1p();
        let terms = strongest(weights, self.options.max_tags, rarity);
        let popularity = self.popularity.read().unwrap_or_else(PoisonError::into_inner);
        let now = call.request.time_ms;
        let heat = |item: ItemRow| match self.options.heat {
            0.0 => 1.0,
            heat => 1.0 + heat * (popularity.count(item, Window::MONTH, now) as f32).ln_1p(),
        };
        Ok(super::best(matched(index, &terms, call, heat), k))
    }
}
