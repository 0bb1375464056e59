//! Recurrent layers over sequences of different lengths.

use crate::error::Result;
use crate::init::Init;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::ragged::Ragged;

/// A gated recurrent unit, see [`Ragged::gru`]; starts like PyTorch's `GRU` (uniform in ±1/√H).
#[derive(Debug, Clone)]
pub struct Gru {
    input: [ParamId; 2],
    recurrent: [ParamId; 2],
    outputs: usize,
}

impl Gru {
    /// Weights `name.input` `[3H, I]`, `name.recurrent` `[3H, H]` and their biases; `sizes` are (I, H).
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, sizes: (usize, usize)) -> Result<Self> {
        let (input, recurrent) = weights(params, name, sizes, 3)?;
        Ok(Self { input, recurrent, outputs: sizes.1 })
    }

    /// H.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[elements, I]` → `[elements, H]`: the state after each element.
    pub fn forward(&self, pass: &Pass, x: &Ragged) -> Ragged {
        let [weight, bias] = self.input.map(|id| pass.param(id));
        let gates = x.with(x.values().linear(&weight, Some(&bias)));
        let [weight, bias] = self.recurrent.map(|id| pass.param(id));
        gates.gru(&weight, &bias)
    }
}

/// Long short-term memory, see [`Ragged::lstm`]; starts like PyTorch's `LSTM` (uniform in ±1/√H).
#[derive(Debug, Clone)]
pub struct Lstm {
    input: [ParamId; 2],
    recurrent: [ParamId; 2],
    outputs: usize,
}

impl Lstm {
    /// Weights `name.input` `[4H, I]`, `name.recurrent` `[4H, H]` and their biases; `sizes` are (I, H).
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, sizes: (usize, usize)) -> Result<Self> {
        let (input, recurrent) = weights(params, name, sizes, 4)?;
        Ok(Self { input, recurrent, outputs: sizes.1 })
    }

    /// H.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[elements, I]` → `[elements, H]`: the output after each element.
    pub fn forward(&self, pass: &Pass, x: &Ragged) -> Ragged {
        let [weight, bias] = self.input.map(|id| pass.param(id));
        let gates = x.values().linear(&weight, Some(&bias));
        let [weight, bias] = self.recurrent.map(|id| pass.param(id));
        // Both biases meet the same sum: the second one, too, may be added beforehand.
        x.with(gates.add_row(&bias)).lstm(&weight)
    }
}

type Layer = [ParamId; 2];

/// Weight and bias of the inputs, and of the state.
fn weights(params: &mut Params, name: &str, (i, h): (usize, usize), gates: usize) -> Result<(Layer, Layer)> {
    let start = Init::Uniform(1.0 / (h as f32).sqrt());
    let mut layer = |part: &str, inputs: usize| -> Result<Layer> {
        Ok([
            params.dense(&format!("{name}.{part}.weight"), &[gates * h, inputs], start)?,
            params.dense(&format!("{name}.{part}.bias"), &[gates * h], start)?,
        ])
    };
    Ok((layer("input", i)?, layer("recurrent", h)?))
}
