use crate::keys::mix;
use serde::{Deserialize, Serialize};

/// How a new row starts.
///
/// The values depend on seed, table name and key alone, so the order in which keys arrive and the
/// number of threads do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowInit {
    /// All zeros.
    Zero,
    /// Uniform in `[-a, a)`.
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation (Box and Muller 1958).
    Normal(f32),
}

impl RowInit {
    /// Fills the weights of a new row; `stream` is the number that seed, table and key come to.
    pub(crate) fn fill(self, mut stream: u64, weights: &mut [f32]) {
        let mut next = || {
            stream = stream.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(stream) >> 40 // 24 bits, all that an f32 in [0, 1) can tell apart
        };
        match self {
            Self::Zero => weights.fill(0.0),
            Self::Uniform(bound) => {
                let scale = bound / (1 << 23) as f32;
                weights.iter_mut().for_each(|w| *w = next() as f32 * scale - bound);
            }
            Self::Normal(deviation) => {
                let unit = f64::from(1 << 24);
                for pair in weights.chunks_mut(2) {
                    let radius = (-2.0 * ((next() as f64 + 0.5) / unit).ln()).sqrt();
                    let angle = std::f64::consts::TAU * next() as f64 / unit;
                    for (w, direction) in pair.iter_mut().zip([angle.cos(), angle.sin()]) {
                        *w = (radius * direction) as f32 * deviation;
                    }
                }
            }
        }
    }

    pub(crate) fn spread(self) -> f32 {
        match self {
            Self::Zero => 0.0,
            Self::Uniform(x) | Self::Normal(x) => x,
        }
    }
}
