/// [`RowOptim`](super::RowOptim) with the schedule and the bias corrections of one step worked in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Update {
    AdaGradRowWise { lr: f32, eps: f32 },
    Adam { lr: f32, gain1: f32, gain2: f32, eps: f32, keep: f32 },
    Sgd { lr: f32 },
    Momentum { lr: f32, momentum: f32, nesterov: bool },
    AdaGrad { lr: f32, eps: f32 },
    RmsProp { lr: f32, gain: f32, eps: f32 },
    Ftrl { alpha: f32, beta: f32, l1: f32, l2: f32 },
}

impl Update {
    /// Changes `weights` `[D]` and `state` of one row by the gradient `[D]` of its weights.
    #[inline]
    pub(crate) fn apply(self, weights: &mut [f32], state: &mut [f32], grad: &[f32], l2: f32) {
        match self {
            Self::Sgd { lr } => descend(weights, grad, l2, lr),
            Self::AdaGradRowWise { lr, eps } => {
                let squares = sum_of_squares(weights, grad, l2);
                state[0] += squares / grad.len() as f32;
                descend(weights, grad, l2, lr / (state[0].sqrt() + eps));
            }
            Self::Adam { lr, gain1, gain2, eps, keep } => {
                each_two(weights, state, grad, |w, m, v, g| {
                    let g = g + l2 * *w;
                    *m += gain1 * (g - *m);
                    *v += gain2 * (g * g - *v);
                    *w = keep * *w - lr * *m / (v.sqrt() + eps);
                });
            }
            Self::Momentum { lr, momentum, nesterov } => {
                let ahead = if nesterov { momentum } else { 1.0 };
                let fresh = if nesterov { 1.0 } else { 0.0 };
                each(weights, state, grad, |w, b, g| {
                    let g = g + l2 * *w;
                    *b = momentum * *b + g;
                    *w -= lr * (fresh * g + ahead * *b);
                });
            }
            Self::AdaGrad { lr, eps } => each(weights, state, grad, |w, a, g| {
                let g = g + l2 * *w;
                *a += g * g;
                *w -= lr * g / (a.sqrt() + eps);
            }),
            Self::RmsProp { lr, gain, eps } => each(weights, state, grad, |w, v, g| {
                let g = g + l2 * *w;
                *v += gain * (g * g - *v);
                *w -= lr * g / (v.sqrt() + eps);
            }),
            Self::Ftrl { alpha, beta, l1, l2: ridge } if alpha > 0.0 => {
                let rate = 1.0 / alpha;
                each_two(weights, state, grad, |w, z, n, g| {
                    let g = g + l2 * *w;
                    let (before, squares) = (n.sqrt(), *n + g * g);
                    let root = squares.sqrt();
                    // √(n + g²) - √n without its cancellation; the tiny term is for g = n = 0.
                    let sigma = g * g / (root + before + f32::MIN_POSITIVE) * rate;
                    *z += g - sigma * *w;
                    *n = squares;
                    let shrunk = (z.abs() - l1).max(0.0).copysign(*z);
                    let slope = (beta + root) * rate + ridge;
                    // Adding zero makes -0.0 a plain zero.
                    *w = if slope > 0.0 { -shrunk / slope + 0.0 } else { 0.0 };
                });
            }
            Self::Ftrl { .. } => {}
        }
    }
}

/// Calls `rule(w, a, g)` for each coordinate; `state` is `a[D]`.
#[inline]
fn each(weights: &mut [f32], state: &mut [f32], grad: &[f32], rule: impl Fn(&mut f32, &mut f32, f32)) {
    for ((w, a), &g) in weights.iter_mut().zip(state).zip(grad) {
        rule(w, a, g);
    }
}

/// Calls `rule(w, a, b, g)` for each coordinate; `state` is `a[D]`, `b[D]`.
#[inline]
fn each_two(
    weights: &mut [f32],
    state: &mut [f32],
    grad: &[f32],
    rule: impl Fn(&mut f32, &mut f32, &mut f32, f32),
) {
    let (first, second) = state.split_at_mut(grad.len());
    for (((w, a), b), &g) in weights.iter_mut().zip(first).zip(second).zip(grad) {
        rule(w, a, b, g);
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
