/// How synthetic vectors lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A thousand centres, each number of them normal; a vector is a centre plus half as much normal noise.
    Clustered,
    /// Each number uniform in [-0.5, 0.5): no structure at all, the hardest case for a graph.
    Uniform,
}

/// Centres of [`Shape::Clustered`].
const CENTRES: usize = 1000;

/// Noise around a centre.
const SPREAD: f32 = 0.5;

/// Vectors `[rows, dim]`; the same for the same seed. To have queries of the same distribution, draw rows for
/// them too and cut them off.
pub fn synthetic(shape: Shape, rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut draw = Draw(seed);
    match shape {
        Shape::Uniform => (0..rows * dim).map(|_| draw.unit() - 0.5).collect(),
        Shape::Clustered => {
            let centres: Vec<f32> = (0..CENTRES * dim).map(|_| draw.normal()).collect();
            let mut vectors = Vec::with_capacity(rows * dim);
            for _ in 0..rows {
                let centre = (draw.unit() * CENTRES as f32) as usize * dim;
                vectors.extend(centres[centre..][..dim].iter().map(|x| x + SPREAD * draw.normal()));
            }
            vectors
        }
    }
}

/// Splitmix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Box and Muller's.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_reproducible_and_have_the_moments_they_claim() {
        for (shape, mean_square) in [(Shape::Uniform, 1.0 / 12.0), (Shape::Clustered, 1.25)] {
            let vectors = synthetic(shape, 4000, 16, 3);
            assert_eq!(vectors.len(), 64_000);
            assert!(vectors == synthetic(shape, 4000, 16, 3) && vectors != synthetic(shape, 4000, 16, 4));
            let square = vectors.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 64_000.0;
            assert!((square / mean_square - 1.0).abs() < 0.05, "{shape:?}: {square}");
        }
    }
}
