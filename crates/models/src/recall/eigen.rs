//! The largest eigenvalues of a graph's normalised matrix M = D^−½ W D^−½, with their vectors: those of the symmetric normalised
//! Laplacian I − M that are smallest.
//!
//! Subspace iteration on a random block, accelerated by Chebyshev polynomials (Zhou, Saad, Tiago and Chelikowsky, "Self-consistent-field
//! calculations using Chebyshev-filtered subspace iteration", J. Comput. Phys. 2006): a polynomial of M that is small on [−1, c] and
//! grows fast above is applied to the block, which is then made orthonormal (through the eigenvalues of its Gram matrix, as in Stathopoulos
//! and Wu, SIAM J. Sci. Comput. 2002) and turned to the best vectors in its span (Rayleigh and Ritz); c is the least value found. A block
//! finds eigenvalues that occur several times, as 1 does once for each component of the graph.
//!
//! All numbers are f64, and sums are put together in an order that does not depend on threads.

use rayon::prelude::*;

use crate::Error;
use crate::recall::draws::Draws;
use crate::recall::graph::Graph;

/// Vectors beyond those asked for, so that the last of those converge, too.
const EXTRA: usize = 8;
/// Degree of the polynomial.
const DEGREE: usize = 12;
/// Rows of one unit of parallel work.
const ROWS: usize = 512;
/// The polynomial grows above this value at the latest: with more components than vectors there would be nothing above the least
/// value found.
const HIGHEST_CUT: f64 = 0.99;

/// What is to be found, and when it is good enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Eigenvalues.
    pub(crate) count: usize,
    /// Largest ‖Mx − θx‖ of any of them.
    pub(crate) tolerance: f64,
    /// Rounds at most.
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    /// Added to each node's degree, in mean degrees.
    pub(crate) inflation: f64,
}

/// Falling eigenvalues of M with vectors of length 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pairs {
    /// `[count]`, in [−1, 1].
    pub(crate) values: Vec<f64>,
    /// `[nodes, count]`, row-major; zero at nodes without edges. The largest number of each vector is positive.
    pub(crate) vectors: Vec<f64>,
}

/// Finds the largest eigenvalues; fewer than asked for where there are fewer nodes with edges.
///
/// # Errors
/// They are not good enough after all rounds.
pub(crate) fn largest(graph: &Graph, wanted: &Wanted, model: &str) -> Result<Pairs, Error> {
    let matrix = Normalised::new(graph, wanted.inflation);
    let live: Vec<bool> = matrix.scale.iter().map(|&s| s > 0.0).collect();
    let alive = live.iter().filter(|l| **l).count();
    let (count, width) = (wanted.count.min(alive), (wanted.count + EXTRA).min(alive));
    if count == 0 {
        return Ok(Pairs { values: Vec::new(), vectors: Vec::new() });
    }
    let mut block = Block { width, live: &live, rows: vec![0.0; graph.nodes() * width], cut: 0.0 };
    block.fill(0..width, &mut Draws::new(wanted.seed, 1 << 51));
    let mut worst = f64::INFINITY;
    for round in 0..=wanted.rounds {
        if round > 0 {
            matrix.filter(&mut block);
        }
        block.orthonormalise(&mut Draws::new(wanted.seed, (1 << 51) + 1 + round as u64));
        let (values, residuals) = matrix.ritz(&mut block);
        block.cut = values[width - 1];
        worst = residuals[..count].iter().copied().fold(0.0, f64::max);
        // The whole space has nothing left to find.
        if worst <= wanted.tolerance || width == alive {
            return Ok(block.pairs(values, count));
        }
    }
    Err(Error::Diverged(format!(
        "{model}: after {} rounds an eigenvector is off by {worst:.2e}, more than `tolerance` = {:.2e}; raise `rounds` or \
         `tolerance`, or lower `dim`",
        wanted.rounds, wanted.tolerance
    )))
}

/// M.
struct Normalised<'a> {
    graph: &'a Graph,
    /// D^−½; 0 at nodes without edges.
    scale: Vec<f64>,
}

/// Some vectors, `[nodes, width]` row-major.
struct Block<'a> {
    width: usize,
    live: &'a [bool],
    rows: Vec<f64>,
    /// The least value found.
    cut: f64,
}

