//! Optimisers of the dense weights.

use crate::error::{Error, Result};
use crate::params::{ParamId, Params};
use crate::pass::Gradients;
use rayon::prelude::*;

/// An optimiser's rule; `l2` adds l2 · w to each gradient. Running statistics are never decayed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DenseOptim {
    /// Kingma & Ba 2015.
    Adam {
        /// Learning rate.
        lr: f32,
        /// Decay of the mean of gradients.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the mean of squares.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root.
        #[serde(default = "adam_eps")]
        eps: f32,
        /// L2 penalty.
        #[serde(default)]
        l2: f32,
    },
    /// Adam with decoupled decay: w ← w − lr · decay · w besides (Loshchilov & Hutter 2019).
    AdamW {
        /// Learning rate.
        lr: f32,
        /// Decay of the mean of gradients.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the mean of squares.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the root.
        #[serde(default = "adam_eps")]
        eps: f32,
        /// Decay of weights, times the learning rate.
        decay: f32,
    },
    /// v ← momentum · v + g; w ← w − lr · v (as PyTorch, no dampening).
    Sgd {
        /// Learning rate.
        lr: f32,
        /// 0 for plain gradient descent.
        #[serde(default)]
        momentum: f32,
        /// L2 penalty.
        #[serde(default)]
        l2: f32,
    },
    /// s ← s + g²; w ← w − lr · g / (√s + eps) (Duchi et al. 2011).
    #[serde(rename = "adagrad")]
    AdaGrad {
        /// Learning rate.
        lr: f32,
        /// Added to the root.
        #[serde(default = "adagrad_eps")]
        eps: f32,
        /// First value of s.
        #[serde(default)]
        initial_accumulator: f32,
        /// L2 penalty.
        #[serde(default)]
        l2: f32,
    },
}

fn beta1() -> f32 {
    0.9
}
fn beta2() -> f32 {
    0.999
}
fn adam_eps() -> f32 {
    1e-8
}
fn adagrad_eps() -> f32 {
    1e-10
}

impl DenseOptim {
    /// Adam with the usual constants.
    pub fn adam(lr: f32) -> Self {
        Self::Adam { lr, beta1: beta1(), beta2: beta2(), eps: adam_eps(), l2: 0.0 }
    }

    /// Learning rate.
    pub fn lr(&self) -> f32 {
        match *self {
            Self::Adam { lr, .. }
            | Self::AdamW { lr, .. }
            | Self::Sgd { lr, .. }
            | Self::AdaGrad { lr, .. } => lr,
        }
    }

    /// Sets the learning rate.
    pub fn set_lr(&mut self, new: f32) {
        match self {
            Self::Adam { lr, .. }
            | Self::AdamW { lr, .. }
            | Self::Sgd { lr, .. }
            | Self::AdaGrad { lr, .. } => *lr = new,
        }
    }

    /// How many numbers it remembers per weight, and what they start as.
    fn memory(&self) -> (usize, f32) {
        match *self {
            Self::Adam { .. } | Self::AdamW { .. } => (2, 0.0),
            Self::Sgd { momentum, .. } => (usize::from(momentum != 0.0), 0.0),
            Self::AdaGrad { initial_accumulator, .. } => (1, initial_accumulator),
        }
    }
}

/// What an optimiser remembers about one weight.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    /// Name of the weight.
    pub name: String,
    /// Steps in which the weight had a gradient.
    pub steps: u64,
    /// Mean of gradients, velocity, or sum of squares; empty if not used.
    pub first: Vec<f32>,
    /// Mean of squares; empty if not used.
    pub second: Vec<f32>,
}

/// An optimiser's memory: what a checkpoint keeps.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OptimState(pub Vec<Moments>);

/// Applies gradients to the dense weights.
#[derive(Debug, Clone)]
pub struct Optimiser {
    rule: DenseOptim,
    moments: Vec<Moments>,
}

/// Elements per task.
const CHUNK: usize = 32 * 1024;

impl Optimiser {
    /// An optimiser that has seen nothing.
    pub fn new(rule: DenseOptim) -> Self {
        Self { rule, moments: Vec::new() }
    }

    /// The rule.
    pub fn rule(&self) -> &DenseOptim {
        &self.rule
    }

    /// Sets the learning rate of the next steps.
    pub fn set_lr(&mut self, lr: f32) {
        self.rule.set_lr(lr);
    }

    /// One step: changes each trained weight that has a gradient, and puts new running statistics in place.
    pub fn step(&mut self, params: &mut Params, gradients: &Gradients) {
        self.prepare(params);
        for id in params.ids() {
            let Some(gradient) = gradients.dense(id) else { continue };
            if params.is_trained(id) {
                let moments = &mut self.moments[id.0];
                moments.steps += 1;
                update(&self.rule, params.values_mut(id), gradient, moments);
            }
        }
        for (id, values) in &gradients.statistics {
            params.values_mut(*id).copy_from_slice(values);
        }
    }

