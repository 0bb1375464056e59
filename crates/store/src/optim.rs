use serde::{Deserialize, Serialize};

/// How gradients change rows. Only rows whose key is pushed are touched; `g` below is the summed
/// gradient of one row plus `l2 · w`, `lr` the learning rate times the store's current scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RowOptim {
    /// Row-wise AdaGrad, one float of state per row: `a += mean(g²)`, `w -= lr · g / (√a + eps)`
    /// (Duchi et al. 2011; the row-wise form of Gupta et al. 2014, as in FBGEMM).
    AdaGradRowWise {
        /// Learning rate, above 0.
        lr: f32,
        /// Added to the root, above 0.
        eps: f32,
        /// The accumulator of a new row, at least 0.
        initial_accumulator: f32,
    },
    /// Lazy Adam (Kingma and Ba 2015) as torch's `SparseAdam` has it, 2·D floats of state per row:
    /// `m += (1 - beta1)(g - m)`, `v += (1 - beta2)(g² - v)`,
    /// `w -= lr · √(1 - beta2ᵗ) / (1 - beta1ᵗ) · m / (√v + eps)`.
    /// Moments decay only when their row is touched; `t` counts the pushes to the table, not to the row.
    LazyAdam {
        /// Learning rate, above 0.
        lr: f32,
        /// Decay of the first moment, in [0, 1).
        beta1: f32,
        /// Decay of the second moment, in [0, 1).
        beta2: f32,
        /// Added to the root, above 0.
        eps: f32,
    },
    /// Plain descent without state: `w -= lr · g`.
    Sgd {
        /// Learning rate, above 0.
        lr: f32,
    },
}

impl RowOptim {
    /// Floats of state behind `dim` weights.
    pub(crate) fn state_len(self, dim: usize) -> usize {
        match self {
            Self::AdaGradRowWise { .. } => 1,
            Self::LazyAdam { .. } => 2 * dim,
            Self::Sgd { .. } => 0,
        }
    }

    /// The state of a new row; `state` is zeroed.
    pub(crate) fn init_state(self, state: &mut [f32]) {
        if let Self::AdaGradRowWise { initial_accumulator, .. } = self {
            state.fill(initial_accumulator);
        }
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn flaw(self) -> Option<String> {
        let (lr, eps) = match self {
            Self::AdaGradRowWise { lr, eps, .. } | Self::LazyAdam { lr, eps, .. } => (lr, eps),
            Self::Sgd { lr } => (lr, 1.0),
        };
        let above_zero = |name: &str, x: f32| {
            (!(x > 0.0 && x.is_finite())).then(|| format!("{name} is {x}, expected above 0"))
        };
        let rest = match self {
            Self::AdaGradRowWise { initial_accumulator: a, .. } => (!(a >= 0.0 && a.is_finite()))
                .then(|| format!("initial_accumulator is {a}, expected at least 0")),
            Self::LazyAdam { beta1, beta2, .. } => [("beta1", beta1), ("beta2", beta2)]
                .into_iter()
                .find(|(_, beta)| !(0.0..1.0).contains(beta))
                .map(|(name, beta)| format!("{name} is {beta}, expected in [0, 1)")),
            Self::Sgd { .. } => None,
        };
        above_zero("lr", lr).or_else(|| above_zero("eps", eps)).or(rest)
    }

    /// The update rule of one step: `step` counts from 1, `scale` multiplies the learning rate.
    pub(crate) fn at_step(self, step: u64, scale: f32) -> Update {
        match self {
            Self::AdaGradRowWise { lr, eps, .. } => Update::AdaGrad { lr: lr * scale, eps },
            Self::LazyAdam { lr, beta1, beta2, eps } => {
                let power = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
                let lr = f64::from(lr * scale) * power(beta2).sqrt() / power(beta1);
                Update::Adam { lr: lr as f32, gain1: 1.0 - beta1, gain2: 1.0 - beta2, eps }
            }
            Self::Sgd { lr } => Update::Sgd { lr: lr * scale },
        }
    }
}

/// [`RowOptim`] with the schedule and the bias corrections of one step worked in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Update {
    AdaGrad { lr: f32, eps: f32 },
    Adam { lr: f32, gain1: f32, gain2: f32, eps: f32 },
    Sgd { lr: f32 },
}

impl Update {
    /// Changes one row (weights, then state) by the gradient of its weights.
    #[inline]
    pub(crate) fn apply(self, row: &mut [f32], grad: &[f32], l2: f32) {
        let (weights, state) = row.split_at_mut(grad.len());
        match self {
            Self::Sgd { lr } => descend(weights, grad, l2, lr),
            Self::AdaGrad { lr, eps } => {
                let squares = sum_of_squares(weights, grad, l2);
                state[0] += squares / grad.len() as f32;
                descend(weights, grad, l2, lr / (state[0].sqrt() + eps));
            }
            Self::Adam { lr, gain1, gain2, eps } => {
                let (m, v) = state.split_at_mut(grad.len());
                for (((w, g), m), v) in weights.iter_mut().zip(grad).zip(m).zip(v) {
                    let g = g + l2 * *w;
                    *m += gain1 * (g - *m);
                    *v += gain2 * (g * g - *v);
                    *w -= lr * *m / (v.sqrt() + eps);
                }
            }
        }
    }
}

#[inline]
fn descend(weights: &mut [f32], grad: &[f32], l2: f32, rate: f32) {
    for (w, g) in weights.iter_mut().zip(grad) {
        *w -= rate * (g + l2 * *w);
    }
}

/// Eight running sums, so that the additions do not wait for one another.
#[inline]
fn sum_of_squares(weights: &[f32], grad: &[f32], l2: f32) -> f32 {
    let square = |w: f32, g: f32| (g + l2 * w) * (g + l2 * w);
    let (weights, weights_end) = weights.as_chunks::<8>();
    let (grad, grad_end) = grad.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for (w, g) in weights.iter().zip(grad) {
        (0..8).for_each(|at| sums[at] += square(w[at], g[at]));
    }
    let end: f32 = weights_end.iter().zip(grad_end).map(|(&w, &g)| square(w, g)).sum();
    sums.iter().sum::<f32>() + end
}
