//! Loops over the few weights of one example, for learners that take one example at a time: no tape, no threads.
//!
//! Each is plain code that the compiler vectorises; run them inside [`vectorised!`], and it does so for the widest registers
//! that the processor has. The results are the same bits everywhere.

use crate::chunks::wide;

pub use crate::chunks::{Wide, vectorised};

/// Lanes of the running sums: one AVX2 register, whatever the processor.
const LANES: usize = 8;

/// Constants of element-wise AdaGrad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaGradStep {
    /// Learning rate.
    pub lr: f32,
    /// Added to the root.
    pub eps: f32,
    /// L2 penalty, added to the gradient.
    pub l2: f32,
}

/// Constants of FTRL-Proximal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FtrlStep {
    /// 1 / α.
    pub rate: f32,
    /// β.
    pub beta: f32,
    /// λ₁.
    pub l1: f32,
    /// λ₂.
    pub ridge: f32,
    /// L2 penalty, added to the gradient.
    pub l2: f32,
}

/// Duchi et al. 2011: a += g², w −= lr g / (√a + eps). All slices of one length.
#[inline(always)]
pub fn adagrad(w: &mut [f32], a: &mut [f32], g: &[f32], step: AdaGradStep) {
    for ((w, a), &g) in w.iter_mut().zip(a).zip(g) {
        let g = g + step.l2 * *w;
        *a += g * g;
        *w -= step.lr * g / (a.sqrt() + step.eps);
    }
}

/// McMahan et al. 2013, algorithm 1, as the embedding store has it. All slices of one length.
#[inline(always)]
pub fn ftrl(w: &mut [f32], (z, n): (&mut [f32], &mut [f32]), g: &[f32], step: FtrlStep) {
    for (((w, z), n), &g) in w.iter_mut().zip(z).zip(n).zip(g) {
        let g = g + step.l2 * *w;
        let squares = *n + g * g;
        let root = squares.sqrt();
        // √(n + g²) − √n without its cancellation; the tiny term is for g = n = 0.
        let sigma = g * g / (root + n.sqrt() + f32::MIN_POSITIVE) * step.rate;
        *z += g - sigma * *w;
        *n = squares;
        let shrunk = (z.abs() - step.l1).max(0.0).copysign(*z);
        let slope = (step.beta + root) * step.rate + step.ridge;
        // Adding zero makes −0.0 a plain zero.
        *w = if slope > 0.0 { -shrunk / slope + 0.0 } else { 0.0 };
    }
}

/// Σ x.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    let (blocks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        (0..LANES).for_each(|i| sums[i] += block[i]);
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// ½ Σ_d [(Σᵢ vᵢ)² − Σᵢ vᵢ²] over vectors v `[F, D]` (Rendle 2010); leaves Σᵢ vᵢ in `total` `[D]`.
#[inline(always)]
pub fn fm(v: &[f32], total: &mut [f32]) -> f32 {
    total.fill(0.0);
    let mut squares = 0.0;
    for row in v.chunks_exact(total.len()) {
        total.iter_mut().zip(row).for_each(|(t, v)| *t += v);
        squares += row.iter().map(|v| v * v).sum::<f32>();
    }
    0.5 * (total.iter().map(|t| t * t).sum::<f32>() - squares)
}

/// Gradient of [`fm`] for one vector, times `g`: g (Σⱼ vⱼ − v).
#[inline(always)]
pub fn fm_slope(v: &[f32], total: &[f32], g: f32, out: &mut [f32]) {
    for ((o, v), t) in out.iter_mut().zip(v).zip(total) {
        *o = g * (t - v);
    }
}

/// Σ_{i<j} ⟨x[i, j], x[j, i]⟩ over x `[F, F·K]`, whose row i holds field i's vector of width K for each field (Juan et
/// al. 2016, eq. 4).
#[inline(always)]
pub fn ffm(x: &[f32], fields: usize, k: usize) -> f32 {
    match k {
        2 => ffm_of::<2>(x, fields),
        4 => ffm_of::<4>(x, fields),
        8 => ffm_of::<8>(x, fields),
        _ => (0..fields).flat_map(|i| (0..i).map(move |j| (i, j))).fold(0.0, |sum, (i, j)| {
            let (a, b) = (&x[(i * fields + j) * k..][..k], &x[(j * fields + i) * k..][..k]);
            sum + a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>()
        }),
    }
}

#[inline(always)]
fn ffm_of<const K: usize>(x: &[f32], fields: usize) -> f32 {
    let (x, _) = x.as_chunks::<K>();
    let mut sums = [0.0; K];
    for i in 1..fields {
        let row = &x[i * fields..][..i];
        for (a, b) in row.iter().zip(x[i..].iter().step_by(fields)) {
            (0..K).for_each(|d| sums[d] += a[d] * b[d]);
        }
    }
    sums.iter().sum()
}

