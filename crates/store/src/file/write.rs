use super::VERSION;
use super::head::{Head, TableHead, bucket_of, buckets};
use crate::config::{DefaultRow, RowType};
use crate::counts::{Counts, Sightings};
use crate::keys::mix;
use crate::layout::Layout;
use crate::table::{Rows, Table, is_zero, read};
use std::io::{self, Write};
use xxhash_rust::xxh3::Xxh3;

/// Bytes gathered before they are hashed and passed on.
const BLOCK: usize = 1 << 16;

/// What is written of one table, which stands still meanwhile.
pub(crate) struct Piece<'a> {
    layout: Layout,
    rows: Rows<'a>,
    removed: Vec<u64>,
    counts: Vec<u8>,
    state: bool,
    head: TableHead,
}

impl<'a> Piece<'a> {
    /// A whole table.
    pub(crate) fn whole(table: &'a Table) -> Self {
        let rows = table.by_hash(|_| true);
        let counts = count_bytes(&rows, |_| true);
        Self::new(table, (rows, Vec::new(), counts), true)
    }

    /// The weights of a table.
    pub(crate) fn for_serving(table: &'a Table) -> Self {
        let layout = table.rules.layout;
        let zeros = table.config().default_row == DefaultRow::Zeros;
        let rows = table.by_hash(|row| !(zeros && is_zero(layout, row)));
        Self::new(table, (rows, Vec::new(), Vec::new()), false)
    }

    /// What has changed since a step and a number of expiries.
    pub(crate) fn since(table: &'a Table, (step, expiries): (u64, u64)) -> Self {
        let (clock, layout) = (&table.clock, table.rules.layout);
        let newer = |word: u32| clock.base() + u64::from(word) > step;
        let rows = table.by_hash(|row| newer(layout.touched(row)));
        let mut removed: Vec<u64> = (rows.shards().flat_map(|shard| &shard.graves))
            .filter(|(_, ordinal)| *ordinal > expiries)
            .map(|(key, _)| *key)
            .collect();
        removed.sort_unstable();
        removed.dedup();
        // An expiry halves all counts.
        let halved = clock.expiries() > expiries;
        let counts = count_bytes(&rows, |(_, word)| halved || newer(word));
        let mut piece = Self::new(table, (rows, removed, counts), true);
        piece.head.from = Some((step, expiries));
        piece.head.all_counts = halved;
        piece
    }

    fn new(table: &Table, (rows, removed, counts): (Rows<'a>, Vec<u64>, Vec<u8>), state: bool) -> Self {
        let mean = table.config().default_row == DefaultRow::Mean;
        let head = TableHead {
            config: table.config().clone(),
            step: table.clock.step(),
            base: table.clock.base(),
            expiries: table.clock.expiries(),
            from: None,
            mean: if mean { read(&table.mean).clone() } else { Vec::new() },
            rows: rows.len() as u64,
            removed: removed.len() as u64,
            counts: counts.len() as u64,
            all_counts: true,
        };
        Self { layout: table.rules.layout, rows, removed, counts, state, head }
    }

    fn write(&self, out: &mut Hashed<'_>) -> io::Result<()> {
        if !self.head.is_delta() {
            self.write_index(out)?;
        }
        self.removed.iter().try_for_each(|key| out.put(&key.to_le_bytes()))?;
        self.rows.keys().try_for_each(|key| out.put(&key.to_le_bytes()))?;
        let Layout { weights, dtype, dim, .. } = self.layout;
        for (_, row) in self.rows.rows() {
            out.block.extend(row[..weights].iter().flat_map(|x| x.to_le_bytes()));
            if dtype == RowType::Bf16 && dim % 2 == 1 {
                out.block.truncate(out.block.len() - 2);
            }
            out.pass_on(BLOCK)?;
        }
        if self.state {
            let steps = self.rows.rows().map(|(_, row)| self.layout.touched(row));
            steps.into_iter().try_for_each(|step| out.put(&step.to_le_bytes()))?;
            for (_, row) in self.rows.rows() {
                out.block.extend(row[weights..self.layout.live()].iter().flat_map(|x| x.to_le_bytes()));
                out.pass_on(BLOCK)?;
            }
        }
        self.counts.chunks(BLOCK).try_for_each(|bytes| out.put(bytes))
    }

    fn write_index(&self, out: &mut Hashed<'_>) -> io::Result<()> {
        let (rows, buckets) = (self.rows.len() as u64, buckets(self.rows.len() as u64));
        let mut next = 0;
        for (at, key) in self.rows.keys().enumerate() {
            let bucket = bucket_of(mix(key), buckets);
            while next <= bucket {
                out.put(&(at as u64).to_le_bytes())?;
                next += 1;
            }
        }
        (next..=buckets).try_for_each(|_| out.put(&rows.to_le_bytes()))
    }
}

/// The counts of all shards that `keep` picks, in an order of their own; sketches whole.
fn count_bytes(rows: &Rows<'_>, keep: impl Fn(Sightings) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut exact = Vec::new();
    for counts in rows.shards().filter_map(|shard| shard.counts.as_ref()) {
        match counts {
            Counts::Exact(seen) => {
                exact.extend(seen.iter().filter(|(_, seen)| keep(**seen)).map(|(&key, &seen)| (key, seen)));
            }
            Counts::Sketch(counters, _) => bytes.extend_from_slice(counters),
        }
    }
    exact.sort_unstable();
    for (key, (count, word)) in exact {
        bytes.extend(key.to_le_bytes());
        bytes.extend(count.to_le_bytes().into_iter().chain(word.to_le_bytes()));
    }
    bytes
}

/// Writes head and tables.
pub(crate) fn write_pieces(
    w: &mut dyn Write,
    magic: [u8; 8],
    scale: f32,
    pieces: &[Piece<'_>],
) -> io::Result<()> {
    let state = pieces.iter().all(|piece| piece.state);
    let tables = pieces.iter().map(|piece| piece.head.clone()).collect();
    let head = postcard::to_stdvec(&Head { scale, state, tables }).map_err(io::Error::other)?;
    let mut out = Hashed { inner: w, hash: Xxh3::new(), block: Vec::with_capacity(2 * BLOCK) };
    out.put(&magic)?;
    out.put(&VERSION.to_le_bytes())?;
    out.put(&(head.len() as u32).to_le_bytes())?;
    out.put(&head)?;
    out.seal()?;
    for piece in pieces {
        piece.write(&mut out)?;
        out.seal()?;
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

    /// Writes the hash of what came since the last one.
    fn seal(&mut self) -> io::Result<()> {
        self.pass_on(0)?;
        let hash = self.hash.digest();
        self.hash.reset();
        self.inner.write_all(&hash.to_le_bytes())
    }
}
