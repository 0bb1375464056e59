//! Rows of different lengths side by side, without padding.

use crate::error::{Error, Result};
use crate::ops::{Bags, Pooling};
use crate::tensor::Tensor;
use std::sync::Arc;

/// B sequences of vectors: row b owns the vectors `offsets[b]..offsets[b + 1]` of `values`, oldest first.
///
/// What treats each element alike (a linear layer, an activation, a norm) works on [`Ragged::values`] and is put back by
/// [`Ragged::with`]; nothing is stored or computed for elements that are not there.
#[derive(Debug, Clone)]
pub struct Ragged {
    offsets: Arc<Vec<u32>>,
    values: Tensor,
}

impl Ragged {
    /// Sequences from offsets `[B + 1]` and all their elements `[L₁ + … + L_B, D]`.
    ///
    /// # Errors
    /// Offsets that do not rise from 0 to the number of elements, or values without two axes.
    pub fn new(offsets: Arc<Vec<u32>>, values: Tensor) -> Result<Self> {
        let elements = if let &[elements, _] = values.shape() { Some(elements) } else { None };
        let end = offsets.last().map(|end| *end as usize);
        if offsets.first() != Some(&0) || !offsets.is_sorted() || end != elements {
            let shape = values.shape();
            return Err(Error::Batch(format!(
                "offsets up to {end:?} do not fit elements of shape {shape:?}"
            )));
        }
        Ok(Self { offsets, values })
    }

    /// As [`Ragged::new`], of offsets that were checked with the bags they belong to.
    ///
    /// # Panics
    /// If the offsets do not fit.
    pub(crate) fn of(offsets: Arc<Vec<u32>>, values: Tensor) -> Self {
        match Self::new(offsets, values) {
            Ok(ragged) => ragged,
            Err(e) => panic!("{e}"),
        }
    }

    /// The rows `[U, D]` that the bags name, bag by bag, without pooling them.
    pub fn of_bags(bags: &Bags, rows: &Tensor) -> Self {
        Self { offsets: bags.offsets.clone(), values: rows.gather(&bags.index) }
    }

    /// The same sequences with other vectors, one for each element.
    ///
    /// # Panics
    /// If there is another number of elements.
    pub fn with(&self, values: Tensor) -> Self {
        assert_eq!(values.shape()[0], self.elements(), "elements {:?} for these sequences", values.shape());
        Self { offsets: self.offsets.clone(), values }
    }

    /// The last element of each sequence `[B, D]`; zeros for an empty one.
    pub fn last(&self) -> Tensor {
        let index = (0..self.rows()).flat_map(|b| self.span(b).last().map(|e| e as u32)).collect();
        let ends = (0..self.rows()).scan(0, |end, b| {
            *end += u32::from(self.len_of(b) > 0);
            Some(*end)
        });
        let offsets: Vec<u32> = std::iter::once(0).chain(ends).collect();
        if offsets.last() == Some(&(self.rows() as u32)) {
            return self.values.gather(&Arc::new(index));
        }
        let (offsets, index) = (Arc::new(offsets), Arc::new(index));
        self.values.pool(&Bags { offsets, index, weights: None, pooling: Pooling::Sum })
    }

    /// The latest `most` elements of each sequence.
    pub fn latest(&self, most: usize) -> Ragged {
        if (0..self.rows()).all(|b| self.len_of(b) <= most) {
            return self.clone();
        }
        let (mut offsets, mut index) = (vec![0], Vec::new());
        for b in 0..self.rows() {
            let span = self.span(b);
            index.extend((span.start.max(span.end.saturating_sub(most))..span.end).map(|e| e as u32));
            offsets.push(index.len() as u32);
        }
        Self { offsets: Arc::new(offsets), values: self.values.gather(&Arc::new(index)) }
    }

    /// `[B + 1]`.
    pub fn offsets(&self) -> &Arc<Vec<u32>> {
        &self.offsets
    }

    /// `[L₁ + … + L_B, D]`.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// B.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// L₁ + … + L_B.
    pub fn elements(&self) -> usize {
        self.values.shape()[0]
    }

    /// D.
    pub fn width(&self) -> usize {
        self.values.shape()[1]
    }

    /// Where the elements of a row stand.
    pub fn span(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// L_b.
    pub fn len_of(&self, row: usize) -> usize {
        self.span(row).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Params, Pass};

    #[test]
    fn rows_own_their_elements_and_bad_offsets_are_refused() {
        let params = Params::new(1);
        let pass = Pass::new(&params, Mode::Infer, 0);
        let values = || pass.constant(&[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let x = Ragged::new(Arc::new(vec![0, 2, 2, 3]), values()).unwrap();
        assert_eq!((x.rows(), x.elements(), x.width()), (3, 3, 2));
        assert_eq!([x.span(0), x.span(1), x.span(2)], [0..2, 2..2, 2..3]);
        assert_eq!(x.with(pass.constant(&[3, 1], vec![0.0; 3])).width(), 1);
        for bad in [vec![0, 2], vec![1, 3], vec![0, 3, 2, 3], vec![]] {
            assert!(Ragged::new(Arc::new(bad.clone()), values()).is_err(), "{bad:?}");
        }
    }
}