/// Gradient of [`ffm`] for the row of field `i`, times `g`: g x[j, i] in the columns for field j, 0 in its own.
#[inline(always)]
pub fn ffm_slope(x: &[f32], (fields, k): (usize, usize), i: usize, g: f32, out: &mut [f32]) {
    match k {
        2 => slope_of::<2>(x, fields, i, g, out),
        4 => slope_of::<4>(x, fields, i, g, out),
        8 => slope_of::<8>(x, fields, i, g, out),
        _ => {
            for (j, out) in out.chunks_exact_mut(k).enumerate() {
                let partner = &x[(j * fields + i) * k..][..k];
                out.iter_mut().zip(partner).for_each(|(o, x)| *o = g * x);
            }
        }
    }
    out[i * k..(i + 1) * k].fill(0.0);
}

#[inline(always)]
fn slope_of<const K: usize>(x: &[f32], fields: usize, i: usize, g: f32, out: &mut [f32]) {
    let ((x, _), (out, _)) = (x.as_chunks::<K>(), out.as_chunks_mut::<K>());
    for (out, x) in out.iter_mut().zip(x[i..].iter().step_by(fields)) {
        (0..K).for_each(|d| out[d] = g * x[d]);
    }
}

/// [`ffm`] over rows `[F·K]` that lie apart, one per field. Leaves x̄ `[F, F·K]` in `crossed`, where x̄[j, i] = x[i, j] and
/// x̄[i, i] = 0: row j of x̄ holds side by side what field j's row meets, for [`ffm_adagrad`] to go through in order.
/// `squares` `[F·K]` then holds Σᵢ x̄[j, i, d]² at j·K + d, for [`ffm_rates`].
pub fn ffm_rows(rows: &[&[f32]], k: usize, crossed: &mut [f32], squares: &mut [f32]) -> f32 {
    let mut sum = 0.0;
    ffm_cross(rows, k, crossed, &mut sum);
    ffm_squares(rows, k, squares);
    sum
}

/// The first half of [`ffm_adagrad_row_wise`] without an L2 penalty, for the rows of all fields at once, so that no root waits for
/// another: moves their accumulators `a` `[F]` on by the `squares` that [`ffm_rows`] left. `rates` `[F]` are then what
/// [`ffm_descend`] takes.
pub fn ffm_rates(a: &mut [f32], squares: &[f32], rates: &mut [f32], g: f32, step: AdaGradStep) {
    all_rates(a, squares, rates, g, step);
}

/// The second half, for one field's row: w −= rate x̄.
pub fn ffm_descend(w: &mut [f32], crossed: &[f32], rate: f32) {
    descend(w, crossed, rate);
}

wide! {
    fn ffm_squares(rows: &[&[f32]], k: usize, squares: &mut [f32]) {
        squares.fill(0.0);
        let mut before = vec![0.0; k];
        for (i, row) in rows.iter().enumerate() {
            // A row does not meet itself.
            let own = i * k..(i + 1) * k;
            before.copy_from_slice(&squares[own.clone()]);
            squares.iter_mut().zip(*row).for_each(|(s, x)| *s += x * x);
            squares[own].copy_from_slice(&before);
        }
    }

    fn all_rates(a: &mut [f32], squares: &[f32], rates: &mut [f32], g: f32, step: AdaGradStep) {
        let (width, k) = (squares.len() as f32, squares.len() / a.len().max(1));
        let share = g * g / width;
        for (rate, squares) in rates.iter_mut().zip(squares.chunks_exact(k)) {
            *rate = squares.iter().sum();
        }
        for (a, rate) in a.iter_mut().zip(rates) {
            *a += share * *rate;
            *rate = g * step.lr / (a.sqrt() + step.eps);
        }
    }

    fn descend(w: &mut [f32], crossed: &[f32], rate: f32) {
        w.iter_mut().zip(crossed).for_each(|(w, x)| *w -= rate * x);
    }
}

wide! {
    fn ffm_cross(rows: &[&[f32]], k: usize, crossed: &mut [f32], sum: &mut f32) {
        let (fields, width) = (rows.len(), rows.len() * k);
        match k {
            2 => cross_of::<2>(rows, crossed),
            4 => cross_of::<4>(rows, crossed),
            8 => cross_of::<8>(rows, crossed),
            _ => {
                for (i, row) in rows.iter().enumerate() {
                    for (j, x) in row.chunks_exact(k).enumerate() {
                        crossed[(j * fields + i) * k..][..k].copy_from_slice(x);
                    }
                }
            }
        }
        let mut sums = [[0.0; LANES]; 2];
        for (i, (row, crossed)) in rows.iter().zip(crossed.chunks_exact_mut(width)).enumerate() {
            crossed[i * k..][..k].fill(0.0);
            let part = i * k;
            add_products(&row[..part], &crossed[..part], &mut sums[i % 2]);
        }
        *sum = sums.as_flattened().iter().sum();
    }
}

