//! Counting tables follow the ledger: what came after the log counts from the start of a server on, and what comes while it
//! serves is taken in by a worker, some seconds' events at a time. Requests go on with the tables that there are.
//!
//! ```text
//! RUN/live/log_end   how many of the ledger's events are the log's own, which the tables know
//! ```

use millstream_data::{Interactions, PositiveRule, Prepared, Split, write_text};
use millstream_models::recall::positives::{Changes, Event as Taken};
use millstream_pipeline::live::RefreshConfig;
use millstream_pipeline::{Pipeline, Snapshot, UserRows};
use millstream_schema::{Clock, Event, UserRow};
use millstream_serve::engine::Count;
use millstream_stream::{EventLog, Offset, Stream};
use rayon::ThreadPoolBuilder;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::chain::Chain;
use crate::counted::{Counted, Following};

/// Events read at once.
const PAGE: usize = 4096;
/// Positives on items without a record that are kept until there is one.
const WAITING: usize = 100_000;
const LOG_END: &str = "log_end";

/// Writes down how many of the ledger's events the log's are.
pub fn note_log_end(live: &Path, end: Offset) -> Result<(), Failure> {
    Ok(write_text(&live.join(LOG_END), &format!("{end}\n"))?)
}

/// The reverse. Ledgers that were made before this was written down begin with the positives of the log.
pub fn log_end(live: &Path, prepared: &Prepared) -> Result<Offset, Failure> {
    let file = live.join(LOG_END);
    match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map_err(|_| {
            let short = text.trim().chars().take(40).collect::<String>();
            format!("{}: `{short}` is no number of events", file.display()).into()
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let parts = Split::ALL.into_iter().map(|s| prepared.interactions(s));
            let parts = parts.collect::<Result<Vec<Interactions>, _>>()?;
            Ok(parts.iter().map(|p| p.items.len() as Offset).sum())
        }
        Err(e) => Err(format!("{}: {e}", file.display()).into()),
    }
}

/// What has been done since the server started.
#[derive(Default)]
struct Done {
    refreshes: AtomicU64,
    events: AtomicU64,
    failed: AtomicU64,
    last_time_ms: AtomicU64,
    last_events: AtomicU64,
    last_ms: AtomicU64,
}

/// What the worker is told.
#[derive(Default)]
struct Heard {
    /// Positives since it last looked.
    events: u64,
    /// Whether a user was forgotten.
    left: bool,
    /// Whether there is another reason to look: an item has come that actions may wait for, or the last look failed.
    look: bool,
    stop: bool,
}

#[derive(Default)]
struct Signal {
    heard: Mutex<Heard>,
    changed: Condvar,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was heard until it was time, or enough; `None` at the end.
    fn wait(&self, config: &RefreshConfig) -> Option<Heard> {
        let idle = |h: &mut Heard| !h.stop && (config.events == 0 || h.events < config.events);
        let time = Duration::from_secs(config.every_s);
        let waited = self.changed.wait_timeout_while(self.lock(), time, idle);
        let mut heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        if heard.stop { None } else { Some(std::mem::take(&mut *heard)) }
    }
}

/// A positive on an item without a record.
struct Waiting {
    user: UserRow,
    item: String,
    time_ms: i64,
}

/// A table, and its positives once something has come.
type Entry = (Counted, Option<Following>);

/// The tables with how far they have followed the ledger.
struct Follower {
    tables: Vec<Entry>,
    prepared: Arc<Prepared>,
    pipeline: Arc<Pipeline>,
    stream: Stream,
    rule: PositiveRule,
    rows: Arc<UserRows>,
    /// The row of the next user who is met for the first time.
    next_user: UserRow,
    /// Offsets before which a user's events do not count.
    forgotten: HashMap<String, Offset>,
    next: Offset,
    waiting: VecDeque<Waiting>,
    changes: Changes,
    clock: Arc<dyn Clock>,
    done: Arc<Done>,
}

