//! Under-sampling by clusters: the more frequent class shrinks and keeps its shape.

use millstream_schema::Examples;
use rayon::prelude::*;

use super::downsample::pick;
use super::points::Points;
use super::{BalanceStep, minority_majority, seeded};
use crate::Error;

const CLUSTERS: usize = 10;
/// Rounds of k-means, at most.
const ROUNDS: usize = 50;

/// Lloyd's k-means over the numbers of these rows, begun as k-means++ (Arthur and Vassilvitskii, SODA 2007); gives the
/// cluster of each row, 0 to k − 1. Ends when nothing moves, or after fifty rounds.
pub fn k_means(points: &Points, rows: &[u32], k: usize, seed: u64) -> Vec<usize> {
    let mut centres = begin(points, rows, k, seed);
    let mut of: Vec<usize> = Vec::new();
    for _ in 0..ROUNDS {
        let now: Vec<usize> = rows.par_iter().map(|&r| nearest(points.of_row(r), &centres).0).collect();
        if now == of {
            break;
        }
        of = now;
        let mut sums = vec![(vec![0.0f64; points.dims], 0.0); centres.len()];
        for (&row, &cluster) in rows.iter().zip(&of) {
            let (sum, count) = &mut sums[cluster];
            sum.iter_mut().zip(points.of_row(row)).for_each(|(s, x)| *s += f64::from(*x));
            *count += 1.0;
        }
        for (centre, (sum, count)) in centres.iter_mut().zip(&sums).filter(|(_, (_, count))| *count > 0.0) {
            *centre = sum.iter().map(|s| (s / count) as f32).collect();
        }
    }
    of
}

/// Each next centre is a row, drawn in proportion to its squared distance from the centres so far.
fn begin(points: &Points, rows: &[u32], k: usize, seed: u64) -> Vec<Vec<f32>> {
    let first = rows[seeded::one_of(rows.len(), seed, 0, 0)];
    let mut centres = vec![points.of_row(first).to_vec()];
    let mut far: Vec<f64> = vec![f64::INFINITY; rows.len()];
    while centres.len() < k.min(rows.len()) {
        let last = &centres[centres.len() - 1];
        far.par_iter_mut().zip(rows).for_each(|(far, &row)| {
            *far = far.min(f64::from(squared(points.of_row(row), last)));
        });
        let total: f64 = far.iter().sum();
        if total <= 0.0 {
            break;
        }
        let mut left = seeded::unit(seed, centres.len() as u64, 0) * total;
        let drawn = far.iter().position(|f| {
            left -= f;
            left < 0.0
        });
        centres.push(points.of_row(rows[drawn.unwrap_or(rows.len() - 1)]).to_vec());
    }
    centres
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn nearest(row: &[f32], centres: &[Vec<f32>]) -> (usize, f32) {
    let far = centres.iter().map(|c| squared(row, c)).enumerate();
    far.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
}

/// Keeps as many rows of the more frequent class as `ratio` allows, from each cluster in proportion to its size (largest
/// remainders), drawn within the cluster.
///
/// # Errors
/// There is nothing numeric, or one class only.
pub fn undersample(rows: &Examples, step: &BalanceStep) -> Result<Examples, Error> {
    let (minority, majority) = minority_majority(rows, step)?;
    let points = Points::of(rows, &minority, step.method.as_str())?;
    let wanted = ((minority.len() as f64 / step.ratio()).round() as usize).min(majority.len());
    let clusters = step.clusters.unwrap_or(CLUSTERS);
    let of = k_means(&points, &majority, clusters, step.seed());
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); clusters];
    majority.iter().zip(&of).for_each(|(&row, &cluster)| members[cluster].push(row));
    let sizes: Vec<usize> = members.iter().map(Vec::len).collect();
    let mut kept = minority;
    for (cluster, quota) in quotas(&sizes, wanted).into_iter().enumerate() {
        let drawn = seeded::shuffled(&members[cluster], step.seed(), 1 + cluster as u64);
        kept.extend_from_slice(&drawn[..quota]);
    }
    kept.sort_unstable();
    Ok(pick(rows, &kept))
}

/// `wanted` divided in proportion to the sizes; the largest remainders get what is left over.
fn quotas(sizes: &[usize], wanted: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let exact: Vec<f64> = sizes.iter().map(|&s| wanted as f64 * s as f64 / total.max(1) as f64).collect();
    let mut out: Vec<usize> = exact.iter().map(|e| e.floor() as usize).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let left = wanted.saturating_sub(out.iter().sum());
    order.into_iter().filter(|&i| sizes[i] > 0).take(left).for_each(|i| out[i] += 1);
    out.iter().zip(sizes).map(|(q, s)| (*q).min(*s)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_add_up_and_follow_the_sizes() {
        assert_eq!(quotas(&[50, 30, 20], 10), [5, 3, 2]);
        assert_eq!(quotas(&[1, 1, 1], 2), [1, 1, 0]);
        assert_eq!(quotas(&[7, 0, 3], 10), [7, 0, 3]);
    }
}
