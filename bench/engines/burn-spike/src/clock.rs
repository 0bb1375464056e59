//! CPU time of the whole process, user and system: under other work on the machine it says more than wall time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds spent in DIN's fused unit.
pub static UNIT: AtomicU64 = AtomicU64::new(0);

pub fn nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub struct Lap(u64);

pub fn lap() -> Lap {
    Lap(nanoseconds())
}

impl Lap {
    pub fn add(self, to: &AtomicU64) {
        to.fetch_add(nanoseconds() - self.0, Ordering::Relaxed);
    }
}
