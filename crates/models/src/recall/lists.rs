//! Inverted lists: item → (neighbour, score), the one form of all item-to-item tables.
//!
//! ItemCF, Swing and neighbours by embeddings differ in how they score a pair; what serves them is the same. A history's score
//! for item b is Σ_{a in history} weight_a · s(a → b).

use std::cell::RefCell;

use millstream_schema::ItemRow;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::envelope;
use crate::recall::positives::Grouped;
use crate::recall::top::top;

const MAGIC: &[u8; 8] = b"MSINVLST";
const VERSION: u32 = 1;
/// Tables of ItemCF had a magic of their own.
const OLD_MAGIC: &[u8; 8] = b"MSITEMCF";
const OLD_VERSION: u32 = 1;
/// Rows, at least, that are counted again to tell whether lists are those of their positives.
const SAMPLE: usize = 16;

/// The most similar items of every item (or users of every user).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvertedLists {
    kind: Box<str>,
    /// `[items + 1]`.
    offsets: Vec<u64>,
    /// (neighbour, score), falling per item, ties by row.
    entries: Vec<(ItemRow, f32)>,
}

/// The content of an ItemCF table of version 1.
#[derive(Serialize, Deserialize)]
struct OldItemCf {
    offsets: Vec<u64>,
    entries: Vec<(ItemRow, f32)>,
}

impl InvertedLists {
    pub(crate) fn new(kind: &str, offsets: Vec<u64>, entries: Vec<(ItemRow, f32)>) -> Self {
        Self { kind: kind.into(), offsets, entries }
    }

    /// What scored the pairs: `item_cf`, `user_cf`, `swing`, `vectors` or `clusters`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Number of items known.
    pub fn items(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of (item, neighbour) pairs kept.
    pub fn pairs(&self) -> usize {
        self.entries.len()
    }

    /// The item's neighbours with their scores, best first; none for an unknown item.
    pub fn neighbours(&self, item: ItemRow) -> &[(ItemRow, f32)] {
        match self.offsets.get(item as usize..item as usize + 2) {
            Some(span) => &self.entries[span[0] as usize..span[1] as usize],
            None => &[],
        }
    }

    /// The best `k` items for a weighted history among those that `keep` lets through, best first, ties by
    /// row. Items of the history itself are candidates too: it is for `keep` to leave them out.
    pub fn recommend(
        &self,
        history: &[(ItemRow, f32)],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.grow(self.items());
            for &(item, weight) in history {
                for &(other, similarity) in self.neighbours(item) {
                    scratch.add(other, weight * similarity);
                }
            }
            let mut best = Vec::with_capacity(scratch.touched.len());
            scratch.drain(|item, score| {
                if score > 0.0 && keep(item) {
                    best.push((item, score));
                }
            });
            top(&mut best, k);
            best
        })
    }

    /// Scores of all items for a weighted history, for full ranking; `out` is `[items]`, overwritten, and may
    /// be longer than the items known.
    pub fn score_into(&self, history: &[(ItemRow, f32)], out: &mut [f32]) {
        out.fill(0.0);
        for &(item, weight) in history {
            for &(other, similarity) in self.neighbours(item) {
                if let Some(slot) = out.get_mut(other as usize) {
                    *slot += weight * similarity;
                }
            }
        }
    }

    /// The same lists with those of `rows` (rising) replaced by `fresh`, in that order.
    pub(crate) fn replaced(&self, items: usize, rows: &[ItemRow], fresh: &Self) -> Self {
        let mut offsets = Vec::with_capacity(items + 1);
        let mut entries = Vec::with_capacity(self.entries.len() + fresh.entries.len());
        offsets.push(0);
        let mut next = rows.iter().enumerate().peekable();
        for item in 0..items as u32 {
            match next.next_if(|x| *x.1 == item) {
                Some((at, _)) => entries.extend_from_slice(fresh.neighbours(at as u32)),
                None => entries.extend_from_slice(self.neighbours(item)),
            }
            offsets.push(entries.len() as u64);
        }
        Self { kind: self.kind.clone(), offsets, entries }
    }

    /// A few rows that have members in `by_row` or a list, evenly spread and rising.
    pub(crate) fn sample(&self, by_row: &Grouped) -> Vec<ItemRow> {
        let has = |row: &u32| by_row.count(*row as usize) > 0 || !self.neighbours(*row).is_empty();
        let met: Vec<ItemRow> = (0..by_row.rows() as u32).filter(has).collect();
        met.iter().copied().step_by((met.len() / SAMPLE).max(1)).collect()
    }

    /// Whether the lists of `rows` are those of `fresh`, in that order.
    pub(crate) fn holds(&self, rows: &[ItemRow], fresh: &Self) -> bool {
        (0u32..).zip(rows).all(|(at, &row)| self.neighbours(row) == fresh.neighbours(at))
    }

    /// Magic, version, xxh3 of the rest, then kind, offsets and entries.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        envelope::seal(MAGIC, VERSION, self)
    }

    /// The reverse of [`InvertedLists::to_bytes`], which reads ItemCF tables of former versions too; every inner length and
    /// row is checked.
    ///
    /// # Errors
    /// The bytes are not such lists, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let what = "a table of inverted lists";
        let read: Self = if bytes.starts_with(OLD_MAGIC) {
            let old: OldItemCf = envelope::open(OLD_MAGIC, OLD_VERSION, "an ItemCF table", bytes)?;
            Self::new("item_cf", old.offsets, old.entries)
        } else {
            envelope::open(MAGIC, VERSION, what, bytes)?
        };
        if read.sound() { Ok(read) } else { Err(Error::Corrupt(format!("{what} does not hold together"))) }
    }

    pub(crate) fn sound(&self) -> bool {
        let items = self.offsets.len().checked_sub(1);
        self.offsets.first() == Some(&0)
            && self.offsets.is_sorted()
            && self.offsets.last() == Some(&(self.entries.len() as u64))
            && self.entries.iter().all(|(row, s)| Some(*row as usize) < items && s.is_finite())
    }
}

