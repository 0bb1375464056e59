mod update;

use serde::{Deserialize, Serialize};
pub(crate) use update::Update;

/// How gradients change rows. Only rows whose key is pushed are touched; `g` below is the summed
/// gradient of one row plus the table's `l2 · w`, `lr` the learning rate times the store's current scale.
/// In memory a row is its D weights, then its state in the order given with each rule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RowOptim {
    /// Row-wise AdaGrad: `a += mean(g²)`, `w -= lr · g / (√a + eps)`
    /// (Duchi et al. 2011; the row-wise form of Gupta et al. 2014, as in FBGEMM). State: `a`, one float.
    AdaGradRowWise {
        /// Learning rate, above 0.
        lr: f32,
        /// Added to the root, above 0.
        eps: f32,
        /// The accumulator of a new row, at least 0.
        initial_accumulator: f32,
    },
    /// Lazy Adam (Kingma and Ba 2015) as torch's `SparseAdam` has it:
    /// `m += (1 - beta1)(g - m)`, `v += (1 - beta2)(g² - v)`,
    /// `w -= lr · √(1 - beta2ᵗ) / (1 - beta1ᵗ) · m / (√v + eps)`.
    /// Moments decay only when their row is touched; `t` counts the pushes to the table, not to the row.
    /// State: `m[D]`, `v[D]`.
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
    /// Descent with momentum as torch's `SGD` has it: `b = momentum · b + g`, then `w -= lr · b`, or
    /// `w -= lr · (g + momentum · b)` with Nesterov's look ahead. State: `b[D]`.
    Momentum {
        /// Learning rate, above 0.
        lr: f32,
        /// Decay of the direction, in [0, 1).
        momentum: f32,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// Element-wise AdaGrad (Duchi et al. 2011): `a += g²`, `w -= lr · g / (√a + eps)`. State: `a[D]`.
    AdaGrad {
        /// Learning rate, above 0.
        lr: f32,
        /// Added to the root, above 0.
        eps: f32,
        /// The accumulators of a new row, at least 0.
        initial_accumulator: f32,
    },
    /// Lazy AdamW (Loshchilov and Hutter 2019): as torch's `AdamW` on the rows that a push touches.
    /// `w -= lr · decay · w`, moments as [`RowOptim::LazyAdam`],
    /// `w -= lr / (1 - beta1ᵗ) · m / (√(v / (1 - beta2ᵗ)) + eps)`. State: `m[D]`, `v[D]`.
    LazyAdamW {
        /// Learning rate, above 0.
        lr: f32,
        /// Decay of the first moment, in [0, 1).
        beta1: f32,
        /// Decay of the second moment, in [0, 1).
        beta2: f32,
        /// Added to the root, above 0.
        eps: f32,
        /// Weight decay apart from the gradient, at least 0.
        decay: f32,
    },
    /// RMSProp (Hinton 2012) as torch has it: `v = alpha · v + (1 - alpha) · g²`,
    /// `w -= lr · g / (√v + eps)`. State: `v[D]`.
    RmsProp {
        /// Learning rate, above 0.
        lr: f32,
        /// Decay of the mean square, in [0, 1).
        alpha: f32,
        /// Added to the root, above 0.
        eps: f32,
    },
    /// FTRL-Proximal (McMahan et al., KDD 2013) for each coordinate:
    /// `z += g - (√(n + g²) - √n) / alpha · w`, `n += g²`,
    /// `w = 0` where `|z| <= l1`, else `-(z - sign(z) · l1) / ((beta + √n) / alpha + l2)`.
    /// The store's scale multiplies `alpha`; at scale 0 nothing changes. A new row's `z` is chosen so that
    /// `w` is the initial weight. State: `z[D]`, `n[D]`.
    Ftrl {
        /// Learning rate, above 0.
        alpha: f32,
        /// Slows the first steps, at least 0.
        beta: f32,
        /// Pulls weights to exactly zero, at least 0.
        l1: f32,
        /// Pulls weights towards zero, at least 0; unlike the table's `l2` no part of the gradient.
        l2: f32,
    },
}

impl RowOptim {
    /// Floats of state behind `dim` weights.
    pub fn state_len(self, dim: usize) -> usize {
        match self {
            Self::AdaGradRowWise { .. } => 1,
            Self::LazyAdam { .. } | Self::LazyAdamW { .. } | Self::Ftrl { .. } => 2 * dim,
            Self::Momentum { .. } | Self::AdaGrad { .. } | Self::RmsProp { .. } => dim,
            Self::Sgd { .. } => 0,
        }
    }

