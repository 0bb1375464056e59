use crate::config::TableConfig;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::file::{Head, Input, KIND, MAGIC, Part, Parts, SECTION, VERSION};
use crate::file::{bucket_of, buckets, read_head, u64_of};
use crate::keys::mix;
use crate::rules::Rules;
use crate::store::{Rows, TableId};
use crate::table::check_sizes;
use memmap2::Mmap;
use millstream_schema::suggest;
use rayon::prelude::*;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Floats moved by a pull below which threads cost more than they bring.
const PARALLEL_FLOATS: usize = 64 * 1024;

/// Keys per task of a pull by several threads.
const TASK: usize = 1024;

/// A saved store, read where it lies in its file: opening takes the same time for any number of rows, memory
/// is the system's to give and take, and processes share it. A pull of a key reads its place in the index,
/// some eight keys and its row.
///
/// Opening checks the checksums of header and directory and that all parts lie within the file; the rows
/// themselves only [`verify`](Self::verify) checks, by reading them all. Damage that was not looked for
/// gives wrong weights or the default row, nothing worse.
///
/// The file must not be cut or overwritten in place meanwhile; Millstream never does, it replaces.
///
/// ```
/// use millstream_store::{MappedStore, Rows, RowsMut, Store, TableConfig};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("rows.mill");
/// let store = Store::new(vec![TableConfig::new("item", 2)])?;
/// store.push(store.table("item")?, &[7], &[0.5, -0.5])?;
/// store.save_for_serving(&path)?;
/// let mapped = MappedStore::open(&path)?;
/// let (mut here, mut there) = ([0.0; 2], [0.0; 2]);
/// store.pull(store.table("item")?, &[7], &mut here)?;
/// mapped.pull(mapped.table("item")?, &[7], &mut there)?;
/// assert_eq!(here, there);
/// # Ok::<(), millstream_store::Error>(())
/// ```
#[derive(Debug)]
pub struct MappedStore {
    map: Mmap,
    /// The bytes of the store within the file.
    span: Range<usize>,
    path: PathBuf,
    scale: f32,
    tables: Vec<MappedTable>,
}

#[derive(Debug)]
struct MappedTable {
    rules: Rules,
    parts: Parts,
    rows: u64,
    mean: Vec<f32>,
}

impl MappedStore {
    /// Opens a file of [`Store::save`](crate::Store::save) or
    /// [`Store::save_for_serving`](crate::Store::save_for_serving).
    ///
    /// # Errors
    /// As [`Container::peek`], [`Error::Corrupt`] when parts do not fill the file, and [`Error::Input`] for a
    /// file of version 1.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_section(path, KIND, VERSION, SECTION)
    }

    /// Opens what [`Store::write_to`](crate::Store::write_to) or
    /// [`Store::write_for_serving`](crate::Store::write_for_serving) wrote to a section of a container.
    ///
    /// # Errors
    /// As [`MappedStore::open`].
    pub fn open_section(
        path: impl AsRef<Path>,
        kind: [u8; 4],
        max_version: u32,
        section: &str,
    ) -> Result<Self> {
        let path = path.as_ref();
        let file = Container::peek(path, kind, max_version)?;
        let (start, len) = file.span(section)?;
        let map = map(file.file()).map_err(|e| Error::io(path, "map", e))?;
        let span = start as usize..(start + len) as usize;
        let mut bytes = map.get(span.clone()).ok_or_else(|| Error::corrupt(path, "it is cut short"))?;
        let mut input = Input::new(&mut bytes, path);
        if input.version(MAGIC)? < VERSION {
            return Err(Error::Input(format!(
                "{} is of version 1, which cannot be mapped; open it as a store and save it again",
                path.display()
            )));
        }
        let head = read_head(&mut input)?;
        let start = span.len() - bytes.len();
        let (scale, path) = (head.scale, path.to_owned());
        let tables = tables(head, start as u64, span.len() as u64)
            .ok_or_else(|| Error::corrupt(&path, "its parts do not fill it"))?;
        Ok(Self { map, span, path, scale, tables })
    }

    /// Reads everything and compares all checksums.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the table whose bytes have changed.
    pub fn verify(&self) -> Result<()> {
        let damaged = self.tables.iter().find(|table| !table.parts.is_sealed(self.bytes()));
        damaged.map_or(Ok(()), |table| {
            let name = &table.rules.config.name;
            Err(Error::corrupt(&self.path, format!("the checksum of table `{name}` does not match")))
        })
    }

    /// The table called `name`.
    ///
    /// # Errors
    /// [`Error::Input`] with the nearest name when there is none.
    pub fn table(&self, name: &str) -> Result<TableId> {
        let names = self.tables.iter().map(|table| table.rules.config.name.as_str());
        let at = names.clone().position(|found| found == name);
        at.map(|at| TableId(at as u32)).ok_or_else(|| Error::Input(suggest::unknown("table", name, names)))
    }

    /// All tables, in their order.
    pub fn tables(&self) -> impl Iterator<Item = (TableId, &TableConfig)> {
        let all = self.tables.iter().enumerate();
        all.map(|(at, table)| (TableId(at as u32), &table.rules.config))
    }

    /// Rows in `table`.
    ///
    /// # Errors
    /// [`Error::Input`] when the table belongs to another store.
    pub fn len(&self, table: TableId) -> Result<usize> {
        Ok(self.of(table)?.rows as usize)
    }

    /// Whether no table has any row.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.rows == 0)
    }

    /// The factor of all learning rates when the file was written.
    pub fn learning_rate(&self) -> f32 {
        self.scale
    }

    fn bytes(&self) -> &[u8] {
        &self.map[self.span.clone()]
    }

    fn of(&self, id: TableId) -> Result<&MappedTable> {
        self.tables.get(id.0 as usize).ok_or_else(|| {
            let count = self.tables.len();
            Error::Input(format!("there is no table {}, this store has {count}", id.0))
        })
    }
}

