//! Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008), each row's system
//! solved by a few steps of conjugate gradient from where it stood (Takács, Pilászy and Tikk, RecSys 2011).
//!
//! ```text
//! min Σ_{u,i} c_ui (p_ui − x_u·y_i)² + λ (Σ |x_u|² + Σ |y_i|²),   p_ui = 1 and c_ui = 1 + α where u took i, else 0 and 1
//! (YᵀY + λ I + α Σ_{i ∈ I_u} y_i y_iᵀ) x_u = (1 + α) Σ_{i ∈ I_u} y_i
//! ```
//! A step costs D² + 2 D |I_u| multiplications; no row's matrix is ever made. The vectors of a row's items are fetched once for all
//! steps. Rows are independent of each other and YᵀY is summed in fixed blocks: the result does not depend on the number of threads.

use millstream_nn::kernels::vectorised;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::draws::Draws;
use crate::recall::factors::{FactorModel, FoldIn, dot};
use crate::recall::positives::{Grouped, Positives};

const MODEL: &str = "als";
/// Rows of one unit of parallel work.
const BLOCK: usize = 128;
/// Rows of one partial sum of YᵀY.
const GRAM_BLOCK: usize = 4096;
/// Conjugate gradient is exact after D steps but for rounding; a folded-in user takes at most so many.
const FOLD_STEPS: usize = 32;

/// Options of ALS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlsConfig {
    /// D, 1 to 256.
    pub dim: usize,
    /// Rounds over users and items.
    pub iterations: usize,
    /// α: confidence 1 + α in what was taken.
    pub alpha: f32,
    /// λ.
    pub l2: f32,
    /// Steps of conjugate gradient per row and round.
    pub steps: usize,
    /// Only a user's latest so many items count; 0 for all.
    pub max_user_items: usize,
}

impl Default for AlsConfig {
    fn default() -> Self {
        Self { dim: 64, iterations: 15, alpha: 10.0, l2: 10.0, steps: 3, max_user_items: 0 }
    }
}

impl AlsConfig {
    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |what: &str| Err(Error::Config(format!("{MODEL}: {what}")));
        match () {
            () if !(1..=256).contains(&self.dim) => fail("`dim` must be 1 to 256"),
            () if self.iterations == 0 || self.steps == 0 => fail("`iterations` and `steps` must be above 0"),
            () if !(self.alpha.is_finite() && self.alpha >= 0.0) => fail("`alpha` must be 0 or more"),
            () if !(self.l2.is_finite() && self.l2 > 0.0) => fail("`l2` must be above 0"),
            () => Ok(()),
        }
    }

    /// Learns users' and items' vectors; `seen` is told of each round done.
    ///
    /// # Errors
    /// An option out of range, or lists whose lengths do not fit together.
    pub fn fit(
        &self,
        positives: &Positives<'_>,
        seed: u64,
        seen: &mut dyn FnMut(usize),
    ) -> Result<FactorModel, Error> {
        let mut als = Als::new(self, positives, seed)?;
        for round in 0..self.iterations {
            als.step();
            seen(round + 1);
        }
        als.model()
    }
}

/// Factors that are being learned, a round at a time.
#[derive(Debug, Clone)]
pub struct Als {
    config: AlsConfig,
    /// D, rounded up to a width that has a kernel; what is added stays zero.
    width: usize,
    by_user: Grouped,
    by_item: Grouped,
    /// `[U, width]`.
    users: Vec<f32>,
    /// `[N, width]`.
    items: Vec<f32>,
}

impl Als {
    /// Small random vectors.
    ///
    /// # Errors
    /// As [`AlsConfig::fit`].
    pub fn new(config: &AlsConfig, positives: &Positives<'_>, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let by_user = Grouped::by_user(positives, config.max_user_items)?;
        let by_item = by_user.transposed(positives.items);
        let width = [8, 16, 32, 64, 128, 256].into_iter().find(|w| *w >= config.dim).unwrap_or(256);
        let random = |lists: &Grouped, place: u64| {
            let mut draws = Draws::new(seed, place);
            let mut x = vec![0.0f32; lists.rows() * width];
            for (row, x) in x.chunks_exact_mut(width).enumerate() {
                let scale = if lists.count(row) > 0 { 0.1 / (config.dim as f32).sqrt() } else { 0.0 };
                x[..config.dim].iter_mut().for_each(|v| *v = scale * draws.normal());
            }
            x
        };
        let (users, items) = (random(&by_user, 0), random(&by_item, 1));
        Ok(Self { config: config.clone(), width, by_user, by_item, users, items })
    }

