//! DIN's activation unit.

use super::{Activate, Linear, Sequence};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::ops::Activation;
use crate::ops::din::PairWeights;
use crate::pairs::Pairs;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;
use std::ops::Range;

/// Pairs whose hidden layers are held at once in inference: 40 MB for 80 + 40 columns.
const INFER_PAIRS: usize = 1 << 16;

/// What becomes of the scores of a candidate's elements before they are summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairWeighting {
    /// Nothing: how much there is of what the candidate looks for is kept (Zhou et al. 2018, §4.3).
    #[default]
    Plain,
    /// Softmax.
    Softmax,
    /// α-entmax (Peters et al. 2019) with this α, above 1: some weights are exactly zero.
    Entmax(f32),
}

impl PairWeighting {
    /// `[P, 1]` → `[P, 1]`.
    pub(super) fn apply(self, scores: &Tensor, pairs: &Pairs) -> Tensor {
        match self {
            Self::Plain => scores.clone(),
            Self::Softmax => scores.softmax_spans(pairs.offsets()),
            Self::Entmax(alpha) => scores.entmax_spans(pairs.offsets(), alpha),
        }
    }

    /// Whether it is one; `name` is told in the error.
    ///
    /// # Errors
    /// An α that is not above 1.
    pub fn check(self, name: &str) -> Result<()> {
        match self {
            Self::Entmax(alpha) if alpha.is_nan() || alpha <= 1.0 || alpha.is_infinite() => {
                Err(Error::Model(format!("`{name}`: entmax of {alpha}, expected a number above 1")))
            }
            _ => Ok(()),
        }
    }
}

/// Sizes and options of an [`ActivationUnit`].
#[derive(Debug, Clone, PartialEq)]
pub struct UnitConfig {
    /// Widths of the hidden layers; at least one.
    pub hidden: Vec<usize>,
    /// After each hidden layer.
    pub activation: Activation,
    /// Of the scores.
    pub weighting: PairWeighting,
}

impl Default for UnitConfig {
    /// 80, 40, Dice, no softmax: the paper's.
    fn default() -> Self {
        Self { hidden: vec![80, 40], activation: Activation::Dice, weighting: PairWeighting::Plain }
    }
}

/// Interest of a candidate t in a history: Σ_e a_e v_e, a_e = MLP([h_e, t, h_e − t, h_e ⊙ t, c_e]) (Zhou et al. 2018, deep interest
/// network), h the elements' keys, c their context (gap and strength), v = [h, c].
///
/// Unlike the paper's, h − t stands beside h ⊙ t in place of the outer product, as in the authors' code. Dice takes its moments over all
/// pairs of a batch. The hidden layers are kept per pair, the four parts of its input never are.
#[derive(Debug, Clone)]
pub struct ActivationUnit {
    /// `[H, 4 K + C]`.
    weight: ParamId,
    bias: ParamId,
    /// K, C and H.
    sizes: (usize, usize, usize),
    activate: Activate,
    /// Whether the first activation is a plain cut at zero, which the first layer does itself.
    cut: bool,
    rest: Vec<(Linear, Activate)>,
    head: Linear,
    weighting: PairWeighting,
}

impl ActivationUnit {
    /// Weights `name.0.weight` `[H, 4 K + C]` (columns for h, t, h − t, h ⊙ t, c), `name.0.bias`, `name.1..`, and `name.head`, for keys of
    /// width `keys` and context of width `context`.
    ///
    /// # Errors
    /// No hidden layer, an α of entmax that is not above 1, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (keys, context): (usize, usize),
        config: &UnitConfig,
    ) -> Result<Self> {
        config.weighting.check(name)?;
        let Some((&first, others)) = config.hidden.split_first() else {
            return Err(Error::Model(format!("activation unit `{name}` needs a hidden layer")));
        };
        let inputs = 4 * keys + context;
        let weight = params.dense(&format!("{name}.0.weight"), &[first, inputs], Init::KaimingUniform)?;
        let bound = 1.0 / (inputs as f32).sqrt();
        let bias = params.dense(&format!("{name}.0.bias"), &[first], Init::Uniform(bound))?;
        let activate = Activate::new(params, &format!("{name}.0"), first, config.activation)?;
        let (mut rest, mut width) = (Vec::new(), first);
        for (i, &next) in others.iter().enumerate() {
            let name = format!("{name}.{}", i + 1);
            let linear = Linear::new(params, &name, width, next)?;
            rest.push((linear, Activate::new(params, &name, next, config.activation)?));
            width = next;
        }
        Ok(Self {
            weight,
            bias,
            sizes: (keys, context, first),
            activate,
            cut: config.activation == Activation::Relu,
            rest,
            head: Linear::new(params, &format!("{name}.head"), width, 1)?,
            weighting: config.weighting,
        })
    }

    /// Interests `[N, W]`; zero for an empty history.
    ///
    /// # Panics
    /// If the sequence has other widths.
    pub fn forward(&self, pass: &Pass, x: &Sequence) -> Tensor {
        let values = x.values();
        let n = x.pairs.candidates();
        if x.pairs.is_empty() {
            return pass.constant(&[n, values.width()], vec![0.0; n * values.width()]);
        }
        let first = self.first(pass, x);
        if pass.is_training() {
            return self.interests(pass, (&first, x.keys.values(), &x.target), &x.pairs, &values);
        }
        let part = |range: Range<usize>| {
            let target = x.target.slice_rows(range.start, range.len());
            let candidate = first.candidate.slice_rows(range.start, range.len());
            let first = First { candidate, ..first.clone() };
            self.interests(pass, (&first, x.keys.values(), &target), &x.pairs.part(range), &values)
        };
        let parts: Vec<Tensor> = x.pairs.stretches(INFER_PAIRS).into_iter().map(part).collect();
        match &parts[..] {
            [one] => one.clone(),
            many => Tensor::stack_rows(&many.iter().collect::<Vec<_>>()),
        }
    }

    /// The parts of the first layer that are linear in one of element and candidate.
    fn first(&self, pass: &Pass, x: &Sequence) -> First {
        let (k, c, _) = self.sizes;
        let (w, bias) = (pass.param(self.weight), pass.param(self.bias));
        let columns = |part: usize| w.slice(part * k, k);
        let apart = columns(2);
        First {
            own: columns(0).add(&apart),
            product: columns(3),
            candidate: x.target.linear(&columns(1).sub(&apart), Some(&bias)),
            element: x.context.as_ref().map(|context| context.linear(&w.slice(4 * k, c), None)),
        }
    }

    fn interests(
        &self,
        pass: &Pass,
        (first, keys, target): (&First, &Tensor, &Tensor),
        pairs: &Pairs,
        values: &Tensor,
    ) -> Tensor {
        let weights = PairWeights {
            own: &first.own,
            product: &first.product,
            candidate: &first.candidate,
            element: first.element.as_ref(),
        };
        let mut z = keys.pair_layer(target, &weights, pairs, self.cut); // [P, H]
        if !self.cut {
            z = self.activate.forward(pass, &z);
        }
        for (linear, activate) in &self.rest {
            z = match activate {
                Activate::Plain(Activation::Relu) => linear.forward_relu(pass, &z),
                activate => activate.forward(pass, &linear.forward(pass, &z)),
            };
        }
        let scores = self.head.forward(pass, &z); // [P, 1]
        self.weighting.apply(&scores, pairs).pair_sum(values, pairs) // [N, W]
    }
}

/// See [`PairWeights`].
#[derive(Clone)]
struct First {
    own: Tensor,
    product: Tensor,
    candidate: Tensor,
    element: Option<Tensor>,
}
