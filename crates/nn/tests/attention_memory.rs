//! Memory of attention over one long sequence, forward and back: linear in its length.

#![allow(clippy::unwrap_used, unsafe_code)] // A test that cannot go on should stop; an allocator that counts is unsafe to declare.

use millstream_nn::{Init, Mode, Params, Pass, Ragged, SeqAttention};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with the bytes that are out and the most there ever were.
struct Counting;

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(live, Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller has it.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Most bytes beyond those of the weights that one step over a sequence of this length takes, on threads of its own, so
/// that no buffer is left from another.
fn bytes(len: usize, width: usize) -> usize {
    let run = move || {
        let mut params = Params::new(1);
        let ids = ["q", "k", "v"].map(|name| params.dense(name, &[len, width], Init::Normal(1.0)).unwrap());
        let before = LIVE.load(Relaxed);
        MOST.store(before, Relaxed);
        let pass = Pass::new(&params, Mode::Train, 1);
        let [q, k, v] = ids.map(|id| pass.param(id));
        let q = Ragged::new(Arc::new(vec![0, len as u32]), q).unwrap();
        let how = SeqAttention { heads: 2, scale: 0.25, causal: true, window: None, dropout: 0.1 };
        let loss = q.attend(&pass, &k, &v, how).values().square().sum();
        assert!(pass.backward(&loss).is_finite());
        MOST.load(Relaxed) - before
    };
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(run)
}

#[test]
fn eight_times_the_length_takes_no_more_than_eight_times_the_memory() {
    let width = 32;
    let of_one = |len: usize| len * width * size_of::<f32>();
    let found: Vec<usize> = [512, 1024, 2048, 4096].map(|len| bytes(len, width)).to_vec();
    // A step holds a handful of arrays as large as the queries; the matrix of all pairs would be 128 times one. Each thread has tiles of
    // its own on top, and room for products, which is the larger the wider the processor's registers are.
    for (bytes, len) in found.iter().zip([512, 1024, 2048, 4096]) {
        assert!(*bytes < 16 * of_one(len) + (3 << 20), "{len}: {bytes} bytes, all: {found:?}");
    }
    // What 2,048 further positions add is four times what 512 do.
    assert!(found[3] - found[2] < 5 * (found[1] - found[0]), "{found:?}");
    assert!(found[3] < 9 * found[0], "{found:?}");
}