    /// One round: users by items, then items by users.
    pub fn step(&mut self) {
        let Self { config, width, by_user, by_item, users, items } = self;
        half(config, *width, (users, by_user), items);
        half(config, *width, (items, by_item), users);
    }

    /// What was learned. Users are fitted once more to the items as they are.
    ///
    /// # Errors
    /// The vectors are no numbers any more.
    pub fn model(mut self) -> Result<FactorModel, Error> {
        half(&self.config, self.width, (&mut self.users, &self.by_user), &self.items);
        if !self.users.iter().chain(&self.items).all(|v| v.is_finite()) {
            return Err(Error::Diverged(format!("{MODEL}: the vectors are no numbers any more")));
        }
        let (width, dim) = (self.width, self.config.dim);
        let cut =
            |x: &[f32]| -> Vec<f32> { x.chunks_exact(width).flat_map(|row| &row[..dim]).copied().collect() };
        let (users, items) = (cut(&self.users), cut(&self.items));
        let gram = gram(&items, dim);
        let fold_in = FoldIn::Solve { alpha: self.config.alpha, l2: self.config.l2, gram };
        Ok(FactorModel::new(MODEL, dim, (items, users), fold_in))
    }
}

/// Fits the rows of `x` to those of `y`.
fn half(config: &AlsConfig, width: usize, (x, lists): (&mut [f32], &Grouped), y: &[f32]) {
    match width {
        8 => half_of::<8>(config, x, lists, y),
        16 => half_of::<16>(config, x, lists, y),
        32 => half_of::<32>(config, x, lists, y),
        64 => half_of::<64>(config, x, lists, y),
        128 => half_of::<128>(config, x, lists, y),
        _ => half_of::<256>(config, x, lists, y),
    }
}

fn half_of<const D: usize>(config: &AlsConfig, x: &mut [f32], lists: &Grouped, y: &[f32]) {
    let mut gram = gram(y, D);
    (0..D).for_each(|d| gram[d * D + d] += config.l2);
    let (gram, _) = gram.as_chunks::<D>();
    let (y, _) = y.as_chunks::<D>();
    let (x, _) = x.as_chunks_mut::<D>();
    let buffers = || (Vec::new(), Vec::new());
    x.par_chunks_mut(BLOCK).enumerate().for_each_init(buffers, |(taken, weights), (block, rows)| {
        for (n, row) in rows.iter_mut().enumerate() {
            let list = lists.of(block * BLOCK + n);
            if !list.is_empty() {
                vectorised!({
                    taken.clear();
                    taken.extend(list.iter().map(|&i| y[i as usize]));
                    solve(row, gram, taken, (config.alpha, config.steps, weights));
                });
            }
        }
    });
}

/// Steps of conjugate gradient for one row.
#[inline(always)]
fn solve<const D: usize>(
    x: &mut [f32; D],
    gram: &[[f32; D]],
    taken: &[[f32; D]],
    (alpha, steps, weights): (f32, usize, &mut Vec<f32>),
) {
    let mut product = [0.0f32; D];
    apply(x, gram, taken, (alpha, weights), &mut product);
    let mut residual = [0.0f32; D];
    for y in taken {
        (0..D).for_each(|d| residual[d] += y[d]);
    }
    (0..D).for_each(|d| residual[d] = (1.0 + alpha) * residual[d] - product[d]);
    let mut direction = residual;
    let mut size = dot(&residual, &residual);
    for _ in 0..steps {
        // Nothing is left to be gained in f32.
        if size < 1e-20 {
            return;
        }
        apply(&direction, gram, taken, (alpha, weights), &mut product);
        let along = size / dot(&direction, &product);
        (0..D).for_each(|d| x[d] += along * direction[d]);
        (0..D).for_each(|d| residual[d] -= along * product[d]);
        let next = dot(&residual, &residual);
        let keep = next / size;
        (0..D).for_each(|d| direction[d] = residual[d] + keep * direction[d]);
        size = next;
    }
}

