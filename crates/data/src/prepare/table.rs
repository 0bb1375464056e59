//! Tables: one row is one example. Two passes over the files, three where time decides the split; the
//! rows are never held.

use std::path::PathBuf;

use millstream_schema::ids::NO_ROW;
use millstream_schema::{BadValues, Columns, Encoder, Examples, Fitter, Frame, History, IdMap, Side};
use rayon::prelude::*;

use super::frames::{Piece, column, paths, pick, waves};
use super::labels::Labels;
use super::output::{Catalogue, Manifest, Parts, write_encoder};
use super::{CATALOGUE, Job, PrepareReport, times};
use crate::config::{SplitBy, TableFiles};
use crate::negatives::next;
use crate::split::{RatioSplit, TimeSplit};
use crate::{Error, Split, Use};

const REQUEST: [Side; 2] = [Side::User, Side::Context];
const CANDIDATE: [Side; 2] = [Side::Item, Side::Exposure];
const ALL: [Side; 4] = [Side::User, Side::Context, Side::Item, Side::Exposure];
/// Times kept to find where a split by time is cut: exact up to so many rows, within about 0.1 % of the
/// rows beyond.
const TIME_SAMPLE: usize = 4 << 20;

/// How rows find their part.
#[derive(Clone, Copy)]
enum Rule {
    Given(Split),
    Ratio(RatioSplit),
    Time(TimeSplit),
}

/// What becomes of the rows of one piece.
struct Sorted {
    /// Rows of each part, by [`Split`].
    rows: [Vec<u32>; 3],
    /// `[rows kept, T]`, in row order.
    labels: Vec<f32>,
    /// Of each row: its first label's place in `labels`, and its time (0 without a time column).
    places: Vec<usize>,
    times_ms: Vec<i64>,
    dropped: u64,
}

/// One piece's examples, by part, and the bad values met.
struct Encoded {
    parts: Vec<(Split, Examples, Vec<u32>)>,
    bad: BadValues,
    dropped: u64,
}

struct Table<'a> {
    job: &'a Job<'a>,
    files: &'a TableFiles,
}

pub(super) fn prepare(job: &Job<'_>) -> Result<PrepareReport, Error> {
    let files = job.config.dataset.table.as_ref();
    let files =
        files.ok_or_else(|| Error::Config("[dataset]: a section [dataset.table] is missing".into()))?;
    Table { job, files }.prepare()
}

