//! Self-attention between the fields of a row.

use super::Linear;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// One interacting layer of AutoInt (Song et al., CIKM 2019): ReLU(‖_h Σ_j softmax_j⟨Q_h x_i, K_h x_j⟩ V_h x_j + R x_i).
#[derive(Debug, Clone)]
pub struct FieldAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    residual: Option<Linear>,
    heads: usize,
    scale: f32,
    outputs: usize,
}

impl FieldAttention {
    /// `heads` heads of `head_dim` columns over vectors of width `inputs`: `name.query.weight` `[heads · head_dim,
    /// inputs]`, likewise `name.key.weight`, `name.value.weight`, and with `residual` `name.residual.weight`. Scores are
    /// divided by √head_dim with `scaled` (AutoInt does not).
    ///
    /// # Errors
    /// No head, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        inputs: usize,
        (heads, head_dim): (usize, usize),
        (residual, scaled): (bool, bool),
    ) -> Result<Self> {
        if heads == 0 || head_dim == 0 {
            return Err(Error::Model(format!(
                "attention `{name}` has {heads} heads of width {head_dim}; expected at least 1 of each"
            )));
        }
        let outputs = heads * head_dim;
        let mut project = |part: &str| {
            Linear::without_bias(params, &format!("{name}.{part}"), (inputs, outputs), Init::XavierNormal)
        };
        Ok(Self {
            query: project("query")?,
            key: project("key")?,
            value: project("value")?,
            residual: if residual { Some(project("residual")?) } else { None },
            heads,
            scale: if scaled { 1.0 / (head_dim as f32).sqrt() } else { 1.0 },
            outputs,
        })
    }

    /// Width of a field after it.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[N, F, I]` → `[N, F, O]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let parts = [&self.query, &self.key, &self.value].into_iter().chain(&self.residual);
        let weights: Vec<Tensor> = parts.map(|part| part.weight(pass)).collect();
        let joined = Tensor::stack_rows(&weights.iter().collect::<Vec<_>>()); // [3 O or 4 O, I]
        x.linear(&joined, None).attend_relu(self.heads, self.scale, self.residual.is_some())
    }
}