/// out = (G + α Σ y yᵀ) p; `weights` holds as many places as `taken`.
#[inline(always)]
fn apply<const D: usize>(
    p: &[f32; D],
    gram: &[[f32; D]],
    taken: &[[f32; D]],
    (alpha, weights): (f32, &mut Vec<f32>),
    out: &mut [f32; D],
) {
    weights.clear();
    weights.extend(taken.iter().map(|y| alpha * dot(y, p)));
    *out = [0.0; D];
    combine(gram, p, out);
    combine(taken, weights, out);
}

/// out += Σ c_r row_r, four rows at a time.
#[inline(always)]
fn combine<const D: usize>(rows: &[[f32; D]], by: &[f32], out: &mut [f32; D]) {
    let ((fours, rest), (by4, by1)) = (rows.as_chunks::<4>(), by.as_chunks::<4>());
    for ([r0, r1, r2, r3], [c0, c1, c2, c3]) in fours.iter().zip(by4) {
        (0..D).for_each(|d| out[d] += (c0 * r0[d] + c1 * r1[d]) + (c2 * r2[d] + c3 * r3[d]));
    }
    for (row, c) in rest.iter().zip(by1) {
        (0..D).for_each(|d| out[d] += c * row[d]);
    }
}

/// YᵀY `[dim, dim]`.
fn gram(y: &[f32], dim: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = y
        .par_chunks(GRAM_BLOCK * dim)
        .map(|rows| {
            let mut part = vec![0.0f32; dim * dim];
            vectorised!({
                let mut fours = rows.chunks_exact(4 * dim);
                for four in &mut fours {
                    let (a, rest) = four.split_at(dim);
                    let (b, rest) = rest.split_at(dim);
                    let (c, d) = rest.split_at(dim);
                    for (n, sums) in part.chunks_exact_mut(dim).enumerate() {
                        let v = [a[n], b[n], c[n], d[n]];
                        for (s, (((a, b), c), d)) in sums.iter_mut().zip(a.iter().zip(b).zip(c).zip(d)) {
                            *s += (v[0] * a + v[1] * b) + (v[2] * c + v[3] * d);
                        }
                    }
                }
                for row in fours.remainder().chunks_exact(dim) {
                    for (sums, &v) in part.chunks_exact_mut(dim).zip(row) {
                        sums.iter_mut().zip(row).for_each(|(s, w)| *s += v * w);
                    }
                }
            });
            part
        })
        .collect();
    let mut sum = vec![0.0f32; dim * dim];
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
    sum
}

/// The vector that fits (vector, weight) pairs best: weights multiply α.
pub(crate) fn fold_in(taken: &[(&[f32], f32)], gram: &[f32], (alpha, l2): (f32, f32)) -> Vec<f32> {
    let dim = taken.first().map_or(0, |t| t.0.len());
    let apply = |p: &[f32]| -> Vec<f32> {
        let mut out: Vec<f32> =
            gram.chunks_exact(dim).zip(p).map(|(row, p_d)| dot(row, p) + l2 * p_d).collect();
        for (y, weight) in taken {
            let w = alpha * weight * dot(y, p);
            out.iter_mut().zip(*y).for_each(|(o, v)| *o += w * v);
        }
        out
    };
    let mut residual = vec![0.0f32; dim];
    for (y, weight) in taken {
        residual.iter_mut().zip(*y).for_each(|(r, v)| *r += (1.0 + alpha * weight) * v);
    }
    let (mut x, mut direction) = (vec![0.0f32; dim], residual.clone());
    let mut size = dot(&residual, &residual);
    let enough = size * 1e-12;
    for _ in 0..FOLD_STEPS.min(2 * dim) {
        if size <= enough {
            break;
        }
        let product = apply(&direction);
        let along = size / dot(&direction, &product);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += along * d);
        residual.iter_mut().zip(&product).for_each(|(r, p)| *r -= along * p);
        let next = dot(&residual, &residual);
        direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / size * *d);
        size = next;
    }
    x
}

#[cfg(test)]
#[path = "als_tests.rs"]
mod tests;
