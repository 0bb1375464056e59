//! A candidate's query that depends on the scene.

use super::Linear;
use crate::error::Result;
use crate::init::Init;
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// t' = 2σ(G s) ⊙ t + U s: what the candidate t looks for in a history, bent by the scene s (the page, the entrance, the hour).
///
/// The gate weighs what of the candidate matters in the scene, the shift adds what is looked for there whatever the candidate. G and U
/// start at zero, so that a block starts as it is without scenes. The gate is that of learned hidden units (see [`crate::Lhuc`]).
#[derive(Debug, Clone)]
pub struct SceneQuery {
    gate: Linear,
    shift: Linear,
}

impl SceneQuery {
    /// Weights `name.gate.weight`, `name.shift.weight`, `[K, S]` both, without bias; `sizes` are (S, K).
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, sizes: (usize, usize)) -> Result<Self> {
        let mut linear =
            |part: &str| Linear::without_bias(params, &format!("{name}.{part}"), sizes, Init::Zeros);
        Ok(Self { gate: linear("gate")?, shift: linear("shift")? })
    }

    /// Candidates `[N, K]` and scenes `[N, S]` → `[N, K]`.
    pub fn forward(&self, pass: &Pass, target: &Tensor, scene: &Tensor) -> Tensor {
        let gate = self.gate.forward(pass, scene).sigmoid().scale(2.0);
        target.mul(&gate).add(&self.shift.forward(pass, scene))
    }
}
