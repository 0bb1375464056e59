//! Batch normalisation with what follows it in a tower, as one operation.

use super::dropout::Dropout;
use crate::buffer::Buffer;
use crate::chunks::{self, wide};
use crate::tensor::{Tensor, Values, own};

/// Mean and (biased) variance of each column of a batch.
pub(crate) struct Moments {
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
}

/// Rows, mean and sum of squared deviations of a chunk of rows.
struct Part {
    rows: f32,
    mean: Vec<f32>,
    squares: Vec<f32>,
}

impl Part {
    /// Two walks over rows that stay in the cache between them.
    fn of(data: &[f32], width: usize) -> Self {
        let rows = (data.len() / width) as f32;
        let (mut mean, mut squares) = (vec![0.0; width], vec![0.0; width]);
        data.chunks_exact(width).for_each(|row| chunks::add(&mut mean, row));
        mean.iter_mut().for_each(|m| *m /= rows);
        for row in data.chunks_exact(width) {
            squares.iter_mut().zip(row).zip(&mean).for_each(|((s, x), m)| *s += (x - m) * (x - m));
        }
        Self { rows, mean, squares }
    }

    /// The two together (Chan et al. 1983).
    fn join(mut self, other: &Self) -> Self {
        let rows = self.rows + other.rows;
        let (share, weight) = (other.rows / rows, self.rows * other.rows / rows);
        let theirs = other.mean.iter().zip(&other.squares);
        for ((mean, squares), (m, s)) in self.mean.iter_mut().zip(&mut self.squares).zip(theirs) {
            let apart = m - *mean;
            *mean += apart * share;
            *squares += s + apart * apart * weight;
        }
        self.rows = rows;
        self
    }
}

/// Moments of the columns of rows of `width`, in one walk over memory.
pub(crate) fn moments(data: &[f32], width: usize) -> Moments {
    let parts = chunks::parts(data, width, |rows| Part::of(rows, width));
    let joined = parts.into_iter().reduce(|a, b| a.join(&b));
    let Part { rows, mean, squares } =
        joined.unwrap_or(Part { rows: 1.0, mean: vec![0.0; width], squares: vec![0.0; width] });
    Moments { mean, variance: squares.iter().map(|s| s / rows).collect() }
}

impl Tensor {
    /// dropout(max(gain ⊙ (x − mean) / √(var + eps) + bias, 0)), `[N, W]`, moments over the batch (Ioffe & Szegedy 2015), and the
    /// moments; the memory is walked twice forward and twice backward.
    pub(crate) fn batch_norm_relu(
        &self,
        (gain, bias): (&Tensor, &Tensor),
        eps: f32,
        dropout: Option<Dropout>,
    ) -> (Tensor, Moments) {
        let width = self.width();
        let moments = moments(self.data(), width);
        let slope: Vec<f32> = moments.variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        let scale: Vec<f32> = slope.iter().zip(gain.data()).map(|(s, g)| s * g).collect();
        let (z, shift) = (self.data(), bias.data());
        let mut out = Buffer::any(self.len());
        chunks::rows(&mut out, width, |from, out| {
            let by_column = Columns { mean: &moments.mean, scale: &scale, third: shift };
            normalise_cut(out, &z[from * width..], &by_column);
            if let Some(dropout) = &dropout {
                dropout.apply(from * width, out);
            }
        });
        let (out, x) = (own(out), self.clone());
        let back = Back {
            x: x.clone(),
            y: out.clone(),
            mean: moments.mean.clone(),
            slope,
            scale,
            kept: dropout.map_or(1.0, |d| d.scale),
        };
        let (gain, bias) = (gain.node, bias.node);
        let tracked = x.tracked() || gain.is_some() || bias.is_some();
        let tensor = self.output(self.shape, out, tracked, move |mut g, grads| {
            let (plain, along) = back.sums(&g);
            grads.sum(bias, width, |into| chunks::add(into, &plain));
            grads.sum(gain, width, |into| {
                into.iter_mut().zip(&along).zip(&back.slope).for_each(|((i, a), s)| *i += a * s);
            });
            if x.tracked() {
                back.input(&mut g, &plain, &along);
                grads.add(x.node, g);
            }
        });
        (tensor, moments)
    }
}

/// What the backward pass needs.
struct Back {
    x: Tensor,
    y: Values,
    mean: Vec<f32>,
    /// 1 / √(var + eps).
    slope: Vec<f32>,
    /// gain / √(var + eps).
    scale: Vec<f32>,
    /// Factor of dropout on what it kept.
    kept: f32,
}

impl Back {
    /// By column: Σ g' and Σ g' (x − mean), g' being the gradient before the cut and dropout, which is zero where the output is.
    fn sums(&self, g: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (width, x, y, kept) = (self.mean.len(), self.x.data(), &self.y[..], self.kept);
        let mean = &self.mean[..];
        let mut sums = vec![0.0; 2 * width];
        chunks::fold(g, width, &mut sums, |from, g, part| {
            let (plain, along) = part.split_at_mut(width);
            slopes(g, &x[from * width..], &y[from * width..], mean, kept, plain, along);
        });
        let along = sums.split_off(width);
        (sums, along)
    }

