//! Learning several vectors of a user: which of them is for a positive item.

use millstream_nn::{Bags, Pooling, Tensor, loss};
use std::sync::Arc;

use crate::Error;
use crate::retriever::Targets;

/// Each request's vector `[R, D]` for its positive item (row r of `items` `[N, D]`), out of K interests `[R, K, D]`: the one with the greatest
/// product, or with a power p the sum weighted by softmax_j(max(0, ⟨v_j, e⟩)^p), as found, without slopes of the weights.
fn chosen(users: &Tensor, items: &Tensor, power: Option<f32>) -> Tensor {
    let &[requests, interests, width] = users.shape() else { panic!("interests {:?}", users.shape()) };
    if interests == 1 {
        return users.reshape(&[requests, width]);
    }
    let (v, e) = (users.data(), items.data());
    let product = |r: usize, j: usize| {
        let v = &v[(r * interests + j) * width..][..width];
        v.iter().zip(&e[r * width..][..width]).map(|(a, b)| a * b).sum::<f32>()
    };
    let Some(p) = power else {
        let best = |r: usize| {
            let better = |a: &usize, b: &usize| product(r, *a).total_cmp(&product(r, *b)).then(b.cmp(a));
            (0..interests).max_by(better).unwrap_or(0)
        };
        let rows = (0..requests).map(|r| (r * interests + best(r)) as u32).collect();
        return users.reshape(&[requests * interests, width]).gather(&Arc::new(rows));
    };
    let mut weights = Vec::with_capacity(requests * interests);
    for r in 0..requests {
        let raised: Vec<f32> = (0..interests).map(|j| product(r, j).max(0.0).powf(p).min(1e4)).collect();
        let most = raised.iter().copied().fold(0.0, f32::max);
        let shares: Vec<f32> = raised.iter().map(|x| (x - most).exp()).collect();
        let sum: f32 = shares.iter().sum();
        weights.extend(shares.iter().map(|s| s / sum));
    }
    let offsets = (0..=requests).map(|r| (r * interests) as u32).collect();
    let index = (0..(requests * interests) as u32).collect();
    match Bags::new(offsets, index, Some(weights), Pooling::Sum) {
        Ok(bags) => users.reshape(&[requests * interests, width]).pool(&bags),
        Err(e) => unreachable!("there is a weight for each interest: {e}"),
    }
}

/// Softmax of each request's chosen interest over the batch's and drawn items.
pub(super) fn loss(
    users: &Tensor,
    items: &Tensor,
    (power, temperature): (Option<f32>, f32),
    y: &Targets<'_>,
) -> Tensor {
    loss::in_batch_softmax(&chosen(users, items, power), items, &y.in_batch(temperature))
}

/// # Errors
/// A power that is not above 0.
pub(super) fn check_power(model: &str, power: Option<f32>) -> Result<(), Error> {
    match power.is_none_or(|p| p.is_finite() && p > 0.0) {
        true => Ok(()),
        false => Err(Error::Config(format!(
            "model `{model}`: power must be above 0, or be left out for the best interest alone"
        ))),
    }
}
