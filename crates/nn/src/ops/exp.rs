//! e^x for loops over many numbers: plain arithmetic, which the compiler turns into vector instructions.

/// Below it e^x is taken as e^−87, above the other end as e^88: no subnormal and no infinite results.
const RANGE: (f32, f32) = (-87.0, 88.0);
/// 1.5 · 2²³: added to a small number it leaves the number's nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Two parts of ln 2, so that n ln 2 loses nothing.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
/// Minimax coefficients of (e^r − 1 − r) / r² for |r| ≤ ln 2 / 2, highest power first (Cephes, `expf`).
const POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// Numbers looked at together.
pub(crate) const LANES: usize = 16;

/// e^x to about one unit in the last place: e^x = 2^n e^r with n = round(x / ln 2).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(RANGE.0, RANGE.1);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2.0 - n * LN_2.1;
    let tail = POLYNOMIAL[1..].iter().fold(POLYNOMIAL[0], |sum, c| sum * r + c);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    (tail * r * r + r + 1.0) * power
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(crate) fn fast_sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x = 1 − 2 / (1 + e^2x), to about 1e-7.
#[inline(always)]
pub(crate) fn fast_tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// The largest number; −∞ of nothing.
#[inline(always)]
pub(crate) fn largest(row: &[f32]) -> f32 {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        (0..LANES).for_each(|i| most[i] = if block[i] > most[i] { block[i] } else { most[i] });
    }
    most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `x ← e^(scale x − shift)` for all; gives their sum.
#[inline(always)]
pub(crate) fn exp_all(row: &mut [f32], scale: f32, shift: f32) -> f32 {
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    let mut sums = [0.0f32; LANES];
    for block in blocks {
        for i in 0..LANES {
            block[i] = exp(block[i] * scale - shift);
            sums[i] += block[i];
        }
    }
    let mut sum = sums.iter().sum::<f32>();
    for x in rest {
        *x = exp(*x * scale - shift);
        sum += *x;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential_to_the_last_digits() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let wanted = f64::from(x).exp();
            assert!((f64::from(exp(x)) / wanted - 1.0).abs() < 3e-7, "{x}");
            assert!((f64::from(fast_tanh(x)) - f64::from(x).tanh()).abs() < 3e-7, "{x}");
            assert!((f64::from(fast_sigmoid(x)) - 1.0 / (1.0 + f64::from(-x).exp())).abs() < 3e-7, "{x}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(1000.0).is_finite());
    }

    #[test]
    fn a_row_is_taken_as_its_numbers_are() {
        let x: Vec<f32> = (0..37).map(|i| (i * 7 % 23) as f32 / 5.0 - 2.0).collect();
        assert_eq!(largest(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut y = x.clone();
        let sum = exp_all(&mut y, 0.5, 1.0);
        let wanted: f32 = x.iter().map(|x| (0.5 * x - 1.0).exp()).sum();
        assert!((sum - wanted).abs() < 1e-5 * wanted);
        assert!((y[36] - (0.5 * x[36] - 1.0).exp()).abs() < 1e-6);
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
    }
}
