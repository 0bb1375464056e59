//! Self-attention within each row of a batch, as one operation: for few vectors a row, such as its fields.

use crate::buffer::Buffer;
use crate::chunks;
use crate::ops::softmax_row;
use crate::tensor::{Tensor, own};
use rayon::prelude::*;

/// Sizes of one row's attention.
#[derive(Clone, Copy)]
struct Heads {
    /// F: vectors a row.
    fields: usize,
    heads: usize,
    /// A: width of a head.
    width: usize,
    /// Factor on the scores.
    scale: f32,
}

impl Tensor {
    /// Queries (`self`), keys and values `[N, F, H·A]` → `[N, F, H·A]`: in each row and head h, with that head's columns
    /// `h·A .. (h+1)·A`, Σ_j softmax_j(scale ⟨q_i, k_j⟩) v_j (Vaswani et al. 2017).
    ///
    /// # Panics
    /// If the shapes differ, there are not three axes, or the heads do not divide the width.
    pub fn attend(&self, keys: &Tensor, values: &Tensor, heads: usize, scale: f32) -> Tensor {
        let &[n, fields, total] = self.shape() else { panic!("attention over {:?}", self.shape) };
        let same = keys.shape == self.shape && values.shape == self.shape;
        assert!(same, "attention of {:?} to {:?} and {:?}", self.shape, keys.shape, values.shape);
        assert!(heads > 0 && total % heads == 0, "{heads} heads of {total} columns");
        let sizes = Heads { fields, heads, width: total / heads, scale };
        let (row, weights_row) = (fields * total, heads * fields * fields);
        let (mut out, mut weights) = (Buffer::zeros(self.len()), Buffer::any(n * weights_row));
        let (q, k, v) = (self.data(), keys.data(), values.data());
        chunks::rows2((&mut out, row), (&mut weights, weights_row), |from, out, weights| {
            let rows = out.chunks_exact_mut(row).zip(weights.chunks_exact_mut(weights_row));
            for (i, (out, weights)) in rows.enumerate() {
                let at = (from + i) * row..(from + i + 1) * row;
                sizes.forward((&q[at.clone()], &k[at.clone()], &v[at]), weights, out);
            }
        });
        let (q, k, v) = (self.clone(), keys.clone(), values.clone());
        let tracked = q.tracked() || k.tracked() || v.tracked();
        self.output(self.shape, own(out), tracked, move |g, grads| {
            let mut slopes = [Buffer::zeros(g.len()), Buffer::zeros(g.len()), Buffer::zeros(g.len())];
            sizes.back_all((q.data(), k.data(), v.data()), (&weights, &g), &mut slopes);
            let [gq, gk, gv] = slopes;
            grads.add(q.node, gq);
            grads.add(k.node, gk);
            grads.add(v.node, gv);
        })
    }
}

/// Queries, keys and values.
type Qkv<'a> = (&'a [f32], &'a [f32], &'a [f32]);

impl Heads {
    /// Where head h of field i stands in a row.
    fn at(self, i: usize, h: usize) -> std::ops::Range<usize> {
        let from = (i * self.heads + h) * self.width;
        from..from + self.width
    }

    /// Attention weights of head h and field i in a row's `[H, F, F]`.
    fn weights_at(self, i: usize, h: usize) -> std::ops::Range<usize> {
        let from = (h * self.fields + i) * self.fields;
        from..from + self.fields
    }

    /// One row: fills the weights, adds to `out`.
    fn forward(self, (q, k, v): Qkv<'_>, weights: &mut [f32], out: &mut [f32]) {
        for h in 0..self.heads {
            for i in 0..self.fields {
                let scores = &mut weights[self.weights_at(i, h)];
                for (j, s) in scores.iter_mut().enumerate() {
                    *s = self.scale * chunks::dot(&q[self.at(i, h)], &k[self.at(j, h)]);
                }
                softmax_row(scores);
                let out = &mut out[self.at(i, h)];
                scores.iter().enumerate().for_each(|(j, w)| chunks::add_scaled(out, *w, &v[self.at(j, h)]));
            }
        }
    }

    /// All rows: adds to the slopes of queries, keys and values.
    fn back_all(self, (q, k, v): Qkv<'_>, (weights, g): (&[f32], &[f32]), slopes: &mut [Buffer; 3]) {
        let row = self.fields * self.heads * self.width;
        let step = chunks::rows_per_chunk(row);
        let weights_row = self.heads * self.fields * self.fields;
        let [gq, gk, gv] = slopes;
        let all = gq.par_chunks_mut(step * row).zip(gk.par_chunks_mut(step * row));
        all.zip(gv.par_chunks_mut(step * row)).enumerate().for_each(|(c, ((gq, gk), gv))| {
            let mut scores = vec![0.0; self.fields];
            for i in 0..gq.len() / row {
                let (n, at) = (c * step + i, i * row..(i + 1) * row);
                let given = n * row..(n + 1) * row;
                self.back(
                    (&q[given.clone()], &k[given.clone()], &v[given.clone()]),
                    (&weights[n * weights_row..][..weights_row], &g[given]),
                    (&mut gq[at.clone()], &mut gk[at.clone()], &mut gv[at]),
                    &mut scores,
                );
            }
        });
    }

    /// One row; `scores` is scratch of length F.
    fn back(
        self,
        (q, k, v): Qkv<'_>,
        (weights, g): (&[f32], &[f32]),
        (gq, gk, gv): (&mut [f32], &mut [f32], &mut [f32]),
        scores: &mut [f32],
    ) {
        for h in 0..self.heads {
            for i in 0..self.fields {
                let (w, g) = (&weights[self.weights_at(i, h)], &g[self.at(i, h)]);
                for (j, s) in scores.iter_mut().enumerate() {
                    chunks::add_scaled(&mut gv[self.at(j, h)], w[j], g);
                    *s = chunks::dot(g, &v[self.at(j, h)]);
                }
                let mean = chunks::dot(scores, w);
                for (j, s) in scores.iter().enumerate() {
                    let slope = self.scale * w[j] * (s - mean);
                    chunks::add_scaled(&mut gq[self.at(i, h)], slope, &k[self.at(j, h)]);
                    chunks::add_scaled(&mut gk[self.at(j, h)], slope, &q[self.at(i, h)]);
                }
            }
        }
    }
}
