//! The body of DCN-v2 (three full cross layers beside a tower of three) as one node of burn's autodiff: rows in chunks that
//! stay in the cache, a thread per half of the batch, products by the `gemm` crate.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use std::sync::Arc;

/// Width of the cross network and of a layer of the tower.
pub const X: usize = 624;
pub const H: usize = 400;
/// Rows of a chunk.
const CHUNK: usize = 512;
/// (inputs, outputs) of the six layers; a layer is its weight `[in, out]` and its bias in one flat parameter.
pub const LAYERS: [(usize, usize); 6] = [(X, X), (X, X), (X, X), (X, H), (H, H), (H, H)];

pub fn parameters() -> usize {
    LAYERS.iter().map(|(i, o)| i * o + o).sum()
}

/// Weight and bias of a layer.
fn layer(w: &[f32], l: usize) -> (&[f32], &[f32]) {
    let at: usize = LAYERS[..l].iter().map(|(i, o)| i * o + o).sum();
    let (i, o) = LAYERS[l];
    w[at..at + i * o + o].split_at(i * o)
}

fn layer_mut(w: &mut [f32], l: usize) -> (&mut [f32], &mut [f32]) {
    let at: usize = LAYERS[..l].iter().map(|(i, o)| i * o + o).sum();
    let (i, o) = LAYERS[l];
    w[at..at + i * o + o].split_at_mut(i * o)
}

/// `c [m, n] (+)= a b`, row and column steps given.
pub fn product(
    c: &mut [f32],
    (m, n, k): (usize, usize, usize),
    a: (&[f32], usize, usize),
    b: (&[f32], usize, usize),
    add: bool,
) {
    assert!(
        c.len() >= m * n
            && a.0.len() > (m - 1) * a.1 + (k - 1) * a.2
            && b.0.len() > (k - 1) * b.1 + (n - 1) * b.2
    );
    let none = gemm::Parallelism::None;
    // SAFETY: the sizes are asserted above.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.0.as_ptr(),
            a.2 as isize,
            a.1 as isize,
            b.0.as_ptr(),
            b.2 as isize,
            b.1 as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            none,
        );
    }
}

/// What the forward pass of a chunk leaves for the backward pass.
#[derive(Debug, Default)]
struct Kept {
    x: [Vec<f32>; 3],
    z: [Vec<f32>; 3],
    h: [Vec<f32>; 3],
}

/// `[m, X]` → `[m, X + H]`.
fn forward(x0: &[f32], w: &[f32], out: &mut [f32]) -> Kept {
    let m = x0.len() / X;
    let mut kept = Kept { x: [x0.to_vec(), vec![0.0; m * X], vec![0.0; m * X]], ..Kept::default() };
    let mut last = vec![0.0; m * X];
    for l in 0..3 {
        let (weight, bias) = layer(w, l);
        let mut z = vec![0.0; m * X];
        product(&mut z, (m, X, X), (&kept.x[l], X, 1), (weight, X, 1), false);
        let (before, after) = kept.x.split_at_mut(l + 1);
        let next = if l < 2 { &mut after[0] } else { &mut last };
        for r in (0..m * X).step_by(X) {
            for j in 0..X {
                z[r + j] += bias[j];
                next[r + j] = x0[r + j] * z[r + j] + before[l][r + j];
            }
        }
        kept.z[l] = z;
    }
    for l in 0..3 {
        let ((i, o), (weight, bias)) = (LAYERS[3 + l], layer(w, 3 + l));
        let mut y = vec![0.0; m * o];
        product(&mut y, (m, o, i), (if l == 0 { x0 } else { &kept.h[l - 1] }, i, 1), (weight, o, 1), false);
        y.chunks_exact_mut(o)
            .for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y = (*y + b).max(0.0)));
        kept.h[l] = y;
    }
    for (r, out) in out.chunks_exact_mut(X + H).enumerate() {
        out[..X].copy_from_slice(&last[r * X..][..X]);
        out[X..].copy_from_slice(&kept.h[2][r * H..][..H]);
    }
    kept
}

