//! Self-attention within each row of a batch, as one operation: for few vectors a row, such as its fields.

#![allow(unsafe_code)]

use super::small::{Left, product};
use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Shape, Tensor, own};

/// Sizes of one row's attention.
#[derive(Clone, Copy)]
struct Heads {
    /// F: vectors a row.
    fields: usize,
    heads: usize,
    /// A: width of a head.
    width: usize,
    /// Factor on the scores.
    scale: f32,
    /// Whether a fourth block of columns is added to the result.
    residual: bool,
}

impl Tensor {
    /// Queries, keys, values and, with `residual`, what is added to the result, side by side: `[N, F, 3·H·A]` or `[N, F, 4·H·A]`
    /// → `[N, F, H·A]`. In each row and head h, with that head's columns `h·A .. (h+1)·A` of each block:
    /// max(Σ_j softmax_j(scale ⟨q_i, k_j⟩) v_j + r_i, 0) (Vaswani et al. 2017; Song et al., CIKM 2019, eq. 5 to 8).
    ///
    /// # Panics
    /// If there are not three axes, or the heads and blocks do not divide the width.
    pub fn attend_relu(&self, heads: usize, scale: f32, residual: bool) -> Tensor {
        let &[n, fields, joined] = self.shape() else { panic!("attention over {:?}", self.shape) };
        let blocks = if residual { 4 } else { 3 };
        assert!(
            heads > 0 && joined % (blocks * heads) == 0,
            "{heads} heads of {blocks} blocks in {joined} columns"
        );
        let sizes = Heads { fields, heads, width: joined / blocks / heads, scale, residual };
        let (row, weights_row) = (fields * sizes.total(), sizes.weights_row());
        let (mut out, mut weights) = (Buffer::any(n * row), Buffer::any(n * weights_row));
        let z = self.data();
        chunks::rows2((&mut out, row), (&mut weights, weights_row), |from, out, weights| {
            forward(sizes, &z[from * fields * joined..], weights, out);
        });
        let (z, out) = (self.clone(), own(out));
        let y = out.clone();
        self.output(Shape::new(&[n, fields, sizes.total()]), out, z.tracked(), move |mut g, grads| {
            let mut slopes = Buffer::any(z.len());
            let (z, y, node) = (z.data(), &y[..], z.node);
            chunks::rows2((&mut slopes, fields * joined), (&mut g, row), |from, slopes, g| {
                let (z, weights) = (&z[from * fields * joined..], &weights[from * weights_row..]);
                backward(sizes, (z, weights, &y[from * row..]), g, slopes);
            });
            grads.add(node, slopes);
        })
    }
}

/// Numbers per vector register, to a multiple of which rows of scores are filled up.
const LANES: usize = 8;

impl Heads {
    /// H·A.
    fn total(self) -> usize {
        self.heads * self.width
    }

    /// Columns of all blocks.
    fn joined(self) -> usize {
        self.total() * if self.residual { 4 } else { 3 }
    }

    /// F, filled up.
    fn padded(self) -> usize {
        self.fields.next_multiple_of(LANES)
    }

    /// Attention weights of a row: `[H, F, padded F]`.
    fn weights_row(self) -> usize {
        self.heads * self.fields * self.padded()
    }

    /// The columns that begin at `from` in each of F vectors, `[F, A]`, as `[A, padded F]`; what fills up stays as it is.
    #[inline(always)]
    fn turn(self, vectors: &[f32], from: usize, turned: &mut [f32]) {
        let padded = self.padded();
        for (j, vector) in vectors.chunks_exact(self.joined()).take(self.fields).enumerate() {
            for (a, v) in vector[from..from + self.width].iter().enumerate() {
                turned[a * padded + j] = *v;
            }
        }
    }

    /// Fills weights and outputs of as many rows as `out` holds.
    #[inline(always)]
    fn forward<const FMA: bool>(self, z: &[f32], weights: &mut [f32], out: &mut [f32]) {
        let (f, w, total, joined, padded) =
            (self.fields, self.width, self.total(), self.joined(), self.padded());
        let mut keys = vec![0.0; w * padded];
        let rows = out.chunks_exact_mut(f * total).zip(weights.chunks_exact_mut(self.weights_row()));
        for ((out, weights), z) in rows.zip(z.chunks_exact(f * joined)) {
            for (h, weights) in weights.chunks_exact_mut(f * padded).enumerate() {
                let at = h * w;
                self.turn(z, total + at, &mut keys);
                let queries = Left { data: &z[at..], row_step: joined, step: 1 };
                product::<FMA>((weights, padded), queries, (&keys, padded), (f, padded, w));
                weights.chunks_exact_mut(padded).for_each(|scores| softmax(scores, f, self.scale));
                let shares = Left { data: weights, row_step: padded, step: 1 };
                product::<FMA>((&mut out[at..], total), shares, (&z[2 * total + at..], joined), (f, w, f));
            }
            if self.residual {
                for (out, z) in out.chunks_exact_mut(total).zip(z.chunks_exact(joined)) {
                    chunks::add(out, &z[3 * total..]);
                }
            }
            out.iter_mut().for_each(|v| *v = v.max(0.0));
        }
    }

