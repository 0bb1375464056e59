//! Items born lately, newest first; the score is the remaining share of the time in which they count as new.

use std::sync::Arc;

use serde::Deserialize;

use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources};

/// Entry of the list of channels.
pub const DEF: ChannelDef =
    ChannelDef { name: "new_items", personal: false, quota: 50, weight: 0.5, lacks: |_| None, build };

const DAY_MS: f64 = 86_400_000.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// How long an item is new.
    max_age_days: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_age_days: 7.0 }
    }
}

struct NewItems {
    max_age_ms: f64,
}

fn build(options: &toml::Table, _: &Resources) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = super::options(options, DEF.name)?;
    let max_age_ms = options.max_age_days * DAY_MS;
    if !(max_age_ms.is_finite() && max_age_ms >= 1.0) {
        return Err(Error::Config("options of channel `new_items`: `max_age_days` must be above 0".into()));
    }
    Ok(Arc::new(NewItems { max_age_ms }))
}

impl Channel for NewItems {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let now = call.request.time_ms;
        let since = now.saturating_sub(self.max_age_ms as i64);
        let found = call.catalogue.created_within(since, now).filter(|x| call.keep(x.1)).take(k);
        let score = |created: i64| (1.0 - (now - created) as f64 / self.max_age_ms) as f32;
        Ok(found.map(|(created, item)| Candidate { item, score: score(created) }).collect())
    }
}
