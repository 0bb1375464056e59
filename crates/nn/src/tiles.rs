//! The inner loops of big matrix products: tiles of sums held in registers, 12 × 32 where the processor has AVX-512, 6 × 16 where
//! it has AVX2 and FMA.
//!
//! The right matrix is copied into panels of 16 columns, once for all rows; the left one is read in place where its rows
//! are contiguous, else copied into panels of a tile's rows (Van Zee & van de Geijn 2015, BLIS). An element's sum runs over the
//! inner axis in an order that depends on its length alone: both kinds of registers give the same bits.

#![allow(unsafe_code)]
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_variables))]

use crate::buffer::Buffer;
use crate::product::{Mat, Onto, block_product};
use rayon::prelude::*;

/// Columns of a panel.
const COLS: usize = 16;
/// Longest stretch of the inner axis summed at once: a panel of the right matrix stays close to the core.
const DEPTH: usize = 640;
/// Most rows of the left matrix between two walks over the right one: they stay in the second-level cache.
const BLOCK: usize = 102;
/// Rows or columns copied at a time, so that reading and writing both stay within few pages.
const STRIPE: usize = 8;

/// What the sums of a tile are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registers {
    /// Sixteen of 8 numbers.
    Avx2,
    /// Thirty-two of 16 numbers.
    Avx512,
}

impl Registers {
    /// The widest that this processor has.
    pub(crate) fn here() -> Option<Self> {
        Self::ALL.into_iter().find(|registers| registers.are_here())
    }

    /// Widest first.
    const ALL: [Self; 2] = [Self::Avx512, Self::Avx2];

    #[cfg(target_arch = "x86_64")]
    fn are_here(self) -> bool {
        let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        fma && (self == Self::Avx2 || is_x86_feature_detected!("avx512f"))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn are_here(self) -> bool {
        false
    }

    /// Rows of a tile.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Avx2 => 6,
            Self::Avx512 => 12,
        }
    }

    /// Panels of a tile.
    fn panels(self) -> usize {
        match self {
            Self::Avx2 => 1,
            Self::Avx512 => 2,
        }
    }
}

/// Whether this processor and these sizes are what the tiles are for.
pub(crate) fn serve(m: usize, n: usize, k: usize) -> bool {
    m >= 24 && n >= COLS && k >= COLS && m * n * k >= 1 << 17 && Registers::here().is_some()
}

/// `out = a b` or `out += a b`, row-major `[a.rows, b.cols]`, then `finish(first row, rows)` for each block of rows while it is
/// still in the cache; on all threads if `parallel`. The caller has checked the sizes and asked [`serve`].
pub(crate) fn product(
    out: &mut [f32],
    (a, b): (Mat<'_>, Mat<'_>),
    onto: Onto,
    parallel: bool,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (n, k) = (b.cols, a.cols);
    let mut panels = Buffer::any(padded(n) * depth_of(k));
    for stretch in stretches(k) {
        let panels = &mut panels[..padded(n) * stretch.len()];
        stretch.pack(b, panels, parallel);
        stretch.product(out, a, (panels, n), (onto, parallel), &finish);
    }
}

/// The right matrix of products, copied into panels once and for all.
#[derive(Debug)]
pub(crate) struct Panels {
    /// One stretch of the inner axis after the other.
    values: Buffer,
    n: usize,
    k: usize,
}

impl Panels {
    /// Copies `b`, on this thread.
    pub(crate) fn of(b: Mat<'_>) -> Self {
        let (n, k) = (b.cols, b.rows);
        let mut values = Buffer::any(padded(n) * k);
        for stretch in stretches(k) {
            let place = padded(n) * stretch.from..padded(n) * stretch.end;
            stretch.pack(b, &mut values[place], false);
        }
        Self { values, n, k }
    }

    /// Columns of the right matrix.
    pub(crate) fn columns(&self) -> usize {
        self.n
    }

    /// As [`product`] with the matrix that was copied as the right one: the same bits.
    ///
    /// # Panics
    /// If the inner sizes differ.
    pub(crate) fn product(
        &self,
        out: &mut [f32],
        a: Mat<'_>,
        parallel: bool,
        finish: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        assert_eq!(a.cols, self.k, "inner sizes of a product differ");
        for stretch in stretches(self.k) {
            let panels = &self.values[padded(self.n) * stretch.from..padded(self.n) * stretch.end];
            stretch.product(out, a, (panels, self.n), (Onto::Write, parallel), &finish);
        }
    }
}

/// Columns of a panel of [`by_panels`].
pub(crate) const PANEL: usize = COLS;

