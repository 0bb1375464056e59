//! Draws that depend on a seed and a place alone.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A number in [0, 1) for the `draw`-th draw of a place.
pub(super) fn unit(seed: u64, place: u64, draw: u64) -> f64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&place.to_le_bytes());
    bytes[8..].copy_from_slice(&draw.to_le_bytes());
    (xxh3_64_with_seed(&bytes, seed) >> 11) as f64 / (1u64 << 53) as f64
}

/// One of `n`, which is above 0.
pub(super) fn one_of(n: usize, seed: u64, place: u64, draw: u64) -> usize {
    ((unit(seed, place, draw) * n as f64) as usize).min(n - 1)
}

/// The items in a drawn order.
pub(super) fn shuffled<T: Copy>(items: &[T], seed: u64, place: u64) -> Vec<T> {
    let mut out = items.to_vec();
    for i in (1..out.len()).rev() {
        out.swap(i, one_of(i + 1, seed, place, i as u64));
    }
    out
}
