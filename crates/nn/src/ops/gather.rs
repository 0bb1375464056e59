//! Rows by number.

use super::scatter::{Flow, Inflow, To, scatter};
use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Shape, Tensor, own};
use std::sync::Arc;

impl Tensor {
    /// `[U, ..]` → `[M, ..]`: rows of the first axis by number; a row may be named often. Backward adds up.
    ///
    /// # Panics
    /// If a row is not there.
    pub fn gather(&self, index: &Arc<Vec<u32>>) -> Tensor {
        let mut axes = self.shape().to_vec();
        let width: usize = axes[1..].iter().product();
        let rows = axes[0];
        assert!(index.iter().all(|i| (*i as usize) < rows), "a row beyond the {rows} of {:?}", self.shape);
        axes[0] = index.len();
        let mut out = Buffer::any(index.len() * width);
        let (from_rows, ids) = (self.data(), &index[..]);
        chunks::rows(&mut out, width, |from, out| {
            for (out, i) in out.chunks_exact_mut(width).zip(&ids[from..]) {
                out.copy_from_slice(&from_rows[*i as usize * width..][..width]);
            }
        });
        let (node, len, index) = (self.node, self.len(), index.clone());
        self.output(Shape::new(&axes), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, len, |into| {
                let to = To::Rows { index: &index, map: None };
                scatter(vec![Inflow { into, width, flows: vec![Flow { grad: &g, step: width, to }] }]);
            });
        })
    }
}
