//! Who acted on what: the input of counting models, grouped by user and by item.

use millstream_schema::{ItemRow, UserRow};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

use crate::Error;

/// Positive actions per user: user u owns places `offsets[u]..offsets[u + 1]`.
#[derive(Debug, Clone, Copy)]
pub struct Positives<'a> {
    /// Number of items in the catalogue; every row is below it.
    pub items: usize,
    /// `[U + 1]`, rising, from 0.
    pub offsets: &'a [u64],
    /// Item rows, in any order; repeats count once.
    pub item: &'a [ItemRow],
    /// Time of each action, epoch milliseconds; empty where times are not known.
    pub time_ms: &'a [i64],
}

impl Positives<'_> {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let sound = self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last() == Some(&(self.item.len() as u64))
            && (self.time_ms.is_empty() || self.time_ms.len() == self.item.len())
            && self.item.iter().all(|&i| (i as usize) < self.items);
        if sound { Ok(()) } else { Err(Error::Corrupt("the lists of positives do not hold together".into())) }
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn span(&self, user: usize) -> Range<usize> {
        self.offsets[user] as usize..self.offsets[user + 1] as usize
    }
}

/// One positive action that came after the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub user: UserRow,
    /// On what.
    pub item: ItemRow,
    /// When, epoch milliseconds; 0 where times are not known.
    pub time_ms: i64,
}

/// What came after: users whose positives so far count no longer, and then further positives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In any order; rows that are not known do no harm.
    pub forgotten: Vec<UserRow>,
    /// In any order, of known and of new users and items.
    pub events: Vec<Event>,
}

impl Changes {
    /// Further events alone.
    pub(crate) fn of(events: &[Event]) -> Self {
        Self { forgotten: Vec::new(), events: events.to_vec() }
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.forgotten.is_empty() && self.events.is_empty()
    }

    /// The lists by user as they are now, and the number of items.
    pub(crate) fn applied(&self, by_user: &Grouped, items: usize, most: usize) -> (Grouped, usize) {
        let (events, users, items) = Event::by_user(&self.events, by_user.rows(), items);
        let mut forgotten = self.forgotten.clone();
        forgotten.sort_unstable();
        (by_user.with(users, (&forgotten, &events), most), items)
    }
}

impl Event {
    /// (user, item, time) by rising user; rows beyond the known ones count, so the numbers of users and items come too.
    pub(crate) fn by_user(
        events: &[Self],
        users: usize,
        items: usize,
    ) -> (Vec<(u32, u32, i64)>, usize, usize) {
        let mut sorted: Vec<(u32, u32, i64)> = events.iter().map(|e| (e.user, e.item, e.time_ms)).collect();
        sorted.sort_unstable();
        let users = sorted.last().map_or(users, |e| users.max(e.0 as usize + 1));
        let items = sorted.iter().map(|e| e.1 as usize + 1).fold(items, usize::max);
        (sorted, users, items)
    }
}

/// Users in one unit of parallel work.
const BLOCK: usize = 1024;

/// Distinct members per row, rising, with the time of the latest action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grouped {
    offsets: Vec<usize>,
    pub(crate) member: Vec<u32>,
    /// Empty where times are not known.
    pub(crate) time_ms: Vec<i64>,
}

/// Rows by member: what [`Grouped::turned`] makes.
pub(crate) struct Turned<N> {
    /// `[members + 1]`.
    pub(crate) offsets: Vec<usize>,
    /// Of the rows of each member, in the order in which they were gone through.
    pub(crate) name: Vec<N>,
    /// Beside `name`; empty where times are not known.
    pub(crate) time_ms: Vec<i64>,
}