impl Follower {
    /// Reads what came, `left` telling whether to look for forgotten users, and has the tables follow.
    fn refresh(&mut self, left: bool) -> Result<(), Failure> {
        let started = Instant::now();
        self.look(left).inspect_err(|_| _ = self.done.failed.fetch_add(1, Relaxed))?;
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        let before = self.tables.len();
        self.tables.retain_mut(|entry| match follow(entry, &self.prepared, &changes) {
            Ok(()) => true,
            Err(error) => {
                let name = &entry.0.name;
                tracing::warn!("table `{name}` stays as it is until the server is started again: {error}");
                false
            }
        });
        let done = &self.done;
        let events = changes.events.len() as u64;
        done.failed.fetch_add((before - self.tables.len()) as u64, Relaxed);
        done.last_time_ms.store(self.clock.now_ms().max(0) as u64, Relaxed);
        done.last_events.store(events, Relaxed);
        done.last_ms.store(started.elapsed().as_millis() as u64, Relaxed);
        done.events.fetch_add(events, Relaxed);
        done.refreshes.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Puts what came among the changes. What was put there before an error is not lost.
    fn look(&mut self, left: bool) -> Result<(), Failure> {
        let catalogue = self.pipeline.catalogue().snapshot();
        if left {
            self.forget(&catalogue)?;
        }
        for Waiting { user, item, time_ms } in std::mem::take(&mut self.waiting) {
            self.take(&catalogue, user, item, time_ms);
        }
        let end = self.stream.ledger.end();
        while self.next < end {
            let page = self.stream.ledger.read(self.next, PAGE.min((end - self.next) as usize))?;
            let Some((last, _)) = page.last() else { break };
            let last = *last;
            for (offset, event) in page {
                let counts = self.forgotten.get(&event.user).is_none_or(|&from| offset >= from);
                if counts && self.rule.holds(&event.kind, event.value) {
                    self.hear(&catalogue, event);
                }
            }
            self.next = last + 1;
        }
        Ok(())
    }

    /// Takes out who was forgotten since the last look. What they did after that counts; if it was taken in before the forgetting was
    /// heard of, it is read once more.
    fn forget(&mut self, catalogue: &Snapshot) -> Result<(), Failure> {
        let forgotten = self.stream.records.forgotten()?.into_iter();
        let newly: HashMap<String, Offset> =
            forgotten.filter(|(user, from)| self.forgotten.get(user) != Some(from)).collect();
        let (mut again, mut at) = (Vec::new(), newly.values().copied().min().unwrap_or(self.next));
        while at < self.next {
            let page = self.stream.ledger.read(at, PAGE.min((self.next - at) as usize))?;
            let Some((last, _)) = page.last() else { break };
            at = last + 1;
            let theirs =
                page.into_iter().filter(|(offset, e)| newly.get(&e.user).is_some_and(|f| offset >= f));
            again.extend(theirs.map(|x| x.1).filter(|e| self.rule.holds(&e.kind, e.value)));
        }
        let rows = newly.keys().filter_map(|user| Some((self.row(user)?, user)));
        let gone: HashMap<UserRow, &String> = rows.collect();
        self.waiting.retain(|w| !gone.contains_key(&w.user));
        self.changes.events.retain(|e| !gone.contains_key(&e.user));
        for (&row, user) in &gone {
            self.rows.note(user, row);
            self.changes.forgotten.push(row);
        }
        self.forgotten.extend(newly);
        again.into_iter().for_each(|event| self.hear(catalogue, event));
        Ok(())
    }

    fn row(&self, user: &str) -> Option<UserRow> {
        self.prepared.users.get(user).or_else(|| self.rows.later(user))
    }

    fn hear(&mut self, catalogue: &Snapshot, event: Event) {
        let user = self.row(&event.user).unwrap_or_else(|| {
            let row = self.next_user;
            self.rows.note(&event.user, row);
            self.next_user += 1;
            row
        });
        self.take(catalogue, user, event.item, event.time_ms);
    }

    fn take(&mut self, catalogue: &Snapshot, user: UserRow, item: String, time_ms: i64) {
        match catalogue.item(&item) {
            Some(item) => self.changes.events.push(Taken { user, item, time_ms }),
            None => {
                self.waiting.push_back(Waiting { user, item, time_ms });
                if self.waiting.len() > WAITING {
                    self.waiting.pop_front();
                }
            }
        }
    }
}

/// Has a table follow. Its positives are read with the first changes, so that they take no memory where none come.
fn follow((counted, following): &mut Entry, prepared: &Prepared, changes: &Changes) -> Result<(), Failure> {
    match following {
        Some(following) => following.follow(changes),
        None => following.insert(Following::new(counted, prepared)?).follow(changes),
    }
}

/// Keeps the tables of a server up with its ledger. Dropping it lets a refresh that is under way end.
pub struct Refresher {
    signal: Arc<Signal>,
    done: Arc<Done>,
    rule: PositiveRule,
    thread: Option<JoinHandle<()>>,
}

impl Refresher {
    /// Has the chain's tables take in what the ledger holds from `log_end` on, and starts the worker, unless the configuration turns
    /// it off.
    pub fn start(
        chain: &Chain,
        (stream, log_end): (&Stream, Offset),
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let (done, rule) = (Arc::new(Done::default()), chain.prepared.positive()?);
        let mut follower = Follower {
            tables: chain.counted.iter().map(|counted| (counted.clone(), None)).collect(),
            prepared: chain.prepared.clone(),
            pipeline: chain.pipeline.clone(),
            stream: stream.clone(),
            rule: rule.clone(),
            rows: chain.pipeline.resources().user_rows.clone(),
            next_user: chain.prepared.users.len() as UserRow,
            forgotten: HashMap::new(),
            next: log_end,
            waiting: VecDeque::new(),
            changes: Changes::default(),
            clock,
            done: done.clone(),
        };
        follower.refresh(true)?;
        let signal = Arc::new(Signal::default());
        let mut out = Self { signal: signal.clone(), done, rule, thread: None };
        let config = chain.pipeline.config().recall.refresh.clone();
        if config.every_s > 0 {
            let failed = |e: &dyn std::fmt::Display| format!("cannot start a thread for counting: {e}");
            // Threads of its own: those that answer requests are not to wait behind a table.
            let threads = ThreadPoolBuilder::new().num_threads(config.threads);
            let pool = threads.thread_name(|at| format!("refresh-{at}")).build().map_err(|e| failed(&e))?;
            let mut run = move |left| pool.install(|| follower.refresh(left));
            let work = move || work(&signal, &config, &mut run);
            let thread = std::thread::Builder::new().name("refresh".into()).spawn(work);
            out.thread = Some(thread.map_err(|e| failed(&e))?);
        }
        Ok(out)
    }

