//! DIN's activation unit (128-80-40-1, ReLU) over ragged histories as one node of burn's autodiff: candidates in chunks that
//! stay in the cache, a thread per half of the batch, products by the `gemm` crate; and the same model of plain operations on
//! padded histories. Tower 96-200-80-1 over [interest, candidate, their product] in burn's own operations either way.

use crate::block::product;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Width of an embedding.
pub const D: usize = 32;
/// Candidates of a chunk.
const CHUNK: usize = 32;
/// (inputs, outputs) of the unit's layers; a layer is its weight `[in, out]` and its bias in one flat parameter.
pub const UNIT: [(usize, usize); 3] = [(4 * D, 80), (80, 40), (40, 1)];

fn range(l: usize) -> (Range<usize>, Range<usize>) {
    let at: usize = UNIT[..l].iter().map(|(i, o)| i * o + o).sum();
    let (i, o) = UNIT[l];
    (at..at + i * o, at + i * o..at + i * o + o)
}

/// What the forward pass of a chunk leaves for the backward pass.
#[derive(Debug)]
struct Kept {
    /// Candidate of each element, from the chunk's first.
    of: Vec<usize>,
    a0: Vec<f32>,
    a1: Vec<f32>,
    a2: Vec<f32>,
    weights: Vec<f32>,
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn relu_rows(y: &mut [f32], bias: &[f32]) {
    y.chunks_exact_mut(bias.len())
        .for_each(|r| r.iter_mut().zip(bias).for_each(|(y, b)| *y = (*y + b).max(0.0)));
}

fn relu_back(g: &mut [f32], y: &[f32]) {
    g.iter_mut().zip(y).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
}

fn column_sums(g: &[f32], out: &mut [f32]) {
    g.chunks_exact(out.len()).for_each(|r| out.iter_mut().zip(r).for_each(|(o, g)| *o += g));
}

/// Elements h `[m, D]` of candidates t, whose histories end at `ends`; adds the interests to `out`, zeros.
fn forward(h: &[f32], t: &[f32], ends: &[usize], first: usize, w: &[f32], out: &mut [f32]) -> Kept {
    let m = h.len() / D;
    let (mut of, mut at) = (Vec::with_capacity(m), first);
    for (n, end) in ends.iter().enumerate() {
        of.extend(std::iter::repeat_n(n, end - at));
        at = *end;
    }
    let mut a0 = vec![0.0; m * 4 * D];
    for ((a, h), n) in a0.chunks_exact_mut(4 * D).zip(h.chunks_exact(D)).zip(&of) {
        let t = &t[n * D..][..D];
        for j in 0..D {
            (a[j], a[D + j], a[2 * D + j], a[3 * D + j]) = (h[j], t[j], h[j] - t[j], h[j] * t[j]);
        }
    }
    let (mut a1, mut a2) = (vec![0.0; m * 80], vec![0.0; m * 40]);
    let ((w0, b0), (w1, b1), (w2, b2)) = (range(0), range(1), range(2));
    product(&mut a1, (m, 80, 4 * D), (&a0, 4 * D, 1), (&w[w0], 80, 1), false);
    relu_rows(&mut a1, &w[b0]);
    product(&mut a2, (m, 40, 80), (&a1, 80, 1), (&w[w1], 40, 1), false);
    relu_rows(&mut a2, &w[b1]);
    let mut weights = vec![0.0; m];
    for (e, n) in of.iter().enumerate() {
        weights[e] = dot(&a2[e * 40..][..40], &w[w2.clone()]) + w[b2.start];
        let v = &mut out[n * D..][..D];
        v.iter_mut().zip(&h[e * D..][..D]).for_each(|(v, h)| *v += weights[e] * h);
    }
    Kept { of, a0, a1, a2, weights }
}

/// Writes the gradients of h and t, and adds those of the parameters.
fn backward(
    kept: &Kept,
    (h, t): (&[f32], &[f32]),
    w: &[f32],
    g: &[f32],
    gh: &mut [f32],
    gt: &mut [f32],
    gw: &mut [f32],
) {
    let m = kept.of.len();
    let ((w0, b0), (w1, b1), (w2, b2)) = (range(0), range(1), range(2));
    let (mut d2, mut d1, mut d0) = (vec![0.0; m * 40], vec![0.0; m * 80], vec![0.0; m * 4 * D]);
    for (e, n) in kept.of.iter().enumerate() {
        let (g, h) = (&g[n * D..][..D], &h[e * D..][..D]);
        let slope = dot(g, h);
        gh[e * D..][..D].iter_mut().zip(g).for_each(|(o, g)| *o = kept.weights[e] * g);
        let a2 = &kept.a2[e * 40..][..40];
        gw[b2.start] += slope;
        gw[w2.clone()].iter_mut().zip(a2).for_each(|(o, a)| *o += slope * a);
        d2[e * 40..][..40].iter_mut().zip(&w[w2.clone()]).for_each(|(d, w)| *d = slope * w);
    }
    relu_back(&mut d2, &kept.a2);
    column_sums(&d2, &mut gw[b1]);
    product(&mut gw[w1.clone()], (80, 40, m), (&kept.a1, 1, 80), (&d2, 40, 1), true);
    product(&mut d1, (m, 80, 40), (&d2, 40, 1), (&w[w1], 1, 40), false);
    relu_back(&mut d1, &kept.a1);
    column_sums(&d1, &mut gw[b0]);
    product(&mut gw[w0.clone()], (4 * D, 80, m), (&kept.a0, 1, 4 * D), (&d1, 80, 1), true);
    product(&mut d0, (m, 4 * D, 80), (&d1, 80, 1), (&w[w0], 1, 80), false);
    for (e, n) in kept.of.iter().enumerate() {
        let (d, h, t) = (&d0[e * 4 * D..][..4 * D], &h[e * D..][..D], &t[n * D..][..D]);
        let (gh, gt) = (&mut gh[e * D..][..D], &mut gt[n * D..][..D]);
        for j in 0..D {
            gh[j] += d[j] + d[2 * D + j] + d[3 * D + j] * t[j];
            gt[j] += d[D + j] - d[2 * D + j] + d[3 * D + j] * h[j];
        }
    }
}

#[backend_extension(Flex, Autodiff)]
pub trait UnitBackend: Backend {
    /// Elements `[M, D]`, candidates `[N, D]`, ends of their histories `[N]`, the unit's flat parameters → interests `[N, D]`.
    fn interest(
        h: FloatTensor<Self>,
        t: FloatTensor<Self>,
        ends: FloatTensor<Self>,
        w: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

type T = FloatTensor<Flex>;

/// Candidates and elements of each chunk.
fn chunks(ends: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let start = |n: usize| if n == 0 { 0 } else { ends[n - 1] };
    let chunk = |c: usize| (c * CHUNK, ((c + 1) * CHUNK).min(ends.len()));
    (0..ends.len().div_ceil(CHUNK)).map(chunk).map(|(a, b)| (a..b, start(a)..start(b))).collect()
}

fn run(h: &T, t: &T, ends: &[usize], w: &T) -> (T, Vec<Kept>) {
    let (h, t, w) = (h.storage::<f32>(), t.storage::<f32>(), w.storage::<f32>());
    let mut out = vec![0.0f32; t.len()];
    let kept = out
        .par_chunks_mut(CHUNK * D)
        .zip(chunks(ends))
        .map(|(out, (n, e))| {
            forward(&h[e.start * D..e.end * D], &t[n.start * D..n.end * D], &ends[n], e.start, w, out)
        })
        .collect();
    (T::from_data(TensorData::new(out, [ends.len(), D])), kept)
}

fn whole(ends: &T) -> Vec<usize> {
    ends.storage::<f32>().iter().map(|e| *e as usize).collect()
}

impl UnitBackend for Flex {
    fn interest(h: T, t: T, ends: T, w: T) -> T {
        run(&h.to_contiguous(), &t.to_contiguous(), &whole(&ends.to_contiguous()), &w.to_contiguous()).0
    }
}

struct Left {
    kept: Vec<Kept>,
    ends: Vec<usize>,
    inputs: [T; 3],
}

impl std::fmt::Debug for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} chunks", self.kept.len())
    }
}

