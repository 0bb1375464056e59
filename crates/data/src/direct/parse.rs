//! A piece of text to a batch: cells are looked at where they stand.

use std::sync::Arc;

use millstream_schema::cell::Number;
use millstream_schema::{BadValues, Batch, Column};

use super::plan::{Plan, Rule, bucket, small_bucket};
use super::split::Cut;
use super::{DirectRows, Made, group_number, policy};
use crate::Error;
use crate::config::in_space;
use crate::logs::{Layout, Piece};
use crate::prepare::label;

/// Whether all features are of kinds that are made of one cell each.
pub(super) fn can(rows: &DirectRows) -> bool {
    rows.encoder.fields().iter().all(|field| rows.encoder.cell(field.feature).is_some())
}

/// Makes batches of one file's pieces.
pub(super) struct Parser<'a> {
    plan: Plan<'a>,
    layout: Layout,
    source: Arc<str>,
    strict: bool,
}

impl<'a> Parser<'a> {
    pub(super) fn new(plan: Plan<'a>, layout: Layout, source: Arc<str>, strict: bool) -> Self {
        Self { plan, layout, source, strict }
    }

    fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.source)
    }

    /// `cut` is memory to work in.
    ///
    /// # Errors
    /// A row of another width, a label that is none, or with `strict` a bad value, with file and line.
    pub(super) fn parse(&self, piece: &Piece, cut: &mut Cut) -> Result<Made, Error> {
        let mut builder = Builder::new(self, piece.rows);
        match self.layout.byte().filter(|b| *b < 0x80 && !piece.quotes) {
            Some(byte) => self.quick(piece, cut.of(piece.text.as_bytes(), byte), &mut builder)?,
            None => self.layout.each_row(piece, &|line| self.place(line), &mut |cells, line| {
                builder.row(line, |i| cells[i])
            })?,
        }
        Ok(builder.finish(piece.rows as u64))
    }

    /// Rows without quotes, cut at one byte.
    fn quick(&self, piece: &Piece, cut: &Cut, builder: &mut Builder<'_>) -> Result<(), Error> {
        let text = piece.text.as_str();
        let (mut at, mut start) = (0, 0);
        let mut rows = Vec::with_capacity(BLOCK);
        for (&next, line) in cut.rows.iter().zip(piece.line..) {
            let row = Row { text, start, ends: &cut.ends[at..next as usize], line };
            (at, start) = (next as usize, row.end() + 1);
            if row.ends.len() == self.layout.width() && !row.is_empty() {
                rows.push(row);
                if rows.len() == BLOCK {
                    builder.rows(&mut rows)?;
                }
            } else if !self.layout.is_blank(row.line()) {
                builder.rows(&mut rows)?;
                self.layout.check_width(row.ends.len(), row.line(), || self.place(line))?;
            }
        }
        builder.rows(&mut rows)
    }
}

/// Rows whose cells are looked at column by column: few enough that their text stays in the innermost cache.
const BLOCK: usize = 64;

/// The cells of a line by their ends, the line's own being the last.
struct Row<'a> {
    text: &'a str,
    start: usize,
    ends: &'a [u32],
    /// Number of the line.
    line: u64,
}

impl<'a> Row<'a> {
    #[inline]
    fn end(&self) -> usize {
        self.ends.last().map_or(self.start, |&end| end as usize)
    }

    fn line(&self) -> &'a str {
        let line = &self.text[self.start..self.end()];
        line.strip_suffix('\r').unwrap_or(line)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.ends.len() == 1 && self.line().is_empty()
    }

    #[inline]
    fn cell(&self, i: usize) -> &'a str {
        let start = if i == 0 { self.start } else { self.ends[i - 1] as usize + 1 };
        let cell = &self.text[start..self.ends[i] as usize];
        if i + 1 == self.ends.len() { cell.strip_suffix('\r').unwrap_or(cell) } else { cell }
    }
}

/// A field's column in the making.
enum Out {
    Keys(Vec<u64>),
    Values(Vec<f32>),
}

/// A batch in the making.
struct Builder<'a> {
    parser: &'a Parser<'a>,
    columns: Vec<Out>,
    labels: Vec<f32>,
    groups: Vec<u32>,
    bad: BadValues,
}

impl Out {
    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Keys(keys) => keys.truncate(rows),
            Self::Values(values) => values.truncate(rows),
        }
    }
}

