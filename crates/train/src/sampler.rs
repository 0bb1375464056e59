//! Drawing items with given weights in constant time.

use rand::{Rng, RngExt};

/// Walker's alias method (Vose 1991): O(n) to build, O(1) to draw.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// Chance to keep the column drawn, in [0, 1].
    keep: Vec<f32>,
    alias: Vec<u32>,
    log_p: Vec<f32>,
}

impl Sampler {
    /// Draws item i with probability ∝ `weights[i]`; negative or non-finite weights count as 0.
    /// When all are 0, every item is equally likely.
    pub fn new(weights: &[f64]) -> Self {
        let clean = |w: f64| if w.is_finite() && w > 0.0 { w } else { 0.0 };
        let n = weights.len();
        let total: f64 = weights.iter().map(|&w| clean(w)).sum();
        let share = |w: f64| if total > 0.0 { clean(w) / total } else { 1.0 / n as f64 };
        let p: Vec<f64> = weights.iter().map(|&w| share(w)).collect();
        let mut scaled: Vec<f64> = p.iter().map(|p| p * n as f64).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| scaled[i] < 1.0);
        let (mut keep, mut alias) = (vec![1.0f32; n], (0..n as u32).collect::<Vec<_>>());
        while let (Some(s), Some(&l)) = (small.pop(), large.last()) {
            keep[s] = scaled[s] as f32;
            alias[s] = l as u32;
            scaled[l] -= 1.0 - scaled[s];
            if scaled[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Self { keep, alias, log_p: p.iter().map(|p| p.ln() as f32).collect() }
    }

    /// One item.
    pub fn draw(&self, rng: &mut impl Rng) -> u32 {
        let at = rng.random_range(0..self.keep.len());
        if rng.random::<f32>() < self.keep[at] { at as u32 } else { self.alias[at] }
    }

    /// ln of the probability of drawing `item` once; −∞ where it is never drawn.
    pub fn log_p(&self, item: u32) -> f32 {
        self.log_p[item as usize]
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.keep.len()
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.keep.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn draws_follow_the_weights() {
        let weights = [0.0, 1.0, 2.0, 5.0, 0.5];
        let sampler = Sampler::new(&weights);
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(7);
        let mut counts = [0u32; 5];
        for _ in 0..200_000 {
            counts[sampler.draw(&mut rng) as usize] += 1;
        }
        assert_eq!(counts[0], 0);
        for (count, w) in counts.iter().zip(weights) {
            assert!((f64::from(*count) / 200_000.0 - w / 8.5).abs() < 0.005, "{counts:?}");
        }
        assert!((sampler.log_p(3).exp() - 5.0 / 8.5).abs() < 1e-6);
    }

    #[test]
    fn all_zero_weights_mean_uniform() {
        let sampler = Sampler::new(&[0.0, 0.0]);
        assert!((sampler.log_p(0).exp() - 0.5).abs() < 1e-6);
    }
}
