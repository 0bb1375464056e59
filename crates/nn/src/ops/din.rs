//! The first layer of DIN's activation unit, over pairs of a candidate and an element of its history.

use crate::buffer::Buffer;
use crate::chunks::{self, vectorised, wide};
use crate::pairs::{Pairs, Task, pieces};
use crate::product::{Mat, Onto};
use crate::tensor::{Shape, Tensor, own};
use crate::tiles::{PANEL, by_panels};
use rayon::prelude::*;

/// Weights of a [`Tensor::pair_layer`].
pub(crate) struct PairWeights<'a> {
    /// Of the element, `[H, K]`.
    pub(crate) own: &'a Tensor,
    /// Of the product of element and candidate, `[H, K]`.
    pub(crate) product: &'a Tensor,
    /// Added to all pairs of a candidate, `[N, H]`: the candidate's own part, and the bias.
    pub(crate) candidate: &'a Tensor,
    /// Added to all pairs of an element, `[M, H]`.
    pub(crate) element: Option<&'a Tensor>,
}

impl Tensor {
    /// Elements h `[M, K]` and candidates t `[N, K]` → `[P, H]`: for each pair (n, e) A h_e + B (h_e ⊙ t_n) + c_n + d_e, and with
    /// `relu` cut below zero.
    ///
    /// That is the first layer of the activation unit of Zhou et al. 2018 (DIN), W [h, t, h − t, h ⊙ t] + b, with
    /// A = W₁ + W₃, B = W₄, c = (W₂ − W₃) t + b. A candidate's A + B diag(t_n) is made once, in the layout that the
    /// product wants, so that neither the four parts nor h ⊙ t are ever written down, and a pair costs K·H multiplications
    /// instead of 4·K·H.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(crate) fn pair_layer(
        &self,
        target: &Tensor,
        w: &PairWeights<'_>,
        pairs: &Pairs,
        relu: bool,
    ) -> Tensor {
        let &[hidden, width] = w.own.shape() else { panic!("weight of a pair layer {:?}", w.own.shape) };
        let (n, m) = (pairs.candidates(), pairs.elements());
        assert_eq!(w.product.shape(), w.own.shape(), "weights of a pair layer differ in shape");
        assert_eq!(
            (self.shape(), target.shape()),
            (&[m, width][..], &[n, width][..]),
            "a pair layer's inputs"
        );
        assert_eq!(w.candidate.shape(), [n, hidden], "a pair layer's part per candidate");
        assert!(w.element.is_none_or(|d| d.shape() == [m, hidden]), "a pair layer's part per element");
        let layer = Layer {
            h: self.clone(),
            t: target.clone(),
            own: w.own.clone(),
            product: w.product.clone(),
            candidate: w.candidate.clone(),
            element: w.element.cloned(),
            pairs: pairs.clone(),
            relu,
            hidden,
            width,
        };
        let out = own(layer.view().forward());
        let inputs = [&layer.h, &layer.t, &layer.own, &layer.product, &layer.candidate];
        let tracked =
            inputs.iter().any(|t| t.tracked()) || layer.element.as_ref().is_some_and(Tensor::tracked);
        let kept = relu.then(|| out.clone());
        self.output(Shape::new(&[pairs.len(), hidden]), out, tracked, move |mut g, grads| {
            let y = kept.as_ref().map(|y| &y[..]);
            let slopes = layer.view().back(&mut g, y);
            let element = layer.element.as_ref().and_then(|d| d.node);
            grads.add(layer.h.node, slopes.h);
            grads.add(layer.t.node, slopes.t);
            grads.add(layer.candidate.node, slopes.candidate);
            grads.add(layer.own.node, slopes.own);
            grads.add(layer.product.node, slopes.product);
            if let Some(slope) = slopes.element {
                grads.add(element, slope);
            }
        })
    }
}

/// What the backward pass keeps.
struct Layer {
    h: Tensor,
    t: Tensor,
    own: Tensor,
    product: Tensor,
    candidate: Tensor,
    element: Option<Tensor>,
    pairs: Pairs,
    relu: bool,
    /// H.
    hidden: usize,
    /// K.
    width: usize,
}

/// Gradients of all inputs.
struct Slopes {
    h: Buffer,
    t: Buffer,
    own: Buffer,
    product: Buffer,
    candidate: Buffer,
    element: Option<Buffer>,
}

/// One task's places in the gradients.
struct Job<'a> {
    task: Task,
    g: &'a mut [f32],
    h: &'a mut [f32],
    t: &'a mut [f32],
    candidate: &'a mut [f32],
    element: Option<&'a mut [f32]>,
}

/// What forward and backward read.
struct View<'a> {
    h: &'a [f32],
    t: &'a [f32],
    own: &'a [f32],
    product: &'a [f32],
    candidate: &'a [f32],
    element: Option<&'a [f32]>,
    pairs: &'a Pairs,
    relu: bool,
    hidden: usize,
    width: usize,
}

