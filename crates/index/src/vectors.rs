use crate::error::{Error, Result};
use crate::file::{Payload, Writer};
use crate::index::Metric;
use millstream_schema::ItemRow;
use std::collections::HashMap;

/// The widest vector accepted.
const MAX_DIM: usize = 1 << 16;

/// Vectors row after row, and which item each row belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Vectors {
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    /// `[rows, D]`.
    pub(crate) floats: Vec<f32>,
    pub(crate) items: Vec<ItemRow>,
    /// Rows of the items held; a row without entry here is out of use.
    pub(crate) rows: HashMap<ItemRow, u32>,
}

impl Vectors {
    pub(crate) fn new(dim: usize, metric: Metric) -> Result<Self> {
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(Error::Input(format!("dim is {dim}, expected from 1 to {MAX_DIM}")));
        }
        let (floats, items, rows) = Default::default();
        Ok(Self { dim, metric, floats, items, rows })
    }

    #[inline]
    pub(crate) fn row(&self, row: u32) -> &[f32] {
        &self.floats[row as usize * self.dim..][..self.dim]
    }

    pub(crate) fn of(&self, item: ItemRow) -> Option<&[f32]> {
        self.rows.get(&item).map(|&row| self.row(row))
    }

    pub(crate) fn prepare(&self, what: &str, vector: &[f32]) -> Result<Vec<f32>> {
        self.metric.prepare(what, vector, self.dim)
    }

    /// Adds a row at the end.
    pub(crate) fn push(&mut self, item: ItemRow, vector: &[f32]) -> u32 {
        let row = self.items.len() as u32;
        self.floats.extend_from_slice(vector);
        self.items.push(item);
        self.rows.insert(item, row);
        row
    }

    /// Gives a row another vector and item.
    pub(crate) fn set(&mut self, row: u32, item: ItemRow, vector: &[f32]) {
        self.floats[row as usize * self.dim..][..self.dim].copy_from_slice(vector);
        self.items[row as usize] = item;
        self.rows.insert(item, row);
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u32(self.dim as u32);
        out.u32(self.metric.code());
        out.u32s(&self.items);
        out.f32s(&self.floats);
    }

    /// All rows are in use at first.
    pub(crate) fn read(from: &mut Payload<'_>) -> Result<Self> {
        let dim = from.u32()? as usize;
        let metric = Metric::from_code(from.u32()?).ok_or_else(|| from.flaw("unknown metric"))?;
        let mut vectors = Self::new(dim, metric).map_err(|e| from.flaw(&e.to_string()))?;
        vectors.items = from.u32s()?;
        vectors.floats = from.f32s()?;
        if vectors.items.len().checked_mul(dim) != Some(vectors.floats.len()) {
            return Err(from.flaw("the vectors do not match the items"));
        }
        if vectors.floats.iter().any(|x| !x.is_finite()) {
            return Err(from.flaw("a vector is not finite"));
        }
        let rows = vectors.items.iter().zip(0..).map(|(&item, row)| (item, row));
        vectors.rows = rows.collect();
        Ok(vectors)
    }
}