/// Adds the parameters' gradients into `gw`, and writes that of x0.
fn backward(kept: &Kept, w: &[f32], g: &[f32], gx: &mut [f32], gw: &mut [f32]) {
    let (m, x0) = (gx.len() / X, &kept.x[0]);
    let mut dx: Vec<f32> = g.chunks_exact(X + H).flat_map(|g| &g[..X]).copied().collect();
    let mut dh: Vec<f32> = g.chunks_exact(X + H).flat_map(|g| &g[X..]).copied().collect();
    for l in (0..3).rev() {
        let ((i, o), (weight, _)) = (LAYERS[3 + l], layer(w, 3 + l));
        dh.iter_mut().zip(&kept.h[l]).for_each(|(d, h)| *d = if *h > 0.0 { *d } else { 0.0 });
        let (dw, db) = layer_mut(gw, 3 + l);
        dh.chunks_exact(o).for_each(|row| db.iter_mut().zip(row).for_each(|(b, d)| *b += d));
        let x = if l == 0 { x0 } else { &kept.h[l - 1] };
        product(dw, (i, o, m), (x, 1, i), (&dh, o, 1), true);
        if l == 0 {
            product(gx, (m, i, o), (&dh, o, 1), (weight, 1, o), false);
        } else {
            let mut next = vec![0.0; m * i];
            product(&mut next, (m, i, o), (&dh, o, 1), (weight, 1, o), false);
            dh = next;
        }
    }
    for l in (0..3).rev() {
        let (weight, _) = layer(w, l);
        let (dw, db) = layer_mut(gw, l);
        let mut dz = vec![0.0; m * X];
        for r in (0..m * X).step_by(X) {
            for j in 0..X {
                dz[r + j] = dx[r + j] * x0[r + j];
                db[j] += dz[r + j];
                gx[r + j] += dx[r + j] * kept.z[l][r + j];
            }
        }
        product(dw, (X, X, m), (&kept.x[l], 1, X), (&dz, X, 1), true);
        product(&mut dx, (m, X, X), (&dz, X, 1), (weight, 1, X), true);
    }
    gx.iter_mut().zip(&dx).for_each(|(g, d)| *g += d);
}

#[backend_extension(Flex, Autodiff)]
pub trait BodyBackend: Backend {
    /// x0 `[N, X]` and the flat parameters → `[N, X + H]`.
    fn body(x0: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;
}

type T = FloatTensor<Flex>;

fn run(x0: &T, w: &T) -> (T, Vec<Kept>) {
    let (x, w) = (x0.storage::<f32>(), w.storage::<f32>());
    let rows = x.len() / X;
    let mut out = vec![0.0f32; rows * (X + H)];
    let kept = out
        .par_chunks_mut(CHUNK * (X + H))
        .zip(x.par_chunks(CHUNK * X))
        .map(|(o, x)| forward(x, w, o))
        .collect();
    (T::from_data(TensorData::new(out, [rows, X + H])), kept)
}

impl BodyBackend for Flex {
    fn body(x0: T, w: T) -> T {
        run(&x0.to_contiguous(), &w.to_contiguous()).0
    }
}

impl<C: CheckpointStrategy> BodyBackend for Autodiff<Flex, C> {
    fn body(x0: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Body;
        impl Backward<Flex, 2> for Body {
            type State = (Arc<Vec<Kept>>, T);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let ([n0, n1], (kept, w)) = (ops.parents, ops.state);
                let g = grads.consume::<Flex>(&ops.node).to_contiguous();
                let (g, w) = (g.storage::<f32>(), w.storage::<f32>());
                let rows = g.len() / (X + H);
                let mut gx = vec![0.0f32; rows * X];
                let half = kept.len().div_ceil(2);
                let chunks: Vec<_> =
                    gx.chunks_mut(CHUNK * X).zip(g.chunks(CHUNK * (X + H))).zip(kept.iter()).collect();
                let mut parts: Vec<Vec<_>> = Vec::new();
                for (c, chunk) in chunks.into_iter().enumerate() {
                    if c % half == 0 {
                        parts.push(Vec::new());
                    }
                    parts.last_mut().unwrap().push(chunk);
                }
                let sums = parts.into_par_iter().map(|part| {
                    let mut gw = vec![0.0f32; w.len()];
                    part.into_iter().for_each(|((gx, g), kept)| backward(kept, w, g, gx, &mut gw));
                    gw
                });
                let gw = sums.reduce_with(|mut a, b| {
                    a.iter_mut().zip(&b).for_each(|(a, b)| *a += b);
                    a
                });
                if let Some(n) = n0 {
                    grads.register::<Flex>(n.id, T::from_data(TensorData::new(gx, [rows, X])));
                }
                if let Some(n) = n1 {
                    let len = w.len();
                    grads.register::<Flex>(n.id, T::from_data(TensorData::new(gw.unwrap(), [len])));
                }
            }
        }
        let ((x0, n0), (w, n1)) = (x0.into_parts(), w.into_parts());
        let (x0, w) = (x0.to_contiguous(), w.to_contiguous());
        let (out, kept) = run(&x0, &w);
        match Body.prepare::<C>([n0, n1]).compute_bound().stateful() {
            OpsKind::Tracked(p) => p.finish((Arc::new(kept), w), out),
            OpsKind::UnTracked(p) => p.finish(out),
        }
    }
}

/// x0 `[N, X]` and the flat parameters `[P]` → `[N, X + H]`.
pub fn body(x0: Tensor<2>, w: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as BodyBackend>::body(x0.into_dispatch(), w.into_dispatch()))
}
