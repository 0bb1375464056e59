//! What a user's actions weigh: by kind, and by age.

use std::collections::BTreeMap;

use millstream_schema::ItemRow;
use millstream_schema::examples::Action;

use crate::channel::Setup;
use crate::{Error, Request, names};

const DAY_MS: f64 = 86_400_000.0;

/// How the actions of a history are weighed.
pub struct Weighing {
    max_history: usize,
    half_life_ms: f64,
    /// (code, weight).
    kinds: Vec<(u16, f32)>,
}

/// Weights by kind of action as (code, weight).
pub(super) fn by_code(setup: &Setup<'_>, kinds: &BTreeMap<String, f32>) -> Result<Vec<(u16, f32)>, Error> {
    let fine = |x: &f32| x.is_finite() && *x >= 0.0;
    if !kinds.values().all(fine) {
        return Err(setup.refuse("the weights of `kinds` must be 0 or more"));
    }
    let code = |(name, weight): (&String, &f32)| {
        let kind = names::action(name, &setup.parts.event_kinds);
        Ok((kind.map_err(|e| setup.refuse(format!("key `kinds`: {e}")))?.code(), *weight))
    };
    kinds.iter().map(code).collect()
}

impl Weighing {
    /// All actions, each 1.
    pub(crate) fn even() -> Self {
        Self { max_history: usize::MAX, half_life_ms: 0.0, kinds: Vec::new() }
    }

    /// The latest `max_history` actions, halved every `half_life_days` relative to the user's latest one (0: never);
    /// a kind that is not named weighs 1.
    pub(super) fn new(
        setup: &Setup<'_>,
        max_history: usize,
        half_life_days: f32,
        kinds: &BTreeMap<String, f32>,
    ) -> Result<Self, Error> {
        if !(half_life_days.is_finite() && half_life_days >= 0.0) {
            return Err(setup.refuse("key `half_life_days` must be 0 or more"));
        }
        if max_history == 0 {
            return Err(setup.refuse("key `max_history` must be above 0"));
        }
        let half_life_ms = f64::from(half_life_days) * DAY_MS;
        Ok(Self { max_history, half_life_ms, kinds: by_code(setup, kinds)? })
    }

    /// The latest actions with their weights, latest first.
    pub(crate) fn of(&self, request: &Request) -> Vec<(ItemRow, f32)> {
        let latest = request.history.last().map_or(0, |a| a.time_ms);
        let weight = |a: &Action| {
            let kind = self.kinds.iter().find(|k| k.0 == a.kind).map_or(1.0, |k| k.1);
            let age = (latest - a.time_ms).max(0) as f64;
            let fresh = if self.half_life_ms > 0.0 { (-age / self.half_life_ms).exp2() as f32 } else { 1.0 };
            kind * fresh
        };
        request.history.iter().rev().take(self.max_history).map(|a| (a.item, weight(a))).collect()
    }

    /// [`Weighing::of`] with the weights of repeated items summed, in order of their latest action.
    pub(crate) fn distinct(&self, request: &Request) -> Vec<(ItemRow, f32)> {
        let mut out: Vec<(ItemRow, f32)> = Vec::new();
        let mut places = rapidhash::RapidHashMap::default();
        for (item, weight) in self.of(request) {
            match places.get(&item) {
                Some(&at) => {
                    let held: &mut (ItemRow, f32) = &mut out[at];
                    held.1 += weight;
                }
                None => {
                    places.insert(item, out.len());
                    out.push((item, weight));
                }
            }
        }
        out
    }
}
