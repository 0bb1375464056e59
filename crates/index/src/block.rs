//! Memory that readers look at while one writer fills the part nobody was told of yet.
#![allow(unsafe_code)]

use memmap2::MmapMut;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Bytes from which the system is asked for huge pages.
const HUGE_BYTES: usize = 8 << 20;

/// Types of which any bits, zeros included, are a value.
///
/// # Safety
/// That must be true of the type, and it must need no drop.
pub(crate) unsafe trait Plain {}

// SAFETY: numbers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for AtomicU32 {}

/// A fixed number of elements, zeroed at first: anonymous memory, or a private view of a file, of which a
/// page is copied when it is written to.
#[derive(Debug)]
pub(crate) struct Block<T> {
    start: NonNull<T>,
    len: usize,
    _memory: Arc<MmapMut>,
}

// SAFETY: the memory is owned, and writes through a shared block are the contract of `write`.
unsafe impl<T: Send> Send for Block<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Block<T> {}

impl<T: Plain> Block<T> {
    /// Zeros; memory is taken from the system as it is touched.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut map = MmapMut::map_anon(bytes.max(1))?;
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_BYTES {
            // Only a hint: a system that does not know it goes on with small pages.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let start = NonNull::new(map.as_mut_ptr().cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len, _memory: Arc::new(map) })
    }

    /// `len` elements of a file's view from a byte on; `None` when they are not all there, or not aligned.
    pub(crate) fn of_file(map: &Arc<MmapMut>, at: usize, len: usize) -> Option<Self> {
        let end = len.checked_mul(size_of::<T>())?.checked_add(at)?;
        let start = map.get(at..end)?.as_ptr().cast_mut().cast::<T>();
        let start = NonNull::new(start).filter(|start| start.is_aligned())?;
        Some(Self { start, len, _memory: map.clone() })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Elements `at..at + len`.
    ///
    /// # Safety
    /// Nobody writes to these elements while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &[T] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: the elements lie inside the block, any bits are a value, and nobody writes to them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), len) }
    }

    /// The first `len` elements as bytes.
    ///
    /// # Safety
    /// Nobody writes to these elements while the slice lives.
    pub(crate) unsafe fn bytes(&self, len: usize) -> &[u8] {
        assert!(len <= self.len);
        // SAFETY: as in `slice`; types of which any bits are a value have no padding here.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), len * size_of::<T>()) }
    }

    /// Sets elements from `at` on.
    ///
    /// # Safety
    /// Nobody else reads or writes these elements meanwhile.
    pub(crate) unsafe fn write(&self, at: usize, values: &[T])
    where
        T: Copy,
    {
        assert!(at <= self.len && values.len() <= self.len - at);
        // SAFETY: the elements lie inside the block, which is writable memory, and are nobody else's now.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.as_ptr().add(at), values.len()) }
    }
}

impl Block<AtomicU32> {
    /// All elements, which may be changed at any time.
    #[inline(always)]
    pub(crate) fn cells(&self) -> &[AtomicU32] {
        // SAFETY: as in `slice`; all access to atomics is synchronised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Asks for the cache lines of `bytes`; a hint without any other effect.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = slice.as_ptr().cast::<i8>();
        for at in (0..size_of_val(slice).min(512)).step_by(64) {
            // SAFETY: the address lies inside `slice`, and a prefetch neither reads nor faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}
