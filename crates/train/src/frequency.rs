//! How often items are met in a stream of batches, estimated as it flows (Yi et al., RecSys 2019, algorithm 2).

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Error;

/// `[training] frequency`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrequencyConfig {
    /// α: how much a new gap between two batches with an item counts beside those before, in (0, 1). Small follows slowly and varies little:
    /// variance is α times that of a gap, the first guess is forgotten as (1 − α)^hits.
    pub alpha: f32,
    /// Batches between two with an item that was not met before, above 0.
    pub first_gap: f32,
    /// m: arrays, each with a hash of its own. Two items in one place of an array shorten its gap; the longest of the arrays counts.
    pub hashes: usize,
    /// Places of each array.
    pub places: usize,
}

impl Default for FrequencyConfig {
    /// α = 0.01, a first gap of 100 batches, two hashes of 2²⁰ places (12 MiB each).
    fn default() -> Self {
        Self { alpha: 0.01, first_gap: 100.0, hashes: 2, places: 1 << 20 }
    }
}

impl FrequencyConfig {
    /// # Errors
    /// Names the key that is out of range.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |key: &str, wanted: &str| {
            Err(Error::Config(format!("training.frequency.{key} must be {wanted}")))
        };
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return fail("alpha", "between 0 and 1");
        }
        if !(self.first_gap.is_finite() && self.first_gap > 0.0) {
            return fail("first_gap", "above 0");
        }
        match (self.hashes, self.places) {
            (1..=8, 1..=0x4000_0000) => Ok(()),
            (1..=8, _) => fail("places", "from 1 to 2^30"),
            _ => fail("hashes", "from 1 to 8"),
        }
    }
}

/// Mean gaps, in batches, between batches with an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frequency {
    config: FrequencyConfig,
    /// A: last batch that met each place of each array, from 1; 0 for none.
    last: Vec<Vec<u64>>,
    /// B.
    gap: Vec<Vec<f32>>,
}

impl Frequency {
    /// Nothing was met.
    ///
    /// # Errors
    /// As [`FrequencyConfig::check`].
    pub fn new(config: FrequencyConfig) -> Result<Self, Error> {
        config.check()?;
        let arrays = config.hashes;
        Ok(Self {
            last: vec![vec![0; config.places]; arrays],
            gap: vec![vec![config.first_gap; config.places]; arrays],
            config,
        })
    }

    fn place(&self, array: usize, item: u32) -> usize {
        (xxh3_64_with_seed(&item.to_le_bytes(), array as u64) % self.config.places as u64) as usize
    }

    /// Takes in the items of batch number `step`, from 1 and rising; one that comes several times counts once.
    pub fn meet(&mut self, step: u64, items: &[u32]) {
        let mut distinct = items.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        for array in 0..self.config.hashes {
            for item in &distinct {
                let place = self.place(array, *item);
                let (last, gap) = (&mut self.last[array][place], &mut self.gap[array][place]);
                if *last == step {
                    // Another item of this batch is in the same place: a gap of nothing.
                    *gap *= 1.0 - self.config.alpha;
                } else if *last > 0 {
                    *gap += self.config.alpha * (step.saturating_sub(*last) as f32 - *gap);
                }
                *last = step;
            }
        }
    }

    /// p̂: the estimated probability that a batch has the item, in (0, 1].
    pub fn share(&self, item: u32) -> f32 {
        let gap = (0..self.config.hashes).map(|array| self.gap[array][self.place(array, item)]);
        gap.fold(1.0, f32::max).recip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn config(alpha: f32, hashes: usize, places: usize) -> FrequencyConfig {
        FrequencyConfig { alpha, first_gap: 50.0, hashes, places }
    }

    /// Batches in which item i is with probability `p(i)`.
    fn stream(f: &mut Frequency, steps: std::ops::Range<u64>, items: u32, p: impl Fn(u32) -> f64) {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(steps.start);
        for step in steps {
            let met: Vec<u32> = (0..items).filter(|i| rng.random::<f64>() < p(*i)).collect();
            f.meet(step, &met);
        }
    }

    /// Mean relative error of the shares, and mean of share / truth.
    fn error(f: &Frequency, items: u32, p: impl Fn(u32) -> f64) -> (f64, f64) {
        let ratios: Vec<f64> = (0..items).map(|i| f64::from(f.share(i)) / p(i)).collect();
        let n = ratios.len() as f64;
        (ratios.iter().map(|r| (r - 1.0).abs()).sum::<f64>() / n, ratios.iter().sum::<f64>() / n)
    }

    #[test]
    fn a_stationary_stream_is_known_within_a_tenth() {
        // Every item is met more than 10/α times.
        let p = |i: u32| 0.5 / f64::from(1 + i % 10);
        let mut f = Frequency::new(config(0.005, 2, 1 << 12)).unwrap();
        stream(&mut f, 1..60_001, 100, p);
        let (off, bias) = error(&f, 100, p);
        assert!(off < 0.1 && (bias - 1.0).abs() < 0.05, "{off} {bias}");
    }

    #[test]
    fn a_step_change_is_followed() {
        let (before, after) =
            (|i: u32| if i < 50 { 0.4 } else { 0.05 }, |i: u32| if i < 50 { 0.05 } else { 0.4 });
        let mut f = Frequency::new(config(0.01, 2, 1 << 12)).unwrap();
        stream(&mut f, 1..20_001, 100, before);
        assert!(error(&f, 100, before).0 < 0.15);
        assert!(error(&f, 100, after).0 > 1.0);
        stream(&mut f, 20_001..40_001, 100, after);
        assert!(error(&f, 100, after).0 < 0.15, "{:?}", error(&f, 100, after));
    }

    #[test]
    fn more_hashes_over_estimate_less() {
        let p = |_| 0.05;
        let over = |hashes| {
            let mut f = Frequency::new(config(0.02, hashes, 400)).unwrap();
            stream(&mut f, 1..6_001, 300, p);
            error(&f, 300, p).1
        };
        let (one, two, four) = (over(1), over(2), over(4));
        assert!(one > two && two > four && four >= 0.95, "{one} {two} {four}");
    }

    #[test]
    fn bad_settings_name_their_key() {
        for (bad, key) in [
            (config(1.0, 2, 10), "alpha"),
            (FrequencyConfig { first_gap: 0.0, ..config(0.1, 2, 10) }, "first_gap"),
            (config(0.1, 0, 10), "hashes"),
            (config(0.1, 1, 0), "places"),
        ] {
            assert!(Frequency::new(bad).unwrap_err().to_string().contains(key));
        }
    }
}
