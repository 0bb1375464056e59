#![allow(unsafe_code)]

use super::LANES;
use crate::block::prefetch;

/// The largest whole number for a query of so many numbers, so that a sum of its products with int8 fits 32
/// bits whatever the values.
pub(crate) fn most(lanes: usize) -> i32 {
    (i32::MAX / (128 * lanes.max(1) as i32)).min(32_767)
}

/// The inner product of whole numbers of one length; `|a|` must not exceed [`most`].
pub(crate) fn dot_int8(a: &[i16], b: &[i8]) -> i32 {
    #[cfg(target_arch = "x86_64")]
    if a.len() == b.len() && a.len().is_multiple_of(LANES) && super::wide() != super::Wide::None {
        // SAFETY: AVX2 was found on this machine.
        return unsafe { avx2::dot(a, b) };
    }
    plain(a, b)
}

/// Inner products of `query` with rows of its length, chosen by number, each times its own scale and `scale`.
pub(crate) fn dots_int8(
    (query, scale): (&[i16], f32),
    (vectors, scales): (&[i8], &[f32]),
    rows: &[u32],
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if query.len().is_multiple_of(LANES) {
        match super::wide() {
            // SAFETY: the features were found on this machine.
            super::Wide::Avx512 => {
                return unsafe { avx512::dots((query, scale), (vectors, scales), rows, out) };
            }
            // SAFETY: as above.
            super::Wide::Avx2 => return unsafe { avx2::dots((query, scale), (vectors, scales), rows, out) },
            super::Wide::None => {}
        }
    }
    each((query, scale), (vectors, scales), rows, out, plain);
}

/// The inner product of two rows of one length.
pub(crate) fn pair_int8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[inline(always)]
fn each(
    (query, scale): (&[i16], f32),
    (vectors, scales): (&[i8], &[f32]),
    rows: &[u32],
    out: &mut [f32],
    dot: impl Fn(&[i16], &[i8]) -> i32,
) {
    let row = |row: u32| &vectors[row as usize * query.len()..][..query.len()];
    for &at in rows {
        prefetch(row(at));
        prefetch(&scales[at as usize..][..1]);
    }
    for (out, &at) in out.iter_mut().zip(rows) {
        *out = dot(query, row(at)) as f32 * (scales[at as usize] * scale);
    }
}

#[inline(always)]
fn plain(a: &[i16], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{LANES, each};
    use std::arch::x86_64::*;

    /// Lengths must be equal multiples of [`LANES`].
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn dot(a: &[i16], b: &[i8]) -> i32 {
        let mut sums = _mm256_setzero_si256();
        for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
            // SAFETY: 32 and 16 bytes are there, and loads need no alignment.
            let (a, b) =
                unsafe { (_mm256_loadu_si256(a.as_ptr().cast()), _mm_loadu_si128(b.as_ptr().cast())) };
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(a, _mm256_cvtepi8_epi16(b)));
        }
        sum(sums)
    }

    /// The sum of eight lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn sum(lanes: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b01>(two)))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn dots(query: (&[i16], f32), vectors: (&[i8], &[f32]), rows: &[u32], out: &mut [f32]) {
        each(query, vectors, rows, out, |a, b| dot(a, b));
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{avx2, each};
    use std::arch::x86_64::*;

    /// As [`avx2::dot`], 32 numbers at a time.
    #[target_feature(enable = "avx512f,avx512bw,avx2")]
    #[inline]
    pub(super) fn dot(a: &[i16], b: &[i8]) -> i32 {
        let mut sums = _mm512_setzero_si512();
        let ((a, a_end), (b, b_end)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
        for (a, b) in a.iter().zip(b) {
            // SAFETY: 64 and 32 bytes are there, and loads need no alignment.
            let (a, b) =
                unsafe { (_mm512_loadu_si512(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())) };
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(a, _mm512_cvtepi8_epi16(b)));
        }
        _mm512_reduce_add_epi32(sums) + avx2::dot(a_end, b_end)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx2")]
    pub(super) fn dots(query: (&[i16], f32), vectors: (&[i8], &[f32]), rows: &[u32], out: &mut [f32]) {
        each(query, vectors, rows, out, |a, b| dot(a, b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_gives_the_exact_sum_even_of_the_largest_numbers() {
        for lanes in [16, 32, 48, 64, 112, 65_536] {
            let most = most(lanes);
            for flip in [1, 3, 7] {
                let sign = |at: usize| if at.is_multiple_of(flip) { -1 } else { 1 };
                let a: Vec<i16> =
                    (0..lanes).map(|at| (sign(at) * (most - at as i32 % most / 2)) as i16).collect();
                let b: Vec<i8> = (0..lanes).map(|at| (sign(at) * (127 - at as i32 % 3)) as i8).collect();
                let exact: i64 = a.iter().zip(&b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
                assert_eq!(i64::from(dot_int8(&a, &b)), exact);
                assert_eq!(i64::from(plain(&a, &b)), exact);
                let mut out = [0.0; 2];
                let rows = [b.clone(), b.iter().map(|b| b / 2).collect()].concat();
                dots_int8((&a, 0.5), (&rows, &[2.0, 3.0]), &[1, 0], &mut out);
                assert_eq!(out, [plain(&a, &rows[lanes..]) as f32 * 1.5, plain(&a, &b) as f32]);
                let pairs: i32 = b.iter().map(|&b| i32::from(b) * i32::from(b)).sum();
                assert_eq!(pair_int8(&b, &b), pairs);
            }
        }
    }
}
