//! The shapes of all answers, as the OpenAPI document tells them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Every error: one sentence.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What is wrong and what was expected.
    pub error: String,
}

/// A state of the server.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `live` or `ready`.
    pub status: String,
}

/// Feedback that is on the disk.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Events stored.
    pub accepted: usize,
    /// Place of the first of them in the ledger.
    pub offset: u64,
    /// How many of them are about items of which there is no record.
    #[serde(default)]
    pub unknown_items: usize,
}

/// One event of the feedback API; see `time_ms` for what may be left out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FeedbackEvent {
    /// The user's id.
    pub user: String,
    /// The item's id.
    pub item: String,
    /// `impression`, `click`, `cart`, `order`, `like`, `play`, or a kind of your own.
    #[schema(example = "click")]
    pub kind: String,
    /// When, in epoch milliseconds; the server's time when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<i64>,
    /// Strength, such as completion or rating; 1 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// The `request_id` of the feed that showed the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Position in that feed, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

/// Items for a user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Feed {
    /// To be given back as `request` with feedback on this feed.
    pub request_id: String,
    /// Whom it is for.
    pub user: String,
    /// Whether the user's own taste went into it.
    pub personal: bool,
    /// Why it is not personal, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Best first.
    pub items: Vec<FeedItem>,
    /// What each stage did, when a trace was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<Stage>>,
    /// What each recall channel did, when a trace was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<ChannelReport>>,
}

/// What a recall channel did for a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelReport {
    /// The channel's name.
    pub channel: String,
    /// `answered`, `failed`, `late` or `skipped`.
    pub status: String,
    /// Why, unless it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Candidates it gave.
    pub candidates: usize,
    /// Items of the merged list that came in by it.
    pub first_hits: usize,
    /// The same as a share of the merged list.
    pub share: f32,
    /// Items of the feed that came in by it.
    pub shown_first: usize,
    /// Items of the feed that it found.
    pub shown_all: usize,
    /// Items of the feed that only it found.
    pub shown_only: usize,
    /// Channels that it stands in for as their fallback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stands_in_for: Vec<String>,
    /// How long it took, or was waited for, in microseconds.
    pub micros: u64,
}

/// One item of a feed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FeedItem {
    /// The item's id.
    pub id: String,
    /// Place in the feed, from 0.
    pub position: u32,
    /// Final score.
    pub score: f32,
    /// The item's title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// How it came here, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// How an item came into a feed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trace {
    /// Every channel that found it.
    pub channels: Vec<ChannelHit>,
    /// Its scores, in the order of the stages.
    pub scores: Vec<StageScore>,
    /// What the rules did with it.
    pub rules: Vec<RuleNote>,
}

/// A channel that found an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChannelHit {
    /// The channel's name.
    pub channel: String,
    /// Place in the channel's own list, from 0.
    pub position: u32,
    /// Score in that list; scales differ between channels.
    pub score: f32,
}

/// A score that a stage gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageScore {
    /// The stage's name, such as `rank`; with the task, such as `rank.click`, where there are several.
    pub stage: String,
    /// The score.
    pub score: f32,
}

/// What a rule did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuleNote {
    /// The rule's name.
    pub rule: String,
    /// What it did, such as `moved from 7 to 3`.
    pub note: String,
}

/// What a stage did with a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    /// The stage's name.
    pub stage: String,
    /// Candidates that came in.
    pub entered: usize,
    /// Candidates that went on.
    pub left: usize,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// Items near an item.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Neighbors {
    /// The item asked about.
    pub item: String,
    /// Its title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Nearest first.
    pub neighbors: Vec<Neighbor>,
}

/// An item near another.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Neighbor {
    /// The item's id.
    pub id: String,
    /// Likeness; its scale is the engine's own.
    pub score: f32,
    /// The item's title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// What a user did lately.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserHistory {
    /// The user's id.
    pub user: String,
    /// Whether the server holds a record, an action or an impression of the user.
    pub known: bool,
    /// Latest first.
    pub actions: Vec<PastAction>,
    /// Actions remembered, of which `actions` are the latest.
    pub remembered: usize,
    /// Items remembered as seen.
    pub seen: usize,
}

/// One action of a history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PastAction {
    /// The item's id.
    pub item: String,
    /// The item's title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the user did.
    pub kind: String,
    /// When, in epoch milliseconds.
    pub time_ms: i64,
    /// Strength.
    pub value: f32,
}

/// A user or an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordBody {
    /// External id; with `PUT` it may be left out, for it is in the path.
    #[serde(default)]
    pub id: String,
    /// Properties by name: a text, a number, true or false, or a list of these; null means missing.
    /// They come back as texts.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub properties: BTreeMap<String, Value>,
}

/// Some users or items in order of id.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<RecordBody>,
    /// To be given as `after` for those that follow; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
