//! What is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_schema::examples::Action;
use millstream_schema::ids::NO_ROW;
use millstream_schema::{ItemRow, UserRow};
use rapidhash::RapidHashSet;

/// Says whether the user has seen an item by now; asked again after ranking, so that feedback which came
/// meanwhile counts.
pub type SeenNow = Arc<dyn Fn(ItemRow) -> bool + Send + Sync>;

/// One request for a feed.
#[derive(Clone)]
pub struct Request {
    /// The caller's id of this request; events name it.
    pub id: String,
    /// External id of the user.
    pub user: String,
    /// The user's catalogue row; [`NO_ROW`] for a user who does not exist.
    pub user_row: UserRow,
    /// The present, epoch milliseconds.
    pub time_ms: i64,
    /// Items wanted.
    pub n: usize,
    /// The user's actions before `time_ms`, oldest first.
    pub history: Vec<Action>,
    /// Items that must not be shown.
    pub seen: Arc<RapidHashSet<ItemRow>>,
    /// What has been seen by the time of asking, where that can change during the request.
    pub seen_now: Option<SeenNow>,
    /// Context fields by name (device, page); absent ones are missing values.
    pub context: BTreeMap<String, String>,
    /// The user's segment for hot lists (language, region).
    pub segment: Option<String>,
    /// Explain every candidate, not only the items shown.
    pub trace_all: bool,
}

impl Request {
    /// A request of a user without history, context or segment.
    pub fn new(user: &str, user_row: UserRow, time_ms: i64, n: usize) -> Self {
        Self {
            id: String::new(),
            user: user.into(),
            user_row,
            time_ms,
            n,
            history: Vec::new(),
            seen: Arc::default(),
            seen_now: None,
            context: BTreeMap::new(),
            segment: None,
            trace_all: false,
        }
    }

    /// Whether anything is known about the user: a catalogue row, or actions.
    pub fn is_personal(&self) -> bool {
        self.user_row != NO_ROW || !self.history.is_empty()
    }

    /// Whether the item was seen when the request was made or since.
    pub fn has_seen(&self, item: ItemRow) -> bool {
        self.seen.contains(&item) || self.seen_now.as_ref().is_some_and(|seen| seen(item))
    }
}
