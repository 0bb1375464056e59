//! Tables: one row is one example. Two passes over the files, one more where time decides the split and one where rows have
//! histories; the rows are never held, but for what histories need of them.

use std::path::PathBuf;

use millstream_schema::ids::NO_ROW;
use millstream_schema::{BadValues, Columns, Encoder, Examples, Fitter, Frame, History, IdMap, Side};
use rayon::prelude::*;

use super::frames::{Piece, column, paths, pick, waves, waves_of};
use super::groups::Groups;
use super::histories::Histories;
use super::joins::Joins;
use super::labels::Labels;
use super::output::{Catalogue, Manifest, Parts, write_encoder};
use super::{CATALOGUE, Job, PrepareReport, times};
use crate::config::{QueryFiles, SplitBy, TableFiles};
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

/// Files that one rule sorts, and their requests where these have several rows.
struct Group {
    rule: Rule,
    paths: Vec<PathBuf>,
    requests: Option<Groups>,
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
    /// With the first row of each request.
    parts: Vec<(Split, Examples, Vec<u32>)>,
    bad: BadValues,
    dropped: u64,
    /// Rows left out of histories because their time is later than the request's.
    future: u64,
}

struct Table<'a> {
    job: &'a Job<'a>,
    files: &'a TableFiles,
    joins: Option<Joins>,
    histories: Option<Histories<'a>>,
}

pub(super) fn prepare(job: &Job<'_>) -> Result<PrepareReport, Error> {
    let files = job.config.dataset.table.as_ref();
    let files =
        files.ok_or_else(|| Error::Config("[dataset]: a section [dataset.table] is missing".into()))?;
    let joins = Joins::read(&job.folder, &job.config.dataset)?;
    let histories = Histories::new(job.config, files);
    Table { job, files, joins, histories }.prepare()
}