/// A dense row of sums with the places that were touched.
#[derive(Default)]
struct Scratch {
    sums: Vec<f32>,
    met: Vec<bool>,
    touched: Vec<ItemRow>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

impl Scratch {
    fn grow(&mut self, items: usize) {
        if self.sums.len() < items {
            self.sums.resize(items, 0.0);
            self.met.resize(items, false);
        }
    }

    fn add(&mut self, item: ItemRow, x: f32) {
        let at = item as usize;
        if !self.met[at] {
            self.met[at] = true;
            self.touched.push(item);
        }
        self.sums[at] += x;
    }

    /// Gives every touched place once and leaves all zero.
    fn drain(&mut self, mut take: impl FnMut(ItemRow, f32)) {
        let Self { sums, met, touched } = self;
        for &item in touched.iter() {
            let at = item as usize;
            take(item, std::mem::take(&mut sums[at]));
            met[at] = false;
        }
        touched.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> InvertedLists {
        InvertedLists::new("swing", vec![0, 2, 2, 3], vec![(1, 0.5), (2, 0.25), (0, 1.0)])
    }

    #[test]
    fn bytes_come_back_and_damage_is_found() {
        let bytes = lists().to_bytes().unwrap();
        assert_eq!(InvertedLists::from_bytes(&bytes).unwrap(), lists());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            assert!(InvertedLists::from_bytes(&bad).is_err(), "byte {at}");
        }
        assert!(InvertedLists::from_bytes(&bytes[..10]).unwrap_err().to_string().contains("too short"));
        let mut loose = lists();
        loose.entries[0].0 = 3;
        assert!(InvertedLists::from_bytes(&loose.to_bytes().unwrap()).is_err());
    }

    /// The bytes of a table of ItemCF as the version before inverted lists wrote them: items 0 → (1, 0.5), 1 → (0, 0.5).
    const OLD: &[u8] = &[
        77, 83, 73, 84, 69, 77, 67, 70, 1, 0, 0, 0, 135, 63, 150, 241, 49, 99, 36, 147, 3, 0, 1, 2, 2, 1, 0,
        0, 0, 63, 0, 0, 0, 0, 63,
    ];

    #[test]
    fn a_table_of_the_former_version_is_still_read() {
        let read = InvertedLists::from_bytes(OLD).unwrap();
        assert_eq!(read.kind(), "item_cf");
        assert_eq!(read.neighbours(0), [(1, 0.5)]);
        assert_eq!(read.neighbours(1), [(0, 0.5)]);
        assert_eq!(read.items(), 2);
    }

    #[test]
    fn some_rows_can_be_replaced_and_others_added() {
        let fresh = InvertedLists::new("swing", vec![0, 1, 3], vec![(3, 9.0), (0, 2.0), (2, 1.0)]);
        let all = lists().replaced(4, &[1, 3], &fresh);
        assert_eq!(all.neighbours(0), lists().neighbours(0));
        assert_eq!(all.neighbours(1), [(3, 9.0)]);
        assert_eq!(all.neighbours(2), lists().neighbours(2));
        assert_eq!(all.neighbours(3), [(0, 2.0), (2, 1.0)]);
    }
}
