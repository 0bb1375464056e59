//! What is hot now: the lists of the windows, of everyone's and of the user's segment, dealt out in turns.

use std::sync::{Arc, PoisonError, RwLock};

use millstream_models::recall::popularity::{Popularity, Window};
use millstream_schema::ItemRow;
use rapidhash::RapidHashSet;
use serde::Deserialize;

use crate::Error;
use crate::channel::{Call, Candidate, Channel, ChannelDef, Resources};

/// Entry of the list of channels.
pub const DEF: ChannelDef =
    ChannelDef { name: "hot", personal: false, quota: 100, weight: 1.0, lacks: |_| None, build };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Windows taken up.
    windows: Vec<Window>,
    /// Also the lists of the user's segment.
    by_segment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { windows: Window::ALL.to_vec(), by_segment: true }
    }
}

struct Hot {
    popularity: Arc<RwLock<Popularity>>,
    options: Options,
}

fn build(options: &toml::Table, parts: &Resources) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = super::options(options, DEF.name)?;
    if options.windows.is_empty() {
        return Err(Error::Config("options of channel `hot`: key `windows` names no window".into()));
    }
    Ok(Arc::new(Hot { popularity: parts.popularity.clone(), options }))
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
        Ok(dealt(&lists, k))
    }
}

/// The first of every list, then the second of every list, and so on, each item once.
fn dealt(lists: &[Vec<(ItemRow, f32)>], k: usize) -> Vec<Candidate> {
    let mut met = RapidHashSet::default();
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|at| lists.iter().filter_map(move |l| l.get(at)));
    turns.filter(|x| met.insert(x.0)).take(k).map(|&(item, score)| Candidate { item, score }).collect()
}
