//! Seeded randomness: one stream per part of the world, so that parts do not disturb each other.

use rand::{RngExt, SeedableRng};
use rand_distr::{Exp1, StandardNormal};

/// The generator used everywhere in this module.
pub(super) type Rng = rand_pcg::Pcg64Mcg;

/// Parts of the world that draw from streams of their own.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Space = 1,
    Authors,
    Items,
    Users,
    Calibration,
    Schedule,
    Log,
    Words,
}

/// The stream of one part.
pub(super) fn stream(seed: u64, part: Part) -> Rng {
    Rng::seed_from_u64(mix(seed ^ mix(part as u64)))
}

/// splitmix64's finaliser: a bijection that scatters neighbouring numbers.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Standard normal.
pub(super) fn normal(rng: &mut Rng) -> f32 {
    rng.sample(StandardNormal)
}

/// Exponential of mean 1.
pub(super) fn exponential(rng: &mut Rng) -> f64 {
    rng.sample(Exp1)
}

/// Log-normal with the given median and sigma.
pub(super) fn log_normal(rng: &mut Rng, median: f64, sigma: f64) -> f64 {
    median * (sigma * rng.sample::<f64, _>(StandardNormal)).exp()
}

/// Uniform in [0, 1).
pub(super) fn uniform(rng: &mut Rng) -> f64 {
    rng.random()
}

/// Uniform in 0..n; n must be at least 1.
pub(super) fn below(rng: &mut Rng, n: u32) -> u32 {
    rng.random_range(0..n)
}

/// Index drawn with probability proportional to `weights`; the last one if they sum to nothing.
pub(super) fn weighted(rng: &mut Rng, weights: &[f32]) -> usize {
    let total: f32 = weights.iter().sum();
    let mut x = total * uniform(rng) as f32;
    for (i, w) in weights.iter().enumerate() {
        x -= w;
        if x < 0.0 {
            return i;
        }
    }
    weights.len().saturating_sub(1)
}

/// Cumulative weights for repeated draws by binary search.
pub(super) struct Cumulative(Vec<f64>);

impl Cumulative {
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut total = 0.0;
        Self(
            weights
                .map(|w| {
                    total += w;
                    total
                })
                .collect(),
        )
    }

    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        let total = self.0.last().copied().unwrap_or(0.0);
        let x = total * uniform(rng);
        self.0.partition_point(|&c| c <= x).min(self.0.len().saturating_sub(1))
    }
}
