//! Products in fixed point, for inference only: integers of 16 bits whose sums of 32 bits cannot overflow.
//!
//! A row a of k values becomes round(a / s) with s = max|a| / q, and so does each column of the right matrix; the largest whole
//! number is q = ⌊√((2³¹ − 1) / k)⌋, so that k products of two such numbers stay below 2³¹ whatever they are (k = 624: q = 1855,
//! 11 bits and a sign). The sum times both scales is the result: each factor is off by at most half of its scale. One
//! instruction (`vpmaddwd`) multiplies and adds 16 pairs, twice what one of `f32` does; AVX-512 VNNI's `vpdpwssd` adds them to the
//! sums besides.
//!
//! Sums of integers do not depend on their order: all processors give the same bits, for one row or many.

#![allow(unsafe_code)]

use crate::chunks::{vectorised, wide};
use crate::product::Mat;
use crate::tiles::block_of;
use rayon::prelude::*;

/// Columns of a panel.
const COLS: usize = 16;
/// Numbers of a panel to ask for ahead of their use: eight lines of the cache.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 256;
/// Multiply-adds below which a product stays on the calling thread.
const PARALLEL_FROM: usize = 1 << 20;

/// Whether a right matrix `[k, n]` is worth it.
pub(crate) fn serve(n: usize, k: usize) -> bool {
    n >= COLS && k >= COLS
}

/// q: the largest whole number that stands for a value in a sum of `k` products.
fn levels(k: usize) -> f32 {
    let most = i32::MAX as usize / k.max(1);
    most.isqrt().min(i16::MAX as usize) as f32
}

/// The right matrix of products, as whole numbers.
#[derive(Debug)]
pub(crate) struct FixedPanels {
    /// `[⌈n/16⌉, ⌈k/2⌉, 16, 2]`, filled up with zeros: pairs along the inner axis lie side by side.
    values: Vec<i16>,
    /// `[n]`: what a column's numbers are multiplied by.
    scales: Vec<f32>,
    k: usize,
}

impl FixedPanels {
    /// Of the transpose of a weight `[n, k]`, row-major.
    pub(crate) fn of_transpose(weight: Mat<'_>) -> Self {
        let (n, k, pairs) = (weight.rows, weight.cols, weight.cols.div_ceil(2));
        let mut values = vec![0; n.next_multiple_of(COLS) * 2 * pairs];
        let (mut whole, mut scales, levels) = (vec![0; 2 * pairs], vec![0.0; n], levels(k));
        for (j, scale) in scales.iter_mut().enumerate() {
            let row = &weight.data[j * weight.row_step..][..k];
            quantise(row, levels, &mut whole, scale);
            let panel = &mut values[j / COLS * pairs * 2 * COLS..][..pairs * 2 * COLS];
            for (pair, to) in whole.chunks_exact(2).zip(panel.chunks_exact_mut(2 * COLS)) {
                to[j % COLS * 2..][..2].copy_from_slice(pair);
            }
        }
        Self { values, scales, k }
    }

    /// `out = a b`, row-major `[a.rows, n]`, then `finish(first row, rows)` for each block of rows while it is in the cache. A row
    /// with a value that is not finite gives NaN.
    ///
    /// # Panics
    /// If the inner sizes differ, or the rows of `a` are not contiguous.
    pub(crate) fn product_then(
        &self,
        out: &mut [f32],
        a: Mat<'_>,
        finish: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (m, n) = (a.rows, self.scales.len());
        assert!(
            a.cols == self.k && a.col_step == 1,
            "a row of {} values meets {} in a product",
            a.cols,
            self.k
        );
        if m == 0 {
            return;
        }
        let parallel = m * n * self.k >= PARALLEL_FROM;
        let means = Means::here();
        let block = block_of(m, if parallel { rayon::current_num_threads() } else { 1 }, means.rows());
        let rows = |(c, rows): (usize, &mut [f32])| {
            let left = Left::of(a, c * block, rows.len() / n);
            self.block(rows, &left, means);
            vectorised!(finish(c * block, rows));
        };
        match parallel {
            true => out[..m * n].par_chunks_mut(block * n).enumerate().for_each(rows),
            false => out[..m * n].chunks_mut(block * n).enumerate().for_each(rows),
        }
    }

    /// All columns of some rows.
    fn block(&self, out: &mut [f32], left: &Left, means: Means) {
        let (n, height, width) = (self.scales.len(), means.rows(), means.panels() * COLS);
        for (p, panels) in self.values.chunks(left.step * width).enumerate() {
            let scales = &self.scales[p * width..n.min((p + 1) * width)];
            for first in (0..left.scales.len()).step_by(height) {
                let last = left.scales.len().min(first + height);
                let tile = Tile {
                    a: &left.values[first * left.step..last * left.step],
                    step: left.step,
                    panels,
                    scales: (&left.scales[first..last], scales),
                };
                tile.run(&mut out[first * n + p * width..], n, means);
            }
        }
    }
}

