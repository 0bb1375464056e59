//! The strongest directions of a sparse matrix: truncated singular value decomposition by randomised subspace iteration
//! (Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.4), as latent semantic analysis uses it (Deerwester et
//! al., JASIS 1990).
//!
//! A random start Q `[width, l]` is replaced `rounds` times by an orthonormal base of AᵀA Q; then the eigenvectors E of
//! (AQ)ᵀ(AQ) turn it so that its columns are the right singular vectors: V = Q E, σᵢ² the eigenvalues. Bases are made
//! orthonormal by Cholesky's decomposition of their Gram matrix in double precision, twice (Yamamoto et al., ETNA
//! 2015). Sums are taken in fixed blocks: a seed gives one result whatever the threads.

use millstream_nn::kernels::vectorised;
use rayon::prelude::*;

use crate::recall::draws::Draws;
use crate::sparse::Csr;

/// Directions followed beyond those that are kept.
const MORE: usize = 16;
/// Blocks that the rows of a tall matrix are summed in.
const BLOCKS: usize = 32;
/// A column whose rest is below this share of its length depends on those before it.
const DEPENDENT: f64 = 1e-10;
/// Sweeps of Jacobi's method at most; it converges quadratically after a few.
const SWEEPS: usize = 40;

/// The `dim` strongest directions of `a`: its right singular vectors V `[width, dim]`, of whose columns the entry of
/// largest magnitude is positive, and σ `[dim]`, falling. Columns beyond the rank are zero.
pub(crate) fn directions(a: &Csr, dim: usize, rounds: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let l = (dim + MORE).min(a.width()).min(a.rows()).max(1);
    let back = a.transposed();
    let mut draws = Draws::new(seed, 0);
    let mut q: Vec<f32> = (0..a.width() * l).map(|_| draws.normal()).collect();
    orthonormal(&mut q, l);
    for _ in 0..rounds {
        q = back.times(&a.times(&q, l), l);
        orthonormal(&mut q, l);
    }
    let mut square = gram(&a.times(&q, l), l);
    let (values, turn) = eigen(&mut square, l);
    let kept = dim.min(l);
    let mut vectors = vec![0.0f32; a.width() * dim];
    vectors.par_chunks_exact_mut(dim).zip(q.par_chunks_exact(l)).for_each(|(out, row)| {
        for (i, out) in out[..kept].iter_mut().enumerate() {
            *out = row.iter().zip(&turn[i * l..]).map(|(x, e)| f64::from(*x) * e).sum::<f64>() as f32;
        }
    });
    let mut strengths: Vec<f32> = values[..kept].iter().map(|v| v.max(0.0).sqrt() as f32).collect();
    strengths.resize(dim, 0.0);
    face_up(&mut vectors, &strengths);
    (vectors, strengths)
}

/// Gives each column the sign that makes its largest entry positive; columns without strength become zero.
fn face_up(vectors: &mut [f32], strengths: &[f32]) {
    let dim = strengths.len();
    let weak = strengths[0] * 1e-5;
    let mut signs = vec![0.0f32; dim];
    let mut most = vec![0.0f32; dim];
    for row in vectors.chunks_exact(dim) {
        for (i, x) in row.iter().enumerate() {
            if x.abs() > most[i] {
                (most[i], signs[i]) = (x.abs(), x.signum());
            }
        }
    }
    (0..dim).filter(|&i| strengths[i] <= weak).for_each(|i| signs[i] = 0.0);
    for row in vectors.chunks_exact_mut(dim) {
        row.iter_mut().zip(&signs).for_each(|(x, s)| *x *= s);
    }
}

/// ZᵀZ `[l, l]` of a tall Z.
fn gram(z: &[f32], l: usize) -> Vec<f64> {
    let block = (z.len() / l).div_ceil(BLOCKS).max(1) * l;
    let part = |z: &[f32]| {
        let (mut sum, mut row) = (vec![0.0f64; l * l], vec![0.0f64; l]);
        for z in z.chunks_exact(l) {
            row.iter_mut().zip(z).for_each(|(r, x)| *r = f64::from(*x));
            vectorised!({
                for i in 0..l {
                    let x = row[i];
                    sum[i * l + i..(i + 1) * l].iter_mut().zip(&row[i..]).for_each(|(s, y)| *s += x * y);
                }
            });
        }
        sum
    };
    let parts: Vec<Vec<f64>> = z.par_chunks(block).map(part).collect();
    let mut sum = vec![0.0f64; l * l];
    parts.iter().for_each(|part| sum.iter_mut().zip(part).for_each(|(s, x)| *s += x));
    for i in 0..l {
        (0..i).for_each(|j| sum[i * l + j] = sum[j * l + i]);
    }
    sum
}

