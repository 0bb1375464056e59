//! AdaGrad.

use super::Moments;
use super::rule::{Penalty, Ranges, Rule, sweep1};

/// s ← s + g²; w ← w − lr · g / (√s + eps) (Duchi et al. 2011).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaGrad {
    /// Learning rate.
    pub lr: f32,
    /// Added to the root.
    pub eps: f32,
    /// First value of s.
    pub initial_accumulator: f32,
    /// Adds l1 · sign(w) to the gradient.
    pub l1: f32,
    /// Adds l2 · w to the gradient.
    pub l2: f32,
}

impl Default for AdaGrad {
    fn default() -> Self {
        Self { lr: 1e-2, eps: 1e-10, initial_accumulator: 0.0, l1: 0.0, l2: 0.0 }
    }
}

impl Rule for AdaGrad {
    fn memory(&self) -> usize {
        1
    }

    fn start(&self, _: &[f32], first: &mut [f32], _: &mut [f32]) {
        first.fill(self.initial_accumulator);
    }

    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, factor: f32) {
        let Self { lr, eps, l1, l2, .. } = *self;
        let (lr, penalty) = (lr * factor, Penalty { l1, l2 });
        sweep1(w, g, m, |w, g, s| {
            let g = penalty.add(g, *w);
            *s += g * g;
            *w -= lr * g / (s.sqrt() + eps);
        });
    }

    fn ranges(&self) -> Ranges {
        let start = ("initial_accumulator", self.initial_accumulator);
        Ranges {
            above_zero: vec![("lr", self.lr)],
            at_least_zero: vec![("eps", self.eps), start, ("l1", self.l1), ("l2", self.l2)],
            shares: vec![],
        }
    }
}
