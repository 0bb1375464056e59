//! Group commit: callers that arrive while a write is under way share the next one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// What one write came to: the place of its first value, or why there is none.
type Outcome<E> = Arc<OnceLock<Result<u64, E>>>;

/// Values waiting for the next write, and who writes.
///
/// The first caller becomes the leader and writes at once; whoever comes meanwhile waits, and one of
/// them leads the write of all that gathered.
pub(crate) struct Group<T, E> {
    state: Mutex<State<T, E>>,
    ready: Condvar,
}

struct State<T, E> {
    waiting: Vec<T>,
    outcome: Outcome<E>,
    leading: bool,
}

impl<T, E: Clone> Group<T, E> {
    pub(crate) fn new() -> Self {
        let state = State { waiting: Vec::new(), outcome: Arc::default(), leading: false };
        Self { state: Mutex::new(state), ready: Condvar::new() }
    }

    /// Adds `values` to the next write and returns the place of the first when that write is done.
    ///
    /// `write` gets all values gathered, and gives the place of the first; `panicked` is what everyone
    /// is told should it not return.
    pub(crate) fn submit(
        &self,
        values: Vec<T>,
        write: impl FnOnce(Vec<T>) -> Result<u64, E>,
        panicked: impl FnOnce() -> E,
    ) -> Result<u64, E> {
        let mut state = self.lock();
        let outcome = state.outcome.clone();
        let start = state.waiting.len() as u64;
        state.waiting.extend(values);
        while state.leading && outcome.get().is_none() {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(done) = outcome.get() {
            return done.clone().map(|first| first + start);
        }
        // Nobody writes and this group is not written: it is still the open one, and this caller leads.
        state.leading = true;
        let gathered = std::mem::take(&mut state.waiting);
        state.outcome = Arc::default();
        drop(state);
        let done = catch_unwind(AssertUnwindSafe(|| write(gathered))).unwrap_or_else(|_| Err(panicked()));
        let mut state = self.lock();
        state.leading = false;
        let _ = outcome.set(done.clone());
        self.ready.notify_all();
        drop(state);
        done.map(|first| first + start)
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_caller_gets_its_own_place_and_writes_are_shared() {
        let group = Group::<(usize, usize), ()>::new();
        let log = Mutex::new(Vec::new());
        let writes = Mutex::new(0);
        let write = |values: Vec<(usize, usize)>| {
            std::thread::sleep(Duration::from_millis(1));
            *writes.lock().unwrap() += 1;
            let mut log = log.lock().unwrap();
            let first = log.len() as u64;
            log.extend(values);
            Ok(first)
        };
        let places = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (group, places, write) = (&group, &places, &write);
                scope.spawn(move || {
                    for i in 0..20 {
                        let pair = vec![(thread, 2 * i), (thread, 2 * i + 1)];
                        let place = group.submit(pair, write, || ()).unwrap();
                        places.lock().unwrap().push((place, thread, 2 * i));
                    }
                });
            }
        });
        let log = log.into_inner().unwrap();
        assert_eq!(log.len(), 8 * 40);
        for (place, thread, i) in places.into_inner().unwrap() {
            assert_eq!(log[place as usize], (thread, i));
            assert_eq!(log[place as usize + 1], (thread, i + 1));
        }
        assert!(*writes.lock().unwrap() < 160, "no two callers ever shared a write");
    }

    #[test]
    fn a_writer_that_panics_fails_its_callers_and_blocks_nobody() {
        let group = Group::<u8, &str>::new();
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        assert_eq!(group.submit(vec![1], |_| panic!("no"), || "panicked"), Err("panicked"));
        std::panic::set_hook(quiet);
        assert_eq!(group.submit(vec![2], |_| Ok(5), || "panicked"), Ok(5));
    }
}
