//! Items whose words are those of a user's history and record, by BM25 (Robertson et al., TREC-3 1994) over the
//! inverted index of words, each word counting once per item:
//!
//! ```text
//! score(i) = Σ_{w ∈ words(i) ∩ profile} q_w · ln(1 + (N − N_w + ½) / (N_w + ½)) · (k₁ + 1) / (1 + k₁ (1 − b + b |i| / mean))
//! ```
//! q_w is the weight of the actions on items with the word, k₁ = 1.2, b = 0.75. Words are those of the record fields
//! that `[catalogue] keywords` names, in lower case. Words of more than `max_share` of the items say nothing and are
//! passed over, which also bounds the cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_schema::{ItemRow, parse};
use serde::Deserialize;

use super::actions::Weighing;
use super::taste::{matched, strongest, taste};
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "keyword",
    personal: true,
    quota: 100,
    weight: 1.0,
    tail: false,
    by_default: false,
    lacks: |_| None,
    build,
};

const K1: f32 = 1.2;
const B: f32 = 0.75;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// User fields whose words count as well.
    user_fields: Vec<String>,
    /// Only the latest so many actions count.
    max_history: usize,
    /// Half-life of an action's weight; 0 for none.
    half_life_days: f32,
    /// Weights of kinds of action; a kind that is not named weighs 1.
    kinds: BTreeMap<String, f32>,
    /// Words looked up, the most telling.
    max_words: usize,
    /// Words of a greater share of the items are passed over.
    max_share: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user_fields: Vec::new(),
            max_history: 50,
            half_life_days: 30.0,
            kinds: BTreeMap::new(),
            max_words: 32,
            max_share: 0.2,
        }
    }
}

struct Keyword {
    weighing: Weighing,
    options: Options,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    if setup.catalogue.keywords.is_empty() {
        return Err(setup.needs("an item field that `[catalogue] keywords` names"));
    }
    if options.max_words == 0 || !(options.max_share > 0.0 && options.max_share <= 1.0) {
        return Err(setup.refuse("`max_words` must be above 0 and `max_share` in (0, 1]"));
    }
    super::check_user_fields(setup, &options.user_fields)?;
    let weighing = Weighing::new(setup, options.max_history, options.half_life_days, &options.kinds)?;
    Ok(Arc::new(Keyword { weighing, options }))
}

impl Keyword {
    /// The words of the user's own record that some item has.
    fn of_record(&self, call: &Call) -> Vec<u32> {
        let index = call.catalogue.keywords();
        let Some(record) = call.catalogue.user_record(call.request.user_row) else { return Vec::new() };
        let words = self.options.user_fields.iter().flat_map(|f| parse::words(record.get(f)));
        words.filter_map(|word| index.code(&word)).collect()
    }
}

impl Channel for Keyword {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let index = call.catalogue.keywords();
        let (items, mean) = (index.len() as f32, index.mean_terms());
        let with = |code: u32| index.items(code).len() as f32;
        let tells = |code: u32| with(code) <= (self.options.max_share * items).max(1.0);
        let weights = taste(index, &self.weighing.of(&call.request), self.of_record(call).into_iter(), tells);
        let rarity = |code: u32| ((items - with(code) + 0.5) / (with(code) + 0.5)).ln_1p();
        let words = strongest(weights, self.options.max_words, rarity);
        let length = |item: ItemRow| {
            let relative = index.terms_of(item).len() as f32 / mean.max(f32::MIN_POSITIVE);
            (K1 + 1.0) / (1.0 + K1 * (1.0 - B + B * relative))
        };
        Ok(super::best(matched(index, &words, call, length), k))
    }
}
