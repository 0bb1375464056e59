//! The prepared directory: its files, its manifest, and how it comes into place whole.

use std::fs;
use std::path::{Path, PathBuf};

use millstream_schema::{Assembler, Columns, Encoder, EventKind, Examples, IdMap};
use serde::{Deserialize, Serialize};

use super::report::{Counts, PrepareReport};
use crate::blocks::{BlockWriter, EncodedBlock, Gatherer};
use crate::config::{DatasetConfig, Kind};
use crate::layout::{Reader, Writer};
use crate::sealed::{self, Seal, corrupt, io};
use crate::split::TimeSplit;
use crate::{Error, Split, Use};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const ENCODER: &str = "encoder.bin";
pub(crate) const CATALOGUE: &str = "catalogue.bin";
pub(crate) const ACTIONS: &str = "actions.bin";
/// Version of the directory; raised with any file in it.
pub(crate) const FORMAT: u32 = 1;

const ENCODER_SEAL: Seal = Seal { magic: *b"MSencode", version: 1 };
const CATALOGUE_SEAL: Seal = Seal { magic: *b"MScatalo", version: 1 };

/// The block file of a part and use.
pub(crate) fn blocks_file(split: Split, for_use: Use) -> String {
    format!("{split}.{}.blocks", for_use.as_str())
}

/// `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) kind: Kind,
    /// [`DatasetConfig::fingerprint`], in hexadecimal.
    pub(crate) fingerprint: String,
    pub(crate) tasks: Vec<String>,
    /// Names of the tasks whose labels are grades.
    #[serde(default)]
    pub(crate) graded: Vec<String>,
    pub(crate) users: usize,
    pub(crate) items: usize,
    pub(crate) counts: Counts,
    /// Where a split by time was cut.
    pub(crate) time_split: Option<TimeSplit>,
    /// Whether parts do not follow each other in time.
    pub(crate) ratio_split: bool,
    /// Codes of the kinds that enter histories; all when empty.
    pub(crate) history_kinds: Vec<u16>,
    pub(crate) max_history: usize,
    /// Kinds of event that were met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) kinds: Vec<EventKind>,
    /// Whether sequences are whole: the block files are empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) whole: bool,
    /// Whether seen items may be recommended again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) repeats: bool,
    /// Codes of the kinds after which an item may not be recommended again; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) seen_kinds: Vec<u16>,
    /// Share of the training negatives that [`crate::balance`] kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) negatives_kept: Option<f64>,
    /// The configuration, for people and for comparison.
    pub(crate) config: serde_json::Value,
}

impl Manifest {
    pub(crate) fn new(config: &DatasetConfig, report: &PrepareReport) -> Self {
        Self {
            format: FORMAT,
            kind: config.dataset.kind,
            fingerprint: format!("{:016x}", config.fingerprint()),
            tasks: config.tasks.iter().map(|t| t.name().to_owned()).collect(),
            graded: config.tasks.iter().filter(|t| t.graded()).map(|t| t.name().to_owned()).collect(),
            users: report.users,
            items: report.items,
            counts: report.parts.clone(),
            time_split: report.time_split,
            ratio_split: config.split_by() == crate::config::SplitBy::Ratio,
            history_kinds: config.examples.history_events.iter().map(|k| k.code()).collect(),
            max_history: config.examples.max_history,
            kinds: report.kinds.clone(),
            whole: config.examples.whole,
            repeats: config.examples.repeats,
            seen_kinds: config.examples.seen_events.iter().map(|k| k.code()).collect(),
            negatives_kept: None,
            // Serialising plain data cannot fail; the echo is for people.
            config: serde_json::to_value(config).unwrap_or_default(),
        }
    }