/// (factor, shift, factor of the block before): out = factor · (M − shift) x + third · before.
type Step = (f64, f64, f64);

impl<'a> Normalised<'a> {
    fn new(graph: &'a Graph, inflation: f64) -> Self {
        let degrees: Vec<f64> = (0..graph.nodes() as u32).map(|node| graph.degree(node)).collect();
        let live = degrees.iter().filter(|d| **d > 0.0).count().max(1);
        let more = inflation * degrees.iter().sum::<f64>() / live as f64;
        let scale = |d: &f64| if *d > 0.0 { 1.0 / (d + more).sqrt() } else { 0.0 };
        Self { graph, scale: degrees.iter().map(scale).collect() }
    }

    /// `out` holds the block before, and then the result.
    fn apply(&self, x: &[f64], width: usize, (factor, shift, third): Step, out: &mut [f64]) {
        out.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, rows)| {
            let mut sum = vec![0.0; width];
            for (n, row) in rows.chunks_exact_mut(width).enumerate() {
                let node = chunk * ROWS + n;
                sum.fill(0.0);
                for (at, &other) in self.graph.of(node as u32).iter().enumerate() {
                    let weight = f64::from(self.graph.weight(node as u32, at)) * self.scale[other as usize];
                    let theirs = &x[other as usize * width..][..width];
                    sum.iter_mut().zip(theirs).for_each(|(s, v)| *s += weight * v);
                }
                let (scale, own) = (self.scale[node], &x[node * width..][..width]);
                for ((o, s), v) in row.iter_mut().zip(&sum).zip(own) {
                    *o = factor * (scale * s - shift * v) + third * *o;
                }
            }
        });
    }

    /// The block by the Chebyshev polynomial that is at most about 1 on [−1, cut], scaled to 1 at 1.
    fn filter(&self, block: &mut Block<'_>) {
        let cut = block.cut.min(HIGHEST_CUT);
        // A cut at the lower end would leave no interval to keep small.
        let (half, centre) = (((cut + 1.0) / 2.0).max(1e-3), (cut - 1.0) / 2.0);
        let first = half / (1.0 - centre);
        let mut sigma = first;
        let mut before = std::mem::take(&mut block.rows);
        let mut now = vec![0.0; before.len()];
        self.apply(&before, block.width, (sigma / half, centre, 0.0), &mut now);
        for _ in 1..DEGREE {
            let next = 1.0 / (2.0 / first - sigma);
            self.apply(&now, block.width, (2.0 * next / half, centre, -sigma * next), &mut before);
            std::mem::swap(&mut now, &mut before);
            sigma = next;
        }
        block.rows = now;
    }

    /// Turns an orthonormal block to the best vectors of its span; their values, falling, and how far each is off.
    fn ritz(&self, block: &mut Block<'_>) -> (Vec<f64>, Vec<f64>) {
        let width = block.width;
        let mut image = vec![0.0; block.rows.len()];
        self.apply(&block.rows, width, (1.0, 0.0, 0.0), &mut image);
        let (values, turn) = symmetric(products(&block.rows, &image, width), width);
        turned(&mut block.rows, &turn, width);
        turned(&mut image, &turn, width);
        for (x, y) in block.rows.chunks_exact(width).zip(image.chunks_exact_mut(width)) {
            y.iter_mut().zip(x).zip(&values).for_each(|((y, x), v)| *y -= v * x);
        }
        let squares = products(&image, &image, width);
        (values, (0..width).map(|d| squares[d * width + d].max(0.0).sqrt()).collect())
    }
}

impl<'a> Block<'a> {
    /// Random numbers in some columns, where there are edges.
    fn fill(&mut self, columns: std::ops::Range<usize>, draws: &mut Draws) {
        for (row, live) in self.rows.chunks_exact_mut(self.width).zip(self.live) {
            if *live {
                row[columns.clone()].iter_mut().for_each(|x| *x = f64::from(draws.normal()));
            }
        }
    }

