//! Who acted on what: the input of counting models, grouped by user and by item.

use millstream_schema::ItemRow;
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
    fn check(&self) -> Result<(), Error> {
        let sound = self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last() == Some(&(self.item.len() as u64))
            && (self.time_ms.is_empty() || self.time_ms.len() == self.item.len())
            && self.item.iter().all(|&i| (i as usize) < self.items);
        if sound { Ok(()) } else { Err(Error::Corrupt("the lists of positives do not hold together".into())) }
    }
}

/// Distinct members per row, rising, with the time of the latest action.
#[derive(Debug, Default)]
pub(crate) struct Grouped {
    offsets: Vec<usize>,
    pub(crate) member: Vec<u32>,
    pub(crate) time_ms: Vec<i64>,
}

impl Grouped {
    /// Distinct items of each user, the latest `most` of them (0: all).
    pub(crate) fn by_user(positives: &Positives<'_>, most: usize) -> Result<Self, Error> {
        positives.check()?;
        let mut out = Self { offsets: vec![0], ..Self::default() };
        let mut list: Vec<(ItemRow, i64)> = Vec::new();
        for span in positives.offsets.windows(2) {
            list.clear();
            list.extend(
                (span[0] as usize..span[1] as usize)
                    .map(|at| (positives.item[at], positives.time_ms.get(at).copied().unwrap_or(0))),
            );
            distinct(&mut list, most);
            out.member.extend(list.iter().map(|x| x.0));
            out.time_ms.extend(list.iter().map(|x| x.1));
            out.offsets.push(out.member.len());
        }
        Ok(out)
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn span(&self, row: usize) -> Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }

    /// Rows and members exchanged; members stay in rising order.
    pub(crate) fn transposed(&self, members: usize) -> Self {
        let mut offsets = vec![0usize; members + 1];
        for &m in &self.member {
            offsets[m as usize + 1] += 1;
        }
        for i in 0..members {
            offsets[i + 1] += offsets[i];
        }
        let mut next = offsets.clone();
        let mut member = vec![0u32; self.member.len()];
        let mut time_ms = vec![0i64; self.member.len()];
        for row in 0..self.rows() {
            for at in self.span(row) {
                let to = &mut next[self.member[at] as usize];
                member[*to] = row as u32;
                time_ms[*to] = self.time_ms[at];
                *to += 1;
            }
        }
        Self { offsets, member, time_ms }
    }
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
