//! Inner products, the innermost loop of every search.
#![allow(unsafe_code)]

/// Sums that run side by side, so that additions do not wait for one another.
const LANES: usize = 16;

/// The inner product of two vectors of one length. Rounding may differ between machines with and
/// without FMA, never between two calls on one machine.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the features were found on this machine.
        return unsafe { dot_fma(a, b) };
    }
    sum_lanes(a, b, |a, b, sum| a * b + sum)
}

/// Inner products of `query` with rows of `dim` floats of `vectors`, chosen by number.
#[inline]
pub(crate) fn dots(query: &[f32], vectors: &[f32], rows: &[u32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the features were found on this machine.
        return unsafe { dots_fma(query, vectors, rows, out) };
    }
    dots_by(query, vectors, rows, out, |a, b| sum_lanes(a, b, |a, b, sum| a * b + sum));
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn has_fma() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn dot_fma(a: &[f32], b: &[f32]) -> f32 {
    sum_lanes(a, b, f32::mul_add)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dots_fma(query: &[f32], vectors: &[f32], rows: &[u32], out: &mut [f32]) {
    dots_by(query, vectors, rows, out, |a, b| sum_lanes(a, b, f32::mul_add));
}

#[inline(always)]
fn dots_by(
    query: &[f32],
    vectors: &[f32],
    rows: &[u32],
    out: &mut [f32],
    dot: impl Fn(&[f32], &[f32]) -> f32,
) {
    let dim = query.len();
    for &row in rows {
        prefetch(&vectors[row as usize * dim..][..dim]);
    }
    for (out, &row) in out.iter_mut().zip(rows) {
        *out = dot(query, &vectors[row as usize * dim..][..dim]);
    }
}

#[inline(always)]
fn sum_lanes(a: &[f32], b: &[f32], fused: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (a, a_end) = a.as_chunks::<LANES>();
    let (b, b_end) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = fused(a[lane], b[lane], sums[lane]);
        }
    }
    let end = a_end.iter().zip(b_end).fold(0.0, |sum, (&a, &b)| fused(a, b, sum));
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0] + end
}

/// Asks for the cache lines of `slice`; a hint without any other effect.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = slice.as_ptr().cast::<i8>();
        for at in (0..size_of_val(slice).min(512)).step_by(64) {
            // SAFETY: the address lies inside `slice`, and a prefetch neither reads nor faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_the_plain_sum() {
        for len in 0..70 {
            let a: Vec<f32> = (0..len).map(|at| (at as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..len).map(|at| (at as f32 * 1.3).cos()).collect();
            let plain: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let portable = sum_lanes(&a, &b, |a, b, sum| a * b + sum);
            assert!((f64::from(dot(&a, &b)) - plain).abs() < 1e-5);
            assert!((f64::from(portable) - plain).abs() < 1e-5);
            let rows: Vec<f32> = [a.clone(), b.clone()].concat();
            let mut out = [0.0; 2];
            dots(&a, &rows, &[1, 0], &mut out);
            assert_eq!(out, [dot(&a, &b), dot(&a, &a)]);
        }
    }
}
