//! Histories of a table: a column says in which order a user's rows came, and each row is given the earlier ones.
//!
//! Memory: 32 bytes for each row that enters histories, and the item columns' cells of each item met there.

use std::ops::Range;

use millstream_schema::examples::Action;
use millstream_schema::{BadValues, Columns, Encoder, EventKind, Frame, IdMap, Side, parse};

use super::frames::{Piece, column};
use super::{PrepareReport, times};
use crate::Error;
use crate::config::{Cell, DatasetConfig, HistoryWhere, TableFiles};

/// The made-up time of a user's place 0 where a table has no times, 2000-01-01.
const FIRST_MS: i64 = 946_684_800_000;
/// Made-up time between neighbouring places.
const STEP_MS: f64 = 1000.0;

/// A row that enters its user's histories.
struct Row {
    user: u32,
    order: f64,
    item: u32,
    value: f32,
    time_ms: i64,
}

/// All rows that enter histories, by user and order.
pub(super) struct Histories<'a> {
    config: &'a DatasetConfig,
    files: &'a TableFiles,
    /// Column of the order.
    order: &'a str,
    /// Column of the user's id.
    user: &'a str,
    /// Column of the item's id.
    item: &'a str,
    users: IdMap,
    /// The items that enter histories.
    pub(super) items: IdMap,
    /// Their cells, as far as item features read them, as they were first met.
    cells: Frame,
    rows: Vec<Row>,
    /// `[users + 1]`, once all rows are there.
    offsets: Vec<u32>,
    /// Rows without a place in their user's order.
    unplaced: u64,
}

/// A request's time, and what its user did before.
pub(super) type Past = (i64, Vec<Action>);

/// Where the columns stand in a frame.
struct Places {
    user: usize,
    item: usize,
    order: usize,
    strength: Option<usize>,
    condition: Option<usize>,
    cells: Vec<usize>,
}

impl<'a> Histories<'a> {
    /// Nothing yet; `None` for a table without an order.
    pub(super) fn new(config: &'a DatasetConfig, files: &'a TableFiles) -> Option<Self> {
        let order = files.order.as_deref()?;
        let (user, item) = (files.user.as_deref().or(files.group.as_deref())?, files.item.as_deref()?);
        let cells = Frame::new("items of histories", &config.schema.columns(Side::Item));
        Some(Self {
            config,
            files,
            order,
            user,
            item,
            users: IdMap::new(),
            items: IdMap::new(),
            cells,
            rows: Vec::new(),
            offsets: Vec::new(),
            unplaced: 0,
        })
    }

