use crate::error::{Error, Result};
use crate::hit::Hit;
use millstream_schema::ItemRow;
use serde::{Deserialize, Serialize};

/// What makes two vectors alike; higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// `q · x`.
    InnerProduct,
    /// `q · x / (|q| |x|)`, in [-1, 1]; 0 when either is the zero vector. Vectors are stored at unit
    /// length.
    Cosine,
}

impl Metric {
    /// The vector as it is stored and compared, checked.
    pub(crate) fn prepare(self, what: &str, vector: &[f32], dim: usize) -> Result<Vec<f32>> {
        if vector.len() != dim {
            let len = vector.len();
            return Err(Error::Input(format!("{what} has {len} numbers, this index holds {dim}")));
        }
        if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
            return Err(Error::Input(format!("{what} has a {} at place {at}", vector[at])));
        }
        let mut vector = vector.to_vec();
        if self == Self::Cosine {
            let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            if norm > 0.0 {
                vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
        Ok(vector)
    }

    pub(crate) fn code(self) -> u32 {
        self as u32
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        [Self::InnerProduct, Self::Cosine].into_iter().find(|metric| metric.code() == code)
    }
}

/// Which items each query of a batch may get: number of the query, item.
pub type KeepEach<'a> = &'a (dyn Fn(usize, ItemRow) -> bool + Sync);

/// Finds the items whose vectors score highest against a query.
pub trait Index: Send + Sync {
    /// Numbers per vector, D.
    fn dim(&self) -> usize;

    /// Items held.
    fn len(&self) -> usize;

    /// Whether no item is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What scores mean.
    fn metric(&self) -> Metric;

    /// Writes the stored vector of an item to `out`, `[D]`; of unit length under [`Metric::Cosine`], and as
    /// precise as it is stored. `false`, and nothing written, when the item is not held or `out` has another
    /// length.
    fn copy_vector(&self, item: ItemRow, out: &mut [f32]) -> bool;

    /// A copy of the stored vector of an item.
    fn vector(&self, item: ItemRow) -> Option<Vec<f32>> {
        let mut vector = vec![0.0; self.dim()];
        self.copy_vector(item, &mut vector).then_some(vector)
    }

    /// At most `k` items that `keep` accepts, best first, ties by id; fewer only when fewer are
    /// accepted. `keep` applies during the search.
    ///
    /// # Errors
    /// [`Error::Input`] when the query has another length or holds NaN or infinity.
    fn search(&self, query: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Result<Vec<Hit>>;

    /// The search for each row of `queries`, `[Q, D]`, in parallel.
    ///
    /// # Errors
    /// As [`Index::search`].
    fn search_batch(&self, queries: &[f32], k: usize, keep: KeepEach<'_>) -> Result<Vec<Vec<Hit>>>;
}

/// An index that can change while it is searched, from any thread.
///
/// A search that starts after a change returned sees it: a removed item is not found any more, and one that was
/// put can be. A search that runs meanwhile may see the index as before or as after.
pub trait IndexMut: Index {
    /// Puts an item's vector, replacing the one it had.
    ///
    /// # Errors
    /// [`Error::Input`] when the vector has another length or holds NaN or infinity, [`Error::Memory`] when there
    /// is no memory; nothing has changed then.
    fn upsert(&self, item: ItemRow, vector: &[f32]) -> Result<()>;

    /// Takes an item out; `false` when it was not there.
    fn remove(&self, item: ItemRow) -> bool;
}

impl<I: Index + ?Sized> Index for Box<I> {
    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn metric(&self) -> Metric {
        (**self).metric()
    }

    fn copy_vector(&self, item: ItemRow, out: &mut [f32]) -> bool {
        (**self).copy_vector(item, out)
    }

    fn search(&self, query: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Result<Vec<Hit>> {
        (**self).search(query, k, keep)
    }

    fn search_batch(&self, queries: &[f32], k: usize, keep: KeepEach<'_>) -> Result<Vec<Vec<Hit>>> {
        (**self).search_batch(queries, k, keep)
    }
}

impl<I: IndexMut + ?Sized> IndexMut for Box<I> {
    fn upsert(&self, item: ItemRow, vector: &[f32]) -> Result<()> {
        (**self).upsert(item, vector)
    }

    fn remove(&self, item: ItemRow) -> bool {
        (**self).remove(item)
    }
}

/// Splits a batch into its queries, each prepared for comparison, as one `[Q, D]` slice.
pub(crate) fn prepare_batch(metric: Metric, queries: &[f32], dim: usize) -> Result<Vec<f32>> {
    if !queries.len().is_multiple_of(dim) {
        let len = queries.len();
        return Err(Error::Input(format!("{len} numbers are no whole queries of {dim}")));
    }
    let mut prepared = Vec::with_capacity(queries.len());
    for (at, query) in queries.chunks_exact(dim).enumerate() {
        prepared.extend(metric.prepare(&format!("query {at}"), query, dim)?);
    }
    Ok(prepared)
}
