//! Train, validate, test: what a row is for, and how that is decided.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A part of the data. Parts are ordered: what is visible to one is visible to later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Weights are learned from it.
    Train = 0,
    /// Settings and the best step are chosen by it.
    Valid = 1,
    /// Reported figures come from it.
    Test = 2,
}

impl Split {
    /// All parts, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// The name in file names and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }

    /// The part with this number.
    pub(crate) fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What examples are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Ranking: requests with all their candidates and labels.
    Rank,
    /// Retrieval: positives of the first task only, one candidate per request.
    Recall,
}

impl Use {
    /// Both uses.
    pub const ALL: [Self; 2] = [Self::Rank, Self::Recall];

    /// The name in file names and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rank => "rank",
            Self::Recall => "recall",
        }
    }
}

/// A split by time: moments at which the later parts begin. Equal times stay together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSplit {
    /// First moment of the validation part, epoch milliseconds.
    pub valid_ms: i64,
    /// First moment of the test part, epoch milliseconds.
    pub test_ms: i64,
}

impl TimeSplit {
    /// Cuts at the quantiles 1 − valid − test and 1 − test of these times, which need not be sorted.
    /// A part whose share is 0 begins after the last time.
    pub fn at_shares(mut times: Vec<i64>, valid: f64, test: f64) -> Self {
        let test_ms = cut(&mut times, test);
        let valid_ms = if valid > 0.0 { cut(&mut times, valid + test) } else { test_ms };
        Self { valid_ms, test_ms }
    }

    /// The part of a moment.
    pub fn part(&self, time_ms: i64) -> Split {
        if time_ms >= self.test_ms {
            Split::Test
        } else if time_ms >= self.valid_ms {
            Split::Valid
        } else {
            Split::Train
        }
    }
}

/// The time from which on `share` of the times lie, or more where times are equal.
fn cut(times: &mut [i64], share: f64) -> i64 {
    let after = (times.len() as f64 * share).round() as usize;
    if share <= 0.0 || after == 0 || times.is_empty() {
        return i64::MAX;
    }
    let at = times.len().saturating_sub(after);
    *times.select_nth_unstable(at).1
}

/// A seeded draw per row: the same row is in the same part on every run.
#[derive(Debug, Clone, Copy)]
pub struct RatioSplit {
    valid: f64,
    test: f64,
    seed: u64,
}

impl RatioSplit {
    /// Shares in [0, 1) with a sum below 1.
    pub fn new(valid: f64, test: f64, seed: u64) -> Self {
        Self { valid, test, seed }
    }

    /// The part of a row, by its number or any other 64 bits of its own.
    pub fn part(&self, row: u64) -> Split {
        let draw = unit(xxh3_64_with_seed(&row.to_le_bytes(), self.seed));
        if draw < self.test {
            Split::Test
        } else if draw < self.test + self.valid {
            Split::Valid
        } else {
            Split::Train
        }
    }
}

/// 64 random bits as a number in [0, 1).
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_shares_cut_at_quantiles_and_keep_ties_together() {
        let split = TimeSplit::at_shares((0..100).rev().collect(), 0.1, 0.2);
        assert_eq!(split, TimeSplit { valid_ms: 70, test_ms: 80 });
        assert_eq!(
            [69, 70, 79, 80].map(|t| split.part(t)),
            [Split::Train, Split::Valid, Split::Valid, Split::Test]
        );
        let tied = TimeSplit::at_shares(vec![1, 2, 3, 3, 3, 3, 3, 3, 3, 4], 0.1, 0.1);
        assert_eq!(tied, TimeSplit { valid_ms: 3, test_ms: 4 });
    }

    #[test]
    fn a_share_of_nothing_never_begins() {
        let split = TimeSplit::at_shares((0..100).collect(), 0.0, 0.0);
        assert_eq!(split.part(i64::MAX - 1), Split::Train);
        let split = TimeSplit::at_shares((0..100).collect(), 0.0, 0.1);
        assert_eq!((split.part(89), split.part(90)), (Split::Train, Split::Test));
        let split = TimeSplit::at_shares((0..100).collect(), 0.1, 0.0);
        assert_eq!((split.part(89), split.part(99)), (Split::Train, Split::Valid));
    }

    #[test]
    fn a_ratio_draw_keeps_its_shares_and_its_seed() {
        let split = RatioSplit::new(0.2, 0.1, 7);
        let parts: Vec<Split> = (0..20_000).map(|row| split.part(row)).collect();
        let share = |s: Split| parts.iter().filter(|&&p| p == s).count() as f64 / 20_000.0;
        assert!((share(Split::Valid) - 0.2).abs() < 0.01);
        assert!((share(Split::Test) - 0.1).abs() < 0.01);
        assert!((0..20_000).all(|row| split.part(row) == parts[row as usize]));
        let other = RatioSplit::new(0.2, 0.1, 8);
        assert!((0..20_000).any(|row| other.part(row) != parts[row as usize]));
    }
}
