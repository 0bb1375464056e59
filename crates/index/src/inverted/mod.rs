//! An inverted index: from a term (a category, a tag, an author, a keyword) to its items, best first.

mod file;
mod query;

use crate::error::{Error, Result};
use crate::hit::rank;
use millstream_schema::ItemRow;
use std::collections::{BTreeSet, HashMap};

/// The most bytes in a term.
const MAX_TERM: usize = 4096;

/// Items by term, each list ordered by the items' scores (popularity, freshness, quality).
///
/// An item has one score, finite and at least 0, and any number of terms. A term is any text that is not
/// empty; where one index holds several fields, let the caller write the field into the term (`tag:music`).
/// Ties are ordered by item. An f32 resolves epoch seconds to some two minutes only: for freshness, count
/// time from a start nearby.
///
/// A change costs O(t log n) for an item of t terms.
///
/// ```
/// use millstream_index::Inverted;
///
/// let mut index = Inverted::new();
/// index.upsert(1, 5.0, &["music", "live"])?;
/// index.upsert(2, 9.0, &["music"])?;
/// index.upsert(3, 7.0, &["news", "live"])?;
/// let items = |hits: Vec<millstream_index::Hit>| hits.iter().map(|hit| hit.item).collect::<Vec<_>>();
/// assert_eq!(items(index.top("music", 10, &|_| true)), [2, 1]);
/// assert_eq!(items(index.any(&["music", "live"], 2, &|_| true)), [2, 3]);
/// assert_eq!(items(index.all(&["music", "live"], 10, &|_| true)), [1]);
/// // 1: 5 · (1 + 2), 2: 9 · 1, 3: 7 · 2.
/// assert_eq!(items(index.weighted(&[("music", 1.0), ("live", 2.0)], 10, &|_| true)?), [1, 3, 2]);
/// # Ok::<(), millstream_index::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Inverted {
    numbers: HashMap<Box<str>, u32>,
    /// By number; a number without items is out of use.
    lists: Vec<List>,
    /// Numbers out of use.
    free: Vec<u32>,
    items: HashMap<ItemRow, Entry>,
}

/// A term and its items as ranks, see [`rank`]. The rank of an item is the same in all its lists, so lists
/// can be merged and intersected by rank.
#[derive(Debug, Clone, Default)]
struct List {
    term: Box<str>,
    ranks: BTreeSet<u64>,
}

/// What is known of an item.
#[derive(Debug, Clone)]
struct Entry {
    score: f32,
    /// Numbers of its terms, ascending, each once.
    terms: Box<[u32]>,
}

impl Inverted {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Items held.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no item is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The terms that have items, each with how many, in no order.
    pub fn terms(&self) -> impl Iterator<Item = (&str, usize)> {
        self.numbers.iter().map(|(term, &number)| (&**term, self.lists[number as usize].ranks.len()))
    }

    /// Items of a term.
    pub fn count(&self, term: &str) -> usize {
        self.list(term).map_or(0, |list| list.ranks.len())
    }

    /// The score of an item.
    pub fn score(&self, item: ItemRow) -> Option<f32> {
        self.items.get(&item).map(|entry| entry.score)
    }

    /// The terms of an item, in no order; none when it is not held.
    pub fn terms_of(&self, item: ItemRow) -> impl Iterator<Item = &str> {
        let numbers = self.items.get(&item).map_or(&[][..], |entry| &entry.terms);
        numbers.iter().map(|&number| &*self.lists[number as usize].term)
    }

    /// Puts an item with its score and terms, replacing those it had. A term named twice counts once.
    ///
    /// # Errors
    /// [`Error::Input`] when the score is negative or not finite, or a term is empty or longer than 4,096
    /// bytes; nothing has changed then.
    pub fn upsert(&mut self, item: ItemRow, score: f32, terms: &[&str]) -> Result<()> {
        check_score(item, score)?;
        if let Some(term) = terms.iter().find(|term| !(1..=MAX_TERM).contains(&term.len())) {
            let len = term.len();
            return Err(Error::Input(format!(
                "a term of item {item} has {len} bytes, expected 1 to {MAX_TERM}"
            )));
        }
        self.remove(item);
        let mut numbers: Vec<u32> = terms.iter().map(|term| self.number(term)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for &number in &numbers {
            self.lists[number as usize].ranks.insert(rank(score, item));
        }
        self.items.insert(item, Entry { score, terms: numbers.into() });
        Ok(())
    }

    /// Gives an item another score; `false` when it is not held.
    ///
    /// # Errors
    /// [`Error::Input`] when the score is negative or not finite.
    pub fn set_score(&mut self, item: ItemRow, score: f32) -> Result<bool> {
        check_score(item, score)?;
        let Some(entry) = self.items.get_mut(&item) else { return Ok(false) };
        for &number in &entry.terms {
            let ranks = &mut self.lists[number as usize].ranks;
            ranks.remove(&rank(entry.score, item));
            ranks.insert(rank(score, item));
        }
        entry.score = score;
        Ok(true)
    }

    /// Takes an item out of all lists; `false` when it was not there.
    pub fn remove(&mut self, item: ItemRow) -> bool {
        let Some(entry) = self.items.remove(&item) else { return false };
        for &number in &entry.terms {
            let list = &mut self.lists[number as usize];
            list.ranks.remove(&rank(entry.score, item));
            if list.ranks.is_empty() {
                self.numbers.remove(&list.term);
                self.free.push(number);
            }
        }
        true
    }

    fn list(&self, term: &str) -> Option<&List> {
        self.numbers.get(term).map(|&number| &self.lists[number as usize])
    }

    /// The number of a term, which may be new.
    fn number(&mut self, term: &str) -> u32 {
        if let Some(&number) = self.numbers.get(term) {
            return number;
        }
        let list = List { term: term.into(), ranks: BTreeSet::new() };
        let number = match self.free.pop() {
            Some(number) => {
                self.lists[number as usize] = list;
                number
            }
            None => {
                self.lists.push(list);
                self.lists.len() as u32 - 1
            }
        };
        self.numbers.insert(term.into(), number);
        number
    }
}

fn check_score(item: ItemRow, score: f32) -> Result<()> {
    if score.is_finite() && score >= 0.0 {
        return Ok(());
    }
    Err(Error::Input(format!("the score of item {item} is {score}, expected a finite number of at least 0")))
}
