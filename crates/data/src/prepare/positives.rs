//! Actions by user, each with the part it belongs to.

use millstream_schema::ids::NO_ROW;
use xxhash_rust::xxh3::xxh3_64;

use super::events::Events;
use super::requests::Requests;
use crate::Split;
use crate::interactions::{Actions, NO_TARGET};
use crate::split::{RatioSplit, TimeSplit};

/// A log or sequences, ready to be made into examples.
pub(super) struct Story {
    pub(super) actions: Actions,
    /// By action: its event; empty for sequences.
    pub(super) event_of: Vec<u32>,
    /// Actions that are positives of the first task in some part, in time order.
    pub(super) targets: Vec<u32>,
    /// Empty for sequences.
    pub(super) events: Events,
    /// By event: bits of the tasks; empty for sequences.
    pub(super) bits: Vec<u32>,
    /// Where the log has impressions.
    pub(super) requests: Option<Requests>,
    /// The part of each request.
    pub(super) request_split: Vec<Split>,
}

/// How a log is cut.
pub(super) enum Cut {
    Time(TimeSplit),
    /// Each user's last positive tests, the one before may validate.
    LastOut {
        valid: bool,
    },
    Ratio(RatioSplit),
}

impl Story {
    /// Lays the actions of a log out by user and finds the part of each, and of each request.
    pub(super) fn of_log(
        events: Events,
        bits: Vec<u32>,
        requests: Option<Requests>,
        users: usize,
        cut: &Cut,
    ) -> Self {
        let (mut actions, event_of) = by_user(&events, users);
        let mut out = Self {
            targets: Vec::new(),
            request_split: Vec::new(),
            actions: Actions::default(),
            event_of,
            events,
            bits,
            requests,
        };
        match cut {
            Cut::Time(split) => out.cut_time(&mut actions, split),
            Cut::LastOut { valid } => out.cut_last(&mut actions, *valid),
            Cut::Ratio(split) => out.cut_ratio(&mut actions, split),
        }
        out.actions = actions;
        out.list_targets();
        out
    }

    /// The tasks that an action is a positive of, as bits.
    pub(super) fn bits_of(&self, place: usize) -> u32 {
        self.event_of.get(place).map_or(1, |&event| self.bits[event as usize])
    }

    /// The request an action answers.
    pub(super) fn request_of(&self, place: usize) -> Option<u32> {
        let requests = self.requests.as_ref()?;
        self.event_of.get(place).map(|&e| requests.of[e as usize]).filter(|&r| r != NO_ROW)
    }

    fn cut_time(&mut self, actions: &mut Actions, split: &TimeSplit) {
        actions.split = actions.time_ms.iter().map(|&t| split.part(t) as u8).collect();
        actions.target = actions.split.clone();
        if let Some(requests) = &self.requests {
            self.request_split = requests.time_ms.iter().map(|&t| split.part(t)).collect();
        }
    }

    /// When the choice was made that an action tells of: at its request, where that is known.
    fn moment(&self, actions: &Actions, place: usize) -> i64 {
        let request = self.request_of(place).zip(self.requests.as_ref());
        request.map_or(actions.time_ms[place], |(r, all)| all.time_ms[r as usize])
    }

    fn cut_last(&mut self, actions: &mut Actions, validates: bool) {
        let mut cuts = vec![TimeSplit { valid_ms: i64::MAX, test_ms: i64::MAX }; actions.users()];
        for user in 0..actions.users() as u32 {
            let span = actions.span(user);
            let positives: Vec<usize> = span.clone().filter(|&at| self.bits_of(at) & 1 == 1).collect();
            if let [_, .., valid, test] = positives[..] {
                let test_ms = self.moment(actions, test);
                let valid_ms = if validates { self.moment(actions, valid).min(test_ms) } else { test_ms };
                cuts[user as usize] = TimeSplit { valid_ms, test_ms };
            }
            let cut = cuts[user as usize];
            actions.split.extend(span.map(|at| cut.part(actions.time_ms[at]) as u8));
            // Among positives order decides, not time: equal times are common, and one is the last.
            positives.iter().for_each(|&at| actions.split[at] = Split::Train as u8);
            if let [_, .., valid, test] = positives[..] {
                if validates {
                    actions.split[valid] = Split::Valid as u8;
                }
                actions.split[test] = Split::Test as u8;
            }
        }
        actions.target = actions.split.clone();
        if let Some(requests) = &self.requests {
            let part = |(&user, &time): (&u32, &i64)| cuts[user as usize].part(time);
            self.request_split = requests.user.iter().zip(&requests.time_ms).map(part).collect();
        }
    }

