//! The inverted index of a catalogue: which items hold a term, which terms an item holds. A copy shares all lists with
//! its original until they change, so that a catalogue can be copied on write.

use std::sync::Arc;

use millstream_schema::{IdMap, ItemRow};

/// Lists of items by term. Terms have codes, numbered in order of their first item.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    names: Arc<IdMap>,
    /// By term: rising rows.
    lists: Vec<Arc<Vec<ItemRow>>>,
    /// By item: rising codes, each once.
    of_item: Vec<Arc<[u32]>>,
    postings: usize,
}

impl Terms {
    /// Puts these terms, in any order and with repetitions, in place of those that the item had. Costs the length
    /// of the lists that change.
    pub(crate) fn set(&mut self, item: ItemRow, terms: &[String]) {
        let mut codes: Vec<u32> = terms.iter().map(|term| self.insert(term)).collect();
        codes.sort_unstable();
        codes.dedup();
        let at = item as usize;
        if self.of_item.len() <= at {
            self.of_item.resize(at + 1, Arc::default());
        }
        let old = std::mem::replace(&mut self.of_item[at], codes.as_slice().into());
        for &code in old.iter().filter(|c| codes.binary_search(c).is_err()) {
            let list = Arc::make_mut(&mut self.lists[code as usize]);
            list.binary_search(&item).map(|place| list.remove(place)).ok();
        }
        for &code in codes.iter().filter(|c| old.binary_search(c).is_err()) {
            let list = Arc::make_mut(&mut self.lists[code as usize]);
            list.insert(list.partition_point(|&other| other < item), item);
        }
        self.postings = self.postings + codes.len() - old.len();
    }

    fn insert(&mut self, term: &str) -> u32 {
        if let Some(code) = self.names.get(term) {
            return code;
        }
        self.lists.push(Arc::default());
        Arc::make_mut(&mut self.names).insert(term)
    }

    /// A term's code.
    pub fn code(&self, term: &str) -> Option<u32> {
        self.names.get(term)
    }

    /// A code's term; empty for no code of this index.
    pub fn term(&self, code: u32) -> &str {
        self.names.name(code)
    }

    /// The items that hold a term, by rising row; removed items are among them.
    pub fn items(&self, code: u32) -> &[ItemRow] {
        self.lists.get(code as usize).map_or(&[], |list| list.as_slice())
    }

    /// The codes of an item's terms, rising.
    pub fn terms_of(&self, item: ItemRow) -> &[u32] {
        self.of_item.get(item as usize).map_or(&[], |codes| codes)
    }

    /// Number of items, those without terms included.
    pub fn len(&self) -> usize {
        self.of_item.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.of_item.is_empty()
    }

    /// Mean number of terms of an item.
    pub fn mean_terms(&self) -> f32 {
        self.postings as f32 / self.of_item.len().max(1) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn items_come_and_change_as_in_a_naive_map_and_a_copy_does_not_see_it() {
        let (mut terms, mut naive) = (Terms::default(), BTreeMap::<u32, BTreeSet<String>>::new());
        let mut state = 7u64;
        let mut next = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for step in 0..600 {
            let item = next(40) as u32;
            let words: Vec<String> = (0..next(6)).map(|_| format!("t{}", next(15))).collect();
            let copy = terms.clone();
            let held: Vec<Vec<u32>> = (0..15).map(|code| copy.items(code).to_vec()).collect();
            terms.set(item, &words);
            naive.insert(item, words.into_iter().collect());
            for code in 0..15 {
                assert_eq!(copy.items(code), held[code as usize]);
            }
            if step % 20 == 0 {
                agree(&terms, &naive);
            }
        }
    }

    fn agree(terms: &Terms, naive: &BTreeMap<u32, BTreeSet<String>>) {
        for t in 0..15 {
            let term = format!("t{t}");
            let want: Vec<u32> =
                naive.iter().filter(|(_, words)| words.contains(&term)).map(|(i, _)| *i).collect();
            let got = terms.code(&term).map_or(&[][..], |code| terms.items(code));
            assert_eq!(got, want);
        }
        for (item, words) in naive {
            let got: BTreeSet<String> =
                terms.terms_of(*item).iter().map(|&c| terms.term(c).to_owned()).collect();
            assert_eq!(&got, words);
        }
        let postings: usize = naive.values().map(BTreeSet::len).sum();
        assert!((terms.mean_terms() * terms.len() as f32 - postings as f32).abs() < 1e-2);
    }
}
