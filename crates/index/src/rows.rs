//! Vectors as a graph stores them: f32, bf16 or int8, row after row.
#![allow(unsafe_code)]

use crate::block::{Block, prefetch};
use crate::distance::{
    LANES, dot, dot_bf16, dot_int8, dots_bf16, dots_f32, dots_int8, from_bf16, most, pair_bf16, pair_int8,
    to_bf16,
};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the numbers of stored vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// 4 bytes a number, exact.
    #[default]
    F32,
    /// The upper half of an f32: 2 bytes a number, 8 bits of precision.
    Bf16,
    /// Whole numbers from -127 to 127 with one f32 scale per vector, `max|x| / 127`: 1 byte a number. Vectors that have
    /// much in common lose what tells them apart; copies to walk by ([`HnswConfig::coarse`](crate::HnswConfig::coarse))
    /// are taken around the mean, these are not.
    Int8,
}

impl Storage {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// Its name, as in options and configuration: `f32`, `bf16`, `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    pub(crate) fn code(self) -> u32 {
        self as u32
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|storage| storage.code() == code)
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }
}

/// A vector to compare rows with, in the form that suits their storage.
#[derive(Debug, Clone)]
pub(crate) enum Query {
    Float(Vec<f32>),
    /// Whole numbers and their scale.
    Fixed(Vec<i16>, f32),
}

/// Rows, each filled up with zeros to a multiple of [`LANES`] numbers. One writer sets rows that nobody reads
/// yet; a row that was published is never written again, which is what makes the reading functions sound.
#[derive(Debug)]
pub(crate) struct Rows {
    storage: Storage,
    dim: usize,
    lanes: usize,
    pub(crate) bytes: Block<u8>,
    /// One per row for int8, none else.
    pub(crate) scales: Block<f32>,
}

impl Rows {
    pub(crate) fn zeroed(storage: Storage, dim: usize, rows: usize) -> Result<Self> {
        let [bytes, scales] = Self::sizes(storage, dim, rows);
        let (bytes, scales) = (Block::zeroed(bytes), Block::zeroed(scales));
        let short = |source| Error::Memory { rows, source };
        Ok(Self::of(storage, dim, bytes.map_err(short)?, scales.map_err(short)?))
    }

    /// The lengths must be those of [`Rows::sizes`] of some number of rows.
    pub(crate) fn of(storage: Storage, dim: usize, bytes: Block<u8>, scales: Block<f32>) -> Self {
        Self { storage, dim, lanes: dim.next_multiple_of(LANES), bytes, scales }
    }

    /// Bytes and scales of so many rows.
    pub(crate) fn sizes(storage: Storage, dim: usize, rows: usize) -> [usize; 2] {
        let bytes = rows.saturating_mul(dim.next_multiple_of(LANES) * storage.bytes());
        [bytes, if storage == Storage::Int8 { rows } else { 0 }]
    }

    pub(crate) fn storage(&self) -> Storage {
        self.storage
    }

    /// All bytes as numbers of another type, the rows not in use included.
    #[inline(always)]
    fn all<T: Number>(&self) -> &[T] {
        // SAFETY: rows that were handed out are not written any more; others are not looked at through
        // this slice, as callers name published rows only.
        let bytes = unsafe { self.bytes.slice(0, self.bytes.len()) };
        // SAFETY: any bits are a number, blocks are aligned to pages or, in files, to 64 bytes.
        unsafe { bytes.align_to::<T>() }.1
    }

    #[inline(always)]
    fn row<T: Number>(&self, row: u32) -> &[T] {
        &self.all::<T>()[row as usize * self.lanes..][..self.lanes]
    }

    #[inline(always)]
    fn scales(&self) -> &[f32] {
        // SAFETY: as for rows.
        unsafe { self.scales.slice(0, self.scales.len()) }
    }