    /// Fills the slopes of as many rows as `g` holds; `g` becomes the slope before the cut.
    #[inline(always)]
    fn backward<const FMA: bool>(self, (z, weights, y): Kept<'_>, g: &mut [f32], slopes: &mut [f32]) {
        let (f, w, total, joined, padded) =
            (self.fields, self.width, self.total(), self.joined(), self.padded());
        let (mut values, mut scores) = (vec![0.0; w * padded], vec![0.0; f * padded]);
        let kept = z.chunks_exact(f * joined).zip(weights.chunks_exact(self.weights_row()));
        let rows = g.chunks_exact_mut(f * total).zip(slopes.chunks_exact_mut(f * joined));
        for (((g, slopes), (z, weights)), y) in rows.zip(kept).zip(y.chunks_exact(f * total)) {
            g.iter_mut().zip(y).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
            for (h, weights) in weights.chunks_exact(f * padded).enumerate() {
                let at = h * w;
                let across = Left { data: weights, row_step: 1, step: padded };
                product::<FMA>((&mut slopes[2 * total + at..], joined), across, (&g[at..], total), (f, w, f));
                self.turn(z, 2 * total + at, &mut values);
                let along = Left { data: &g[at..], row_step: total, step: 1 };
                product::<FMA>((&mut scores, padded), along, (&values, padded), (f, padded, w));
                for (slope, share) in scores.chunks_exact_mut(padded).zip(weights.chunks_exact(padded)) {
                    let mean: f32 = slope[..f].iter().zip(share).map(|(s, w)| s * w).sum();
                    slope.iter_mut().zip(share).for_each(|(s, w)| *s = self.scale * w * (*s - mean));
                }
                let (queries, keys) = (&z[at..], &z[total + at..]);
                let along = Left { data: &scores, row_step: padded, step: 1 };
                product::<FMA>((&mut slopes[at..], joined), along, (keys, joined), (f, w, f));
                let across = Left { data: &scores, row_step: 1, step: padded };
                product::<FMA>((&mut slopes[total + at..], joined), across, (queries, joined), (f, w, f));
            }
            if self.residual {
                for (slopes, g) in slopes.chunks_exact_mut(joined).zip(g.chunks_exact(total)) {
                    slopes[3 * total..].copy_from_slice(g);
                }
            }
        }
    }
}

/// What the forward pass left: its input, the weights and its output.
type Kept<'a> = (&'a [f32], &'a [f32], &'a [f32]);

/// Softmax of the first `n` scores times `scale`; the others become something finite.
#[inline(always)]
fn softmax(scores: &mut [f32], n: usize, scale: f32) {
    scores.iter_mut().for_each(|s| *s *= scale);
    let most = scores[..n].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|s| *s = exp(*s - most));
    let part = 1.0 / scores[..n].iter().sum::<f32>();
    scores.iter_mut().for_each(|s| *s *= part);
}

/// e^x for x ≤ 0 within 2 units in the last place, below −86 as at −86 (4.5e-38); NaN stays NaN. By 2ⁿ · e^r with |r| ≤ ½ ln 2
/// and the polynomial of Cephes' `expf` (Moshier 1992), without a branch, so that the compiler may use vector registers.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -86.0 { -86.0 } else { x };
    // What fills rows up may be above the greatest score.
    let x = if x > 86.0 { 86.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.0;
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(p.to_bits()))
}

#[cfg(target_arch = "x86_64")]
fn fused() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// [`Heads::forward`] with fused multiply-adds where the processor has them.
fn forward(heads: Heads, z: &[f32], weights: &mut [f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn on_fma(heads: Heads, z: &[f32], weights: &mut [f32], out: &mut [f32]) {
            heads.forward::<true>(z, weights, out);
        }
        if fused() {
            // SAFETY: the processor was asked.
            return unsafe { on_fma(heads, z, weights, out) };
        }
    }
    heads.forward::<false>(z, weights, out);
}

/// [`Heads::backward`] with fused multiply-adds where the processor has them.
fn backward(heads: Heads, kept: Kept<'_>, g: &mut [f32], slopes: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn on_fma(heads: Heads, kept: Kept<'_>, g: &mut [f32], slopes: &mut [f32]) {
            heads.backward::<true>(kept, g, slopes);
        }
        if fused() {
            // SAFETY: the processor was asked.
            return unsafe { on_fma(heads, kept, g, slopes) };
        }
    }
    heads.backward::<false>(kept, g, slopes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_e_are_right_to_two_units_in_the_last_place() {
        for i in 0..=860_000 {
            let x = -(i as f32) * 1e-4;
            let (found, wanted) = (exp(x), f64::from(x).exp());
            assert!((f64::from(found) - wanted).abs() <= wanted * 2.4e-7, "{x}: {found}, not {wanted}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!((exp(0.0), exp(-1e9)), (1.0, exp(-86.0)));
    }

    #[test]
    fn both_forms_of_the_kernel_agree() {
        let heads = Heads { fields: 5, heads: 2, width: 9, scale: 0.4, residual: true };
        let (f, total, joined) = (5, heads.total(), heads.joined());
        let number = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
        let z: Vec<f32> = (0..2 * f * joined).map(number).collect();
        let run = |fma: bool| {
            let (mut weights, mut out) = (vec![0.0; 2 * heads.weights_row()], vec![0.0; 2 * f * total]);
            let mut g: Vec<f32> = (0..out.len()).map(|i| number(i + 7)).collect();
            let mut slopes = vec![9.0; z.len()];
            match fma {
                true => heads.forward::<true>(&z, &mut weights, &mut out),
                false => heads.forward::<false>(&z, &mut weights, &mut out),
            }
            match fma {
                true => heads.backward::<true>((&z, &weights, &out), &mut g, &mut slopes),
                false => heads.backward::<false>((&z, &weights, &out), &mut g, &mut slopes),
            }
            [out, slopes].concat()
        };
        for (a, b) in run(true).iter().zip(&run(false)) {
            assert!((a - b).abs() < 1e-5, "{a} against {b}");
        }
    }
}
