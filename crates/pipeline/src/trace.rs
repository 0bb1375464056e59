//! Why every item stands where it stands.

use std::sync::Arc;

use millstream_schema::ItemRow;
use serde::Serialize;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Feed {
    /// Id of the request.
    pub request: String,
    /// External id of the user.
    pub user: String,
    /// Whether the feed was made for this user.
    pub personal: bool,
    /// Why it was not, where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Best first.
    pub items: Vec<FeedItem>,
    /// External ids of candidates that were ranked and not shown, as `[passed_over]` says.
    #[serde(skip)]
    pub passed_over: Vec<String>,
    /// How it came about.
    pub trace: Trace,
}

/// One item of a feed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeedItem {
    /// External id.
    pub item: String,
    /// Catalogue row.
    #[serde(skip)]
    pub row: ItemRow,
    /// Place in the feed, from 0.
    pub position: u32,
    /// Fused score; null for an item that was not ranked or whose score is not a number.
    pub score: Option<f32>,
}

/// Every stage of one request.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Trace {
    /// In order.
    pub stages: Vec<StageTrace>,
    /// All configured channels.
    pub channels: Vec<ChannelTrace>,
    /// The items shown, in order; then, where asked for, all other candidates in merged order.
    pub items: Vec<ItemTrace>,
    /// Whether a ranker scored the candidates; otherwise they stand in merged order.
    pub ranked: bool,
    /// Why it did not although there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank_error: Option<String>,
    /// Candidates whose score was not a finite number; they stand last.
    pub non_finite: u32,
    /// Context values that could not be used and took their default.
    pub bad_context: u64,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTrace {
    /// `recall`, `merge`, `filter`, `rank`, `rules`, `page`.
    pub name: &'static str,
    /// Items that went in.
    pub input: usize,
    /// Items that came out.
    pub output: usize,
    /// Time taken. Requests scored in one batch all carry the whole batch's time of ranking.
    pub micros: u64,
}

/// What became of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelStatus {
    /// It answered in time.
    Answered,
    /// It gave an error or panicked.
    Failed,
    /// It missed its deadline.
    Late,
    /// It was not asked.
    Skipped,
}

/// One channel in one request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelTrace {
    /// Name.
    pub name: Arc<str>,
    /// What became of it.
    pub status: ChannelStatus,
    /// Why, unless it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Candidates it gave.
    pub returned: usize,
    /// Items of the merged list that came in by it.
    pub first_hits: usize,
    /// The same as a share of the merged list; 0 when that is empty.
    pub share: f32,
    /// What of the page is its doing.
    pub shown: Shown,
    /// Channels that it stands in for as their fallback.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stands_in_for: Vec<Arc<str>>,
    /// Time it took, or how long was waited for it.
    pub micros: u64,
}

/// A channel's part in the items shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Items that came into the merged list by it (first-hit).
    pub first: usize,
    /// Items that it found (all-hit).
    pub all: usize,
    /// Items that only it found (exclusive exposure).
    pub only: usize,
}

/// One candidate through all stages.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ItemTrace {
    /// External id.
    pub item: String,
    /// Channels that found it, first the one by which it came in.
    pub channels: Vec<ChannelHit>,
    /// Place in the merged list, from 0; none for an item that only filled up the page.
    pub merged: Option<u32>,
    /// Probability of each task.
    pub tasks: Vec<TaskScore>,
    /// Fused score.
    pub score: Option<f32>,
    /// Place after ranking, from 0.
    pub rank: Option<u32>,
    /// What rules did to it, in order.
    pub steps: Vec<Step>,
    /// Where it was taken from to fill up a short page: `merged`, `hot` or `catalogue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refill: Option<&'static str>,
    /// Place in the feed, from 0; none when it is not shown.
    pub position: Option<u32>,
}

impl ItemTrace {
    /// The channel that delivered it first in the snake.
    pub fn first_hit(&self) -> Option<&str> {
        self.channels.first().map(|hit| &*hit.channel)
    }

    /// Every channel that found it.
    pub fn all_hits(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|hit| &*hit.channel)
    }

    /// The rule that dropped it, if one did.
    pub fn dropped_by(&self) -> Option<&str> {
        self.steps.iter().find(|s| s.to.is_none()).map(|s| &*s.rule)
    }
}

/// A channel's mention of an item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelHit {
    /// Name of the channel.
    pub channel: Arc<str>,
    /// Place in its list, from 0.
    pub position: u32,
    /// Its score.
    pub score: f32,
}

/// One task's probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskScore {
    /// Name of the task.
    pub task: Arc<str>,
    /// In [0, 1].
    pub score: f32,
}

/// A rule's effect on an item; places are counted among those the rule let stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Name of the rule.
    pub rule: Arc<str>,
    /// Place before; none when the item was filtered before ranking.
    pub from: Option<u32>,
    /// Place after; none when it was dropped.
    pub to: Option<u32>,
}
