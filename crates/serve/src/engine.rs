//! What the server asks of the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_schema::{Event, Record};
use millstream_stream::Action;

use crate::answer::{ChannelReport, Stage, Trace};

/// One request for a feed.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Unique among all requests of this server and its restarts.
    pub request_id: String,
    /// The user's external id.
    pub user: String,
    /// Whether the server holds a record, an action or an impression of the user.
    pub known: bool,
    /// Items wanted, 1 to 200.
    pub n: usize,
    /// When, in epoch milliseconds.
    pub time_ms: i64,
    /// Context fields by name.
    pub context: BTreeMap<String, String>,
    /// Latest actions that the server was told of, oldest first.
    pub history: Vec<Action>,
    /// Items acted on or shown, the longest unseen first.
    pub seen: Vec<Arc<str>>,
    /// Whether the trace of each item and of the stages is wanted.
    pub trace: bool,
}

/// A feed as the engine gives it, best first.
#[derive(Debug, Clone, Default)]
pub struct Ranked {
    /// Whether the user's own taste went into it.
    pub personal: bool,
    /// Why not, or anything else the reader should know: one sentence.
    pub reason: Option<String>,
    /// The items in the order to show them.
    pub items: Vec<Scored>,
    /// What each stage did; may be empty when no trace was asked for.
    pub stages: Vec<Stage>,
    /// What each recall channel did, also when no trace was asked for: it is measured.
    pub channels: Vec<ChannelReport>,
}

/// A count of the engine's own, for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// Its name in Prometheus; one that ends in `_total` only ever grows.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// Its value by now.
    pub value: u64,
}

/// One item of a [`Ranked`] or one neighbour.
#[derive(Debug, Clone)]
pub struct Scored {
    /// External id.
    pub id: String,
    /// Final score; its scale is the engine's own.
    pub score: f32,
    /// How it came here, when asked for.
    pub trace: Option<Trace>,
}

/// Why the engine did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The request or record cannot be used: 400.
    #[error("{0}")]
    Input(String),
    /// Not now; try again: 503.
    #[error("{0}")]
    Unavailable(String),
    /// The engine is at fault: 500.
    #[error("{0}")]
    Internal(String),
}

/// The pipeline behind the server. Calls come from many threads at once.
pub trait Engine: Send + Sync + 'static {
    /// A feed of at most `ask.n` items.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn recommend(&self, ask: &Ask) -> Result<Ranked, EngineError>;

    /// The `n` items nearest to `item`, best first; `None` when there is no such item.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn neighbors(&self, item: &str, n: usize) -> Result<Option<Vec<Scored>>, EngineError>;

    /// Refuses an item whose fields cannot be used; asked before the item is stored.
    ///
    /// # Errors
    /// [`EngineError::Input`] that names the field.
    fn check_item(&self, item: &Record) -> Result<(), EngineError> {
        let _ = item;
        Ok(())
    }

    /// Refuses a user whose fields cannot be used; asked before the user is stored.
    ///
    /// # Errors
    /// [`EngineError::Input`] that names the field.
    fn check_user(&self, user: &Record) -> Result<(), EngineError> {
        let _ = user;
        Ok(())
    }

    /// Hears of feedback that is on the disk, in the order of arrival; must be quick.
    fn heard(&self, events: &[Event]) {
        let _ = events;
    }

    /// Takes in a new or changed item, already stored.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn upsert_item(&self, item: &Record) -> Result<(), EngineError>;

    /// Stops recommending an item, already deleted; unknown ids are fine.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn remove_item(&self, id: &str) -> Result<(), EngineError>;

    /// Takes in a new or changed user, already stored.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn upsert_user(&self, user: &Record) -> Result<(), EngineError>;

    /// Forgets a user, already deleted; unknown ids are fine.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn remove_user(&self, id: &str) -> Result<(), EngineError>;

    /// Counts of the engine's own.
    fn counts(&self) -> Vec<Count> {
        Vec::new()
    }

    /// Whether feeds can be asked for.
    fn ready(&self) -> bool;

    /// What to call the item on the page, if it has a title.
    fn item_title(&self, id: &str) -> Option<String>;
}
