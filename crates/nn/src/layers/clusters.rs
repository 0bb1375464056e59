//! Clusters of vectors that are being learned.

use crate::chunks;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::ops::Transpose;
use crate::params::{ParamId, Params};
use crate::pass::{Pass, mix};
use crate::tensor::Tensor;

/// What is left of the past after a batch.
const KEPT: f32 = 0.99;
/// A centroid with less than this share of its fair part is put elsewhere.
const LEAST: f32 = 0.05;

/// Spherical k-means (Dhillon & Modha 2001) of vectors while they are learned, a batch at a time (Sculley 2010) with a
/// memory that fades as they change: a vector belongs to the centroid c that it has the greatest cosine with; per batch
/// n_c ← 0.99 n_c + (vectors of c), c ← the direction of 0.99 n_c c + Σ v/‖v‖. A centroid that hardly any vector belongs to is put
/// where one of the batch is.
///
/// No gradient flows to centroids; they are running statistics, saved with the weights and still in inference.
#[derive(Debug, Clone)]
pub struct Clusters {
    centroids: ParamId,
    counts: ParamId,
    sizes: (usize, usize),
}

/// Vectors among the centroids.
#[derive(Debug, Clone)]
pub struct Clustered {
    /// `[U]`: the centroid of each vector.
    pub of: Vec<u32>,
    /// `[U, K]`: cosines of vectors and centroids.
    pub cosines: Tensor,
    /// `[K, D]`: centroids, of length 1, or 0 before the first batch.
    pub centroids: Tensor,
}

impl Clusters {
    /// Statistics `name.centroids` `[count, width]` and `name.counts` `[count]`.
    ///
    /// # Errors
    /// No cluster, or as [`Params::statistic`].
    pub fn new(params: &mut Params, name: &str, (count, width): (usize, usize)) -> Result<Self> {
        if count == 0 {
            return Err(Error::Model(format!("`{name}`: there must be a cluster")));
        }
        Ok(Self {
            centroids: params.statistic(&format!("{name}.centroids"), &[count, width], Init::Zeros)?,
            counts: params.statistic(&format!("{name}.counts"), &[count], Init::Zeros)?,
            sizes: (count, width),
        })
    }

    /// K.
    pub fn count(&self) -> usize {
        self.sizes.0
    }

    /// Vectors `[U, D]` among the centroids as they are; in training they are then moved by them, once per pass. No gradient
    /// flows.
    ///
    /// # Panics
    /// If the vectors have another width.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Clustered {
        let (k, d) = self.sizes;
        assert_eq!(x.width(), d, "vectors {:?} among centroids of width {d}", x.shape);
        let centroids = pass.param(self.centroids).detach();
        let unit = x.detach().l2_normalise();
        let cosines = unit.matmul(&centroids, Transpose::Right);
        let of = cosines.data().chunks_exact(k).map(nearest).collect::<Vec<_>>();
        if pass.is_training() {
            self.learn(pass, &of, &unit);
        }
        Clustered { of, cosines, centroids }
    }

    fn learn(&self, pass: &Pass, of: &[u32], unit: &Tensor) {
        let (k, d) = self.sizes;
        if of.is_empty() {
            return;
        }
        let (old, mut counts) = (pass.param(self.centroids), pass.param(self.counts).to_vec());
        let mut sums = old.to_vec();
        counts.iter_mut().for_each(|n| *n *= KEPT);
        for (sum, n) in sums.chunks_exact_mut(d).zip(&counts) {
            sum.iter_mut().for_each(|v| *v *= n);
        }
        for (c, v) in of.iter().zip(unit.data().chunks_exact(d)) {
            counts[*c as usize] += 1.0;
            chunks::add(&mut sums[*c as usize * d..][..d], v);
        }
        let fair = counts.iter().sum::<f32>() / k as f32;
        let seed = pass.draw();
        for (c, (sum, n)) in sums.chunks_exact_mut(d).zip(&mut counts).enumerate() {
            let length = chunks::dot(sum, sum).sqrt();
            if *n < LEAST * fair || length.is_nan() || length <= f32::MIN_POSITIVE {
                let row = (mix(seed ^ c as u64) % of.len() as u64) as usize;
                sum.copy_from_slice(&unit.data()[row * d..][..d]);
                *n = fair;
            } else {
                sum.iter_mut().for_each(|v| *v /= length);
            }
        }
        pass.note_statistic(self.centroids, sums);
        pass.note_statistic(self.counts, counts);
    }
}

/// The first of the greatest.
fn nearest(cosines: &[f32]) -> u32 {
    let best = cosines
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (c, v)| if *v > best.1 { (c, *v) } else { best });
    best.0 as u32
}