/// `out (+)= a b` on this thread, row-major `[a.rows, n]`, where the caller has laid `b` out in panels `[⌈n/16⌉, a.cols, 16]`, filled
/// up with zeros: for many small products whose right matrix is made anew for each. On processors that the tiles are not
/// for, the `gemm` crate multiplies by the same panels.
pub(crate) fn by_panels(out: &mut [f32], n: usize, a: Mat<'_>, panels: &[f32], onto: Onto) {
    let depth = a.cols;
    assert!(depth > 0 && panels.len() == n.div_ceil(COLS) * depth * COLS, "panels of another matrix");
    assert!(out.len() >= a.rows * n, "output of a product is too short");
    if let Some(registers) = Registers::here() {
        let part = Part { a, n, from: 0, depth, add: onto == Onto::Add, registers };
        return part.tiles(part.left_in_place(a.data), (out, n, a.rows), panels);
    }
    for (p, panel) in panels.chunks_exact(depth * COLS).enumerate() {
        let width = COLS.min(n - p * COLS);
        let right = Mat::strided(panel, depth, width, COLS);
        block_product(&mut out[p * COLS..], n, a, right, onto);
    }
}

/// Columns filled up to whole panels.
fn padded(n: usize) -> usize {
    n.next_multiple_of(COLS)
}

/// Length of the stretches (but the last) that an inner axis is cut into.
fn depth_of(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH))
}

/// Rows per block of whole tiles of so many `rows`, so that threads finish together, or nearly; a walk over the right matrix counts
/// as a quarter of six rows.
pub(crate) fn block_of(m: usize, threads: usize, rows: usize) -> usize {
    let (tiles, most) = (m.div_ceil(rows), BLOCK / rows);
    let longest = |block: &usize| tiles.div_ceil(*block).div_ceil(threads) * (4 * block * rows / 6 + 1);
    (1..=most).min_by_key(longest).unwrap_or(most) * rows
}

fn stretches(k: usize) -> impl Iterator<Item = Stretch> {
    let depth = depth_of(k);
    (0..k).step_by(depth).map(move |from| Stretch { from, end: k.min(from + depth), k })
}

/// Part of an inner axis of length k.
struct Stretch {
    from: usize,
    end: usize,
    k: usize,
}

impl Stretch {
    fn len(&self) -> usize {
        self.end - self.from
    }

    /// Copies all columns of the right matrix into panels.
    fn pack(&self, b: Mat<'_>, panels: &mut [f32], parallel: bool) {
        let right = Right { b, from: self.from, depth: self.len() };
        // A few panels per task.
        let step = if parallel { b.cols.div_ceil(COLS).div_ceil(8) } else { b.cols.div_ceil(COLS) };
        let pack = |(c, panels): (usize, &mut [f32])| right.pack(c * step * COLS, panels);
        match parallel {
            true => panels.par_chunks_mut(step * COLS * self.len()).enumerate().for_each(pack),
            false => pack((0, panels)),
        }
    }

    /// Adds (or, for the first stretch, writes) its share of the sums; the last one calls `finish`.
    fn product(
        &self,
        out: &mut [f32],
        a: Mat<'_>,
        (panels, n): (&[f32], usize),
        (onto, parallel): (Onto, bool),
        finish: &(impl Fn(usize, &mut [f32]) + Sync),
    ) {
        let (m, add) = (a.rows, onto == Onto::Add || self.from > 0);
        let Some(registers) = Registers::here() else { unreachable!("the caller has asked `serve`") };
        let part = Part { a, n, from: self.from, depth: self.len(), add, registers };
        let block = block_of(m, if parallel { rayon::current_num_threads() } else { 1 }, registers.rows());
        let rows = |(c, rows): (usize, &mut [f32])| {
            part.rows(c * block, rows, panels);
            if self.end == self.k {
                finish(c * block, rows);
            }
        };
        match parallel {
            true => out[..m * n].par_chunks_mut(block * n).enumerate().for_each(rows),
            false => out[..m * n].chunks_mut(block * n).enumerate().for_each(rows),
        }
    }
}

/// A stretch of the inner axis of a right matrix.
struct Right<'a> {
    b: Mat<'a>,
    from: usize,
    depth: usize,
}

