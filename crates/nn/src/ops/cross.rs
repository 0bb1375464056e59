//! The layer of a cross network, as one operation.

use crate::buffer::Buffer;
use crate::chunks;
use crate::product::{Mat, Onto, product, product_then};
use crate::tensor::{Data, Tensor, Values, own};
use rayon::prelude::*;
use std::rc::Rc;

impl Tensor {
    /// x' = x0 ⊙ (x Wᵀ + b) + x, all `[N, W]` (Wang et al. 2021, DCN V2, eq. 1); `self` is x.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn cross(&self, x0: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let (n, d) = (self.rows(), self.width());
        assert_eq!(self.shape, x0.shape, "cross layer over x {:?} and x0 {:?}", self.shape, x0.shape);
        assert_eq!(weight.shape(), [d, d], "weight of a cross layer over {d} columns");
        assert_eq!(bias.len(), d, "bias of a cross layer over {d} columns");
        let mut z = Buffer::any(n * d);
        let b = bias.data();
        product_then(
            &mut z,
            Mat::new(self.data(), n, d),
            Mat::new(weight.data(), d, d).t(),
            Onto::Write,
            |_, z| {
                z.chunks_exact_mut(d).for_each(|z| chunks::add(z, b));
            },
        );
        let mut out = Buffer::any(n * d);
        let (first, x) = (x0.data(), self.data());
        chunks::rows(&mut out, 1, |from, out| {
            for (((o, z), a), x) in out.iter_mut().zip(&z[from..]).zip(&first[from..]).zip(&x[from..]) {
                *o = a * z + x;
            }
        });
        let (x, x0, w, b) = (self.clone(), x0.clone(), weight.clone(), bias.node);
        let tracked = x.tracked() || x0.tracked() || w.tracked() || b.is_some();
        let z = own(z);
        self.output(self.shape, own(out), tracked, move |mut g, grads| {
            grads.sum(x0.node, n * d, |g0| chunks_add_product(g0, &g, &z));
            let mut dz = reuse(z);
            chunks::zip(&mut dz, &g, x0.data(), |g, a| g * a);
            grads.sum(b, d, |gb| chunks::column_sums(&dz, d, gb));
            grads.write(w.node, d * d, |gw, add| {
                product(gw, Mat::new(&dz, n, d).t(), Mat::new(x.data(), n, d), add.into());
            });
            if x.tracked() {
                product(&mut g, Mat::new(&dz, n, d), Mat::new(w.data(), d, d), Onto::Add);
                grads.add(x.node, g);
            }
        })
    }
}

/// The buffer behind values nobody else holds, with whatever is in it.
fn reuse(values: Values) -> Buffer {
    let len = values.len();
    match Rc::try_unwrap(values) {
        Ok(Data::Own(buffer)) => buffer,
        _ => Buffer::any(len),
    }
}

/// `out += a ⊙ b`.
fn chunks_add_product(out: &mut [f32], a: &[f32], b: &[f32]) {
    let step = 16 * 1024;
    out.par_chunks_mut(step).zip(a.par_chunks(step)).zip(b.par_chunks(step)).for_each(|((o, a), b)| {
        o.iter_mut().zip(a).zip(b).for_each(|((o, a), b)| *o += a * b);
    });
}