impl Table<'_> {
    fn prepare(&self) -> Result<PrepareReport, Error> {
        let mut report = PrepareReport { bad: self.job.bad_values(), ..PrepareReport::default() };
        let rule = self.rule(&mut report)?;
        let encoder = self.fit(rule)?;
        let users = self.encode(rule, &encoder, &mut report)?;
        report.users = users.len();
        if report.parts.part(Split::Train, Use::Rank).candidates == 0 {
            return Err(Error::Config("[split]: no row is left to train on".into()));
        }
        write_encoder(self.job.out, &encoder)?;
        Catalogue { users, ..Catalogue::default() }.write(&self.job.out.join(CATALOGUE))?;
        Manifest::new(self.job.config, &report).write(self.job.out)?;
        Ok(report)
    }

    /// The files with their rule; `rule` where one rule sorts the rows of all.
    fn groups(&self, rule: Option<Rule>) -> Vec<(Rule, Vec<PathBuf>)> {
        let f = self.files;
        match rule {
            Some(rule) => vec![(rule, paths(&self.job.folder, &f.all))],
            None => [(Split::Train, &f.train), (Split::Valid, &f.valid), (Split::Test, &f.test)]
                .into_iter()
                .map(|(split, files)| (Rule::Given(split), paths(&self.job.folder, files)))
                .collect(),
        }
    }

    fn rule(&self, report: &mut PrepareReport) -> Result<Option<Rule>, Error> {
        let split = &self.job.config.split;
        match self.job.config.split_by() {
            SplitBy::Ratio => Ok(Some(Rule::Ratio(RatioSplit::new(split.valid, split.test, split.seed)))),
            SplitBy::Time => {
                let cut = TimeSplit::at_shares(self.sample_times()?, split.valid, split.test);
                report.time_split = Some(cut);
                Ok(Some(Rule::Time(cut)))
            }
            SplitBy::Files | SplitBy::User => Ok(None),
        }
    }

    /// All times, or a uniform sample of them (Algorithm R, Vitter 1985).
    fn sample_times(&self) -> Result<Vec<i64>, Error> {
        let Some(time) = &self.files.time else { return Ok(Vec::new()) };
        let (mut kept, mut seen, mut rng) = (Vec::new(), 0u64, self.job.config.split.seed);
        waves(&paths(&self.job.folder, &self.files.all), &self.files.log_format(), |pieces| {
            for piece in pieces {
                for ms in times::read(piece, time, "[dataset.table] time", &mut self.job.bad_values())?
                    .into_iter()
                    .flatten()
                {
                    seen += 1;
                    if kept.len() < TIME_SAMPLE {
                        kept.push(ms);
                    } else if let Some(slot) = kept.get_mut((next(&mut rng) % seen) as usize) {
                        *slot = ms;
                    }
                }
            }
            self.job.progress("finding the split", seen, None);
            Ok(())
        })?;
        Ok(kept)
    }

    /// Learns the encoder from the training rows.
    fn fit(&self, rule: Option<Rule>) -> Result<Encoder, Error> {
        let mut fitter = Fitter::new(&self.job.config.schema);
        let mut rows = 0;
        for (rule, files) in self.groups(rule) {
            if matches!(rule, Rule::Given(split) if split != Split::Train) {
                continue;
            }
            waves(&files, &self.files.log_format(), |pieces| {
                let frames: Result<Vec<Option<Frame>>, Error> =
                    pieces.par_iter().map(|piece| self.training_rows(piece, rule)).collect();
                for (piece, chosen) in pieces.iter().zip(frames?) {
                    fitter.observe(&ALL, chosen.as_ref().unwrap_or(&piece.frame))?;
                    rows += piece.frame.rows() as u64;
                }
                self.job.progress("fitting", rows, None);
                Ok(())
            })?;
        }
        Ok(fitter.finish()?)
    }

    /// The rows to learn from; `None` for all.
    fn training_rows(&self, piece: &Piece, rule: Rule) -> Result<Option<Frame>, Error> {
        let sorted = self.sort(piece, rule, &mut self.job.bad_values())?;
        let [train, ..] = &sorted.rows;
        Ok((train.len() < piece.frame.rows()).then(|| pick(&piece.frame, train)))
    }

    /// Decides each row's part and reads its labels.
    fn sort(&self, piece: &Piece, rule: Rule, bad: &mut BadValues) -> Result<Sorted, Error> {
        let n = piece.frame.rows();
        let labels = Labels::new(&self.job.config.tasks, &piece.frame)?;
        let times = match &self.files.time {
            Some(time) => Some(times::read(piece, time, "[dataset.table] time", bad)?),
            None => None,
        };
        let mut out = Sorted {
            rows: Default::default(),
            labels: Vec::with_capacity(n * self.job.config.tasks.len()),
            places: Vec::with_capacity(n),
            times_ms: Vec::with_capacity(n),
            dropped: 0,
        };
        for row in 0..n {
            let time_ms = times.as_ref().map_or(Some(0), |t| t[row]);
            out.places.push(out.labels.len());
            out.times_ms.push(time_ms.unwrap_or(0));
            let kept = labels.read(row, &mut out.labels)?;
            out.dropped += u64::from(!kept);
            let Some(time_ms) = time_ms.filter(|_| kept) else { continue };
            let split = match rule {
                Rule::Given(split) => split,
                Rule::Ratio(ratio) => ratio.part(piece.row + row as u64),
                Rule::Time(time) => time.part(time_ms),
            };
            out.rows[split as usize].push(row as u32);
        }
        Ok(out)
    }

    /// Writes all examples; gives the groups met.
    fn encode(
        &self,
        rule: Option<Rule>,
        encoder: &Encoder,
        report: &mut PrepareReport,
    ) -> Result<IdMap, Error> {
        let mut parts = Parts::create(self.job.out, Use::Rank, self.job.config.tasks.len())?;
        let mut users = IdMap::new();
        for (rule, files) in self.groups(rule) {
            waves(&files, &self.files.log_format(), |pieces| {
                let encoded: Vec<Result<Encoded, Error>> =
                    pieces.par_iter().map(|piece| self.examples(piece, rule, encoder)).collect();
                for (piece, encoded) in pieces.iter().zip(encoded) {
                    let encoded = encoded?;
                    for (split, mut examples, rows) in encoded.parts {
                        self.name_groups(&piece.frame, &rows, &mut users, &mut examples)?;
                        parts.push(split, &examples)?;
                    }
                    report.rows_read += piece.frame.rows() as u64;
                    report.bad.merge(&encoded.bad);
                    report.drop_rows("rows dropped by a task's `drop`", encoded.dropped);
                }
                self.job.progress("encoding", report.rows_read, None);
                Ok(())
            })?;
        }
        parts.finish(&mut report.parts)?;
        Ok(users)
    }

    fn examples(&self, piece: &Piece, rule: Rule, encoder: &Encoder) -> Result<Encoded, Error> {
        let mut bad = self.job.bad_values();
        let sorted = self.sort(piece, rule, &mut bad)?;
        let mut parts = Vec::new();
        for split in Split::ALL {
            let rows = &sorted.rows[split as usize];
            if rows.is_empty() {
                continue;
            }
            let chosen = (rows.len() < piece.frame.rows()).then(|| pick(&piece.frame, rows));
            let frame = chosen.as_ref().unwrap_or(&piece.frame);
            parts.push((split, self.part(frame, rows, &sorted, encoder, &mut bad)?, rows.clone()));
        }
        Ok(Encoded { parts, bad, dropped: sorted.dropped })
    }

    /// One request with one candidate per row; all fields stand in the examples themselves.
    fn part(
        &self,
        frame: &Frame,
        rows: &[u32],
        sorted: &Sorted,
        encoder: &Encoder,
        bad: &mut BadValues,
    ) -> Result<Examples, Error> {
        let (n, t) = (rows.len(), self.job.config.tasks.len());
        let context = some_fields(encoder.encode(&REQUEST, frame, bad)?);
        let exposure = some_fields(encoder.encode(&CANDIDATE, frame, bad)?);
        let labels = |&row: &u32| &sorted.labels[sorted.places[row as usize]..][..t];
        Ok(Examples {
            request_user: vec![NO_ROW; n],
            request_time_ms: rows.iter().map(|&r| sorted.times_ms[r as usize]).collect(),
            history: History { offsets: vec![0; n + 1], ..History::default() },
            context,
            candidate_request: (0..n as u32).collect(),
            candidate_item: Vec::new(),
            exposure,
            labels: rows.iter().flat_map(labels).copied().collect(),
            tasks: t,
            weights: Vec::new(),
        })
    }

    /// Enters the rows' groups; an empty cell is a group of no one.
    fn name_groups(
        &self,
        frame: &Frame,
        rows: &[u32],
        users: &mut IdMap,
        x: &mut Examples,
    ) -> Result<(), Error> {
        let Some(group) = &self.files.group else { return Ok(()) };
        let at = column(frame, group, "[dataset.table] group")?;
        for (user, &row) in x.request_user.iter_mut().zip(rows) {
            let cell = frame.get(row as usize, at).trim();
            if !cell.is_empty() {
                *user = users.insert(cell);
            }
        }
        Ok(())
    }
}

/// No columns at all have no rows either.
pub(super) fn some_fields(columns: Columns) -> Columns {
    if columns.fields.is_empty() { Columns::default() } else { columns }
}
