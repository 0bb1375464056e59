//! Exact search: every item is scored.
#![allow(unsafe_code)]

use crate::dot::dot;
use crate::error::{Error, Result};
use crate::file::{self, Payload, Writer};
use crate::hit::Hit;
use crate::index::{Index, IndexMut, KeepEach, Metric, prepare_batch};
use crate::topk::Top;
use crate::vectors::Vectors;
use millstream_schema::ItemRow;
use rayon::prelude::*;
use std::path::Path;

const MAGIC: [u8; 8] = *b"MILLFLAT";
const VERSION: u32 = 1;

/// Floats of item vectors per tile: a quarter of a small second-level cache, as its scores need room too.
const TILE_FLOATS: usize = 32 * 1024;

/// Queries scored together at most.
const BLOCK_QUERIES: usize = 32;

/// An exact index. Batches are scored tile by tile as a matrix product, single queries by inner
/// products; the two may differ in the last bits of a score.
#[derive(Debug, Clone)]
pub struct Flat {
    vectors: Vectors,
}

impl Flat {
    /// An empty index of vectors of `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Input`] when `dim` is 0 or above 65,536.
    pub fn new(dim: usize, metric: Metric) -> Result<Self> {
        Ok(Self { vectors: Vectors::new(dim, metric)? })
    }

    /// An index over `items` with `vectors`, `[items.len(), D]`; of an item named twice the last counts.
    ///
    /// # Errors
    /// [`Error::Input`] when the lengths do not match or a number is not finite.
    pub fn build(dim: usize, metric: Metric, items: &[ItemRow], vectors: &[f32]) -> Result<Self> {
        let mut index = Self::new(dim, metric)?;
        check_lengths(dim, items, vectors)?;
        index.vectors.floats.reserve_exact(vectors.len());
        for (&item, vector) in items.iter().zip(vectors.chunks_exact(dim)) {
            index.upsert(item, vector)?;
        }
        Ok(index)
    }

    /// Writes the index to a file, which replaces what was at `path` only when complete.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut out = Writer::default();
        self.vectors.write(&mut out);
        out.save(path.as_ref(), MAGIC, VERSION)
    }

    /// Opens a file made by [`Flat::save`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Corrupt`] when it is not such a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = file::read(path, MAGIC, VERSION)?;
        let mut from = Payload { bytes: &bytes, path };
        let vectors = Vectors::read(&mut from)?;
        from.end()?;
        if vectors.rows.len() != vectors.items.len() {
            return Err(from.flaw("an item is there twice"));
        }
        Ok(Self { vectors })
    }

    /// The best of a few queries, `[queries, D]`, of which the first is number `first`.
    fn search_block(&self, first: usize, queries: &[f32], k: usize, keep: KeepEach<'_>) -> Vec<Vec<Hit>> {
        let Vectors { dim, floats, items, .. } = &self.vectors;
        let tile_rows = (TILE_FLOATS / dim).clamp(16, 4096);
        let mut tops = vec![Top::new(k.min(items.len())); queries.len() / dim];
        let mut scores = vec![0.0; tops.len() * tile_rows];
        for (tile, items) in floats.chunks(tile_rows * dim).zip(items.chunks(tile_rows)) {
            let scores = &mut scores[..tops.len() * items.len()];
            multiply(queries, tile, *dim, scores);
            let rows = scores.chunks_exact(items.len());
            for ((top, scores), query) in tops.iter_mut().zip(rows).zip(first..) {
                top.offer_all(scores, |at| items[at], |item| keep(query, item));
            }
        }
        tops.into_iter().map(Top::finish).collect()
    }
}

pub(crate) fn check_lengths(dim: usize, items: &[ItemRow], vectors: &[f32]) -> Result<()> {
    if items.len() >= u32::MAX as usize || items.len().checked_mul(dim) != Some(vectors.len()) {
        let (items, floats) = (items.len(), vectors.len());
        let what = format!("{items} items of dim {dim} do not fit {floats} numbers");
        return Err(Error::Input(what));
    }
    Ok(())
}

/// `out = queries · tileᵀ`: `[q, D] · [t, D]ᵀ = [q, t]`, all row after row.
fn multiply(queries: &[f32], tile: &[f32], dim: usize, out: &mut [f32]) {
    let (q, t) = (queries.len() / dim, tile.len() / dim);
    assert!(queries.len() == q * dim && tile.len() == t * dim && out.len() == q * t);
    let (row, tile_row) = (dim as isize, t as isize);
    // SAFETY: by the assertion every element that the sizes and strides describe lies inside its
    // slice, and `out` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            q,
            t,
            dim,
            out.as_mut_ptr(),
            1,
            tile_row,
            false,
            queries.as_ptr(),
            1,
            row,
            tile.as_ptr(),
            row,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The exact answer by one pass over all rows; shared with the graph's fallback.
pub(crate) fn scan(
    vectors: &Vectors,
    query: &[f32],
    k: usize,
    keep: impl Fn(u32, ItemRow) -> bool,
) -> Vec<Hit> {
    let mut top = Top::new(k.min(vectors.items.len()));
    for ((vector, &item), row) in vectors.floats.chunks_exact(vectors.dim).zip(&vectors.items).zip(0..) {
        let score = dot(query, vector);
        if top.wants(item, score) && keep(row, item) {
            top.offer(item, score);
        }
    }
    top.finish()
}

impl Index for Flat {
    fn dim(&self) -> usize {
        self.vectors.dim
    }

    fn len(&self) -> usize {
        self.vectors.items.len()
    }

    fn metric(&self) -> Metric {
        self.vectors.metric
    }

    fn vector(&self, item: ItemRow) -> Option<&[f32]> {
        self.vectors.of(item)
    }

    fn search(&self, query: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Result<Vec<Hit>> {
        let query = self.vectors.prepare("the query", query)?;
        Ok(scan(&self.vectors, &query, k, |_, item| keep(item)))
    }

    fn search_batch(&self, queries: &[f32], k: usize, keep: KeepEach<'_>) -> Result<Vec<Vec<Hit>>> {
        let dim = self.vectors.dim;
        let queries = prepare_batch(self.vectors.metric, queries, dim)?;
        let count = queries.len() / dim;
        let block = count.div_ceil(rayon::current_num_threads()).clamp(1, BLOCK_QUERIES);
        let blocks: Vec<Vec<Vec<Hit>>> = queries
            .par_chunks(block * dim)
            .enumerate()
            .map(|(at, queries)| self.search_block(at * block, queries, k, keep))
            .collect();
        Ok(blocks.into_iter().flatten().collect())
    }
}

impl IndexMut for Flat {
    fn upsert(&mut self, item: ItemRow, vector: &[f32]) -> Result<()> {
        let vector = self.vectors.prepare(&format!("the vector of item {item}"), vector)?;
        match self.vectors.rows.get(&item) {
            Some(&row) => self.vectors.set(row, item, &vector),
            None => {
                self.vectors.push(item, &vector);
            }
        }
        Ok(())
    }

    /// The last row takes the place of the one removed.
    fn remove(&mut self, item: ItemRow) -> bool {
        let Vectors { dim, floats, items, rows, .. } = &mut self.vectors;
        let Some(row) = rows.remove(&item) else { return false };
        let (row, last) = (row as usize, items.len() - 1);
        floats.copy_within(last * *dim.., row * *dim);
        floats.truncate(last * *dim);
        items.swap_remove(row);
        if row < last {
            rows.insert(items[row], row as u32);
        }
        true
    }
}