impl Layer {
    fn view(&self) -> View<'_> {
        View {
            h: self.h.data(),
            t: self.t.data(),
            own: self.own.data(),
            product: self.product.data(),
            candidate: self.candidate.data(),
            element: self.element.as_ref().map(Tensor::data),
            pairs: &self.pairs,
            relu: self.relu,
            hidden: self.hidden,
            width: self.width,
        }
    }
}

impl View<'_> {
    fn forward(&self) -> Buffer {
        let (hidden, width) = (self.hidden, self.width);
        let mut out = Buffer::any(self.pairs.len() * hidden);
        let panels = [by_rows(self.own, width), by_rows(self.product, width)];
        let tasks = self.pairs.tasks(false);
        let parts = pieces(&mut out, tasks.iter().map(|task| task.pairs.len() * hidden));
        tasks.into_par_iter().zip(parts).for_each(|(task, mut rest)| {
            let mut mixed = Buffer::any(panels[0].len());
            for n in task.candidates {
                let elements = self.pairs.elements_of(n);
                let (out, after) = rest.split_at_mut(elements.len() * hidden);
                rest = after;
                if elements.is_empty() {
                    continue;
                }
                mix_by_inner(&mut mixed, &panels[0], &panels[1], &self.t[n * width..][..width]);
                by_panels(out, hidden, self.elements(&elements), &mixed, Onto::Write);
                let element = self.element.map(|d| &d[elements.start * hidden..]);
                finish(out, &self.candidate[n * hidden..][..hidden], element, self.relu);
            }
        });
        out
    }

    /// The rows of these elements.
    fn elements(&self, range: &std::ops::Range<usize>) -> Mat<'_> {
        Mat::new(&self.h[range.start * self.width..], range.len(), self.width)
    }

    fn back(&self, g: &mut [f32], y: Option<&[f32]>) -> Slopes {
        let (hidden, width, pairs) = (self.hidden, self.width, self.pairs);
        let (n, m) = (pairs.candidates(), pairs.elements());
        let mut slopes = Slopes {
            h: Buffer::zeros(m * width),
            t: Buffer::zeros(n * width),
            own: Buffer::zeros(hidden * width),
            product: Buffer::zeros(hidden * width),
            candidate: Buffer::zeros(n * hidden),
            element: self.element.map(|_| Buffer::zeros(m * hidden)),
        };
        let panels = [by_columns(self.own, width), by_columns(self.product, width)];
        let parts: Vec<[Vec<f32>; 2]> = self
            .jobs(g, &mut slopes)
            .into_par_iter()
            .map(|job| vectorised!(self.back_task(job, y, &panels)))
            .collect();
        for [own, product] in parts {
            chunks::add(&mut slopes.own, &own);
            chunks::add(&mut slopes.product, &product);
        }
        slopes
    }

    fn jobs<'a>(&self, g: &'a mut [f32], slopes: &'a mut Slopes) -> Vec<Job<'a>> {
        let (hidden, width) = (self.hidden, self.width);
        let tasks = self.pairs.tasks(true);
        let lengths = |of: fn(&Task) -> usize, by: usize| tasks.iter().map(move |task| of(task) * by);
        let (candidates, elements) = (|t: &Task| t.candidates.len(), |t: &Task| t.elements.len());
        let mut g = pieces(g, lengths(|t| t.pairs.len(), hidden)).into_iter();
        let mut h = pieces(&mut slopes.h, lengths(elements, width)).into_iter();
        let mut t = pieces(&mut slopes.t, lengths(candidates, width)).into_iter();
        let mut candidate = pieces(&mut slopes.candidate, lengths(candidates, hidden)).into_iter();
        let element = slopes.element.as_mut().map(|e| pieces(e, lengths(elements, hidden)));
        let mut element = element.map(Vec::into_iter);
        let job = |task: &Task| {
            Some(Job {
                task: task.clone(),
                g: g.next()?,
                h: h.next()?,
                t: t.next()?,
                candidate: candidate.next()?,
                element: element.as_mut().and_then(Iterator::next),
            })
        };
        tasks.iter().filter_map(job).collect()
    }

    /// Gradients of one task's candidates; gives its sums for the two weights.
    fn back_task(&self, job: Job<'_>, y: Option<&[f32]>, panels: &[Buffer; 2]) -> [Vec<f32>; 2] {
        let (hidden, width) = (self.hidden, self.width);
        let Job { task, g: mut rest, h, t, candidate, mut element } = job;
        let mut sums = [vec![0.0; hidden * width], vec![0.0; hidden * width]];
        let (mut mixed, mut outer) = (Buffer::any(panels[0].len()), Buffer::any(hidden * width));
        let mut target = vec![0.0; width.next_multiple_of(PANEL)];
        let (mut packed, mut packed_of) = (Vec::new(), 0..0);
        for n in task.candidates.clone() {
            let elements = self.pairs.elements_of(n);
            let count = elements.len();
            let (g, after) = rest.split_at_mut(count * hidden);
            rest = after;
            if count == 0 {
                continue;
            }
            if let Some(y) = y {
                mask(g, &y[self.pairs.pairs_of(n).start * hidden..]);
            }
            let (at, from) = (n - task.candidates.start, elements.start - task.elements.start);
            g.chunks_exact(hidden).for_each(|g| chunks::add(&mut candidate[at * hidden..][..hidden], g));
            if let Some(element) = element.as_mut() {
                chunks::add(&mut element[from * hidden..], g);
            }
            if packed_of != elements {
                packed = by_columns(&self.h[elements.start * width..elements.end * width], width).into_vec();
                packed_of = elements;
            }
            let slopes = Mat::new(g, count, hidden);
            by_panels(&mut outer, width, slopes.t(), &packed, Onto::Write);
            let tn = &self.t[n * width..][..width];
            outer_sums(&outer, tn, self.product, &mut sums, &mut t[at * width..][..width]);
            target[..width].copy_from_slice(tn);
            mix_by_outer(&mut mixed, &panels[0], &panels[1], &target);
            by_panels(&mut h[from * width..], width, slopes, &mixed, Onto::Add);
        }
        sums
    }
}