impl Rows for MappedStore {
    fn dim(&self, table: TableId) -> Result<usize> {
        Ok(self.of(table)?.rules.layout.dim)
    }

    fn pull(&self, table: TableId, keys: &[u64], out: &mut [f32]) -> Result<()> {
        let (table, bytes) = (self.of(table)?, self.bytes());
        check_sizes(&table.rules.config, "pull", keys, out.len())?;
        let dim = table.rules.layout.dim;
        let some = |(keys, out): (&[u64], &mut [f32])| {
            keys.iter().zip(out.chunks_mut(dim)).for_each(|(&key, out)| table.pull_one(bytes, key, out));
        };
        if out.len() < PARALLEL_FLOATS {
            some((keys, out));
        } else {
            keys.par_chunks(TASK).zip(out.par_chunks_mut(TASK * dim)).for_each(some);
        }
        Ok(())
    }
}

impl MappedTable {
    fn pull_one(&self, bytes: &[u8], key: u64, out: &mut [f32]) {
        let size = self.rules.layout.weight_bytes();
        let row = self.find(bytes, key).and_then(|at| {
            let all = &bytes[self.parts.range(Part::Weights)];
            all.get(at * size..(at + 1) * size)
        });
        match row {
            Some(row) => self.rules.layout.decode(row, out),
            None => self.rules.default_row(key, &self.mean, out),
        }
    }

    /// Which row is that of `key`.
    fn find(&self, bytes: &[u8], key: u64) -> Option<usize> {
        let bucket = bucket_of(mix(key), buckets(self.rows)) as usize;
        let index = &bytes[self.parts.range(Part::Index)];
        let [start, end] = [bucket, bucket + 1].map(|at| u64_of(&index[8 * at..]) as usize);
        let keys = bytes[self.parts.range(Part::Keys)].as_chunks().0;
        let here = keys.get(start..end)?;
        here.iter().position(|&found| u64::from_le_bytes(found) == key).map(|at| start + at)
    }
}

/// The tables of a file whose head ends at `start`; `None` if they do not end at `len`.
fn tables(head: Head, start: u64, len: u64) -> Option<Vec<MappedTable>> {
    let parts = Parts::of(&head, start)?;
    let end = parts.last().map_or(Some(start), |part| part.end().checked_add(8))?;
    if end != len || head.tables.iter().any(|table| table.is_delta()) {
        return None;
    }
    let one = |(head, parts): (crate::file::TableHead, Parts)| {
        let mean = if head.mean.is_empty() { vec![0.0; head.config.dim] } else { head.mean };
        MappedTable { rules: Rules::new(head.config), parts, rows: head.rows, mean }
    };
    Some(head.tables.into_iter().zip(parts).map(one).collect())
}

#[allow(unsafe_code)] // memory that the file backs
fn map(file: &std::fs::File) -> std::io::Result<Mmap> {
    // SAFETY: the type's contract: nobody changes the file while it is mapped. Files of this crate are only
    // ever replaced by renaming another over them, which leaves the mapped one as it is.
    unsafe { Mmap::map(file) }
}
