//! Stores as bytes, so that what is read back answers bit for bit like what was written.
//!
//! ```text
//! head     magic "MILLROWS", version u32, length u32, [`Head`] in postcard, xxh3 u64 of all that
//! tables   per table the parts below, then xxh3 u64 of them
//!   index    where the rows of each of B equal parts of the hashes start, (B + 1) · u64; B is the power of
//!            two from an eighth of the rows up
//!   removed  keys of dropped rows, u64; only in deltas
//!   keys     u64 a row, ascending by hash (see `keys::mix`)
//!   weights  D f32s or D bf16s a row
//!   steps    the last step that touched the row less the base in the head, u32 a row
//!   state    the optimiser's f32s of a row
//!   counts   of keys without a row: key u64, sightings u32, last step u32 each; or a sketch, u8 a counter
//! ```
//! A file for serving has no steps, state and counts. All numbers are little-endian; nothing is aligned. The
//! order of rows depends on their keys alone, and any power of two of shards cuts it into whole pieces.
//! A delta has the magic "MILLDELT". Version 1, still read, is described in `first`.

mod first;
mod head;
mod parts;
mod read;
mod write;

use crate::container::{Container, ContainerWriter};
use crate::error::{Error, Result};
use crate::store::{SHARDS, Store, check_shards};
use crate::table::Table;
pub(crate) use head::{Head, TableHead, bucket_of, buckets};
pub(crate) use parts::{Part, Parts};
pub(crate) use read::{Input, read_head, read_table, u64_of};
use std::io::{self, Read, Write};
use std::path::Path;
pub(crate) use write::{Piece, write_pieces};

pub(crate) const MAGIC: [u8; 8] = *b"MILLROWS";
pub(crate) const DELTA: [u8; 8] = *b"MILLDELT";
pub(crate) const VERSION: u32 = 2;
pub(crate) const KIND: [u8; 4] = *b"ROWS";
pub(crate) const SECTION: &str = "rows";

impl Store {
    /// Writes all tables with their optimiser state. Pushes wait, so the tables fit one another; for a
    /// picture of whole steps, call it between them.
    ///
    /// # Errors
    /// Whatever `w` answers.
    pub fn write_to(&self, w: &mut dyn Write) -> io::Result<()> {
        let pieces: Vec<Piece<'_>> = self.all().iter().map(Piece::whole).collect();
        write_pieces(w, MAGIC, self.learning_rate(), &pieces)
    }

    /// Writes what serving needs and no more: weights without optimiser state, and no row of zeros where
    /// that is the default row. Only [`MappedStore`](crate::MappedStore) reads it.
    ///
    /// # Errors
    /// Whatever `w` answers.
    pub fn write_for_serving(&self, w: &mut dyn Write) -> io::Result<()> {
        let pieces: Vec<Piece<'_>> = self.all().iter().map(Piece::for_serving).collect();
        write_pieces(w, MAGIC, self.learning_rate(), &pieces)
    }

    /// Reads what [`Store::write_to`] wrote, in this or an earlier version; `path` is only for messages.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::NotOurs`] or [`Error::Newer`] when the bytes are not such, and
    /// [`Error::Io`] when `r` fails. No length in the bytes is believed before the bytes are there.
    pub fn read_from(r: &mut dyn Read, path: &Path) -> Result<Self> {
        Self::read_with_shards(r, path, SHARDS)
    }

    /// As [`Store::read_from`] with a chosen number of shards per table, whatever the writer had.
    ///
    /// # Errors
    /// As [`Store::read_from`], and [`Error::Input`] as [`Store::with_shards`].
    pub fn read_with_shards(r: &mut dyn Read, path: &Path, shards: usize) -> Result<Self> {
        check_shards(shards)?;
        let mut input = Input::new(r, path);
        let version = input.version(MAGIC)?;
        if version < VERSION {
            return first::read(&mut input, shards);
        }
        let head = read_head(&mut input)?;
        if !head.state {
            let path = path.display();
            return Err(Error::Input(format!(
                "{path} was written for serving, without optimiser state; it can be mapped but not trained"
            )));
        }
        let mut tables: Vec<Table> = Vec::new();
        for head in &head.tables {
            let mut table = Table::new(head.config.clone(), shards);
            read_table(&mut input, head, &mut table)?;
            tables.push(table);
        }
        Ok(Self::from_tables(tables, head.scale))
    }

    /// Writes the store to a file of its own, which replaces what was at `path` only when complete.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save(path.as_ref(), KIND, |w| self.write_to(w))
    }

    /// As [`Store::save`] with what [`Store::write_for_serving`] writes.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_for_serving(&self, path: impl AsRef<Path>) -> Result<()> {
        save(path.as_ref(), KIND, |w| self.write_for_serving(w))
    }

    /// Opens a file made by [`Store::save`].
    ///
    /// # Errors
    /// As [`Container::open`] and [`Store::read_from`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with_shards(path, SHARDS)
    }

    /// As [`Store::open`] with a chosen number of shards per table, whatever the writer had.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::read_with_shards`].
    pub fn open_with_shards(path: impl AsRef<Path>, shards: usize) -> Result<Self> {
        let mut file = Container::open(path.as_ref(), KIND, VERSION)?;
        Self::read_with_shards(&mut file.reader(SECTION)?, path.as_ref(), shards)
    }
}

/// Writes a container of one section, complete or not at all.
pub(crate) fn save(
    path: &Path,
    kind: [u8; 4],
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let mut file = ContainerWriter::create(path, kind, VERSION)?;
    file.section(SECTION, fill)?;
    file.commit()
}
