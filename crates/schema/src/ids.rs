//! External ids are text; inside, users and items are dense rows.

use rapidhash::RapidHashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A user's dense row in its [`IdMap`].
pub type UserRow = u32;
/// An item's dense row in its [`IdMap`].
pub type ItemRow = u32;
/// Stands for "no row": a user or an item that the map does not hold.
pub const NO_ROW: u32 = u32::MAX;

/// Text ids and their dense rows, numbered in order of insertion.
///
/// ```
/// let mut ids = millstream_schema::IdMap::default();
/// assert_eq!(ids.insert("anna"), 0);
/// assert_eq!(ids.insert("bo"), 1);
/// assert_eq!(ids.insert("anna"), 0);
/// assert_eq!(ids.get("bo"), Some(1));
/// assert_eq!(ids.name(1), "bo");
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Arc<str>>", into = "Vec<Arc<str>>")]
pub struct IdMap {
    names: Vec<Arc<str>>,
    rows: RapidHashMap<Arc<str>, u32>,
}

impl IdMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The row of `name`, which is added at the end when it is new.
    pub fn insert(&mut self, name: &str) -> u32 {
        if let Some(&row) = self.rows.get(name) {
            return row;
        }
        let row = self.names.len() as u32;
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.rows.insert(name, row);
        row
    }

    /// The row of `name`, if it is known.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.rows.get(name).copied()
    }

    /// The name at `row`; the empty string when there is no such row.
    pub fn name(&self, row: u32) -> &str {
        self.names.get(row as usize).map_or("", |n| n)
    }

    /// How many names are held.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name is held.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All names in row order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|n| &**n)
    }
}

impl From<Vec<Arc<str>>> for IdMap {
    fn from(names: Vec<Arc<str>>) -> Self {
        let rows = names.iter().enumerate().map(|(row, name)| (name.clone(), row as u32)).collect();
        Self { names, rows }
    }
}

impl From<IdMap> for Vec<Arc<str>> {
    fn from(map: IdMap) -> Self {
        map.names
    }
}
