//! Gates that scale the hidden layers of a tower, sample by sample.

use super::{Linear, Mlp, MlpConfig};
use crate::error::Result;
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// Gate 2σ(MLP(g)) in (0, 2) for each hidden layer of a tower: learning hidden unit contributions (Swietojanski & Renals,
/// SLT 2014, there one constant per speaker; here a function of the sample, as in PEPNet, Chang et al., KDD 2023).
#[derive(Debug, Clone)]
pub struct Lhuc {
    trunk: Mlp,
    gates: Vec<Linear>,
}

impl Lhuc {
    /// Over `inputs` columns: layers `name.0`, .. of widths `hidden`, then `name.gate.0`, .. one per width of `layers`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        inputs: usize,
        hidden: &[usize],
        layers: &[usize],
    ) -> Result<Self> {
        let config = MlpConfig { hidden: hidden.to_vec(), ..MlpConfig::default() };
        let trunk = Mlp::new(params, name, inputs, &config)?;
        let gate = |(l, width): (usize, &usize)| {
            Linear::new(params, &format!("{name}.gate.{l}"), trunk.outputs(), *width)
        };
        Ok(Self { gates: layers.iter().enumerate().map(gate).collect::<Result<_>>()?, trunk })
    }

    /// `[N, inputs]` → `[N, width]` for each layer.
    pub fn forward(&self, pass: &Pass, g: &Tensor) -> Vec<Tensor> {
        let h = self.trunk.forward(pass, g);
        self.gates.iter().map(|gate| gate.forward(pass, &h).sigmoid().scale(2.0)).collect()
    }
}
