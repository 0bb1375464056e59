//! Gradient descent.

use super::Moments;
use super::rule::{Penalty, Ranges, Rule, sweep, sweep1};

/// v ← momentum · v + g; w ← w − lr · v, or w ← w − lr · (g + momentum · v) after Nesterov (as PyTorch, without
/// dampening; Sutskever et al. 2013).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// In [0, 1); 0 for plain gradient descent, which remembers nothing.
    pub momentum: f32,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// Adds l1 · sign(w) to the gradient.
    pub l1: f32,
    /// Adds l2 · w to the gradient.
    pub l2: f32,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: 0.0, nesterov: false, l1: 0.0, l2: 0.0 }
    }
}

impl Rule for Sgd {
    fn memory(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }

    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, factor: f32) {
        let Self { lr, momentum, nesterov, l1, l2 } = *self;
        let (lr, penalty) = (lr * factor, Penalty { l1, l2 });
        if momentum == 0.0 {
            return sweep(w, g, |w, g| *w -= lr * penalty.add(g, *w));
        }
        let (own, ahead) = if nesterov { (1.0, momentum) } else { (0.0, 1.0) };
        sweep1(w, g, m, |w, g, v| {
            let g = penalty.add(g, *w);
            *v = momentum * *v + g;
            *w -= lr * (own * g + ahead * *v);
        });
    }

    fn ranges(&self) -> Ranges {
        Ranges {
            above_zero: vec![("lr", self.lr)],
            at_least_zero: vec![("l1", self.l1), ("l2", self.l2)],
            shares: vec![("momentum", self.momentum)],
        }
    }
}
