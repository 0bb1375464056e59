use super::VERSION;
use super::head::{Head, TableHead, buckets};
use crate::config::RowType;
use crate::error::{Error, Result};
use crate::keys::mix;
use crate::table::{CountsError, Table};
use std::io::Read;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Bytes read at a time.
const BLOCK: usize = 1 << 16;

/// The longest head believed.
const MAX_HEAD: u32 = 1 << 28;

/// Bytes that are hashed as they are read.
pub(crate) struct Input<'a> {
    inner: &'a mut dyn Read,
    hash: Xxh3,
    path: &'a Path,
}

impl<'a> Input<'a> {
    pub(crate) fn new(inner: &'a mut dyn Read, path: &'a Path) -> Self {
        Self { inner, hash: Xxh3::new(), path }
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.read_exact(bytes).map_err(|e| Error::read(self.path, e))?;
        self.hash.update(bytes);
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The version after the magic number, which must be one that can be read.
    pub(crate) fn version(&mut self, magic: [u8; 8]) -> Result<u32> {
        if self.array()? != magic {
            return Err(Error::NotOurs { path: self.path.to_owned() });
        }
        let version = u32::from_le_bytes(self.array()?);
        if version > VERSION {
            return Err(Error::Newer { path: self.path.to_owned(), version, newest: VERSION });
        }
        Ok(version)
    }

    /// Reads `count` items of `size` bytes, a block at a time.
    pub(crate) fn items(
        &mut self,
        count: u64,
        size: usize,
        mut visit: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        let per_block = (BLOCK / size).max(1);
        let mut block = vec![0; per_block.min(count as usize) * size];
        let mut done = 0;
        while done < count {
            let items = (count - done).min(per_block as u64) as usize;
            let bytes = &mut block[..items * size];
            self.fill(bytes)?;
            for (at, item) in bytes.chunks_exact(size).enumerate() {
                visit(done as usize + at, item)?;
            }
            done += items as u64;
        }
        Ok(())
    }

    /// Compares the hash of what was read since the last one with the one that follows.
    pub(crate) fn check(&mut self, what: &str) -> Result<()> {
        let found = self.hash.digest();
        let mut stored = [0; 8];
        self.inner.read_exact(&mut stored).map_err(|e| Error::read(self.path, e))?;
        self.hash.reset();
        if u64::from_le_bytes(stored) != found {
            return Err(self.corrupt(&format!("the checksum of {what} does not match")));
        }
        Ok(())
    }

    pub(crate) fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(self.path, what)
    }
}

/// The head, after the version.
pub(crate) fn read_head(input: &mut Input<'_>) -> Result<Head> {
    let len = u32::from_le_bytes(input.array()?);
    if len > MAX_HEAD {
        return Err(input.corrupt("its head is implausibly long"));
    }
    let mut bytes = Vec::new();
    input.items(u64::from(len), 1, |_, byte| {
        bytes.extend_from_slice(byte);
        Ok(())
    })?;
    input.check("its head")?;
    let head: Head = postcard::from_bytes(&bytes).map_err(|_| input.corrupt("its head cannot be decoded"))?;
    match head.flaw() {
        Some(flaw) => Err(input.corrupt(&flaw)),
        None => Ok(head),
    }
}

/// Reads what a file says of a table into it. The table has the configuration of `head`.
pub(crate) fn read_table(input: &mut Input<'_>, head: &TableHead, table: &mut Table) -> Result<()> {
    let (path, layout) = (input.path(), table.rules.layout);
    table.follow(head);
    if !head.is_delta() {
        input.items(buckets(head.rows) + 1, 8, |_, _| Ok(()))?;
    }
    let mut removed = Vec::new();
    input.items(head.removed, 8, |_, key| {
        removed.push(u64_of(key));
        Ok(())
    })?;
    table.remove(&removed);
    let places = read_keys(input, head, table)?;
    input.items(head.rows, layout.weight_bytes(), |at, bytes| {
        put_weights(layout.dtype, bytes, table.row_at(places[at]));
        Ok(())
    })?;
    input.items(head.rows, 4, |at, word| {
        layout.touch(table.row_at(places[at]), u32_of(word));
        Ok(())
    })?;
    input.items(head.rows, 4 * layout.state, |at, bytes| {
        put_words(bytes, &mut table.row_at(places[at])[layout.weights..]);
        Ok(())
    })?;
    let mut counts = Vec::new();
    input.items(head.counts, 1, |_, byte| {
        counts.extend_from_slice(byte);
        Ok(())
    })?;
    input.check(&format!("table `{}`", head.config.name))?;
    table.put_counts(&counts, head.all_counts).map_err(|CountsError| {
        Error::corrupt(path, format!("the counts of table `{}` make no sense", head.config.name))
    })
}

fn read_keys(input: &mut Input<'_>, head: &TableHead, table: &mut Table) -> Result<Vec<(u32, u32)>> {
    let (path, mut places, mut last) = (input.path(), Vec::new(), None);
    input.items(head.rows, 8, |_, key| {
        let key = u64_of(key);
        if last.replace(mix(key)).is_some_and(|last| last >= mix(key)) {
            let name = &head.config.name;
            return Err(Error::corrupt(path, format!("the keys of table `{name}` are out of order")));
        }
        places.push(table.put_key(key));
        Ok(())
    })?;
    Ok(places)
}

fn put_weights(dtype: RowType, bytes: &[u8], row: &mut [f32]) {
    put_words(bytes, row);
    if let (RowType::Bf16, [.., low, high], 2) = (dtype, bytes, bytes.len() % 4) {
        row[bytes.len() / 4] = f32::from_bits(u32::from(u16::from_le_bytes([*low, *high])));
    }
}

/// Whole words of `bytes` to the start of `row`.
pub(super) fn put_words(bytes: &[u8], row: &mut [f32]) {
    let (words, _) = bytes.as_chunks();
    row.iter_mut().zip(words).for_each(|(to, &from)| *to = f32::from_le_bytes(from));
}

pub(crate) fn u64_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |&bytes| u64::from_le_bytes(bytes))
}

pub(crate) fn u32_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |&bytes| u32::from_le_bytes(bytes))
}
