//! What preparing found, for people and for the manifest.

use std::collections::BTreeMap;
use std::fmt;

use millstream_schema::{BadValues, EventKind};
use serde::{Deserialize, Serialize};

use crate::split::TimeSplit;
use crate::{Split, Use};

/// What one part holds for one use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    /// R over all blocks.
    pub requests: u64,
    /// N over all blocks.
    pub candidates: u64,
    /// Candidates with label 1, by task.
    pub positives: Vec<u64>,
    /// Size of the block file.
    pub bytes: u64,
}

/// All parts and uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts {
    parts: BTreeMap<String, PartReport>,
}

impl Counts {
    /// What a part holds; nothing where it was not made.
    pub fn part(&self, split: Split, for_use: Use) -> PartReport {
        self.parts.get(&key(split, for_use)).cloned().unwrap_or_default()
    }

    pub(super) fn part_mut(&mut self, split: Split, for_use: Use) -> &mut PartReport {
        self.parts.entry(key(split, for_use)).or_default()
    }
}

fn key(split: Split, for_use: Use) -> String {
    format!("{split}.{}", for_use.as_str())
}

/// What `prepare` read and wrote.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PrepareReport {
    /// Known users (of a table: groups).
    pub users: usize,
    /// Known items; 0 for a table.
    pub items: usize,
    /// Rows or events read, those left out included.
    pub rows_read: u64,
    /// Rows left out on purpose, by rule.
    pub dropped: BTreeMap<String, u64>,
    /// Things worth knowing, by name: events by kind, actions without an impression, …
    pub notes: BTreeMap<String, u64>,
    /// What each part holds, `train.rank` and so on.
    pub parts: Counts,
    /// Where a split by time was cut.
    pub time_split: Option<TimeSplit>,
    /// Kinds of event that were met.
    #[serde(skip)]
    pub(super) kinds: Vec<EventKind>,
    /// Bad values by reason.
    pub bad: BadValues,
}

impl PrepareReport {
    pub(super) fn drop_rows(&mut self, rule: &str, rows: u64) {
        if rows > 0 {
            *self.dropped.entry(rule.to_owned()).or_default() += rows;
        }
    }

    pub(super) fn note(&mut self, what: impl Into<String>, count: u64) {
        if count > 0 {
            *self.notes.entry(what.into()).or_default() += count;
        }
    }
}

impl fmt::Display for PrepareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows read, {} users, {} items", self.rows_read, self.users, self.items)?;
        if let Some(split) = self.time_split {
            let shown = |ms| if ms == i64::MAX { "never".to_owned() } else { crate::time::date(ms) };
            writeln!(f, "valid from {}, test from {}", shown(split.valid_ms), shown(split.test_ms))?;
        }
        for (name, part) in &self.parts.parts {
            writeln!(
                f,
                "{name:>12}  {:>10} requests {:>11} candidates  positives {:?}",
                part.requests, part.candidates, part.positives
            )?;
        }
        for (name, count) in self.notes.iter().chain(&self.dropped) {
            writeln!(f, "{count:>12}  {name}")?;
        }
        if self.bad.total() > 0 {
            write!(f, "bad values, replaced by defaults or left out:\n{}", self.bad)?;
        }
        Ok(())
    }
}
