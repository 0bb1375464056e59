//! Reused `f32` buffers: a thread keeps what a pass has freed for the next pass.
//!
//! A training step allocates the same few hundred megabytes again and again; given back to the system
//! they would be mapped and zeroed anew each time. Contents of a taken buffer are unspecified but initialised.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// Smaller buffers (in floats) are left to the allocator.
const SMALLEST: usize = 1024;
/// Most floats that one thread keeps (256 MiB).
const KEPT: usize = 64 << 20;

#[derive(Default)]
struct Shelf {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    floats: usize,
}

thread_local! {
    static SHELF: RefCell<Shelf> = RefCell::new(Shelf::default());
}

impl Shelf {
    fn take(&mut self, class: usize) -> Option<Vec<f32>> {
        let (&size, list) = self.free.range_mut(class..=class * 2).next()?;
        let values = list.pop();
        if list.is_empty() {
            self.free.remove(&size);
        }
        if values.is_some() {
            self.floats -= size;
        }
        values
    }

    fn keep(&mut self, values: Vec<f32>) {
        let size = class_down(values.capacity());
        if self.floats + size > KEPT {
            // Sizes have drifted (or are too big to keep): start anew rather than hold stale ones.
            self.free.clear();
            self.floats = 0;
        }
        if size <= KEPT {
            self.floats += size;
            self.free.entry(size).or_default().push(values);
        }
    }
}

/// Step between size classes: an eighth of the power of two below.
fn class_step(len: usize) -> usize {
    (1usize << len.max(8).ilog2()) / 8
}

fn class_up(len: usize) -> usize {
    len.next_multiple_of(class_step(len))
}

fn class_down(len: usize) -> usize {
    len / class_step(len) * class_step(len)
}

/// A `Vec<f32>` that returns to its thread's shelf when dropped.
#[derive(Debug, Default)]
pub struct Buffer {
    values: Vec<f32>,
}

impl Buffer {
    /// `len` floats with unspecified contents.
    pub(crate) fn any(len: usize) -> Self {
        if len < SMALLEST {
            return Self { values: vec![0.0; len] };
        }
        let class = class_up(len);
        let found = SHELF.try_with(|s| s.borrow_mut().take(class)).ok().flatten();
        let mut values = found.unwrap_or_else(|| vec![0.0; class]);
        values.resize(len, 0.0);
        Self { values }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut b = Self::any(len);
        b.fill(0.0);
        b
    }

    /// A copy of `values`.
    pub(crate) fn copy_of(values: &[f32]) -> Self {
        let mut b = Self::any(values.len());
        b.copy_from_slice(values);
        b
    }

    /// The floats as a plain vector.
    pub fn into_vec(mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self { values }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.values.capacity() >= SMALLEST {
            let values = std::mem::take(&mut self.values);
            // A thread that is ending has no shelf any more: the vector is then simply freed.
            let _ = SHELF.try_with(|s| s.borrow_mut().keep(values));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_buffer_is_handed_out_again() {
        let a = Buffer::any(100_000);
        let at = a.as_ptr();
        drop(a);
        let b = Buffer::any(99_000);
        assert_eq!(at, b.as_ptr());
        assert_eq!(b.len(), 99_000);
    }

    #[test]
    fn zeros_are_zeros_even_when_reused() {
        let mut a = Buffer::any(5000);
        a.fill(3.0);
        drop(a);
        assert!(Buffer::zeros(5000).iter().all(|v| *v == 0.0));
    }

    #[test]
    fn size_classes_never_shrink_below_the_request() {
        for len in [1024, 1025, 5000, 65_535, 65_536, 65_537, 9_999_999] {
            assert!(class_up(len) >= len && class_up(len) <= len + len / 8 + 1);
            assert!(class_down(len) <= len);
            assert_eq!(class_down(class_up(len)), class_up(len));
        }
    }
}
