//! Text straight to batches: a table's files read once, in order, without being prepared first.
//!
//! What a stream is learned from. A thread reads and cuts the files into pieces of whole rows; the pieces are split, hashed
//! and turned into columns side by side, and handed out in order, while the caller learns from those before. No cell is
//! copied. Keys and values are those that the [`Encoder`] gives for the same cells.
//!
//! Delimited text with categorical and numeric features takes this road; other formats and other kinds of feature go
//! through frames and the [`Assembler`](millstream_schema::Assembler), to the same batches.

mod frames;
mod parse;
mod plan;
mod split;

use std::path::PathBuf;
use std::sync::Arc;

use millstream_schema::ids::NO_ROW;
use millstream_schema::{BadValues, Batch, BatchSource, Encoder, Policy};
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::ahead::{Ahead, Listening, Outlet};
use crate::config::Task;
use crate::logs::{self, FrameReader, LogFormat, Piece, Pieces};
use frames::Framer;
use plan::Plan;
use split::Cut;

/// Which files are read, and how they are laid out. Later files go on where earlier ones end.
#[derive(Debug, Clone)]
pub struct DirectFiles {
    /// Read in this order.
    pub paths: Vec<PathBuf>,
    /// The same for all.
    pub format: LogFormat,
}

/// What becomes of a row.
#[derive(Debug, Clone)]
pub struct DirectRows {
    /// Makes the columns. [`Encoder::without_fitting`] gives one for features that need no data beforehand.
    pub encoder: Arc<Encoder>,
    /// Label columns.
    pub tasks: Vec<Task>,
    /// Column whose value says whom a row belongs to, for metrics by user. Groups are numbered by a hash of 32 bits, so that
    /// a number means the same value whenever reading starts; of 100,000 groups about one pair falls together.
    pub group: Option<String>,
}

/// How rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectOptions {
    /// Rows of the files per batch, above 0. A batch is smaller where a task drops rows, and at the end.
    pub batch_size: usize,
    /// Rows left out at the start: those that a killed run had done, by [`Direct::position`]. Files that end among them are
    /// refused.
    pub skip_rows: u64,
    /// Refuse bad feature values with file and line, instead of counting them.
    pub strict: bool,
}

impl Default for DirectOptions {
    fn default() -> Self {
        Self { batch_size: 1024, skip_rows: 0, strict: false }
    }
}

/// Batches of one pass over text files.
pub struct Direct {
    made: Ahead<Box<Made>>,
    bad: BadValues,
    position: u64,
}

/// What was made of a piece.
struct Made {
    batch: Batch,
    bad: BadValues,
    /// Rows read, dropped ones counted.
    rows: u64,
}

impl Direct {
    /// Starts reading. A thread does; what it meets is told by [`BatchSource::next_batch`].
    ///
    /// # Errors
    /// Batch size 0, no file, or no thread to be had.
    pub fn start(files: DirectFiles, rows: DirectRows, options: DirectOptions) -> Result<Self, Error> {
        if options.batch_size == 0 {
            return Err(Error::config("the batch size must be above 0"));
        }
        if files.paths.is_empty() {
            return Err(Error::config("there is no file to read"));
        }
        let wave = 2 * rayon::current_num_threads().max(1);
        let work = move |outlet: &Outlet<Box<Made>>| read_all(&files, &rows, options, outlet);
        let bad = BadValues::new(policy(options.strict));
        Ok(Self { made: Ahead::start("text", wave, work)?, bad, position: options.skip_rows })
    }

    /// Rows of the files up to the end of the last batch handed out, those left out at the start included.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bad values met in the batches handed out.
    pub fn bad_values(&self) -> &BadValues {
        &self.bad
    }
}

impl BatchSource for Direct {
    fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
        while let Some(made) = self.made.next()? {
            self.position += made.rows;
            self.bad.merge(&made.bad);
            if made.batch.candidates() > 0 {
                return Ok(Some(made.batch));
            }
        }
        Ok(None)
    }
}

/// A group's number; an empty cell is a group of no one.
fn group_number(cell: &str) -> u32 {
    match cell.trim() {
        "" => NO_ROW,
        name => (xxh3_64(name.as_bytes()) % u64::from(NO_ROW)) as u32,
    }
}

fn policy(strict: bool) -> Policy {
    if strict { Policy::Strict } else { Policy::Count }
}

