//! A clock that goes on from where a log ends, so that a demonstration on old logs does not find them stale.

use millstream_schema::{Clock, SystemClock};

/// The machine's clock, shifted.
#[derive(Debug, Clone, Copy)]
pub struct ShiftedClock {
    shift_ms: i64,
}

impl ShiftedClock {
    /// A clock that shows `now_ms` at this moment.
    pub fn showing(now_ms: i64) -> Self {
        Self { shift_ms: now_ms - SystemClock.now_ms() }
    }
}

impl Clock for ShiftedClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.shift_ms
    }
}
