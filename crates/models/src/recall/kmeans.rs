//! k-means with its starts drawn far from each other: k-means++ (Arthur and Vassilvitskii, SODA 2007), then Lloyd's rounds.
//!
//! Results depend on the seed, not on threads: points find their centres for themselves, and sums are put together chunk by chunk.

use millstream_nn::kernels::vectorised;
use rayon::prelude::*;

use crate::recall::draws::Draws;

/// Points of one unit of parallel work.
const POINTS: usize = 2048;

/// How clusters are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KMeans {
    pub(crate) clusters: usize,
    /// Times that it begins anew; the best counts.
    pub(crate) starts: usize,
    /// Rounds at most.
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
}

/// A cluster of each point, and the sum of squared distances to its centre.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labels {
    /// `[points]`.
    pub(crate) label: Vec<u32>,
    pub(crate) cost: f64,
}

impl KMeans {
    /// Clusters of the points `x`, `[points, dim]`; no more than there are points.
    pub(crate) fn fit(&self, x: &[f32], dim: usize) -> Labels {
        let none = Labels { label: Vec::new(), cost: 0.0 };
        if x.is_empty() {
            return none;
        }
        let one = |start: usize| self.once((x, dim), &mut Draws::new(self.seed, (1 << 52) + start as u64));
        (1..self.starts.max(1))
            .map(one)
            .fold(one(0), |best, next| if next.cost < best.cost { next } else { best })
    }

    fn once(&self, (x, dim): (&[f32], usize), draws: &mut Draws) -> Labels {
        let mut centres = self.spread((x, dim), draws);
        let mut found = nearest(x, &centres, dim);
        for _ in 0..self.rounds {
            centres = means((x, dim), &found, centres.len() / dim);
            let next = nearest(x, &centres, dim);
            let settled = next.iter().zip(&found).all(|(a, b)| a.0 == b.0);
            found = next;
            if settled {
                break;
            }
        }
        let cost = found.iter().map(|f| f64::from(f.1)).sum();
        Labels { label: found.into_iter().map(|f| f.0).collect(), cost }
    }

    /// Centres among the points: each drawn by the squared distance to those before.
    fn spread(&self, (x, dim): (&[f32], usize), draws: &mut Draws) -> Vec<f32> {
        let points = x.len() / dim;
        let mut centres = x[draws.below(points) * dim..][..dim].to_vec();
        let mut far = vec![f32::INFINITY; points];
        while centres.len() < self.clusters.min(points) * dim {
            let last = &centres[centres.len() - dim..];
            far.par_chunks_mut(POINTS).zip(x.par_chunks(POINTS * dim)).for_each(|(far, x)| {
                vectorised!({
                    far.iter_mut().zip(x.chunks_exact(dim)).for_each(|(f, x)| *f = f.min(square(x, last)));
                });
            });
            let total: f64 = far.iter().map(|&f| f64::from(f)).sum();
            if total <= 0.0 {
                // There are fewer different points than clusters.
                break;
            }
            let mut left = f64::from(draws.unit()) * total;
            let drawn = far.iter().position(|&f| {
                left -= f64::from(f);
                left < 0.0
            });
            let farthest = || (0..points).max_by(|&a, &b| far[a].total_cmp(&far[b])).unwrap_or(0);
            let at = drawn.unwrap_or_else(farthest);
            centres.extend_from_slice(&x[at * dim..][..dim]);
        }
        centres
    }
}

/// The nearest centre of each point with the squared distance; the first of equals.
fn nearest(x: &[f32], centres: &[f32], dim: usize) -> Vec<(u32, f32)> {
    let mut out = vec![(0u32, f32::INFINITY); x.len() / dim];
    out.par_chunks_mut(POINTS).zip(x.par_chunks(POINTS * dim)).for_each(|(out, x)| {
        vectorised!({
            for (out, x) in out.iter_mut().zip(x.chunks_exact(dim)) {
                for (label, centre) in (0u32..).zip(centres.chunks_exact(dim)) {
                    let far = square(x, centre);
                    if far < out.1 {
                        *out = (label, far);
                    }
                }
            }
        });
    });
    out
}

