//! Work cut into chunks of rows: in parallel for big arrays, at once for small ones.
//!
//! Chunk borders depend on sizes only, and partial sums are added in chunk order: results do not
//! depend on how threads are scheduled.

use rayon::prelude::*;

/// Elements per chunk; arrays below twice this stay on the calling thread.
const CHUNK: usize = 16 * 1024;

/// Rows per chunk for rows of `width` elements.
pub(crate) fn rows_per_chunk(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// Calls `f(first row, rows)` for each chunk of rows of `out`.
pub(crate) fn rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if out.is_empty() {
        return;
    }
    let f = |from: usize, part: &mut [f32]| vectorised!(f(from, part));
    if out.len() < 2 * CHUNK {
        return f(0, out);
    }
    let step = rows_per_chunk(width);
    out.par_chunks_mut(step * width).enumerate().for_each(|(c, chunk)| f(c * step, chunk));
}

/// As [`rows`], for two arrays with the same number of rows.
pub(crate) fn rows2(
    (a, wa): (&mut [f32], usize),
    (b, wb): (&mut [f32], usize),
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    if a.is_empty() || b.is_empty() {
        return;
    }
    let f = |from: usize, a: &mut [f32], b: &mut [f32]| vectorised!(f(from, a, b));
    if a.len().max(b.len()) < 2 * CHUNK {
        return f(0, a, b);
    }
    let step = rows_per_chunk(wa.max(wb));
    a.par_chunks_mut(step * wa)
        .zip(b.par_chunks_mut(step * wb))
        .enumerate()
        .for_each(|(c, (a, b))| f(c * step, a, b));
}

/// `out[i] = f(a[i])`.
pub(crate) fn map(out: &mut [f32], a: &[f32], f: impl Fn(f32) -> f32 + Sync) {
    rows(out, 1, |from, out| {
        for (o, a) in out.iter_mut().zip(&a[from..]) {
            *o = f(*a);
        }
    });
}

/// `out[i] = f(a[i], b[i])`.
pub(crate) fn zip(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    rows(out, 1, |from, out| {
        for ((o, a), b) in out.iter_mut().zip(&a[from..]).zip(&b[from..]) {
            *o = f(*a, *b);
        }
    });
}

/// `g[i] = f(g[i], a[i])`.
pub(crate) fn update(g: &mut [f32], a: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    rows(g, 1, |from, g| {
        for (g, a) in g.iter_mut().zip(&a[from..]) {
            *g = f(*g, *a);
        }
    });
}

/// Adds the column sums of `a` (rows of `width`) into `out`.
pub(crate) fn column_sums(a: &[f32], width: usize, out: &mut [f32]) {
    fold(a, width, out, |_, rows, part| {
        for row in rows.chunks_exact(width) {
            add(part, row);
        }
    });
}

/// Adds into `out` what `f(first row, rows, partial)` sums over the rows of `a`.
pub(crate) fn fold(a: &[f32], width: usize, out: &mut [f32], f: impl Fn(usize, &[f32], &mut [f32]) + Sync) {
    let f = |from: usize, rows: &[f32], part: &mut [f32]| vectorised!(f(from, rows, part));
    if a.len() < 2 * CHUNK {
        return f(0, a, out);
    }
    let step = rows_per_chunk(width).max(64);
    let n = out.len();
    let parts: Vec<Vec<f32>> = a
        .par_chunks(step * width)
        .enumerate()
        .map(|(c, chunk)| {
            let mut part = vec![0.0; n];
            f(c * step, chunk, &mut part);
            part
        })
        .collect();
    for part in parts {
        add(out, &part);
    }
}

/// As [`fold`] over rows that `f(first row, rows, partial)` may change on the way.
pub(crate) fn update_fold(
    a: &mut [f32],
    width: usize,
    out: &mut [f32],
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let f = |from: usize, rows: &mut [f32], part: &mut [f32]| vectorised!(f(from, rows, part));
    if a.len() < 2 * CHUNK {
        return f(0, a, out);
    }
    let step = rows_per_chunk(width).max(64);
    let n = out.len();
    let changed = |(c, chunk): (usize, &mut [f32])| {
        let mut part = vec![0.0; n];
        f(c * step, chunk, &mut part);
        part
    };
    let parts: Vec<Vec<f32>> = a.par_chunks_mut(step * width).enumerate().map(changed).collect();
    parts.iter().for_each(|part| add(out, part));
}

/// What `f` makes of each chunk of rows, in order.
pub(crate) fn parts<T: Send>(a: &[f32], width: usize, f: impl Fn(&[f32]) -> T + Sync) -> Vec<T> {
    let f = |rows: &[f32]| vectorised!(f(rows));
    if a.is_empty() {
        return Vec::new();
    }
    if a.len() < 2 * CHUNK {
        return vec![f(a)];
    }
    a.par_chunks(rows_per_chunk(width).max(64) * width).map(f).collect()
}

/// Proof that the processor has AVX2.
#[derive(Debug, Clone, Copy)]
pub struct Wide(());

impl Wide {
    /// `Some` where it has.
    #[inline(always)]
    pub fn here() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return Some(Self(()));
        }
        None
    }

    /// Runs `f` compiled for AVX2, if it is inlined, as a closure is that is called nowhere else.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn run<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor was asked.
        return unsafe { with_avx2(f) };
        #[cfg(not(target_arch = "x86_64"))]
        f()
    }
}

/// An expression, compiled for AVX2 and run so where the processor has it: without, the compiler may use half as wide registers only. The
/// results are the same bits (nothing is contracted or reordered). It stands in the code twice, each time in a closure of its own:
/// one that both ways shared would be a function of its own, too long to be inlined, and compiled once, for no AVX2.
#[macro_export]
macro_rules! vectorised {
    ($body:expr) => {
        match $crate::kernels::Wide::here() {
            Some(wide) => wide.run(|| $body),
            #[allow(clippy::redundant_closure_call)]
            None => (|| $body)(),
        }
    };
}
pub use vectorised;

/// Functions over plain slices, each compiled a second time for AVX2 and run that way where the processor has it. Unlike
/// [`vectorised!`] this does not depend on what the compiler chooses to inline.
macro_rules! wide {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $body:block)*) => { $(
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        fn $name($($arg: $kind),*) {
            #[inline(always)]
            fn on_any($($arg: $kind),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn on_avx2($($arg: $kind),*) {
                    on_any($($arg),*);
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was asked.
                    return unsafe { on_avx2($($arg),*) };
                }
            }
            on_any($($arg),*);
        }
    )* };
}
pub(crate) use wide;

/// To be inlined, so that it is compiled where `f` is, and not in a unit that knows `f` by name alone.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Sum in double precision.
pub(crate) fn total(a: &[f32]) -> f64 {
    let of = |c: &[f32]| c.iter().map(|v| f64::from(*v)).sum::<f64>();
    if a.len() < 2 * CHUNK {
        return of(a);
    }
    let parts: Vec<f64> = a.par_chunks(CHUNK).map(of).collect();
    parts.iter().sum()
}

/// `a += b`, on this thread.
#[inline]
pub(crate) fn add(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// `a += w b`, on this thread.
#[inline]
pub(crate) fn add_scaled(a: &mut [f32], w: f32, b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += w * b;
    }
}

/// Scalar product with sixteen running sums, so that the compiler may use vector registers.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = ca.remainder().iter().zip(cb.remainder()).map(|(a, b)| a * b).sum();
    for (x, y) in ca.zip(cb) {
        for i in 0..LANES {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}
