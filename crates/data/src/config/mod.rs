//! What a dataset is: which files, which columns, which labels, how it is split.
//!
//! The sections `[dataset]`, `[[task]]`, `[[feature]]`, `[split]` and `[examples]` are types of their
//! own, so that a larger file (a recipe) can hold them beside its own sections; it hands them to
//! [`DatasetConfig::from_parts`]. A file that holds nothing else is read by [`DatasetConfig::read`].
//!
//! ```
//! use millstream_data::config::DatasetConfig;
//! let config = DatasetConfig::parse(r#"
//!     [dataset]
//!     kind = "log"
//!     [dataset.events]
//!     files = ["events.csv"]
//!     user = "user_id"
//!     item = "item_id"
//!     time = { column = "timestamp", unit = "s" }
//! "#, "dataset.toml")?;
//! assert_eq!(config.tasks[0].name(), "click");
//! assert_eq!(config.schema.features.len(), 3);
//! # Ok::<(), millstream_data::Error>(())
//! ```

mod check;
mod files;
mod refit;
mod task;

use std::path::{Path, PathBuf};

use millstream_schema::feature::RawFeature;
use millstream_schema::{EventKind, Schema, config};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::balance::BalanceStep;

pub use files::{
    CatalogueFiles, EarlierFiles, EventColumn, EventFiles, QueryFiles, SequenceFiles, TableFiles, TimeColumn,
};
pub use task::{Cell, EXPOSURE, MOST_GRADE, RawTask, Task, TaskTraining};
pub(crate) use task::{in_space, spaces};

/// What the rows of the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One row is one example with its label.
    Table,
    /// One row is one event of a user with an item.
    Log,
    /// One line is a user's items in order.
    Sequences,
}

impl Kind {
    /// The name in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Log => "log",
            Self::Sequences => "sequences",
        }
    }
}

/// `[dataset]` as written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// What the rows are.
    pub kind: Kind,
    /// Folder of the files, below the root handed to `prepare`.
    #[serde(default)]
    pub folder: PathBuf,
    /// Files of a log.
    pub events: Option<EventFiles>,
    /// User attributes of a log or a table.
    pub users: Option<CatalogueFiles>,
    /// Item attributes of a log, of sequences or of a table.
    pub items: Option<CatalogueFiles>,
    /// Files of a table.
    pub table: Option<TableFiles>,
    /// Files of sequences.
    pub sequences: Option<SequenceFiles>,
}

/// What decides which part a row is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// Earlier rows train, later ones validate and test.
    Time,
    /// Each user's last positive tests, the one before validates.
    User,
    /// A seeded draw per row.
    Ratio,
    /// The files given.
    Files,
    /// Sequences: a seeded draw per item. A drawn item is in no training row, and is to be found for those who took it.
    #[serde(rename = "cold_items")]
    ColdItems,
}

/// `[split]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// What decides; by default files where they are given, else time, ratio (table) or user (sequences).
    pub by: Option<SplitBy>,
    /// Share of the rows (of the items, for `cold_items`) that validate, in [0, 1). For `user` any share is the last positive but one,
    /// and 0 is none.
    #[serde(default = "tenth")]
    pub valid: f64,
    /// Share of the rows (of the items, for `cold_items`) that test, in [0, 1).
    #[serde(default = "tenth")]
    pub test: f64,
    /// Seeds the draw of `ratio` and `cold_items`, and of the sampled negatives.
    #[serde(default = "one")]
    pub seed: u64,
    /// Table with given files and none to validate on: share of the training requests that validate
    /// instead, in (0, 1), by a seeded draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_of_train: Option<f64>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { by: None, valid: 0.1, test: 0.1, seed: 1, valid_of_train: None }
    }
}

/// `[examples]`: how a log or sequences become examples.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExamplesConfig {
    /// Latest actions kept per request; a behaviour list with kinds of its own keeps its own latest ones beside them.
    #[serde(default = "fifty")]
    pub max_history: usize,
    /// Kinds of action that enter histories; all actions when empty.
    #[serde(default)]
    pub history_events: Vec<EventKind>,
    /// Items sampled per positive where the log has no impressions.
    #[serde(default = "four")]
    pub negatives: usize,
    /// An item is sampled with p ∝ (its training positives)^power; 0 is uniform.
    #[serde(default = "three_quarters")]
    pub negative_power: f64,
    /// Sequences: whether they are kept whole, for models that learn from every element of a sequence; no examples with
    /// a history each are written then, and other models cannot be trained on the result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Whether an item may be recommended again to a user who has acted on it: ranked lists then hold seen items, and a
    /// seen item may be right.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeats: bool,
    /// Kinds of action after which an item may not be recommended again; all actions when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_events: Vec<EventKind>,
    /// Table with an order: which rows enter histories; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_where: Option<HistoryWhere>,
}

/// A condition on one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryWhere {
    /// The column.
    pub column: String,
    /// Cell values that hold; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Vec<Cell>>,
    /// Numbers from here on hold; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

impl Default for ExamplesConfig {
    fn default() -> Self {
        Self {
            max_history: 50,
            history_events: Vec::new(),
            negatives: 4,
            negative_power: 0.75,
            whole: false,
            repeats: false,
            seen_events: Vec::new(),
            history_where: None,
        }
    }
}