impl Right<'_> {
    /// Copies columns `first ..` of the right matrix into panels `[depth, 16]`, filled up with zeros.
    fn pack(&self, first: usize, panels: &mut [f32]) {
        let b = self.b;
        let width = |p: usize| COLS.min(b.cols - first - p * COLS);
        if b.col_step == 1 {
            for stripe in (0..self.depth).step_by(STRIPE) {
                for (p, panel) in panels.chunks_exact_mut(self.depth * COLS).enumerate() {
                    for l in stripe..(stripe + STRIPE).min(self.depth) {
                        let at = (self.from + l) * b.row_step + first + p * COLS;
                        copy_padded(&mut panel[l * COLS..][..COLS], &b.data[at..], width(p));
                    }
                }
            }
            return;
        }
        for (p, panel) in panels.chunks_exact_mut(self.depth * COLS).enumerate() {
            if width(p) < COLS {
                panel.fill(0.0);
            }
            for stripe in (0..self.depth).step_by(COLS) {
                for j in 0..width(p) {
                    let at = (first + p * COLS + j) * b.col_step + self.from + stripe;
                    let column = &b.data[at..][..COLS.min(self.depth - stripe)];
                    column.iter().enumerate().for_each(|(l, v)| panel[(stripe + l) * COLS + j] = *v);
                }
            }
        }
    }
}

/// A stretch of the inner axis of a product.
struct Part<'a> {
    a: Mat<'a>,
    /// Columns of the output.
    n: usize,
    /// First place on the inner axis.
    from: usize,
    depth: usize,
    add: bool,
    registers: Registers,
}

impl Part<'_> {
    /// The rows of a left matrix that lie from here on, where they are.
    fn left_in_place<'a>(&self, data: &'a [f32]) -> Left<'a> {
        let (row_step, step) = (self.a.row_step, self.a.col_step);
        Left { data, panel_step: self.registers.rows() * row_step, row_step, step }
    }

    /// Copies `count` rows of a left matrix that is stored by columns into panels `[depth, R]` of R rows of tiles; rows beyond are
    /// left as they are and never used.
    fn pack_left<const R: usize>(&self, first: usize, count: usize, panels: &mut [f32]) {
        let a = self.a;
        for stripe in (0..self.depth).step_by(STRIPE) {
            for (p, panel) in panels.chunks_exact_mut(self.depth * R).enumerate() {
                let width = R.min(count - p * R);
                for l in stripe..(stripe + STRIPE).min(self.depth) {
                    let from = &a.data[(self.from + l) * a.col_step + first + p * R..];
                    let to = &mut panel[l * R..][..R];
                    if width == R {
                        to.copy_from_slice(&from[..R]);
                    } else {
                        to[..width].copy_from_slice(&from[..width]);
                    }
                }
            }
        }
    }

    /// Rows `first ..` of the output.
    fn rows(&self, first: usize, out: &mut [f32], panels: &[f32]) {
        let (n, count) = (self.n, out.len() / self.n);
        if self.a.col_step == 1 {
            let left = self.left_in_place(&self.a.data[first * self.a.row_step + self.from..]);
            return self.tiles(left, (out, n, count), panels);
        }
        let tile = self.registers.rows();
        let mut packed = Buffer::any(count.next_multiple_of(tile) * self.depth);
        match self.registers {
            Registers::Avx2 => self.pack_left::<6>(first, count, &mut packed),
            Registers::Avx512 => self.pack_left::<12>(first, count, &mut packed),
        }
        let left = Left { data: &packed, panel_step: tile * self.depth, row_step: 1, step: tile };
        self.tiles(left, (out, n, count), panels);
    }

    fn tiles(&self, left: Left<'_>, (out, n, count): (&mut [f32], usize, usize), panels: &[f32]) {
        let (height, width) = (self.registers.rows(), self.registers.panels() * COLS);
        for (p, panels) in panels.chunks(self.depth * width).enumerate() {
            let cols = width.min(n - p * width);
            assert!(panels.len() >= self.depth * cols.next_multiple_of(COLS));
            for i in (0..count).step_by(height) {
                let rows = height.min(count - i);
                let a = &left.data[i / height * left.panel_step..];
                assert!(a.len() > (rows - 1) * left.row_step + (self.depth - 1) * left.step);
                let c = &mut out[i * n + p * width..];
                assert!(c.len() >= (rows - 1) * n + cols);
                let tile = Tile {
                    depth: self.depth,
                    steps: (left.row_step, left.step, n),
                    rows,
                    cols,
                    add: self.add,
                };
                // SAFETY: the processor has these registers, or there would be none to name them; the bounds of `a`, `c` and the
                // panels are asserted above.
                #[cfg(target_arch = "x86_64")]
                unsafe {
                    tile.run(self.registers, (a.as_ptr(), panels.as_ptr()), c.as_mut_ptr());
                }
            }
        }
    }
}

