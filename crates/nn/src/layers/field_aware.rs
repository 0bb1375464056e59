//! The second-order part of a field-aware factorisation machine.

use super::{Embed, EmbedSpec};
use crate::error::Result;
use crate::init::RowInit;
use crate::inputs::{FieldInput, Inputs};
use crate::ops::{Bags, bag_weight};
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;
use millstream_schema::{Field, Rows};

/// Σ_{i<j} ⟨v_{i, field j}, v_{j, field i}⟩ x_i x_j over the chosen fields (Juan et al. 2016): a key's row holds a vector of
/// width K for each of the F fields, that for the j-th chosen field in columns `j·K .. (j+1)·K` (its own is never used).
#[derive(Debug, Clone)]
pub struct FieldAware {
    embed: Embed,
    fields: Vec<(usize, Rows)>,
    normalise: bool,
}

impl FieldAware {
    /// Over the chosen fields (places in `fields`): tables `space/suffix` of width F·K, for numbers weights
    /// `field/suffix` `[F·K, width]`. With `normalise` the sum is divided by ‖x‖², as the paper scales each row to
    /// unit length (a key counts as 1, the keys of a list by their pooling weights, a number as itself).
    ///
    /// # Errors
    /// As [`Embed::new`].
    pub fn new(
        params: &mut Params,
        (fields, chosen): (&[Field], &[usize]),
        suffix: &str,
        (k, init): (usize, RowInit),
        normalise: bool,
    ) -> Result<Self> {
        let spec = EmbedSpec { dim: chosen.len() * k, suffix: suffix.into(), init };
        let embed = Embed::new(params, fields, chosen, &spec)?;
        Ok(Self { embed, fields: chosen.iter().map(|&f| (f, fields[f].rows)).collect(), normalise })
    }

    /// `[N, 1]`.
    pub fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let pairs = self.embed.forward(pass, x).ffm();
        if !self.normalise {
            return pairs;
        }
        let scale = self.squares(x).into_iter().map(|s| if s > 0.0 { 1.0 / s } else { 0.0 }).collect();
        pairs.mul(&pass.constant(&[x.candidates(), 1], scale))
    }

    /// `[N]`: ‖x‖² of each candidate with its request.
    fn squares(&self, x: &Inputs) -> Vec<f32> {
        let mut out = vec![0.0; x.candidates()];
        for &(field, rows) in &self.fields {
            for (n, out) in out.iter_mut().enumerate() {
                let row = if rows == Rows::Request { x.candidate_request()[n] as usize } else { n };
                *out += square(x.field(field), row);
            }
        }
        out
    }
}

/// ‖x‖² of one field of one row.
fn square(field: &FieldInput, row: usize) -> f32 {
    match field {
        FieldInput::Key(_) => 1.0,
        FieldInput::Keys(bags) => bag_square(bags, row),
        FieldInput::Dense { width, values } => {
            values[row * width..(row + 1) * width].iter().map(|v| v * v).sum()
        }
    }
}

fn bag_square(bags: &Bags, row: usize) -> f32 {
    let (range, scale) = bag_weight(bags, row);
    range.map(|e| (scale * bags.weight(e)).powi(2)).sum()
}
