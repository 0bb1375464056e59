//! First values of weights.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// How a weight starts. A matrix is `[out, in]` (as PyTorch's `Linear` holds it).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// All this number.
    Constant(f32),
    /// Uniform in ±bound.
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform in ±√(6 / (in + out)) (Glorot & Bengio 2010).
    XavierUniform,
    /// Normal with standard deviation √(2 / (in + out)) (Glorot & Bengio 2010).
    XavierNormal,
    /// Uniform in ±1/√in: what PyTorch's `Linear` starts from (Kaiming with a = √5; He et al. 2015).
    KaimingUniform,
    /// Normal with standard deviation √(2 / in), for ReLU (He et al. 2015).
    KaimingNormal,
}

/// How an embedding row starts.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowInit {
    /// All zero.
    Zero,
    /// Uniform in ±bound.
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
}

impl Init {
    /// Values for a weight of shape `axes`; they depend on `seed` and `name` only, not on the order of calls.
    pub(crate) fn values(self, axes: &[usize], seed: u64, name: &str) -> Vec<f32> {
        let len = axes.iter().product();
        let fan_out = axes[0].max(1) as f32;
        let fan_in = axes[1..].iter().product::<usize>().max(1) as f32;
        let mut rng = Pcg64Mcg::seed_from_u64(seed ^ fnv(name));
        match self {
            Init::Zeros => vec![0.0; len],
            Init::Ones => vec![1.0; len],
            Init::Constant(value) => vec![value; len],
            Init::Uniform(bound) => uniform(&mut rng, len, bound),
            Init::Normal(std) => normal(&mut rng, len, std),
            Init::XavierUniform => uniform(&mut rng, len, (6.0 / (fan_in + fan_out)).sqrt()),
            Init::XavierNormal => normal(&mut rng, len, (2.0 / (fan_in + fan_out)).sqrt()),
            Init::KaimingUniform => uniform(&mut rng, len, 1.0 / fan_in.sqrt()),
            Init::KaimingNormal => normal(&mut rng, len, (2.0 / fan_in).sqrt()),
        }
    }
}

/// FNV-1a: names are few and short.
fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Uniform in [0, 1), 53 bits.
fn unit(rng: &mut Pcg64Mcg) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn uniform(rng: &mut Pcg64Mcg, len: usize, bound: f32) -> Vec<f32> {
    (0..len).map(|_| (unit(rng) * 2.0 - 1.0) as f32 * bound).collect()
}

/// Box–Muller, both halves used.
fn normal(rng: &mut Pcg64Mcg, len: usize, std: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(len + 1);
    while out.len() < len {
        let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * unit(rng)).sin_cos();
        out.push((radius * cos) as f32 * std);
        out.push((radius * sin) as f32 * std);
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_as_declared() {
        let spread = |i: Init| {
            let v = i.values(&[300, 100], 7, "w");
            let mean = v.iter().sum::<f32>() / v.len() as f32;
            let var = v.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / v.len() as f32;
            assert!(mean.abs() < 0.02);
            var.sqrt()
        };
        let near = |a: f32, b: f32| assert!((a / b - 1.0).abs() < 0.03, "{a} {b}");
        near(spread(Init::Normal(0.5)), 0.5);
        near(spread(Init::Uniform(0.3)), 0.3 / 3f32.sqrt());
        near(spread(Init::XavierNormal), (2.0f32 / 400.0).sqrt());
        near(spread(Init::XavierUniform), (2.0f32 / 400.0).sqrt());
        near(spread(Init::KaimingUniform), 0.1 / 3f32.sqrt());
        near(spread(Init::KaimingNormal), 0.02f32.sqrt());
    }

    #[test]
    fn values_depend_on_seed_and_name_only() {
        let a = Init::XavierNormal.values(&[4, 4], 1, "a");
        assert_eq!(a, Init::XavierNormal.values(&[4, 4], 1, "a"));
        assert_ne!(a, Init::XavierNormal.values(&[4, 4], 1, "b"));
        assert_ne!(a, Init::XavierNormal.values(&[4, 4], 2, "a"));
    }
}
