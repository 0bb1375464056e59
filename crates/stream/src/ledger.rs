//! The ledger: every event, in order of arrival, durable before it is acknowledged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fjall::{Keyspace, PersistMode};
use millstream_schema::Event;

use crate::group::Group;
use crate::mark::Mark;
use crate::shelf::Shelf;
use crate::{Error, Result, code, id};

/// Place of an event in the ledger: 0, 1, 2, … without gaps.
pub type Offset = u64;

/// A durable log of events.
pub trait EventLog: Send + Sync {
    /// Appends events in order, all or none; gives the offset of the first. `Ok` means durable.
    ///
    /// After an `Err` nothing was acknowledged; events of a write that failed half-way may still be
    /// found after a restart (at least once).
    ///
    /// # Errors
    /// An id is not fit to be stored, or the disk is full or fails.
    fn append(&self, events: &[Event]) -> Result<Offset>;

    /// At most `max` events from offset `from` on, in order.
    ///
    /// # Errors
    /// The stored bytes are damaged or cannot be read.
    fn read(&self, from: Offset, max: usize) -> Result<Vec<(Offset, Event)>>;

    /// The offset that the next event will get: the number of events held.
    fn end(&self) -> Offset;
}

/// What to tell of each write: events in it, and how long it took with its fsync.
type Observer = Box<dyn Fn(usize, Duration) + Send + Sync>;

/// The [`EventLog`] on disk. Threads that append at the same time share one fsync.
pub struct Ledger {
    shelf: Arc<Shelf>,
    events: Keyspace,
    group: Group<Vec<u8>, Error>,
    end: AtomicU64,
    mark: Mutex<Mark>,
    observer: OnceLock<Observer>,
}

impl Ledger {
    pub(crate) fn open(shelf: Arc<Shelf>, mut mark: Mark, marked: Option<u64>) -> Result<Self> {
        let events = shelf.keyspace("events")?;
        let end = shelf.read(|| events.last_key_value().map(|last| last.key()).transpose())?;
        let end = match end {
            None => 0,
            Some(key) => offset_of(&key).ok_or_else(|| Error::corrupt(shelf.dir(), BAD_KEY))? + 1,
        };
        check_mark(&shelf, &mark, marked, end)?;
        mark.set(end);
        let (end, mark) = (AtomicU64::new(end), Mutex::new(mark));
        Ok(Self { shelf, events, group: Group::new(), end, mark, observer: OnceLock::new() })
    }

    /// Has `observer` told of each write: the events in it and the time until they were durable.
    /// Only the first observer is kept.
    pub fn observe(&self, observer: impl Fn(usize, Duration) + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Writes one group and waits until it is durable; only one thread is ever here.
    fn commit(&self, values: Vec<Vec<u8>>) -> Result<Offset> {
        let started = Instant::now();
        let (first, count) = (self.end.load(Ordering::Acquire), values.len());
        let mut batch = self.shelf.db().batch().durability(Some(PersistMode::SyncAll));
        for (offset, value) in (first..).zip(values) {
            batch.insert(&self.events, offset.to_be_bytes(), value);
        }
        self.shelf.write(|| batch.commit())?;
        let end = first + count as u64;
        self.end.store(end, Ordering::Release);
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).set(end);
        if let Some(observer) = self.observer.get() {
            observer(count, started.elapsed());
        }
        Ok(first)
    }
}

const BAD_KEY: &str = "the ledger holds a key that is no offset";

/// A ledger that ends before what was acknowledged has lost events.
fn check_mark(shelf: &Shelf, mark: &Mark, marked: Option<u64>, end: u64) -> Result<()> {
    match marked {
        Some(marked) if marked > end => Err(Error::corrupt(
            shelf.dir(),
            format!(
                "{marked} events were acknowledged but only {end} can be read; restore it from a copy, \
                 or delete {} to go on without the lost ones",
                mark.path().display()
            ),
        )),
        _ => Ok(()),
    }
}

fn offset_of(key: &[u8]) -> Option<Offset> {
    key.try_into().ok().map(u64::from_be_bytes)
}

impl EventLog for Ledger {
    fn append(&self, events: &[Event]) -> Result<Offset> {
        if events.is_empty() {
            return Ok(self.end());
        }
        let values = events.iter().map(encode).collect::<Result<Vec<_>>>()?;
        let panicked = || Error::corrupt(self.shelf.dir(), "the writer of the ledger failed");
        self.group.submit(values, |values| self.commit(values), panicked)
    }

    fn read(&self, from: Offset, max: usize) -> Result<Vec<(Offset, Event)>> {
        // Only up to the acknowledged end: beyond it a write may be half visible.
        let until = self.end().min(from.saturating_add(max as u64));
        let mut out = Vec::with_capacity(until.saturating_sub(from) as usize);
        if until <= from {
            return Ok(out);
        }
        let mut range = self.events.range(from.to_be_bytes()..until.to_be_bytes());
        for offset in from..until {
            let pair = self.shelf.read(|| range.next().map(|kv| kv.into_inner()).transpose())?;
            let damaged = |reason: String| Error::corrupt(self.shelf.dir(), reason);
            match pair {
                Some((key, value)) if offset_of(&key) == Some(offset) => {
                    let event = code::event_of(&value);
                    out.push((offset, event.map_err(|e| damaged(format!("event {offset}: {e}")))?));
                }
                _ => return Err(damaged(format!("event {offset} is missing"))),
            }
        }
        Ok(out)
    }

    fn end(&self) -> Offset {
        self.end.load(Ordering::Acquire)
    }
}

fn encode(event: &Event) -> Result<Vec<u8>> {
    id::check("user", &event.user).and_then(|()| id::check("item", &event.item)).map_err(Error::Input)?;
    code::event_bytes(event).map_err(Error::Input)
}