/// Rows that are crossed at once: their numbers for one field then stand side by side.
const CROSSED: usize = 4;

#[inline(always)]
fn cross_of<const K: usize>(rows: &[&[f32]], crossed: &mut [f32]) {
    let (fields, (crossed, _)) = (rows.len(), crossed.as_chunks_mut::<K>());
    let (fours, rest) = rows.as_chunks::<CROSSED>();
    for (four, at) in fours.iter().zip((0..).step_by(CROSSED)) {
        let [a, b, c, d] = four.map(|row| row.as_chunks::<K>().0);
        let from = a.iter().zip(b).zip(c).zip(d);
        for (to, (((a, b), c), d)) in crossed.chunks_exact_mut(fields).zip(from) {
            to[at..at + CROSSED].copy_from_slice(&[*a, *b, *c, *d]);
        }
    }
    for (row, at) in rest.iter().zip(fields - rest.len()..) {
        for (to, x) in crossed.chunks_exact_mut(fields).zip(row.as_chunks::<K>().0) {
            to[at] = *x;
        }
    }
}

/// Adds a · b to running sums; rows in turn add to one of two, so that one does not wait for the other.
#[inline(always)]
fn add_products(a: &[f32], b: &[f32], sums: &mut [f32; LANES]) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        (0..LANES).for_each(|d| sums[d] += a[d] * b[d]);
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
}

/// [`adagrad`] of a field's row `[F·K]` with its gradient g x̄ (see [`ffm_rows`]).
pub fn ffm_adagrad(w: &mut [f32], a: &mut [f32], crossed: &[f32], g: f32, step: AdaGradStep) {
    each_adagrad(w, a, crossed, g, step);
}

wide! {
    fn each_adagrad(w: &mut [f32], a: &mut [f32], crossed: &[f32], g: f32, step: AdaGradStep) {
        for ((w, a), &x) in w.iter_mut().zip(a).zip(crossed) {
            let g = g * x + step.l2 * *w;
            *a += g * g;
            *w -= step.lr * g / (a.sqrt() + step.eps);
        }
    }
}

/// As [`ffm_adagrad`] with one accumulator `a` for the whole row: a += mean(g²), w −= lr g / (√a + eps), the mean over all
/// F·K numbers of the row (row-wise AdaGrad, Gupta et al. 2014, as the embedding store has it). One root and one division a
/// row, and half the memory.
pub fn ffm_adagrad_row_wise(w: &mut [f32], a: &mut f32, crossed: &[f32], g: f32, step: AdaGradStep) {
    row_adagrad(w, a, crossed, g, step);
}

