//! Histories pooled without regard to the candidate.

use super::Sequence;
use crate::error::{Error, Result};
use crate::pairs::Pairs;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// How the elements of a history become one vector; an empty history becomes zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeqPool {
    /// Σ_e v_e.
    Sum,
    /// Σ_e v_e / L.
    #[default]
    Mean,
    /// Σ_e w_e v_e / Σ_e w_e with w = 2^−b/2, b the log₂ bucket of the seconds since the action: four times longer ago counts half.
    Gap,
    /// Σ_e s_e v_e / Σ_e s_e, s the strengths, those below 0 taken as 0 (zero if none is positive); all 1 in a sequence without.
    Strength,
    /// The newest element.
    Last,
    /// The greatest of each column.
    Max,
}

impl SeqPool {
    /// Whether the sequence has what this needs; `name` is the sequence's, `gap` whether it has gaps.
    ///
    /// # Errors
    /// No gaps where they are the weights.
    pub fn check(self, name: &str, gap: bool) -> Result<()> {
        if self == Self::Gap && !gap {
            return Err(Error::Model(format!("pooling by gap needs `gap = true` of the sequence `{name}`")));
        }
        Ok(())
    }

    /// `[R, W]`.
    ///
    /// # Panics
    /// If the sequence lacks what [`SeqPool::check`] asks for.
    pub fn forward(self, pass: &Pass, x: &Sequence) -> Tensor {
        let (values, each) = (x.values(), Pairs::each(&x.keys));
        let mut weights = vec![1.0; x.keys.elements()];
        let spans = (0..x.keys.rows()).map(|r| x.keys.span(r));
        match self {
            Self::Max => return values.pair_max(&each),
            Self::Sum | Self::Mean => {}
            Self::Last => spans.clone().for_each(|span| {
                let end = span.end;
                weights[span.start..end.saturating_sub(1).max(span.start)].fill(0.0);
            }),
            Self::Gap => match &x.gap {
                Some(gap) => {
                    weights.iter_mut().zip(&**gap).for_each(|(w, b)| *w = (-0.5 * f32::from(*b)).exp2())
                }
                None => panic!("pooling by gaps of a sequence without them"),
            },
            Self::Strength => x.strength.iter().for_each(|strength| {
                weights.iter_mut().zip(&**strength).for_each(|(w, s)| *w = s.max(0.0));
            }),
        }
        if matches!(self, Self::Mean | Self::Gap | Self::Strength) {
            for span in spans {
                let sum: f32 = weights[span.clone()].iter().sum();
                let scale = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                weights[span].iter_mut().for_each(|w| *w *= scale);
            }
        }
        pass.constant(&[weights.len(), 1], weights).pair_sum(&values, &each)
    }
}