    /// The file is written last: a directory without it is not whole.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self).map_err(|e| io(&path)(e.into()))?;
        sealed::write_whole(&path, |file| std::io::Write::write_all(file, &text))
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Config(format!("{}: this is no prepared directory (no {MANIFEST})", dir.display()))
            }
            _ => io(&path)(e),
        })?;
        let version = serde_json::from_slice::<serde_json::Value>(&text)
            .map_err(|e| damaged(&path, &e))?
            .get("format")
            .and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(FORMAT)) {
            let found = version.map_or("no format version".into(), |v| format!("format version {v}"));
            return Err(corrupt(&path, format!("{found} where {FORMAT} is read; prepare the data again")));
        }
        serde_json::from_slice(&text).map_err(|e| damaged(&path, &e))
    }
}

fn damaged(path: &Path, error: &serde_json::Error) -> Error {
    corrupt(path, format!("it is damaged ({error}); prepare the data again"))
}

/// Ids and encoded sides of users and items; of a table, its groups alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogue {
    pub(crate) users: IdMap,
    pub(crate) items: IdMap,
    pub(crate) user_columns: Columns,
    pub(crate) item_columns: Columns,
    pub(crate) created_ms: Vec<i64>,
    pub(crate) retired_ms: Vec<i64>,
    /// Training positives of the first task, by item.
    pub(crate) positives: Vec<u32>,
}

impl Catalogue {
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let mut writer = Writer::default();
        for ids in [&self.users, &self.items] {
            writer.u64(ids.len() as u64);
            ids.iter().for_each(|name| writer.text(name));
        }
        writer.columns(&self.user_columns);
        writer.columns(&self.item_columns);
        writer.times(&self.created_ms);
        writer.times(&self.retired_ms);
        writer.ints(&self.positives);
        sealed::write(path, CATALOGUE_SEAL, &writer.bytes)
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = sealed::read(path, CATALOGUE_SEAL)?;
        let mut reader = Reader::new(&bytes);
        let mut fields = || {
            let out = Self {
                users: ids(&mut reader)?,
                items: ids(&mut reader)?,
                user_columns: reader.columns()?,
                item_columns: reader.columns()?,
                created_ms: reader.times()?,
                retired_ms: reader.times()?,
                positives: reader.u32s()?,
            };
            let items = out.items.len();
            let lengths = [out.created_ms.len(), out.retired_ms.len(), out.positives.len()];
            if lengths.iter().any(|&l| l != items) {
                return Err("its columns have different lengths");
            }
            reader.end().map(|()| out)
        };
        let out = fields().map_err(|reason| corrupt(path, reason))?;
        out.user_columns
            .check()
            .and_then(|()| out.item_columns.check())
            .map_err(|e| corrupt(path, e.to_string()))?;
        Ok(out)
    }
}

fn ids(reader: &mut Reader<'_>) -> Result<IdMap, crate::layout::Wrong> {
    let count = reader.u64()?;
    let mut ids = IdMap::new();
    for row in 0..count {
        if u64::from(ids.insert(reader.text()?)) != row {
            return Err("an id occurs twice");
        }
    }
    Ok(ids)
}

pub(crate) fn write_encoder(dir: &Path, encoder: &Encoder) -> Result<(), Error> {
    let path = dir.join(ENCODER);
    let bytes = postcard::to_stdvec(encoder).map_err(|e| corrupt(&path, e.to_string()))?;
    sealed::write(&path, ENCODER_SEAL, &bytes)
}

pub(crate) fn read_encoder(dir: &Path) -> Result<Encoder, Error> {
    let path = dir.join(ENCODER);
    let bytes = sealed::read(&path, ENCODER_SEAL)?;
    postcard::from_bytes(&bytes).map_err(|e| corrupt(&path, e.to_string()))
}

/// The block files of all parts of one use.
pub(super) struct Parts {
    files: Vec<(BlockWriter, Gatherer)>,
    positives: [Vec<u64>; 3],
    for_use: Use,
}

