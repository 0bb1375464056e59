//! Which cell of a row each column is made of.

use millstream_schema::cell::{Cell, Number};
use millstream_schema::encode::MISSING;
use millstream_schema::suggest;

use super::DirectRows;
use crate::Error;
use crate::config::{Task, spaces};

/// Whole numbers whose keys are worked out beforehand.
const SMALL: usize = 1024;

/// Where everything stands in the rows of one file.
pub(super) struct Plan<'a> {
    /// One per field of the encoder.
    pub(super) fields: Vec<Planned<'a>>,
    /// Each task, the place of its cell, and the task that makes its space.
    pub(super) tasks: Vec<(&'a Task, usize, Option<usize>)>,
    pub(super) group: Option<usize>,
}

/// One field.
pub(super) struct Planned<'a> {
    /// Place of the cell.
    pub(super) at: usize,
    pub(super) column: &'a str,
    pub(super) rule: Rule<'a>,
}

/// What is made of the cell.
pub(super) enum Rule<'a> {
    Category(millstream_schema::cell::Category<'a>),
    /// A bucket's key, with those of the numbers 0, 1, ….
    Bucket(Number<'a>, Vec<u64>),
    Value(Number<'a>),
}

impl<'a> Plan<'a> {
    /// # Errors
    /// A column that the file does not have.
    pub(super) fn new(rows: &'a DirectRows, names: &[String], source: &str) -> Result<Self, Error> {
        let place = |column: &str, what: &dyn Fn() -> String| {
            names.iter().position(|n| n == column).ok_or_else(|| {
                let valid: Vec<&str> = names.iter().map(String::as_str).collect();
                let unknown = suggest::unknown("column", column, valid.iter().copied());
                Error::Config(format!("{source}: {}: {unknown}", what()))
            })
        };
        let mut fields = Vec::new();
        for field in rows.encoder.fields() {
            let spec = &rows.encoder.schema().features[field.feature];
            let at = place(&spec.column, &|| format!("feature `{}`", spec.name))?;
            let cell = rows.encoder.cell(field.feature);
            let cell = cell.ok_or_else(|| Error::Config(format!("feature `{}` has no cell", spec.name)))?;
            fields.push(Planned { at, column: &spec.column, rule: Rule::new(cell) });
        }
        let mut tasks = Vec::new();
        for (task, space) in rows.tasks.iter().zip(spaces(&rows.tasks)) {
            let Task::Column { name, column, .. } = task else {
                let message = format!("task `{}` reads events, which a table has none of", task.name());
                return Err(Error::Config(message));
            };
            tasks.push((task, place(column, &|| format!("task `{name}`"))?, space));
        }
        let group = match &rows.group {
            Some(column) => Some(place(column, &|| "[dataset.table] group".into())?),
            None => None,
        };
        Ok(Self { fields, tasks, group })
    }
}

impl<'a> Rule<'a> {
    fn new(cell: Cell<'a>) -> Self {
        match cell {
            Cell::Category(rule) => Self::Category(rule),
            Cell::Number(rule) if rule.makes_keys() => {
                let small = (0..SMALL).map(|x| rule.key(x as f64)).collect();
                Self::Bucket(rule, small)
            }
            Cell::Number(rule) => Self::Value(rule),
        }
    }
}

/// The key in the table for a whole number of one to three digits.
#[inline]
pub(super) fn small_bucket(small: &[u64], cell: &str) -> Option<u64> {
    let digit = |b: &u8| b.wrapping_sub(b'0');
    let (n, most) = match cell.as_bytes() {
        [a] => (usize::from(digit(a)), digit(a)),
        [a, b] => (10 * usize::from(digit(a)) + usize::from(digit(b)), digit(a).max(digit(b))),
        [a, b, c] => (
            100 * usize::from(digit(a)) + 10 * usize::from(digit(b)) + usize::from(digit(c)),
            digit(a).max(digit(b)).max(digit(c)),
        ),
        _ => return None,
    };
    if most > 9 { None } else { small.get(n).copied() }
}

/// The key of a number's bucket, by table where it is small and whole.
#[inline]
pub(super) fn bucket(rule: &Number<'_>, small: &[u64], x: Option<f64>) -> u64 {
    let Some(x) = x else { return MISSING };
    // A negative zero is 0 here as there; other negative numbers and fractions do not survive the way back.
    let near = x as usize;
    match small.get(near) {
        Some(key) if near as f64 == x => *key,
        _ => rule.key(x),
    }
}