wide! {
    fn row_adagrad(w: &mut [f32], a: &mut f32, crossed: &[f32], g: f32, step: AdaGradStep) {
        let slope = |w: f32, x: f32| g * x + step.l2 * w;
        let mut sums = [0.0; LANES];
        let (blocks, rest) = w.as_chunks::<LANES>();
        let (crosses, crossed_rest) = crossed.as_chunks::<LANES>();
        for (w, x) in blocks.iter().zip(crosses) {
            (0..LANES).for_each(|i| sums[i] += slope(w[i], x[i]) * slope(w[i], x[i]));
        }
        for ((sum, &w), &x) in sums.iter_mut().zip(rest).zip(crossed_rest) {
            *sum += slope(w, x) * slope(w, x);
        }
        *a += sums.iter().sum::<f32>() / w.len() as f32;
        let rate = step.lr / (a.sqrt() + step.eps);
        for (w, &x) in w.iter_mut().zip(crossed) {
            *w -= rate * slope(*w, x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 101) as f32 / 101.0 - 0.5).collect()
    }

    #[test]
    fn pairs_and_their_slopes_are_those_of_loops_over_all_pairs() {
        for (fields, k) in [(1, 4), (2, 3), (5, 2), (7, 4), (6, 8), (4, 5)] {
            let x = numbers(fields * fields * k);
            let at = |i: usize, j: usize| (i * fields + j) * k;
            let mut naive = 0.0f64;
            let mut slopes = vec![0.0f32; x.len()];
            for i in 0..fields {
                for j in i + 1..fields {
                    for d in 0..k {
                        naive += f64::from(x[at(i, j) + d]) * f64::from(x[at(j, i) + d]);
                        slopes[at(i, j) + d] += 0.7 * x[at(j, i) + d];
                        slopes[at(j, i) + d] += 0.7 * x[at(i, j) + d];
                    }
                }
            }
            assert!((f64::from(ffm(&x, fields, k)) - naive).abs() < 1e-5, "{fields} {k}");
            for i in 0..fields {
                let mut out = vec![9.0; fields * k];
                ffm_slope(&x, (fields, k), i, 0.7, &mut out);
                assert_eq!(out, slopes[at(i, 0)..at(i + 1, 0)]);
            }
        }
    }

    #[test]
    fn rows_side_by_side_with_what_they_meet_give_the_same_pairs_and_steps() {
        let step = AdaGradStep { lr: 0.1, eps: 1e-6, l2: 0.01 };
        for (fields, k) in [(1, 4), (2, 3), (5, 2), (7, 4), (9, 8), (4, 5)] {
            let (x, width) = (numbers(fields * fields * k), fields * k);
            let mut crossed = vec![9.0; x.len()];
            let mut squares = vec![9.0; width];
            let sum = ffm_rows(&x.chunks(width).collect::<Vec<_>>(), k, &mut crossed, &mut squares);
            let plain = AdaGradStep { l2: 0.0, ..step };
            let (mut halves, mut rates) = (vec![0.5; fields], vec![9.0; fields]);
            ffm_rates(&mut halves, &squares, &mut rates, 0.7, plain);
            assert!((sum - ffm(&x, fields, k)).abs() < 1e-5);
            for i in 0..fields {
                let row = &x[i * width..][..width];
                let (mut w, mut a) = (row.to_vec(), vec![0.5; width]);
                let (mut wanted_w, mut wanted_a, mut slope) = (w.clone(), a.clone(), vec![0.0; width]);
                ffm_adagrad(&mut w, &mut a, &crossed[i * width..][..width], 0.7, step);
                ffm_slope(&x, (fields, k), i, 0.7, &mut slope);
                adagrad(&mut wanted_w, &mut wanted_a, &slope, step);
                assert_eq!((w, a), (wanted_w, wanted_a));
                let (mut by_halves, mut whole, mut a) = (row.to_vec(), row.to_vec(), 0.5);
                let crossed = &crossed[i * width..][..width];
                ffm_descend(&mut by_halves, crossed, rates[i]);
                ffm_adagrad_row_wise(&mut whole, &mut a, crossed, 0.7, plain);
                assert!((halves[i] - a).abs() < 1e-6);
                assert!(by_halves.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn a_row_wise_step_divides_by_the_root_of_the_mean_square_of_all_gradients_so_far() {
        let step = AdaGradStep { lr: 0.1, eps: 1e-6, l2: 0.01 };
        for width in [3, 8, 10, 78] {
            let (mut w, x, mut a) = (numbers(width), numbers(width + 5)[5..].to_vec(), 0.5f32);
            let before = w.clone();
            ffm_adagrad_row_wise(&mut w, &mut a, &x, 0.7, step);
            let slopes: Vec<f64> =
                before.iter().zip(&x).map(|(w, x)| 0.7 * f64::from(*x) + 0.01 * f64::from(*w)).collect();
            let mean = slopes.iter().map(|g| g * g).sum::<f64>() / width as f64;
            assert!((f64::from(a) - 0.5 - mean).abs() < 1e-6, "{a} {mean}");
            let rate = 0.1 / ((0.5 + mean).sqrt() + 1e-6);
            for ((after, before), g) in w.iter().zip(&before).zip(&slopes) {
                assert!((f64::from(*after) - (f64::from(*before) - rate * g)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_machine_is_the_sum_over_all_pairs() {
        let (fields, dim) = (6, 5);
        let v = numbers(fields * dim);
        let mut naive = 0.0f64;
        for i in 0..fields {
            for j in i + 1..fields {
                naive += (0..dim).map(|d| f64::from(v[i * dim + d]) * f64::from(v[j * dim + d])).sum::<f64>();
            }
        }
        let (mut total, mut slope) = (vec![0.0; dim], vec![0.0; dim]);
        assert!((f64::from(fm(&v, &mut total)) - naive).abs() < 1e-5);
        fm_slope(&v[dim..2 * dim], &total, 2.0, &mut slope);
        for d in 0..dim {
            let others: f32 = (0..fields).filter(|i| *i != 1).map(|i| v[i * dim + d]).sum();
            assert!((slope[d] - 2.0 * others).abs() < 1e-5);
        }
    }

    #[test]
    fn sums_are_the_same_with_and_without_wide_registers() {
        let x = numbers(1003);
        assert_eq!(vectorised!(sum(&x)).to_bits(), sum(&x).to_bits());
        assert!((f64::from(sum(&x)) - x.iter().map(|x| f64::from(*x)).sum::<f64>()).abs() < 1e-4);
    }
}