fn copy_padded(to: &mut [f32], from: &[f32], width: usize) {
    if width == COLS {
        to.copy_from_slice(&from[..COLS]);
    } else {
        to[..width].copy_from_slice(&from[..width]);
        to[width..].fill(0.0);
    }
}

/// Rows of the left matrix: element (i, l) of panel p is at `p · panel_step + i · row_step + l · step`.
struct Left<'a> {
    data: &'a [f32],
    panel_step: usize,
    row_step: usize,
    step: usize,
}

/// One tile of sums.
struct Tile {
    depth: usize,
    /// Of the left matrix from row to row and along the inner axis; of the output from row to row.
    steps: (usize, usize, usize),
    rows: usize,
    cols: usize,
    add: bool,
}

#[cfg(target_arch = "x86_64")]
impl Tile {
    /// `c (+)= a b`.
    ///
    /// # Safety
    /// The processor has the registers. `a` is readable at `i · steps.0 + l · steps.1` for `i < rows`, `l < depth`; `b` for `depth · 16`
    /// values for every 16 columns begun; `c` writable at `i · steps.2 + j` for `i < rows`, `j < cols`; `rows` and `cols` are at least 1
    /// and at most a tile's.
    unsafe fn run(&self, registers: Registers, (a, b): (*const f32, *const f32), c: *mut f32) {
        // SAFETY: the caller's.
        unsafe {
            match (registers, self.cols, self.rows) {
                (Registers::Avx2, 9.., _) => self.run_avx2::<2>(a, b, c),
                (Registers::Avx2, ..) => self.run_avx2::<1>(a, b, c),
                (Registers::Avx512, 17.., 7..) => self.run_avx512::<12, 2>(a, b, c),
                (Registers::Avx512, 17.., _) => self.run_avx512::<6, 2>(a, b, c),
                (Registers::Avx512, _, 7..) => self.run_avx512::<12, 1>(a, b, c),
                (Registers::Avx512, ..) => self.run_avx512::<6, 1>(a, b, c),
            }
        }
    }

