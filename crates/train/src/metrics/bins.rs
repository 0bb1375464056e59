//! How a histogram of scores is divided.

use serde::{Deserialize, Serialize};

/// How a histogram divides the scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Bins {
    /// So many equal widths over [0, 1]: scores are probabilities.
    Probability(usize),
    /// Equal widths over [−limit, limit]: scores are logits; what lies beyond enters the outermost bins.
    Logit {
        /// How many.
        bins: usize,
        /// Where the outermost ones begin to hold everything beyond.
        limit: f32,
    },
    /// Equal widths of asinh(logit / scale) over [−reach, reach]: narrow near 0, and in proportion to the logit far from it. The first
    /// examples are kept as they are, and counted exactly.
    Fine {
        /// How many.
        bins: usize,
        /// Logits below it lie in bins of one width, above 0.
        scale: f32,
        /// Where the outermost ones begin to hold everything beyond; above 0.
        reach: f32,
        /// Examples from which on they are counted by bins.
        exact: usize,
    },
}

impl Default for Bins {
    /// 2^17 examples as they are, then 65,536 bins over logits of ±33: 4e-8 wide at 0, and 0.04 % of the logit far from it.
    fn default() -> Self {
        Self::Fine { bins: 1 << 16, scale: 1e-4, reach: 13.4, exact: 1 << 17 }
    }
}

impl Bins {
    /// Number of bins, at least 1.
    pub fn count(self) -> usize {
        match self {
            Self::Probability(bins) | Self::Logit { bins, .. } | Self::Fine { bins, .. } => bins.max(1),
        }
    }

    /// Examples that are kept as they are before bins are.
    pub fn exact(self) -> usize {
        if let Self::Fine { exact, .. } = self { exact } else { 0 }
    }

    /// The bin of a score; NaN enters the lowest.
    #[inline]
    pub fn of(self, score: f32) -> usize {
        let share = match self {
            Self::Probability(_) => score,
            Self::Logit { limit, .. } => score / (2.0 * limit) + 0.5,
            Self::Fine { scale, reach, .. } => (score / scale).asinh() / (2.0 * reach) + 0.5,
        };
        // A float becomes the nearest whole number of the type: NaN and all below 0 become 0.
        ((share * self.count() as f32) as usize).min(self.count() - 1)
    }

    /// The score in the middle of a bin.
    pub fn middle(self, bin: usize) -> f32 {
        let share = (bin as f64 + 0.5) / self.count() as f64;
        let middle = match self {
            Self::Probability(_) => share,
            Self::Logit { limit, .. } => (share - 0.5) * 2.0 * f64::from(limit),
            Self::Fine { scale, reach, .. } => {
                f64::from(scale) * ((share - 0.5) * 2.0 * f64::from(reach)).sinh()
            }
        };
        middle as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_scores_have_a_bin() {
        let even = Bins::Logit { bins: 4096, limit: 16.0 };
        for (bins, count) in [(even, 4096), (Bins::default(), 65_536)] {
            let found = [f32::NAN, f32::NEG_INFINITY, -1e9, 0.0, 1e9, f32::INFINITY].map(|s| bins.of(s));
            assert_eq!(found, [0, 0, 0, count / 2, count - 1, count - 1]);
            assert!((0..count).all(|bin| bins.of(bins.middle(bin)) == bin));
        }
    }

    #[test]
    fn fine_bins_are_narrow_near_zero_and_in_proportion_elsewhere() {
        let bins = Bins::default();
        let apart = |a: f32, b: f32| bins.of(b) - bins.of(a);
        assert!(apart(1e-6, 1.1e-6) > 0 && apart(-1e-3, -0.999e-3) > 0 && apart(-1.1, -1.098) > 3);
        assert_eq!(apart(-1.0, 1.0), bins.of(1.0) - bins.of(-1.0));
        assert!(
            (-30..30).all(|z| bins.of(z as f32) < bins.of(z as f32 + 0.05)),
            "none is beyond the outermost"
        );
    }
}
