//! What a background worker found best for the user ahead of time; it takes the place of the tail of the request's
//! own recall. See [`crate::near_line`] for the worker.

use std::sync::Arc;

use millstream_models::recall::popularity::Window;
use serde::Deserialize;

use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};
use crate::near_line::BestKept;

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "near_line",
    personal: true,
    quota: 200,
    weight: 1.0,
    tail: true,
    by_default: false,
    lacks: |parts| parts.near_line.is_none().then_some("a store of what a worker found"),
    build,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Older ones are not used; none: whatever their age.
    max_age: Option<Window>,
}

struct NearLine {
    kept: Arc<dyn BestKept>,
    max_age: Option<Window>,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    let kept = setup.parts.near_line.clone();
    let kept = kept.ok_or_else(|| setup.needs("a store of what a worker found"))?;
    Ok(Arc::new(NearLine { kept, max_age: options.max_age }))
}

impl Channel for NearLine {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let Some(best) = self.kept.best(&call.request.user)? else { return Ok(Vec::new()) };
        let age = call.request.time_ms.saturating_sub(best.made_ms);
        if self.max_age.is_some_and(|most| age > most.ms()) {
            return Ok(Vec::new());
        }
        let rows = best.items.iter().filter_map(|(id, score)| Some((call.catalogue.item(id)?, *score)));
        let fine = rows.filter(|x| call.keep(x.0)).take(k);
        Ok(super::candidates(fine.collect()))
    }
}
