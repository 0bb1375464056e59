//! How often keys without a row were seen.

use crate::config::Admission;
use crate::keys::mix;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Blocks of a sketch, each the property of one shard at any number of shards.
pub(crate) const BLOCKS: usize = 1 << 12;

/// Counters that one key falls on.
const PROBES: u64 = 4;

/// Hashes a `u64` by [`mix`].
#[derive(Debug, Default)]
pub(crate) struct MixHasher(u64);

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = mix(self.0 ^ key);
    }
}

/// Sightings of a key, and the word of the last (see [`Layout`](crate::layout::Layout)).
pub(crate) type Sightings = (u32, u32);

type Exact = HashMap<u64, Sightings, BuildHasherDefault<MixHasher>>;

/// The counts that one shard keeps.
#[derive(Debug)]
pub(crate) enum Counts {
    Exact(Exact),
    /// Some of the [`BLOCKS`], and counters per block.
    Sketch(Box<[u8]>, usize),
}

impl Counts {
    pub(crate) fn new(admission: Admission, shards: usize) -> Self {
        match admission {
            Admission::Count { .. } => Self::Exact(Exact::default()),
            Admission::CountMin { counters, .. } => {
                let block = (counters as usize).next_power_of_two().max(64 * BLOCKS) / BLOCKS;
                Self::Sketch(vec![0; block * (BLOCKS / shards)].into(), block)
            }
        }
    }

    /// Counts one more sighting of `key`; `true` when that makes `enough`.
    pub(crate) fn sight(&mut self, hash: u64, key: u64, enough: u32, word: u32) -> bool {
        match self {
            Self::Exact(seen) => {
                let (count, last) = seen.entry(key).or_default();
                (*count, *last) = (*count + 1, word);
                let enough = *count >= enough;
                if enough {
                    seen.remove(&key);
                }
                enough
            }
            Self::Sketch(counters, block) => {
                let places = probes(hash, *block, counters.len());
                let least = places.iter().map(|&at| counters[at]).min().unwrap_or(0);
                let now = least.saturating_add(1);
                places.iter().for_each(|&at| counters[at] = counters[at].max(now));
                u32::from(now) >= enough
            }
        }
    }

    /// Forgets a key that has got a row by other means.
    pub(crate) fn forget(&mut self, key: u64) {
        if let Self::Exact(seen) = self {
            seen.remove(&key);
        }
    }

    pub(crate) fn halve(&mut self) {
        match self {
            Self::Exact(seen) => {
                seen.retain(|_, (count, _)| {
                    *count /= 2;
                    *count > 0
                });
                seen.shrink_to_fit();
            }
            Self::Sketch(counters, _) => counters.iter_mut().for_each(|count| *count /= 2),
        }
    }

    /// Subtracts from all words, down to zero.
    pub(crate) fn rebase(&mut self, by: u32) {
        if let Self::Exact(seen) = self {
            seen.values_mut().for_each(|(_, word)| *word = word.saturating_sub(by));
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Exact(seen) => seen.capacity() * (size_of::<(u64, Sightings)>() + 1),
            Self::Sketch(counters, _) => counters.len(),
        }
    }
}

/// Where the counters of a key lie within its shard's part of the sketch.
fn probes(hash: u64, block: usize, len: usize) -> [usize; PROBES as usize] {
    // `len` is a power of two of blocks, so the low bits of the block's number are its place in the shard.
    let first = ((hash >> 52) as usize * block) & (len - 1);
    let (from, by) = (mix(hash), mix(hash ^ 0x5bd1_e995) | 1);
    std::array::from_fn(|at| {
        let step = (at as u64).wrapping_mul(by);
        first + (from.wrapping_add(step) as usize & (block - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which sighting each of `keys` is let in, when all are seen in turn.
    fn admitted(counts: &mut Counts, keys: u64, enough: u32, rounds: u32) -> Vec<u32> {
        let mut at = vec![0; keys as usize];
        for round in 1..=rounds {
            for key in 0..keys {
                if at[key as usize] == 0 && counts.sight(mix(key), key, enough, round) {
                    at[key as usize] = round;
                }
            }
        }
        at
    }

    #[test]
    fn the_exact_counter_lets_in_at_the_nth_sighting_and_then_forgets() {
        let mut counts = Counts::new(Admission::Count { sightings: 3 }, 1);
        assert_eq!(admitted(&mut counts, 1000, 3, 3), vec![3; 1000]);
        assert!(matches!(&counts, Counts::Exact(seen) if seen.is_empty()));
    }

    #[test]
    fn the_sketch_never_lets_in_late_and_seldom_early() {
        let admission = Admission::CountMin { sightings: 4, counters: 1 << 18 };
        let mut counts = Counts::new(admission, 1);
        let at = admitted(&mut counts, 1 << 15, 4, 4);
        assert!(at.iter().all(|&round| (1..=4).contains(&round)));
        let early = at.iter().filter(|&&round| round < 4).count();
        assert!(early < (1 << 15) / 50, "{early} of 32,768 early at eight counters a key");
        assert_eq!(counts.memory_bytes(), 1 << 18);
    }

    #[test]
    fn a_sketch_answers_alike_in_one_part_and_in_many() {
        let admission = Admission::CountMin { sightings: 3, counters: 1 << 18 };
        let mut whole = Counts::new(admission, 1);
        let mut parts: Vec<_> = (0..64).map(|_| Counts::new(admission, 64)).collect();
        for at in 0..200_000u64 {
            let key = at.wrapping_mul(at) % 60_000;
            let hash = mix(key);
            let part = &mut parts[(hash >> 58) as usize];
            assert_eq!(whole.sight(hash, key, 3, 1), part.sight(hash, key, 3, 1), "{at}");
        }
    }

    #[test]
    fn halving_asks_for_more_sightings() {
        for admission in
            [Admission::Count { sightings: 4 }, Admission::CountMin { sightings: 4, counters: 1 }]
        {
            let mut counts = Counts::new(admission, 1);
            let mut see = |times: u32| (0..times).map(|_| counts.sight(mix(5), 5, 4, 1)).last();
            assert_eq!(see(3), Some(false));
            counts.halve();
            let mut see = |times: u32| (0..times).map(|_| counts.sight(mix(5), 5, 4, 1)).last();
            assert_eq!((see(2), see(1)), (Some(false), Some(true)), "{admission:?}");
        }
    }
}
