//! Asks all channels at once and does not wait for the slow ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rapidhash::RapidHashSet;
use rayon::ThreadPool;

use crate::channel::{Call, Candidate, Channel};
use crate::pipeline::Recalled;

/// A channel that still works on so many requests which gave up on it is not asked again until it is done.
pub(crate) const HUNG_LIMIT: usize = 2;

/// Said of a channel that is not asked for a stranger: no fault, so no fallback stands in for it.
const STRANGER: &str = "it needs to know the user";

/// A configured channel.
pub(crate) struct Lane {
    pub(crate) name: Arc<str>,
    pub(crate) personal: bool,
    pub(crate) quota: usize,
    pub(crate) weight: f32,
    pub(crate) deadline: Duration,
    pub(crate) channel: Arc<dyn Channel>,
    /// Place of the lane that stands in when this one fails, is late, or gives fewer than `short`.
    pub(crate) fallback: Option<usize>,
    pub(crate) short: usize,
    /// Asked only as a fallback.
    pub(crate) standby: bool,
    /// Its items take the place of the merged list's tail.
    pub(crate) tail: bool,
    pub(crate) hung: Arc<AtomicUsize>,
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
    /// Items per round of the merge beyond the lane's own, taken over from the channels it stands in for.
    pub(crate) inherited: f32,
    /// Places of those channels.
    pub(crate) stands_in: Vec<u16>,
}

impl Run {
    fn new(outcome: Outcome, micros: u64) -> Self {
        Self { outcome, micros, inherited: 0.0, stands_in: Vec::new() }
    }

    fn skipped(reason: &'static str) -> Self {
        Self::new(Outcome::Skipped(reason), 0)
    }

