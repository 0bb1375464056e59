//! A user or an item as the API and the files give it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::frame::Frame;

/// Separates the elements of a list inside one cell.
pub const LIST_SEPARATOR: char = '\u{1f}';

/// One user or one item: an id and its fields as text; an absent or empty field is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// External id.
    pub id: String,
    /// Field name to cell; lists are joined by [`LIST_SEPARATOR`].
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}

impl Record {
    /// The field's cell, empty when absent.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Lays records out as a frame with these columns; `id_column`, where named, takes the id.
pub fn frame_of(records: &[Record], columns: &[String], id_column: &str, source: &str) -> Frame {
    let mut frame = Frame::new(source, columns);
    let mut cells: Vec<&str> = Vec::with_capacity(columns.len());
    for (row, record) in records.iter().enumerate() {
        cells.clear();
        cells.extend(columns.iter().map(|c| if c == id_column { record.id.as_str() } else { record.get(c) }));
        frame.push_row(row as u64 + 1, &cells);
    }
    frame
}