    fn places(&self, frame: &Frame) -> Result<Places, Error> {
        let one = |name: &str, key: &str| column(frame, name, key);
        let condition = self.config.examples.history_where.as_ref();
        Ok(Places {
            user: one(self.user, "[dataset.table] user")?,
            item: one(self.item, "[dataset.table] item")?,
            order: one(self.order, "[dataset.table] order")?,
            strength: self.files.strength.as_ref().map(|s| one(s, "[dataset.table] strength")).transpose()?,
            condition: condition.map(|c| one(&c.column, "[examples] history_where")).transpose()?,
            cells: self
                .cells
                .columns()
                .iter()
                .map(|c| one(c, "[[feature]] column"))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Takes up the rows of a piece that enter histories.
    ///
    /// # Errors
    /// A column that is missing; with the strict policy an order, strength or time that is none.
    pub(super) fn take(&mut self, piece: &Piece, bad: &mut BadValues) -> Result<(), Error> {
        let frame = &piece.frame;
        let at = self.places(frame)?;
        let times = match &self.files.time {
            Some(time) => Some(times::read(piece, time, "[dataset.table] time", &mut BadValues::default())?),
            None => None,
        };
        for row in 0..frame.rows() {
            let (user, item) = (frame.get(row, at.user).trim(), frame.get(row, at.item).trim());
            let (order, fault) = order(frame.get(row, at.order));
            if let Some(reason) = fault {
                bad.add(frame, row, self.order, &reason)?;
            }
            let time_ms = times.as_ref().map_or_else(|| order.map(made_up), |t| t[row]);
            let (Some(order), Some(time_ms)) = (order, time_ms) else {
                self.unplaced += 1;
                continue;
            };
            let enters = match (&self.config.examples.history_where, at.condition) {
                (Some(condition), Some(at)) => condition.holds(frame.get(row, at)),
                _ => true,
            };
            if user.is_empty() || item.is_empty() || !enters {
                continue;
            }
            let value = match at.strength {
                Some(at) => self.strength(frame, (row, at), bad)?,
                None => 1.0,
            };
            let known = self.items.len();
            let item = self.items.insert(item);
            if self.items.len() > known {
                let cells: Vec<&str> = at.cells.iter().map(|&c| frame.get(row, c)).collect();
                self.cells.push_row(frame.line(row), &cells);
            }
            self.rows.push(Row { user: self.users.insert(user), order, item, value, time_ms });
        }
        Ok(())
    }

    fn strength(&self, frame: &Frame, (row, at): (usize, usize), bad: &mut BadValues) -> Result<f32, Error> {
        let text = frame.get(row, at).trim();
        match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => {
                let name = &frame.columns()[at];
                bad.add(frame, row, name, &format!("{} is no strength; 1 is taken", parse::short(text)))?;
                Ok(1.0)
            }
        }
    }

    /// Puts the rows in order; those of one place stay in the order of the files.
    pub(super) fn finish(&mut self, report: &mut PrepareReport) {
        self.rows.sort_by(|a, b| a.user.cmp(&b.user).then(a.order.total_cmp(&b.order)));
        let mut offsets = vec![0u32; self.users.len() + 1];
        self.rows.iter().for_each(|row| offsets[row.user as usize + 1] += 1);
        for user in 1..offsets.len() {
            offsets[user] += offsets[user - 1];
        }
        self.offsets = offsets;
        report.note("rows that enter histories", self.rows.len() as u64);
        report.note("rows without a place in their user's order", self.unplaced);
    }

    /// The encoded items of histories.
    ///
    /// # Errors
    /// Those of the encoder.
    pub(super) fn encode_items(&self, encoder: &Encoder, mut bad: BadValues) -> Result<Columns, Error> {
        Ok(encoder.encode(&[Side::Item], &self.cells, &mut bad)?)
    }

    /// For each request of a frame, given by its rows: its time and its user's latest rows before all of them, oldest first, and how
    /// many were left out of its place because their time is later than the request's.
    ///
    /// # Errors
    /// A column that is missing.
    pub(super) fn of(
        &self,
        frame: &Frame,
        requests: impl Iterator<Item = Range<usize>>,
        times_ms: &[i64],
    ) -> Result<(Vec<Past>, u64), Error> {
        let user = column(frame, self.user, "[dataset.table] user")?;
        let at = column(frame, self.order, "[dataset.table] order")?;
        let timed = self.files.time.is_some();
        let mut future = 0;
        let mut one = |(request, rows): (usize, Range<usize>)| {
            let orders: Option<Vec<f64>> = rows.clone().map(|row| order(frame.get(row, at)).0).collect();
            let first = orders.and_then(|orders| orders.into_iter().reduce(f64::min));
            let time_ms = match first {
                Some(first) if !timed => made_up(first),
                None if !timed => FIRST_MS,
                _ => times_ms[request],
            };
            let action = |row: &Row| Action {
                item: row.item,
                time_ms: row.time_ms,
                kind: EventKind::Click.code(),
                value: row.value,
            };
            let mut actions = Vec::new();
            // From the latest on: a user may have very many.
            for row in self.earlier(frame.get(rows.start, user).trim(), first).iter().rev() {
                if actions.len() == self.config.examples.max_history {
                    break;
                }
                match row.time_ms <= time_ms {
                    true => actions.push(action(row)),
                    false => future += 1,
                }
            }
            actions.reverse();
            (time_ms, actions)
        };
        let found = requests.enumerate().map(&mut one).collect();
        Ok((found, future))
    }

    /// The user's rows with a smaller order.
    fn earlier(&self, user: &str, order: Option<f64>) -> &[Row] {
        let (Some(user), Some(order)) = (self.users.get(user), order) else { return &[] };
        let span = self.offsets[user as usize] as usize..self.offsets[user as usize + 1] as usize;
        let rows = &self.rows[span];
        &rows[..rows.partition_point(|row| row.order < order)]
    }
}

impl HistoryWhere {
    /// Whether a row with this cell enters histories.
    fn holds(&self, cell: &str) -> bool {
        let text = cell.trim();
        let number = text.parse::<f64>().ok();
        let is = |cells: &Vec<Cell>| cells.iter().any(|c| c.is(text, number));
        self.is.as_ref().is_none_or(is) && self.min.is_none_or(|min| number.is_some_and(|n| n >= min))
    }
}

/// The place in an order cell, and what is wrong with it; no place for a missing or negative one.
fn order(cell: &str) -> (Option<f64>, Option<String>) {
    let text = cell.trim();
    match text.parse::<f64>() {
        _ if text.is_empty() => (None, None),
        Ok(order) if order.is_finite() => ((order >= 0.0).then_some(order), None),
        _ => (None, Some(format!("{} is no place in an order", parse::short(text)))),
    }
}

/// A time for a place.
fn made_up(order: f64) -> i64 {
    FIRST_MS.saturating_add((order * STEP_MS) as i64)
}
