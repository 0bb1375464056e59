//! Bilinear fusion of two vectors.

use super::Linear;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::tensor::Tensor;

/// b + ⟨u, x⟩ + ⟨v, y⟩ + Σ_h x_hᵀ W_h y_h, where x and y are cut into as many equal parts as there are heads (Mao et al., AAAI
/// 2023, FinalMLP, eq. 9–11).
#[derive(Debug, Clone)]
pub struct BilinearFusion {
    left: Linear,
    right: Linear,
    /// Per output, per head, `[x / heads, y / heads]`.
    heads: Vec<Vec<ParamId>>,
    parts: (usize, usize),
}

impl BilinearFusion {
    /// For vectors of the two `widths`: `name.left`, `name.right` (linear terms) and `name.{output}.{head}`.
    ///
    /// # Errors
    /// `heads` that do not divide both widths, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        widths: (usize, usize),
        heads: usize,
        outputs: usize,
    ) -> Result<Self> {
        if heads == 0 || !widths.0.is_multiple_of(heads) || !widths.1.is_multiple_of(heads) {
            return Err(Error::Model(format!(
                "bilinear fusion `{name}` cuts vectors of widths {} and {} into {heads} heads; expected a \
                 divisor of both",
                widths.0, widths.1
            )));
        }
        let parts = (widths.0 / heads, widths.1 / heads);
        // FuxiCTR draws all heads as one matrix [heads · x · y, outputs].
        let start = Init::Normal((2.0 / (heads * parts.0 * parts.1 + outputs) as f32).sqrt());
        let mut head =
            |o: usize, h: usize| params.dense(&format!("{name}.{o}.{h}"), &[parts.0, parts.1], start);
        let matrices =
            (0..outputs).map(|o| (0..heads).map(|h| head(o, h)).collect()).collect::<Result<_>>()?;
        Ok(Self {
            left: Linear::with_init(
                params,
                &format!("{name}.left"),
                (widths.0, outputs),
                Init::XavierNormal,
            )?,
            right: Linear::with_init(
                params,
                &format!("{name}.right"),
                (widths.1, outputs),
                Init::XavierNormal,
            )?,
            heads: matrices,
            parts,
        })
    }

    /// `[N, X]`, `[N, Y]` → `[N, outputs]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor, y: &Tensor) -> Tensor {
        let (dx, dy) = self.parts;
        let linear = self.left.forward(pass, x).add(&self.right.forward(pass, y)); // [N, O]
        let head = |(h, w): (usize, &ParamId)| {
            let turned = y.slice(h * dy, dy).linear(&pass.param(*w), None); // W_h y_h, [N, dx]
            x.slice(h * dx, dx).dot_rows(&turned) // [N, 1]
        };
        let output =
            |heads: &Vec<ParamId>| heads.iter().enumerate().map(head).reduce(|sum, term| sum.add(&term));
        let fused = self.heads.iter().filter_map(output);
        linear.add(&Tensor::join(fused))
    }
}
