//! Parts that are replaced while requests are answered.

use std::sync::{Arc, PoisonError, RwLock};

use millstream_schema::UserRow;
use millstream_schema::ids::NO_ROW;
use rapidhash::RapidHashMap;
use serde::{Deserialize, Serialize};

use crate::{Error, Request};

/// The `[recall.refresh]` table: how counting tables follow the feedback that a server takes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshConfig {
    /// Seconds at most until an action counts; 0: tables stay as they are when the server starts.
    pub every_s: u64,
    /// Actions after which they count before that time; 0: however many.
    pub events: u64,
    /// Threads that count.
    pub threads: usize,
}

impl Default for RefreshConfig {
    fn default() -> Self {
        Self { every_s: 30, events: 10_000, threads: 1 }
    }
}

/// A week.
const MOST_SECONDS: u64 = 7 * 86_400;

impl RefreshConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let fail = |key: &str, x: u64, what: &str| {
            Err(Error::Config(format!("[recall.refresh]: key `{key}` is {x}; it must be {what}")))
        };
        match self {
            Self { every_s, .. } if *every_s > MOST_SECONDS => {
                fail("every_s", *every_s, &format!("at most {MOST_SECONDS}, a week; 0 turns the refresh off"))
            }
            Self { threads, .. } if !(1..=256).contains(threads) => {
                fail("threads", *threads as u64, "between 1 and 256")
            }
            _ => Ok(()),
        }
    }
}

/// A part that changes as a whole: who asks gets the one that is there and keeps it; the next is made elsewhere, and nobody waits
/// for it.
///
/// ```
/// use millstream_pipeline::Live;
/// let table: Live<u32> = Live::new(1u32);
/// let before = table.get();
/// table.set(2u32);
/// assert_eq!((*before, *table.get()), (1, 2));
/// ```
#[derive(Debug, Default)]
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    /// With this to begin.
    pub fn new(part: impl Into<Arc<T>>) -> Self {
        Self(RwLock::new(part.into()))
    }

    /// The part as it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another in its place.
    pub fn set(&self, part: impl Into<Arc<T>>) {
        let part = part.into();
        let old = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), part);
        // Memory is given back when nobody waits for the lock.
        drop(old);
    }
}

/// Rows of users in counting tables. Users of the log have those of the catalogue. Who came later is given a row with their
/// first positive action, whether there is a record of them or not.
#[derive(Debug)]
pub struct UserRows {
    /// Rows below it are the catalogue's.
    log: UserRow,
    later: RwLock<RapidHashMap<Box<str>, UserRow>>,
}

impl Default for UserRows {
    /// The catalogue's rows for all.
    fn default() -> Self {
        Self { log: NO_ROW, later: RwLock::default() }
    }
}

impl UserRows {
    /// With so many users of the log.
    pub fn new(log: usize) -> Self {
        Self { log: log as UserRow, later: RwLock::default() }
    }

    /// The row of who asks; [`NO_ROW`] where nothing is counted of them.
    pub fn of(&self, request: &Request) -> UserRow {
        match request.user_row < self.log {
            true => request.user_row,
            false => self.later(&request.user).unwrap_or(NO_ROW),
        }
    }

    /// The row that [`UserRows::note`] gave.
    pub fn later(&self, user: &str) -> Option<UserRow> {
        self.later.read().unwrap_or_else(PoisonError::into_inner).get(user).copied()
    }

    /// Gives a row to a user who is no user of the log, or no longer.
    pub fn note(&self, user: &str, row: UserRow) {
        self.later.write().unwrap_or_else(PoisonError::into_inner).insert(user.into(), row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_the_log_keep_their_rows_and_later_ones_are_known_by_id() {
        let rows = UserRows::new(10);
        rows.note("late", 10);
        let row = |user: &str, row: UserRow| rows.of(&Request::new(user, row, 0, 1));
        assert_eq!((row("u", 9), row("late", 10), row("late", NO_ROW)), (9, 10, 10));
        // Row 10 of the catalogue is somebody else's.
        assert_eq!((row("other", 10), row("other", NO_ROW)), (NO_ROW, NO_ROW));
        assert_eq!(UserRows::default().of(&Request::new("u", 70, 0, 1)), 70);
    }
}