/// How tiles are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// By what every processor has.
    Plain,
    /// In registers of 16 numbers.
    Avx2,
    /// In registers of 32 numbers, products and sums at once.
    Vnni,
}

impl Means {
    /// The quickest that this processor has.
    fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512f") {
                return Self::Vnni;
            }
            if is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        Self::Plain
    }

    /// Rows of a tile.
    fn rows(self) -> usize {
        if self == Self::Vnni { 12 } else { 6 }
    }

    /// Panels of a tile.
    fn panels(self) -> usize {
        if self == Self::Vnni { 2 } else { 1 }
    }
}

/// Rows of the left matrix as whole numbers.
struct Left {
    /// `[rows, step]`.
    values: Vec<i16>,
    scales: Vec<f32>,
    /// k, filled up to pairs.
    step: usize,
}

impl Left {
    /// Rows `first .. first + count`.
    fn of(a: Mat<'_>, first: usize, count: usize) -> Self {
        let (k, step) = (a.cols, a.cols.next_multiple_of(2));
        let (mut values, mut scales) = (vec![0; count * step], vec![0.0; count]);
        let levels = levels(k);
        for ((to, scale), i) in values.chunks_exact_mut(step).zip(&mut scales).zip(first..) {
            quantise(&a.data[i * a.row_step..][..k], levels, to, scale);
        }
        Self { values, scales, step }
    }
}

wide! {
    /// round(x / scale) with ties to even, where scale = max|x| / levels; NaN for the scale of a row that is not finite, 0 for one of
    /// zeros. `to` may be longer than `x`.
    fn quantise(x: &[f32], levels: f32, to: &mut [i16], scale: &mut f32) {
        // Compared as integers, NaN is above infinity, and that above all numbers.
        let most = x.iter().fold(0, |most: u32, v| most.max(v.to_bits() & 0x7fff_ffff));
        let most = f32::from_bits(most);
        let by = levels / most;
        if !most.is_finite() || !by.is_finite() {
            to.fill(0);
            *scale = if most.is_finite() { 0.0 } else { f32::NAN };
            return;
        }
        *scale = most / levels;
        // 1.5 · 2²³: added to a number that is much smaller, it leaves the nearest whole one in the low bits.
        const SHIFT: f32 = 12_582_912.0;
        for (to, v) in to.iter_mut().zip(x) {
            *to = (v * by + SHIFT).to_bits() as i16;
        }
    }
}

/// The sums of some rows and columns.
struct Tile<'a> {
    /// Rows of the left matrix, `step` numbers each.
    a: &'a [i16],
    step: usize,
    /// `[1 or 2, step / 2, 16, 2]`.
    panels: &'a [i16],
    /// Of the rows, and of the columns.
    scales: (&'a [f32], &'a [f32]),
}