    /// The state of a new row with these weights; `state` is zeroed.
    pub(crate) fn init_state(self, weights: &[f32], state: &mut [f32]) {
        match self {
            Self::AdaGradRowWise { initial_accumulator, .. } | Self::AdaGrad { initial_accumulator, .. } => {
                state.fill(initial_accumulator);
            }
            Self::Ftrl { alpha, beta, l1, l2 } => {
                let start = |w: f32| if w == 0.0 { 0.0 } else { -(w * (beta / alpha + l2) + l1.copysign(w)) };
                state.iter_mut().zip(weights).for_each(|(z, w)| *z = start(*w));
            }
            _ => {}
        }
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn flaw(self) -> Option<String> {
        match self {
            Self::AdaGradRowWise { lr, eps, initial_accumulator: a }
            | Self::AdaGrad { lr, eps, initial_accumulator: a } => above_zero("lr", lr)
                .or_else(|| above_zero("eps", eps))
                .or_else(|| at_least_zero("initial_accumulator", a)),
            Self::LazyAdam { lr, beta1, beta2, eps } => adam_flaw(lr, beta1, beta2, eps),
            Self::LazyAdamW { lr, beta1, beta2, eps, decay } => {
                adam_flaw(lr, beta1, beta2, eps).or_else(|| at_least_zero("decay", decay))
            }
            Self::Sgd { lr } => above_zero("lr", lr),
            Self::Momentum { lr, momentum, .. } => {
                above_zero("lr", lr).or_else(|| below_one("momentum", momentum))
            }
            Self::RmsProp { lr, alpha, eps } => {
                above_zero("lr", lr).or_else(|| below_one("alpha", alpha)).or_else(|| above_zero("eps", eps))
            }
            Self::Ftrl { alpha, beta, l1, l2 } => above_zero("alpha", alpha)
                .or_else(|| at_least_zero("beta", beta))
                .or_else(|| at_least_zero("l1", l1))
                .or_else(|| at_least_zero("l2", l2)),
        }
    }

    /// The update rule of one step: `step` counts from 1, `scale` multiplies the learning rate.
    pub(crate) fn at_step(self, step: u64, scale: f32) -> Update {
        let corrections = |beta1: f32, beta2: f32| {
            let power = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
            (power(beta1), power(beta2).sqrt())
        };
        match self {
            Self::AdaGradRowWise { lr, eps, .. } => Update::AdaGradRowWise { lr: lr * scale, eps },
            Self::LazyAdam { lr, beta1, beta2, eps } => {
                let (first, second) = corrections(beta1, beta2);
                let lr = (f64::from(lr * scale) * second / first) as f32;
                Update::Adam { lr, gain1: 1.0 - beta1, gain2: 1.0 - beta2, eps, keep: 1.0 }
            }
            Self::LazyAdamW { lr, beta1, beta2, eps, decay } => {
                let (first, second) = corrections(beta1, beta2);
                let keep = 1.0 - lr * scale * decay;
                let lr = (f64::from(lr * scale) * second / first) as f32;
                let eps = (f64::from(eps) * second) as f32;
                Update::Adam { lr, gain1: 1.0 - beta1, gain2: 1.0 - beta2, eps, keep }
            }
            Self::Sgd { lr } => Update::Sgd { lr: lr * scale },
            Self::Momentum { lr, momentum, nesterov } => {
                Update::Momentum { lr: lr * scale, momentum, nesterov }
            }
            Self::AdaGrad { lr, eps, .. } => Update::AdaGrad { lr: lr * scale, eps },
            Self::RmsProp { lr, alpha, eps } => Update::RmsProp { lr: lr * scale, gain: 1.0 - alpha, eps },
            Self::Ftrl { alpha, beta, l1, l2 } => Update::Ftrl { alpha: alpha * scale, beta, l1, l2 },
        }
    }
}

fn adam_flaw(lr: f32, beta1: f32, beta2: f32, eps: f32) -> Option<String> {
    above_zero("lr", lr)
        .or_else(|| above_zero("eps", eps))
        .or_else(|| below_one("beta1", beta1))
        .or_else(|| below_one("beta2", beta2))
}

fn above_zero(name: &str, x: f32) -> Option<String> {
    (!(x > 0.0 && x.is_finite())).then(|| format!("{name} is {x}, expected above 0"))
}

fn at_least_zero(name: &str, x: f32) -> Option<String> {
    (!(x >= 0.0 && x.is_finite())).then(|| format!("{name} is {x}, expected at least 0"))
}

fn below_one(name: &str, x: f32) -> Option<String> {
    (!(0.0..1.0).contains(&x)).then(|| format!("{name} is {x}, expected in [0, 1)"))
}
