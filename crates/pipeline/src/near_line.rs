//! Near-line recall: a worker ranks a user's candidates ahead of time, from wider lists than a request has time for,
//! and keeps the best. Feedback puts the user into a bounded queue; the request replaces the tail of its own recall by what is
//! kept ([`crate::channels::near_line`]).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rapidhash::RapidHashSet;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::MAX_THREADS;

/// The `[near_line]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NearLineConfig {
    /// Items kept of each user.
    pub keep: usize,
    /// Candidates that the worker ranks for a user.
    pub candidates: usize,
    /// How many times their quota channels are asked for.
    pub widen: usize,
    /// Users that may wait; beyond it users are left out until they are heard of again.
    pub queue: usize,
    /// Threads of the worker.
    pub threads: usize,
}

impl Default for NearLineConfig {
    fn default() -> Self {
        Self { keep: 200, candidates: 1000, widen: 4, queue: 10_000, threads: 1 }
    }
}

impl NearLineConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let numbers = [self.keep, self.candidates, self.widen, self.queue, self.threads];
        match numbers.contains(&0) || self.threads > MAX_THREADS {
            true => Err(Error::Config(format!(
                "[near_line]: every key must be above 0, `threads` at most {MAX_THREADS}"
            ))),
            false => Ok(()),
        }
    }
}

/// What was found best for a user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Best {
    /// When, in epoch milliseconds.
    pub made_ms: i64,
    /// External ids with fused scores, best first.
    pub items: Vec<(String, f32)>,
}

/// Where it is kept.
pub trait BestKept: Send + Sync {
    /// What is kept of the user, if anything.
    ///
    /// # Errors
    /// The store cannot be read.
    fn best(&self, user: &str) -> Result<Option<Best>, Error>;
}

/// What a worker has done since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Users whose best was made.
    pub made: u64,
    /// Users for whom that failed.
    pub failed: u64,
    /// Users turned away because too many waited.
    pub dropped: u64,
    /// Users that wait now.
    pub waiting: u64,
}

#[derive(Default)]
struct State {
    order: VecDeque<Arc<str>>,
    waiting: RapidHashSet<Arc<str>>,
    busy: usize,
    stop: bool,
}

/// Users that wait, each once, first come first served.
struct Queue {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
    made: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Threads that make users' bests. Dropping it lets the users in work end, and forgets those that wait.
pub struct Worker {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next user; waits for one; `None` at the end.
    fn next(&self) -> Option<Arc<str>> {
        let idle = |state: &mut State| state.order.is_empty() && !state.stop;
        let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.stop {
            return None;
        }
        let user = state.order.pop_front()?;
        state.waiting.remove(&user);
        state.busy += 1;
        Some(user)
    }

    fn work(&self, job: &dyn Fn(&str) -> Result<(), Error>) {
        while let Some(user) = self.next() {
            let done = catch_unwind(AssertUnwindSafe(|| job(&user)));
            let why = match done {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it panicked".to_owned()),
            };
            match why {
                None => self.made.fetch_add(1, Ordering::Relaxed),
                Some(error) => {
                    tracing::warn!(%user, %error, "nothing was made ahead of time");
                    self.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
            self.lock().busy -= 1;
            self.changed.notify_all();
        }
    }
}

impl Worker {
    /// Starts `threads` threads that run `job` for each user pushed; of at most `most` users that wait.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        (threads, most): (usize, usize),
        job: impl Fn(&str) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let queue = Arc::new(Queue {
            most,
            state: Mutex::default(),
            changed: Condvar::new(),
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let mut worker = Self { queue: queue.clone(), threads: Vec::with_capacity(threads) };
        let job = Arc::new(job);
        for at in 0..threads {
            let (queue, job) = (queue.clone(), job.clone());
            let thread = std::thread::Builder::new().name(format!("near-line-{at}"));
            let thread = thread.spawn(move || queue.work(&*job));
            worker.threads.push(thread.map_err(|e| Error::Part(format!("cannot start a worker: {e}")))?);
        }
        Ok(worker)
    }

    /// Puts a user into the queue, unless they wait already; false where it is full. Costs no more than a look.
    pub fn push(&self, user: &str) -> bool {
        let mut state = self.queue.lock();
        if state.waiting.contains(user) {
            return true;
        }
        if state.order.len() >= self.queue.most {
            drop(state);
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let user: Arc<str> = user.into();
        state.waiting.insert(user.clone());
        state.order.push_back(user);
        drop(state);
        self.queue.changed.notify_one();
        true
    }

    /// What was done so far.
    pub fn done(&self) -> Done {
        let waiting = self.queue.lock().order.len() as u64;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let queue = &self.queue;
        Done { made: of(&queue.made), failed: of(&queue.failed), dropped: of(&queue.dropped), waiting }
    }

    /// Waits until nobody waits and nobody is in work.
    pub fn settle(&self) {
        let working = |state: &mut State| state.busy > 0 || !state.order.is_empty();
        drop(self.queue.changed.wait_while(self.queue.lock(), working));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.lock().stop = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Panics of the job are caught; there is nothing to hear of the thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Gate(Mutex<bool>, Condvar);

    impl Gate {
        fn open(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }

        fn pass(&self) {
            drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
        }
    }

    #[test]
    fn users_are_made_once_however_often_they_are_pushed_while_they_wait_and_the_queue_is_bounded() {
        let (gate, seen) = (Arc::new(Gate::default()), Arc::new(Mutex::new(Vec::new())));
        let (gate_in, seen_in) = (gate.clone(), seen.clone());
        let worker = Worker::start((1, 3), move |user| {
            gate_in.pass();
            seen_in.lock().unwrap().push(user.to_owned());
            match user {
                "bad" => Err(Error::Part("a planted fault".into())),
                "worse" => panic!("a planted panic"),
                _ => Ok(()),
            }
        })
        .unwrap();
        assert!(worker.push("first"));
        while worker.done().waiting > 0 {
            std::thread::yield_now();
        }
        // `first` is in work: it may wait once more, for what came since.
        for _ in 0..5 {
            assert!(worker.push("first") && worker.push("bad") && worker.push("worse"));
        }
        assert!(!worker.push("too many"));
        gate.open();
        worker.settle();
        assert_eq!(*seen.lock().unwrap(), ["first", "first", "bad", "worse"]);
        assert_eq!(worker.done(), Done { made: 2, failed: 2, dropped: 1, waiting: 0 });
    }

    #[test]
    fn dropping_a_worker_ends_it_though_users_wait() {
        let count = Arc::new(AtomicU64::new(0));
        let (gate, counted) = (Arc::new(Gate::default()), count.clone());
        let gate_in = gate.clone();
        let worker = Worker::start((2, 1000), move |_| {
            gate_in.pass();
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        (0..1000).for_each(|u| assert!(worker.push(&format!("u{u}"))));
        let queue = worker.queue.clone();
        let ends = std::thread::spawn(move || drop(worker));
        while !queue.lock().stop {
            std::thread::yield_now();
        }
        gate.open();
        ends.join().unwrap();
        assert!(count.load(Ordering::SeqCst) <= 2, "only those in work come to an end");
    }

    #[test]
    fn configurations_are_checked() {
        assert!(NearLineConfig::default().check().is_ok());
        assert!(NearLineConfig { keep: 0, ..NearLineConfig::default() }.check().is_err());
        assert!(NearLineConfig { threads: 1000, ..NearLineConfig::default() }.check().is_err());
    }
}
