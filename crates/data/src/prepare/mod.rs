//! Preparing: files in, a directory of encoded blocks out, which the trainer streams.
//!
//! The directory is made beside its final name and renamed when it is whole:
//! `manifest.json` (what it is), `encoder.bin`, `catalogue.bin` (ids, encoded users and items),
//! `actions.bin` (who did what; not for tables) and one block file per part and use.
//!
//! Memory: of a table, some frames and the encoder, never the rows (32 bytes of each that enters histories); of a log, all events in columns (17
//! bytes each, more for values, requests, positions and context cells, then 8 where impressions are
//! labelled and 22 per action) and the encoded catalogue, never the examples.

mod build;
mod catalogue;
mod events;
mod frames;
mod groups;
mod histories;
mod joins;
mod kinds;
mod labels;
mod log;
mod output;
mod positives;
mod report;
mod requests;
mod sequences;
mod table;
mod times;

use std::path::Path;

use millstream_schema::{BadValues, Policy};

use crate::config::{DatasetConfig, Kind};
use crate::{Error, Split, Use};

pub(crate) use frames::{column as place_of, pick as rows_of};
pub(crate) use labels::{Labels, label};
pub(crate) use table::some_fields;

pub use report::{Counts, PartReport, PrepareReport};

pub(crate) use output::positives_of;

pub(crate) use output::{
    ACTIONS, CATALOGUE, Catalogue, MANIFEST, Manifest, assembler, blocks_file, read_encoder,
};

/// How far preparing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, for people: "fitting", "encoding", …
    pub stage: &'static str,
    /// Rows done in this stage.
    pub done: u64,
    /// Rows in all, where known.
    pub total: Option<u64>,
}

/// How to prepare.
pub struct PrepareOptions<'a> {
    /// Refuse bad feature values with file and line, instead of counting them.
    pub strict: bool,
    /// Told now and then, from the calling thread.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl Default for PrepareOptions<'_> {
    fn default() -> Self {
        Self { strict: false, progress: &|_| {} }
    }
}

/// What every part of preparing works with.
struct Job<'a> {
    config: &'a DatasetConfig,
    folder: std::path::PathBuf,
    out: &'a Path,
    options: &'a PrepareOptions<'a>,
}

impl Job<'_> {
    fn bad_values(&self) -> BadValues {
        BadValues::new(if self.options.strict { Policy::Strict } else { Policy::Count })
    }

    fn progress(&self, stage: &'static str, done: u64, total: Option<u64>) {
        (self.options.progress)(Progress { stage, done, total });
    }
}

/// Reads the dataset below `root` and writes its prepared form to the directory `out`, which is
/// replaced if it holds an earlier one.
///
/// # Errors
/// Input that cannot be used (with file and line), a configuration that does not fit the files, or
/// reading and writing that failed. Nothing is left at `out` then that was not there before.
pub fn prepare(
    root: &Path,
    config: &DatasetConfig,
    out: &Path,
    options: &PrepareOptions<'_>,
) -> Result<PrepareReport, Error> {
    let draft = output::Draft::create(out)?;
    let job = Job { config, folder: config.folder(root), out: draft.path(), options };
    let report = match config.dataset.kind {
        Kind::Table => table::prepare(&job),
        Kind::Log => log::prepare(&job),
        Kind::Sequences => sequences::prepare(&job),
    }?;
    let mut report = report;
    if !config.balance.is_empty() {
        balance(&job, &mut report)?;
    }
    draft.keep()?;
    Ok(report)
}

/// Balances the training rows that were just written, and enters what that changed.
fn balance(job: &Job<'_>, report: &mut PrepareReport) -> Result<(), Error> {
    let progress = |stage, rows| job.progress(stage, rows, None);
    let balanced = crate::balance::apply(job.out, &job.config.balance, &progress)?;
    *report.parts.part_mut(Split::Train, Use::Rank) = balanced.part;
    for (what, rows) in balanced.notes {
        report.note(what, rows);
    }
    let manifest = Manifest::read(job.out)?;
    let counts = report.parts.clone();
    Manifest { counts, negatives_kept: balanced.negatives_kept, ..manifest }.write(job.out)
}
