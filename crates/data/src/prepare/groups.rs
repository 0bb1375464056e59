//! Which consecutive rows of a table are one request: said by a file of sizes, or by a column.

use std::path::{Path, PathBuf};

use millstream_schema::parse;

use super::frames::{FRAME_ROWS, column, paths, waves};
use crate::Error;
use crate::config::TableFiles;
use crate::logs::{self, FileFormat, LogFormat};

/// The requests of some files of rows.
pub(super) struct Groups {
    files: Vec<FileGroups>,
}

struct FileGroups {
    /// Rows up to the end of each request.
    ends: Vec<u64>,
    /// Requests of the files before.
    before: u64,
    /// The file of sizes, or the file of rows.
    source: PathBuf,
}

impl Groups {
    /// The requests of the files `rows` below `folder`; `None` where every row is a request of its own.
    ///
    /// # Errors
    /// A file that cannot be read, or a size that is none.
    pub(super) fn find(
        folder: &Path,
        files: &TableFiles,
        (rows, sizes): (&[PathBuf], &[String]),
    ) -> Result<Option<Self>, Error> {
        if let Some(name) = &files.request {
            return Self::scan(rows, &files.log_format(), name).map(Some);
        }
        if files.queries.is_none() {
            return Ok(None);
        }
        Self::read(&paths(folder, sizes)).map(Some)
    }

    fn new(ends: Vec<Vec<u64>>, sources: &[PathBuf]) -> Self {
        let mut before = 0;
        let file = |(ends, source): (Vec<u64>, &PathBuf)| {
            let file = FileGroups { before, source: source.clone(), ends };
            before += file.ends.len() as u64;
            file
        };
        Self { files: ends.into_iter().zip(sources).map(file).collect() }
    }

    /// One size per line.
    fn read(sizes: &[PathBuf]) -> Result<Self, Error> {
        let ends: Result<Vec<_>, Error> = sizes.iter().map(|path| read_sizes(path)).collect();
        Ok(Self::new(ends?, sizes))
    }

    /// Runs of equal cells.
    fn scan(rows: &[PathBuf], format: &LogFormat, name: &str) -> Result<Self, Error> {
        let mut ends: Vec<Vec<u64>> = vec![Vec::new(); rows.len()];
        let mut last: Option<(usize, String)> = None;
        waves(rows, format, |pieces| {
            for piece in pieces {
                let at = column(&piece.frame, name, "[dataset.table] request")?;
                for row in 0..piece.frame.rows() {
                    let cell = piece.frame.get(row, at).trim();
                    if cell.is_empty() {
                        let reason = format!("the request column `{name}` is empty");
                        return Err(Error::Input { place: piece.frame.place(row), reason });
                    }
                    let end = piece.row_in_file + row as u64 + 1;
                    let same = last.as_ref().is_some_and(|(file, was)| *file == piece.file && was == cell);
                    match ends[piece.file].last_mut().filter(|_| same) {
                        Some(open) => *open = end,
                        None => {
                            ends[piece.file].push(end);
                            last = Some((piece.file, cell.to_owned()));
                        }
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self::new(ends, rows))
    }

    /// Rows to read next from `row` of a file on, so that no request is cut: about [`FRAME_ROWS`], 0 at the
    /// end.
    pub(super) fn rows_from(&self, file: usize, row: u64) -> usize {
        let ends = &self.files[file].ends;
        let first = ends.partition_point(|&end| end <= row);
        let fits = ends.partition_point(|&end| end <= row + FRAME_ROWS as u64);
        // A request that alone is longer goes whole.
        let last = fits.max(first + 1) - 1;
        ends.get(last).map_or(0, |end| (end - row) as usize)
    }

    /// Number of the request of a row of a file, over all files, from 0.
    pub(super) fn request(&self, file: usize, row: u64) -> u64 {
        let f = &self.files[file];
        f.before + f.ends.partition_point(|&end| end <= row) as u64
    }

    /// A name for a request that has none: its file and its number there, from 1.
    pub(super) fn name(&self, file: usize, row: u64) -> String {
        let f = &self.files[file];
        let file = f.source.file_name().unwrap_or_default().to_string_lossy();
        format!("{file}:{}", f.ends.partition_point(|&end| end <= row) + 1)
    }

    /// The file of rows does not have as many as the sizes say.
    pub(super) fn mismatch(&self, file: usize, rows_path: &Path, rows: u64) -> Error {
        let f = &self.files[file];
        let sum = f.ends.last().copied().unwrap_or(0);
        Error::input(
            f.source.display().to_string(),
            format!("the sizes sum to {sum}, but {} has {rows} rows", rows_path.display()),
        )
    }
}

fn read_sizes(path: &Path) -> Result<Vec<u64>, Error> {
    let format = LogFormat { format: Some(FileFormat::Lines), ..LogFormat::default() };
    let mut reader = logs::open(path, &format)?;
    let (mut ends, mut sum) = (Vec::new(), 0u64);
    loop {
        let mut frame = reader.frame();
        if reader.read(&mut frame, FRAME_ROWS)? == 0 {
            return Ok(ends);
        }
        for row in 0..frame.rows() {
            let cell = frame.get(row, 0).trim();
            match cell.parse::<u32>() {
                Ok(size) if size > 0 => sum += u64::from(size),
                _ => {
                    let reason =
                        format!("{} is no group size; expected a whole number above 0", parse::short(cell));
                    return Err(Error::Input { place: frame.place(row), reason });
                }
            }
            ends.push(sum);
        }
    }
}