/// Makes the columns of Z `[_, l]` orthonormal; those that depend on earlier ones become zero.
fn orthonormal(z: &mut [f32], l: usize) {
    for _ in 0..2 {
        let lower = cholesky(gram(z, l), l);
        z.par_chunks_exact_mut(l).with_min_len(64).for_each(|row| {
            let mut solved = vec![0.0f64; l];
            vectorised!(forward(&lower, row, &mut solved));
        });
    }
}

/// Solves x Lᵀ = row in place.
#[inline(always)]
fn forward(lower: &[f64], row: &mut [f32], solved: &mut [f64]) {
    let l = row.len();
    for j in 0..l {
        let pivot = lower[j * l + j];
        let before: f64 = solved[..j].iter().zip(&lower[j * l..]).map(|(x, y)| x * y).sum();
        solved[j] = if pivot > 0.0 { (f64::from(row[j]) - before) / pivot } else { 0.0 };
    }
    row.iter_mut().zip(solved).for_each(|(r, x)| *r = *x as f32);
}

/// The lower factor of a Gram matrix; the row and column of one that depends on those before are zero.
fn cholesky(mut g: Vec<f64>, l: usize) -> Vec<f64> {
    for j in 0..l {
        let own = g[j * l + j];
        let rest = own - (0..j).map(|k| g[j * l + k] * g[j * l + k]).sum::<f64>();
        let pivot = if rest > own * DEPENDENT { rest.sqrt() } else { 0.0 };
        for i in j + 1..l {
            let below = g[i * l + j] - (0..j).map(|k| g[i * l + k] * g[j * l + k]).sum::<f64>();
            g[i * l + j] = if pivot > 0.0 { below / pivot } else { 0.0 };
        }
        g[j * l + j] = pivot;
    }
    g
}

/// Eigenvalues, falling, and eigenvectors as rows `[l, l]`, of a symmetric matrix, by Jacobi's rotations.
fn eigen(a: &mut [f64], l: usize) -> (Vec<f64>, Vec<f64>) {
    let mut rows = vec![0.0f64; l * l];
    (0..l).for_each(|i| rows[i * l + i] = 1.0);
    let whole: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..SWEEPS {
        let beside: f64 = (0..l).flat_map(|i| (0..i).map(move |j| i * l + j)).map(|at| a[at] * a[at]).sum();
        if beside <= whole * 1e-26 {
            break;
        }
        for p in 0..l {
            for q in p + 1..l {
                rotate(a, &mut rows, l, (p, q));
            }
        }
    }
    let mut order: Vec<usize> = (0..l).collect();
    order.sort_by(|&i, &j| a[j * l + j].total_cmp(&a[i * l + i]).then(i.cmp(&j)));
    let values = order.iter().map(|&i| a[i * l + i]).collect();
    let vectors = order.iter().flat_map(|&i| rows[i * l..(i + 1) * l].to_vec()).collect();
    (values, vectors)
}