    /// Writes a row.
    ///
    /// # Safety
    /// Nobody else reads or writes this row meanwhile.
    pub(crate) unsafe fn set(&self, row: u32, vector: &[f32]) {
        let mut full = vec![0.0; self.lanes];
        full[..self.dim].copy_from_slice(vector);
        let bytes: Vec<u8> = match self.storage {
            Storage::F32 => full.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            Storage::Bf16 => full.iter().flat_map(|&x| to_bf16(x).to_ne_bytes()).collect(),
            Storage::Int8 => {
                let scale = scale(&full, 127.0);
                // SAFETY: the scale is part of the row.
                unsafe { self.scales.write(row as usize, &[scale]) };
                full.iter().map(|&x| whole(x, scale, 127.0) as i8 as u8).collect()
            }
        };
        // SAFETY: the caller's promise.
        unsafe { self.bytes.write(row as usize * bytes.len(), &bytes) };
    }

    /// Copies rows `0..rows` of another of the same kind.
    ///
    /// # Safety
    /// As [`Rows::set`], for all of these rows.
    pub(crate) unsafe fn copy(&self, to: u32, from: &Self, row: u32) {
        let stride = self.lanes * self.storage.bytes();
        // SAFETY: the source is published, the target the caller's.
        unsafe {
            self.bytes.write(to as usize * stride, from.bytes.slice(row as usize * stride, stride));
            if self.storage == Storage::Int8 {
                self.scales.write(to as usize, from.scales.slice(row as usize, 1));
            }
        }
    }

    /// Writes the numbers of a row to `out`, `[D]`.
    pub(crate) fn read(&self, row: u32, out: &mut [f32]) {
        match self.storage {
            Storage::F32 => out.copy_from_slice(&self.row::<f32>(row)[..self.dim]),
            Storage::Bf16 => {
                out.iter_mut().zip(self.row::<u16>(row)).for_each(|(out, &x)| *out = from_bf16(x));
            }
            Storage::Int8 => {
                let scale = self.scales()[row as usize];
                out.iter_mut().zip(self.row::<i8>(row)).for_each(|(out, &x)| *out = f32::from(x) * scale);
            }
        }
    }

    /// A row as it lies in memory, when it is of f32.
    pub(crate) fn floats(&self, row: u32) -> Option<&[f32]> {
        (self.storage == Storage::F32).then(|| &self.row::<f32>(row)[..self.dim])
    }

    pub(crate) fn query(&self, vector: &[f32]) -> Query {
        let mut full = vec![0.0; self.lanes];
        full[..self.dim].copy_from_slice(vector);
        if self.storage != Storage::Int8 {
            return Query::Float(full);
        }
        let most = most(self.lanes) as f32;
        let scale = scale(&full, most);
        Query::Fixed(full.iter().map(|&x| whole(x, scale, most) as i16).collect(), scale)
    }

    /// Inner products of a query, which must have been made by these rows, with rows.
    #[inline]
    pub(crate) fn scores(&self, query: &Query, rows: &[u32], out: &mut [f32]) {
        match (query, self.storage) {
            (Query::Float(query), Storage::F32) => dots_f32(query, self.all(), rows, out),
            (Query::Float(query), _) => dots_bf16(query, self.all(), rows, out),
            (Query::Fixed(query, scale), _) => {
                dots_int8((query, *scale), (self.all(), self.scales()), rows, out);
            }
        }
    }

    /// The inner product of a query with one row.
    #[inline]
    pub(crate) fn score(&self, query: &Query, row: u32) -> f32 {
        match (query, self.storage) {
            (Query::Float(query), Storage::F32) => dot(query, self.row(row)),
            (Query::Float(query), _) => dot_bf16(query, self.row(row)),
            (Query::Fixed(query, scale), _) => {
                dot_int8(query, self.row(row)) as f32 * (self.scales()[row as usize] * scale)
            }
        }
    }

    /// The inner product of two rows.
    #[inline]
    pub(crate) fn pair(&self, a: u32, b: u32) -> f32 {
        match self.storage {
            Storage::F32 => dot(self.row(a), self.row(b)),
            Storage::Bf16 => pair_bf16(self.row(a), self.row(b)),
            Storage::Int8 => {
                let scale = self.scales()[a as usize] * self.scales()[b as usize];
                pair_int8(self.row(a), self.row(b)) as f32 * scale
            }
        }
    }

