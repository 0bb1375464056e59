//! `[[task]]`: what is to be predicted, and how its labels are read.

use std::fmt;

use millstream_schema::{EventKind, suggest};
use serde::{Deserialize, Serialize};

use super::{Dataset, Kind};
use crate::Error;

/// A cell value in a configuration; numbers match cells of the same number however they are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A truth value, matched as text.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text, matched exactly.
    Text(String),
}

impl Cell {
    /// Whether a trimmed cell, whose number (if it is one) is `number`, is this value.
    pub fn is(&self, text: &str, number: Option<f64>) -> bool {
        match self {
            Self::Bool(b) => text.eq_ignore_ascii_case(if *b { "true" } else { "false" }),
            Self::Number(x) => number == Some(*x),
            Self::Text(t) => t == text,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Number(x) => write!(f, "{x}"),
            Self::Text(t) => write!(f, "{t}"),
        }
    }
}

/// One `[[task]]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTask {
    name: String,
    event: Option<EventKind>,
    column: Option<String>,
    positive: Option<Vec<Cell>>,
    min: Option<f64>,
    drop: Option<Vec<Cell>>,
    graded: Option<bool>,
    min_value: Option<f32>,
    window_hours: Option<f64>,
    space: Option<String>,
    loss: Option<toml::Value>,
    weight: Option<f32>,
}

/// What a `[[task]]` says of its training, which is no matter of the data; see [`RawTask::training`].
#[derive(Debug, Clone, PartialEq)]
pub struct TaskTraining<'a> {
    /// The task.
    pub name: &'a str,
    /// Key `loss`, as written.
    pub loss: Option<&'a toml::Value>,
    /// Key `weight`.
    pub weight: Option<f32>,
}

/// The space of a task without a `space`: every exposure.
pub const EXPOSURE: &str = "exposure";

/// A checked task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Task {
    /// A label column of a table.
    Column {
        /// Unique name.
        name: String,
        /// The label column.
        column: String,
        /// Cell values that count as 1; all others are 0.
        positive: Option<Vec<Cell>>,
        /// Numbers from here on count as 1; lower ones are 0.
        min: Option<f64>,
        /// Rows with these cell values are left out.
        drop: Vec<Cell>,
        /// Labels are grades of relevance, 0 to [`MOST_GRADE`], and are kept as they are.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        graded: bool,
        /// Only rows that are positive for this task, an earlier one, count; all rows when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<String>,
    },
    /// An action of a log that follows an impression.
    Event {
        /// Unique name.
        name: String,
        /// The action.
        event: EventKind,
        /// Only actions with at least this value.
        min_value: Option<f32>,
        /// Without a shared request id, the action must come within so many hours.
        window_hours: f64,
        /// Only impressions that are positive for this task, an earlier one, count; all when absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<String>,
    },
}

impl Task {
    /// The unique name.
    pub fn name(&self) -> &str {
        match self {
            Self::Column { name, .. } | Self::Event { name, .. } => name,
        }
    }

    /// The earlier task whose positive rows are this one's sample space; `None` for all rows. Outside of it a label is
    /// NaN, and neither a loss nor a metric of the task sees the row.
    pub fn space(&self) -> Option<&str> {
        match self {
            Self::Column { space, .. } | Self::Event { space, .. } => space.as_deref(),
        }
    }

    /// Whether its labels are grades instead of 0 or 1.
    pub fn graded(&self) -> bool {
        matches!(self, Self::Column { graded: true, .. })
    }
}

/// For each task the place of the one whose positive rows are its space.
pub(crate) fn spaces(tasks: &[Task]) -> Vec<Option<usize>> {
    let place = |task: &Task| task.space().and_then(|name| tasks.iter().position(|t| t.name() == name));
    tasks.iter().map(place).collect()
}

/// Whether a row with these labels of the tasks so far is in the space that task number `space` makes.
#[inline]
pub(crate) fn in_space(space: Option<usize>, labels: &[f32]) -> bool {
    // A row outside of the other task's own space has a NaN there, which is not above 0.
    space.is_none_or(|task| labels[task] > 0.0)
}

/// The highest grade: gains are 2^grade − 1.
pub const MOST_GRADE: f64 = 31.0;

const DEFAULT_WINDOW_HOURS: f64 = 24.0;
/// Labels of a candidate are bits of one word while a log is read.
const MOST_TASKS: usize = 32;

/// The checked tasks; one by default.
pub(super) fn check(dataset: &Dataset, raw: Vec<RawTask>) -> Result<Vec<Task>, Error> {
    let raw = if raw.is_empty() { vec![RawTask::default_of(dataset)] } else { raw };
    if dataset.kind == Kind::Sequences && raw.len() > 1 {
        return Err(Error::Config("[[task]]: sequences have one task, the next item".into()));
    }
    if raw.len() > MOST_TASKS {
        return Err(Error::Config(format!("[[task]]: at most {MOST_TASKS} tasks, not {}", raw.len())));
    }
    let mut tasks: Vec<Task> = Vec::with_capacity(raw.len());
    for task in raw {
        task.check_space(&tasks)?;
        let task = task.check(dataset.kind)?;
        if tasks.iter().any(|t| t.name() == task.name()) {
            return Err(Error::Config(format!("task `{}` is declared twice", task.name())));
        }
        tasks.push(task);
    }
    Ok(tasks)
}

