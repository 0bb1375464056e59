//! x Wᵀ + b, with the ReLU that so often follows.

use crate::buffer::Buffer;
use crate::chunks;
use crate::product::{Mat, Onto, product, product_then};
use crate::tensor::{Tensor, own};

impl Tensor {
    /// `[.., I]` · `[O, I]ᵀ` + `[O]` → `[.., O]`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        self.linear_then(weight, bias, false)
    }

    /// max(x Wᵀ + b, 0) in one sweep: `[.., I]` · `[O, I]ᵀ` + `[O]` → `[.., O]`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn linear_relu(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        self.linear_then(weight, bias, true)
    }

    fn linear_then(&self, weight: &Tensor, bias: Option<&Tensor>, relu: bool) -> Tensor {
        let &[o, i] = weight.shape() else {
            panic!("a linear layer's weight is [out, in], not {:?}", weight.shape)
        };
        assert_eq!(self.width(), i, "{:?} meets a linear layer of weight [{o}, {i}]", self.shape);
        assert!(bias.is_none_or(|b| b.len() == o), "bias of a linear layer of {o} outputs");
        let n = self.rows();
        let mut out = Buffer::any(n * o);
        let b = bias.map(|b| b.data());
        product_then(
            &mut out,
            Mat::new(self.data(), n, i),
            Mat::new(weight.data(), o, i).t(),
            Onto::Write,
            |_, y| {
                finish(y, o, b, relu);
            },
        );
        let out = own(out);
        let kept = relu.then(|| out.clone());
        let (x, w, b) = (self.clone(), weight.clone(), bias.and_then(|b| b.node));
        let tracked = x.tracked() || w.tracked() || b.is_some();
        self.output(self.shape.with_width(o), out, tracked, move |mut g, grads| {
            if let Some(y) = &kept {
                chunks::update(&mut g, y, |g, y| if y > 0.0 { g } else { 0.0 });
            }
            drop(kept);
            grads.sum(b, o, |gb| chunks::column_sums(&g, o, gb));
            grads.write(w.node, o * i, |gw, add| {
                product(gw, Mat::new(&g, n, o).t(), Mat::new(x.data(), n, i), add.into());
            });
            grads.write(x.node, n * i, |gx, add| {
                product(gx, Mat::new(&g, n, o), Mat::new(w.data(), o, i), add.into());
            });
        })
    }
}

/// Adds the bias and cuts below zero, in rows that are still in the cache.
fn finish(y: &mut [f32], o: usize, bias: Option<&[f32]>, relu: bool) {
    match (bias, relu) {
        (None, false) => {}
        (None, true) => y.iter_mut().for_each(|v| *v = v.max(0.0)),
        (Some(b), false) => y.chunks_exact_mut(o).for_each(|row| chunks::add(row, b)),
        (Some(b), true) => {
            for row in y.chunks_exact_mut(o) {
                row.iter_mut().zip(b).for_each(|(v, b)| *v = (*v + b).max(0.0));
            }
        }
    }
}
