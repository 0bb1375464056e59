//! Sequences summed up by learned attention.

use super::Linear;
use crate::error::Result;
use crate::init::Init;
use crate::pairs::Pairs;
use crate::params::Params;
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Σ_e p_e v_e with p = softmax over a sequence of ⟨q, tanh(W v_e + b)⟩ (Yang et al. 2016, eq. 5 to 7): what matters in a sequence
/// whatever is asked of it; or of ⟨u, tanh(W v_e + b)⟩, u the one who asks. The order of elements does not matter.
#[derive(Debug, Clone)]
pub struct AttentionPool {
    hidden: Linear,
    /// q, where nobody asks.
    score: Option<Linear>,
}

impl AttentionPool {
    /// Weights `name.hidden` `[D, D]` with its bias, `name.score` `[1, D]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize) -> Result<Self> {
        let mut pool = Self::asked(params, name, width)?;
        let name = format!("{name}.score");
        pool.score = Some(Linear::without_bias(params, &name, (width, 1), Init::XavierUniform)?);
        Ok(pool)
    }

    /// For [`AttentionPool::forward_for`]: weights `name.hidden` `[D, D]` with its bias.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn asked(params: &mut Params, name: &str, width: usize) -> Result<Self> {
        let hidden = format!("{name}.hidden");
        Ok(Self {
            hidden: Linear::with_init(params, &hidden, (width, width), Init::XavierUniform)?,
            score: None,
        })
    }

    /// Elements `[M, D]` → sequences `[B, D]`; zero for an empty one.
    ///
    /// # Panics
    /// If it was made by [`AttentionPool::asked`].
    pub fn forward(&self, pass: &Pass, x: &Ragged) -> Tensor {
        let Some(score) = &self.score else { panic!("attention that needs who asks") };
        weighed(&score.forward(pass, &self.hidden(pass, x)), x)
    }

    /// As [`AttentionPool::forward`] with who asks `[B, D]`.
    pub fn forward_for(&self, pass: &Pass, asks: &Tensor, x: &Ragged) -> Tensor {
        let sequence: Arc<Vec<u32>> =
            Arc::new((0..x.rows()).flat_map(|b| x.span(b).map(move |_| b as u32)).collect());
        weighed(&self.hidden(pass, x).mul(&asks.gather(&sequence)).sum_rows(), x)
    }

    fn hidden(&self, pass: &Pass, x: &Ragged) -> Tensor {
        self.hidden.forward(pass, x.values()).tanh()
    }
}

fn weighed(scores: &Tensor, x: &Ragged) -> Tensor {
    let each = Pairs::each(x);
    scores.softmax_spans(each.offsets()).pair_sum(x.values(), &each)
}
