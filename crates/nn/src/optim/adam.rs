//! Adam and its kin.

use super::Moments;
use super::rule::{Penalty, Ranges, Rule, sweep2};

/// m ← beta1 · m + (1 − beta1) g; v ← beta2 · v + (1 − beta2) g²; w ← w − lr · m̂ / (√v̂ + eps), where m̂ and v̂ are
/// freed of their start at zero (Kingma & Ba 2015).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean of gradients, in [0, 1).
    pub beta1: f32,
    /// Decay of the mean of squares, in [0, 1).
    pub beta2: f32,
    /// Added to the root.
    pub eps: f32,
    /// Adds l1 · sign(w) to the gradient.
    pub l1: f32,
    /// Adds l2 · w to the gradient.
    pub l2: f32,
}

/// Adam with decoupled decay: w ← w − lr · decay · w besides (Loshchilov & Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean of gradients, in [0, 1).
    pub beta1: f32,
    /// Decay of the mean of squares, in [0, 1).
    pub beta2: f32,
    /// Added to the root.
    pub eps: f32,
    /// Decay of weights, times the learning rate: the L2 of this rule.
    pub decay: f32,
    /// Adds l1 · sign(w) to the gradient.
    pub l1: f32,
}

/// Rectified Adam: plain momentum until the mean of squares rests on enough steps, then Adam times
/// r = √((ρ_t − 4)(ρ_t − 2) ρ_∞ / ((ρ_∞ − 4)(ρ_∞ − 2) ρ_t)), where ρ_∞ = 2 / (1 − beta2) − 1 and
/// ρ_t = ρ_∞ − 2 t beta2ᵗ / (1 − beta2ᵗ); from ρ_t > 5 on, as PyTorch (Liu et al. 2020).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RAdam {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean of gradients, in [0, 1).
    pub beta1: f32,
    /// Decay of the mean of squares, in [0, 1).
    pub beta2: f32,
    /// Added to the root.
    pub eps: f32,
    /// Adds l1 · sign(w) to the gradient.
    pub l1: f32,
    /// Adds l2 · w to the gradient.
    pub l2: f32,
}

impl Default for Adam {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, l1: 0.0, l2: 0.0 }
    }
}

impl Default for AdamW {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01, l1: 0.0 }
    }
}

impl Default for RAdam {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, l1: 0.0, l2: 0.0 }
    }
}

impl Rule for Adam {
    fn memory(&self) -> usize {
        2
    }

    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, factor: f32) {
        let Self { lr, beta1, beta2, eps, l1, l2 } = *self;
        let sums = Sums { beta1, beta2, penalty: Penalty { l1, l2 } };
        let step = Step { kept: 1.0, ..Step::adam((lr * factor, eps), &sums, m.steps) };
        sums.sweep(w, g, m, step);
    }

    fn ranges(&self) -> Ranges {
        ranges([self.lr, self.eps, self.l1, self.l2], "l2", [self.beta1, self.beta2])
    }
}

impl Rule for AdamW {
    fn memory(&self) -> usize {
        2
    }

    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, factor: f32) {
        let Self { lr, beta1, beta2, eps, decay, l1 } = *self;
        let lr = lr * factor;
        let sums = Sums { beta1, beta2, penalty: Penalty { l1, l2: 0.0 } };
        let step = Step { kept: 1.0 - lr * decay, ..Step::adam((lr, eps), &sums, m.steps) };
        sums.sweep(w, g, m, step);
    }

    fn ranges(&self) -> Ranges {
        ranges([self.lr, self.eps, self.l1, self.decay], "decay", [self.beta1, self.beta2])
    }
}

impl Rule for RAdam {
    fn memory(&self) -> usize {
        2
    }

    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, factor: f32) {
        let Self { lr, beta1, beta2, eps, l1, l2 } = *self;
        let sums = Sums { beta1, beta2, penalty: Penalty { l1, l2 } };
        let step = match rectification(beta2, m.steps) {
            // m̂ r √(1 − beta2ᵗ) / (√v + eps): here eps is added before the root is freed of its start.
            Some(r) => {
                let unbiased = (1.0 - f64::from(beta2).powf(m.steps as f64)).sqrt();
                let full = Step::adam((lr * factor, eps), &sums, m.steps);
                Step { size: (f64::from(full.size) * r * unbiased) as f32, root: 1.0, ..full }
            }
            None => Step { root: 0.0, eps: 1.0, ..Step::adam((lr * factor, eps), &sums, m.steps) },
        };
        sums.sweep(w, g, m, step);
    }

    fn ranges(&self) -> Ranges {
        ranges([self.lr, self.eps, self.l1, self.l2], "l2", [self.beta1, self.beta2])
    }
}

/// r of [`RAdam`], once the mean of squares rests on enough steps.
fn rectification(beta2: f32, steps: u64) -> Option<f64> {
    let (beta2, t) = (f64::from(beta2), steps as f64);
    let most = 2.0 / (1.0 - beta2) - 1.0;
    let decayed = beta2.powf(t);
    let now = most - 2.0 * t * decayed / (1.0 - decayed);
    let ratio = (now - 4.0) * (now - 2.0) * most / ((most - 4.0) * (most - 2.0) * now);
    (now > 5.0).then(|| ratio.sqrt())
}

fn ranges([lr, eps, l1, l2]: [f32; 4], l2_name: &'static str, [beta1, beta2]: [f32; 2]) -> Ranges {
    Ranges {
        above_zero: vec![("lr", lr)],
        at_least_zero: vec![("eps", eps), ("l1", l1), (l2_name, l2)],
        shares: vec![("beta1", beta1), ("beta2", beta2)],
    }
}

/// How the two running means move.
struct Sums {
    beta1: f32,
    beta2: f32,
    penalty: Penalty,
}

/// w ← kept · w − size · m / (√v · root + eps).
struct Step {
    kept: f32,
    size: f32,
    root: f32,
    eps: f32,
}

impl Step {
    /// m̂ / (√v̂ + eps), with the bias corrections folded into the step size and the root, as PyTorch does.
    fn adam((lr, eps): (f32, f32), sums: &Sums, steps: u64) -> Self {
        let power = |beta: f32| 1.0 - f64::from(beta).powf(steps as f64);
        let size = (f64::from(lr) / power(sums.beta1)) as f32;
        Self { kept: 1.0, size, root: (1.0 / power(sums.beta2).sqrt()) as f32, eps }
    }
}

impl Sums {
    fn sweep(&self, w: &mut [f32], g: &[f32], m: &mut Moments, step: Step) {
        let &Self { beta1, beta2, penalty } = self;
        let Step { kept, size, root, eps } = step;
        sweep2(w, g, m, |w, g, m, v| {
            let g = penalty.add(g, *w);
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w = kept * *w - size * *m / (v.sqrt() * root + eps);
        });
    }
}
