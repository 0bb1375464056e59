//! RMSProp.

use super::Moments;
use super::rule::{Penalty, Ranges, Rule, sweep1, sweep2};

/// s ← alpha · s + (1 − alpha) g²; w ← w − lr · g / (√s + eps) (Tieleman & Hinton 2012, lecture 6.5); with momentum
/// v ← momentum · v + g / (√s + eps); w ← w − lr · v.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean of squares, in [0, 1).
    pub alpha: f32,
    /// Added to the root.
    pub eps: f32,
    /// In [0, 1).
    pub momentum: f32,
    /// Adds l1 · sign(w) to the gradient.
    pub l1: f32,
    /// Adds l2 · w to the gradient.
    pub l2: f32,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { lr: 1e-2, alpha: 0.99, eps: 1e-8, momentum: 0.0, l1: 0.0, l2: 0.0 }
    }
}

impl Rule for RmsProp {
    fn memory(&self) -> usize {
        1 + usize::from(self.momentum != 0.0)
    }

    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, factor: f32) {
        let Self { lr, alpha, eps, momentum, l1, l2 } = *self;
        let (lr, penalty) = (lr * factor, Penalty { l1, l2 });
        let scaled = |g: f32, s: &mut f32| {
            *s = alpha * *s + (1.0 - alpha) * g * g;
            g / (s.sqrt() + eps)
        };
        if momentum == 0.0 {
            return sweep1(w, g, m, |w, g, s| *w -= lr * scaled(penalty.add(g, *w), s));
        }
        sweep2(w, g, m, |w, g, s, v| {
            *v = momentum * *v + scaled(penalty.add(g, *w), s);
            *w -= lr * *v;
        });
    }

    fn ranges(&self) -> Ranges {
        Ranges {
            above_zero: vec![("lr", self.lr)],
            at_least_zero: vec![("eps", self.eps), ("l1", self.l1), ("l2", self.l2)],
            shares: vec![("alpha", self.alpha), ("momentum", self.momentum)],
        }
    }
}