impl Tile<'_> {
    /// Writes to rows of `n` values.
    fn run(&self, out: &mut [f32], n: usize, means: Means) {
        let (rows, cols) = self.scales;
        assert!(self.a.len() == rows.len() * self.step);
        assert!(self.panels.len() == self.step * cols.len().next_multiple_of(COLS));
        assert!((1..=means.rows()).contains(&rows.len()));
        assert!((1..=means.panels() * COLS).contains(&cols.len()));
        assert!(out.len() >= (rows.len() - 1) * n + cols.len());
        // SAFETY: the processor was asked, the sizes are asserted above.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match (means, cols.len(), rows.len()) {
                (Means::Plain, ..) => (),
                (Means::Avx2, ..) => return self.run_avx2(out.as_mut_ptr(), n),
                (Means::Vnni, 17.., 7..) => return self.run_vnni::<12, 2>(out.as_mut_ptr(), n),
                (Means::Vnni, 17.., _) => return self.run_vnni::<6, 2>(out.as_mut_ptr(), n),
                (Means::Vnni, _, 7..) => return self.run_vnni::<12, 1>(out.as_mut_ptr(), n),
                (Means::Vnni, ..) => return self.run_vnni::<6, 1>(out.as_mut_ptr(), n),
            }
        }
        self.run_anywhere(out, n);
    }

    /// What [`Tile::run_avx2`] does, on any processor; one panel.
    fn run_anywhere(&self, out: &mut [f32], n: usize) {
        let (rows, cols) = self.scales;
        for (i, (a, row)) in self.a.chunks_exact(self.step).zip(rows).enumerate() {
            let mut sums = [0i32; COLS];
            for (a, b) in a.chunks_exact(2).zip(self.panels.chunks_exact(2 * COLS)) {
                for (sum, b) in sums.iter_mut().zip(b.chunks_exact(2)) {
                    *sum += i32::from(a[0]) * i32::from(b[0]) + i32::from(a[1]) * i32::from(b[1]);
                }
            }
            for ((out, column), sum) in out[i * n..].iter_mut().zip(cols).zip(sums) {
                *out = sum as f32 * (row * column);
            }
        }
    }

    /// Up to `R` rows and `V` panels.
    ///
    /// # Safety
    /// AVX-512F and VNNI; `a` holds one to `R` rows of `step` numbers, an even one, `panels` `step · 16` for each; `out` is writable at
    /// `i · n + j` for all rows i and columns j that have a scale.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn run_vnni<const R: usize, const V: usize>(&self, out: *mut f32, n: usize) {
        use std::arch::x86_64::{
            __m512i, _mm512_cvtepi32_ps, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_mask_storeu_ps,
            _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
        };
        let (row_scales, col_scales) = self.scales;
        let last = row_scales.len() - 1;
        // SAFETY: the caller vouches for the sizes; missing rows repeat the last one, missing columns are masked.
        unsafe {
            let rows: [*const i16; R] = std::array::from_fn(|i| self.a.as_ptr().add(i.min(last) * self.step));
            let mut sums = [[_mm512_setzero_si512(); V]; R];
            let (mut b, panel) = (self.panels.as_ptr(), self.step * COLS);
            for at in (0..self.step).step_by(2) {
                let right: [__m512i; V] =
                    std::array::from_fn(|v| _mm512_loadu_si512(b.add(panel * v).cast()));
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let left = _mm512_set1_epi32(row.add(at).cast::<i32>().read_unaligned());
                    for v in 0..V {
                        sums[v] = _mm512_dpwssd_epi32(sums[v], left, right[v]);
                    }
                }
                b = b.add(2 * COLS);
            }
            for v in 0..V {
                let mask = u16::MAX >> (COLS - (col_scales.len() - v * COLS).min(COLS));
                let scales = _mm512_maskz_loadu_ps(mask, col_scales.as_ptr().add(v * COLS));
                for (i, row) in row_scales.iter().enumerate() {
                    let scale = _mm512_mul_ps(_mm512_set1_ps(*row), scales);
                    let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[i][v]), scale);
                    _mm512_mask_storeu_ps(out.add(i * n + v * COLS), mask, sum);
                }
            }
        }
    }

    /// # Safety
    /// AVX2; `a` holds one to six rows of `step` numbers, an even one, `panels` `step · 16`; `out` is writable at `i · n + j` for all
    /// rows i and columns j that have a scale.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn run_avx2(&self, out: *mut f32, n: usize) {
        const ROWS: usize = 6;
        use std::arch::x86_64::{
            __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
            _mm256_set1_epi32, _mm256_setzero_si256,
        };
        let last = self.scales.0.len() - 1;
        // SAFETY: the caller vouches for the sizes; missing rows repeat the last one.
        unsafe {
            let rows: [*const i16; ROWS] =
                std::array::from_fn(|i| self.a.as_ptr().add(i.min(last) * self.step));
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            let mut b = self.panels.as_ptr();
            for at in (0..self.step).step_by(2) {
                // A hint, which may point beyond the end.
                _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD).cast());
                let right: [__m256i; 2] = std::array::from_fn(|v| _mm256_loadu_si256(b.add(COLS * v).cast()));
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let left = _mm256_set1_epi32(row.add(at).cast::<i32>().read_unaligned());
                    for v in 0..2 {
                        sums[v] = _mm256_add_epi32(sums[v], _mm256_madd_epi16(left, right[v]));
                    }
                }
                b = b.add(2 * COLS);
            }
            self.store(&sums, out, n);
        }
    }

    /// Writes the sums, scaled.
    ///
    /// # Safety
    /// As [`Tile::run_avx2`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn store(&self, sums: &[[std::arch::x86_64::__m256i; 2]], out: *mut f32, n: usize) {
        use std::arch::x86_64::{
            _mm256_cvtepi32_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps,
        };
        let (rows, cols) = self.scales;
        let mut columns = [0.0f32; COLS];
        columns[..cols.len()].copy_from_slice(cols);
        // SAFETY: whole rows are 16 values wide; others go by way of an array.
        unsafe {
            for (i, (sums, row)) in sums.iter().zip(rows).enumerate() {
                let mut narrow = [0.0f32; COLS];
                let whole = cols.len() == COLS;
                let to = if whole { out.add(i * n) } else { narrow.as_mut_ptr() };
                for (v, &sum) in sums.iter().enumerate() {
                    let scale =
                        _mm256_mul_ps(_mm256_set1_ps(*row), _mm256_loadu_ps(columns.as_ptr().add(8 * v)));
                    _mm256_storeu_ps(to.add(8 * v), _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale));
                }
                if !whole {
                    std::ptr::copy_nonoverlapping(narrow.as_ptr(), out.add(i * n), cols.len());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| (((i + seed) * 7919 + 13) % 1009) as f32 / 504.0 - 1.0;
        (0..count).map(number).collect()
    }

    #[test]
    fn by_whatever_means_the_bits_are_the_same_for_one_row_or_many() {
        for (m, n, k) in [(1, 16, 16), (7, 33, 45), (17, 50, 20), (100, 40, 624), (500, 64, 64)] {
            let (x, w) = (numbers(m * k, 0), numbers(n * k, 3));
            let panels = FixedPanels::of_transpose(Mat::new(&w, n, k));
            let left = Left::of(Mat::new(&x, m, k), 0, m);
            let (mut fast, mut plain, mut whole) = (vec![1.0; m * n], vec![2.0; m * n], vec![3.0; m * n]);
            panels.block(&mut fast, &left, Means::here());
            panels.block(&mut plain, &left, Means::Plain);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                let mut narrower = vec![5.0; m * n];
                panels.block(&mut narrower, &left, Means::Avx2);
                assert_eq!(narrower, plain, "{m} x {n} x {k}");
            }
            panels.product_then(&mut whole, Mat::new(&x, m, k), |_, _| ());
            assert_eq!(fast, plain, "{m} x {n} x {k}");
            assert_eq!(fast, whole, "{m} x {n} x {k}");
            let mut one = vec![4.0; n];
            panels.product_then(&mut one, Mat::new(&x[(m - 1) * k..], 1, k), |_, _| ());
            assert_eq!(one, fast[(m - 1) * n..]);
        }
    }

    #[test]
    fn results_are_within_half_a_step_of_each_factor() {
        let (m, n, k) = (20, 24, 624);
        let (x, w) = (numbers(m * k, 5), numbers(n * k, 11));
        let mut out = vec![0.0; m * n];
        FixedPanels::of_transpose(Mat::new(&w, n, k)).product_then(&mut out, Mat::new(&x, m, k), |_, _| ());
        let most = |row: &[f32]| row.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        for i in 0..m {
            for j in 0..n {
                let (a, b) = (&x[i * k..][..k], &w[j * k..][..k]);
                let (ha, hb) = (0.5 * most(a) / levels(k), 0.5 * most(b) / levels(k));
                let exact: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let bound: f32 = a.iter().zip(b).map(|(a, b)| a.abs() * hb + b.abs() * ha + ha * hb).sum();
                let off = (f64::from(out[i * n + j]) - exact).abs();
                assert!(off <= 1.001 * f64::from(bound) && off > 0.0, "{off} of at most {bound}");
            }
        }
    }

    #[test]
    fn the_largest_sums_there_can_be_do_not_overflow() {
        for k in [16, 17, 304, 400, 624, 4096, 100_000] {
            let q = levels(k) as i64;
            assert!(k as i64 * q * q <= i64::from(i32::MAX), "{k}");
            let next = (q + 1) * (q + 1) * k as i64;
            assert!(next > i64::from(i32::MAX) || q == i64::from(i16::MAX), "{k}: {q} could be more");
            let (x, w) = (vec![-3.0; 6 * k], vec![-0.5; 16 * k]);
            let mut out = vec![0.0; 6 * 16];
            FixedPanels::of_transpose(Mat::new(&w, 16, k)).product_then(
                &mut out,
                Mat::new(&x, 6, k),
                |_, _| (),
            );
            assert!(out.iter().all(|v| (v / (1.5 * k as f32) - 1.0).abs() < 1e-5), "{k}: {}", out[0]);
        }
    }

    #[test]
    fn rows_of_zeros_and_rows_that_are_not_finite_have_defined_results() {
        let (n, k) = (16, 20);
        let w = numbers(n * k, 1);
        let mut x = vec![0.0; 4 * k];
        x[k] = f32::NAN;
        x[2 * k + 3] = f32::INFINITY;
        x[3 * k..].fill(1e-44); // too small for a scale: as zero
        let mut out = vec![9.0; 4 * n];
        FixedPanels::of_transpose(Mat::new(&w, n, k)).product_then(&mut out, Mat::new(&x, 4, k), |_, _| ());
        assert!(out[..n].iter().chain(&out[3 * n..]).all(|v| *v == 0.0));
        assert!(out[n..3 * n].iter().all(|v| v.is_nan()));
    }
}