    /// Asks for a row's cache lines.
    #[inline]
    pub(crate) fn prefetch(&self, row: u32) {
        prefetch(&self.all::<u8>()[row as usize * self.lanes * self.storage.bytes()..][..self.lanes]);
    }

    /// Whether the first `rows` rows hold finite numbers and scales only.
    pub(crate) fn are_finite(&self, rows: usize) -> bool {
        let numbers = rows * self.lanes;
        match self.storage {
            Storage::F32 => self.all::<f32>()[..numbers].iter().all(|x| x.is_finite()),
            Storage::Bf16 => self.all::<u16>()[..numbers].iter().all(|&x| x & 0x7f80 != 0x7f80),
            Storage::Int8 => self.scales()[..rows].iter().all(|x| x.is_finite() && *x >= 0.0),
        }
    }
}

/// The widest vector accepted.
const MAX_DIM: usize = 1 << 16;

/// # Errors
/// [`Error::Input`] when vectors cannot have this many numbers.
pub(crate) fn check_dim(dim: usize) -> Result<()> {
    match (1..=MAX_DIM).contains(&dim) {
        true => Ok(()),
        false => Err(Error::Input(format!("dim is {dim}, expected from 1 to {MAX_DIM}"))),
    }
}

/// Numbers that rows may be seen as: any bits are a value.
trait Number {}
impl Number for f32 {}
impl Number for u16 {}
impl Number for i8 {}
impl Number for u8 {}

/// What one step of whole numbers up to `most` is worth, so that all of the vector fits; 0 for the zero vector.
fn scale(vector: &[f32], most: f32) -> f32 {
    vector.iter().fold(0.0, |max: f32, x| max.max(x.abs())) / most
}

fn whole(x: f32, scale: f32, most: f32) -> f32 {
    if scale > 0.0 { (x / scale).round().clamp(-most, most) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(dim: usize, step: f32) -> Vec<f32> {
        (0..dim).map(|at| (at as f32 * step).sin() * 2.0).collect()
    }

    #[test]
    fn every_storage_gives_vectors_back_within_its_precision_and_scores_what_it_gives_back() {
        for dim in [1, 15, 16, 17, 64, 100] {
            for (storage, precision) in
                [(Storage::F32, 0.0), (Storage::Bf16, 1.0 / 256.0), (Storage::Int8, 1.0 / 254.0)]
            {
                let rows = Rows::zeroed(storage, dim, 3).unwrap();
                let vectors = [wave(dim, 0.7), wave(dim, 1.9), vec![0.0; dim]];
                for (vector, row) in vectors.iter().zip(0..) {
                    // SAFETY: nobody else has these rows.
                    unsafe { rows.set(row, vector) };
                }
                let mut kept = vec![vec![0.0; dim]; 3];
                for ((kept, vector), row) in kept.iter_mut().zip(&vectors).zip(0..) {
                    rows.read(row, kept);
                    let off = kept.iter().zip(vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(off <= 2.0 * precision * 1.001, "{storage:?} {dim}: {off}");
                }
                let plain = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                let (asked, mut out) = (wave(dim, 0.3), [0.0; 3]);
                let query = rows.query(&asked);
                rows.scores(&query, &[2, 1, 0], &mut out);
                for (&found, row) in out.iter().zip([2u32, 1, 0]) {
                    let expected = plain(&asked, &kept[row as usize]);
                    assert!((found - expected).abs() <= 1e-3 * dim as f32, "{storage:?} {found} {expected}");
                    assert_eq!(found, rows.score(&query, row));
                    let pair = plain(&kept[0], &kept[row as usize]);
                    assert!((rows.pair(0, row) - pair).abs() <= 1e-4 * dim as f32);
                }
                assert!(rows.are_finite(3));
            }
        }
    }
}
