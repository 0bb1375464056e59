//! Stores as bytes, so that what is read back answers bit for bit like what was written.
//!
//! ```text
//! magic "MILLROWS", version u32, learning rate scale f32, table count u32
//! per table: header length u32, header (postcard: TableConfig, step u64), row count u64,
//!            rows in ascending order of key: key u64, weights and state f32s
//! xxh3 u64 of all bytes before it
//! ```
//! All numbers are little-endian.

use crate::container::{Container, ContainerWriter};
use crate::error::{Error, Result};
use crate::store::{SHARDS, Store};
use crate::table::{Table, TableConfig};
use std::io::{self, Read, Write};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 8] = *b"MILLROWS";
const VERSION: u32 = 1;
const KIND: [u8; 4] = *b"ROWS";
const SECTION: &str = "rows";
/// Bytes gathered before they are hashed and passed on.
const BLOCK: usize = 1 << 16;
const MAX_HEADER: u32 = 1 << 16;

impl Store {
    /// Writes all tables with their optimiser state. Pushes to the table being written wait; for a
    /// consistent picture of several tables, call it between steps.
    ///
    /// # Errors
    /// Whatever `w` answers.
    pub fn write_to(&self, w: &mut dyn Write) -> io::Result<()> {
        let mut out = Hashed { inner: w, hash: Xxh3::new(), block: Vec::with_capacity(2 * BLOCK) };
        out.put(&MAGIC)?;
        out.put(&VERSION.to_le_bytes())?;
        out.put(&self.learning_rate().to_le_bytes())?;
        out.put(&(self.all().len() as u32).to_le_bytes())?;
        self.all().iter().try_for_each(|table| write_table(&mut out, table))?;
        out.finish()
    }

    /// Reads what [`Store::write_to`] wrote; `path` is only for messages.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::NotOurs`] or [`Error::Newer`] when the bytes are not such, and
    /// [`Error::Io`] when `r` fails. No length in the bytes is believed before the bytes are there.
    pub fn read_from(r: &mut dyn Read, path: &Path) -> Result<Self> {
        let mut input = Input { inner: r, hash: Xxh3::new(), path };
        if input.array()? != MAGIC {
            return Err(Error::NotOurs { path: path.to_owned() });
        }
        let version = u32::from_le_bytes(input.array()?);
        if version > VERSION {
            return Err(Error::Newer { path: path.to_owned(), version, newest: VERSION });
        }
        let scale = f32::from_le_bytes(input.array()?);
        let count = u32::from_le_bytes(input.array()?);
        let mut tables: Vec<Table> = Vec::new();
        for _ in 0..count {
            let table = read_table(&mut input)?;
            if tables.iter().any(|other| other.config().name == table.config().name) {
                return Err(input.corrupt("a table is there twice"));
            }
            tables.push(table);
        }
        input.check_end()?;
        if !(scale >= 0.0 && scale.is_finite()) {
            return Err(input.corrupt("the learning rate scale is no positive number"));
        }
        Ok(Self::from_tables(tables, scale))
    }

    /// Writes the store to a file of its own, which replaces what was at `path` only when complete.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut file = ContainerWriter::create(path, KIND, VERSION)?;
        file.section(SECTION, |w| self.write_to(w))?;
        file.commit()
    }

    /// Opens a file made by [`Store::save`].
    ///
    /// # Errors
    /// As [`Container::open`] and [`Store::read_from`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let mut file = Container::open(path.as_ref(), KIND, VERSION)?;
        Self::read_from(&mut file.reader(SECTION)?, path.as_ref())
    }
}

fn write_table(out: &mut Hashed<'_>, table: &Table) -> io::Result<()> {
    let header = postcard::to_stdvec(&(table.config(), table.step())).map_err(io::Error::other)?;
    out.put(&(header.len() as u32).to_le_bytes())?;
    out.put(&header)?;
    let sorted = table.sorted();
    out.put(&(sorted.len() as u64).to_le_bytes())?;
    for (key, row) in sorted.rows() {
        out.block.extend_from_slice(&key.to_le_bytes());
        out.block.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        out.pass_on(BLOCK)?;
    }
    Ok(())
}

fn read_table(input: &mut Input<'_>) -> Result<Table> {
    let len = u32::from_le_bytes(input.array()?);
    if len > MAX_HEADER {
        return Err(input.corrupt("a table's header is implausibly long"));
    }
    let mut header = vec![0; len as usize];
    input.fill(&mut header)?;
    let (config, step) = postcard::from_bytes::<(TableConfig, u64)>(&header)
        .map_err(|_| input.corrupt("a table's header cannot be decoded"))?;
    if let Some(flaw) = config.flaw() {
        return Err(input.corrupt(&flaw));
    }
    let count = u64::from_le_bytes(input.array()?);
    let mut table = Table::new(config, SHARDS);
    table.set_step(step);
    read_rows(input, &mut table, count)?;
    Ok(table)
}

fn read_rows(input: &mut Input<'_>, table: &mut Table, count: u64) -> Result<()> {
    let row_bytes = 8 + 4 * table.config().stride();
    let per_block = (BLOCK / row_bytes).max(1);
    let mut block = vec![0; per_block * row_bytes];
    let (mut left, mut last) = (count, None);
    while left > 0 {
        let rows = left.min(per_block as u64) as usize;
        let bytes = &mut block[..rows * row_bytes];
        input.fill(bytes)?;
        for row in bytes.chunks_exact(row_bytes) {
            let Some((key, floats)) = row.split_first_chunk() else { continue };
            let key = u64::from_le_bytes(*key);
            let (floats, _) = floats.as_chunks();
            table.insert_row(key, floats.iter().map(|&x| f32::from_le_bytes(x)));
            if last.replace(key).is_some_and(|last| last >= key) {
                let name = &table.config().name;
                return Err(input.corrupt(&format!("the keys of table `{name}` are out of order")));
            }
        }
        left -= rows as u64;
    }
    Ok(())
}

/// Gathers bytes into blocks, hashes each and passes it on.
struct Hashed<'a> {
    inner: &'a mut dyn Write,
    hash: Xxh3,
    block: Vec<u8>,
}

impl Hashed<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.block.extend_from_slice(bytes);
        self.pass_on(BLOCK)
    }

    /// Empties the block if it holds at least `enough` bytes.
    fn pass_on(&mut self, enough: usize) -> io::Result<()> {
        if self.block.len() >= enough {
            self.hash.update(&self.block);
            self.inner.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.pass_on(0)?;
        self.inner.write_all(&self.hash.digest().to_le_bytes())
    }
}

struct Input<'a> {
    inner: &'a mut dyn Read,
    hash: Xxh3,
    path: &'a Path,
}

impl Input<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.read_exact(bytes).map_err(|e| Error::read(self.path, e))?;
        self.hash.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn check_end(&mut self) -> Result<()> {
        let found = self.hash.digest();
        if u64::from_le_bytes(self.array()?) != found {
            return Err(self.corrupt("the checksum of its rows does not match"));
        }
        Ok(())
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(self.path, what)
    }
}