    fn prepare(&mut self, params: &Params) {
        let (count, start) = self.rule.memory();
        for id in params.ids().skip(self.moments.len()) {
            let len = if params.is_trained(id) { params.values(id).len() } else { 0 };
            let name = params.name(id).to_owned();
            let part = |wanted: usize| if count >= wanted { vec![start; len] } else { Vec::new() };
            self.moments.push(Moments { name, steps: 0, first: part(1), second: part(2) });
        }
    }

    /// A copy of its memory, to save.
    pub fn state(&self) -> OptimState {
        OptimState(self.moments.clone())
    }

    /// Takes up saved memory.
    ///
    /// # Errors
    /// Memory of other weights or another rule; nothing is changed then.
    pub fn restore(&mut self, params: &Params, state: OptimState) -> Result<()> {
        if state.0.is_empty() {
            self.moments.clear();
            return Ok(());
        }
        let mut fresh = Self::new(self.rule);
        fresh.prepare(params);
        if fresh.moments.len() != state.0.len() {
            let text = format!("it has {} weights, the model has {}", state.0.len(), fresh.moments.len());
            return Err(Error::OptimState(text));
        }
        for (mine, saved) in fresh.moments.iter().zip(&state.0) {
            let fits = mine.first.len() == saved.first.len() && mine.second.len() == saved.second.len();
            if mine.name != saved.name || !fits {
                let text = format!(
                    "saved for `{}`, the model has `{}` there (or the rule differs)",
                    saved.name, mine.name
                );
                return Err(Error::OptimState(text));
            }
        }
        self.moments = state.0;
        Ok(())
    }

    /// What it remembers about one weight.
    pub fn moments(&self, id: ParamId) -> Option<&Moments> {
        self.moments.get(id.0)
    }
}

fn update(rule: &DenseOptim, w: &mut [f32], g: &[f32], m: &mut Moments) {
    match *rule {
        DenseOptim::Adam { lr, beta1, beta2, eps, l2 } => {
            adam(w, g, m, &AdamRule { lr, beta1, beta2, eps, l2, decay: 0.0 });
        }
        DenseOptim::AdamW { lr, beta1, beta2, eps, decay } => {
            adam(w, g, m, &AdamRule { lr, beta1, beta2, eps, l2: 0.0, decay });
        }
        DenseOptim::Sgd { lr, momentum: 0.0, l2 } => {
            w.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).for_each(|(w, g)| {
                w.iter_mut().zip(g).for_each(|(w, g)| *w -= lr * (g + l2 * *w));
            });
        }
        DenseOptim::Sgd { lr, momentum, l2 } => each(w, g, &mut m.first, |w, g, v| {
            *v = momentum * *v + g + l2 * *w;
            *w -= lr * *v;
        }),
        DenseOptim::AdaGrad { lr, eps, l2, .. } => each(w, g, &mut m.first, |w, g, s| {
            let g = g + l2 * *w;
            *s += g * g;
            *w -= lr * g / (s.sqrt() + eps);
        }),
    }
}

fn each(w: &mut [f32], g: &[f32], s: &mut [f32], f: impl Fn(&mut f32, f32, &mut f32) + Sync) {
    w.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(s.par_chunks_mut(CHUNK)).for_each(|((w, g), s)| {
        w.iter_mut().zip(g).zip(s).for_each(|((w, g), s)| f(w, *g, s));
    });
}

struct AdamRule {
    lr: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    l2: f32,
    decay: f32,
}

/// m̂ / (√v̂ + eps), with the bias corrections folded into the step size and the root, as PyTorch does.
fn adam(w: &mut [f32], g: &[f32], m: &mut Moments, rule: &AdamRule) {
    let &AdamRule { lr, beta1, beta2, eps, l2, decay } = rule;
    let steps = m.steps as f64;
    let step = (f64::from(lr) / (1.0 - f64::from(beta1).powf(steps))) as f32;
    let root = (1.0 / (1.0 - f64::from(beta2).powf(steps)).sqrt()) as f32;
    let (first, second) = (m.first.par_chunks_mut(CHUNK), m.second.par_chunks_mut(CHUNK));
    let weights = w.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
    weights.zip(first.zip(second)).for_each(|((w, g), (m, v))| {
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = g + l2 * *w;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *w -= lr * decay * *w;
            *w -= step * *m / (v.sqrt() * root + eps);
        }
    });
}
