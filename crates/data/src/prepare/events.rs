//! The events of a log in memory: columns of small numbers, in time order.
//!
//! Bytes per event: 17 (user, item, time, kind), and where the log has them 4 for the value, 8 for the
//! request, 4 for the position, and 6 plus 4 per column for columns of side context or exposure, whose
//! distinct cells are held once.

use std::sync::Arc;

use millstream_schema::ids::NO_ROW;
use millstream_schema::{BadValues, EventKind, Frame, IdMap, Side, parse};
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::frames::{Piece, column, paths, waves};
use super::{Job, PrepareReport, times};
use crate::Error;
use crate::config::EventFiles;

/// One column of cells, each distinct text held once.
struct Cells {
    name: String,
    texts: IdMap,
    codes: Vec<u32>,
}

/// All events; sorted by time, impressions before actions of the same moment, else as read.
#[derive(Default)]
pub(super) struct Events {
    pub(super) user: Vec<u32>,
    pub(super) item: Vec<u32>,
    pub(super) time_ms: Vec<i64>,
    /// Places in `kinds`.
    pub(super) kind: Vec<u8>,
    pub(super) kinds: Vec<EventKind>,
    value: Vec<f32>,
    request: Vec<u64>,
    position: Vec<u32>,
    cells: Vec<Cells>,
    /// Where each event was read, only kept beside `cells`.
    file: Vec<u16>,
    line: Vec<u32>,
    sources: Vec<Arc<str>>,
}

/// The rows of a piece that can be used.
struct Parsed {
    rows: Vec<u32>,
    times_ms: Vec<i64>,
    values: Vec<f32>,
    positions: Vec<u32>,
    bad: BadValues,
}

impl Events {
    /// Reads all files, adding users and items that are not known yet.
    pub(super) fn read(
        job: &Job<'_>,
        files: &EventFiles,
        (users, items): (&mut IdMap, &mut IdMap),
        report: &mut PrepareReport,
    ) -> Result<Self, Error> {
        let mut out = Self::new(job, files);
        waves(&paths(&job.folder, &files.files), &files.log_format(), |pieces| {
            let parsed: Vec<_> = pieces.par_iter().map(|piece| parse_piece(job, files, piece)).collect();
            for (piece, parsed) in pieces.iter().zip(parsed) {
                let parsed = parsed?;
                out.take(&piece.frame, &parsed, files, (users, items))?;
                report.rows_read += piece.frame.rows() as u64;
                report.bad.merge(&parsed.bad);
                if out.len() >= NO_ROW as usize {
                    return Err(Error::Config(
                        "[dataset.events]: a log may hold at most 4 billion events".into(),
                    ));
                }
            }
            job.progress("reading events", report.rows_read, None);
            Ok(())
        })?;
        out.sort();
        for (at, kind) in out.kinds.iter().enumerate() {
            let count = out.kind.iter().filter(|&&k| usize::from(k) == at).count();
            report.note(format!("events of kind {kind}"), count as u64);
        }
        Ok(out)
    }

    fn new(job: &Job<'_>, files: &EventFiles) -> Self {
        let mut columns = job.config.schema.columns(Side::Context);
        columns.extend(job.config.schema.columns(Side::Exposure));
        columns.sort();
        columns.dedup();
        let cells = columns.into_iter().map(|name| Cells { name, texts: IdMap::new(), codes: Vec::new() });
        Self {
            cells: cells.collect(),
            kinds: files.event.constant.iter().cloned().collect(),
            ..Self::default()
        }
    }

    fn take(
        &mut self,
        frame: &Frame,
        parsed: &Parsed,
        files: &EventFiles,
        (users, items): (&mut IdMap, &mut IdMap),
    ) -> Result<(), Error> {
        let user = column(frame, &files.user, "[dataset.events] user")?;
        let item = column(frame, &files.item, "[dataset.events] item")?;
        for &row in &parsed.rows {
            self.user.push(users.insert(frame.get(row as usize, user).trim()));
            self.item.push(items.insert(frame.get(row as usize, item).trim()));
        }
        self.time_ms.extend_from_slice(&parsed.times_ms);
        self.value.extend_from_slice(&parsed.values);
        self.position.extend_from_slice(&parsed.positions);
        self.take_kinds(frame, parsed, files)?;
        if let Some(name) = &files.request {
            let at = column(frame, name, "[dataset.events] request")?;
            self.request.extend(parsed.rows.iter().map(|&row| match frame.get(row as usize, at).trim() {
                "" => 0,
                id => xxh3_64(id.as_bytes()).max(1),
            }));
        }
        self.take_cells(frame, parsed)
    }

