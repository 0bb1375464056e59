//! x Wᵀ + b, with the ReLU that so often follows.

use super::dropout::Dropout;
use crate::buffer::Buffer;
use crate::chunks::{self, wide};
use crate::fixed;
use crate::kept::Choice;
use crate::product::{Mat, Onto, panels_product_then, panels_serve, product, product_then};
use crate::tensor::{Tensor, own};

impl Tensor {
    /// `[.., I]` · `[O, I]ᵀ` + `[O]` → `[.., O]`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        self.linear_then(weight, bias, Then { relu: false, dropout: None })
    }

    /// max(x Wᵀ + b, 0) in one sweep: `[.., I]` · `[O, I]ᵀ` + `[O]` → `[.., O]`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn linear_relu(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        self.linear_then(weight, bias, Then { relu: true, dropout: None })
    }

    /// dropout(max(x Wᵀ + b, 0)) in one sweep.
    pub(crate) fn linear_relu_dropout(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        dropout: Option<Dropout>,
    ) -> Tensor {
        self.linear_then(weight, bias, Then { relu: true, dropout })
    }

    fn linear_then(&self, weight: &Tensor, bias: Option<&Tensor>, then: Then) -> Tensor {
        let &[o, i] = weight.shape() else {
            panic!("a linear layer's weight is [out, in], not {:?}", weight.shape)
        };
        assert_eq!(self.width(), i, "{:?} meets a linear layer of weight [{o}, {i}]", self.shape);
        assert!(bias.is_none_or(|b| b.len() == o), "bias of a linear layer of {o} outputs");
        let n = self.rows();
        let mut out = Buffer::any(n * o);
        let b = bias.map(|b| b.data());
        let finish = |from: usize, y: &mut [f32]| then.finish(from * o, y, b);
        self.by_weight_then(&mut out, weight, finish);
        let out = own(out);
        let kept = then.relu.then(|| out.clone());
        let (x, w, b) = (self.clone(), weight.clone(), bias.and_then(|b| b.node));
        let tracked = x.tracked() || w.tracked() || b.is_some();
        self.output(self.shape.with_width(o), out, tracked, move |mut g, grads| {
            let mut sums = vec![0.0; if b.is_some() { o } else { 0 }];
            match &kept {
                Some(y) => then.back(&mut g, y, o, &mut sums),
                None if b.is_some() => chunks::column_sums(&g, o, &mut sums),
                None => {}
            }
            drop(kept);
            grads.sum(b, o, |gb| chunks::add(gb, &sums));
            grads.write(w.node, o * i, |gw, add| {
                product(gw, Mat::new(&g, n, o).t(), Mat::new(x.data(), n, i), add.into());
            });
            grads.write(x.node, n * i, |gx, add| {
                product(gx, Mat::new(&g, n, o), Mat::new(w.data(), o, i), add.into());
            });
        })
    }
}

impl Tensor {
    /// `out = x wᵀ` for a weight `[O, I]`, then `finish(first row, rows)` for each block of rows. Columns that belong to
    /// requests are met once per request.
    pub(crate) fn by_weight_then(
        &self,
        out: &mut [f32],
        weight: &Tensor,
        finish: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (n, i) = (self.rows(), self.width());
        if let Some(split) = self.split_rows(i) {
            return split.product_then(out, weight, finish);
        }
        rows_by_weight(out, Mat::new(self.data(), n, i), (weight, Choice::default()), finish);
    }
}

/// `out = x wᵀ` for a part of a weight `[O, I]`, by its panels if it keeps them.
pub(super) fn rows_by_weight(
    out: &mut [f32],
    x: Mat<'_>,
    (weight, choice): (&Tensor, Choice<'_>),
    finish: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (o, i) = choice.sizes(weight.rows(), weight.width());
    if let Some(panels) = fixed::serve(o, i).then(|| weight.fixed(choice)).flatten() {
        return panels.product_then(out, x, finish);
    }
    if let Some(panels) = panels_serve(x.rows, o, i).then(|| weight.panels(choice)).flatten() {
        return panels_product_then(out, x, &panels, finish);
    }
    choice.part(weight.data(), weight.rows(), |w| product_then(out, x, w.t(), Onto::Write, finish));
}

/// What follows a linear layer while its rows are still in the cache.
#[derive(Clone, Copy)]
struct Then {
    relu: bool,
    /// Only after the cut at zero: the backward pass tells what was dropped by its being zero.
    dropout: Option<Dropout>,
}

impl Then {
    fn finish(&self, first: usize, y: &mut [f32], bias: Option<&[f32]>) {
        match (bias, self.relu) {
            (None, false) => {}
            (None, true) => y.iter_mut().for_each(|v| *v = v.max(0.0)),
            (Some(b), false) => add_to_rows(y, b),
            (Some(b), true) => add_and_cut(y, b),
        }
        if let Some(dropout) = &self.dropout {
            dropout.apply(first, y);
        }
    }

    /// The gradient before the cut and dropout, and (unless `sums` is empty) its column sums, in one walk.
    fn back(&self, g: &mut [f32], y: &[f32], o: usize, sums: &mut [f32]) {
        let scale = self.dropout.map_or(1.0, |d| d.scale);
        let wanted = !sums.is_empty();
        chunks::update_fold(g, o, sums, |from, g, sums| {
            open_slopes(g, &y[from * o..], scale);
            if wanted {
                g.chunks_exact(o).for_each(|g| chunks::add(sums, g));
            }
        });
    }
}

wide! {
    /// Adds a row to every row.
    fn add_to_rows(y: &mut [f32], bias: &[f32]) {
        y.chunks_exact_mut(bias.len()).for_each(|row| chunks::add(row, bias));
    }

    /// Adds a row to every row, and cuts below zero.
    fn add_and_cut(y: &mut [f32], bias: &[f32]) {
        for row in y.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(v, b)| *v = (*v + b).max(0.0));
        }
    }

    /// Multiplies the gradient by `scale` where the output is above zero, and by 0 elsewhere.
    fn open_slopes(g: &mut [f32], y: &[f32], scale: f32) {
        for (g, y) in g.iter_mut().zip(y) {
            let open = *g * scale;
            *g = if *y > 0.0 { open } else { 0.0 };
        }
    }
}
