//! Sets of kinds of event, and which past actions a request carries.

use crate::{EventKind, FeatureKind, Schema};

/// Some kinds of event by their codes; all kinds where none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds(Vec<u16>);

impl Kinds {
    /// These kinds; all when empty.
    pub fn of(kinds: &[EventKind]) -> Self {
        Self::of_codes(kinds.iter().map(EventKind::code).collect())
    }

    /// Kinds by [`EventKind::code`]; all when empty.
    pub fn of_codes(mut codes: Vec<u16>) -> Self {
        codes.sort_unstable();
        codes.dedup();
        Self(codes)
    }

    /// Whether the kind with this code is one of them.
    #[inline]
    pub fn holds(&self, code: u16) -> bool {
        self.0.is_empty() || self.0.contains(&code)
    }
}

/// Which of a user's past actions a request carries: the latest so many of all, and of each behaviour list that a feature reads
/// (its own kinds of event) the latest that it may show. Fifty clicks leave room for the orders before them. Preparing data and
/// serving ask the same one.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// Kinds that enter histories at all.
    enter: Kinds,
    /// Each list's kinds, and how many of them.
    lists: Vec<(Kinds, usize)>,
}

impl Remembered {
    /// For the features of a schema: `enter` are the kinds that enter histories, `most` the actions of one list.
    pub fn new(schema: &Schema, enter: Kinds, most: usize) -> Self {
        let mut lists = vec![(Kinds::default(), most)];
        for feature in &schema.features {
            let (FeatureKind::Sequence { events, max_len, .. } | FeatureKind::Match { events, max_len, .. }) =
                &feature.kind
            else {
                continue;
            };
            let (kinds, room) = (Kinds::of(events), most.min(*max_len));
            match lists.iter_mut().find(|list| list.0 == kinds) {
                Some(list) => list.1 = list.1.max(room),
                None => lists.push((kinds, room)),
            }
        }
        Self { enter, lists }
    }

    /// Starts to pick from one user's actions.
    pub fn picker(&self) -> Picker<'_> {
        Picker { of: self, left: self.lists.iter().map(|list| list.1).collect() }
    }
}

/// Picks from actions that are told latest first.
#[derive(Debug)]
pub struct Picker<'a> {
    of: &'a Remembered,
    /// By list: how many more it takes.
    left: Vec<usize>,
}

impl Picker<'_> {
    /// Whether the next earlier action, of the kind with this code, is carried.
    pub fn takes(&mut self, code: u16) -> bool {
        if !self.of.enter.holds(code) {
            return false;
        }
        let mut taken = false;
        for (left, (kinds, _)) in self.left.iter_mut().zip(&self.of.lists) {
            if *left > 0 && kinds.holds(code) {
                *left -= 1;
                taken = true;
            }
        }
        taken
    }

    /// Whether no earlier action can be carried.
    pub fn is_full(&self) -> bool {
        self.left.iter().all(|&left| left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(schema: &str, enter: &[EventKind], most: usize, latest_first: &[EventKind]) -> Vec<usize> {
        let remembered = Remembered::new(&schema.parse().unwrap(), Kinds::of(enter), most);
        let mut picker = remembered.picker();
        let takes = |kind: &EventKind| !picker.is_full() && picker.takes(kind.code());
        let taken: Vec<bool> = latest_first.iter().map(takes).collect();
        (0..taken.len()).filter(|&at| taken[at]).collect()
    }

    const LISTS: &str = r#"
        [[feature]]
        name = "item_id"
        side = "item"
        kind = "categorical"
        [[feature]]
        name = "clicks"
        kind = "sequence"
        elements = ["item_id"]
        events = ["click"]
        max_len = 3
        [[feature]]
        name = "orders"
        kind = "sequence"
        elements = ["item_id"]
        events = ["order"]
        max_len = 2
    "#;

    #[test]
    fn clicks_leave_room_for_the_orders_before_them() {
        use EventKind::{Cart, Click, Order};
        let told = [Click, Click, Cart, Click, Click, Order, Click, Order, Order];
        // Of all the latest two; of clicks three, of orders two.
        assert_eq!(picked(LISTS, &[], 2, &told), [0, 1, 5, 7]);
        assert_eq!(picked(LISTS, &[], 4, &told), [0, 1, 2, 3, 5, 7]);
        assert_eq!(picked(LISTS, &[Order, Cart], 2, &told), [2, 5, 7]);
        assert_eq!(picked(LISTS, &[], 0, &told), [0usize; 0]);
    }

    #[test]
    fn without_lists_of_their_own_the_latest_of_all_are_carried() {
        use EventKind::{Click, Order};
        let told = [Click, Order, Click, Order];
        let schema = LISTS.replace("events = [\"click\"]\n", "").replace("events = [\"order\"]\n", "");
        assert_eq!(picked(&schema, &[], 3, &told), [0, 1, 2]);
        assert_eq!(picked(&schema, &[Order], 3, &told), [1, 3]);
    }
}
