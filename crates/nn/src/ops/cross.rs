//! The layer of a cross network, as one operation.

#![allow(unsafe_code)]

use crate::buffer::Buffer;
use crate::chunks::{self, wide};
use crate::product::{Mat, Onto, product};
use crate::tensor::{Data, Tensor, Values, own};
use std::ops::Range;
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
        let (b, first, x) = (bias.data(), x0.data(), self.data());
        let mut out = Buffer::any(n * d);
        if [self, x0, weight, bias].iter().all(|t| !t.tracked()) {
            self.by_weight_then(&mut out, weight, |from, z| {
                let place = from * d..from * d + z.len();
                cross_in_place(z, &first[place.clone()], &x[place], b);
            });
            return self.output(self.shape, own(out), false, |_, _| ());
        }
        let mut z = Buffer::any(n * d);
        let rows = Shared::new(&mut out);
        self.by_weight_then(&mut z, weight, |from, z| {
            let place = from * d..from * d + z.len();
            // SAFETY: each block of rows is finished once.
            let out = unsafe { rows.part(place.clone()) };
            cross_rows(out, z, &first[place.clone()], &x[place], b);
        });
        let (x, x0, w, b) = (self.clone(), x0.clone(), weight.clone(), bias.node);
        let tracked = x.tracked() || x0.tracked() || w.tracked() || b.is_some();
        let z = own(z);
        self.output(self.shape, own(out), tracked, move |mut g, grads| {
            let mut dz = reuse(z);
            let mut sums = vec![0.0; d];
            // dz = g ⊙ x0 takes the place of z, once x0's own share g ⊙ z is taken.
            let a = x0.data();
            grads.write(x0.node, n * d, |g0, there| {
                let g0 = Shared::new(g0);
                chunks::update_fold(&mut dz, d, &mut sums, |from, dz, sums| {
                    let place = from * d..from * d + dz.len();
                    // SAFETY: each chunk of rows is visited once.
                    let g0 = unsafe { g0.part(place.clone()) };
                    if !there {
                        g0.fill(0.0);
                    }
                    cross_slopes(g0, dz, &g[place.clone()], &a[place], sums);
                });
            });
            if x0.node.is_none() {
                chunks::zip(&mut dz, &g, a, |g, a| g * a);
                chunks::column_sums(&dz, d, &mut sums);
            }
            grads.sum(b, d, |gb| chunks::add(gb, &sums));
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

wide! {
    /// z ← z + bias, out ← x0 ⊙ z + x.
    fn cross_rows(out: &mut [f32], z: &mut [f32], first: &[f32], x: &[f32], bias: &[f32]) {
        let d = bias.len();
        let operands = first.chunks_exact(d).zip(x.chunks_exact(d));
        for ((o, z), (a, x)) in out.chunks_exact_mut(d).zip(z.chunks_exact_mut(d)).zip(operands) {
            for j in 0..d {
                z[j] += bias[j];
                o[j] = a[j] * z[j] + x[j];
            }
        }
    }

    /// z ← x0 ⊙ (z + bias) + x.
    fn cross_in_place(z: &mut [f32], first: &[f32], x: &[f32], bias: &[f32]) {
        let d = bias.len();
        let operands = first.chunks_exact(d).zip(x.chunks_exact(d));
        for (z, (a, x)) in z.chunks_exact_mut(d).zip(operands) {
            for j in 0..d {
                z[j] = a[j] * (z[j] + bias[j]) + x[j];
            }
        }
    }

    /// g0 ← g0 + g ⊙ z, z ← g ⊙ x0, and the columns of the latter added to sums.
    fn cross_slopes(g0: &mut [f32], z: &mut [f32], g: &[f32], first: &[f32], sums: &mut [f32]) {
        let d = sums.len();
        let operands = g.chunks_exact(d).zip(first.chunks_exact(d));
        for ((g0, z), (g, a)) in g0.chunks_exact_mut(d).zip(z.chunks_exact_mut(d)).zip(operands) {
            for j in 0..d {
                g0[j] += g[j] * z[j];
                z[j] = g[j] * a[j];
                sums[j] += z[j];
            }
        }
    }
}

/// An output whose rows are written by whichever thread finishes them.
pub(super) struct Shared(*mut f32, usize);

// SAFETY: only disjoint parts are handed out, see `part`.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr(), values.len())
    }

    /// Elements `place`.
    ///
    /// # Safety
    /// No two parts in use at the same time overlap, and the values outlive them.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, place: Range<usize>) -> &mut [f32] {
        assert!(place.start <= place.end && place.end <= self.1);
        // SAFETY: inside the values; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(place.start), place.len()) }
    }
}