    /// Hears of events that are in the ledger.
    pub fn heard(&self, events: &[Event]) {
        let positives = events.iter().filter(|e| self.rule.holds(&e.kind, e.value)).count() as u64;
        if positives > 0 {
            self.signal.lock().events += positives;
            self.signal.changed.notify_all();
        }
    }

    /// Hears of a user who is forgotten.
    pub fn user_left(&self) {
        self.signal.lock().left = true;
    }

    /// Hears of an item with a new record.
    pub fn item_came(&self) {
        self.signal.lock().look = true;
    }

    /// For `/metrics`.
    pub fn counts(&self) -> Vec<Count> {
        let count = |name, help, value| Count { name, help, value };
        let of = |x: &AtomicU64| x.load(Relaxed);
        let done = &self.done;
        vec![
            count(
                "millstream_refresh_total",
                "Times that counting tables took events in, at the start or while serving.",
                of(&done.refreshes),
            ),
            count("millstream_refresh_events_total", "Positive actions that they took in.", of(&done.events)),
            count(
                "millstream_refresh_failed_total",
                "Refreshes that failed, and tables that stay as they are.",
                of(&done.failed),
            ),
            count(
                "millstream_refresh_last_time_ms",
                "When the last refresh ended, epoch milliseconds; 0 before the first.",
                of(&done.last_time_ms),
            ),
            count(
                "millstream_refresh_last_events",
                "Positive actions of the last one.",
                of(&done.last_events),
            ),
            count("millstream_refresh_last_ms", "Milliseconds that the last one took.", of(&done.last_ms)),
            count(
                "millstream_refresh_waiting",
                "Positive actions that came since the worker last looked.",
                self.signal.lock().events,
            ),
        ]
    }
}

/// Refreshes whenever something was heard, until the end.
fn work(signal: &Signal, config: &RefreshConfig, refresh: &mut dyn FnMut(bool) -> Result<(), Failure>) {
    while let Some(heard) = signal.wait(config) {
        if heard.events == 0 && !heard.left && !heard.look {
            continue;
        }
        match catch_unwind(AssertUnwindSafe(|| refresh(heard.left))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("counting tables wait for the next refresh: {error}");
                let mut next = signal.lock();
                next.left |= heard.left;
                next.look = true;
            }
            Err(_) => {
                tracing::error!("counting tables stay as they are until the server is started again");
                return;
            }
        }
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        self.signal.lock().stop = true;
        self.signal.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Panics of a refresh are caught; there is nothing to hear of the thread.
            let _ = thread.join();
        }
    }
}