impl RawTask {
    fn default_of(dataset: &Dataset) -> Self {
        let constant = dataset.events.as_ref().and_then(|e| e.event.constant.clone());
        let event = constant.unwrap_or(EventKind::Click);
        match dataset.kind {
            Kind::Table => Self { name: "label".into(), ..Self::default() },
            Kind::Log => Self { name: event.as_str().into(), event: Some(event), ..Self::default() },
            Kind::Sequences => Self { name: "next".into(), ..Self::default() },
        }
    }

    fn fail<T>(&self, message: impl fmt::Display) -> Result<T, Error> {
        Err(Error::Config(format!("task `{}`: {message}", self.name)))
    }

    /// What it says of its training.
    pub fn training(&self) -> TaskTraining<'_> {
        TaskTraining { name: &self.name, loss: self.loss.as_ref(), weight: self.weight }
    }

    /// Refuses keys of training where nothing is trained.
    pub(super) fn check_untrained(&self) -> Result<(), Error> {
        let set = [("loss", self.loss.is_some()), ("weight", self.weight.is_some())];
        match set.into_iter().find(|(_, set)| *set) {
            Some((key, _)) => self.fail(format_args!("key `{key}` is for training; it belongs in a recipe")),
            None => Ok(()),
        }
    }

    fn check_space(&self, before: &[Task]) -> Result<(), Error> {
        let Some(space) = self.space.as_deref().filter(|space| *space != EXPOSURE) else { return Ok(()) };
        let valid: Vec<&str> = before.iter().map(Task::name).chain([EXPOSURE]).collect();
        if !valid.contains(&space) {
            let unknown = suggest::unknown("task", space, valid);
            return self.fail(format_args!(
                "key `space` names \"exposure\" or a task above this one, whose positive rows it is over: {unknown}"
            ));
        }
        Ok(())
    }

    fn check(self, kind: Kind) -> Result<Task, Error> {
        if self.name.is_empty() {
            return Err(Error::Config("[[task]]: key `name` is empty".into()));
        }
        if self.name == EXPOSURE {
            return self.fail("the name stands for the space of all rows; take another");
        }
        let allowed: &[&str] = match kind {
            Kind::Table => &["column", "positive", "min", "drop", "graded", "space"],
            Kind::Log => &["event", "min_value", "window_hours", "space"],
            Kind::Sequences => &[],
        };
        let written = [
            ("event", self.event.is_some()),
            ("column", self.column.is_some()),
            ("positive", self.positive.is_some()),
            ("min", self.min.is_some()),
            ("drop", self.drop.is_some()),
            ("graded", self.graded.is_some()),
            ("min_value", self.min_value.is_some()),
            ("window_hours", self.window_hours.is_some()),
            ("space", self.space.is_some()),
        ];
        if let Some((key, _)) = written.iter().find(|(key, set)| *set && !allowed.contains(key)) {
            return self.fail(format_args!(
                "key `{key}` means nothing for a dataset of kind \"{}\"; it takes name{}{}",
                kind.as_str(),
                if allowed.is_empty() { "" } else { ", " },
                allowed.join(", ")
            ));
        }
        if kind == Kind::Table { self.column_task() } else { self.event_task(kind) }
    }

    fn column_task(self) -> Result<Task, Error> {
        if self.positive.is_some() && self.min.is_some() {
            return self.fail("keys `positive` and `min` exclude each other");
        }
        let graded = self.graded.unwrap_or(false);
        if graded && (self.positive.is_some() || self.min.is_some()) {
            return self.fail("key `graded` keeps labels as they are; it excludes `positive` and `min`");
        }
        if self.positive.as_ref().is_some_and(Vec::is_empty) {
            return self.fail("key `positive` names no value, so that no label would be 1");
        }
        if self.min.is_some_and(|x| !x.is_finite()) {
            return self.fail("key `min` must be a finite number");
        }
        Ok(Task::Column {
            column: self.column.unwrap_or_else(|| self.name.clone()),
            name: self.name,
            positive: self.positive,
            min: self.min,
            drop: self.drop.unwrap_or_default(),
            graded,
            space: self.space.filter(|space| space != EXPOSURE),
        })
    }

    fn event_task(self, kind: Kind) -> Result<Task, Error> {
        let event = match (&self.event, kind) {
            (Some(event), _) => event.clone(),
            (None, Kind::Sequences) => EventKind::Click,
            (None, _) => match self.name.parse() {
                Ok(event) => event,
                Err(_) => return self.fail("key `event` is missing: the action that counts as 1"),
            },
        };
        if !event.is_action() {
            let valid = ["click", "cart", "order", "like", "play"];
            return self.fail(suggest::unknown("action", event.as_str(), valid));
        }
        let window_hours = self.window_hours.unwrap_or(DEFAULT_WINDOW_HOURS);
        if !(window_hours > 0.0 && window_hours.is_finite()) {
            return self.fail("key `window_hours` must be above 0");
        }
        if self.min_value.is_some_and(|x| !x.is_finite()) {
            return self.fail("key `min_value` must be a finite number");
        }
        let space = self.space.filter(|space| space != EXPOSURE);
        Ok(Task::Event { name: self.name, event, min_value: self.min_value, window_hours, space })
    }
}
