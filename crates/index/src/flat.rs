//! Exact search: every item is scored.
#![allow(unsafe_code)]

use crate::distance::dot;
use crate::error::{Error, Result};
use crate::file::{self, Payload, Writer};
use crate::hit::Hit;
use crate::index::{Index, IndexMut, KeepEach, Metric, prepare_batch};
use crate::rows::check_dim;
use crate::topk::Top;
use crate::vectors::Vectors;
use millstream_schema::ItemRow;
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

const MAGIC: [u8; 8] = *b"MILLFLAT";
const VERSION: u32 = 1;

/// Floats of item vectors per tile: a quarter of a small second-level cache, as its scores need room too.
const TILE_FLOATS: usize = 32 * 1024;

/// Queries scored together at most.
const BLOCK_QUERIES: usize = 32;

/// An exact index. Batches are scored tile by tile as a matrix product, single queries by inner
/// products; the two may differ in the last bits of a score.
///
/// Searches and changes may go on side by side: a search sees the items as they were when it began, and a change
/// copies the tiles that it touches while a search holds them.
#[derive(Debug)]
pub struct Flat {
    dim: usize,
    metric: Metric,
    /// All full but the last. Whoever changes them holds `rows` for writing.
    tiles: RwLock<Arc<Vec<Arc<Tile>>>>,
    /// Rows of items, counted through all tiles.
    rows: RwLock<HashMap<ItemRow, u32>>,
}

/// Some vectors, `[items, D]`, and whose they are.
#[derive(Debug, Clone, Default)]
struct Tile {
    floats: Vec<f32>,
    items: Vec<ItemRow>,
}

impl Flat {
    /// An empty index of vectors of `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Input`] when `dim` is 0 or above 65,536.
    pub fn new(dim: usize, metric: Metric) -> Result<Self> {
        check_dim(dim)?;
        let (tiles, rows) = Default::default();
        Ok(Self { dim, metric, tiles, rows })
    }

    /// An index over `items` with `vectors`, `[items.len(), D]`; of an item named twice the last counts.
    ///
    /// # Errors
    /// [`Error::Input`] when the lengths do not match or a number is not finite.
    pub fn build(dim: usize, metric: Metric, items: &[ItemRow], vectors: &[f32]) -> Result<Self> {
        let index = Self::new(dim, metric)?;
        check_lengths(dim, items, vectors)?;
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
        let tiles = self.tiles();
        let floats = tiles.iter().flat_map(|tile| &tile.floats).copied().collect();
        let items = tiles.iter().flat_map(|tile| &tile.items).copied().collect();
        let mut out = Writer::default();
        Vectors { dim: self.dim, metric: self.metric, floats, items }.write(&mut out);
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
        let Vectors { dim, metric, floats, items } = Vectors::read(&mut from)?;
        from.end()?;
        let index = Self::new(dim, metric)?;
        for (&item, vector) in items.iter().zip(floats.chunks_exact(dim)) {
            index.put(item, vector);
        }
        if index.len() != items.len() {
            return Err(from.flaw("an item is there twice"));
        }
        Ok(index)
    }