impl<'a> Builder<'a> {
    fn new(parser: &'a Parser<'a>, rows: usize) -> Self {
        let column = |rule: &Rule<'_>| match rule {
            Rule::Value(_) => Out::Values(Vec::with_capacity(rows)),
            _ => Out::Keys(Vec::with_capacity(rows)),
        };
        Self {
            parser,
            columns: parser.plan.fields.iter().map(|f| column(&f.rule)).collect(),
            labels: Vec::with_capacity(rows * parser.plan.tasks.len()),
            groups: Vec::with_capacity(rows),
            bad: BadValues::new(policy(parser.strict)),
        }
    }

    /// Takes in rows, column by column: what is done with a cell is then the same many times over, and the processor foresees it. Rows
    /// with anything to complain about are taken one by one instead.
    fn rows(&mut self, rows: &mut Vec<Row<'_>>) -> Result<(), Error> {
        let (groups, labels) = (self.groups.len(), self.labels.len());
        if !self.quick_rows(rows) {
            self.groups.truncate(groups);
            self.labels.truncate(labels);
            self.columns.iter_mut().for_each(|out| out.truncate(groups));
            rows.iter().try_for_each(|row| self.row(row.line, |i| row.cell(i)))?;
        }
        rows.clear();
        Ok(())
    }

    /// As [`rows`](Self::rows); `false` half way through at the first label or number that is bad, or row that is dropped.
    fn quick_rows(&mut self, rows: &[Row<'_>]) -> bool {
        let all = |row: &Row<'_>| matches!(self.labels(row.line, |i| row.cell(i)), Ok(true));
        if !rows.iter().all(all) {
            return false;
        }
        let plan = &self.parser.plan;
        for (field, out) in plan.fields.iter().zip(&mut self.columns) {
            let cells = rows.iter().map(|row| row.cell(field.at));
            match (&field.rule, out) {
                (Rule::Category(rule), Out::Keys(keys)) => {
                    keys.extend(cells.map(|c| rule.quick_key(c.as_bytes()).unwrap_or_else(|| rule.key(c))));
                }
                (Rule::Bucket(rule, small), Out::Keys(keys)) => {
                    for cell in cells {
                        let Some(key) = small_bucket(small, cell)
                            .or_else(|| Some(bucket(rule, small, rule.number(cell).ok()?)))
                        else {
                            return false;
                        };
                        keys.push(key);
                    }
                }
                (Rule::Value(rule), Out::Values(values)) => {
                    for cell in cells {
                        let Ok(x) = rule.number(cell) else { return false };
                        values.push(rule.value(x.unwrap_or(rule.default())));
                    }
                }
                _ => {}
            }
        }
        let group = |row: &Row<'_>| {
            plan.group.map_or(millstream_schema::ids::NO_ROW, |at| group_number(row.cell(at)))
        };
        self.groups.extend(rows.iter().map(group));
        true
    }

    /// Takes in the labels of a row; `false` and nothing for a row that a task drops.
    #[inline]
    fn labels<'t>(&mut self, line: u64, cell: impl Fn(usize) -> &'t str) -> Result<bool, Error> {
        let before = self.labels.len();
        for &(task, at, space) in &self.parser.plan.tasks {
            if !in_space(space, &self.labels[before..]) {
                self.labels.push(f32::NAN);
                continue;
            }
            match label(task, cell(at)) {
                Ok(Some(label)) => self.labels.push(label),
                Ok(None) => {
                    self.labels.truncate(before);
                    return Ok(false);
                }
                Err(reason) => return Err(self.bad_label(task, line, &reason)),
            }
        }
        Ok(true)
    }

    #[inline]
    fn row<'t>(&mut self, line: u64, cell: impl Fn(usize) -> &'t str) -> Result<(), Error> {
        let plan = &self.parser.plan;
        if !self.labels(line, &cell)? {
            return Ok(());
        }
        for (field, out) in plan.fields.iter().zip(&mut self.columns) {
            let text = cell(field.at);
            match (&field.rule, out) {
                (Rule::Category(rule), Out::Keys(keys)) => keys.push(rule.key(text)),
                (Rule::Bucket(rule, small), Out::Keys(keys)) => {
                    if let Some(key) = small_bucket(small, text) {
                        keys.push(key);
                        continue;
                    }
                    let x = number(rule, text, &mut self.bad, || (self.parser.place(line), field.column))?;
                    keys.push(bucket(rule, small, x));
                }
                (Rule::Value(rule), Out::Values(values)) => {
                    let x = number(rule, text, &mut self.bad, || (self.parser.place(line), field.column))?;
                    values.push(rule.value(x.unwrap_or(rule.default())));
                }
                _ => {}
            }
        }
        self.groups.push(plan.group.map_or(millstream_schema::ids::NO_ROW, |at| group_number(cell(at))));
        Ok(())
    }

    fn bad_label(&self, task: &crate::config::Task, line: u64, reason: &str) -> Error {
        let column = match task {
            crate::config::Task::Column { column, .. } => column,
            _ => task.name(),
        };
        Error::input(self.parser.place(line), format!("label column `{column}`: {reason}"))
    }

    fn finish(self, rows: u64) -> Made {
        let n = self.groups.len();
        let column = |out| match out {
            Out::Keys(keys) => Column::Key(keys),
            Out::Values(values) => Column::Dense { width: 1, values },
        };
        let batch = Batch {
            requests: n,
            request_time_ms: Vec::new(),
            candidate_request: (0..n as u32).collect(),
            columns: self.columns.into_iter().map(column).collect(),
            labels: self.labels,
            tasks: self.parser.plan.tasks.len(),
            weights: Vec::new(),
            group: self.groups,
            item: Vec::new(),
        };
        Made { batch, bad: self.bad, rows }
    }
}

/// The number in a cell; a bad one is the default, and counted or refused.
#[inline]
fn number<'a>(
    rule: &Number<'_>,
    text: &str,
    bad: &mut BadValues,
    place: impl Fn() -> (String, &'a str),
) -> Result<Option<f64>, Error> {
    match rule.number(text) {
        Ok(x) => Ok(x),
        Err(reason) => {
            let (_, column) = place();
            bad.add_at(|| place().0, column, &reason)?;
            Ok(Some(rule.default()))
        }
    }
}