    /// The candidates; none unless the channel answered.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        match &self.outcome {
            Outcome::Answered(found) => found,
            _ => &[],
        }
    }

    /// How many candidates are wanting, where a fallback should stand in.
    fn wanting(&self, lane: &Lane) -> Option<usize> {
        match &self.outcome {
            Outcome::Skipped(STRANGER) => None,
            Outcome::Answered(found) if found.len() >= lane.short.min(lane.quota) => None,
            _ if lane.standby => None,
            _ => Some(lane.quota - self.candidates().len()),
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
            fallback: None,
            short: 1,
            standby: false,
            tail: false,
            hung: Arc::default(),
        }
    }

    /// Items per round that are the channel's own: a channel on standby has only what it takes over.
    pub(crate) fn own_weight(&self) -> f32 {
        if self.standby { 0.0 } else { self.weight }
    }

    /// Why the channel is not asked, if it is not.
    fn idle(&self, personal: bool) -> Option<&'static str> {
        if self.personal && !personal {
            return Some(STRANGER);
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

/// Candidates to ask each lane for; `None` where it is not asked.
type Wanted = Vec<Option<usize>>;

/// Every lane that is not on standby, for its quota times `widen`.
fn own(lanes: &[Lane], widen: usize) -> Wanted {
    lanes.iter().map(|l| (!l.standby).then_some(l.quota.saturating_mul(widen))).collect()
}

/// Asks by `wave`, then once more the fallbacks of those that failed, were late or were short: each for its own quota and
/// for what is wanting, since a longer list of a channel begins with its shorter one.
fn with_fallbacks(lanes: &[Lane], mut wave: impl FnMut(&Wanted) -> Vec<Option<Run>>) -> Vec<Run> {
    let asked = wave(&own(lanes, 1));
    let idle = || Run::skipped("on standby");
    let mut runs: Vec<Run> = asked.into_iter().map(|run| run.unwrap_or_else(idle)).collect();
    let mut wanted: Wanted = vec![None; lanes.len()];
    let mut moved: Vec<(usize, usize, f32)> = Vec::new();
    for (at, lane) in lanes.iter().enumerate() {
        let (Some(to), Some(wanting)) = (lane.fallback, runs[at].wanting(lane)) else { continue };
        let answered = matches!(runs[to].outcome, Outcome::Answered(_));
        if lanes[to].standby || answered {
            let own = if lanes[to].standby { 0 } else { lanes[to].quota };
            wanted[to] = Some(wanted[to].unwrap_or(own) + wanting);
            moved.push((at, to, lane.weight * wanting as f32 / lane.quota as f32));
        }
    }
    if moved.is_empty() {
        return runs;
    }
    for (at, run) in wave(&wanted).into_iter().enumerate() {
        let Some(run) = run else { continue };
        // What it gave at first is better than nothing.
        if lanes[at].standby || matches!(run.outcome, Outcome::Answered(_)) {
            let micros = runs[at].micros + run.micros;
            runs[at] = Run { micros, ..run };
        }
    }
    for (from, to, weight) in moved {
        runs[to].inherited += weight;
        runs[to].stands_in.push(from as u16);
    }
    runs
}

/// First occurrences, at most `k`.
fn lawful(found: Vec<Candidate>, k: usize) -> Vec<Candidate> {
    let mut met = RapidHashSet::default();
    found.into_iter().filter(|c| met.insert(c.item)).take(k).collect()
}

/// One after the other on this thread, without deadlines: for batches, where the same request must give the
/// same feed however busy the machine is.
pub(crate) fn in_turn(lanes: &[Lane], call: &Call) -> Vec<Run> {
    with_fallbacks(lanes, |wanted| {
        lanes.iter().zip(wanted).map(|(lane, k)| k.map(|k| alone(lane, call, k))).collect()
    })
}

/// One after the other on this thread, without deadlines, for `widen` times the quotas; what fails is done without. For
/// work in the background. Lanes of tails are left out.
pub(crate) fn widely(lanes: &[Lane], call: &Call, widen: usize) -> Vec<Run> {
    let wanted = own(lanes, widen);
    let ask = |(lane, k): (&Lane, &Option<usize>)| match k {
        Some(k) if !lane.tail => alone(lane, call, *k),
        _ => Run::skipped("not in the background"),
    };
    lanes.iter().zip(&wanted).map(ask).collect()
}

/// Every lane's own list, one after the other, without fallbacks; `quota` replaces the lanes' own.
pub(crate) fn each(lanes: &[Lane], call: &Call, quota: Option<usize>) -> Recalled {
    let mut out = Recalled::default();
    for lane in lanes {
        let run = match lane.standby {
            true => Run::skipped("on standby"),
            false => alone(lane, call, quota.unwrap_or(lane.quota)),
        };
        out.micros.push(run.micros);
        let (list, failure) = match run.outcome {
            Outcome::Answered(found) => (Some(found), None),
            Outcome::Failed(why) => (Some(Vec::new()), Some(why)),
            Outcome::Late | Outcome::Skipped(_) => (None, None),
        };
        out.lists.push(list);
        out.failures.push(failure);
    }
    out
}

fn alone(lane: &Lane, call: &Call, k: usize) -> Run {
    if lane.personal && !call.request.is_personal() {
        return Run::skipped(STRANGER);
    }
    let start = Instant::now();
    let outcome = Lane::ask(&*lane.channel, call, k);
    Run::new(outcome, start.elapsed().as_micros() as u64)
}

const RUNNING: u8 = 0;
const GIVEN_UP: u8 = 1;
const DONE: u8 = 2;

/// All at once on `pool`, each until its deadline; then the fallbacks that are needed, each until its own. The
/// caller must not be a worker of `pool`.
pub(crate) fn at_once(lanes: &[Lane], call: &Arc<Call>, pool: &ThreadPool) -> Vec<Run> {
    with_fallbacks(lanes, |wanted| together(lanes, wanted, call, pool))
}

fn together(lanes: &[Lane], wanted: &Wanted, call: &Arc<Call>, pool: &ThreadPool) -> Vec<Option<Run>> {
    let personal = call.request.is_personal();
    let start = Instant::now();
    let (tx, rx) = mpsc::channel();
    let mut runs: Vec<Option<Run>> = Vec::with_capacity(lanes.len());
    let mut states = Vec::with_capacity(lanes.len());
    let mut waited = wanted.clone();
    for (at, lane) in lanes.iter().enumerate() {
        let state = Arc::new(AtomicU8::new(RUNNING));
        let idle = lane.idle(personal);
        runs.push(idle.filter(|_| wanted[at].is_some()).map(Run::skipped));
        match (wanted[at], idle) {
            (Some(k), None) => spawn((lane, k), (call, &state), pool, (at, tx.clone())),
            _ => waited[at] = None,
        }
        states.push(state);
    }
    drop(tx);
    collect(lanes, &waited, (&rx, start), &mut runs);
    let late = |at: usize| {
        if states[at].swap(GIVEN_UP, Ordering::AcqRel) == RUNNING {
            lanes[at].hung.fetch_add(1, Ordering::AcqRel);
        }
        Run::new(Outcome::Late, start.elapsed().as_micros() as u64)
    };
    let missing = |(at, run): (usize, Option<Run>)| run.or_else(|| waited[at].map(|_| late(at)));
    runs.into_iter().enumerate().map(missing).collect()
}

fn spawn(
    (lane, quota): (&Lane, usize),
    (call, state): (&Arc<Call>, &Arc<AtomicU8>),
    pool: &ThreadPool,
    (at, tx): (usize, mpsc::Sender<(usize, Run)>),
) {
    let (channel, hung) = (lane.channel.clone(), lane.hung.clone());
    let (call, state) = (call.clone(), state.clone());
    pool.spawn(move || {
        let begun = Instant::now();
        if state.load(Ordering::Acquire) == RUNNING {
            let outcome = Lane::ask(&*channel, &call, quota);
            // Nobody listens when the request has given up; that is no fault.
            let _ = tx.send((at, Run::new(outcome, begun.elapsed().as_micros() as u64)));
        }
        if state.swap(DONE, Ordering::AcqRel) == GIVEN_UP {
            hung.fetch_sub(1, Ordering::AcqRel);
        }
    });
}

/// Takes answers until all that are waited for are there or every missing one's deadline has passed.
fn collect(
    lanes: &[Lane],
    waited: &Wanted,
    (rx, start): (&mpsc::Receiver<(usize, Run)>, Instant),
    runs: &mut [Option<Run>],
) {
    loop {
        let missing = (0..lanes.len()).filter(|&at| waited[at].is_some() && runs[at].is_none());
        let Some(last) = missing.map(|at| lanes[at].deadline).max() else { return };
        match rx.recv_timeout(last.saturating_sub(start.elapsed())) {
            // An answer that came after its own deadline is late even if others are still waited for.
            Ok((at, run)) if start.elapsed() <= lanes[at].deadline => runs[at] = Some(run),
            Ok((at, run)) => runs[at] = Some(Run { outcome: Outcome::Late, ..run }),
            Err(_) => return,
        }
    }
}