    fn cut_ratio(&mut self, actions: &mut Actions, split: &RatioSplit) {
        if let Some(requests) = &self.requests {
            self.request_split = (0..requests.len() as u64).map(|r| split.part(r | 1 << 63)).collect();
        }
        for user in 0..actions.users() as u32 {
            for at in actions.span(user) {
                let part = match self.request_of(at) {
                    Some(request) => self.request_split[request as usize],
                    // All of a user's actions on an item stand or fall together.
                    None => {
                        split.part(xxh3_64(&[user.to_le_bytes(), actions.item[at].to_le_bytes()].concat()))
                    }
                };
                actions.split.push(part as u8);
            }
        }
        actions.target = actions.split.clone();
    }

    /// Keeps targets at positives alone and lists them in time order.
    fn list_targets(&mut self) {
        for at in 0..self.actions.item.len() {
            if self.bits_of(at) & 1 == 0 {
                self.actions.target[at] = NO_TARGET;
            }
        }
        let target = &self.actions.target;
        self.targets = (0..target.len() as u32).filter(|&at| target[at as usize] != NO_TARGET).collect();
        // Events are in time order.
        self.targets.sort_by_key(|&at| self.event_of.get(at as usize).copied().unwrap_or(at));
    }
}

/// All actions by user, oldest first, and the event of each; parts are still to be found.
fn by_user(events: &Events, users: usize) -> (Actions, Vec<u32>) {
    let shown = events.impressions();
    let actions = || (0..events.len()).filter(|&at| !shown[usize::from(events.kind[at])]);
    let mut ends = vec![0u32; users + 1];
    actions().for_each(|at| ends[events.user[at] as usize + 1] += 1);
    for i in 1..ends.len() {
        ends[i] += ends[i - 1];
    }
    let offsets = ends.clone();
    let mut event_of = vec![0u32; ends.last().map_or(0, |&n| n as usize)];
    for at in actions() {
        let end = &mut ends[events.user[at] as usize];
        event_of[*end as usize] = at as u32;
        *end += 1;
    }
    let codes: Vec<u16> = events.kinds.iter().map(|k| k.code()).collect();
    let each = || event_of.iter().map(|&e| e as usize);
    let actions = Actions {
        offsets,
        item: each().map(|e| events.item[e]).collect(),
        time_ms: each().map(|e| events.time_ms[e]).collect(),
        kind: each().map(|e| codes[usize::from(events.kind[e])]).collect(),
        value: each().map(|e| events.value_at(e)).collect(),
        split: Vec::new(),
        target: Vec::new(),
    };
    (actions, event_of)
}

/// When each user was first positive about an item.
pub(super) struct FirstPositives {
    offsets: Vec<u32>,
    /// Per user by item.
    items: Vec<(u32, i64)>,
}

impl FirstPositives {
    pub(super) fn of(story: &Story) -> Self {
        let (mut offsets, mut items) = (vec![0], Vec::new());
        let actions = &story.actions;
        for user in 0..actions.users() as u32 {
            let positive = |&at: &usize| story.bits_of(at) & 1 == 1;
            let mut own: Vec<(u32, i64)> = actions
                .span(user)
                .filter(positive)
                .map(|at| (actions.item[at], actions.time_ms[at]))
                .collect();
            own.sort_unstable();
            own.dedup_by_key(|(item, _)| *item);
            items.extend(own);
            offsets.push(items.len() as u32);
        }
        Self { offsets, items }
    }

    /// Whether the user was positive about the item at `time_ms` or before. O(log).
    pub(super) fn knows(&self, user: u32, item: u32, time_ms: i64) -> bool {
        let own = &self.items[self.offsets[user as usize] as usize..self.offsets[user as usize + 1] as usize];
        own.binary_search_by_key(&item, |(i, _)| *i).is_ok_and(|at| own[at].1 <= time_ms)
    }
}
