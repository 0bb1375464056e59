//! Who did what: all actions by user in time order, and what evaluation takes from them.

use std::ops::Range;
use std::path::Path;

use millstream_schema::examples::Action;
use millstream_schema::ids::NO_ROW;
use millstream_schema::{History, Kinds, Remembered};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::layout::{Reader, Writer};
use crate::sealed::{self, Seal, corrupt};
use crate::{Error, Split};

const SEAL: Seal = Seal { magic: *b"MSaction", version: 1 };
/// Stands in [`Actions::target`] for "no positive of any part".
pub(crate) const NO_TARGET: u8 = u8::MAX;

/// Rows of several values each: row r owns `values[offsets[r]..offsets[r + 1]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ragged<T> {
    /// `[rows + 1]`, rising, from 0.
    pub offsets: Vec<u32>,
    /// All values.
    pub values: Vec<T>,
}

impl<T> Default for Ragged<T> {
    fn default() -> Self {
        Self { offsets: vec![0], values: Vec::new() }
    }
}

impl<T> Ragged<T> {
    /// Adds a row.
    pub fn push(&mut self, values: impl IntoIterator<Item = T>) {
        self.values.extend(values);
        self.offsets.push(self.values.len() as u32);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One row's values.
    pub fn row(&self, row: usize) -> &[T] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// Actions by user, in time order.
#[derive(Debug, Clone, PartialEq)]
pub struct Interactions {
    /// `[U + 1]`: user u owns the places `offsets[u]..offsets[u + 1]`.
    pub offsets: Vec<u32>,
    /// Catalogue rows.
    pub items: Vec<u32>,
    /// Epoch milliseconds, rising per user.
    pub time_ms: Vec<i64>,
    /// [`millstream_schema::EventKind::code`].
    pub kind: Vec<u16>,
    /// The actions' values.
    pub value: Vec<f32>,
}

impl Interactions {
    /// Number of users, with and without positives.
    pub fn users(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The items of one user, oldest first.
    pub fn items_of(&self, user: u32) -> &[u32] {
        &self.items[self.offsets[user as usize] as usize..self.offsets[user as usize + 1] as usize]
    }
}

/// Users to evaluate retrieval on: those with both a past and a future.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalUsers {
    /// User rows, rising.
    pub users: Vec<u32>,
    /// For each, the moment at which the part begins, epoch milliseconds.
    pub time_ms: Vec<i64>,
    /// For each, the past actions of the kinds that enter histories, all before that moment and all of
    /// them: the assembler takes the latest as it does in training.
    pub history: History,
    /// For each, the distinct items of the first task's positives in the part that are neither in
    /// `seen` nor outside their lifetime at that moment; never empty.
    pub truth: Ragged<u32>,
    /// For each, the distinct items acted on before, by the kinds of `[examples]` seen_events, rising; empty where the data
    /// was prepared with repeats = true.
    pub seen: Ragged<u32>,
}

/// Every action of every user, by user, oldest first. 19 bytes per action, impressions left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Actions {
    /// `[U + 1]`.
    pub(crate) offsets: Vec<u32>,
    pub(crate) item: Vec<u32>,
    pub(crate) time_ms: Vec<i64>,
    pub(crate) kind: Vec<u16>,
    pub(crate) value: Vec<f32>,
    /// The part from which on the action is visible.
    pub(crate) split: Vec<u8>,
    /// The part whose positive of the first task the action is, or [`NO_TARGET`].
    pub(crate) target: Vec<u8>,
}

/// When each user's part begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// At one moment for all.
    At(i64),
    /// At the user's first positive in the part.
    FirstPositive,
    /// After all the user's actions: parts do not follow each other in time.
    AfterAll,
}

/// What [`Actions::eval_users`] needs to know besides the actions.
pub(crate) struct EvalRules<'a> {
    pub(crate) split: Split,
    pub(crate) start: Start,
    /// Whether users without positives in the part are left out.
    pub(crate) future: bool,
    /// Kinds that enter histories.
    pub(crate) kinds: &'a Kinds,
    /// Lifetimes of the items.
    pub(crate) created_ms: &'a [i64],
    pub(crate) retired_ms: &'a [i64],
    /// Kinds of action after which an item may neither be shown nor be right, if there are any.
    pub(crate) barred: Option<&'a Kinds>,
}

