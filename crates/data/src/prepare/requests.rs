//! Impressions to requests, actions to the impressions they answer.

use millstream_schema::ids::NO_ROW;
use rapidhash::RapidHashMap;

use super::events::Events;
use crate::config::Task;

/// Requests of a log, in the order of their first impression.
pub(super) struct Requests {
    /// `[R]` users.
    pub(super) user: Vec<u32>,
    /// `[R]` time of the first impression.
    pub(super) time_ms: Vec<i64>,
    /// `[R]` the first impression, an event.
    pub(super) first: Vec<u32>,
    /// `[R + 1]` into `shown`.
    offsets: Vec<u32>,
    /// Impressions (events) by request, by position, then time.
    shown: Vec<u32>,
    /// By event: its request; of an action, that of the impression it answers, or [`NO_ROW`].
    pub(super) of: Vec<u32>,
}

type ByKey = RapidHashMap<(u32, u64), u32>;

impl Requests {
    /// Groups impressions by user and request id; without one, by user and moment.
    pub(super) fn group(events: &Events) -> (Self, ByKey) {
        let impressions = events.impressions();
        let mut by_key = ByKey::default();
        let mut out = Self {
            user: Vec::new(),
            time_ms: Vec::new(),
            first: Vec::new(),
            offsets: Vec::new(),
            shown: Vec::new(),
            of: vec![NO_ROW; events.len()],
        };
        for at in 0..events.len() {
            if !impressions[usize::from(events.kind[at])] {
                continue;
            }
            let request = *by_key.entry(key(events, at)).or_insert_with(|| {
                out.user.push(events.user[at]);
                out.time_ms.push(events.time_ms[at]);
                out.first.push(at as u32);
                out.user.len() as u32 - 1
            });
            out.of[at] = request;
        }
        out.arrange(events);
        (out, by_key)
    }

    /// Fills `offsets` and `shown` from `of` by counting.
    fn arrange(&mut self, events: &Events) {
        let mut ends = vec![0u32; self.user.len() + 1];
        self.of.iter().filter(|&&r| r != NO_ROW).for_each(|&r| ends[r as usize + 1] += 1);
        for i in 1..ends.len() {
            ends[i] += ends[i - 1];
        }
        self.offsets.clone_from(&ends);
        self.shown = vec![0; ends.last().map_or(0, |&n| n as usize)];
        for (at, &request) in self.of.iter().enumerate().filter(|(_, r)| **r != NO_ROW) {
            let end = &mut ends[request as usize];
            self.shown[*end as usize] = at as u32;
            *end += 1;
        }
        for request in 0..self.user.len() {
            let span = self.offsets[request] as usize..self.offsets[request + 1] as usize;
            self.shown[span].sort_by_key(|&at| events.position_at(at as usize));
        }
    }

    /// R.
    pub(super) fn len(&self) -> usize {
        self.user.len()
    }

    /// The impressions of a request.
    pub(super) fn shown(&self, request: u32) -> &[u32] {
        &self.shown[self.offsets[request as usize] as usize..self.offsets[request as usize + 1] as usize]
    }

    /// The latest impression of `item` in `request`, not after `time_ms`.
    pub(super) fn impression(&self, events: &Events, request: u32, item: u32, time_ms: i64) -> Option<u32> {
        let fits = |&&at: &&u32| events.item[at as usize] == item && events.time_ms[at as usize] <= time_ms;
        self.shown(request).iter().filter(fits).max().copied()
    }
}

fn key(events: &Events, at: usize) -> (u32, u64) {
    let request = match events.request_at(at) {
        // A moment is never taken for a request id: ids are hashes, moments are small.
        0 => events.time_ms[at] as u64,
        request => request,
    };
    (events.user[at], request)
}

/// By event, one bit per task: of an action, the tasks it is a positive of; of an impression, the tasks
/// whose action answered it.
pub(super) fn label(events: &Events, tasks: &[Task], grouped: Option<(&mut Requests, &ByKey)>) -> Vec<u32> {
    let kinds: Vec<u32> = events
        .kinds
        .iter()
        .map(|kind| mask(tasks, |t| matches!(t, Task::Event { event, .. } if event == kind)))
        .collect();
    let own = |at: usize| {
        let bits = kinds[usize::from(events.kind[at])];
        if bits == 0 {
            return 0;
        }
        let value = events.value_at(at);
        bits & mask(
            tasks,
            |t| matches!(t, Task::Event { min_value, .. } if min_value.is_none_or(|least| value >= least)),
        )
    };
    let mut bits: Vec<u32> = (0..events.len()).map(own).collect();
    if let Some((requests, by_key)) = grouped {
        answer(events, tasks, (requests, by_key), &mut bits);
    }
    bits
}

fn mask(tasks: &[Task], test: impl Fn(&Task) -> bool) -> u32 {
    tasks.iter().enumerate().filter(|(_, t)| test(t)).fold(0, |bits, (at, _)| bits | 1 << at)
}

/// Hands each action's bits to the impression it answers: with a request id, the one of the same
/// request; without, the user's latest of the item within the task's window.
fn answer(events: &Events, tasks: &[Task], (requests, by_key): (&mut Requests, &ByKey), bits: &mut [u32]) {
    let impressions = events.impressions();
    let is_shown = |at: usize| impressions[usize::from(events.kind[at])];
    let by_item = (0..events.len()).any(|at| !is_shown(at) && events.request_at(at) == 0);
    let mut latest: RapidHashMap<(u32, u32), u32> = RapidHashMap::default();
    for at in 0..events.len() {
        let (user, item, time_ms) = (events.user[at], events.item[at], events.time_ms[at]);
        if is_shown(at) {
            if by_item {
                latest.insert((user, item), at as u32);
            }
            continue;
        }
        let (shown, allowed) = match events.request_at(at) {
            0 => {
                let Some(&shown) = latest.get(&(user, item)) else { continue };
                (shown, within(tasks, time_ms - events.time_ms[shown as usize]))
            }
            request => {
                let request = by_key.get(&(user, request));
                let Some(shown) = request.and_then(|&r| requests.impression(events, r, item, time_ms)) else {
                    continue;
                };
                (shown, u32::MAX)
            }
        };
        bits[shown as usize] |= bits[at] & allowed;
        if allowed != 0 {
            requests.of[at] = requests.of[shown as usize];
        }
    }
}

/// The tasks whose window is at least so long.
fn within(tasks: &[Task], gap_ms: i64) -> u32 {
    mask(
        tasks,
        |t| matches!(t, Task::Event { window_hours, .. } if gap_ms as f64 <= window_hours * 3_600_000.0),
    )
}
