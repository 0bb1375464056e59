//! Attention of a candidate to a history by scaled dot products.

use super::{Linear, PairWeighting, Sequence};
use crate::error::Result;
use crate::init::Init;
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// Σ_e w_e v_e with scores ⟨Q t, K h_e⟩ / √A through softmax or α-entmax (Vaswani et al. 2017 with one query): t the candidate, h the keys
/// of its history's elements, v = [h, c].
#[derive(Debug, Clone)]
pub struct TargetAttention {
    query: Linear,
    key: Linear,
    width: usize,
    weighting: PairWeighting,
}

impl TargetAttention {
    /// Weights `name.query.weight`, `name.key.weight` `[width, keys]`, without bias, for keys of width `keys`.
    ///
    /// # Errors
    /// An α of entmax that is not above 1, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (keys, width): (usize, usize),
        weighting: PairWeighting,
    ) -> Result<Self> {
        weighting.check(name)?;
        let mut linear = |part: &str| {
            Linear::without_bias(params, &format!("{name}.{part}"), (keys, width), Init::XavierUniform)
        };
        Ok(Self { query: linear("query")?, key: linear("key")?, width, weighting })
    }

    /// Interests `[N, W]`; zero for an empty history.
    pub fn forward(&self, pass: &Pass, x: &Sequence) -> Tensor {
        let query = self.query.forward(pass, &x.target);
        let keys = self.key.forward(pass, x.keys.values());
        let scores = keys.pair_dot(&query, &x.pairs, 1.0 / (self.width as f32).sqrt());
        self.weighting.apply(&scores, &x.pairs).pair_sum(&x.values(), &x.pairs)
    }
}