/// One rotation that makes `a[p, q]` zero; `rows` turns with it.
fn rotate(a: &mut [f64], rows: &mut [f64], l: usize, (p, q): (usize, usize)) {
    let between = a[p * l + q];
    if between == 0.0 {
        return;
    }
    let theta = (a[q * l + q] - a[p * l + p]) / (2.0 * between);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    let turn = |x: &mut [f64]| {
        let (head, tail) = x.split_at_mut(q * l);
        let (p, q) = (&mut head[p * l..(p + 1) * l], &mut tail[..l]);
        p.iter_mut().zip(q).for_each(|(x, y)| (*x, *y) = (c * *x - s * *y, s * *x + c * *y));
    };
    turn(a);
    for row in a.chunks_exact_mut(l) {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
    turn(rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> (Vec<Vec<(u32, f32)>>, Csr) {
        // row r holds (3r + 5k) mod 8 with weight 1 + (r k mod 4), k = 0..3, equal columns added up
        let rows: Vec<Vec<(u32, f32)>> = (0..12u32)
            .map(|r| {
                let mut row = std::collections::BTreeMap::<u32, f32>::new();
                (0..3).for_each(|k| *row.entry((3 * r + 5 * k) % 8).or_default() += 1.0 + (r * k % 4) as f32);
                row.into_iter().collect()
            })
            .collect();
        let csr = Csr::of_rows(&rows, 8);
        (rows, csr)
    }

    // import numpy as np                                               (NumPy 2.4.6)
    // a = np.zeros((12, 8))
    // for r in range(12):
    //     for k in range(3): a[r, (3 * r + 5 * k) % 8] += 1 + r * k % 4
    // _, s, vt = np.linalg.svd(a)
    // print(s[:4]); v = vt[0] * np.sign(vt[0][np.abs(vt[0]).argmax()]); print(v)
    const STRENGTHS: [f32; 4] = [8.410626, 6.230776, 5.347242, 3.793763];
    const FIRST: [f32; 8] = [0.176599, 0.176469, 0.032716, 0.704688, 0.031967, 0.140528, 0.646752, 0.030955];

    #[test]
    fn directions_are_those_of_numpy() {
        let (_, a) = matrix();
        for rounds in [5, 12] {
            let (vectors, strengths) = directions(&a, 4, rounds, 7);
            for (got, want) in strengths.iter().zip(STRENGTHS) {
                assert!((got - want).abs() < 1e-4, "{got} for {want}");
            }
            for (got, want) in vectors.iter().step_by(4).zip(FIRST) {
                assert!((got - want).abs() < 1e-4, "{got} for {want}");
            }
        }
    }

    #[test]
    fn directions_are_orthonormal_and_another_seed_gives_the_same() {
        let (rows, a) = matrix();
        let (vectors, _) = directions(&a, 8, 8, 1);
        for i in 0..8 {
            for j in 0..8 {
                let dot: f32 = vectors.chunks(8).map(|row| row[i] * row[j]).sum();
                assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-4, "{i} {j}: {dot}");
            }
        }
        // All eight directions together keep every length.
        for row in &rows {
            let length: f32 = row.iter().map(|x| x.1 * x.1).sum();
            let mut along = [0.0f32; 8];
            for &(column, value) in row {
                add_row(&mut along, &vectors[column as usize * 8..], value);
            }
            assert!((along.iter().map(|x| x * x).sum::<f32>() - length).abs() < 1e-3 * length);
        }
        let other = directions(&a, 8, 8, 2);
        assert!(vectors.iter().zip(&other.0).all(|(a, b)| (a - b).abs() < 1e-3));
        assert_eq!(directions(&a, 8, 8, 1).0, vectors);
    }

    fn add_row(out: &mut [f32], row: &[f32], weight: f32) {
        crate::sparse::add(out, &row[..out.len()], weight);
    }

    #[test]
    fn what_has_a_lower_rank_fills_up_with_zeros() {
        let rows = vec![vec![(0u32, 3.0f32), (1, 4.0)], vec![(0, 6.0), (1, 8.0)], vec![(2, 1.0)]];
        let (vectors, strengths) = directions(&Csr::of_rows(&rows, 5), 4, 5, 3);
        assert!((strengths[0] - 125f32.sqrt()).abs() < 1e-4 && (strengths[1] - 1.0).abs() < 1e-5);
        assert!(strengths[2..].iter().all(|s| *s < 1e-4), "{:?}", strengths);
        assert!((vectors[0] - 0.6).abs() < 1e-5 && (vectors[4] - 0.8).abs() < 1e-5);
        assert!(vectors.chunks(4).all(|row| row[2..] == [0.0, 0.0]));
    }

    #[test]
    fn threads_do_not_matter() {
        let (_, a) = matrix();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| directions(&a, 5, 4, 9).0)
        };
        assert_eq!(with(1), with(3));
    }
}