    /// Up to `R` rows and `V` panels of 16 columns.
    ///
    /// # Safety
    /// As [`Tile::run`], with AVX-512F.
    #[target_feature(enable = "avx512f")]
    unsafe fn run_avx512<const R: usize, const V: usize>(&self, a: *const f32, b: *const f32, c: *mut f32) {
        use std::arch::x86_64::{
            _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
            _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        };
        let (row_step, step, c_step) = self.steps;
        // SAFETY: the caller vouches for all places that are read or written; missing rows repeat the last one, missing columns are
        // masked.
        unsafe {
            for i in 0..self.rows {
                _mm_prefetch::<_MM_HINT_T0>(c.add(i * c_step).cast());
            }
            let rows: [*const f32; R] = std::array::from_fn(|i| a.add(i.min(self.rows - 1) * row_step));
            let mut sums = [[_mm512_setzero_ps(); V]; R];
            let (mut b, mut at, panel) = (b, 0, self.depth * COLS);
            for _ in 0..self.depth {
                let right: [_; V] = std::array::from_fn(|v| _mm512_loadu_ps(b.add(panel * v)));
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let left = _mm512_set1_ps(*row.add(at));
                    for v in 0..V {
                        sums[v] = _mm512_fmadd_ps(left, right[v], sums[v]);
                    }
                }
                b = b.add(COLS);
                at += step;
            }
            for (i, sums) in sums.iter().enumerate().take(self.rows) {
                for (v, &sum) in sums.iter().enumerate() {
                    let c = c.add(i * c_step + v * COLS);
                    let mask = u16::MAX >> (COLS - (self.cols - v * COLS).min(COLS));
                    let sum = if self.add { _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c)) } else { sum };
                    _mm512_mask_storeu_ps(c, mask, sum);
                }
            }
        }
    }

    /// `V` vectors of 8 columns.
    ///
    /// # Safety
    /// As [`Tile::run`], with AVX2 and FMA; there are at most 8 V columns.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2<const V: usize>(&self, a: *const f32, b: *const f32, c: *mut f32) {
        const ROWS: usize = 6;
        use std::arch::x86_64::{
            _MM_HINT_T0, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
            _mm256_setzero_ps,
        };
        let (row_step, step, c_step) = self.steps;
        // SAFETY: the caller vouches for all places that are read; missing rows repeat the last one.
        unsafe {
            for i in 0..self.rows {
                _mm_prefetch::<_MM_HINT_T0>(c.add(i * c_step).cast());
            }
            let rows: [*const f32; ROWS] = std::array::from_fn(|i| a.add(i.min(self.rows - 1) * row_step));
            let mut sums = [[_mm256_setzero_ps(); V]; ROWS];
            let (mut b, mut at) = (b, 0);
            for _ in 0..self.depth {
                let right: [_; V] = std::array::from_fn(|v| _mm256_loadu_ps(b.add(8 * v)));
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let left = _mm256_broadcast_ss(&*row.add(at));
                    for v in 0..V {
                        sums[v] = _mm256_fmadd_ps(left, right[v], sums[v]);
                    }
                }
                b = b.add(COLS);
                at += step;
            }
            for (i, sums) in sums.iter().enumerate().take(self.rows) {
                self.store(sums, c.add(i * c_step));
            }
        }
    }

    /// Writes (or adds) one row of sums.
    ///
    /// # Safety
    /// AVX2; `c` is writable for `cols` values.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn store<const V: usize>(&self, sums: &[std::arch::x86_64::__m256; V], c: *mut f32) {
        use std::arch::x86_64::{_mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps};
        // SAFETY: full rows are 8 V values wide; others go by way of an array.
        unsafe {
            if self.cols == 8 * V {
                for (v, &sum) in sums.iter().enumerate() {
                    let c = c.add(8 * v);
                    _mm256_storeu_ps(c, if self.add { _mm256_add_ps(sum, _mm256_loadu_ps(c)) } else { sum });
                }
                return;
            }
            let mut row = [0.0f32; COLS];
            for (v, &sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(row.as_mut_ptr().add(8 * v), sum);
            }
            for (j, sum) in row.iter().enumerate().take(self.cols) {
                let c = c.add(j);
                *c = if self.add { *c + sum } else { *sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_leave_no_thread_waiting_for_long() {
        for (m, threads) in [(400, 2), (624, 2), (500, 2), (4096, 2), (4096, 8), (1000, 3)] {
            let block = block_of(m, threads, 6);
            let longest = m.div_ceil(block).div_ceil(threads) * block;
            assert!((longest * threads) as f64 <= 1.06 * m as f64, "{m} rows, {threads} threads: {block}");
        }
        assert_eq!((block_of(400, 2, 6), block_of(24, 2, 6), block_of(4096, 2, 12)), (102, 12, 48));
    }

    #[test]
    fn narrow_and_wide_registers_give_the_same_bits() {
        for (m, n, k) in [(1, 16, 20), (25, 33, 70), (7, 50, 33), (100, 17, 41), (13, 96, 640)] {
            let number = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let b: Vec<f32> = (0..n * k).map(|i| number(i + 3)).collect();
            let mut panels = Buffer::any(padded(n) * k);
            let (stretch, right) = (Stretch { from: 0, end: k, k }, Mat::new(&b, n, k).t());
            stretch.pack(right, &mut panels, false);
            for a in [Mat::new(&a, m, k), Mat::new(&a, k, m).t()] {
                let here = Registers::ALL.into_iter().filter(|registers| registers.are_here());
                let outs: Vec<Vec<f32>> = here
                    .map(|registers| {
                        let mut out = vec![0.5; m * n];
                        for add in [false, true] {
                            let part = Part { a, n, from: 0, depth: k, add, registers };
                            part.rows(0, &mut out, &panels);
                        }
                        out
                    })
                    .collect();
                assert!(outs.windows(2).all(|two| two[0] == two[1]), "{m} x {n} x {k}");
                for (i, out) in outs.first().iter().flat_map(|out| out.iter().enumerate()) {
                    let at = |l: usize| a.data[i / n * a.row_step + l * a.col_step] * b[i % n * k + l];
                    let exact: f64 = (0..k).map(|l| f64::from(at(l))).sum();
                    assert!((f64::from(*out) - 2.0 * exact).abs() < 1e-3, "{m} x {n} x {k}: {i}");
                }
            }
        }
    }

    #[test]
    fn panels_give_the_same_bits_as_a_product_that_packs() {
        if Registers::here().is_none() {
            return;
        }
        for (m, n, k) in [(100, 33, 700), (512, 64, 40), (30, 400, 1300)] {
            let number = |i: usize| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
            let a: Vec<f32> = (0..m * k).map(number).collect();
            let w: Vec<f32> = (0..n * k).map(|i| number(i + 3)).collect();
            let (a, b) = (Mat::new(&a, m, k), Mat::new(&w, n, k).t());
            let (mut packs, mut kept) = (vec![0.0; m * n], vec![9.0; m * n]);
            product(&mut packs, (a, b), Onto::Write, true, |_, _| ());
            let panels = Panels::of(b);
            for parallel in [false, true] {
                panels.product(&mut kept, a, parallel, |_, _| ());
                assert_eq!(packs, kept);
            }
        }
    }
}
