//! What is hot now: the lists of the windows, of everyone's and of the user's segment, dealt out in turns.

use std::sync::{Arc, PoisonError, RwLock};

use millstream_models::recall::popularity::{Popularity, Window};
use millstream_schema::ItemRow;
use serde::Deserialize;

use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};
use crate::{Error, PipelineConfig};

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "hot",
    personal: false,
    quota: 100,
    weight: 1.0,
    tail: false,
    by_default: true,
    lacks: |_| None,
    build,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Windows taken up: half-lives of the counts.
    windows: Vec<Window>,
    /// Also the lists of the user's segment.
    by_segment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { windows: Window::ALL.to_vec(), by_segment: true }
    }
}

/// The windows that counts must be kept over for this configuration: those of [`Window::ALL`] and every one that a
/// channel of this kind names, rising. What is no window is left for building the channel to complain of.
pub fn windows(config: &PipelineConfig) -> Vec<Window> {
    let mut all = Window::ALL.to_vec();
    for channel in config.channels.iter().filter(|c| c.kind() == DEF.name) {
        let named = channel.options.get("windows").and_then(toml::Value::as_array);
        let named = named.into_iter().flatten().filter_map(toml::Value::as_str);
        all.extend(named.filter_map(|text| text.parse::<Window>().ok()));
    }
    all.sort_unstable();
    all.dedup();
    all
}

struct Hot {
    popularity: Arc<RwLock<Popularity>>,
    options: Options,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    if options.windows.is_empty() {
        return Err(setup.refuse("key `windows` names no window"));
    }
    let kept = setup.parts.hot().windows().to_vec();
    if let Some(missing) = options.windows.iter().find(|w| !kept.contains(w)) {
        let kept: Vec<String> = kept.iter().map(Window::to_string).collect();
        let kept = super::listed(kept.iter().map(String::as_str));
        return Err(setup.refuse(format!("counts are kept over {kept}, not over `{missing}`")));
    }
    Ok(Arc::new(Hot { popularity: setup.parts.popularity.clone(), options }))
}

impl Channel for Hot {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        let popularity = self.popularity.read().unwrap_or_else(PoisonError::into_inner);
        let keep = |item: ItemRow| call.keep(item);
        let now = call.request.time_ms;
        let segment = call.request.segment.as_deref().filter(|_| self.options.by_segment);
        let mut lists = Vec::new();
        for &window in &self.options.windows {
            lists.extend(segment.map(|s| popularity.top_of_segment(s, (k, window), now, &keep)));
            lists.push(popularity.top(k, window, now, &keep));
        }
        Ok(super::dealt(&lists, k))
    }
}
