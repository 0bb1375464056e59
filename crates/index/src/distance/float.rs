#![allow(unsafe_code)]

use super::{LANES, widest};
use crate::block::prefetch;

widest! {
    /// The inner product of two vectors of one length. Rounding may differ between machines with and
    /// without FMA, never between two calls on one machine.
    pub fn dot(a: &[f32], b: &[f32]) -> f32, sum_f32
}

widest! {
    /// Inner products of `query` with rows of its length, chosen by number.
    pub(crate) fn dots_f32(query: &[f32], vectors: &[f32], rows: &[u32], out: &mut [f32]) -> (), each_f32
}

widest! {
    /// As [`dot`], of a vector with one of bf16.
    pub(crate) fn dot_bf16(a: &[f32], b: &[u16]) -> f32, sum_bf16
}

widest! {
    /// As [`dots_f32`], of rows of bf16.
    pub(crate) fn dots_bf16(query: &[f32], vectors: &[u16], rows: &[u32], out: &mut [f32]) -> (), each_bf16
}

widest! {
    /// The inner product of two vectors of bf16.
    pub(crate) fn pair_bf16(a: &[u16], b: &[u16]) -> f32, sum_pair_bf16
}

#[inline(always)]
fn each_f32(
    query: &[f32],
    vectors: &[f32],
    rows: &[u32],
    out: &mut [f32],
    fused: impl Fn(f32, f32, f32) -> f32,
) {
    let row = |row: u32| &vectors[row as usize * query.len()..][..query.len()];
    rows.iter().for_each(|&at| prefetch(row(at)));
    for (out, &at) in out.iter_mut().zip(rows) {
        *out = sum_f32(query, row(at), &fused);
    }
}

#[inline(always)]
fn each_bf16(
    query: &[f32],
    vectors: &[u16],
    rows: &[u32],
    out: &mut [f32],
    fused: impl Fn(f32, f32, f32) -> f32,
) {
    let row = |row: u32| &vectors[row as usize * query.len()..][..query.len()];
    rows.iter().for_each(|&at| prefetch(row(at)));
    for (out, &at) in out.iter_mut().zip(rows) {
        *out = sum_bf16(query, row(at), &fused);
    }
}

#[inline(always)]
fn sum_f32(a: &[f32], b: &[f32], fused: impl Fn(f32, f32, f32) -> f32) -> f32 {
    sum_lanes(a, b, |a| a, |b| b, fused)
}

#[inline(always)]
fn sum_bf16(a: &[f32], b: &[u16], fused: impl Fn(f32, f32, f32) -> f32) -> f32 {
    sum_lanes(a, b, |a| a, from_bf16, fused)
}

#[inline(always)]
fn sum_pair_bf16(a: &[u16], b: &[u16], fused: impl Fn(f32, f32, f32) -> f32) -> f32 {
    sum_lanes(a, b, from_bf16, from_bf16, fused)
}

/// Sums that run side by side, so that additions do not wait for one another.
#[inline(always)]
fn sum_lanes<A: Copy, B: Copy>(
    a: &[A],
    b: &[B],
    left: impl Fn(A) -> f32,
    right: impl Fn(B) -> f32,
    fused: impl Fn(f32, f32, f32) -> f32,
) -> f32 {
    let (a, a_end) = a.as_chunks::<LANES>();
    let (b, b_end) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = fused(left(a[lane]), right(b[lane]), sums[lane]);
        }
    }
    let end = a_end.iter().zip(b_end).fold(0.0, |sum, (&a, &b)| fused(left(a), right(b), sum));
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0] + end
}

/// The number whose upper half this is.
#[inline(always)]
pub(crate) fn from_bf16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// The nearest number that has zeros in its lower half, ties to even. It must be finite; what rounds beyond
/// the largest is the largest.
pub(crate) fn to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    let largest = 0x7f7f | bits >> 16 & 0x8000;
    (if rounded & 0x7f80 == 0x7f80 { largest } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|at| (at as f32 * step).sin()).collect()
    }

    fn plain(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    #[test]
    fn every_length_agrees_with_the_plain_sum() {
        for len in 0..70 {
            let (a, b) = (wave(len, 0.7), wave(len, 1.3));
            let portable = sum_f32(&a, &b, |a, b, sum| a * b + sum);
            assert!((f64::from(dot(&a, &b)) - plain(&a, &b)).abs() < 1e-5);
            assert!((f64::from(portable) - plain(&a, &b)).abs() < 1e-5);
            let rows: Vec<f32> = [a.clone(), b.clone()].concat();
            let mut out = [0.0; 2];
            dots_f32(&a, &rows, &[1, 0], &mut out);
            assert_eq!(out, [dot(&a, &b), dot(&a, &a)]);
        }
    }

    #[test]
    fn bf16_agrees_with_the_plain_sum_of_the_same_numbers() {
        for len in 0..70 {
            let (a, b) = (wave(len, 0.7), wave(len, 1.3));
            let [a16, b16] = [&a, &b].map(|v| v.iter().map(|&x| to_bf16(x)).collect::<Vec<_>>());
            let [a32, b32] = [&a16, &b16].map(|v| v.iter().map(|&x| from_bf16(x)).collect::<Vec<_>>());
            assert!((f64::from(dot_bf16(&a, &b16)) - plain(&a, &b32)).abs() < 1e-5);
            assert!((f64::from(pair_bf16(&a16, &b16)) - plain(&a32, &b32)).abs() < 1e-5);
            let mut out = [0.0; 2];
            dots_bf16(&a, &[a16.clone(), b16.clone()].concat(), &[1, 0], &mut out);
            assert_eq!(out, [dot_bf16(&a, &b16), dot_bf16(&a, &a16)]);
        }
    }

    #[test]
    fn bf16_rounds_to_the_nearest_and_never_to_infinity() {
        for number in [0.0, -0.0, 1.0, -1.5, 3.0e38, f32::MAX, f32::MIN, 1e-40, 0.1, -7.77e-9] {
            let back = from_bf16(to_bf16(number));
            assert!(
                back.is_finite() && (back - number).abs() <= number.abs() / 128.0 + 1e-40,
                "{number} {back}"
            );
        }
        // 1 + 1/256 lies in the middle between 1 and 1 + 1/128: ties go to the even one.
        assert_eq!(from_bf16(to_bf16(1.0 + 1.0 / 256.0)), 1.0);
        assert_eq!(from_bf16(to_bf16(1.0 + 3.0 / 256.0)), 1.0 + 2.0 / 128.0);
    }
}
