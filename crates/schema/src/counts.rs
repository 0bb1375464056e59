//! Bad values: counted by reason and shown, or refused with file and line.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

use crate::{Error, Frame};

/// What to do with a value that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Count it by reason, use the feature's default.
    #[default]
    Count,
    /// Refuse the input, naming file and line.
    Strict,
}

/// How often each kind of bad value was met, with the first place.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BadValues {
    #[serde(skip)]
    policy: Policy,
    reasons: BTreeMap<String, Reason>,
}

#[derive(Debug, Clone, Serialize)]
struct Reason {
    count: u64,
    first: String,
}

impl BadValues {
    /// An empty count under `policy`.
    pub fn new(policy: Policy) -> Self {
        Self { policy, reasons: BTreeMap::new() }
    }

    /// Records one bad value of `frame`'s row; an error when the policy is strict.
    pub fn add(&mut self, frame: &Frame, row: usize, column: &str, reason: &str) -> Result<(), Error> {
        self.add_at(|| frame.place(row), column, reason)
    }

    /// As [`BadValues::add`], for a row at `place` (`file:line`).
    pub fn add_at(&mut self, place: impl Fn() -> String, column: &str, reason: &str) -> Result<(), Error> {
        if self.policy == Policy::Strict {
            return Err(Error::input(format!("{} column `{column}`", place()), reason));
        }
        self.count(format!("{column}: {}", kind_of(reason)), || format!("{}: {reason}", place()));
        Ok(())
    }

    /// Records one bad thing under `key`, remembering the first.
    pub fn count(&mut self, key: String, first: impl FnOnce() -> String) {
        self.reasons.entry(key).or_insert_with(|| Reason { count: 0, first: first() }).count += 1;
    }

    /// All bad values met.
    pub fn total(&self) -> u64 {
        self.reasons.values().map(|r| r.count).sum()
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &BadValues) {
        for (key, reason) in &other.reasons {
            self.reasons
                .entry(key.clone())
                .or_insert_with(|| Reason { count: 0, first: reason.first.clone() })
                .count += reason.count;
        }
    }
}

/// The reason without the value that was met, so that counts do not split by value.
fn kind_of(reason: &str) -> &str {
    reason.split(" (").next().unwrap_or(reason)
}

impl fmt::Display for BadValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, reason) in &self.reasons {
            writeln!(f, "{:>10}  {key}   first: {}", reason.count, reason.first)?;
        }
        Ok(())
    }
}
