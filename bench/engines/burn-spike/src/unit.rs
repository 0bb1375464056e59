//! DIN's activation unit (128-80-40-1, ReLU) over ragged histories as one node of burn's autodiff: candidates in chunks whose
//! elements stay in the cache, a part of the chunks per thread, products by the `gemm` crate.
//!
//! The first layer W₁h + W₂t + W₃(h − t) + W₄(h ⊙ t) + b is computed as ((W₁ + W₃) + W₄ diag(t))h + c, matrix and
//! c = (W₂ − W₃)t + b made once per candidate, as `millstream_nn` does: a fourth of the multiplications, and no padding.
//! Multiplying [h, h ⊙ t] of a whole chunk at once instead took the same time.

use crate::block::product;
use crate::clock;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Width of an embedding.
pub const D: usize = 32;
/// (inputs, outputs) of the unit's layers; a layer is its weight `[in, out]` and its bias in one flat parameter.
pub const UNIT: [(usize, usize); 3] = [(4 * D, H1), (H1, H2), (H2, 1)];
const H1: usize = 80;
const H2: usize = 40;
/// Candidates of a chunk.
const CHUNK: usize = 32;

/// The unit's parameters, or their gradients, in the form that is multiplied.
struct Folded {
    /// W₁ + W₃ above W₄, `[2 D, H1]`.
    pair: Vec<f32>,
    /// W₂ − W₃, `[D, H1]`.
    own: Vec<f32>,
    b1: Vec<f32>,
    /// `[H1, H2]`.
    w2: Vec<f32>,
    b2: Vec<f32>,
    /// `[H2]`.
    w3: Vec<f32>,
    b3: f32,
}

impl Folded {
    fn new(w: &[f32]) -> Self {
        let block = D * H1;
        let at = |k: usize| w[k * block..(k + 1) * block].iter();
        let (b1, rest) = w[4 * block..].split_at(H1);
        let (w2, rest) = rest.split_at(H1 * H2);
        let (b2, rest) = rest.split_at(H2);
        Self {
            pair: at(0).zip(at(2)).map(|(a, b)| a + b).chain(at(3).copied()).collect(),
            own: at(1).zip(at(2)).map(|(a, b)| a - b).collect(),
            b1: b1.to_vec(),
            w2: w2.to_vec(),
            b2: b2.to_vec(),
            w3: rest[..H2].to_vec(),
            b3: rest[H2],
        }
    }

    fn zeros() -> Self {
        Self::new(&vec![0.0; UNIT.iter().map(|(i, o)| i * o + o).sum()])
    }

    fn add(mut self, other: Self) -> Self {
        let add = |a: &mut [f32], b: &[f32]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        add(&mut self.pair, &other.pair);
        add(&mut self.own, &other.own);
        add(&mut self.b1, &other.b1);
        add(&mut self.w2, &other.w2);
        add(&mut self.b2, &other.b2);
        add(&mut self.w3, &other.w3);
        self.b3 += other.b3;
        self
    }

    /// Of gradients in this form: those of the flat parameter.
    fn unfolded(&self) -> Vec<f32> {
        let (one, four) = self.pair.split_at(D * H1);
        let three = one.iter().zip(&self.own).map(|(a, c)| a - c);
        let weights =
            one.iter().copied().chain(self.own.iter().copied()).chain(three).chain(four.iter().copied());
        let rest = [&self.b1, &self.w2, &self.b2, &self.w3];
        weights.chain(rest.into_iter().flatten().copied()).chain([self.b3]).collect()
    }
}

/// What the forward pass of a chunk leaves for the backward pass.
#[derive(Debug, Default)]
struct Kept {
    a1: Vec<f32>,
    a2: Vec<f32>,
    weights: Vec<f32>,
}

/// A thread's own memory.
#[derive(Default)]
struct Scratch {
    mixed: Vec<f32>,
    outer: Vec<f32>,
    d1: Vec<f32>,
    d2: Vec<f32>,
    c: Vec<f32>,
}

/// Memory is used again from step to step.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
static SCRATCH: Mutex<Vec<Scratch>> = Mutex::new(Vec::new());

fn spare<T: Default>(from: &Mutex<Vec<T>>) -> T {
    from.lock().unwrap().pop().unwrap_or_default()
}

/// `n` values of whatever stood there.
fn any(v: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if v.len() < n {
        v.resize(n, 0.0);
    }
    &mut v[..n]
}

/// A chunk's elements `[M, D]`, candidates `[N, D]` and the lengths of their histories.
struct Chunk<'a> {
    h: &'a [f32],
    t: &'a [f32],
    lengths: &'a [usize],
}