    fn take_kinds(&mut self, frame: &Frame, parsed: &Parsed, files: &EventFiles) -> Result<(), Error> {
        let Some(name) = &files.event.column else {
            self.kind.resize(self.user.len(), 0);
            return Ok(());
        };
        let at = column(frame, name, "[dataset.events] event")?;
        // Neighbouring rows often have the same kind.
        let mut last: (&str, u8) = ("", 0);
        for &row in &parsed.rows {
            let cell = frame.get(row as usize, at).trim();
            if cell != last.0 {
                last = (cell, self.kind_of(frame, row, cell, files)?);
            }
            self.kind.push(last.1);
        }
        Ok(())
    }

    fn kind_of(&mut self, frame: &Frame, row: u32, cell: &str, files: &EventFiles) -> Result<u8, Error> {
        let kind = match files.event.map.get(cell) {
            Some(kind) => kind.clone(),
            None => cell.parse().map_err(|_| Error::Input {
                place: frame.place(row as usize),
                reason: format!(
                    "event {} is no kind; say what it stands for: event = {{ column = \"{}\", map = {{ \"{}\" = \"click\" }} }}",
                    parse::short(cell),
                    frame.columns().get(files.event.column.as_ref().and_then(|c| frame.column(c)).unwrap_or(0)).map_or("", |c| c),
                    cell.chars().take(40).collect::<String>(),
                ),
            })?,
        };
        if let Some(at) = self.kinds.iter().position(|k| *k == kind) {
            return Ok(at as u8);
        }
        if self.kinds.len() == usize::from(u8::MAX) {
            let reason = "more than 255 kinds of event; is this the right column?";
            return Err(Error::Input { place: frame.place(row as usize), reason: reason.into() });
        }
        self.kinds.push(kind);
        Ok(self.kinds.len() as u8 - 1)
    }

    fn take_cells(&mut self, frame: &Frame, parsed: &Parsed) -> Result<(), Error> {
        if self.cells.is_empty() {
            return Ok(());
        }
        for cells in &mut self.cells {
            let at = column(frame, &cells.name, "[[feature]] column")?;
            cells
                .codes
                .extend(parsed.rows.iter().map(|&row| cells.texts.insert(frame.get(row as usize, at))));
        }
        if self.sources.last().is_none_or(|s| **s != *frame.source()) {
            self.sources.push(frame.source().into());
        }
        self.file.resize(self.user.len(), (self.sources.len() - 1) as u16);
        // Lines beyond four billion are all shown as the last one; they only serve messages.
        self.line.extend(parsed.rows.iter().map(|&r| frame.line(r as usize).min(u64::from(u32::MAX)) as u32));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.user.len()
    }

    /// The kind of an event.
    pub(super) fn kind_at(&self, at: usize) -> &EventKind {
        &self.kinds[usize::from(self.kind[at])]
    }

    /// The value of an event; 1 where the log has none.
    pub(super) fn value_at(&self, at: usize) -> f32 {
        self.value.get(at).copied().unwrap_or(1.0)
    }

    /// A hash of the event's request id, above 0; 0 for none.
    pub(super) fn request_at(&self, at: usize) -> u64 {
        self.request.get(at).copied().unwrap_or(0)
    }

    /// The position; the largest number for none.
    pub(super) fn position_at(&self, at: usize) -> u32 {
        self.position.get(at).copied().unwrap_or(NO_ROW)
    }

    /// Which kinds are impressions, by place in `kinds`.
    pub(super) fn impressions(&self) -> Vec<bool> {
        self.kinds.iter().map(|k| !k.is_action()).collect()
    }

    fn sort(&mut self) {
        let shown = self.impressions();
        let key = |at: u32| (self.time_ms[at as usize], !shown[usize::from(self.kind[at as usize])], at);
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        if order.par_windows(2).all(|w| key(w[0]) < key(w[1])) {
            return;
        }
        order.par_sort_unstable_by_key(|&at| key(at));
        permute(&mut self.user, &order);
        permute(&mut self.item, &order);
        permute(&mut self.time_ms, &order);
        permute(&mut self.kind, &order);
        permute(&mut self.value, &order);
        permute(&mut self.request, &order);
        permute(&mut self.position, &order);
        permute(&mut self.file, &order);
        permute(&mut self.line, &order);
        self.cells.iter_mut().for_each(|c| permute(&mut c.codes, &order));
    }

