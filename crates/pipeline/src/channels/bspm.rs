//! What a trained filter over the graph of users and items (`millstream_models::recall::bspm`) makes of the request's history: one's own
//! feedback counts at once, that of others when the filter is trained again, and a user who came after training is scored like any other.

use std::sync::Arc;

use millstream_models::recall::bspm::Bspm;
use millstream_schema::{ItemRow, suggest};
use serde::Deserialize;

use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "bspm",
    personal: true,
    quota: 200,
    weight: 1.0,
    tail: false,
    by_default: false,
    lacks: |parts| parts.filters.is_empty().then_some("a trained model of kind `bspm`"),
    build,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Which trained model; the one of the channel's name where not said.
    model: Option<String>,
    /// Only the latest so many actions count.
    max_history: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { model: None, max_history: 200 }
    }
}

struct Filter {
    model: Arc<Bspm>,
    max_history: usize,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    if options.max_history == 0 {
        return Err(setup.refuse("key `max_history` must be above 0"));
    }
    let (all, name) = (&setup.parts.filters, options.model.as_deref().unwrap_or(setup.name));
    let Some(model) = all.get(name).cloned() else {
        if all.is_empty() {
            return Err(setup.needs(format!("the trained model `{name}`")));
        }
        return Err(setup.refuse(suggest::unknown("model", name, all.keys().map(String::as_str))));
    };
    Ok(Arc::new(Filter { model, max_history: options.max_history }))
}

impl Channel for Filter {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let mut taken: Vec<ItemRow> =
            call.request.history.iter().rev().take(self.max_history).map(|a| a.item).collect();
        taken.sort_unstable();
        taken.dedup();
        let history: Vec<(ItemRow, f32)> = taken.into_iter().map(|item| (item, 1.0)).collect();
        let mut scores = vec![0.0f32; self.model.items()];
        self.model.score_into(&history, &mut scores);
        // An item without a path from the history scores nothing.
        let scored = (0u32..).zip(scores).filter(|x| x.1 != 0.0 && call.keep(x.0));
        Ok(super::best(scored.collect(), k))
    }
}
