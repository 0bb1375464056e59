//! DIEN's two recurrences.

use super::{Linear, Sequence};
use crate::error::Result;
use crate::init::Init;
use crate::pairs::Pairs;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Pairs that are recurred over at once in inference.
const INFER_PAIRS: usize = 1 << 16;

/// A GRU over each history gives states s_e; a second one over the states, whose update gate is scaled by
/// a_ne = softmax_e ⟨s_e, Q t_n⟩, gives each candidate its interest, the last state (Zhou et al. 2019, deep interest evolution network,
/// §4.3 and 4.4).
#[derive(Debug, Clone)]
pub struct Augru {
    first: Recurrence,
    second: Recurrence,
    query: Linear,
    width: usize,
}

#[derive(Debug, Clone)]
struct Recurrence {
    input: Linear,
    state: ParamId,
}

impl Recurrence {
    fn new(params: &mut Params, name: &str, (inputs, width): (usize, usize)) -> Result<Self> {
        let bound = 1.0 / (width as f32).sqrt();
        let state =
            params.dense(&format!("{name}.state.weight"), &[3 * width, width], Init::Uniform(bound))?;
        Ok(Self { input: Linear::new(params, &format!("{name}.input"), inputs, 3 * width)?, state })
    }
}

impl Augru {
    /// Weights `name.first.…`, `name.second.…`, `name.query.weight`, for keys of width K and elements of width W; states are as wide as
    /// elements.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, (keys, width): (usize, usize)) -> Result<Self> {
        Ok(Self {
            first: Recurrence::new(params, &format!("{name}.first"), (width, width))?,
            second: Recurrence::new(params, &format!("{name}.second"), (width, width))?,
            query: Linear::without_bias(
                params,
                &format!("{name}.query"),
                (keys, width),
                Init::XavierUniform,
            )?,
            width,
        })
    }

    /// States `[M, W]` after each element, whatever the candidates.
    pub fn states(&self, pass: &Pass, x: &Sequence) -> Tensor {
        if x.keys.elements() == 0 {
            return pass.constant(&[0, self.width], Vec::new());
        }
        let inputs = self.first.input.forward(pass, &x.values());
        inputs.recur(&pass.param(self.first.state), None, &Pairs::each(&x.keys))
    }

    /// Interests `[N, W]` from the states; zero for an empty history.
    pub fn forward(&self, pass: &Pass, x: &Sequence, states: &Tensor) -> Tensor {
        let (n, width) = (x.pairs.candidates(), self.width);
        if x.pairs.is_empty() {
            return pass.constant(&[n, width], vec![0.0; n * width]);
        }
        let query = self.query.forward(pass, &x.target); // [N, W]
        let gates = self.second.input.forward(pass, states); // [M, 3 W]
        if pass.is_training() {
            return self.evolve(pass, (states, &gates, &query), &x.pairs);
        }
        let part = |range: std::ops::Range<usize>| {
            let query = query.slice_rows(range.start, range.len());
            self.evolve(pass, (states, &gates, &query), &x.pairs.part(range))
        };
        let parts: Vec<Tensor> = x.pairs.stretches(INFER_PAIRS).into_iter().map(part).collect();
        Tensor::stack_rows(&parts.iter().collect::<Vec<_>>())
    }

    fn evolve(
        &self,
        pass: &Pass,
        (states, gates, query): (&Tensor, &Tensor, &Tensor),
        pairs: &Pairs,
    ) -> Tensor {
        let n = pairs.candidates();
        let attention = states.pair_dot(query, pairs, 1.0).softmax_spans(pairs.offsets()); // [P, 1]
        let elements: Vec<u32> = (0..n).flat_map(|n| pairs.elements_of(n)).map(|e| e as u32).collect();
        let own = gates.gather(&Arc::new(elements)); // [P, 3 W]
        let offsets = Arc::new(pairs.offsets().iter().map(|o| *o as u32).collect());
        let each = Pairs::each(&Ragged::of(offsets, own.clone()));
        let evolved = own.recur(&pass.param(self.second.state), Some(&attention), &each); // [P, W]
        let mut last = vec![0.0; pairs.len()];
        (0..n).map(|n| pairs.pairs_of(n)).filter(|p| !p.is_empty()).for_each(|p| last[p.end - 1] = 1.0);
        pass.constant(&[last.len(), 1], last).pair_sum(&evolved, &each) // [N, W]
    }
}
