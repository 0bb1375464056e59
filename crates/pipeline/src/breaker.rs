//! A circuit breaker: what fails time and again is left alone for a while (Nygard, Release It!, 2007).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Failures in a row that open it, above 0.
    pub(crate) failures: u32,
    /// How long it stays open before one call tries again.
    pub(crate) retry_after: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Calls go through; so many failed in a row.
    Closed(u32),
    /// No call goes through before that moment.
    Open(Instant),
    /// One call is trying; should it never come back, another may try from that moment on.
    Trying(Instant),
}

/// Lets calls through, or not.
#[derive(Debug)]
pub(crate) struct Breaker {
    limits: Limits,
    state: Mutex<State>,
}

impl Breaker {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::new(State::Closed(0)) }
    }

    /// Whether a call may be made now; whoever makes it must tell [`Breaker::heard`] how it went.
    pub(crate) fn lets_through(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            State::Closed(_) => true,
            State::Open(until) | State::Trying(until) => {
                let tries = now >= until;
                if tries {
                    *state = State::Trying(now + self.limits.retry_after);
                }
                tries
            }
        }
    }

    /// Takes in how a call went.
    pub(crate) fn heard(&self, well: bool, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = State::Open(now + self.limits.retry_after);
        *state = match (*state, well) {
            // One that went out before it opened says nothing about now.
            (State::Open(until), _) => State::Open(until),
            (_, true) => State::Closed(0),
            (State::Trying(_), false) => opened,
            (State::Closed(failed), false) if failed + 1 >= self.limits.failures => opened,
            (State::Closed(failed), false) => State::Closed(failed + 1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_call_at_a_time_tries_again() {
        let second = Duration::from_secs(1);
        let breaker = Breaker::new(Limits { failures: 3, retry_after: second });
        let start = Instant::now();
        for well in [false, false, true, false, false] {
            assert!(breaker.lets_through(start));
            breaker.heard(well, start);
        }
        assert!(breaker.lets_through(start));
        breaker.heard(false, start);
        assert!(!breaker.lets_through(start) && !breaker.lets_through(start + second / 2));
        // A call that went out before is back late: it neither closes it nor keeps it open for longer.
        breaker.heard(true, start + second / 2);
        assert!(!breaker.lets_through(start + second / 2));
        assert!(breaker.lets_through(start + second), "one tries");
        assert!(!breaker.lets_through(start + second), "and no other meanwhile");
        breaker.heard(false, start + second);
        assert!(!breaker.lets_through(start + second * 3 / 2));
        assert!(breaker.lets_through(start + second * 2));
        breaker.heard(true, start + second * 2);
        assert!(breaker.lets_through(start + second * 2) && breaker.lets_through(start + second * 2));
    }

    #[test]
    fn a_try_that_never_comes_back_does_not_keep_it_open_for_ever() {
        let second = Duration::from_secs(1);
        let breaker = Breaker::new(Limits { failures: 1, retry_after: second });
        let start = Instant::now();
        breaker.heard(false, start);
        assert!(breaker.lets_through(start + second));
        assert!(!breaker.lets_through(start + second * 3 / 2));
        assert!(breaker.lets_through(start + second * 2));
    }
}