    /// g ← scale · (g' − mean(g') − x̂ · mean(g' x̂)), means by column, x̂ being the standardised input.
    fn input(&self, g: &mut [f32], plain: &[f32], along: &[f32]) {
        let (width, x, y, kept) = (self.mean.len(), self.x.data(), &self.y[..], self.kept);
        let (mean, scale) = (&self.mean[..], &self.scale[..]);
        let n = (g.len() / width) as f32;
        let plain: Vec<f32> = plain.iter().map(|p| p / n).collect();
        let along: Vec<f32> = along.iter().zip(&self.slope).map(|(a, s)| a * s * s / n).collect();
        chunks::rows(g, width, |from, g| {
            let by_column = Columns { mean, scale, third: &along };
            input_slopes(g, &x[from * width..], &y[from * width..], &by_column, &plain, kept);
        });
    }
}

/// Three numbers per column.
struct Columns<'a> {
    mean: &'a [f32],
    scale: &'a [f32],
    third: &'a [f32],
}

wide! {
    /// max((z − mean) · scale + third, 0).
    fn normalise_cut(out: &mut [f32], z: &[f32], by: &Columns<'_>) {
        let width = by.mean.len();
        let (mean, scale, shift) = (by.mean, &by.scale[..width], &by.third[..width]);
        for (out, z) in out.chunks_exact_mut(width).zip(z.chunks_exact(width)) {
            for j in 0..width {
                out[j] = ((z[j] - mean[j]) * scale[j] + shift[j]).max(0.0);
            }
        }
    }

    /// Adds g' and g' (x − mean) of each row to sums by column.
    fn slopes(g: &[f32], x: &[f32], y: &[f32], mean: &[f32], kept: f32, plain: &mut [f32], along: &mut [f32]) {
        let width = mean.len();
        let (plain, along) = (&mut plain[..width], &mut along[..width]);
        for (g, (x, y)) in g.chunks_exact(width).zip(x.chunks_exact(width).zip(y.chunks_exact(width))) {
            for j in 0..width {
                let above = g[j] * kept;
                let above = if y[j] > 0.0 { above } else { 0.0 };
                plain[j] += above;
                along[j] += above * (x[j] - mean[j]);
            }
        }
    }

    /// g ← scale · (g' − plain − (x − mean) · third).
    fn input_slopes(g: &mut [f32], x: &[f32], y: &[f32], by: &Columns<'_>, plain: &[f32], kept: f32) {
        let width = by.mean.len();
        let (mean, scale, along, plain) = (by.mean, &by.scale[..width], &by.third[..width], &plain[..width]);
        let rows = x.chunks_exact(width).zip(y.chunks_exact(width));
        for (g, (x, y)) in g.chunks_exact_mut(width).zip(rows) {
            for j in 0..width {
                let above = g[j] * kept;
                let above = if y[j] > 0.0 { above } else { 0.0 };
                g[j] = scale[j] * (above - plain[j] - (x[j] - mean[j]) * along[j]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Params, Pass};

    #[test]
    fn one_operation_does_what_four_do() {
        let (n, w) = (300, 70);
        let values = |salt: usize, len: usize| -> Vec<f32> {
            (0..len).map(|i| ((i * 7 + salt) * 2_654_435_761 % 1000) as f32 / 250.0 - 1.0).collect()
        };
        let mut params = Params::new(0);
        let [x, gain, bias] = [("x", n * w), ("gain", w), ("bias", w)].map(|(name, len)| {
            let shape = if name == "x" { vec![n, w] } else { vec![w] };
            let id = params.dense(name, &shape, crate::Init::Zeros).unwrap();
            params.values_mut(id).copy_from_slice(&values(len, len));
            id
        });
        let run = |fused: bool| {
            let pass = Pass::new(&params, Mode::Train, 5);
            let (x, gain, bias) = (pass.param(x), pass.param(gain), pass.param(bias));
            let y = if fused {
                let dropout = Dropout::draw(&pass, 0.3);
                x.batch_norm_relu((&gain, &bias), 1e-5, dropout).0
            } else {
                let (y, ..) = x.standardise_columns(1e-5);
                y.mul_row(&gain).add_row(&bias).relu().dropout(&pass, 0.3)
            };
            let weights = pass.constant(&[n, w], values(3, n * w));
            let gradients = pass.backward(&y.mul(&weights).sum());
            (y.to_vec(), gradients)
        };
        let ((a, ga), (b, gb)) = (run(true), run(false));
        let near = |a: &[f32], b: &[f32], by: f32| a.iter().zip(b).all(|(a, b)| (a - b).abs() < by);
        assert!(near(&a, &b, 1e-5));
        for id in [x, gain, bias] {
            assert!(near(ga.dense(id).unwrap(), gb.dense(id).unwrap(), 2e-4), "{}", params.name(id));
        }
    }
}