impl Chunk<'_> {
    /// (candidate, element) of each pair.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let each = self.lengths.iter().enumerate().flat_map(|(n, length)| std::iter::repeat_n(n, *length));
        each.enumerate().map(|(e, n)| (n, e))
    }

    /// Elements of each candidate.
    fn spans(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut end = 0;
        self.lengths.iter().enumerate().map(move |(n, length)| {
            let start = end;
            end += length;
            (n, start..end)
        })
    }
}

/// In eight sums, which the compiler keeps in one register.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for j in 0..8 {
            sums[j] += a[j] * b[j];
        }
    }
    sums.iter().sum()
}

/// (W₁ + W₃) + diag(t) W₄, `[D, H1]`.
#[inline(always)]
fn mix(w: &Folded, t: &[f32], out: &mut [f32]) {
    let (a, b) = w.pair.split_at(D * H1);
    let rows = out.chunks_exact_mut(H1).zip(a.chunks_exact(H1).zip(b.chunks_exact(H1)));
    for ((out, (a, b)), t) in rows.zip(t) {
        for j in 0..H1 {
            out[j] = a[j] + t * b[j];
        }
    }
}

/// Writes the interests `[N, D]`.
#[inline(always)]
fn forward(c: &Chunk<'_>, w: &Folded, out: &mut [f32], kept: &mut Kept, s: &mut Scratch) {
    let (m, n) = (c.h.len() / D, c.lengths.len());
    out.fill(0.0);
    if m == 0 {
        return;
    }
    let mixed = any(&mut s.mixed, D * H1);
    let own = any(&mut s.c, n * H1);
    own.chunks_exact_mut(H1).for_each(|row| row.copy_from_slice(&w.b1));
    product(own, (n, H1, D), (c.t, D, 1), (&w.own, H1, 1), true);
    let a1 = any(&mut kept.a1, m * H1);
    for (n, span) in c.spans().filter(|(_, span)| !span.is_empty()) {
        mix(w, &c.t[n * D..][..D], mixed);
        let (h, a) = (&c.h[span.start * D..span.end * D], &mut a1[span.start * H1..span.end * H1]);
        product(a, (span.len(), H1, D), (h, D, 1), (mixed, H1, 1), false);
        let own = &own[n * H1..][..H1];
        for e in span {
            let a = &mut a1[e * H1..][..H1];
            for j in 0..H1 {
                a[j] = (a[j] + own[j]).max(0.0);
            }
        }
    }
    let a2 = any(&mut kept.a2, m * H2);
    product(a2, (m, H2, H1), (a1, H1, 1), (&w.w2, H2, 1), false);
    let weights = any(&mut kept.weights, m);
    for (n, span) in c.spans() {
        let out = &mut out[n * D..][..D];
        for e in span {
            let (a, h) = (&mut a2[e * H2..][..H2], &c.h[e * D..][..D]);
            for j in 0..H2 {
                a[j] = (a[j] + w.b2[j]).max(0.0);
            }
            weights[e] = dot(a, &w.w3) + w.b3;
            for j in 0..D {
                out[j] += weights[e] * h[j];
            }
        }
    }
}