fn read_all(
    files: &DirectFiles,
    rows: &DirectRows,
    options: DirectOptions,
    outlet: &Outlet<Box<Made>>,
) -> Result<(), Error> {
    let mut skip = options.skip_rows;
    let mut framer = None;
    for path in &files.paths {
        let opened = match parse::can(rows) {
            true => logs::open_rows(path, &files.format)?,
            false => logs::Rows::Frames(logs::open(path, &files.format)?),
        };
        let listening = match opened {
            logs::Rows::Text(pieces) => read_text(*pieces, rows, (options, &mut skip), outlet)?,
            logs::Rows::Frames(reader) => {
                if framer.is_none() {
                    framer = Some(Framer::new(rows, options.strict)?);
                }
                let Some(framer) = &framer else { continue };
                read_frames(reader, framer, (options, &mut skip), outlet)?
            }
        };
        if !listening {
            return Ok(());
        }
    }
    match skip {
        0 => Ok(()),
        missing => Err(shorter(files, options.skip_rows, missing)),
    }
}

/// The files end inside the rows that were learned before.
fn shorter(files: &DirectFiles, wanted: u64, missing: u64) -> Error {
    let named: Vec<String> = files.paths.iter().map(|path| path.display().to_string()).collect();
    Error::config(format!(
        "{}: {} rows, but {wanted} were learned from before the stream was broken off; go on with the files that it began \
         with",
        named.join(", "),
        wanted - missing
    ))
}

fn read_text(
    mut pieces: Pieces,
    rows: &DirectRows,
    (options, skip): (DirectOptions, &mut u64),
    outlet: &Outlet<Box<Made>>,
) -> Result<Listening, Error> {
    let plan = Plan::new(rows, pieces.names(), pieces.source())?;
    let layout = pieces.layout().clone();
    let parser = parse::Parser::new(plan, layout, pieces.source().into(), options.strict);
    *skip -= pieces.skip(*skip)?;
    // One core learns. Where that leaves one, this thread does the work: more than there are cores would keep the learner waiting.
    let threads = rayon::current_num_threads();
    let wave = if threads <= 2 { 1 } else { 2 * threads };
    // The same memory for every wave: the system has to find and to clear fresh memory.
    let mut slots: Vec<(Piece, Cut)> = std::iter::repeat_with(Default::default).take(wave).collect();
    loop {
        let (read, end) = take(wave, |i| Ok(pieces.next(options.batch_size, &mut slots[i].0)?.then_some(())));
        let parse = |(piece, cut): &mut (Piece, Cut)| parser.parse(piece, cut);
        let made = match &mut slots[..read.len()] {
            [one] => vec![parse(one)],
            many => many.par_iter_mut().map(parse).collect(),
        };
        if !send_all(made, outlet)? {
            return Ok(false);
        }
        // What was read before an error comes first: its own errors are the earlier ones.
        if let Some(end) = end {
            return end.map(|()| true);
        }
    }
}

fn read_frames(
    mut reader: Box<dyn FrameReader>,
    framer: &Framer<'_>,
    (options, skip): (DirectOptions, &mut u64),
    outlet: &Outlet<Box<Made>>,
) -> Result<Listening, Error> {
    while *skip > 0 {
        let mut frame = reader.frame();
        match reader.read(&mut frame, (*skip).min(4096) as usize)? {
            0 => break,
            rows => *skip -= rows as u64,
        }
    }
    let wave = 2 * rayon::current_num_threads().max(1);
    loop {
        let (frames, end) = take(wave, |_| {
            let mut frame = reader.frame();
            Ok((reader.read(&mut frame, options.batch_size)? > 0).then_some(frame))
        });
        let made: Vec<Result<Made, Error>> = frames.par_iter().map(|frame| framer.frame(frame)).collect();
        if !send_all(made, outlet)? {
            return Ok(false);
        }
        if let Some(end) = end {
            return end.map(|()| true);
        }
    }
}

/// Up to `most` of what `next` gives, told how many there were before, and how it ended if it did.
fn take<T>(
    most: usize,
    mut next: impl FnMut(usize) -> Result<Option<T>, Error>,
) -> (Vec<T>, Option<Result<(), Error>>) {
    let mut out = Vec::with_capacity(most);
    while out.len() < most {
        match next(out.len()) {
            Ok(Some(one)) => out.push(one),
            Ok(None) => return (out, Some(Ok(()))),
            Err(e) => return (out, Some(Err(e))),
        }
    }
    (out, None)
}

fn send_all(made: Vec<Result<Made, Error>>, outlet: &Outlet<Box<Made>>) -> Result<Listening, Error> {
    for one in made {
        if !outlet.give(Box::new(one?)) {
            return Ok(false);
        }
    }
    Ok(true)
}