impl Grouped {
    /// Distinct items of each user, the latest `most` of them (0: all).
    pub(crate) fn by_user(positives: &Positives<'_>, most: usize) -> Result<Self, Error> {
        positives.check()?;
        let users = positives.users();
        let timed = !positives.time_ms.is_empty();
        let as_asked = |user| {
            let list = &positives.item[positives.span(user)];
            list.is_sorted_by(|a, b| a < b) && (most == 0 || list.len() <= most)
        };
        if (0..users).into_par_iter().with_min_len(BLOCK).all(as_asked) {
            return Ok(Self {
                offsets: positives.offsets.iter().map(|&end| end as usize).collect(),
                member: positives.item.to_vec(),
                time_ms: positives.time_ms.to_vec(),
            });
        }
        let blocks: Vec<(Vec<usize>, Vec<u32>, Vec<i64>)> = (0..users.div_ceil(BLOCK))
            .into_par_iter()
            .map(|b| {
                let users = b * BLOCK..((b + 1) * BLOCK).min(users);
                let places = positives.offsets[users.end] - positives.offsets[users.start];
                let mut out = (Vec::with_capacity(BLOCK), Vec::with_capacity(places as usize), Vec::new());
                let mut list = Vec::new();
                for user in users {
                    out.0.push(one_user(
                        positives,
                        positives.span(user),
                        most,
                        &mut list,
                        (&mut out.1, &mut out.2),
                    ));
                }
                out
            })
            .collect();
        let total = blocks.iter().map(|b| b.1.len()).sum();
        let mut out = Self {
            offsets: Vec::with_capacity(users + 1),
            member: Vec::with_capacity(total),
            time_ms: Vec::with_capacity(if timed { total } else { 0 }),
        };
        out.offsets.push(0);
        for (counts, member, time_ms) in blocks {
            let mut end = out.member.len();
            out.offsets.extend(counts.into_iter().map(|n| {
                end += n;
                end
            }));
            out.member.extend_from_slice(&member);
            out.time_ms.extend_from_slice(&time_ms);
        }
        Ok(out)
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn span(&self, row: usize) -> Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }

    pub(crate) fn of(&self, row: usize) -> &[u32] {
        &self.member[self.span(row)]
    }

    /// Times beside [`Grouped::of`]; empty where they are not known.
    pub(crate) fn times_of(&self, row: usize) -> &[i64] {
        self.time_ms.get(self.span(row)).unwrap_or(&[])
    }

    /// Number of members of the row.
    pub(crate) fn count(&self, row: usize) -> usize {
        self.offsets[row + 1] - self.offsets[row]
    }

    /// Time of the action at a place; 0 where times are not known.
    pub(crate) fn time(&self, at: usize) -> i64 {
        self.time_ms.get(at).copied().unwrap_or(0)
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.offsets.len() * size_of::<usize>() + self.member.len() * 4 + self.time_ms.len() * 8
    }

    /// Whether lengths and order are right, and every member is below `members`: for lists read from a file.
    pub(crate) fn sound(&self, members: usize) -> bool {
        self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last() == Some(&self.member.len())
            && (self.time_ms.is_empty() || self.time_ms.len() == self.member.len())
            && (0..self.rows()).all(|r| self.of(r).is_sorted_by(|a, b| a < b))
            && self.member.iter().all(|&m| (m as usize) < members)
    }

    /// Rows and members exchanged; members stay in rising order.
    pub(crate) fn transposed(&self, members: usize) -> Self {
        let mut counts = vec![0; members];
        self.member.iter().for_each(|&m| counts[m as usize] += 1);
        let turned = self.turned(&counts, 0..self.rows(), |row| row, |row| row as u32);
        Self { offsets: turned.offsets, member: turned.name, time_ms: turned.time_ms }
    }