/// Writes the gradients of h and t, and adds those of the parameters.
#[inline(always)]
fn backward(
    c: &Chunk<'_>,
    w: &Folded,
    (kept, s): (&Kept, &mut Scratch),
    g: &[f32],
    (gh, gt): (&mut [f32], &mut [f32]),
    sums: &mut Folded,
) {
    let (m, n) = (c.h.len() / D, c.lengths.len());
    gt.fill(0.0);
    if m == 0 {
        return;
    }
    let (a1, a2) = (&kept.a1[..m * H1], &kept.a2[..m * H2]);
    let (d1, d2) = (any(&mut s.d1, m * H1), any(&mut s.d2, m * H2));
    for (n, e) in c.pairs() {
        let (g, h, gh) = (&g[n * D..][..D], &c.h[e * D..][..D], &mut gh[e * D..][..D]);
        let (a, d) = (&a2[e * H2..][..H2], &mut d2[e * H2..][..H2]);
        let slope = dot(g, h);
        for j in 0..D {
            gh[j] = kept.weights[e] * g[j];
        }
        sums.b3 += slope;
        for j in 0..H2 {
            d[j] = if a[j] > 0.0 { slope * w.w3[j] } else { 0.0 };
            sums.w3[j] += slope * a[j];
            sums.b2[j] += d[j];
        }
    }
    product(&mut sums.w2, (H1, H2, m), (a1, 1, H1), (d2, H2, 1), true);
    product(d1, (m, H1, H2), (d2, H2, 1), (&w.w2, 1, H2), false);
    let own = any(&mut s.c, n * H1);
    own.fill(0.0);
    let (mixed, outer) = (any(&mut s.mixed, D * H1), any(&mut s.outer, D * H1));
    for (n, span) in c.spans().filter(|(_, span)| !span.is_empty()) {
        let own = &mut own[n * H1..][..H1];
        for e in span.clone() {
            let (a, d) = (&a1[e * H1..][..H1], &mut d1[e * H1..][..H1]);
            for j in 0..H1 {
                d[j] = if a[j] > 0.0 { d[j] } else { 0.0 };
                own[j] += d[j];
            }
        }
        let (h, t, d) = (&c.h[span.start * D..span.end * D], &c.t[n * D..][..D], &d1[span.start * H1..]);
        product(outer, (D, H1, span.len()), (h, 1, D), (d, H1, 1), false);
        let (da, db) = sums.pair.split_at_mut(D * H1);
        for k in 0..D {
            let (row, b) = (&outer[k * H1..][..H1], &w.pair[(D + k) * H1..][..H1]);
            let (da, db) = (&mut da[k * H1..][..H1], &mut db[k * H1..][..H1]);
            gt[n * D + k] = dot(row, b);
            for j in 0..H1 {
                da[j] += row[j];
                db[j] += t[k] * row[j];
            }
        }
        mix(w, t, mixed);
        let gh = &mut gh[span.start * D..span.end * D];
        product(gh, (span.len(), D, H1), (d, H1, 1), (mixed, 1, H1), true);
    }
    own.chunks_exact(H1).for_each(|row| sums.b1.iter_mut().zip(row).for_each(|(b, d)| *b += d));
    product(&mut sums.own, (D, H1, n), (c.t, 1, D), (own, H1, 1), true);
    product(gt, (n, D, H1), (own, H1, 1), (&w.own, 1, H1), true);
}

/// Compiled for AVX2, and what is inlined into it as well.
#[target_feature(enable = "avx2,fma")]
fn on_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[inline(always)]
fn wide<R>(f: impl FnOnce() -> R) -> R {
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor was asked.
        return unsafe { on_avx2(f) };
    }
    f()
}

#[backend_extension(Flex, Autodiff)]
pub trait UnitBackend: Backend {
    /// Elements `[M, D]`, candidates `[N, D]`, the unit's flat parameter, lengths of the histories `[N]` → interests `[N, D]`.
    fn interest(
        h: FloatTensor<Self>,
        t: FloatTensor<Self>,
        w: FloatTensor<Self>,
        lengths: Arc<Vec<usize>>,
    ) -> FloatTensor<Self>;
}

type T = FloatTensor<Flex>;

/// The chunks' candidates and elements, cut into a part per thread.
fn parts(lengths: &[usize]) -> Vec<Vec<(Range<usize>, Range<usize>)>> {
    let mut end = 0;
    let chunks = lengths.chunks(CHUNK).enumerate().map(|(c, lengths)| {
        let start = end;
        end += lengths.iter().sum::<usize>();
        (c * CHUNK..c * CHUNK + lengths.len(), start..end)
    });
    let chunks: Vec<_> = chunks.collect();
    let step = chunks.len().div_ceil(rayon::current_num_threads()).max(1);
    chunks.chunks(step).map(<[_]>::to_vec).collect()
}

/// Takes the next `n` values.
fn take<'a>(rest: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (first, after) = std::mem::take(rest).split_at_mut(n);
    *rest = after;
    first
}

fn run(h: &T, t: &T, w: &T, lengths: &[usize]) -> (T, Vec<Vec<Kept>>) {
    let lap = clock::lap();
    let (h, t, w) = (h.storage::<f32>(), t.storage::<f32>(), Folded::new(w.storage::<f32>()));
    let mut out = vec![0.0f32; t.len()];
    let mut rest = &mut out[..];
    let jobs: Vec<_> = parts(lengths)
        .into_iter()
        .map(|part| (take(&mut rest, part.iter().map(|(n, _)| n.len() * D).sum()), part))
        .collect();
    let kept = jobs.into_par_iter().map(|(mut out, part)| {
        let mut scratch = spare(&SCRATCH);
        let each = part.into_iter().map(|(n, e)| {
            let out = take(&mut out, n.len() * D);
            let chunk =
                Chunk { h: &h[e.start * D..e.end * D], t: &t[n.start * D..n.end * D], lengths: &lengths[n] };
            let mut kept = spare(&KEPT);
            wide(|| forward(&chunk, &w, out, &mut kept, &mut scratch));
            kept
        });
        let kept = each.collect();
        SCRATCH.lock().unwrap().push(scratch);
        kept
    });
    let kept = kept.collect();
    let out = T::from_data(TensorData::new(out, [lengths.len(), D]));
    lap.add(&clock::UNIT);
    (out, kept)
}