fn tenth() -> f64 {
    0.1
}

fn one() -> u64 {
    1
}

fn fifty() -> usize {
    50
}

fn four() -> usize {
    4
}

fn three_quarters() -> f64 {
    0.75
}

/// A checked dataset configuration.
#[derive(Debug, Clone, Serialize)]
pub struct DatasetConfig {
    /// Files and columns.
    pub dataset: Dataset,
    /// Labels; never empty.
    pub tasks: Vec<Task>,
    /// Features.
    pub schema: Schema,
    /// How the rows are split; `by` is set.
    pub split: SplitConfig,
    /// How examples are made.
    pub examples: ExamplesConfig,
    /// How the training rows are balanced, step by step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub balance: Vec<BalanceStep>,
}

/// A stand-alone `dataset.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dataset: Dataset,
    #[serde(default)]
    task: Vec<RawTask>,
    #[serde(default)]
    feature: Vec<RawFeature>,
    #[serde(default)]
    split: SplitConfig,
    #[serde(default)]
    examples: ExamplesConfig,
    #[serde(default)]
    balance: Vec<BalanceStep>,
}

impl DatasetConfig {
    /// Checks the sections against each other and fills in what was left out.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn from_parts(
        dataset: Dataset,
        tasks: Vec<RawTask>,
        features: Vec<RawFeature>,
        split: SplitConfig,
        examples: ExamplesConfig,
    ) -> Result<Self, Error> {
        check::dataset(&dataset)?;
        let tasks = task::check(&dataset, tasks)?;
        let schema = check::schema(&dataset, Schema::from_raw(features)?, &tasks, &examples)?;
        let split = check::split(&dataset, split)?;
        check::examples(&dataset, &examples)?;
        if examples.whole && dataset.kind != Kind::Sequences {
            return Err(Error::config("[examples]: whole = true is for kind = \"sequences\""));
        }
        Ok(Self { dataset, tasks, schema, split, examples, balance: Vec::new() })
    }

    /// The same with steps that balance the training rows.
    ///
    /// # Errors
    /// [`Error::Config`] naming the step and its key, or what it cannot be applied to.
    pub fn with_balance(self, steps: Vec<BalanceStep>) -> Result<Self, Error> {
        BalanceStep::check_all(&steps, self.dataset.kind == Kind::Table)?;
        if self.tasks.len() > 1 && !steps.is_empty() {
            return Err(Error::config(format!(
                "[[balance]]: there are {} tasks, and a step that balances one would skew the others; name one \
                 [[task]]",
                self.tasks.len()
            )));
        }
        if self.tasks.iter().any(Task::graded) && !steps.is_empty() {
            return Err(Error::config("[[balance]]: grades of relevance have no two classes to balance"));
        }
        Ok(Self { balance: steps, ..self })
    }

    /// Reads a file that holds these sections and no others.
    ///
    /// # Errors
    /// The file cannot be read, or [`Error::Config`] naming file and line or key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&config::read_text(path)?, &path.display().to_string())
    }

    /// As [`Self::read`], from text; `file` is named in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let parts: File = config::parse(text, file)?;
        let untrained = parts.task.iter().try_for_each(RawTask::check_untrained);
        let config = untrained.and_then(|()| {
            Self::from_parts(parts.dataset, parts.task, parts.feature, parts.split, parts.examples)
        });
        config.and_then(|config| config.with_balance(parts.balance)).map_err(|e| match e {
            Error::Config(m) | Error::Schema(millstream_schema::Error::Config(m)) => {
                Error::Config(format!("{file}: {m}"))
            }
            other => other,
        })
    }

    /// A hash of everything that decides what `prepare` writes, except the contents of the files.
    pub fn fingerprint(&self) -> u64 {
        // Serialising plain data to a string cannot fail; if it did, nothing would ever match.
        xxh3_64(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// The folder of the files.
    pub fn folder(&self, root: &Path) -> PathBuf {
        root.join(&self.dataset.folder)
    }

    /// What decides the split.
    pub fn split_by(&self) -> SplitBy {
        self.split.by.unwrap_or(SplitBy::Time)
    }

    /// The column that holds a user's id on the user side.
    pub fn user_column(&self) -> &str {
        self.dataset.user_column()
    }

    /// The column that holds an item's id on the item side.
    pub fn item_column(&self) -> &str {
        self.dataset.item_column()
    }
}

impl Dataset {
    /// The column that holds a user's id on the user side.
    pub fn user_column(&self) -> &str {
        id_column(self.users.as_ref(), self.events.as_ref().map(|e| &*e.user), "user_id")
    }

    /// The column that holds an item's id on the item side.
    pub fn item_column(&self) -> &str {
        id_column(self.items.as_ref(), self.events.as_ref().map(|e| &*e.item), "item_id")
    }
}

fn id_column<'a>(files: Option<&'a CatalogueFiles>, event: Option<&'a str>, default: &'a str) -> &'a str {
    files.map(|f| &*f.id).or(event).unwrap_or(default)
}

#[cfg(test)]
mod tests;
