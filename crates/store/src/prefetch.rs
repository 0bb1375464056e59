//! Asking for memory before it is needed: rows lie far apart, and waiting for one after the other is
//! what look-ups would otherwise spend their time on.
#![allow(unsafe_code)]

/// How many look-ups ahead to ask.
pub(crate) const AHEAD: usize = 16;

/// Starts loading what holds `slice`; a hint without any other effect.
#[inline]
pub(crate) fn prefetch<T>(slice: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;
        /// As many as a core can wait for at once, about; what comes after would only hold it up.
        const LINES: usize = 24;
        let start = slice.as_ptr().cast::<i8>();
        for at in (0..size_of_val(slice).min(LINES * LINE)).step_by(LINE) {
            // SAFETY: the address lies inside `slice`, and a prefetch neither reads nor faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}
