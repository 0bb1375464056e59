//! Element-wise non-linearities, and dropout.

use super::dropout::Dropout;
use crate::buffer::Buffer;
use crate::chunks;
use crate::pass::Pass;
use crate::tensor::{Tensor, own};

/// A non-linearity between layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0).
    #[default]
    Relu,
    /// x, or 0.01 x below zero.
    LeakyRelu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// tanh x.
    Tanh,
    /// x / (1 + e^-x) (Ramachandran et al. 2017).
    Silu,
    /// x, or a learned multiple of x below zero; a layer, [`crate::Prelu`].
    Prelu,
    /// A learned gate that bends at the mean of the batch; a layer, [`crate::Dice`].
    Dice,
}

/// 1 / (1 + e^-x), without overflow.
#[inline]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Tensor {
    /// max(x, 0).
    pub fn relu(&self) -> Tensor {
        self.by_output(|x| x.max(0.0), |g, y| if y > 0.0 { g } else { 0.0 })
    }

    /// 1 / (1 + e^-x).
    pub fn sigmoid(&self) -> Tensor {
        self.by_output(sigmoid, |g, y| g * y * (1.0 - y))
    }

    /// tanh x.
    pub fn tanh(&self) -> Tensor {
        self.by_output(f32::tanh, |g, y| g * (1.0 - y * y))
    }

    /// e^x.
    pub fn exp(&self) -> Tensor {
        self.by_output(f32::exp, |g, y| g * y)
    }

    /// x / (1 + e^-x).
    pub fn silu(&self) -> Tensor {
        self.by_input(
            |x| x * sigmoid(x),
            |g, x| {
                let s = sigmoid(x);
                g * (s + x * s * (1.0 - s))
            },
        )
    }

    /// The activation named.
    ///
    /// # Panics
    /// For one that has weights: [`crate::Activate`] is for any.
    pub fn activate(&self, activation: Activation) -> Tensor {
        match activation {
            Activation::Identity => self.clone(),
            Activation::Relu => self.relu(),
            Activation::LeakyRelu => self
                .by_input(|x| if x > 0.0 { x } else { 0.01 * x }, |g, x| if x > 0.0 { g } else { 0.01 * g }),
            Activation::Sigmoid => self.sigmoid(),
            Activation::Tanh => self.tanh(),
            Activation::Silu => self.silu(),
            Activation::Prelu | Activation::Dice => {
                panic!("{activation:?} has weights; a model holds them in an `Activate`")
            }
        }
    }

    /// Inverted dropout: in training each element is zero with probability `p`, else multiplied by 1/(1−p); in
    /// inference (or with p = 0) nothing happens. Srivastava et al. 2014.
    ///
    /// # Panics
    /// If `p` is not in [0, 1).
    pub fn dropout(&self, pass: &Pass, p: f32) -> Tensor {
        let Some(dropout) = Dropout::draw(pass, p) else { return self.clone() };
        let apply = move |values: &mut [f32]| chunks::rows(values, 1, |from, part| dropout.apply(from, part));
        let mut out = Buffer::copy_of(self.data());
        apply(&mut out);
        let node = self.node;
        self.output(self.shape, own(out), node.is_some(), move |mut g, grads| {
            apply(&mut g);
            grads.add(node, g);
        })
    }

    /// An operation whose slope is a function of its output.
    fn by_output(&self, f: impl Fn(f32) -> f32 + Sync, back: fn(f32, f32) -> f32) -> Tensor {
        let mut out = Buffer::any(self.len());
        chunks::map(&mut out, self.data(), f);
        let (out, node) = (own(out), self.node);
        let kept = out.clone();
        self.output(self.shape, out, node.is_some(), move |mut g, grads| {
            chunks::update(&mut g, &kept, back);
            grads.add(node, g);
        })
    }

    /// An operation whose slope is a function of its input.
    fn by_input(&self, f: impl Fn(f32) -> f32 + Sync, back: fn(f32, f32) -> f32) -> Tensor {
        let mut out = Buffer::any(self.len());
        chunks::map(&mut out, self.data(), f);
        let (kept, node) = (self.values.clone(), self.node);
        self.output(self.shape, own(out), node.is_some(), move |mut g, grads| {
            chunks::update(&mut g, &kept, back);
            grads.add(node, g);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Params};

    #[test]
    fn dropout_keeps_the_mean_and_is_off_in_inference() {
        let params = Params::new(0);
        let pass = Pass::new(&params, Mode::Train, 3);
        let x = pass.constant(&[100_001], vec![1.0; 100_001]);
        let y = x.dropout(&pass, 0.3);
        let zeros = y.data().iter().filter(|v| **v == 0.0).count() as f32 / 100_001.0;
        assert!((zeros - 0.3).abs() < 0.01, "{zeros}");
        assert!((y.mean().item() - 1.0).abs() < 0.01);
        assert_ne!(y.data(), x.dropout(&pass, 0.3).data(), "each call draws anew");
        let pass = Pass::new(&params, Mode::Infer, 3);
        let x = pass.constant(&[3], vec![1.0, 2.0, 3.0]);
        assert_eq!(x.dropout(&pass, 0.3).data(), x.data());
    }
}
