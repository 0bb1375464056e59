//! Follow the regularised leader, proximal.

use super::Moments;
use super::rule::{Ranges, Rule, sign, sweep2};

/// FTRL-Proximal (McMahan et al. 2013, algorithm 1), with lr for α:
/// σ = (√(n + g²) − √n) / lr; z ← z + g − σ w; n ← n + g²;
/// w ← 0 if |z| ≤ l1, else −(z − sign(z) l1) / ((beta + √n) / lr + l2).
///
/// z starts where the weight's first value is the solution, so that a weight that starts away from zero is not thrown
/// back to it: z₀ = −w₀ (beta / lr + l2) − sign(w₀) l1. A schedule's factor does not apply: z holds what was learned at
/// one rate, and each weight's own rate falls by itself.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ftrl {
    /// α: learning rate.
    pub lr: f32,
    /// β: keeps the first steps small.
    pub beta: f32,
    /// λ₁: makes weights exactly zero.
    pub l1: f32,
    /// λ₂: keeps weights small.
    pub l2: f32,
}

impl Default for Ftrl {
    fn default() -> Self {
        Self { lr: 0.1, beta: 1.0, l1: 0.0, l2: 0.0 }
    }
}

impl Rule for Ftrl {
    fn memory(&self) -> usize {
        2
    }

    fn start(&self, w: &[f32], z: &mut [f32], _: &mut [f32]) {
        let Self { lr, beta, l1, l2 } = *self;
        z.iter_mut().zip(w).for_each(|(z, w)| *z = -w * (beta / lr + l2) - sign(*w) * l1);
    }

    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, _: f32) {
        let Self { lr, beta, l1, l2 } = *self;
        sweep2(w, g, m, |w, g, z, n| {
            let (before, after) = (n.sqrt(), (*n + g * g).sqrt());
            *z += g - (after - before) / lr * *w;
            *n += g * g;
            let solved = -(*z - sign(*z) * l1) / ((beta + after) / lr + l2);
            *w = if z.abs() <= l1 { 0.0 } else { solved };
        });
    }

    fn ranges(&self) -> Ranges {
        Ranges {
            above_zero: vec![("lr", self.lr)],
            at_least_zero: vec![("beta", self.beta), ("l1", self.l1), ("l2", self.l2)],
            shares: vec![],
        }
    }
}
