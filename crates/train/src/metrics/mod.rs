//! How good scores and lists are. Nothing here is NaN: what cannot be computed is `None` and left out.
//!
//! ```
//! use millstream_train::metrics::{RankingMetrics, Scored};
//!
//! let mut scored = Scored::default();
//! scored.push(&[0.9, 0.2, 0.6], &[1.0, 0.0, 0.0], &[7, 7, 8], &[]);
//! let report = scored.report();
//! assert_eq!(report.auc, Some(1.0));
//! assert_eq!(report.gauc.users, 1); // user 8 has one class only
//!
//! let mut lists = RankingMetrics::new(&[1, 2]);
//! lists.add(&[4, 5], &[5, 6]);
//! assert_eq!(lists.finish()["recall@2"], 0.5);
//! ```

pub mod auc;
mod bins;
pub mod calibration;
mod curve;
mod exact;
mod exposure;
pub mod gauc;
mod graded;
pub mod logloss;
mod radix;
mod ranking;
mod scored;
mod stream;
mod stream_auc;

pub use auc::Auc;
pub use bins::Bins;
pub use calibration::{Calibration, Decile, Reliability};
pub use curve::{BestF1, Confusion, Curve};
pub use gauc::Gauc;
pub use graded::{GradedNdcg, Ties};
pub use logloss::{LogLoss, LossSums};
pub use ranking::RankingMetrics;
pub use scored::{Curves, Scored, ScoredReport};
pub use stream::{WindowAuc, WindowMean};
pub use stream_auc::StreamAuc;

/// A label above this is positive.
const POSITIVE: f32 = 0.5;

/// The weight of example `i`; all are 1 when there are none.
#[inline]
fn weight_of(weights: &[f32], i: usize) -> f64 {
    weights.get(i).map_or(1.0, |&w| f64::from(w))
}

/// A number that orders as the score does, NaN below all others and −0 equal to 0.
#[inline]
fn order_of(score: f32) -> u32 {
    if score.is_nan() {
        return 0;
    }
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 0x8000_0000 } else { !bits }
}

/// Deterministic random numbers for the tests beside.
#[cfg(test)]
fn test_numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_order_as_numbers_with_nan_lowest() {
        let rising = [f32::NAN, f32::NEG_INFINITY, -1e30, -1.0, -1e-40, 0.0, 1e-40, 0.5, 2.0, f32::INFINITY];
        assert!(rising.windows(2).all(|w| order_of(w[0]) < order_of(w[1])));
        assert_eq!(order_of(-0.0), order_of(0.0));
        assert_eq!(order_of(-f32::NAN), order_of(f32::NAN));
    }
}
