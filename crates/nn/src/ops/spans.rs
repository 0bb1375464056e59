//! Sums, scores and maxima over the pairs of candidates and elements, and weights that sum to one over each candidate's.

use crate::buffer::Buffer;
use crate::chunks::{self, vectorised};
use crate::ops::softmax_row;
use crate::pairs::{Pairs, Task, pieces};
use crate::tensor::{Shape, Tensor, own};
use rayon::prelude::*;
use std::sync::Arc;

/// Halvings of the interval that holds τ: more than a float tells apart.
const HALVINGS: usize = 40;

impl Tensor {
    /// Weights `[P, 1]` and elements `[M, V]` → `[N, V]`: Σ_e w_ne v_e over the elements that candidate n looks at; zero for none.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn pair_sum(&self, values: &Tensor, pairs: &Pairs) -> Tensor {
        let width = values.width();
        assert_eq!((self.len(), values.rows()), (pairs.len(), pairs.elements()), "sizes of a sum over pairs");
        let mut out = Buffer::zeros(pairs.candidates() * width);
        let (w, v) = (self.data(), values.data());
        over(pairs, (&mut out, width), |n, out| {
            for (w, e) in w[pairs.pairs_of(n)].iter().zip(pairs.elements_of(n)) {
                chunks::add_scaled(out, *w, &v[e * width..][..width]);
            }
        });
        let tracked = self.tracked() || values.tracked();
        let (w, v, pairs) = (self.clone(), values.clone(), pairs.clone());
        self.output(Shape::new(&[pairs.candidates(), width]), own(out), tracked, move |g, grads| {
            let (mut gw, mut gv) = (Buffer::any(w.len()), Buffer::zeros(v.len()));
            let (weights, rows) = (w.data(), v.data());
            back(&pairs, (&mut gw, &mut gv, width), |task, gw, gv| {
                for n in task.candidates.clone() {
                    let g = &g[n * width..][..width];
                    for (p, e) in pairs.pairs_of(n).zip(pairs.elements_of(n)) {
                        gw[p - task.pairs.start] = chunks::dot(g, &rows[e * width..][..width]);
                        chunks::add_scaled(
                            &mut gv[(e - task.elements.start) * width..][..width],
                            weights[p],
                            g,
                        );
                    }
                }
            });
            grads.add(w.node, gw);
            grads.add(v.node, gv);
        })
    }

    /// Elements `[M, K]` and candidates `[N, K]` → `[P, 1]`: scale ⟨h_e, t_n⟩ for each pair.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn pair_dot(&self, target: &Tensor, pairs: &Pairs, scale: f32) -> Tensor {
        let width = self.width();
        let fits = target.shape() == [pairs.candidates(), width] && self.rows() == pairs.elements();
        assert!(fits, "products of {:?} and {:?} over pairs", self.shape, target.shape);
        let mut out = Buffer::any(pairs.len());
        let tasks = pairs.tasks(false);
        let parts = pieces(&mut out, tasks.iter().map(|task| task.pairs.len()));
        let (h, t) = (self.data(), target.data());
        tasks.into_par_iter().zip(parts).for_each(|(task, out)| {
            vectorised!({
                for n in task.candidates {
                    let t = &t[n * width..][..width];
                    for (p, e) in pairs.pairs_of(n).zip(pairs.elements_of(n)) {
                        out[p - task.pairs.start] = scale * chunks::dot(t, &h[e * width..][..width]);
                    }
                }
            });
        });
        let tracked = self.tracked() || target.tracked();
        let (h, t, pairs) = (self.clone(), target.clone(), pairs.clone());
        self.output(Shape::new(&[pairs.len(), 1]), own(out), tracked, move |g, grads| {
            let (mut gt, mut gh) = (Buffer::zeros(t.len()), Buffer::zeros(h.len()));
            let (hs, ts) = (h.data(), t.data());
            let tasks = pairs.tasks(true);
            let by_candidate = pieces(&mut gt, tasks.iter().map(|task| task.candidates.len() * width));
            let by_element = pieces(&mut gh, tasks.iter().map(|task| task.elements.len() * width));
            tasks.into_par_iter().zip(by_candidate).zip(by_element).for_each(|((task, gt), gh)| {
                vectorised!({
                    for n in task.candidates.clone() {
                        let gt = &mut gt[(n - task.candidates.start) * width..][..width];
                        for (p, e) in pairs.pairs_of(n).zip(pairs.elements_of(n)) {
                            let slope = scale * g[p];
                            chunks::add_scaled(gt, slope, &hs[e * width..][..width]);
                            let gh = &mut gh[(e - task.elements.start) * width..][..width];
                            chunks::add_scaled(gh, slope, &ts[n * width..][..width]);
                        }
                    }
                });
            });
            grads.add(t.node, gt);
            grads.add(h.node, gh);
        })
    }

    /// `[P, 1]` → `[P, 1]`: softmax over each candidate's pairs.
    pub(crate) fn softmax_spans(&self, offsets: &Arc<Vec<usize>>) -> Tensor {
        self.weigh_spans(
            offsets,
            |row| {
                softmax_row(row);
            },
            |p| p,
        )
    }

    /// `[P, 1]` → `[P, 1]`: α-entmax over each candidate's pairs (Peters et al. 2019), p = [(α − 1) z − τ]₊^{1/(α−1)} with τ found by
    /// bisection so that they sum to one; some are exactly zero. α = 2 is sparsemax, α → 1 softmax.
    ///
    /// # Panics
    /// If α is not above 1.
    pub(crate) fn entmax_spans(&self, offsets: &Arc<Vec<usize>>, alpha: f32) -> Tensor {
        assert!(alpha > 1.0, "α-entmax of α = {alpha}, which is not above 1");
        self.weigh_spans(
            offsets,
            move |row| entmax_row(row, alpha),
            move |p| {
                if p > 0.0 { p.powf(2.0 - alpha) } else { 0.0 }
            },
        )
    }

    /// Weights p of each span by `weigh`, whose slope is s ⊙ (g − ⟨g, s⟩ / Σ s) with s = `slope`(p).
    fn weigh_spans(
        &self,
        offsets: &Arc<Vec<usize>>,
        weigh: impl Fn(&mut [f32]) + Sync,
        slope: impl Fn(f32) -> f32 + Sync + 'static,
    ) -> Tensor {
        assert_eq!(offsets.last(), Some(&self.len()), "spans of {:?}", self.shape);
        let mut out = Buffer::copy_of(self.data());
        let spans = pieces(&mut out, offsets.windows(2).map(|w| w[1] - w[0]));
        spans.into_par_iter().with_min_len(64).for_each(|span| {
            if !span.is_empty() {
                weigh(span);
            }
        });
        let (out, node, offsets) = (own(out), self.node, offsets.clone());
        let kept = out.clone();
        self.output(self.shape, out, node.is_some(), move |mut g, grads| {
            let (kept, starts) = (&kept[..], &offsets[..offsets.len() - 1]);
            let spans = pieces(&mut g, offsets.windows(2).map(|w| w[1] - w[0]));
            spans.into_par_iter().with_min_len(64).zip(starts).for_each(|(g, from)| {
                let p = &kept[*from..from + g.len()];
                let (mut along, mut total) = (0.0, 0.0);
                for (g, p) in g.iter().zip(p) {
                    let s = slope(*p);
                    along += g * s;
                    total += s;
                }
                let mean = if total > 0.0 { along / total } else { 0.0 };
                g.iter_mut().zip(p).for_each(|(g, p)| *g = slope(*p) * (*g - mean));
            });
            grads.add(node, g);
        })
    }

    /// Elements `[M, V]` → `[N, V]`: the greatest of each column over the elements that a candidate looks at; zero for none.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn pair_max(&self, pairs: &Pairs) -> Tensor {
        let width = self.width();
        assert_eq!(self.rows(), pairs.elements(), "maxima of {:?} over pairs", self.shape);
        let mut out = Buffer::zeros(pairs.candidates() * width);
        let mut best = vec![u32::MAX; out.len()];
        let x = self.data();
        for (n, (out, best)) in out.chunks_exact_mut(width).zip(best.chunks_exact_mut(width)).enumerate() {
            for e in pairs.elements_of(n) {
                for (j, v) in x[e * width..][..width].iter().enumerate() {
                    if best[j] == u32::MAX || *v > out[j] {
                        (out[j], best[j]) = (*v, e as u32);
                    }
                }
            }
        }
        let (node, len) = (self.node, self.len());
        self.output(Shape::new(&[pairs.candidates(), width]), own(out), node.is_some(), move |g, grads| {
            grads.sum(node, len, |into| {
                for (at, (g, e)) in g.iter().zip(&best).enumerate() {
                    if *e != u32::MAX {
                        into[*e as usize * width + at % width] += g;
                    }
                }
            });
        })
    }
}

