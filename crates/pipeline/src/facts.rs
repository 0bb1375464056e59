//! What rules and filters know of items: life span, category, author, kind.

use millstream_schema::{IdMap, ItemRow, Record, parse};
use serde::{Deserialize, Serialize};

use crate::terms::Terms;

/// Which record fields mean what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogueConfig {
    /// Column under which the schema reads a user's id.
    pub user_id: String,
    /// Column under which the schema reads an item's id.
    pub item_id: String,
    /// Item field that holds the category.
    pub category: String,
    /// Item field that holds the author (seller, artist).
    pub author: String,
    /// Item field that holds the kind of content (product, live, video).
    pub kind: String,
    /// User field whose value is the segment of hot lists (`language`, `region`); none by default.
    pub segment: Option<String>,
    /// Item fields whose values are tags, for the channel `tag`; none by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What separates the values of a field of tags; empty: only lists from the API have several.
    pub separator: String,
    /// Item fields whose words the channel `keyword` looks up; none by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
}

/// A tag as it stands in the index: the field's name, so that values of different fields differ, and the value.
pub(crate) fn tag(field: &str, value: &str) -> String {
    format!("{field}={value}")
}

/// The values in a cell of tags.
pub(crate) fn elements<'a>(cell: &'a str, config: &'a CatalogueConfig) -> impl Iterator<Item = &'a str> {
    parse::elements(cell, &config.separator)
}

impl Default for CatalogueConfig {
    fn default() -> Self {
        Self {
            user_id: "user_id".into(),
            item_id: "item_id".into(),
            category: "category".into(),
            author: "author".into(),
            kind: "kind".into(),
            segment: None,
            tags: Vec::new(),
            separator: "|".into(),
            keywords: Vec::new(),
        }
    }
}

/// One item with its life span.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// Id and fields.
    pub record: Record,
    /// Not shown before, epoch milliseconds; `None`: it was always there.
    pub created_ms: Option<i64>,
    /// Not shown from then on, epoch milliseconds; `None`: never retired.
    pub retired_ms: Option<i64>,
}

/// Columns over all item rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    created_ms: Vec<i64>,
    retired_ms: Vec<i64>,
    removed: Vec<bool>,
    /// Codes of `labels` plus one; 0 for missing.
    category: Vec<u32>,
    author: Vec<u32>,
    kind: Vec<u32>,
    labels: IdMap,
    /// (created, row) rising, of items with a time of creation.
    by_created: Vec<(i64, ItemRow)>,
    /// Rows of items with an author, by the author's code, then by row.
    by_author: Vec<(u32, ItemRow)>,
    tags: Terms,
    keywords: Terms,
}

impl Facts {
    /// Sets the facts of `row`, which is at most the number of rows; call [`Facts::settle`] afterwards.
    pub(crate) fn set(&mut self, row: ItemRow, item: &Item, config: &CatalogueConfig) {
        let at = row as usize;
        if at == self.removed.len() {
            self.created_ms.push(0);
            self.retired_ms.push(0);
            self.removed.push(false);
            [&mut self.category, &mut self.author, &mut self.kind].into_iter().for_each(|c| c.push(0));
        }
        let code = |labels: &mut IdMap, cell: &str| if cell.is_empty() { 0 } else { labels.insert(cell) + 1 };
        self.created_ms[at] = item.created_ms.unwrap_or(i64::MIN);
        self.retired_ms[at] = item.retired_ms.unwrap_or(i64::MAX);
        self.removed[at] = false;
        self.category[at] = code(&mut self.labels, item.record.get(&config.category));
        self.author[at] = code(&mut self.labels, item.record.get(&config.author));
        self.kind[at] = code(&mut self.labels, item.record.get(&config.kind));
        if !config.tags.is_empty() {
            let values = |field: &'_ String| -> Vec<String> {
                elements(item.record.get(field), config).map(|value| tag(field, value)).collect()
            };
            self.tags.set(row, &config.tags.iter().flat_map(values).collect::<Vec<_>>());
        }
        if !config.keywords.is_empty() {
            let words = config.keywords.iter().flat_map(|field| parse::words(item.record.get(field)));
            self.keywords.set(row, &words.collect::<Vec<_>>());
        }
    }

    /// Puts the lists by creation and by author in order again.
    pub(crate) fn settle(&mut self) {
        let authors = self.author.iter().enumerate().filter(|(_, a)| **a != 0);
        self.by_author = authors.map(|(row, &author)| (author, row as ItemRow)).collect();
        self.by_author.sort_unstable();
        let dated = self.created_ms.iter().enumerate().filter(|(_, t)| **t != i64::MIN);
        self.by_created = dated.map(|(row, &t)| (t, row as ItemRow)).collect();
        self.by_created.sort_unstable();
    }

    pub(crate) fn remove(&mut self, row: ItemRow) {
        self.removed[row as usize] = true;
    }

    pub(crate) fn is_removed(&self, row: ItemRow) -> bool {
        self.removed.get(row as usize).copied().unwrap_or(true)
    }

    pub(crate) fn is_alive(&self, row: ItemRow, now_ms: i64) -> bool {
        let at = row as usize;
        !self.is_removed(row) && self.created_ms[at] <= now_ms && now_ms < self.retired_ms[at]
    }

    pub(crate) fn created_ms(&self, row: ItemRow) -> Option<i64> {
        self.created_ms.get(row as usize).copied().filter(|t| *t != i64::MIN)
    }

    /// Items created in (`since_ms`, `now_ms`], newest first, ties by falling row.
    pub(crate) fn created_within(&self, since_ms: i64, now_ms: i64) -> impl Iterator<Item = (i64, ItemRow)> {
        let end = self.by_created.partition_point(|x| x.0 <= now_ms);
        self.by_created[..end].iter().rev().take_while(move |x| x.0 > since_ms).copied()
    }

    /// Code of the item's category; 0 when it has none.
    pub(crate) fn category(&self, row: ItemRow) -> u32 {
        self.category.get(row as usize).copied().unwrap_or(0)
    }

    pub(crate) fn author(&self, row: ItemRow) -> u32 {
        self.author.get(row as usize).copied().unwrap_or(0)
    }

    /// Rows of the author of this code, removed ones included, as (code, row).
    pub(crate) fn items_of_author(&self, author: u32) -> &[(u32, ItemRow)] {
        let from = self.by_author.partition_point(|x| x.0 < author);
        let len = self.by_author[from..].partition_point(|x| x.0 == author);
        &self.by_author[from..from + len]
    }

    pub(crate) fn tags(&self) -> &Terms {
        &self.tags
    }

    pub(crate) fn keywords(&self) -> &Terms {
        &self.keywords
    }

    pub(crate) fn kind(&self, row: ItemRow) -> &str {
        match self.kind.get(row as usize) {
            None | Some(0) => "",
            Some(code) => self.labels.name(code - 1),
        }
    }
}
