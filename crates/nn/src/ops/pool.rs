//! Pooling of ragged lists of rows, straight from the table's unique rows.

use super::scatter::{Flow, Inflow, To, scatter};
use crate::buffer::Buffer;
use crate::chunks;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor, own};
use std::ops::Range;
use std::sync::Arc;

/// How the rows of a bag become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// (Weighted) mean; zero for an empty bag or one whose weights sum to nothing positive.
    Mean,
    /// (Weighted) sum.
    Sum,
}

/// Ragged lists of row numbers: bag b holds `index[offsets[b] .. offsets[b + 1]]`.
#[derive(Debug, Clone)]
pub struct Bags {
    pub(crate) offsets: Arc<Vec<u32>>,
    pub(crate) index: Arc<Vec<u32>>,
    pub(crate) weights: Option<Arc<Vec<f32>>>,
    pub(crate) pooling: Pooling,
}

impl Bags {
    /// Bags from offsets `[B + 1]`, row numbers, and a weight per row number if weighted.
    ///
    /// # Errors
    /// Offsets that do not rise from 0 to the number of row numbers, or weights of another number.
    pub fn new(
        offsets: Vec<u32>,
        index: Vec<u32>,
        weights: Option<Vec<f32>>,
        pooling: Pooling,
    ) -> Result<Self> {
        let sound = offsets.first() == Some(&0)
            && offsets.is_sorted()
            && offsets.last().is_some_and(|end| *end as usize == index.len())
            && weights.as_ref().is_none_or(|w| w.len() == index.len());
        if !sound {
            return Err(Error::Batch(
                "a ragged column's offsets, keys and weights do not fit each other".into(),
            ));
        }
        let weights = weights.map(Arc::new);
        Ok(Self { offsets: Arc::new(offsets), index: Arc::new(index), weights, pooling })
    }

    /// Number of bags.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no bag.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[B + 1]`, rising from 0.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Row numbers of all bags.
    pub fn index(&self) -> &[u32] {
        &self.index
    }

    /// Places in `index` of the rows of bag `b`.
    pub fn range(&self, b: usize) -> Range<usize> {
        self.offsets[b] as usize..self.offsets[b + 1] as usize
    }

    /// The same bags pooled in another way.
    pub fn pooled_by(&self, pooling: Pooling) -> Self {
        Self { pooling, ..self.clone() }
    }

    #[inline]
    pub(crate) fn weight(&self, e: usize) -> f32 {
        self.weights.as_ref().map_or(1.0, |w| w[e])
    }
}

/// The places of bag `b`, and the factor on each element's own weight.
#[inline]
pub(crate) fn bag_weight(bags: &Bags, b: usize) -> (Range<usize>, f32) {
    let range = bags.range(b);
    let scale = match (bags.pooling, &bags.weights) {
        (Pooling::Sum, _) => 1.0,
        (Pooling::Mean, None) => 1.0 / range.len().max(1) as f32,
        (Pooling::Mean, Some(w)) => {
            let sum: f32 = w[range.clone()].iter().sum();
            if sum > 0.0 { 1.0 / sum } else { 0.0 }
        }
    };
    (range, scale)
}

/// Pools bag `b` of `rows` into `out` (one row).
#[inline]
pub(crate) fn pool_bag(bags: &Bags, b: usize, rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    let (range, scale) = bag_weight(bags, b);
    out.fill(0.0);
    for e in range {
        let row = &rows[bags.index[e] as usize * width..][..width];
        chunks::add_scaled(out, scale * bags.weight(e), row);
    }
}

impl Tensor {
    /// `[U, D]` → `[B, D]`: each bag of rows pooled to one; the rows themselves are never lined up in memory.
    ///
    /// # Panics
    /// If a row number is not there.
    pub fn pool(&self, bags: &Bags) -> Tensor {
        let (width, count) = (self.width(), bags.len());
        let mut out = Buffer::any(count * width);
        let rows = self.data();
        chunks::rows(&mut out, width, |from, out| {
            out.chunks_exact_mut(width).enumerate().for_each(|(b, out)| pool_bag(bags, from + b, rows, out));
        });
        let (node, len, bags) = (self.node, self.len(), bags.clone());
        self.output(Shape::new(&[count, width]), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, len, |into| {
                scatter(vec![Inflow {
                    into,
                    width,
                    flows: vec![Flow { grad: &g, step: width, to: To::Bags(&bags) }],
                }]);
            });
        })
    }

    /// `[U, D]` and `[E, 1]` → `[B, D]`: Σ weight · row over each bag, with weights (one per row number of the bags) that
    /// gradients flow to, as attention needs; the bags' own weights and pooling are left aside.
    ///
    /// # Panics
    /// If there is not one weight per row number, or a row number is not there.
    pub fn pool_weighted(&self, bags: &Bags, weights: &Tensor) -> Tensor {
        assert_eq!(weights.len(), bags.index.len(), "weights {:?} of pooled rows", weights.shape);
        let held = Bags { weights: Some(Arc::new(weights.to_vec())), pooling: Pooling::Sum, ..bags.clone() };
        let pooled = self.pool(&held);
        if !weights.tracked() {
            return pooled;
        }
        let (rows, w, pooled_node) = (self.clone(), weights.node, pooled.node);
        let total = weights.len();
        self.output(pooled.shape, pooled.values.clone(), true, move |g, grads| {
            grads.sum(w, total, |gw| weight_slopes(gw, &held, rows.data(), &g));
            grads.add(pooled_node, g);
        })
    }
}

/// Adds to each weight's gradient the product of its bag's gradient and its row.
fn weight_slopes(gw: &mut [f32], bags: &Bags, rows: &[f32], g: &[f32]) {
    let width = g.len() / bags.len().max(1);
    for b in 0..bags.len() {
        let gb = &g[b * width..][..width];
        for e in bags.range(b) {
            gw[e] += chunks::dot(gb, &rows[bags.index[e] as usize * width..][..width]);
        }
    }
}