impl Parts {
    pub(super) fn create(dir: &Path, for_use: Use, tasks: usize) -> Result<Self, Error> {
        let open = |split| {
            let path = dir.join(blocks_file(split, for_use));
            BlockWriter::create(&path).map(|w| (w, Gatherer::default()))
        };
        let files = Split::ALL.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { files, positives: std::array::from_fn(|_| vec![0; tasks]), for_use })
    }

    /// Adds examples that may fill less than a block.
    pub(super) fn push(&mut self, split: Split, examples: &Examples) -> Result<(), Error> {
        self.count(split, &positives_of(examples));
        let (file, gatherer) = &mut self.files[split as usize];
        match gatherer.push(examples)? {
            Some(block) => file.push(&block),
            None => Ok(()),
        }
    }

    /// Adds a whole block with its positives by task.
    pub(super) fn push_block(
        &mut self,
        split: Split,
        block: &EncodedBlock,
        positives: &[u64],
    ) -> Result<(), Error> {
        self.count(split, positives);
        self.files[split as usize].0.push(block)
    }

    fn count(&mut self, split: Split, positives: &[u64]) {
        self.positives[split as usize].iter_mut().zip(positives).for_each(|(sum, n)| *sum += n);
    }

    /// Finishes the files and enters what they hold.
    pub(super) fn finish(self, counts: &mut Counts) -> Result<(), Error> {
        let for_use = self.for_use;
        for ((split, (mut file, mut gatherer)), positives) in
            Split::ALL.into_iter().zip(self.files).zip(self.positives)
        {
            file.push(&gatherer.rest())?;
            let part = counts.part_mut(split, for_use);
            part.requests = file.requests();
            part.candidates = file.candidates();
            part.positives = positives;
            part.bytes = file.finish()?;
        }
        Ok(())
    }
}

/// Positive labels by task.
pub(crate) fn positives_of(examples: &Examples) -> Vec<u64> {
    let mut out = vec![0; examples.tasks];
    for labels in examples.labels.chunks_exact(examples.tasks.max(1)) {
        labels.iter().zip(&mut out).for_each(|(&y, n)| *n += u64::from(y > 0.0));
    }
    out
}

/// A directory in the making beside its final place; removed unless it is kept.
pub(super) struct Draft {
    path: PathBuf,
    out: PathBuf,
    kept: bool,
}

impl Draft {
    /// # Errors
    /// `out` is something else than a prepared directory, or the draft cannot be made.
    pub(super) fn create(out: &Path) -> Result<Self, Error> {
        let occupied = fs::read_dir(out).map(|mut d| d.next().is_some()).unwrap_or(out.exists());
        if occupied && !out.join(MANIFEST).is_file() {
            let shown = out.display();
            return Err(Error::Config(format!(
                "{shown}: exists and is no prepared directory; name another one"
            )));
        }
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".tmp-{}", std::process::id()));
        let path = PathBuf::from(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
        fs::create_dir_all(&path).map_err(io(&path))?;
        Ok(Self { path, out: out.to_owned(), kept: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the directory in its place.
    pub(super) fn keep(mut self) -> Result<(), Error> {
        sealed::sync_folder(&self.path)?;
        if self.out.exists() {
            let mut name = self.path.as_os_str().to_owned();
            name.push("-old");
            let old = PathBuf::from(name);
            fs::rename(&self.out, &old).map_err(io(&self.out))?;
            fs::rename(&self.path, &self.out).map_err(io(&self.out))?;
            fs::remove_dir_all(&old).map_err(io(&old))?;
        } else {
            fs::rename(&self.path, &self.out).map_err(io(&self.out))?;
        }
        self.kept = true;
        sealed::sync_folder(self.out.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Failing has its own error already; what stays is named as a draft.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Checks that an assembler can be made: encoder and columns belong together.
pub(crate) fn assembler(
    encoder: std::sync::Arc<Encoder>,
    catalogue: &mut Catalogue,
) -> Result<Assembler, Error> {
    let users = std::mem::take(&mut catalogue.user_columns);
    let items = std::mem::take(&mut catalogue.item_columns);
    Ok(Assembler::new(encoder, users, items)?)
}
