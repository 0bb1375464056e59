//! Which files, and which of their columns mean what.

use std::collections::BTreeMap;

use millstream_schema::EventKind;
use serde::{Deserialize, Serialize};

use crate::logs::{Encoding, FileFormat, LogFormat};
use crate::time::TimeUnit;

/// Declares a section that also takes the keys of [`LogFormat`]: serde cannot both flatten and refuse
/// unknown keys.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
            /// File format; by file name when absent.
            pub format: Option<FileFormat>,
            /// Between cells.
            pub delimiter: Option<String>,
            /// Whether the first line names the columns.
            pub header: Option<bool>,
            /// Names of the columns, where the files do not name them.
            pub columns: Option<Vec<String>>,
            /// How bytes stand for characters; UTF-8 when absent.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub encoding: Option<Encoding>,
        }

        impl $name {
            /// How the files are read.
            pub fn log_format(&self) -> LogFormat {
                LogFormat {
                    format: self.format,
                    delimiter: self.delimiter.clone(),
                    header: self.header,
                    columns: self.columns.clone(),
                    encoding: self.encoding,
                }
            }
        }
    };
}

/// A column of times.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeColumn {
    /// The column.
    pub column: String,
    /// What it counts in.
    #[serde(default)]
    pub unit: TimeUnit,
}

/// Where an event's kind comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventColumn {
    /// The column that names the kind.
    pub column: Option<String>,
    /// The kind of all rows.
    pub constant: Option<EventKind>,
    /// Cell to kind, for names that are not kinds (`view = "click"`, `"4" = "order"`).
    #[serde(default)]
    pub map: BTreeMap<String, EventKind>,
}

impl Default for EventColumn {
    fn default() -> Self {
        Self { column: None, constant: Some(EventKind::Click), map: BTreeMap::new() }
    }
}

section! {
    /// `[dataset.events]`: the events of a log, in any order.
    EventFiles {
        /// Files, below the dataset's folder.
        files: Vec<String>,
        /// Column of the user's id.
        user: String,
        /// Column of the item's id.
        item: String,
        /// Column of the time.
        time: TimeColumn,
        /// Kind of event; by default all rows are clicks.
        #[serde(default)]
        event: EventColumn,
        /// Column of the event's value; 1 when absent.
        value: Option<String>,
        /// Column of the request's id.
        request: Option<String>,
        /// Column of the position in the request's feed; orders a request's candidates.
        position: Option<String>,
    }
}

section! {
    /// `[dataset.users]`, `[dataset.items]`: one row per user or item.
    CatalogueFiles {
        /// Files, below the dataset's folder.
        files: Vec<String>,
        /// Column of the id.
        id: String,
        /// Items: first moment it can be shown; an empty cell means always.
        created: Option<TimeColumn>,
        /// Items: first moment it can no longer be shown; an empty cell means never.
        retired: Option<TimeColumn>,
    }
}

section! {
    /// `[dataset.table]`: one row per example.
    TableFiles {
        /// Files to train on.
        #[serde(default)]
        train: Vec<String>,
        /// Files to validate on.
        #[serde(default)]
        valid: Vec<String>,
        /// Files to test on.
        #[serde(default)]
        test: Vec<String>,
        /// Files that `[split]` cuts.
        #[serde(default)]
        all: Vec<String>,
        /// Column that groups rows (the user), for GAUC.
        group: Option<String>,
        /// Column whose equal cells, in consecutive rows, make one request with several candidates.
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        /// Files that say how many consecutive rows each request has, one number a line.
        #[serde(skip_serializing_if = "Option::is_none")]
        queries: Option<QueryFiles>,
        /// Column of the time, for a split by time.
        time: Option<TimeColumn>,
        /// Column of the user's id, which `[dataset.users]` joins attributes by.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Column of the item's id, which `[dataset.items]` joins attributes by.
        #[serde(skip_serializing_if = "Option::is_none")]
        item: Option<String>,
        /// Column of a row's place among its user's rows, for histories; a missing or negative one is no place.
        #[serde(skip_serializing_if = "Option::is_none")]
        order: Option<String>,
        /// Column of the strength that a row has in later rows' histories; 1 when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        strength: Option<String>,
    }
}

/// `queries` of `[dataset.table]`: for each file of rows, in the same order, one of group sizes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryFiles {
    /// Beside `train`.
    pub train: Vec<String>,
    /// Beside `valid`.
    pub valid: Vec<String>,
    /// Beside `test`.
    pub test: Vec<String>,
    /// Beside `all`.
    pub all: Vec<String>,
}

/// `[dataset.sequences]`: one line per user, `user item item …`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceFiles {
    /// Files to train on; with no other files each user's last items validate and test.
    pub train: Vec<String>,
    /// Files to validate on.
    #[serde(default)]
    pub valid: Vec<String>,
    /// Files to test on.
    #[serde(default)]
    pub test: Vec<String>,
    /// Between ids; white space by default.
    pub delimiter: Option<String>,
    /// Whether a line's first id is the user's; otherwise each line is a user of its own (a session).
    #[serde(default = "yes")]
    pub user: bool,
    /// Whether a user may have several lines in a part, which go on from each other (one line per interaction).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// Without `user` and `valid`: share of the training lines, the last ones, that validate instead: their last item is to
    /// be found, what comes before is its history. In (0, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_of_train: Option<f64>,
    /// With `user` and `test`, without `valid`: each user's last training item validates instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub valid_last: bool,
    /// Whether the order of the items in a line says nothing: they are then put in an order drawn by `[split]` seed, so that
    /// none is learned that is the file's alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sets: bool,
    /// The kind of action that the lines tell of; "click" when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventKind>,
    /// Lines that tell of other kinds of action, all of them before the others; they enter histories, and none is to be
    /// found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<EarlierFiles>,
}

/// `[[dataset.sequences.before]]`: lines of another kind of action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierFiles {
    /// The kind.
    pub event: EventKind,
    /// The files.
    pub files: Vec<String>,
}

impl SequenceFiles {
    /// The kind of action that the lines tell of.
    pub fn kind(&self) -> EventKind {
        self.event.clone().unwrap_or(EventKind::Click)
    }
}

fn yes() -> bool {
    true
}
