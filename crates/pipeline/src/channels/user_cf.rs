//! Items of the users most like this one, found at each request from the history as it is by then: one's own feedback
//! counts at once, that of the others when the lists of who took what are next renewed, and a user who came after training has
//! neighbours, too. See [`crate::takers::Takers`].
//!
//! With `model` the likeness of users is that of a trained `user_cf` (`millstream_models::recall::user_cf`), which has options of
//! its own for it; the history is folded in all the same, each action with its own time.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_schema::ids::NO_ROW;
use millstream_schema::{ItemRow, suggest};
use serde::Deserialize;

use super::actions::Weighing;
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources, Setup};
use crate::live::{Live, UserRows};
use crate::takers::{Neighbourhood, Takers};

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "user_cf",
    personal: true,
    quota: 200,
    weight: 1.0,
    tail: false,
    by_default: false,
    lacks,
    build,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// A trained model instead of lists of who took what.
    model: Option<String>,
    /// Only the latest so many actions count.
    max_history: usize,
    /// Half-life of an action's weight; 0 for none.
    half_life_days: f32,
    /// Weights of kinds of action; a kind that is not named weighs 1.
    kinds: BTreeMap<String, f32>,
    /// Users most like this one that count.
    neighbours: usize,
    /// Latest users of an item that are looked at.
    max_takers: usize,
    /// Latest items of a neighbour that are looked at.
    max_items: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: None,
            max_history: 50,
            half_life_days: 30.0,
            kinds: BTreeMap::new(),
            neighbours: 100,
            max_takers: 1000,
            max_items: 100,
        }
    }
}

struct UserCf {
    takers: Arc<Live<Takers>>,
    rows: Arc<UserRows>,
    weighing: Weighing,
    how: Neighbourhood,
}

fn lacks(parts: &Resources) -> Option<&'static str> {
    (parts.takers.is_none() && parts.user_cf.is_empty()).then_some("lists of who took what")
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    if let Some(name) = &options.model {
        return trained(setup, name);
    }
    let takers = setup.parts.takers.clone().ok_or_else(|| setup.needs("lists of who took what"))?;
    let Options { neighbours, max_takers, max_items, .. } = options;
    if neighbours == 0 || max_takers == 0 || max_items == 0 {
        return Err(setup.refuse("`neighbours`, `max_takers` and `max_items` must be above 0"));
    }
    let weighing = Weighing::new(setup, options.max_history, options.half_life_days, &options.kinds)?;
    let (rows, how) = (setup.parts.user_rows.clone(), Neighbourhood { neighbours, max_takers, max_items });
    Ok(Arc::new(UserCf { takers, rows, weighing, how }))
}

/// The channel of a trained model; all other options are the model's.
fn trained(setup: &Setup<'_>, name: &str) -> Result<Arc<dyn Channel>, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        #[serde(rename = "model")]
        _model: String,
        #[serde(default = "fifty")]
        max_history: usize,
    }
    fn fifty() -> usize {
        50
    }
    let options: Options = setup.read()?;
    if options.max_history == 0 {
        return Err(setup.refuse("key `max_history` must be above 0"));
    }
    let all = &setup.parts.user_cf;
    let Some(model) = all.get(name).cloned() else {
        if all.is_empty() {
            return Err(setup.needs(format!("the trained model `{name}`")));
        }
        return Err(setup.refuse(suggest::unknown("model", name, all.keys().map(String::as_str))));
    };
    let rows = setup.parts.user_rows.clone();
    Ok(Arc::new(TrainedUserCf { model, rows, max_history: options.max_history }))
}

struct TrainedUserCf {
    model: Arc<Live<millstream_models::recall::user_cf::UserCf>>,
    rows: Arc<UserRows>,
    max_history: usize,
}

impl Channel for TrainedUserCf {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let request = &call.request;
        let latest = request.history.iter().rev().take(self.max_history);
        let history: Vec<(ItemRow, i64)> = latest.map(|a| (a.item, a.time_ms)).collect();
        let own = Some(self.rows.of(request)).filter(|&row| row != NO_ROW);
        let model = self.model.get();
        let similar = model.similar_to(&history, own);
        Ok(super::candidates(model.recommend(&similar, k, &|item| call.keep(item))))
    }
}

impl Channel for UserCf {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let history = self.weighing.distinct(&call.request);
        let own = (history.as_slice(), self.rows.of(&call.request));
        Ok(super::candidates(self.takers.get().recommend(own, &self.how, k, &|item| call.keep(item))))
    }
}
