//! Items of the users most like this one, found at each request from the history as it is by then: feedback
//! counts at once, and a user who came after training has neighbours, too. See [`crate::takers::Takers`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::actions::Weighing;
use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources, Setup};
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
    takers: Arc<Takers>,
    weighing: Weighing,
    how: Neighbourhood,
}

fn lacks(parts: &Resources) -> Option<&'static str> {
    parts.takers.is_none().then_some("lists of who took what")
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    let takers = setup.parts.takers.clone().ok_or_else(|| setup.needs("lists of who took what"))?;
    let Options { neighbours, max_takers, max_items, .. } = options;
    if neighbours == 0 || max_takers == 0 || max_items == 0 {
        return Err(setup.refuse("`neighbours`, `max_takers` and `max_items` must be above 0"));
    }
    let weighing = Weighing::new(setup, options.max_history, options.half_life_days, &options.kinds)?;
    Ok(Arc::new(UserCf { takers, weighing, how: Neighbourhood { neighbours, max_takers, max_items } }))
}

impl Channel for UserCf {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let history = self.weighing.distinct(&call.request);
        let own = (history.as_slice(), call.request.user_row);
        Ok(super::candidates(self.takers.recommend(own, &self.how, k, &|item| call.keep(item))))
    }
}
