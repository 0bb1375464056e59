//! The last cross layer and a linear head as one operation, in inference.

#![allow(unsafe_code)]

use super::cross::Shared;
use super::linear::rows_by_weight;
use super::split::{PART, Split};
use crate::buffer::Buffer;
use crate::chunks::{self, vectorised, wide};
use crate::kept::Choice;
use crate::product::Mat;
use crate::tensor::{Tensor, own};
use rayon::prelude::*;

/// Candidates per request and output from which the operation pays.
const PAYS_FROM: usize = 8;

impl Tensor {
    /// x' Vᵀ `[N, T]` for the cross layer x' = x0 ⊙ (x Wᵀ + b) + x (`self` is x) and the head V `[T, W]`, where columns of x0 belong to
    /// requests. With u those columns, c the candidate's, and a row v of V:
    ///
    /// x' · v = x · (v + W_uᵀ (v_u ⊙ x0_u)) + (v_u ⊙ x0_u) · b_u + Σ_c v_c x0_c (W_c · x + b_c)
    ///
    /// The vector in brackets is made once per request, so that only the candidate's rows of W meet every x.
    ///
    /// # Panics
    /// If [`Tensor::pays_by_head`] does not hold for x0, or the shapes do not fit.
    pub(crate) fn cross_by_head(&self, x0: &Tensor, layer: (&Tensor, &Tensor), head: &Tensor) -> Tensor {
        let (n, d, t) = (self.rows(), self.width(), head.rows());
        let (weight, bias) = layer;
        assert_eq!(self.shape, x0.shape, "cross layer over x {:?} and x0 {:?}", self.shape, x0.shape);
        assert!(
            weight.shape() == [d, d] && bias.len() == d && head.width() == d,
            "cross layer over {d} columns"
        );
        let Some(split) = x0.split_rows(d) else { panic!("no column of x0 belongs to a request") };
        let head = Head::new(split, (weight.data(), bias.data()), head.data());
        let (mut z, mut out) = (Buffer::any(n * head.bias.len()), Buffer::any(n * t));
        let rows = Shared::new(&mut out);
        let of_candidate = split.columns(false);
        let choice = Choice { rows: &of_candidate, ..Choice::default() };
        let c = head.bias.len();
        let x = self.data();
        rows_by_weight(&mut z, Mat::new(x, n, d), (weight, choice), |from, z| {
            let end = from + z.len() / c;
            // SAFETY: each block of rows is finished once.
            let out = unsafe { rows.part(from * t..end * t) };
            let own = &split.own[from * c..end * c];
            head_rows(out, &head, &split.map[from..end], z, own, &x[from * d..end * d]);
        });
        self.output(self.shape.with_width(t), own(out), false, |_, _| ())
    }

    /// Whether [`Tensor::cross_by_head`] can and should make a last cross layer over these rows x0 for a head `[T, W]`.
    pub(crate) fn pays_by_head(&self, head: &Tensor) -> bool {
        let pays = |s: &Split| self.rows() >= PAYS_FROM * s.request_rows() * head.rows();
        !self.tracked() && !head.tracked() && self.split_rows(head.width()).is_some_and(pays)
    }
}

/// What rows of candidates meet.
struct Head {
    /// `[R, T, W]`: v + W_uᵀ (v_u ⊙ x0_u).
    whole: Buffer,
    /// `[R, T]`: (v_u ⊙ x0_u) · b_u.
    constant: Vec<f32>,
    /// `[T, C]`: v_c.
    own: Vec<f32>,
    /// `[C]`: b_c.
    bias: Vec<f32>,
}

impl Head {
    fn new(split: &Split, (weight, bias): (&[f32], &[f32]), head: &[f32]) -> Self {
        let (d, ours, theirs) = (split.width(), split.columns(false), split.columns(true));
        let own = Choice { columns: &ours, ..Choice::default() };
        let part = |of: &[f32], choice: Choice<'_>| choice.part(of, of.len() / d, |m| m.data.to_vec());
        let requests = Choice { columns: &theirs, ..Choice::default() };
        let (head_theirs, bias_theirs) = (part(head, requests), part(bias, requests));
        let (wide, tasks) = (bias_theirs.len(), head.len() / d);
        let mut whole = Buffer::any(split.request_rows() * tasks * d);
        let mut constant = Vec::with_capacity(split.request_rows() * tasks);
        for (r, whole) in whole.chunks_exact_mut(tasks * d).enumerate() {
            let u = &split.requests[r * wide..][..wide];
            for ((whole, v), v_u) in
                whole.chunks_exact_mut(d).zip(head.chunks_exact(d)).zip(head_theirs.chunks_exact(wide))
            {
                let y: Vec<f32> = v_u.iter().zip(u).map(|(v, u)| v * u).collect();
                constant.push(chunks::dot(&y, &bias_theirs));
                whole.copy_from_slice(v);
                let rows = theirs.iter().cloned().flatten();
                let rows: Vec<(f32, &[f32])> =
                    y.iter().copied().zip(rows.map(|u| &weight[u * d..][..d])).collect();
                add_rows(whole, &rows);
            }
        }
        Self { whole, constant, own: part(head, own), bias: part(bias, own) }
    }
}

/// Adds weighted rows, cut into stretches of columns so that threads share the work.
fn add_rows(sum: &mut [f32], rows: &[(f32, &[f32])]) {
    sum.par_chunks_mut(PART).enumerate().for_each(|(c, sum)| {
        vectorised!(rows.iter().for_each(|(y, row)| chunks::add_scaled(sum, *y, &row[c * PART..])));
    });
}

wide! {
    /// `out` `[n, T]` of rows whose requests are `map`: z `[n, C]` is x W_cᵀ, `first` `[n, C]` x0_c, `x` `[n, W]`.
    fn head_rows(out: &mut [f32], head: &Head, map: &[u32], z: &[f32], first: &[f32], x: &[f32]) {
        let (c, n) = (head.bias.len(), map.len());
        let (d, tasks) = (x.len() / n, out.len() / n);
        for (i, (out, r)) in out.chunks_exact_mut(tasks).zip(map).enumerate() {
            let (z, first, x) = (&z[i * c..][..c], &first[i * c..][..c], &x[i * d..][..d]);
            for (t, out) in out.iter_mut().enumerate() {
                let at = *r as usize * tasks + t;
                let own = weighed(&head.own[t * c..][..c], first, z, &head.bias);
                *out = own + head.constant[at] + chunks::dot(x, &head.whole[at * d..][..d]);
            }
        }
    }
}

/// Σ v a (z + b), with sixteen running sums.
#[inline]
fn weighed(v: &[f32], a: &[f32], z: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let whole = v.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let of = |x: &[f32]| <[f32; LANES]>::try_from(&x[at..at + LANES]).unwrap_or([0.0; LANES]);
        let (v, a, z, b) = (of(v), of(a), of(z), of(b));
        for i in 0..LANES {
            sums[i] += v[i] * a[i] * (z[i] + b[i]);
        }
    }
    let rest: f32 = (whole..v.len()).map(|i| v[i] * a[i] * (z[i] + b[i])).sum();
    sums.iter().sum::<f32>() + rest
}