/// `[rows, cols]` as the panels of its transpose: `[⌈rows/16⌉, cols, 16]`.
fn by_rows(w: &[f32], cols: usize) -> Buffer {
    let rows = w.len() / cols;
    let mut out = Buffer::zeros(rows.next_multiple_of(PANEL) * cols);
    for (i, row) in w.chunks_exact(cols).enumerate() {
        let panel = &mut out[i / PANEL * cols * PANEL..][..cols * PANEL];
        row.iter().enumerate().for_each(|(l, v)| panel[l * PANEL + i % PANEL] = *v);
    }
    out
}

/// `[rows, cols]` as its panels: `[⌈cols/16⌉, rows, 16]`.
fn by_columns(w: &[f32], cols: usize) -> Buffer {
    let rows = w.len() / cols;
    let mut out = Buffer::any(cols.next_multiple_of(PANEL) * rows);
    for (p, panel) in out.chunks_exact_mut(rows * PANEL).enumerate() {
        let of = PANEL.min(cols - p * PANEL);
        for (to, row) in panel.chunks_exact_mut(PANEL).zip(w.chunks_exact(cols)) {
            to[..of].copy_from_slice(&row[p * PANEL..][..of]);
            to[of..].fill(0.0);
        }
    }
    out
}

wide! {
    /// Panels `[.., K, 16]`: out = a + b · t, t by the inner axis.
    fn mix_by_inner(out: &mut [f32], a: &[f32], b: &[f32], t: &[f32]) {
        let step = t.len() * PANEL;
        for (out, (a, b)) in out.chunks_exact_mut(step).zip(a.chunks_exact(step).zip(b.chunks_exact(step))) {
            let rows = out.chunks_exact_mut(PANEL).zip(a.chunks_exact(PANEL).zip(b.chunks_exact(PANEL)));
            for ((out, (a, b)), t) in rows.zip(t) {
                for j in 0..PANEL {
                    out[j] = a[j] + b[j] * t;
                }
            }
        }
    }

    /// Panels `[⌈K/16⌉, H, 16]`: out = a + b ⊙ t, t by the columns of all panels.
    fn mix_by_outer(out: &mut [f32], a: &[f32], b: &[f32], t: &[f32]) {
        let step = out.len() / t.len() * PANEL;
        let panels = out.chunks_exact_mut(step).zip(a.chunks_exact(step).zip(b.chunks_exact(step)));
        for ((out, (a, b)), t) in panels.zip(t.chunks_exact(PANEL)) {
            let rows = out.chunks_exact_mut(PANEL).zip(a.chunks_exact(PANEL).zip(b.chunks_exact(PANEL)));
            for (out, (a, b)) in rows {
                for j in 0..PANEL {
                    out[j] = a[j] + b[j] * t[j];
                }
            }
        }
    }

    /// Adds a row to every row, and another array, and cuts below zero.
    fn finish(out: &mut [f32], row: &[f32], other: Option<&[f32]>, relu: bool) {
        if let Some(other) = other {
            chunks::add(out, other);
        }
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for out in out.chunks_exact_mut(row.len()) {
            out.iter_mut().zip(row).for_each(|(o, r)| *o = (*o + r).max(floor));
        }
    }

    /// No gradient where the output is not above zero.
    fn mask(g: &mut [f32], y: &[f32]) {
        g.iter_mut().zip(y).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
    }

    /// From a candidate's Σ_e g_e h_eᵀ `[H, K]`: adds it, and it times t, to the weights' sums, and Σ_j B_j · it_j to ∂/∂t.
    fn outer_sums(outer: &[f32], t: &[f32], product: &[f32], sums: &mut [Vec<f32>; 2], gt: &mut [f32]) {
        let width = t.len();
        let [own, prod] = sums;
        let rows = outer.chunks_exact(width).zip(product.chunks_exact(width));
        let sums = own.chunks_exact_mut(width).zip(prod.chunks_exact_mut(width));
        for ((outer, b), (own, prod)) in rows.zip(sums) {
            for k in 0..width {
                own[k] += outer[k];
                prod[k] += outer[k] * t[k];
                gt[k] += outer[k] * b[k];
            }
        }
    }
}