    /// The tiles as they are now.
    fn tiles(&self) -> Arc<Vec<Arc<Tile>>> {
        self.tiles.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tiles to change; a search that holds them keeps what it has.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Tile>>)) {
        change(Arc::make_mut(&mut self.tiles.write().unwrap_or_else(PoisonError::into_inner)));
    }

    fn rows_mut(&self) -> RwLockWriteGuard<'_, HashMap<ItemRow, u32>> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tile and place in it of a row.
    fn place(&self, row: u32) -> (usize, usize) {
        let (row, tile_rows) = (row as usize, self.tile_rows());
        (row / tile_rows, row % tile_rows)
    }

    fn tile_rows(&self) -> usize {
        (TILE_FLOATS / self.dim).clamp(16, 4096)
    }

    /// Puts a vector that was checked and prepared.
    fn put(&self, item: ItemRow, vector: &[f32]) {
        let mut rows = self.rows_mut();
        let next = rows.len() as u32;
        let row = *rows.entry(item).or_insert(next);
        let (tile, at) = self.place(row);
        self.change(|tiles| {
            if tile == tiles.len() {
                tiles.push(Arc::default());
            }
            let tile = Arc::make_mut(&mut tiles[tile]);
            if row == next {
                tile.floats.extend_from_slice(vector);
                tile.items.push(item);
            } else {
                tile.floats[at * self.dim..][..self.dim].copy_from_slice(vector);
            }
        });
    }

    /// The best of a few queries, `[queries, D]`, of which the first is number `first`.
    fn search_block(
        &self,
        tiles: &[Arc<Tile>],
        first: usize,
        queries: &[f32],
        (k, keep): (usize, KeepEach<'_>),
    ) -> Vec<Vec<Hit>> {
        let mut tops = vec![Top::new(k); queries.len() / self.dim];
        let mut scores = vec![0.0; tops.len() * self.tile_rows()];
        for Tile { floats, items } in tiles.iter().map(|tile| &**tile).filter(|tile| !tile.items.is_empty()) {
            let scores = &mut scores[..tops.len() * items.len()];
            multiply(queries, floats, self.dim, scores);
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

impl Index for Flat {
    fn dim(&self) -> usize {
        self.dim
    }

    fn len(&self) -> usize {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn copy_vector(&self, item: ItemRow, out: &mut [f32]) -> bool {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let Some(&row) = rows.get(&item).filter(|_| out.len() == self.dim) else { return false };
        let (tile, at) = self.place(row);
        out.copy_from_slice(&self.tiles()[tile].floats[at * self.dim..][..self.dim]);
        true
    }

    fn search(&self, query: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Result<Vec<Hit>> {
        let query = self.metric.prepare("the query", query, self.dim)?;
        let mut top = Top::new(k);
        for tile in self.tiles().iter() {
            for (vector, &item) in tile.floats.chunks_exact(self.dim).zip(&tile.items) {
                let score = dot(&query, vector);
                if top.wants(item, score) && keep(item) {
                    top.offer(item, score);
                }
            }
        }
        Ok(top.finish())
    }

    fn search_batch(&self, queries: &[f32], k: usize, keep: KeepEach<'_>) -> Result<Vec<Vec<Hit>>> {
        let queries = prepare_batch(self.metric, queries, self.dim)?;
        let (tiles, k) = (self.tiles(), k.min(self.len()));
        let count = queries.len() / self.dim;
        let block = count.div_ceil(rayon::current_num_threads()).clamp(1, BLOCK_QUERIES);
        let blocks: Vec<Vec<Vec<Hit>>> = queries
            .par_chunks(block * self.dim)
            .enumerate()
            .map(|(at, queries)| self.search_block(&tiles, at * block, queries, (k, keep)))
            .collect();
        Ok(blocks.into_iter().flatten().collect())
    }
}

impl IndexMut for Flat {
    fn upsert(&self, item: ItemRow, vector: &[f32]) -> Result<()> {
        let vector = self.metric.prepare(&format!("the vector of item {item}"), vector, self.dim)?;
        self.put(item, &vector);
        Ok(())
    }

    /// The last row takes the place of the one removed.
    fn remove(&self, item: ItemRow) -> bool {
        let mut rows = self.rows_mut();
        let Some(row) = rows.remove(&item) else { return false };
        let (tile, at) = self.place(row);
        let mut moved = item;
        self.change(|tiles| {
            let Some(last) = tiles.last_mut().map(Arc::make_mut) else { return };
            let vector = last.floats.split_off(last.floats.len() - self.dim);
            moved = last.items.pop().unwrap_or(item);
            if last.items.is_empty() {
                tiles.pop();
            }
            if moved != item {
                let tile = Arc::make_mut(&mut tiles[tile]);
                tile.floats[at * self.dim..][..self.dim].copy_from_slice(&vector);
                tile.items[at] = moved;
            }
        });
        if moved != item {
            rows.insert(moved, row);
        }
        true
    }
}
