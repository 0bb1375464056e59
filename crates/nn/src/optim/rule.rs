//! The rules by name, and what they have in common.

use super::{AdaGrad, Adam, AdamW, Ftrl, Moments, RAdam, RmsProp, Sgd};
use crate::chunks::vectorised;
use crate::error::{Error, Result};
use rayon::prelude::*;

/// An optimiser's rule, with its constants; what is left out of a configuration is PyTorch's default.
///
/// `l2` adds l2 · w to each gradient and `l1` adds l1 · sign(w), as penalties ½ l2 ‖w‖² and l1 ‖w‖₁ in the loss would;
/// [`AdamW`] decays weights apart from the gradient and [`Ftrl`] solves for both penalties. Running statistics are
/// never decayed.
///
/// ```
/// use millstream_nn::{DenseOptim, Sgd};
/// let rule = DenseOptim::Sgd(Sgd { lr: 0.1, momentum: 0.9, nesterov: true, ..Sgd::default() });
/// assert_eq!(rule.lr(), 0.1);
/// rule.check()?;
/// # Ok::<(), millstream_nn::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DenseOptim {
    /// Gradient descent, with momentum if asked for.
    Sgd(Sgd),
    /// Steps by the root of a running mean of squares.
    RmsProp(RmsProp),
    /// Adam.
    Adam(Adam),
    /// Adam with decoupled decay.
    #[serde(rename = "adamw")]
    AdamW(AdamW),
    /// Adam that waits until its mean of squares can be trusted.
    #[serde(rename = "radam")]
    RAdam(RAdam),
    /// Steps by the root of the sum of squares.
    #[serde(rename = "adagrad")]
    AdaGrad(AdaGrad),
    /// Follow the regularised leader; weights that gain nothing are exactly zero.
    Ftrl(Ftrl),
}

/// What each rule does.
pub(super) trait Rule {
    /// How many numbers it remembers per weight: 0, 1 or 2.
    fn memory(&self) -> usize;

    /// What it remembers of weights that have not moved.
    fn start(&self, w: &[f32], first: &mut [f32], second: &mut [f32]) {
        let _ = (w, first, second);
    }

    /// One step of one weight tensor; `m.steps` counts it from 1, `factor` multiplies the learning rate.
    fn update(&self, w: &mut [f32], g: &[f32], m: &mut Moments, factor: f32);

    /// Constants that must be at least 0, those that must be above 0, and those that must be in [0, 1).
    fn ranges(&self) -> Ranges;
}

/// Named constants by the range that they must be in.
pub(super) struct Ranges {
    pub(super) above_zero: Vec<(&'static str, f32)>,
    pub(super) at_least_zero: Vec<(&'static str, f32)>,
    pub(super) shares: Vec<(&'static str, f32)>,
}

impl DenseOptim {
    /// Adam with the usual constants.
    pub fn adam(lr: f32) -> Self {
        Self::Adam(Adam { lr, ..Adam::default() })
    }

    /// Plain gradient descent.
    pub fn sgd(lr: f32) -> Self {
        Self::Sgd(Sgd { lr, ..Sgd::default() })
    }

    /// Learning rate.
    pub fn lr(&self) -> f32 {
        let mut copy = *self;
        *copy.lr_mut()
    }

    /// Sets the learning rate.
    pub fn set_lr(&mut self, new: f32) {
        *self.lr_mut() = new;
    }

    /// Whether all constants are in their ranges.
    ///
    /// # Errors
    /// The first constant that is not, with its range.
    pub fn check(&self) -> Result<()> {
        let Ranges { above_zero, at_least_zero, shares } = self.rule().ranges();
        let wrong = |list: Vec<(&'static str, f32)>, fits: fn(f32) -> bool, range: &'static str| {
            list.into_iter().find(|(_, v)| !fits(*v)).map(|(name, v)| (name, v, range))
        };
        let found = wrong(above_zero, |v| v > 0.0 && v.is_finite(), "above 0")
            .or_else(|| wrong(at_least_zero, |v| v >= 0.0 && v.is_finite(), "0 or above"))
            .or_else(|| wrong(shares, |v| (0.0..1.0).contains(&v), "0 up to but below 1"));
        match found {
            None => Ok(()),
            Some((name, v, range)) => {
                Err(Error::Model(format!("`{name}` of the optimiser is {v}, expected {range}")))
            }
        }
    }

    fn lr_mut(&mut self) -> &mut f32 {
        match self {
            Self::Sgd(o) => &mut o.lr,
            Self::RmsProp(o) => &mut o.lr,
            Self::Adam(o) => &mut o.lr,
            Self::AdamW(o) => &mut o.lr,
            Self::RAdam(o) => &mut o.lr,
            Self::AdaGrad(o) => &mut o.lr,
            Self::Ftrl(o) => &mut o.lr,
        }
    }

    pub(super) fn rule(&self) -> &dyn Rule {
        match self {
            Self::Sgd(o) => o,
            Self::RmsProp(o) => o,
            Self::Adam(o) => o,
            Self::AdamW(o) => o,
            Self::RAdam(o) => o,
            Self::AdaGrad(o) => o,
            Self::Ftrl(o) => o,
        }
    }
}

/// Penalties on the size of weights, as gradients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Penalty {
    pub(super) l1: f32,
    pub(super) l2: f32,
}

impl Penalty {
    /// g + l2 w + l1 sign(w).
    #[inline]
    pub(super) fn add(self, g: f32, w: f32) -> f32 {
        g + self.l2 * w + self.l1 * sign(w)
    }
}

/// −1, 0 or 1 (`f32::signum` has no 0).
#[inline]
pub(super) fn sign(x: f32) -> f32 {
    f32::from(x > 0.0) - f32::from(x < 0.0)
}

/// Elements per task.
const CHUNK: usize = 32 * 1024;

/// `f(w, g)` for each weight, in one pass over memory.
pub(super) fn sweep(w: &mut [f32], g: &[f32], f: impl Fn(&mut f32, f32) + Sync) {
    w.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).for_each(|(w, g)| {
        vectorised!(w.iter_mut().zip(g).for_each(|(w, g)| f(w, *g)));
    });
}

/// `f(w, g, first)` for each weight, in one pass over memory.
pub(super) fn sweep1(w: &mut [f32], g: &[f32], m: &mut Moments, f: impl Fn(&mut f32, f32, &mut f32) + Sync) {
    let weights = w.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
    weights.zip(m.first.par_chunks_mut(CHUNK)).for_each(|((w, g), a)| {
        vectorised!(w.iter_mut().zip(g).zip(a).for_each(|((w, g), a)| f(w, *g, a)));
    });
}

/// `f(w, g, first, second)` for each weight, in one pass over memory.
pub(super) fn sweep2(
    w: &mut [f32],
    g: &[f32],
    m: &mut Moments,
    f: impl Fn(&mut f32, f32, &mut f32, &mut f32) + Sync,
) {
    let memory = m.first.par_chunks_mut(CHUNK).zip(m.second.par_chunks_mut(CHUNK));
    w.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(memory).for_each(|((w, g), (a, b))| {
        vectorised!(w.iter_mut().zip(g).zip(a).zip(b).for_each(|(((w, g), a), b)| f(w, *g, a, b)));
    });
}