    /// Frames of these events' context and exposure cells, one for each stretch of a file;
    /// [`NO_ROW`] is a row of missing cells.
    pub(super) fn frames(&self, rows: &[u32]) -> Vec<Frame> {
        let names: Vec<&str> = self.cells.iter().map(|c| c.name.as_str()).collect();
        let file = |row: u32| self.file.get(row as usize).copied();
        let mut out: Vec<Frame> = Vec::new();
        let (mut current, mut cells) = (None, Vec::with_capacity(names.len()));
        for &row in rows {
            let source = if row == NO_ROW { current.flatten() } else { file(row) };
            if current != Some(source) || out.is_empty() {
                let name = source.and_then(|f| self.sources.get(usize::from(f)));
                out.push(Frame::new(name.map_or("events", |n| n), &names));
                current = Some(source);
            }
            cells.clear();
            if row != NO_ROW {
                cells.extend(self.cells.iter().map(|c| c.texts.name(c.codes[row as usize])));
            }
            let line = self.line.get(row as usize).copied().unwrap_or(0);
            if let Some(frame) = out.last_mut() {
                frame.push_row(line.into(), &cells);
            }
        }
        out
    }
}

fn permute<T: Copy + Send + Sync>(values: &mut Vec<T>, order: &[u32]) {
    if !values.is_empty() {
        *values = order.par_iter().map(|&at| values[at as usize]).collect();
    }
}

/// Times, values and positions; rows that cannot be used are counted and left out.
fn parse_piece(job: &Job<'_>, files: &EventFiles, piece: &Piece) -> Result<Parsed, Error> {
    let frame = &piece.frame;
    let mut bad = job.bad_values();
    let times_ms = times::read(piece, &files.time, "[dataset.events] time", &mut bad)?;
    let place = |name: &str, key: &str| column(frame, name, &format!("[dataset.events] {key}"));
    let ids = [(&files.user, place(&files.user, "user")?), (&files.item, place(&files.item, "item")?)];
    let value = files.value.as_deref().map(|name| place(name, "value").map(|at| (name, at))).transpose()?;
    let position =
        files.position.as_deref().map(|name| place(name, "position").map(|at| (name, at))).transpose()?;
    let mut out = Parsed {
        rows: Vec::with_capacity(frame.rows()),
        times_ms: Vec::with_capacity(frame.rows()),
        values: Vec::new(),
        positions: Vec::new(),
        bad: job.bad_values(),
    };
    'rows: for (row, time_ms) in times_ms.into_iter().enumerate() {
        let Some(time_ms) = time_ms else { continue };
        for (name, at) in ids {
            if frame.get(row, at).trim().is_empty() {
                bad.add(frame, row, name, "the id is missing")?;
                continue 'rows;
            }
        }
        if let Some((name, at)) = value {
            match parse::number(frame.get(row, at)) {
                Ok(x) => out.values.push(x as f32),
                Err(_) if frame.get(row, at).trim().is_empty() => out.values.push(1.0),
                Err(reason) => {
                    bad.add(frame, row, name, &reason)?;
                    continue;
                }
            }
        }
        if let Some((name, at)) = position {
            out.positions.push(position_of(frame, row, (name, at), &mut bad)?);
        }
        out.rows.push(row as u32);
        out.times_ms.push(time_ms);
    }
    out.bad = bad;
    Ok(out)
}

fn position_of(
    frame: &Frame,
    row: usize,
    (name, at): (&str, usize),
    bad: &mut BadValues,
) -> Result<u32, Error> {
    let cell = frame.get(row, at);
    match parse::number(cell) {
        _ if cell.trim().is_empty() => Ok(NO_ROW),
        Ok(x) if x >= 0.0 && x < f64::from(NO_ROW) => Ok(x as u32),
        Ok(_) => bad
            .add(frame, row, name, &format!("not a position ({})", parse::short(cell)))
            .map(|()| NO_ROW)
            .map_err(Error::from),
        Err(reason) => bad.add(frame, row, name, &reason).map(|()| NO_ROW).map_err(Error::from),
    }
}
