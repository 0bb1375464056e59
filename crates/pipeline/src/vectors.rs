//! Item vectors, as far as the pipeline needs to know them.

use std::sync::Arc;

use millstream_index::Index;
use millstream_models::recall::item_cf::ItemCf;
use millstream_schema::ItemRow;

use crate::Error;
use crate::live::Live;
use crate::queries::Queries;

/// A retriever: what it asks with, and the index that answers.
#[derive(Clone)]
pub struct Retrieval {
    /// A user's vectors.
    pub queries: Arc<dyn Queries>,
    /// Finds items near them.
    pub search: Arc<dyn VectorSearch>,
}

/// Vectors of item texts, of length 1; an item whose text says nothing has none.
#[derive(Clone)]
pub struct ContentVectors {
    /// The vectors.
    pub vectors: Arc<dyn ItemVectors>,
    /// An index over them by inner product.
    pub search: Arc<dyn VectorSearch>,
}

/// Items like an item, each item's list being what an inverted list of triggers holds.
pub trait ItemToItem: Send + Sync {
    /// At most `k` items like this one for which `keep` holds, most alike first, ties by row; a smaller `k` gives
    /// a prefix. Empty for an item that is not known.
    ///
    /// # Errors
    /// Whatever keeps the lists from being read.
    fn near(
        &self,
        item: ItemRow,
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<(ItemRow, f32)>, Error>;
}

impl ItemToItem for ItemCf {
    fn near(
        &self,
        item: ItemRow,
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<(ItemRow, f32)>, Error> {
        Ok(self.neighbours(item).iter().filter(|x| keep(x.0)).take(k).copied().collect())
    }
}

impl<T: ItemToItem> ItemToItem for Live<T> {
    fn near(
        &self,
        item: ItemRow,
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<(ItemRow, f32)>, Error> {
        self.get().near(item, k, keep)
    }
}

/// Items whose vectors lie nearest to an item's own.
pub struct NearVectors {
    vectors: Arc<dyn ItemVectors>,
    search: Arc<dyn VectorSearch>,
}

impl NearVectors {
    /// `search` must be an index over `vectors`.
    pub fn new(vectors: Arc<dyn ItemVectors>, search: Arc<dyn VectorSearch>) -> Self {
        Self { vectors, search }
    }
}

impl ItemToItem for NearVectors {
    fn near(
        &self,
        item: ItemRow,
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<(ItemRow, f32)>, Error> {
        let mut query = vec![0.0; self.vectors.dim()];
        match self.vectors.copy(item, &mut query) {
            true => self.search.search(&query, k, &|other| other != item && keep(other)),
            false => Ok(Vec::new()),
        }
    }
}

/// Finds the items nearest to a vector.
pub trait VectorSearch: Send + Sync {
    /// At most `k` items for which `keep` holds with their scores, best first, ties by row.
    ///
    /// # Errors
    /// The query's length is not that of the vectors.
    fn search(
        &self,
        query: &[f32],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<(ItemRow, f32)>, Error>;
}

/// Gives the vector of an item.
pub trait ItemVectors: Send + Sync {
    /// D.
    fn dim(&self) -> usize;

    /// Writes the item's vector to `out`, which is `[D]`; false, and nothing written, when it has none.
    fn copy(&self, item: ItemRow, out: &mut [f32]) -> bool;
}

/// Vectors of the first rows of the catalogue, `[items, D]` in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseVectors {
    dim: usize,
    values: Vec<f32>,
}

impl DenseVectors {
    /// `values` is `[items, dim]`, row-major.
    ///
    /// # Errors
    /// The number of values is not a multiple of `dim`, or `dim` is 0.
    pub fn new(dim: usize, values: Vec<f32>) -> Result<Self, Error> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::Part(format!("{} values do not make vectors of {dim}", values.len())));
        }
        Ok(Self { dim, values })
    }

    /// Number of items that have a vector.
    pub fn items(&self) -> usize {
        self.values.len() / self.dim
    }
}

impl ItemVectors for DenseVectors {
    fn dim(&self) -> usize {
        self.dim
    }

    fn copy(&self, item: ItemRow, out: &mut [f32]) -> bool {
        let start = item as usize * self.dim;
        match self.values.get(start..start + self.dim) {
            Some(vector) => {
                out.copy_from_slice(vector);
                true
            }
            None => false,
        }
    }
}

impl<I: Index> VectorSearch for I {
    fn search(
        &self,
        query: &[f32],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<(ItemRow, f32)>, Error> {
        Ok(Index::search(self, query, k, keep)?.into_iter().map(|hit| (hit.item, hit.score)).collect())
    }
}

impl<I: Index> ItemVectors for I {
    fn dim(&self) -> usize {
        Index::dim(self)
    }

    fn copy(&self, item: ItemRow, out: &mut [f32]) -> bool {
        Index::copy_vector(self, item, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_index::{Flat, IndexMut, Metric};

    #[test]
    fn an_index_serves_and_changes_behind_a_shared_handle() {
        let live: Box<dyn IndexMut> = Box::new(Flat::new(2, Metric::InnerProduct).unwrap());
        live.upsert(4, &[1.0, 0.0]).unwrap();
        let shared: &dyn VectorSearch = &live;
        assert_eq!(shared.search(&[2.0, 1.0], 3, &|_| true).unwrap(), [(4, 2.0)]);
        live.upsert(9, &[1.0, 1.0]).unwrap();
        assert_eq!(shared.search(&[2.0, 1.0], 3, &|_| true).unwrap(), [(9, 3.0), (4, 2.0)]);
        assert_eq!(shared.search(&[2.0, 1.0], 3, &|i| i != 9).unwrap(), [(4, 2.0)]);
        assert!(shared.search(&[1.0], 3, &|_| true).is_err());
        let mut out = [0.0; 2];
        assert!(ItemVectors::copy(&live, 9, &mut out) && out == [1.0, 1.0]);
        assert!(!ItemVectors::copy(&live, 5, &mut out));
        assert_eq!(ItemVectors::dim(&live), 2);
    }

    #[test]
    fn vectors_must_fill_whole_rows() {
        assert!(DenseVectors::new(3, vec![0.0; 7]).is_err());
        assert!(DenseVectors::new(0, vec![]).is_err());
        let dense = DenseVectors::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let mut out = [0.0; 2];
        assert_eq!(dense.items(), 2);
        assert!(dense.copy(1, &mut out) && out == [3.0, 4.0]);
        assert!(!dense.copy(2, &mut out));
    }
}
