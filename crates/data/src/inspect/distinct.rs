//! How many different values: counted up to a cap, estimated beyond.

use rapidhash::RapidHashSet;

/// log₂ of the number of registers: 16,384 of them give a standard error of 0.8 %.
const BITS: u32 = 14;
const REGISTERS: usize = 1 << BITS;

/// Counts different hashes exactly up to a cap, then by HyperLogLog (Flajolet et al. 2007) with linear counting for
/// small numbers. Memory: 8 bytes per value up to the cap, and 16 KiB.
#[derive(Debug)]
pub(super) struct Distinct {
    cap: usize,
    exact: Option<RapidHashSet<u64>>,
    registers: Vec<u8>,
}

impl Distinct {
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, exact: Some(RapidHashSet::default()), registers: vec![0; REGISTERS] }
    }

    /// Takes one value's 64-bit hash.
    pub(super) fn take(&mut self, hash: u64) {
        if let Some(seen) = &mut self.exact {
            seen.insert(hash);
            if seen.len() > self.cap {
                self.exact = None;
            }
        }
        let register = (hash >> (64 - BITS)) as usize;
        let rank = (hash << BITS).leading_zeros().min(64 - BITS) as u8 + 1;
        self.registers[register] = self.registers[register].max(rank);
    }

    /// The number of different hashes, and whether it is exact.
    pub(super) fn count(&self) -> (u64, bool) {
        if let Some(seen) = &self.exact {
            return (seen.len() as u64, true);
        }
        let m = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|&r| (-f64::from(r)).exp2()).sum();
        let empty = self.registers.iter().filter(|&&r| r == 0).count();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let estimate = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
        (estimate.round() as u64, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sets_are_exact_and_large_ones_within_three_percent() {
        let mut distinct = Distinct::new(1000);
        let hash = |i: u64| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes());
        (0..500u64).chain(0..500).for_each(|i| distinct.take(hash(i)));
        assert_eq!(distinct.count(), (500, true));
        (0..300_000).for_each(|i| distinct.take(hash(i)));
        let (count, exact) = distinct.count();
        assert!(!exact && (291_000..309_000).contains(&count), "{count}");
    }
}