    /// Twice, as the first time leaves what rounding makes of nearly dependent vectors. What is dependent is drawn anew.
    fn orthonormalise(&mut self, draws: &mut Draws) {
        let width = self.width;
        let mut passes = 0;
        while passes < 2 {
            let mut gram = products(&self.rows, &self.rows, width);
            let scale: Vec<f64> = (0..width).map(|d| 1.0 / gram[d * width + d].max(1e-300).sqrt()).collect();
            (0..width * width).for_each(|at| gram[at] *= scale[at / width] * scale[at % width]);
            let (values, mut turn) = symmetric(gram, width);
            // Of values that fall.
            let good = values.iter().take_while(|v| **v > 1e-11 * values[0]).count();
            for (at, t) in turn.iter_mut().enumerate() {
                let (from, to) = (at / width, at % width);
                *t *= scale[from] / values[to].max(1e-300).sqrt();
            }
            turned(&mut self.rows, &turn, width);
            match good < width {
                true => self.fill(good..width, draws),
                false => passes += 1,
            }
        }
    }

    fn pairs(&self, values: Vec<f64>, count: usize) -> Pairs {
        let mut signs = vec![(0.0f64, 1.0f64); count];
        for row in self.rows.chunks_exact(self.width) {
            for (sign, &x) in signs.iter_mut().zip(row) {
                // Rounding must not decide between numbers that are the same but for it.
                if x.abs() > sign.0 * (1.0 + 1e-9) {
                    *sign = (x.abs(), x.signum());
                }
            }
        }
        let row = |row: &[f64]| row.iter().zip(&signs).map(|(x, s)| x * s.1).collect::<Vec<f64>>();
        let vectors = self.rows.chunks_exact(self.width).flat_map(|r| row(&r[..count])).collect();
        Pairs { values: values[..count].to_vec(), vectors }
    }
}

/// xᵀy, `[width, width]`.
fn products(x: &[f64], y: &[f64], width: usize) -> Vec<f64> {
    let part = |(x, y): (&[f64], &[f64])| {
        let mut sums = vec![0.0; width * width];
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
            for (sums, x) in sums.chunks_exact_mut(width).zip(x) {
                sums.iter_mut().zip(y).for_each(|(s, y)| *s += x * y);
            }
        }
        sums
    };
    let step = ROWS * width;
    let parts: Vec<Vec<f64>> = x.par_chunks(step).zip(y.par_chunks(step)).map(part).collect();
    let mut sum = vec![0.0; width * width];
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
    sum
}

/// Each row by `turn`, `[width, width]`.
fn turned(rows: &mut [f64], turn: &[f64], width: usize) {
    rows.par_chunks_mut(ROWS * width).for_each(|rows| {
        let mut new = vec![0.0; width];
        for row in rows.chunks_exact_mut(width) {
            new.fill(0.0);
            for (x, turn) in row.iter().zip(turn.chunks_exact(width)) {
                new.iter_mut().zip(turn).for_each(|(n, t)| *n += x * t);
            }
            row.copy_from_slice(&new);
        }
    });
}

/// Eigenvalues of a small symmetric matrix, falling, and its vectors as columns (Jacobi's rotations, Golub and Van Loan §8.5).
fn symmetric(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    // Rows are the vectors while they are turned.
    let mut v: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    let size: f64 = a.iter().map(|x| x * x).sum::<f64>();
    for _ in 0..60 {
        let off: f64 = (0..n * n).filter(|at| at / n != at % n).map(|at| a[at] * a[at]).sum();
        if off <= 1e-30 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut v, n, (p, q));
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    let vectors = (0..n * n).map(|at| v[order[at % n] * n + at / n]).collect();
    (values, vectors)
}

/// Makes a_pq zero.
fn rotate(a: &mut [f64], v: &mut [f64], n: usize, (p, q): (usize, usize)) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let slope = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = slope.signum() / (slope.abs() + slope.hypot(1.0));
    let (c, s) = (1.0 / t.hypot(1.0), t / t.hypot(1.0));
    // Columns first, then rows, and the rows of the vectors.
    for row in a.chunks_exact_mut(n) {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
    for rows in [a, v] {
        let (head, tail) = rows.split_at_mut(q * n);
        for (x, y) in head[p * n..][..n].iter_mut().zip(&mut tail[..n]) {
            (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
        }
    }
}

#[cfg(test)]
#[path = "eigen_tests.rs"]
mod tests;