impl UnitBackend for Flex {
    fn interest(h: T, t: T, w: T, lengths: Arc<Vec<usize>>) -> T {
        run(&h.to_contiguous(), &t.to_contiguous(), &w.to_contiguous(), &lengths).0
    }
}

/// What the backward pass reads.
struct Left {
    kept: Vec<Vec<Kept>>,
    lengths: Arc<Vec<usize>>,
    h: T,
    t: T,
    w: T,
}

impl std::fmt::Debug for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} candidates", self.lengths.len())
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        KEPT.lock().unwrap().extend(self.kept.drain(..).flatten());
    }
}

impl Left {
    /// Gradients of h, t and the flat parameter.
    fn back(&self, g: &T) -> [Vec<f32>; 3] {
        let g = g.storage::<f32>();
        let (h, t, w) =
            (self.h.storage::<f32>(), self.t.storage::<f32>(), Folded::new(self.w.storage::<f32>()));
        let (mut gh, mut gt) = (vec![0.0f32; h.len()], vec![0.0f32; t.len()]);
        let (mut rest_h, mut rest_t) = (&mut gh[..], &mut gt[..]);
        let jobs: Vec<_> = parts(&self.lengths)
            .into_iter()
            .zip(&self.kept)
            .map(|(part, kept)| {
                let of_h = take(&mut rest_h, part.iter().map(|(_, e)| e.len() * D).sum());
                let of_t = take(&mut rest_t, part.iter().map(|(n, _)| n.len() * D).sum());
                (part, kept, of_h, of_t)
            })
            .collect();
        let sums = jobs.into_par_iter().map(|(part, kept, mut gh, mut gt)| {
            let (mut sums, mut scratch) = (Folded::zeros(), spare(&SCRATCH));
            for ((n, e), kept) in part.into_iter().zip(kept) {
                let to = (take(&mut gh, e.len() * D), take(&mut gt, n.len() * D));
                let (h, t) = (&h[e.start * D..e.end * D], &t[n.start * D..n.end * D]);
                let chunk = Chunk { h, t, lengths: &self.lengths[n.clone()] };
                let g = &g[n.start * D..n.end * D];
                wide(|| backward(&chunk, &w, (kept, &mut scratch), g, to, &mut sums));
            }
            SCRATCH.lock().unwrap().push(scratch);
            sums
        });
        // In the order of the parts, so that a result does not depend on who was first.
        let sums: Vec<_> = sums.collect();
        let gw = sums.into_iter().reduce(Folded::add).unwrap_or_else(Folded::zeros).unfolded();
        [gh, gt, gw]
    }
}

impl<C: CheckpointStrategy> UnitBackend for Autodiff<Flex, C> {
    fn interest(
        h: FloatTensor<Self>,
        t: FloatTensor<Self>,
        w: FloatTensor<Self>,
        lengths: Arc<Vec<usize>>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Unit;
        impl Backward<Flex, 3> for Unit {
            type State = Arc<Left>;
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let lap = clock::lap();
                let (parents, left) = (ops.parents, ops.state);
                let g = grads.consume::<Flex>(&ops.node).to_contiguous();
                let [gh, gt, gw] = left.back(&g);
                let shapes = [vec![gh.len() / D, D], vec![gt.len() / D, D], vec![gw.len()]];
                for ((node, v), shape) in parents.into_iter().zip([gh, gt, gw]).zip(shapes) {
                    if let Some(node) = node {
                        grads.register::<Flex>(node.id, T::from_data(TensorData::new(v, shape)));
                    }
                }
                lap.add(&clock::UNIT);
            }
        }
        let ((h, n0), (t, n1), (w, n2)) = (h.into_parts(), t.into_parts(), w.into_parts());
        let (h, t, w) = (h.to_contiguous(), t.to_contiguous(), w.to_contiguous());
        let (out, kept) = run(&h, &t, &w, &lengths);
        match Unit.prepare::<C>([n0, n1, n2]).compute_bound().stateful() {
            OpsKind::Tracked(p) => p.finish(Arc::new(Left { kept, lengths, h, t, w }), out),
            OpsKind::UnTracked(p) => p.finish(out),
        }
    }
}

/// See [`UnitBackend::interest`].
pub fn interest(h: Tensor<2>, t: Tensor<2>, w: Tensor<1>, lengths: Arc<Vec<usize>>) -> Tensor<2> {
    let raw =
        <Dispatch as UnitBackend>::interest(h.into_dispatch(), t.into_dispatch(), w.into_dispatch(), lengths);
    Tensor::from_dispatch(raw)
}
