//! What each user did lately, in memory: the history that models see and the items not to show again.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use millstream_schema::{Event, EventKind};
use rapidhash::{RapidHashMap, RapidHashSet};

use crate::{EventLog, Offset, Result, Stream};

/// Locks over which users are spread.
const SHARDS: usize = 64;
/// Events read at once when profiles are rebuilt.
const CHUNK: usize = 8192;

/// How much is remembered of each user.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Latest actions kept of each kind: many clicks leave the few orders before them.
    pub history: usize,
    /// Latest distinct items kept as seen: acted on or shown.
    pub seen: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history: 500, seen: 2000 }
    }
}

/// One action of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// The item's external id.
    pub item: Arc<str>,
    /// What the user did; never an impression.
    pub kind: EventKind,
    /// When, in epoch milliseconds.
    pub time_ms: i64,
    /// Strength of the action.
    pub value: f32,
}

/// A copy of what is known of one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// Oldest first; actions of the same instant in order of arrival.
    pub history: Vec<Action>,
    /// Items acted on or shown, the longest unseen first.
    pub seen: Vec<Arc<str>>,
}

#[derive(Default)]
struct Memory {
    history: VecDeque<Action>,
    seen: Seen,
}

/// Distinct items by the time they were last seen.
#[derive(Default)]
struct Seen {
    tick: u64,
    last: RapidHashMap<Arc<str>, u64>,
    /// In order of tick; entries that `last` no longer agrees with are stale.
    order: VecDeque<(u64, Arc<str>)>,
}

type Shard = RapidHashMap<Box<str>, Memory>;

/// The profiles of all users who ever did or saw something.
pub struct Profiles {
    limits: Limits,
    shards: Vec<RwLock<Shard>>,
    hasher: rapidhash::fast::RandomState,
    names: RwLock<RapidHashSet<Arc<str>>>,
}

impl Profiles {
    /// Nobody yet.
    pub fn new(limits: Limits) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { limits, shards, hasher: Default::default(), names: RwLock::default() }
    }

    /// Profiles as the ledger tells them; `progress` gets the events read and their number.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn rebuild(stream: &Stream, limits: Limits, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let forgotten = stream.records.forgotten()?;
        let profiles = Self::new(limits);
        let end: Offset = stream.ledger.end();
        let mut at = 0;
        while at < end {
            let chunk = stream.ledger.read(at, CHUNK.min((end - at) as usize))?;
            for (offset, event) in &chunk {
                if forgotten.get(&event.user).is_none_or(|from| offset >= from) {
                    profiles.apply(event);
                }
            }
            at += chunk.len() as u64;
            progress(at, end);
        }
        Ok(profiles)
    }

    /// Takes in one event, which may come out of order. Call it right after the durable append.
    pub fn apply(&self, event: &Event) {
        let item = self.intern(&event.item);
        let mut shard = write(self.shard(&event.user));
        if !shard.contains_key(event.user.as_str()) {
            shard.insert(event.user.as_str().into(), Memory::default());
        }
        let Some(memory) = shard.get_mut(event.user.as_str()) else { return };
        memory.seen.note(item.clone(), self.limits.seen);
        if event.kind.is_action() {
            let action =
                Action { item, kind: event.kind.clone(), time_ms: event.time_ms, value: event.value };
            insert(&mut memory.history, action, self.limits.history);
        }
    }

    /// What is known of the user; `None` when nothing is.
    pub fn get(&self, user: &str) -> Option<Profile> {
        let shard = read(self.shard(user));
        let memory = shard.get(user)?;
        Some(Profile { history: memory.history.iter().cloned().collect(), seen: memory.seen.items() })
    }

    /// Forgets the user; see [`Records::forget_user`](crate::Records::forget_user) for the durable part.
    pub fn forget(&self, user: &str) {
        write(self.shard(user)).remove(user);
    }

    /// Number of users with a profile.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| read(s).len()).sum()
    }

    /// Whether nobody has a profile.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, user: &str) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one(user) as usize % SHARDS]
    }

    /// One copy of each item id for all profiles.
    fn intern(&self, item: &str) -> Arc<str> {
        if let Some(name) = read(&self.names).get(item) {
            return name.clone();
        }
        let mut names = write(&self.names);
        if let Some(name) = names.get(item) {
            return name.clone();
        }
        let name: Arc<str> = item.into();
        names.insert(name.clone());
        name
    }
}

