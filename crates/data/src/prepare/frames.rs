//! Files to frames: a thread reads while the others work, in the order of the rows, in bounded memory.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use millstream_schema::Frame;

use super::groups::Groups;
use super::joins::Joins;
use crate::Error;
use crate::logs::{self, FrameReader, LogFormat};

/// Rows per frame.
pub(crate) const FRAME_ROWS: usize = crate::blocks::BLOCK_CANDIDATES;

/// A frame and where its first row stands.
pub(super) struct Piece {
    pub(super) frame: Frame,
    /// Number of the file in the list.
    pub(super) file: usize,
    /// Number of the first row in its file, from 0.
    pub(super) row_in_file: u64,
    /// Number of the first row over all files, from 0.
    pub(super) row: u64,
}

/// The files below `folder`.
pub(super) fn paths(folder: &Path, files: &[String]) -> Vec<PathBuf> {
    files.iter().map(|f| folder.join(f)).collect()
}

/// Hands the frames of all files to `take`, in order, as many at a time as there are threads.
///
/// # Errors
/// The first of a file that cannot be read, or what `take` gives.
pub(super) fn waves(
    paths: &[PathBuf],
    format: &LogFormat,
    take: impl FnMut(&[Piece]) -> Result<(), Error>,
) -> Result<(), Error> {
    waves_of(paths, format, (None, None), take)
}

/// As [`waves`], with requests of several rows kept in one frame, and attributes joined to the rows.
///
/// # Errors
/// As [`waves`], or files that have other numbers of rows than their requests, or columns that cannot be joined.
pub(super) fn waves_of(
    paths: &[PathBuf],
    format: &LogFormat,
    (groups, joins): (Option<&Groups>, Option<&Joins>),
    mut take: impl FnMut(&[Piece]) -> Result<(), Error>,
) -> Result<(), Error> {
    let wave = rayon::current_num_threads().max(1);
    let (sender, receiver) = sync_channel(wave * 2);
    std::thread::scope(|scope| {
        scope.spawn(move || send_all(paths, (format, groups, joins), &sender));
        // The receiver must go before the scope waits for the reader, or both wait forever.
        take_all(receiver, wave, &mut take)
    })
}

fn take_all(
    receiver: Receiver<Result<Piece, Error>>,
    wave: usize,
    take: &mut dyn FnMut(&[Piece]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut pieces = Vec::with_capacity(wave);
    loop {
        let failed = loop {
            match receiver.recv() {
                Ok(Ok(piece)) => pieces.push(piece),
                Ok(Err(e)) => break Some(Err(e)),
                Err(_) => break Some(Ok(())),
            }
            if pieces.len() == wave {
                break None;
            }
        };
        // What was read before an error comes first: its own errors are the earlier ones.
        take(&pieces)?;
        pieces.clear();
        if let Some(end) = failed {
            return end;
        }
    }
}

/// How a file is read, which of its rows belong together, and what is joined to them.
type Reading<'a> = (&'a LogFormat, Option<&'a Groups>, Option<&'a Joins>);

fn send_all(paths: &[PathBuf], reading: Reading<'_>, sender: &SyncSender<Result<Piece, Error>>) {
    let mut row = 0;
    for (file, path) in paths.iter().enumerate() {
        if let Err(e) = send_file((file, path), reading, &mut row, sender) {
            // A closed channel means that the other side has failed already.
            let _ = sender.send(Err(e));
            return;
        }
    }
}

fn send_file(
    (file, path): (usize, &Path),
    (format, groups, joins): Reading<'_>,
    row: &mut u64,
    sender: &SyncSender<Result<Piece, Error>>,
) -> Result<(), Error> {
    let mut reader = logs::open(path, format)?;
    let mut row_in_file = 0;
    loop {
        let wanted = groups.map_or(FRAME_ROWS, |g| g.rows_from(file, row_in_file));
        let mut frame = Frame::new(reader.source(), reader.columns());
        let rows = fill(&mut *reader, &mut frame, wanted)? as u64;
        if let Some(groups) = groups
            && (rows < wanted as u64 || wanted == 0)
        {
            let found = row_in_file + rows + rest(&mut *reader)?;
            let even = found == row_in_file && wanted == 0;
            return if even { Ok(()) } else { Err(groups.mismatch(file, path, found)) };
        }
        if rows == 0 {
            return Ok(());
        }
        if let Some(joins) = joins {
            frame = joins.widen(&frame)?;
        }
        if sender.send(Ok(Piece { frame, file, row_in_file, row: *row })).is_err() {
            return Ok(());
        }
        row_in_file += rows;
        *row += rows;
    }
}

/// Reads so many rows, or all there are.
fn fill(reader: &mut dyn FrameReader, frame: &mut Frame, wanted: usize) -> Result<usize, Error> {
    let mut rows = 0;
    while rows < wanted {
        match reader.read(frame, wanted - rows)? {
            0 => break,
            more => rows += more,
        }
    }
    Ok(rows)
}

/// How many rows are left.
fn rest(reader: &mut dyn FrameReader) -> Result<u64, Error> {
    let mut rows = 0;
    loop {
        let mut frame = reader.frame();
        match reader.read(&mut frame, FRAME_ROWS)? {
            0 => return Ok(rows),
            more => rows += more as u64,
        }
    }
}

/// The place of a column that the configuration names under `key`.
pub(crate) fn column(frame: &Frame, name: &str, key: &str) -> Result<usize, Error> {
    frame.column(name).ok_or_else(|| {
        let valid: Vec<&str> = frame.columns().iter().map(String::as_str).collect();
        let unknown = millstream_schema::suggest::unknown("column", name, valid.iter().copied());
        Error::Config(format!("{}: {key}: {unknown}", frame.source()))
    })
}

/// The rows named, in that order.
pub(crate) fn pick(frame: &Frame, rows: &[u32]) -> Frame {
    let mut out = Frame::new(frame.source(), frame.columns());
    let mut cells: Vec<&str> = Vec::with_capacity(frame.columns().len());
    for &row in rows {
        cells.clear();
        cells.extend((0..frame.columns().len()).map(|column| frame.get(row as usize, column)));
        out.push_row(frame.line(row as usize), &cells);
    }
    out
}
