//! Normalisations: of a row's length, of a row's values, of a column's values.

use crate::buffer::Buffer;
use crate::chunks;
use crate::tensor::{Tensor, own};
use rayon::prelude::*;

impl Tensor {
    /// x / max(‖x‖, 1e-12) for each row; a zero row stays zero.
    pub fn l2_normalise(&self) -> Tensor {
        const LEAST: f32 = 1e-12;
        let width = self.width();
        let (mut out, mut lengths) = (Buffer::copy_of(self.data()), Buffer::any(self.rows()));
        chunks::rows2((&mut out, width), (&mut lengths, 1), |_, out, lengths| {
            for (row, length) in out.chunks_exact_mut(width).zip(lengths) {
                *length = chunks::dot(row, row).sqrt().max(LEAST);
                row.iter_mut().for_each(|v| *v /= *length);
            }
        });
        let (out, lengths, node) = (own(out), own(lengths), self.node);
        let kept = out.clone();
        self.output(self.shape, out, node.is_some(), move |mut g, grads| {
            let (y, lengths) = (&kept[..], &lengths[..]);
            chunks::rows(&mut g, width, |from, g| {
                for (i, g) in g.chunks_exact_mut(width).enumerate() {
                    let y = &y[(from + i) * width..][..width];
                    let along = chunks::dot(g, y);
                    g.iter_mut().zip(y).for_each(|(g, y)| *g = (*g - along * y) / lengths[from + i]);
                }
            });
            grads.add(node, g);
        })
    }

    /// x ‖x‖ / (1 + ‖x‖²) for each row: its direction, with a length below 1 (Sabour et al. 2017, eq. 1); a zero row stays zero.
    pub fn squash(&self) -> Tensor {
        let width = self.width();
        let mut out = Buffer::copy_of(self.data());
        chunks::rows(&mut out, width, |_, out| {
            for row in out.chunks_exact_mut(width) {
                let squared = chunks::dot(row, row);
                let factor = squared.sqrt() / (1.0 + squared);
                row.iter_mut().for_each(|v| *v *= factor);
            }
        });
        let (node, x) = (self.node, self.clone());
        self.output(self.shape, own(out), node.is_some(), move |mut g, grads| {
            let x = x.data();
            chunks::rows(&mut g, width, |from, g| {
                for (i, g) in g.chunks_exact_mut(width).enumerate() {
                    let x = &x[(from + i) * width..][..width];
                    let squared = chunks::dot(x, x);
                    let (length, more) = (squared.sqrt(), 1.0 + squared);
                    // d factor / d x = x (1 − ‖x‖²) / (‖x‖ (1 + ‖x‖²)²); at zero the whole slope is zero.
                    let along = match length > 0.0 {
                        true => chunks::dot(g, x) * (1.0 - squared) / (length * more * more),
                        false => 0.0,
                    };
                    g.iter_mut().zip(x).for_each(|(g, x)| *g = *g * length / more + along * x);
                }
            });
            grads.add(node, g);
        })
    }

    /// (x − mean) / √(var + eps) over each row (Ba et al. 2016); gain and bias follow by
    /// [`Tensor::mul_row`] and [`Tensor::add_row`].
    pub fn standardise_rows(&self, eps: f32) -> Tensor {
        let width = self.width();
        let (mut out, mut scales) = (Buffer::copy_of(self.data()), Buffer::any(self.rows()));
        chunks::rows2((&mut out, width), (&mut scales, 1), |_, out, scales| {
            for (row, scale) in out.chunks_exact_mut(width).zip(scales) {
                let mean = row.iter().sum::<f32>() / width as f32;
                row.iter_mut().for_each(|v| *v -= mean);
                *scale = 1.0 / (chunks::dot(row, row) / width as f32 + eps).sqrt();
                row.iter_mut().for_each(|v| *v *= *scale);
            }
        });
        let (out, scales, node) = (own(out), own(scales), self.node);
        let kept = out.clone();
        self.output(self.shape, out, node.is_some(), move |mut g, grads| {
            let (y, scales) = (&kept[..], &scales[..]);
            chunks::rows(&mut g, width, |from, g| {
                for (i, g) in g.chunks_exact_mut(width).enumerate() {
                    let y = &y[(from + i) * width..][..width];
                    let mean = g.iter().sum::<f32>() / width as f32;
                    let along = chunks::dot(g, y) / width as f32;
                    let scale = scales[from + i];
                    g.iter_mut().zip(y).for_each(|(g, y)| *g = scale * (*g - mean - along * y));
                }
            });
            grads.add(node, g);
        })
    }

    /// (x − mean) / √(var + eps) over each column of the batch (Ioffe & Szegedy 2015), with the mean and the (biased)
    /// variance that were used.
    pub(crate) fn standardise_columns(&self, eps: f32) -> (Tensor, Vec<f32>, Vec<f32>) {
        let (n, width) = (self.rows().max(1) as f32, self.width());
        let mut mean = vec![0.0; width];
        chunks::column_sums(self.data(), width, &mut mean);
        mean.iter_mut().for_each(|m| *m /= n);
        let mut variance = vec![0.0; width];
        chunks::fold(self.data(), width, &mut variance, |_, rows, part| {
            for row in rows.chunks_exact(width) {
                part.iter_mut().zip(row).zip(&mean).for_each(|((p, x), m)| *p += (x - m) * (x - m));
            }
        });
        variance.iter_mut().for_each(|v| *v /= n);
        let scale: Vec<f32> = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        let mut out = Buffer::copy_of(self.data());
        shift_and_scale(&mut out, &mean, &scale);
        let (out, node) = (own(out), self.node);
        let kept = out.clone();
        let tensor = self.output(self.shape, out, node.is_some(), move |mut g, grads| {
            standardise_columns_back(&mut g, &kept, &scale, n);
            grads.add(node, g);
        });
        (tensor, mean, variance)
    }
}

/// (x − mean) · scale, by column.
pub(crate) fn shift_and_scale(x: &mut [f32], mean: &[f32], scale: &[f32]) {
    let width = mean.len();
    chunks::rows(x, width, |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().zip(mean).zip(scale).for_each(|((v, m), s)| *v = (*v - m) * s);
        }
    });
}

/// g ← scale · (g − mean(g) − y · mean(g y)), means by column.
fn standardise_columns_back(g: &mut [f32], y: &[f32], scale: &[f32], n: f32) {
    let width = scale.len();
    let mut sums = vec![0.0; 2 * width];
    chunks::fold(g, width, &mut sums, |from, g, part| {
        let (plain, along) = part.split_at_mut(width);
        for (g, y) in g.chunks_exact(width).zip(y[from * width..].chunks_exact(width)) {
            chunks::add(plain, g);
            along.iter_mut().zip(g).zip(y).for_each(|((a, g), y)| *a += g * y);
        }
    });
    sums.par_iter_mut().with_min_len(4096).for_each(|s| *s /= n);
    let (plain, along) = sums.split_at(width);
    chunks::rows(g, width, |from, g| {
        for (g, y) in g.chunks_exact_mut(width).zip(y[from * width..].chunks_exact(width)) {
            for j in 0..width {
                g[j] = scale[j] * (g[j] - plain[j] - y[j] * along[j]);
            }
        }
    });
}