    /// Some rows and their members exchanged: `row(at)` for each place of `places`, in that order, under the name `name(at)`;
    /// `counts` says how often each member is in them. In parallel over ranges of members, which are found in the rows' rising lists.
    pub(crate) fn turned<N: Copy + Default + Send>(
        &self,
        counts: &[usize],
        places: Range<usize>,
        row: impl Fn(usize) -> usize + Sync,
        name: impl Fn(usize) -> N + Sync,
    ) -> Turned<N> {
        let members = counts.len();
        let width = members.div_ceil(rayon::current_num_threads()).max(1);
        let within = |at: usize, from: usize| {
            let span = self.span(row(at));
            let list = &self.member[span.clone()];
            let before = |end: usize| match end {
                0 => 0,
                _ if end >= members => list.len(),
                _ => list.partition_point(|&m| (m as usize) < end),
            };
            span.start + before(from)..span.start + before(from + width)
        };
        let mut offsets = Vec::with_capacity(members + 1);
        offsets.push(0);
        counts.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
        let total = offsets[members];
        let mut names = vec![N::default(); total];
        let mut time_ms = vec![0i64; if self.time_ms.is_empty() { 0 } else { total }];
        let (mut rest, mut times, mut parts) = (&mut names[..], &mut time_ms[..], Vec::new());
        for starts in offsets[..members].chunks(width) {
            let from = parts.len() * width;
            let size = offsets[from + starts.len()] - starts[0];
            let (names, later) = rest.split_at_mut(size);
            let (stamps, later_stamps) = times.split_at_mut(size.min(times.len()));
            (rest, times) = (later, later_stamps);
            parts.push((from, starts, names, stamps));
        }
        parts.into_par_iter().for_each(|(from, starts, names, stamps)| {
            let mut next: Vec<usize> = starts.iter().map(|s| s - starts[0]).collect();
            for at in places.clone() {
                for taken in within(at, from) {
                    let to = &mut next[self.member[taken] as usize - from];
                    names[*to] = name(at);
                    if let Some(stamp) = stamps.get_mut(*to) {
                        *stamp = self.time_ms[taken];
                    }
                    *to += 1;
                }
            }
        });
        Turned { offsets, name: names, time_ms }
    }

    /// At most the latest `most` members of each row (0: all), ties to the lower member.
    pub(crate) fn latest(self, most: usize) -> Self {
        if most == 0 || (0..self.rows()).all(|r| self.count(r) <= most) {
            return self;
        }
        let mut out = Self { offsets: vec![0], ..Self::default() };
        let mut list = Vec::new();
        for row in 0..self.rows() {
            list.clear();
            list.extend(self.span(row).map(|at| (self.member[at], self.time(at))));
            distinct(&mut list, most);
            out.take(&list, !self.time_ms.is_empty());
        }
        out
    }

    /// The same lists without the members of the rows `forgotten`, which rise, and then with later events of some rows; `events` are
    /// (row, member, time) in rising order of rows. Rows beyond the known ones are added. `most` as in [`Grouped::by_user`].
    pub(crate) fn with(
        &self,
        rows: usize,
        (forgotten, events): (&[u32], &[(u32, u32, i64)]),
        most: usize,
    ) -> Self {
        let timed = !self.time_ms.is_empty() || self.member.is_empty();
        let mut out = Self { offsets: vec![0], ..Self::default() };
        let time = |t: i64| if timed { t } else { 0 };
        let (mut rest, mut list) = (events, Vec::new());
        for row in 0..rows {
            let (mine, later) = rest.split_at(rest.partition_point(|e| e.0 as usize <= row));
            rest = later;
            list.clear();
            if row < self.rows() && forgotten.binary_search(&(row as u32)).is_err() {
                list.extend(self.span(row).map(|at| (self.member[at], self.time(at))));
            }
            if !mine.is_empty() {
                list.extend(mine.iter().map(|e| (e.1, time(e.2))));
                distinct(&mut list, most);
            }
            out.take(&list, timed);
        }
        out
    }

    fn take(&mut self, list: &[(u32, i64)], timed: bool) {
        self.member.extend(list.iter().map(|x| x.0));
        if timed {
            self.time_ms.extend(list.iter().map(|x| x.1));
        }
        self.offsets.push(self.member.len());
    }
}

/// Appends a user's distinct items; returns how many.
fn one_user(
    positives: &Positives<'_>,
    span: Range<usize>,
    most: usize,
    list: &mut Vec<(ItemRow, i64)>,
    (member, time_ms): (&mut Vec<u32>, &mut Vec<i64>),
) -> usize {
    let items = &positives.item[span.clone()];
    let all = most == 0 || items.len() <= most;
    if all && positives.time_ms.is_empty() {
        let from = member.len();
        member.extend_from_slice(items);
        if !items.is_sorted_by(|a, b| a < b) {
            member[from..].sort_unstable();
            let mut sorted = member.split_off(from);
            sorted.dedup();
            member.append(&mut sorted);
        }
        return member.len() - from;
    }
    list.clear();
    list.extend(span.map(|at| (positives.item[at], positives.time_ms.get(at).copied().unwrap_or(0))));
    distinct(list, most);
    member.extend(list.iter().map(|x| x.0));
    if !positives.time_ms.is_empty() {
        time_ms.extend(list.iter().map(|x| x.1));
    }
    list.len()
}