impl<C: CheckpointStrategy> UnitBackend for Autodiff<Flex, C> {
    fn interest(
        h: FloatTensor<Self>,
        t: FloatTensor<Self>,
        ends: FloatTensor<Self>,
        w: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Unit;
        impl Backward<Flex, 3> for Unit {
            type State = Arc<Left>;
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let ([n0, n1, n2], left) = (ops.parents, ops.state);
                let g = grads.consume::<Flex>(&ops.node).to_contiguous();
                let g = g.storage::<f32>();
                let [h, t, w] = &left.inputs;
                let (h, t, w) = (h.storage::<f32>(), t.storage::<f32>(), w.storage::<f32>());
                let (mut gh, mut gt) = (vec![0.0f32; h.len()], vec![0.0f32; t.len()]);
                let mut jobs = Vec::new();
                let (mut gh_rest, mut gt_rest) = (&mut gh[..], &mut gt[..]);
                for (kept, (n, e)) in left.kept.iter().zip(chunks(&left.ends)) {
                    let (a, b);
                    (a, gh_rest) = gh_rest.split_at_mut(e.len() * D);
                    (b, gt_rest) = gt_rest.split_at_mut(n.len() * D);
                    jobs.push((kept, n, e, a, b));
                }
                let half = jobs.len().div_ceil(2);
                let rest = jobs.split_off(half.min(jobs.len()));
                let sums = [jobs, rest].into_par_iter().map(|part| {
                    let mut gw = vec![0.0f32; w.len()];
                    for (kept, n, e, a, b) in part {
                        let inputs = (&h[e.start * D..e.end * D], &t[n.start * D..n.end * D]);
                        backward(kept, inputs, w, &g[n.start * D..n.end * D], a, b, &mut gw);
                    }
                    gw
                });
                let gw = sums.reduce_with(|mut a, b| {
                    a.iter_mut().zip(&b).for_each(|(a, b)| *a += b);
                    a
                });
                let two = |v: Vec<f32>| {
                    let rows = v.len() / D;
                    T::from_data(TensorData::new(v, [rows, D]))
                };
                if let Some(n) = n0 {
                    grads.register::<Flex>(n.id, two(gh));
                }
                if let Some(n) = n1 {
                    grads.register::<Flex>(n.id, two(gt));
                }
                if let Some(n) = n2 {
                    let len = w.len();
                    grads.register::<Flex>(n.id, T::from_data(TensorData::new(gw.unwrap(), [len])));
                }
            }
        }
        let ((h, n0), (t, n1), (w, n2)) = (h.into_parts(), t.into_parts(), w.into_parts());
        let (h, t, w) = (h.to_contiguous(), t.to_contiguous(), w.to_contiguous());
        let ends = whole(&ends.into_parts().0.to_contiguous());
        let (out, kept) = run(&h, &t, &ends, &w);
        match Unit.prepare::<C>([n0, n1, n2]).compute_bound().stateful() {
            OpsKind::Tracked(p) => p.finish(Arc::new(Left { kept, ends, inputs: [h, t, w] }), out),
            OpsKind::UnTracked(p) => p.finish(out),
        }
    }
}

/// See [`UnitBackend::interest`].
pub fn interest(h: Tensor<2>, t: Tensor<2>, ends: Tensor<1>, w: Tensor<1>) -> Tensor<2> {
    let raw = <Dispatch as UnitBackend>::interest(
        h.into_dispatch(),
        t.into_dispatch(),
        ends.into_dispatch(),
        w.into_dispatch(),
    );
    Tensor::from_dispatch(raw)
}
