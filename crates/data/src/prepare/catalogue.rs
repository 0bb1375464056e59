//! Users and items: their files, and those met only in events. Two passes; the files are never held.

use std::path::PathBuf;

use millstream_schema::{BadValues, Columns, Encoder, Fitter, Frame, IdMap, Side};
use rayon::prelude::*;

use super::frames::{FRAME_ROWS, Piece, column, paths, waves};
use super::{Job, times};
use crate::Error;
use crate::config::{CatalogueFiles, TimeColumn};

/// One side of the catalogue.
pub(super) struct Shelf<'a> {
    job: &'a Job<'a>,
    files: Option<&'a CatalogueFiles>,
    side: Side,
    /// Column of the id.
    id: &'a str,
    /// Ids in row order: those of the files first.
    pub(super) ids: IdMap,
    /// How many come from the files.
    pub(super) listed: usize,
    /// Lifetimes of the listed rows; shorter than `ids` where nothing is known.
    created_ms: Vec<i64>,
    retired_ms: Vec<i64>,
}

impl<'a> Shelf<'a> {
    pub(super) fn users(job: &'a Job<'a>) -> Self {
        Self::new(job, job.config.dataset.users.as_ref(), Side::User, job.config.user_column())
    }

    pub(super) fn items(job: &'a Job<'a>) -> Self {
        Self::new(job, job.config.dataset.items.as_ref(), Side::Item, job.config.item_column())
    }

    fn new(job: &'a Job<'a>, files: Option<&'a CatalogueFiles>, side: Side, id: &'a str) -> Self {
        let (ids, listed) = (IdMap::new(), 0);
        Self { job, files, side, id, ids, listed, created_ms: Vec::new(), retired_ms: Vec::new() }
    }

    fn name(&self) -> &'static str {
        if self.side == Side::User { "users" } else { "items" }
    }

    /// First pass: ids and lifetimes, and what the encoder learns.
    ///
    /// # Errors
    /// An id that is missing or occurs twice; a lifetime that is no time.
    pub(super) fn read(&mut self, fitter: &mut Fitter, bad: &mut BadValues) -> Result<(), Error> {
        let Some(files) = self.files else { return Ok(()) };
        let mut places: Vec<(u32, u64)> = Vec::new();
        let all = paths(&self.job.folder, &files.files);
        waves(&all, &files.log_format(), |pieces| {
            for piece in pieces {
                self.take_ids(piece, &all, &mut places)?;
                self.take_lifetimes(piece, files, bad)?;
                fitter.observe(&[self.side], &piece.frame)?;
            }
            self.job.progress(self.name(), self.ids.len() as u64, None);
            Ok(())
        })?;
        self.listed = self.ids.len();
        Ok(())
    }

    fn take_ids(
        &mut self,
        piece: &Piece,
        all: &[PathBuf],
        places: &mut Vec<(u32, u64)>,
    ) -> Result<(), Error> {
        let frame = &piece.frame;
        let at = column(frame, self.id, &format!("[dataset.{}] id", self.name()))?;
        for row in 0..frame.rows() {
            let id = frame.get(row, at).trim();
            if id.is_empty() {
                return Err(Error::Input { place: frame.place(row), reason: "the id is missing".into() });
            }
            let known = self.ids.len();
            let at = self.ids.insert(id) as usize;
            if at < known {
                let (file, line) = places[at];
                let first = all.get(file as usize).map(|p| p.display().to_string()).unwrap_or_default();
                let shown = millstream_schema::parse::short(id);
                let reason =
                    format!("{} id {shown} is already at {first}:{line}", self.name().trim_end_matches('s'));
                return Err(Error::Input { place: frame.place(row), reason });
            }
            places.push((piece.file as u32, frame.line(row)));
        }
        Ok(())
    }

    fn take_lifetimes(
        &mut self,
        piece: &Piece,
        files: &CatalogueFiles,
        bad: &mut BadValues,
    ) -> Result<(), Error> {
        let mut moments = |time: &Option<TimeColumn>, key: &str, never: i64| -> Result<Vec<i64>, Error> {
            let Some(time) = time else { return Ok(Vec::new()) };
            let at = column(&piece.frame, &time.column, &format!("[dataset.items] {key}"))?;
            (0..piece.frame.rows())
                .map(|row| {
                    if piece.frame.get(row, at).trim().is_empty() {
                        return Ok(never);
                    }
                    let early = piece.row_in_file + (row as u64) < times::PROBE_ROWS;
                    Ok(times::cell((&piece.frame, row, at), time, early, bad)?.unwrap_or(never))
                })
                .collect()
        };
        self.created_ms.extend(moments(&files.created, "created", i64::MIN)?);
        self.retired_ms.extend(moments(&files.retired, "retired", i64::MAX)?);
        Ok(())
    }

    /// Lets the encoder learn the ids that only events have.
    pub(super) fn observe_rest(&self, fitter: &mut Fitter) -> Result<(), Error> {
        self.rest().try_for_each(|frame| Ok(fitter.observe(&[self.side], &frame)?))
    }

    /// Second pass: the encoded rows of all ids.
    pub(super) fn encode(&self, encoder: &Encoder, bad: &mut BadValues) -> Result<Columns, Error> {
        let mut out = Columns::default();
        if let Some(files) = self.files {
            waves(&paths(&self.job.folder, &files.files), &files.log_format(), |pieces| {
                let encode = |piece: &Piece| {
                    let mut bad = self.job.bad_values();
                    encoder.encode(&[self.side], &piece.frame, &mut bad).map(|columns| (columns, bad))
                };
                let encoded: Vec<_> = pieces.par_iter().map(encode).collect();
                for encoded in encoded {
                    let (columns, more) = encoded?;
                    out.append(&columns)?;
                    bad.merge(&more);
                }
                Ok(())
            })?;
        }
        if out.rows != self.listed {
            let reason = "the number of rows changed while it was read";
            return Err(Error::Input { place: format!("[dataset.{}]", self.name()), reason: reason.into() });
        }
        for frame in self.rest() {
            out.append(&encoder.encode(&[self.side], &frame, bad)?)?;
        }
        Ok(out)
    }

    /// Frames of the ids that only events have: all other cells are missing.
    fn rest(&self) -> impl Iterator<Item = Frame> + '_ {
        let mut columns = vec![self.id.to_owned()];
        if self.files.is_some() {
            // Columns that no file has are refused where the files are read; without files there is only the id.
            columns.extend(self.job.config.schema.columns(self.side).into_iter().filter(|c| *c != self.id));
        }
        let source = format!("{} met in events", self.name());
        (self.listed..self.ids.len()).step_by(FRAME_ROWS).map(move |start| {
            let mut frame = Frame::new(&source, &columns);
            for row in start..self.ids.len().min(start + FRAME_ROWS) {
                frame.push_row(row as u64 + 1, &[self.ids.name(row as u32)]);
            }
            frame
        })
    }

    /// First and last moments of all rows.
    pub(super) fn lifetimes(&mut self) -> (Vec<i64>, Vec<i64>) {
        self.created_ms.resize(self.ids.len(), i64::MIN);
        self.retired_ms.resize(self.ids.len(), i64::MAX);
        (std::mem::take(&mut self.created_ms), std::mem::take(&mut self.retired_ms))
    }
}