impl Table<'_> {
    fn prepare(mut self) -> Result<PrepareReport, Error> {
        let mut report = PrepareReport { bad: self.job.bad_values(), ..PrepareReport::default() };
        let rule = self.rule(&mut report)?;
        let groups = self.groups(rule)?;
        self.gather_histories(&groups, &mut report)?;
        let encoder = self.fit(&groups)?;
        let users = self.encode(&groups, &encoder, &mut report)?;
        report.users = users.len();
        if report.parts.part(Split::Train, Use::Rank).candidates == 0 {
            return Err(Error::Config("[split]: no row is left to train on".into()));
        }
        write_encoder(self.job.out, &encoder)?;
        let mut catalogue = Catalogue { users, ..Catalogue::default() };
        if let Some(histories) = self.histories {
            let n = histories.items.len();
            report.items = n;
            catalogue.item_columns = histories.encode_items(&encoder, self.job.bad_values())?;
            catalogue.items = histories.items;
            (catalogue.created_ms, catalogue.retired_ms) = (vec![i64::MIN; n], vec![i64::MAX; n]);
            catalogue.positives = vec![0; n];
        }
        catalogue.write(&self.job.out.join(CATALOGUE))?;
        Manifest::new(self.job.config, &report).write(self.job.out)?;
        Ok(report)
    }

    /// Takes up the rows of all parts that enter histories: what counts is who did what before, not which part it is in.
    fn gather_histories(&mut self, groups: &[Group], report: &mut PrepareReport) -> Result<(), Error> {
        let Some(histories) = &mut self.histories else { return Ok(()) };
        let mut rows = 0;
        for group in groups {
            let reading = (group.requests.as_ref(), self.joins.as_ref());
            waves_of(&group.paths, &self.files.log_format(), reading, |pieces| {
                for piece in pieces {
                    histories.take(piece, &mut report.bad)?;
                    rows += piece.frame.rows() as u64;
                }
                self.job.progress("reading histories", rows, None);
                Ok(())
            })?;
        }
        histories.finish(report);
        Ok(())
    }

    /// The files with their rule; `rule` where one rule sorts the rows of all.
    fn groups(&self, rule: Option<Rule>) -> Result<Vec<Group>, Error> {
        let (f, none) = (self.files, QueryFiles::default());
        let sizes = f.queries.as_ref().unwrap_or(&none);
        let split = &self.job.config.split;
        let train = match split.valid_of_train {
            Some(share) => Rule::Ratio(RatioSplit::new(share, 0.0, split.seed)),
            None => Rule::Given(Split::Train),
        };
        let all = match rule {
            Some(rule) => vec![(rule, &f.all, &sizes.all)],
            None => vec![
                (train, &f.train, &sizes.train),
                (Rule::Given(Split::Valid), &f.valid, &sizes.valid),
                (Rule::Given(Split::Test), &f.test, &sizes.test),
            ],
        };
        let group = |(rule, files, sizes): (Rule, &Vec<String>, &Vec<String>)| {
            let paths = paths(&self.job.folder, files);
            let requests = Groups::find(&self.job.folder, f, (&paths, sizes))?;
            Ok(Group { rule, paths, requests })
        };
        all.into_iter().map(group).collect()
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
            SplitBy::Files | SplitBy::User | SplitBy::ColdItems => Ok(None),
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
    fn fit(&self, groups: &[Group]) -> Result<Encoder, Error> {
        let mut fitter = Fitter::new(&self.job.config.schema);
        let mut rows = 0;
        for group in groups {
            if matches!(group.rule, Rule::Given(split) if split != Split::Train) {
                continue;
            }
            waves_of(
                &group.paths,
                &self.files.log_format(),
                (group.requests.as_ref(), self.joins.as_ref()),
                |pieces| {
                    let frames: Result<Vec<Option<Frame>>, Error> =
                        pieces.par_iter().map(|piece| self.training_rows(piece, group)).collect();
                    for (piece, chosen) in pieces.iter().zip(frames?) {
                        fitter.observe(&ALL, chosen.as_ref().unwrap_or(&piece.frame))?;
                        rows += piece.frame.rows() as u64;
                    }
                    self.job.progress("fitting", rows, None);
                    Ok(())
                },
            )?;
        }
        Ok(fitter.finish()?)
    }

    /// The rows to learn from; `None` for all.
    fn training_rows(&self, piece: &Piece, group: &Group) -> Result<Option<Frame>, Error> {
        let sorted = self.sort(piece, group, &mut self.job.bad_values())?;
        let [train, ..] = &sorted.rows;
        Ok((train.len() < piece.frame.rows()).then(|| pick(&piece.frame, train)))
    }

    /// Decides each row's part and reads its labels.
    fn sort(&self, piece: &Piece, group: &Group, bad: &mut BadValues) -> Result<Sorted, Error> {
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
            let split = match group.rule {
                Rule::Given(split) => split,
                Rule::Ratio(ratio) => ratio.part(match &group.requests {
                    Some(requests) => requests.request(piece.file, piece.row_in_file + row as u64),
                    None => piece.row + row as u64,
                }),
                Rule::Time(time) => time.part(time_ms),
            };
            out.rows[split as usize].push(row as u32);
        }
        Ok(out)
    }

    /// Writes all examples; gives the groups met.
    fn encode(
        &self,
        groups: &[Group],
        encoder: &Encoder,
        report: &mut PrepareReport,
    ) -> Result<IdMap, Error> {
        let mut parts = Parts::create(self.job.out, Use::Rank, self.job.config.tasks.len())?;
        let mut users = IdMap::new();
        for group in groups {
            waves_of(
                &group.paths,
                &self.files.log_format(),
                (group.requests.as_ref(), self.joins.as_ref()),
                |pieces| {
                    let encoded: Vec<Result<Encoded, Error>> =
                        pieces.par_iter().map(|piece| self.examples(piece, group, encoder)).collect();
                    for (piece, encoded) in pieces.iter().zip(encoded) {
                        let encoded = encoded?;
                        for (split, mut examples, firsts) in encoded.parts {
                            self.name_groups((piece, group), &firsts, &mut users, &mut examples)?;
                            parts.push(split, &examples)?;
                        }
                        report.rows_read += piece.frame.rows() as u64;
                        report.bad.merge(&encoded.bad);
                        report.drop_rows("rows dropped by a task's `drop`", encoded.dropped);
                        report.drop_rows("actions of histories from after the request", encoded.future);
                    }
                    self.job.progress("encoding", report.rows_read, None);
                    Ok(())
                },
            )?;
        }
        parts.finish(&mut report.parts)?;
        Ok(users)
    }

    fn examples(&self, piece: &Piece, group: &Group, encoder: &Encoder) -> Result<Encoded, Error> {
        let mut bad = self.job.bad_values();
        let sorted = self.sort(piece, group, &mut bad)?;
        let (mut parts, mut future) = (Vec::new(), 0);
        for split in Split::ALL {
            let rows = &sorted.rows[split as usize];
            if rows.is_empty() {
                continue;
            }
            let chosen = (rows.len() < piece.frame.rows()).then(|| pick(&piece.frame, rows));
            let frame = chosen.as_ref().unwrap_or(&piece.frame);
            let of = |&row: &u32| match &group.requests {
                Some(requests) => requests.request(piece.file, piece.row_in_file + u64::from(row)),
                None => u64::from(row),
            };
            let requests = number(rows.iter().map(of));
            let mut examples = self.part(frame, (rows, &requests), &sorted, encoder, &mut bad)?;
            future += self.add_histories(frame, &requests, &mut examples)?;
            parts.push((
                split,
                examples,
                firsts(&requests).into_iter().map(|at| rows[at as usize]).collect(),
            ));
        }
        Ok(Encoded { parts, bad, dropped: sorted.dropped, future })
    }

    /// The rows' requests with their candidates; all fields stand in the examples themselves. A request's own
    /// fields are those of its first row.
    fn part(
        &self,
        frame: &Frame,
        (rows, requests): (&[u32], &[u32]),
        sorted: &Sorted,
        encoder: &Encoder,
        bad: &mut BadValues,
    ) -> Result<Examples, Error> {
        let (t, firsts) = (self.job.config.tasks.len(), firsts(requests));
        let heads = (firsts.len() < rows.len()).then(|| pick(frame, &firsts));
        let context = some_fields(encoder.encode(&REQUEST, heads.as_ref().unwrap_or(frame), bad)?);
        let exposure = some_fields(encoder.encode(&CANDIDATE, frame, bad)?);
        let labels = |&row: &u32| &sorted.labels[sorted.places[row as usize]..][..t];
        let time = |&first: &u32| sorted.times_ms[rows[first as usize] as usize];
        Ok(Examples {
            request_user: vec![NO_ROW; firsts.len()],
            request_time_ms: firsts.iter().map(time).collect(),
            history: History { offsets: vec![0; firsts.len() + 1], ..History::default() },
            context,
            candidate_request: requests.to_vec(),
            candidate_item: Vec::new(),
            exposure,
            labels: rows.iter().flat_map(labels).copied().collect(),
            tasks: t,
            weights: Vec::new(),
        })
    }

    /// Gives each request its user's earlier rows, and its time where the place stands for it; says how many actions were left
    /// out because they are from after the request.
    fn add_histories(&self, frame: &Frame, requests: &[u32], x: &mut Examples) -> Result<u64, Error> {
        let Some(histories) = &self.histories else { return Ok(0) };
        let starts = firsts(requests);
        let ends = starts.iter().skip(1).copied().chain([requests.len() as u32]);
        let spans = starts.iter().zip(ends).map(|(&start, end)| start as usize..end as usize);
        let (found, future) = histories.of(frame, spans, &x.request_time_ms)?;
        x.history = History::default();
        for (time_ms, (request_ms, actions)) in x.request_time_ms.iter_mut().zip(found) {
            *time_ms = request_ms;
            x.history.push(actions);
        }
        Ok(future)
    }

    /// Enters the requests' groups: the cell of the group column (an empty one is a group of no one), else of
    /// the request column, else a name for each request of several rows.
    fn name_groups(
        &self,
        (piece, of): (&Piece, &Group),
        firsts: &[u32],
        users: &mut IdMap,
        x: &mut Examples,
    ) -> Result<(), Error> {
        let named = match (&self.files.group, &self.files.request) {
            (Some(name), _) => Some(column(&piece.frame, name, "[dataset.table] group")?),
            (None, Some(name)) => Some(column(&piece.frame, name, "[dataset.table] request")?),
            (None, None) => None,
        };
        for (user, &row) in x.request_user.iter_mut().zip(firsts) {
            let cell = named.map(|at| piece.frame.get(row as usize, at).trim());
            match (cell, &of.requests) {
                (Some(""), _) | (None, None) => {}
                (Some(cell), _) => *user = users.insert(cell),
                (None, Some(requests)) => {
                    *user = users.insert(&requests.name(piece.file, piece.row_in_file + u64::from(row)));
                }
            }
        }
        Ok(())
    }
}

/// Equal neighbours get one number, from 0.
fn number(requests: impl Iterator<Item = u64>) -> Vec<u32> {
    let (mut last, mut next) = (None, 0);
    let number = |request| {
        next += u32::from(last.is_some() && last != Some(request));
        last = Some(request);
        next
    };
    requests.map(number).collect()
}

/// Where each number first stands.
fn firsts(numbers: &[u32]) -> Vec<u32> {
    (0..numbers.len() as u32)
        .filter(|&at| at == 0 || numbers[at as usize] != numbers[at as usize - 1])
        .collect()
}

/// No columns at all have no rows either.
pub(crate) fn some_fields(columns: Columns) -> Columns {
    if columns.fields.is_empty() { Columns::default() } else { columns }
}