/// Means of the clusters; one that lost all its points moves to the point that is farthest from its centre.
fn means((x, dim): (&[f32], usize), found: &[(u32, f32)], clusters: usize) -> Vec<f32> {
    let part = |(x, found): (&[f32], &[(u32, f32)])| {
        let (mut sums, mut counts) = (vec![0.0f64; clusters * dim], vec![0u32; clusters]);
        for (x, (label, _)) in x.chunks_exact(dim).zip(found) {
            counts[*label as usize] += 1;
            let sum = &mut sums[*label as usize * dim..][..dim];
            sum.iter_mut().zip(x).for_each(|(s, x)| *s += f64::from(*x));
        }
        (sums, counts)
    };
    let parts: Vec<_> = x.par_chunks(POINTS * dim).zip(found.par_chunks(POINTS)).map(part).collect();
    let (mut sums, mut counts) = (vec![0.0f64; clusters * dim], vec![0u32; clusters]);
    for (part, n) in parts {
        sums.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        counts.iter_mut().zip(n).for_each(|(c, n)| *c += n);
    }
    let mut centres: Vec<f32> =
        sums.iter().enumerate().map(|(at, s)| (s / f64::from(counts[at / dim].max(1))) as f32).collect();
    let mut far: Vec<usize> = Vec::new();
    for label in (0..clusters).filter(|&l| counts[l] == 0) {
        let outside = (0..found.len()).filter(|at| !far.contains(at));
        let Some(at) = outside.max_by(|&a, &b| found[a].1.total_cmp(&found[b].1)) else { break };
        far.push(at);
        centres[label * dim..][..dim].copy_from_slice(&x[at * dim..][..dim]);
    }
    centres
}

/// Squared distance.
#[inline(always)]
fn square(a: &[f32], b: &[f32]) -> f32 {
    let ((ca, ra), (cb, rb)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0f32; 8];
    for (x, y) in ca.iter().zip(cb) {
        (0..8).for_each(|i| sums[i] += (x[i] - y[i]) * (x[i] - y[i]));
    }
    let rest: f32 = ra.iter().zip(rb).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` points around each of the corners of a cube with sides of 10.
    fn corners(count: usize) -> Vec<f32> {
        let mut draws = Draws::new(4, 4);
        let point = |at: usize, draws: &mut Draws| {
            let corner = at % 8;
            (0..3).map(|d| (corner >> d & 1) as f32 * 10.0 + 0.3 * draws.normal()).collect::<Vec<f32>>()
        };
        (0..8 * count).flat_map(|at| point(at, &mut draws)).collect()
    }

    #[test]
    fn clear_clusters_are_found_and_threads_do_not_matter() {
        let x = corners(900);
        let how = KMeans { clusters: 8, starts: 3, rounds: 50, seed: 1 };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| how.fit(&x, 3))
        };
        let found = on(2);
        assert_eq!(found, on(1));
        let firsts: std::collections::BTreeSet<u32> = found.label[..8].iter().copied().collect();
        assert_eq!(firsts.len(), 8);
        assert!(found.label.iter().enumerate().all(|(at, label)| *label == found.label[at % 8]));
        let expected = 8.0 * 900.0 * 3.0 * 0.09;
        assert!((found.cost - expected).abs() < 0.05 * expected, "{}", found.cost);
    }

    #[test]
    fn few_points_make_few_clusters() {
        let how = KMeans { clusters: 5, starts: 2, rounds: 9, seed: 1 };
        assert_eq!(how.fit(&[], 2).label.len(), 0);
        let found = how.fit(&[1.0, 1.0, 1.0, 1.0, 4.0, 4.0], 2);
        assert_eq!((found.label[0] == found.label[1], found.label[0] == found.label[2]), (true, false));
        assert_eq!(found.cost, 0.0);
    }

    #[test]
    fn a_round_never_makes_it_worse() {
        let x = corners(40);
        let cost = |rounds| KMeans { clusters: 11, starts: 1, rounds, seed: 6 }.fit(&x, 3).cost;
        let costs: Vec<f64> = (0..8).map(cost).collect();
        assert!(costs.windows(2).all(|c| c[1] <= c[0] * (1.0 + 1e-6)), "{costs:?}");
        assert!(costs[7] < costs[0]);
    }
}
