//! The cross network of DCN V2 with low-rank matrices.

use super::Linear;
use crate::error::Result;
use crate::init::Init;
use crate::params::Params;
use crate::pass::Pass;
use crate::tensor::Tensor;

/// Cross layers of low rank (Wang et al. 2021, DCN V2, sec. 3.2). One expert: x_{l+1} = x_0 ⊙ (U Vᵀ x_l + b) + x_l. Several:
/// x_{l+1} = Σ_i G_i(x_l) x_0 ⊙ (U_i tanh(C_i tanh(V_iᵀ x_l)) + b_i) + x_l with G = softmax over a linear gate.
#[derive(Debug, Clone)]
pub struct CrossMixture {
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    experts: Vec<Expert>,
    gate: Option<Linear>,
}

#[derive(Debug, Clone)]
struct Expert {
    /// Vᵀ `[R, W]`.
    down: Linear,
    /// C `[R, R]`, with several experts.
    turn: Option<Linear>,
    /// U `[W, R]` and b.
    up: Linear,
}

impl CrossMixture {
    /// `layers` layers over `width` columns, of rank `rank`, with `experts` experts each: `name.0.0.down.weight`,
    /// `name.0.0.turn.weight`, `name.0.0.up.weight`, `name.0.0.up.bias`, `name.0.gate.weight`, ..
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        width: usize,
        layers: usize,
        (rank, experts): (usize, usize),
    ) -> Result<Self> {
        let layer = |l| Layer::new(params, &format!("{name}.{l}"), width, (rank, experts));
        Ok(Self { layers: (0..layers).map(layer).collect::<Result<_>>()? })
    }

    /// `[N, W]` → `[N, W]`.
    pub fn forward(&self, pass: &Pass, x0: &Tensor) -> Tensor {
        self.layers.iter().fold(x0.clone(), |x, layer| x0.mul_add(&layer.forward(pass, &x), &x))
    }
}

impl Layer {
    fn new(params: &mut Params, name: &str, width: usize, (rank, experts): (usize, usize)) -> Result<Self> {
        let several = experts > 1;
        let start = Init::XavierNormal;
        let expert = |e| {
            let name = format!("{name}.{e}");
            let turn = || Linear::without_bias(params, &format!("{name}.turn"), (rank, rank), start);
            let turn = several.then(turn).transpose()?;
            Ok(Expert {
                down: Linear::without_bias(params, &format!("{name}.down"), (width, rank), start)?,
                turn,
                up: Linear::with_init(params, &format!("{name}.up"), (rank, width), start)?,
            })
        };
        let experts = (0..experts.max(1)).map(expert).collect::<Result<Vec<_>>>()?;
        let gate = || Linear::without_bias(params, &format!("{name}.gate"), (width, experts.len()), start);
        Ok(Self { gate: several.then(gate).transpose()?, experts })
    }

    /// `[N, W]` → `[N, W]`: what is multiplied by x_0.
    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let made = self.experts.iter().map(|expert| expert.forward(pass, x));
        let Some(gate) = &self.gate else { return Tensor::join(made) };
        let weights = gate.forward(pass, x).softmax(); // [N, E]
        let weighed = made.enumerate().map(|(e, y)| y.mul_column(&weights.slice(e, 1)));
        weighed.reduce(|sum, y| sum.add(&y)).unwrap_or_else(|| x.clone())
    }
}

impl Expert {
    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let low = self.down.forward(pass, x); // [N, R]
        let low = match &self.turn {
            Some(turn) => turn.forward(pass, &low.tanh()).tanh(),
            None => low,
        };
        self.up.forward(pass, &low) // [N, W]
    }
}