/// One entry per item with its latest time, at most `most` latest ones, by rising item.
fn distinct(list: &mut Vec<(ItemRow, i64)>, most: usize) {
    list.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    list.dedup_by_key(|x| x.0);
    if most > 0 && list.len() > most {
        list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        list.truncate(most);
        list.sort_unstable_by_key(|x| x.0);
    }
}

/// Generated worlds for property tests of counting models.
#[cfg(test)]
pub(crate) mod worlds {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A log of (user, item, hour).
    #[derive(Debug, Clone)]
    pub(crate) struct World {
        pub(crate) users: usize,
        pub(crate) items: usize,
        pub(crate) events: Vec<Event>,
    }

    /// Up to `most` events of a few users on a few items; popular ones are drawn more often.
    pub(crate) fn worlds(most: usize) -> impl Strategy<Value = World> {
        (1usize..12, 1usize..14).prop_flat_map(move |(users, items)| {
            let (u, i) = (users as u32, items as u32);
            let event = (0..u, 0..i, 0..i, 0i64..200).prop_map(|(user, a, b, hour)| Event {
                user,
                item: a.min(b),
                time_ms: hour * 3_600_000,
            });
            prop::collection::vec(event, 0..most).prop_map(move |events| World { users, items, events })
        })
    }

    impl World {
        /// What `use_them` makes of the first `n` events, of users and items that occur in all of the log or, where `grow`, in these.
        pub(crate) fn first<R>(&self, n: usize, grow: bool, use_them: impl FnOnce(&Positives<'_>) -> R) -> R {
            let events = &self.events[..n];
            let most = |of: fn(&Event) -> u32| events.iter().map(|e| of(e) as usize + 1).max().unwrap_or(0);
            let users = if grow { most(|e| e.user) } else { self.users };
            let items = if grow { most(|e| e.item) } else { self.items };
            let (mut offsets, mut item, mut time_ms) = (vec![0u64], Vec::new(), Vec::new());
            for user in 0..users as u32 {
                for e in events.iter().filter(|e| e.user == user) {
                    item.push(e.item);
                    time_ms.push(e.time_ms);
                }
                offsets.push(item.len() as u64);
            }
            use_them(&Positives { items, offsets: &offsets, item: &item, time_ms: &time_ms })
        }

        /// The world in which the users of odd rows did nothing before event `n`, and those users.
        pub(crate) fn without_odd(&self, n: usize) -> (Self, Vec<u32>) {
            let kept = |(at, e): (usize, &Event)| (at >= n || e.user.is_multiple_of(2)).then_some(*e);
            let events = self.events.iter().enumerate().filter_map(kept).collect();
            (Self { events, ..*self }, (0..self.users as u32).filter(|u| !u.is_multiple_of(2)).collect())
        }

        /// Each user's items with the time of the latest action, the latest `most` of them.
        pub(crate) fn latest(&self, most: usize) -> Vec<BTreeMap<u32, i64>> {
            let mut lists = vec![BTreeMap::new(); self.users];
            for e in &self.events {
                let t = lists[e.user as usize].entry(e.item).or_insert(i64::MIN);
                *t = e.time_ms.max(*t);
            }
            for list in &mut lists {
                let mut by_time: Vec<(u32, i64)> = list.iter().map(|(i, t)| (*i, *t)).collect();
                by_time.sort_by_key(|x| (std::cmp::Reverse(x.1), x.0));
                by_time.truncate(if most == 0 { usize::MAX } else { most });
                *list = by_time.into_iter().collect();
            }
            lists
        }
    }
}