/// Calls `f(candidate, its row)` for all rows of `out`, which is `[N, width]`.
fn over(pairs: &Pairs, (out, width): (&mut [f32], usize), f: impl Fn(usize, &mut [f32]) + Sync) {
    let tasks = pairs.tasks(false);
    let parts = pieces(out, tasks.iter().map(|task| task.candidates.len() * width));
    tasks.into_par_iter().zip(parts).for_each(|(task, out)| {
        vectorised!(task.candidates.zip(out.chunks_exact_mut(width)).for_each(|(n, out)| f(n, out)));
    });
}

/// Calls `f(task, its pairs' gradients, its elements')` for tasks that share no element.
fn back(
    pairs: &Pairs,
    (by_pair, by_element, width): (&mut [f32], &mut [f32], usize),
    f: impl Fn(&Task, &mut [f32], &mut [f32]) + Sync,
) {
    let tasks = pairs.tasks(true);
    let gw = pieces(by_pair, tasks.iter().map(|task| task.pairs.len()));
    let gv = pieces(by_element, tasks.iter().map(|task| task.elements.len() * width));
    tasks.par_iter().zip(gw).zip(gv).for_each(|((task, gw), gv)| vectorised!(f(task, gw, gv)));
}

/// α-entmax in place, in double precision: for α near 1 the power is high.
fn entmax_row(z: &mut [f32], alpha: f32) {
    let (scale, power) = (f64::from(alpha) - 1.0, 1.0 / (f64::from(alpha) - 1.0));
    let most = scale * f64::from(z.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (mut low, mut high) = (most - 1.0, most - (z.len() as f64).powf(-scale));
    let weight = |z: f32, tau: f64| (scale * f64::from(z) - tau).max(0.0).powf(power);
    for _ in 0..HALVINGS {
        let tau = 0.5 * (low + high);
        if z.iter().map(|z| weight(*z, tau)).sum::<f64>() >= 1.0 {
            low = tau;
        } else {
            high = tau;
        }
    }
    let total: f64 = z.iter().map(|z| weight(*z, low)).sum();
    z.iter_mut().for_each(|z| *z = (weight(*z, low) / total) as f32);
}
