use crate::keys::mix;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

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
    /// Normal with mean 0 and this standard deviation, by the ziggurat (Marsaglia and Tsang 2000).
    Normal(f32),
}

impl RowInit {
    /// Fills the weights of a new row; `stream` is the number that seed, table and key come to.
    pub(crate) fn fill(self, mut stream: u64, weights: &mut [f32]) {
        match self {
            Self::Zero => weights.fill(0.0),
            Self::Uniform(bound) => uniform(stream, bound, weights),
            Self::Normal(deviation) => {
                let mut next = || {
                    stream = stream.wrapping_add(STEP);
                    mix(stream)
                };
                let layers: &Layers = &LAYERS;
                weights.iter_mut().for_each(|w| *w = layers.draw(&mut next) as f32 * deviation);
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

/// Between the numbers of a stream that are mixed (Steele et al. 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Weights of a row drawn evenly from `[-bound, bound)`. Where whole registers of 64-bit products are to be had a wide row is made in a
/// fifth of the time, with the same bits.
fn uniform(stream: u64, bound: f32, weights: &mut [f32]) {
    #[inline(always)]
    fn on_any(stream: u64, bound: f32, weights: &mut [f32]) {
        // 24 bits, all that an f32 in [0, 1) can tell apart.
        let scale = bound / (1 << 23) as f32;
        for (at, w) in (1u64..).zip(weights) {
            *w = (mix(stream.wrapping_add(at.wrapping_mul(STEP))) >> 40) as f32 * scale - bound;
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
        fn on_avx512(stream: u64, bound: f32, weights: &mut [f32]) {
            on_any(stream, bound, weights);
        }
        if is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the processor was asked.
            #[allow(unsafe_code)]
            return unsafe { on_avx512(stream, bound, weights) };
        }
    }
    on_any(stream, bound, weights);
}

/// Layers of the ziggurat.
const COUNT: usize = 256;
/// Where the tail begins, and the area of each layer, for 256 of them (Marsaglia and Tsang 2000).
const TAIL: f64 = 3.654_152_885_361_009;
const AREA: f64 = 4.928_673_233_99e-3;

static LAYERS: LazyLock<Layers> = LazyLock::new(Layers::new);

/// Layers of equal area that cover exp(-x² / 2) for x ≥ 0.
struct Layers {
    /// Widths, falling; the first is as wide as the lowest layer with its tail would be if it were a rectangle.
    width: [f64; COUNT + 1],
    /// exp(-x² / 2) at each.
    height: [f64; COUNT + 1],
}

fn bell(x: f64) -> f64 {
    (-0.5 * x * x).exp()
}

/// Uniform in (0, 1].
fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

impl Layers {
    fn new() -> Self {
        let mut width = [0.0; COUNT + 1];
        (width[0], width[1]) = (AREA / bell(TAIL), TAIL);
        for i in 2..COUNT {
            width[i] = (-2.0 * (AREA / width[i - 1] + bell(width[i - 1])).ln()).sqrt();
        }
        Self { width, height: width.map(bell) }
    }

    /// A standard normal number from as many numbers of `next` as it takes: one in 99 cases of 100. The layer and the place in it
    /// are drawn from different bits, without which they would depend on each other (Doornik 2005).
    #[inline]
    fn draw(&self, next: &mut impl FnMut() -> u64) -> f64 {
        loop {
            let bits = next();
            let layer = (bits % COUNT as u64) as usize;
            let x = (bits as i64 >> 11) as f64 / (1u64 << 52) as f64 * self.width[layer];
            if x.abs() < self.width[layer + 1] {
                return x;
            }
            if layer == 0 {
                return beyond(next).copysign(x);
            }
            let (low, high) = (self.height[layer], self.height[layer + 1]);
            if low + unit(next()) * (high - low) < bell(x) {
                return x;
            }
        }
    }
}

/// A draw from the tail (Marsaglia 1964).
#[cold]
fn beyond(next: &mut impl FnMut() -> u64) -> f64 {
    loop {
        let (a, b) = (-unit(next()).ln() / TAIL, -unit(next()).ln());
        if 2.0 * b > a * a {
            return TAIL + a;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_weights_are_those_of_one_number_after_the_other() {
        for width in [0, 1, 7, 8, 78, 129] {
            let (mut row, mut stream) = (vec![0.0; width], mix(width as u64));
            RowInit::Uniform(0.03).fill(stream, &mut row);
            for w in row {
                stream = stream.wrapping_add(STEP);
                let expected = (mix(stream) >> 40) as f32 * (0.03 / 8_388_608.0) - 0.03;
                assert_eq!((w.to_bits(), w.abs() <= 0.03), (expected.to_bits(), true));
            }
        }
    }

    #[test]
    fn normal_weights_have_the_shares_and_moments_of_the_normal_law() {
        let mut all = Vec::new();
        for key in 0..125_000 {
            let mut row = [0.0; 16];
            RowInit::Normal(1.0).fill(mix(key), &mut row);
            all.extend(row.map(f64::from));
        }
        let n = all.len() as f64;
        let moment = |k: i32| all.iter().map(|x| x.powi(k)).sum::<f64>() / n;
        for (k, wanted, most) in
            [(1, 0.0, 0.003), (2, 1.0, 0.004), (3, 0.0, 0.01), (4, 3.0, 0.03), (6, 15.0, 0.4)]
        {
            assert!((moment(k) - wanted).abs() < most, "moment {k} is {}", moment(k));
        }
        // P(x < at), by scipy.stats.norm.cdf; the last one lies in the tail of the ziggurat.
        for (at, wanted) in [
            (-3.7, 1.077_997_334_77e-4),
            (-2.0, 2.275_013_194_82e-2),
            (-0.2, 0.420_740_290_561),
            (0.0, 0.5),
            (0.5, 0.691_462_461_274),
            (1.0, 0.841_344_746_069),
            (2.5, 0.993_790_334_674),
            (3.7, 0.999_892_200_267),
        ] {
            let share = all.iter().filter(|x| **x < at).count() as f64 / n;
            let error: f64 = (wanted * (1.0 - wanted) / n).sqrt();
            assert!((share - wanted).abs() < 4.0 * error, "{share} lie below {at}, not {wanted}");
        }
        // Neighbours in a row, and the same place of neighbouring keys, have nothing to do with each other.
        for apart in [1, 2, 16] {
            let joint = all.iter().zip(&all[apart..]).map(|(a, b)| a * b).sum::<f64>() / n;
            assert!(joint.abs() < 0.003, "{apart} apart: {joint}");
        }
    }

    #[test]
    fn layers_have_equal_areas_and_end_at_the_top() {
        let layers = Layers::new();
        for i in 1..COUNT {
            let area = layers.width[i] * (layers.height[i + 1] - layers.height[i]);
            assert!((area - AREA).abs() < 1e-9, "layer {i} has {area}");
        }
    }
}
