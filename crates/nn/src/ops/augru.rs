//! Gated recurrence over sequences of different lengths, with or without attention on the update gate.

use crate::buffer::Buffer;
use crate::chunks::{self, vectorised};
use crate::ops::sigmoid;
use crate::pairs::{Pairs, pieces};
use crate::tensor::{Shape, Tensor, own};
use rayon::prelude::*;
use std::ops::Range;

impl Tensor {
    /// Inputs `[M, 3 H]` (update, reset and candidate columns of W x + b), recurrent weight U `[3 H, H]` and attention a `[M, 1]` (1 if
    /// absent) → states `[M, H]` of each history, from zero:
    /// u = σ(x_u + U_u h), r = σ(x_r + U_r h), c = tanh(x_c + r ⊙ U_c h), h ← (1 − a u) ⊙ h + a u ⊙ c (Zhou et al. 2019, eq. 6 to 8; with
    /// a = 1 a GRU, Cho et al. 2014). Time and memory grow with M; histories run side by side.
    ///
    /// # Panics
    /// If the sizes do not fit, or a history is looked at by other than one candidate.
    pub(crate) fn recur(&self, u: &Tensor, attention: Option<&Tensor>, each: &Pairs) -> Tensor {
        let &[m, gates] = self.shape() else { panic!("inputs of a recurrence {:?}", self.shape) };
        let hidden = gates / 3;
        assert_eq!(u.shape(), [gates, hidden], "recurrent weight for {:?}", self.shape);
        assert!(attention.is_none_or(|a| a.len() == m), "attention of a recurrence over {m}");
        assert!(each.elements() == m && each.len() == m, "a history of a recurrence is not its own");
        let (mut out, mut kept) = (Buffer::any(m * hidden), Buffer::any(m * 4 * hidden));
        let a = attention.map(Tensor::data);
        let step = Step { x: self.data(), u: u.data(), a, hidden };
        let tasks = each.tasks(true);
        let states = pieces(&mut out, tasks.iter().map(|t| t.elements.len() * hidden));
        let gates_of = pieces(&mut kept, tasks.iter().map(|t| t.elements.len() * 4 * hidden));
        tasks.par_iter().zip(states).zip(gates_of).for_each(|((task, states), kept)| {
            vectorised!({
                for n in task.candidates.clone() {
                    step.forward(each.elements_of(n), task.elements.start, states, kept);
                }
            });
        });
        let out = own(out);
        let (x, u, a, states, each) =
            (self.clone(), u.clone(), attention.cloned(), out.clone(), each.clone());
        let tracked = x.tracked() || u.tracked() || a.as_ref().is_some_and(Tensor::tracked);
        self.output(Shape::new(&[m, hidden]), out, tracked, move |g, grads| {
            let (mut gx, mut ga) = (Buffer::any(x.len()), Buffer::any(m));
            let step = Step { x: x.data(), u: u.data(), a: a.as_ref().map(Tensor::data), hidden };
            let (states, kept, g) = (&states[..], &kept[..], &g[..]);
            let tasks = each.tasks(true);
            let by_input = pieces(&mut gx, tasks.iter().map(|t| t.elements.len() * 3 * hidden));
            let by_element = pieces(&mut ga, tasks.iter().map(|t| t.elements.len()));
            let jobs = tasks.par_iter().zip(by_input).zip(by_element);
            let one = |((task, gx), ga): ((&crate::pairs::Task, &mut [f32]), &mut [f32])| {
                vectorised!({
                    let mut gu = vec![0.0; u_len(hidden)];
                    for n in task.candidates.clone() {
                        let given = Given { states, kept, g };
                        step.back(each.elements_of(n), &given, (task.elements.start, gx, ga), &mut gu);
                    }
                    gu
                })
            };
            let parts: Vec<Vec<f32>> = jobs.map(one).collect();
            grads.sum(u.node, u.len(), |gu| parts.iter().for_each(|part| chunks::add(gu, part)));
            grads.add(x.node, gx);
            grads.add(a.as_ref().and_then(|a| a.node), ga);
        })
    }
}

fn u_len(hidden: usize) -> usize {
    3 * hidden * hidden
}

/// What a step reads.
struct Step<'a> {
    x: &'a [f32],
    u: &'a [f32],
    a: Option<&'a [f32]>,
    hidden: usize,
}

/// What the backward pass is given: states `[M, H]`, gates u, r, c and U_c h `[M, 4 H]`, gradients of the states `[M, H]`.
struct Given<'a> {
    states: &'a [f32],
    kept: &'a [f32],
    g: &'a [f32],
}

impl Step<'_> {
    fn attention(&self, e: usize) -> f32 {
        self.a.map_or(1.0, |a| a[e])
    }

    /// One history; `states` and `kept` begin at element `first`.
    fn forward(&self, elements: Range<usize>, first: usize, states: &mut [f32], kept: &mut [f32]) {
        let d = self.hidden;
        let mut h = vec![0.0; d];
        for e in elements {
            let (x, a) = (&self.x[e * 3 * d..][..3 * d], self.attention(e));
            let kept = &mut kept[(e - first) * 4 * d..][..4 * d];
            for j in 0..d {
                let from_h = |gate: usize| chunks::dot(&self.u[(gate * d + j) * d..][..d], &h);
                kept[j] = sigmoid(x[j] + from_h(0));
                kept[d + j] = sigmoid(x[d + j] + from_h(1));
                kept[3 * d + j] = from_h(2);
                kept[2 * d + j] = (x[2 * d + j] + kept[d + j] * kept[3 * d + j]).tanh();
            }
            for j in 0..d {
                h[j] += a * kept[j] * (kept[2 * d + j] - h[j]);
            }
            states[(e - first) * d..][..d].copy_from_slice(&h);
        }
    }

    /// One history; `gx` `[.., 3 H]` and `ga` begin at element `first`, `gu` is added to.
    fn back(
        &self,
        elements: Range<usize>,
        given: &Given<'_>,
        (first, gx, ga): (usize, &mut [f32], &mut [f32]),
        gu: &mut [f32],
    ) {
        let d = self.hidden;
        let start = elements.start;
        let (mut gh, zeros) = (vec![0.0; d], vec![0.0; d]);
        // Slopes of what U h is added to.
        let mut by_h = vec![0.0; 3 * d];
        for e in elements.rev() {
            let a = self.attention(e);
            let before = if e > start { &given.states[(e - 1) * d..][..d] } else { &zeros[..] };
            let kept = &given.kept[e * 4 * d..][..4 * d];
            let gx = &mut gx[(e - first) * 3 * d..][..3 * d];
            chunks::add(&mut gh, &given.g[e * d..][..d]);
            let mut slope_a = 0.0;
            for j in 0..d {
                let (u, r, c, from_h) = (kept[j], kept[d + j], kept[2 * d + j], kept[3 * d + j]);
                let along = gh[j] * (c - before[j]);
                slope_a += along * u;
                gx[j] = a * along * u * (1.0 - u);
                let inner = gh[j] * a * u * (1.0 - c * c);
                gx[d + j] = inner * from_h * r * (1.0 - r);
                gx[2 * d + j] = inner;
                (by_h[j], by_h[d + j], by_h[2 * d + j]) = (gx[j], gx[d + j], inner * r);
                gh[j] *= 1.0 - a * u;
            }
            ga[e - first] = slope_a;
            for (row, slope) in by_h.iter().enumerate() {
                chunks::add_scaled(&mut gu[row * d..][..d], *slope, before);
                chunks::add_scaled(&mut gh, *slope, &self.u[row * d..][..d]);
            }
        }
    }
}