impl Actions {
    pub(crate) fn users(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    pub(crate) fn span(&self, user: u32) -> std::ops::Range<usize> {
        self.offsets[user as usize] as usize..self.offsets[user as usize + 1] as usize
    }

    pub(crate) fn action(&self, at: usize) -> Action {
        Action { item: self.item[at], time_ms: self.time_ms[at], kind: self.kind[at], value: self.value[at] }
    }

    /// Adds to `out` the actions that a request of `user` at `time_ms` in `split` carries, of those that it may know: strictly
    /// earlier and visible to the part. O(log + those gone through until every list is full).
    pub(crate) fn push_history(
        &self,
        (user, time_ms, split): (u32, i64, Split),
        remembered: &Remembered,
        scratch: &mut Vec<usize>,
        out: &mut History,
    ) {
        scratch.clear();
        if user != NO_ROW {
            let span = self.span(user);
            let end = span.start + self.time_ms[span.clone()].partition_point(|&t| t < time_ms);
            let mut picker = remembered.picker();
            let known = (span.start..end).rev().filter(|&at| self.split[at] <= split as u8);
            for at in known {
                if picker.is_full() {
                    break;
                }
                if picker.takes(self.kind[at]) {
                    scratch.push(at);
                }
            }
        }
        out.push(scratch.iter().rev().map(|&at| self.action(at)));
    }

    /// Positives of the first task in one part; with none, all actions.
    pub(crate) fn interactions(&self, split: Option<Split>) -> Interactions {
        let mut out =
            Interactions { offsets: vec![0], items: vec![], time_ms: vec![], kind: vec![], value: vec![] };
        let wanted = |&at: &usize| split.is_none_or(|split| self.target[at] == split as u8);
        for user in 0..self.users() as u32 {
            for at in self.span(user).filter(wanted) {
                out.items.push(self.item[at]);
                out.time_ms.push(self.time_ms[at]);
                out.kind.push(self.kind[at]);
                out.value.push(self.value[at]);
            }
            out.offsets.push(out.items.len() as u32);
        }
        out
    }

    /// How often each item is a positive of the training part.
    pub(crate) fn item_positives(&self, items: usize) -> Vec<u32> {
        let mut counts = vec![0u32; items];
        for (&item, &target) in self.item.iter().zip(&self.target) {
            if target == Split::Train as u8 {
                counts[item as usize] += 1;
            }
        }
        counts
    }

    /// Users with a past, and a future where the rules ask for one; with `most`, a seeded draw of so many of them.
    pub(crate) fn eval_users(&self, rules: &EvalRules<'_>, most: Option<usize>, seed: u64) -> EvalUsers {
        let mut users: Vec<u32> = (0..self.users() as u32)
            .filter(|&u| self.has_past(u, rules) && !(rules.future && self.future(u, rules).is_empty()))
            .collect();
        if let Some(most) = most.filter(|&m| m < users.len()) {
            users.sort_by_cached_key(|u| (xxh3_64_with_seed(&u.to_le_bytes(), seed), *u));
            users.truncate(most);
            users.sort_unstable();
        }
        let mut out = EvalUsers {
            time_ms: users.iter().map(|&u| self.start(u, rules)).collect(),
            history: History::default(),
            truth: Ragged::default(),
            seen: Ragged::default(),
            users,
        };
        for &user in &out.users {
            let in_history = |&at: &usize| rules.kinds.holds(self.kind[at]);
            out.history.push(self.past(user, rules).filter(in_history).map(|at| self.action(at)));
            out.truth.push(self.future(user, rules));
            out.seen.push(self.barred(user, rules));
        }
        out
    }

    fn start(&self, user: u32, rules: &EvalRules<'_>) -> i64 {
        let span = self.span(user);
        match rules.start {
            Start::At(time_ms) => time_ms,
            Start::FirstPositive => {
                let first = span.clone().find(|&at| self.target[at] == rules.split as u8);
                first.map_or_else(|| self.after(span), |at| self.time_ms[at])
            }
            Start::AfterAll => self.after(span),
        }
    }

    /// The moment after the last of these actions.
    fn after(&self, span: Range<usize>) -> i64 {
        span.last().map_or(i64::MAX, |at| self.time_ms[at].saturating_add(1))
    }

    /// Places of the user's actions before the part.
    fn past<'a>(&'a self, user: u32, rules: &EvalRules<'_>) -> impl Iterator<Item = usize> + 'a {
        let (start, split) = (self.start(user, rules), rules.split as u8);
        self.span(user).filter(move |&at| self.split[at] < split && self.time_ms[at] < start)
    }

    fn has_past(&self, user: u32, rules: &EvalRules<'_>) -> bool {
        self.past(user, rules).any(|at| rules.kinds.holds(self.kind[at]))
    }

    /// Distinct items that may not be shown, rising.
    fn barred(&self, user: u32, rules: &EvalRules<'_>) -> Vec<u32> {
        let barred = |&at: &usize| rules.barred.is_some_and(|kinds| kinds.holds(self.kind[at]));
        distinct(self.past(user, rules).filter(barred).map(|at| self.item[at]))
    }

    /// The items to be found.
    fn future(&self, user: u32, rules: &EvalRules<'_>) -> Vec<u32> {
        let span = self.span(user);
        if !span.clone().any(|at| self.target[at] == rules.split as u8) {
            return Vec::new();
        }
        let start = self.start(user, rules);
        let seen = self.barred(user, rules);
        let alive =
            |item: u32| rules.created_ms[item as usize] <= start && start < rules.retired_ms[item as usize];
        let wanted = span.filter(|&at| self.target[at] == rules.split as u8).map(|at| self.item[at]);
        distinct(wanted.filter(|&item| alive(item) && seen.binary_search(&item).is_err()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let mut writer = Writer::default();
        writer.ints(&self.offsets);
        writer.ints(&self.item);
        writer.times(&self.time_ms);
        writer.ints(&self.kind);
        writer.floats(&self.value);
        writer.ints(&self.split);
        writer.ints(&self.target);
        sealed::write(path, SEAL, &writer.bytes)
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = sealed::read(path, SEAL)?;
        let mut reader = Reader::new(&bytes);
        let mut fields = || {
            let out = Self {
                offsets: reader.u32s()?,
                item: reader.u32s()?,
                time_ms: reader.times()?,
                kind: reader.kinds()?,
                value: reader.floats()?,
                split: reader.u8s()?,
                target: reader.u8s()?,
            };
            reader.end().map(|()| out)
        };
        let out = fields().map_err(|reason| corrupt(path, reason))?;
        let n = out.item.len();
        let lengths = [out.time_ms.len(), out.kind.len(), out.value.len(), out.split.len(), out.target.len()];
        let offsets = &out.offsets;
        let ends = offsets.first() == Some(&0) && offsets.last().is_some_and(|&e| e as usize == n);
        if lengths.iter().any(|&l| l != n) || !ends || !offsets.is_sorted() {
            return Err(corrupt(path, "its columns have different lengths"));
        }
        Ok(out)
    }
}

fn distinct(items: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut items: Vec<u32> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}