/// Puts the action in its place by time; of its kind the oldest goes where there are more than `limit`.
fn insert(history: &mut VecDeque<Action>, action: Action, limit: usize) {
    let at = history.partition_point(|a| a.time_ms <= action.time_ms);
    let same = |a: &Action| a.kind == action.kind;
    // Only a user with many actions can have too many of one kind.
    let full = history.len() >= limit && history.iter().filter(|a| same(a)).count() >= limit;
    let oldest = if full { history.iter().position(same) } else { None };
    match oldest {
        Some(oldest) if oldest < at => {
            history.remove(oldest);
            history.insert(at - 1, action);
        }
        Some(_) => {}
        None if full => {}
        None => history.insert(at, action),
    }
}

impl Seen {
    fn note(&mut self, item: Arc<str>, limit: usize) {
        self.tick += 1;
        self.last.insert(item.clone(), self.tick);
        self.order.push_back((self.tick, item));
        while self.last.len() > limit {
            self.drop_front();
        }
        if self.order.len() > 2 * limit.max(8) {
            let last = &self.last;
            self.order.retain(|(tick, item)| last.get(item) == Some(tick));
        }
    }

    fn drop_front(&mut self) {
        if let Some((tick, item)) = self.order.pop_front()
            && self.last.get(&item) == Some(&tick)
        {
            self.last.remove(&item);
        }
    }

    fn items(&self) -> Vec<Arc<str>> {
        let fresh = self.order.iter().filter(|(tick, item)| self.last.get(item) == Some(tick));
        fresh.map(|(_, item)| item.clone()).collect()
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(item: usize, kind: EventKind, time_ms: i64) -> Event {
        Event {
            user: "u".into(),
            item: format!("i{item}"),
            kind,
            time_ms,
            value: 1.0,
            request: None,
            position: None,
        }
    }

    #[test]
    fn a_history_is_the_latest_actions_by_time_whatever_the_order_of_arrival() {
        let profiles = Profiles::new(Limits { history: 20, seen: 100 });
        let mut times: Vec<i64> = (0..60).map(|i| (i * 37) % 61).collect();
        for (i, &t) in times.iter().enumerate() {
            profiles.apply(&event(i, EventKind::Click, t));
        }
        times.sort_unstable();
        let got: Vec<i64> = profiles.get("u").unwrap().history.iter().map(|a| a.time_ms).collect();
        assert_eq!(got, times[40..]);
    }

    #[test]
    fn clicks_push_no_order_out() {
        let profiles = Profiles::new(Limits { history: 4, seen: 100 });
        profiles.apply(&event(0, EventKind::Order, 1));
        (0..50).for_each(|i| profiles.apply(&event(1, EventKind::Click, 10 + i)));
        profiles.apply(&event(2, EventKind::Order, 0));
        let history = profiles.get("u").unwrap().history;
        let told: Vec<_> = history.iter().map(|a| (a.kind.as_str(), a.time_ms)).collect();
        let clicks = (56..60).map(|t| ("click", t));
        assert_eq!(told, [("order", 0), ("order", 1)].into_iter().chain(clicks).collect::<Vec<_>>());
        let none = Profiles::new(Limits { history: 0, seen: 100 });
        none.apply(&event(0, EventKind::Order, 1));
        assert_eq!(none.get("u").unwrap().history, []);
    }

    #[test]
    fn impressions_are_seen_but_no_history() {
        let profiles = Profiles::new(Limits::default());
        profiles.apply(&event(1, EventKind::Impression, 5));
        let profile = profiles.get("u").unwrap();
        assert!(profile.history.is_empty());
        assert_eq!(profile.seen, ["i1".into()]);
        profiles.forget("u");
        assert_eq!(profiles.get("u"), None);
    }

    #[test]
    fn seen_items_are_those_a_naive_list_keeps() {
        let limit = 10;
        let profiles = Profiles::new(Limits { history: 5, seen: limit });
        let mut naive: Vec<String> = Vec::new();
        for step in 0..500usize {
            let item = (step * step * 7 + step / 3) % 23;
            profiles.apply(&event(item, EventKind::Impression, 0));
            naive.retain(|i| *i != format!("i{item}"));
            naive.push(format!("i{item}"));
            if naive.len() > limit {
                naive.remove(0);
            }
            let seen = profiles.get("u").unwrap().seen;
            assert_eq!(seen.iter().map(|s| s.to_string()).collect::<Vec<_>>(), naive);
        }
    }
}
