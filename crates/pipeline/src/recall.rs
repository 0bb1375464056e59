//! Asks all channels at once and does not wait for the slow ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rapidhash::RapidHashSet;
use rayon::ThreadPool;

use crate::Error;
use crate::channel::{Call, Candidate, Channel};

/// A channel that still works on so many requests which gave up on it is not asked again until it is done.
pub(crate) const HUNG_LIMIT: usize = 2;

/// A configured channel.
pub(crate) struct Lane {
    pub(crate) name: Arc<str>,
    pub(crate) personal: bool,
    pub(crate) quota: usize,
    pub(crate) weight: f32,
    pub(crate) deadline: Duration,
    pub(crate) channel: Arc<dyn Channel>,
    hung: Arc<AtomicUsize>,
}

/// What became of a channel in one request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Vec<Candidate>),
    Failed(String),
    Late,
    /// Not asked, and why.
    Skipped(&'static str),
}

/// One channel's outcome and how long was waited for it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) micros: u64,
}

impl Run {
    fn skipped(reason: &'static str) -> Self {
        Self { outcome: Outcome::Skipped(reason), micros: 0 }
    }

    /// The candidates; none unless the channel answered.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        match &self.outcome {
            Outcome::Answered(found) => found,
            _ => &[],
        }
    }
}

impl Lane {
    pub(crate) fn new(name: &str, personal: bool, channel: Arc<dyn Channel>) -> Self {
        Self {
            name: name.into(),
            personal,
            quota: 100,
            weight: 1.0,
            deadline: Duration::from_millis(100),
            channel,
            hung: Arc::default(),
        }
    }

    /// Why the channel is not asked, if it is not.
    fn idle(&self, personal: bool) -> Option<&'static str> {
        if self.personal && !personal {
            return Some("it needs to know the user");
        }
        let busy = self.hung.load(Ordering::Acquire) >= HUNG_LIMIT;
        busy.then_some("it still works on earlier requests")
    }

    fn ask(channel: &dyn Channel, call: &Call, quota: usize) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| channel.recall(call, quota))) {
            Ok(Ok(found)) => Outcome::Answered(lawful(found, quota)),
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed("it panicked".into()),
        }
    }
}

/// First occurrences, at most `k`.
fn lawful(found: Vec<Candidate>, k: usize) -> Vec<Candidate> {
    let mut met = RapidHashSet::default();
    found.into_iter().filter(|c| met.insert(c.item)).take(k).collect()
}

/// One after the other on this thread, without deadlines: for batches, where the same request must give the
/// same feed however busy the machine is.
///
/// # Errors
/// A channel failed: an evaluation must not go on without it unnoticed.
pub(crate) fn in_turn(lanes: &[Lane], call: &Call) -> Result<Vec<Run>, Error> {
    let personal = call.request.is_personal();
    lanes
        .iter()
        .map(|lane| {
            if lane.personal && !personal {
                return Ok(Run::skipped("it needs to know the user"));
            }
            let start = Instant::now();
            match Lane::ask(&*lane.channel, call, lane.quota) {
                Outcome::Failed(why) => Err(Error::Part(format!("channel `{}` failed: {why}", lane.name))),
                outcome => Ok(Run { outcome, micros: start.elapsed().as_micros() as u64 }),
            }
        })
        .collect()
}

const RUNNING: u8 = 0;
const GIVEN_UP: u8 = 1;
const DONE: u8 = 2;

/// All at once on `pool`, each until its deadline. The caller must not be a worker of `pool`.
pub(crate) fn at_once(lanes: &[Lane], call: &Arc<Call>, pool: &ThreadPool) -> Vec<Run> {
    let personal = call.request.is_personal();
    let start = Instant::now();
    let (tx, rx) = mpsc::channel();
    let mut runs: Vec<Option<Run>> = Vec::with_capacity(lanes.len());
    let mut states = Vec::with_capacity(lanes.len());
    for (at, lane) in lanes.iter().enumerate() {
        let state = Arc::new(AtomicU8::new(RUNNING));
        let idle = lane.idle(personal);
        runs.push(idle.map(Run::skipped));
        if idle.is_none() {
            spawn(lane, (call, &state), pool, (at, tx.clone()));
        }
        states.push(state);
    }
    drop(tx);
    collect(lanes, &rx, start, &mut runs);
    let late = |at: usize| {
        if states[at].swap(GIVEN_UP, Ordering::AcqRel) == RUNNING {
            lanes[at].hung.fetch_add(1, Ordering::AcqRel);
        }
        Run { outcome: Outcome::Late, micros: start.elapsed().as_micros() as u64 }
    };
    runs.into_iter().enumerate().map(|(at, run)| run.unwrap_or_else(|| late(at))).collect()
}

fn spawn(
    lane: &Lane,
    (call, state): (&Arc<Call>, &Arc<AtomicU8>),
    pool: &ThreadPool,
    (at, tx): (usize, mpsc::Sender<(usize, Run)>),
) {
    let (channel, quota, hung) = (lane.channel.clone(), lane.quota, lane.hung.clone());
    let (call, state) = (call.clone(), state.clone());
    pool.spawn(move || {
        let begun = Instant::now();
        if state.load(Ordering::Acquire) == RUNNING {
            let outcome = Lane::ask(&*channel, &call, quota);
            // Nobody listens when the request has given up; that is no fault.
            let _ = tx.send((at, Run { outcome, micros: begun.elapsed().as_micros() as u64 }));
        }
        if state.swap(DONE, Ordering::AcqRel) == GIVEN_UP {
            hung.fetch_sub(1, Ordering::AcqRel);
        }
    });
}

/// Takes answers until all are there or every missing one's deadline has passed.
fn collect(lanes: &[Lane], rx: &mpsc::Receiver<(usize, Run)>, start: Instant, runs: &mut [Option<Run>]) {
    loop {
        let missing = lanes.iter().zip(runs.iter()).filter(|(_, run)| run.is_none());
        let Some(last) = missing.map(|(lane, _)| lane.deadline).max() else { return };
        match rx.recv_timeout(last.saturating_sub(start.elapsed())) {
            // An answer that came after its own deadline is late even if others are still waited for.
            Ok((at, run)) if start.elapsed() <= lanes[at].deadline => runs[at] = Some(run),
            Ok((at, run)) => runs[at] = Some(Run { outcome: Outcome::Late, ..run }),
            Err(_) => return,
        }
    }
}
