//! Rows that take part in every step, whether the batch has their keys or not.

use millstream_store::{RowsMut, Store, TableId};
use std::collections::HashSet;

use crate::Error;

/// Changes all rows of a table in one step: those of `keys` by `grads` `[keys, D]`, all others by a gradient of zero, so that
/// L2 and the decay of moments reach them. It is what dense optimisers of other libraries do to an embedding, and
/// costs as much as the table is large.
///
/// # Errors
/// Those of the store.
pub(crate) fn push(store: &Store, table: TableId, keys: &[u64], grads: &[f32]) -> Result<(), Error> {
    let touched: HashSet<u64> = keys.iter().copied().collect();
    let (mut all, mut slopes) = (keys.to_vec(), grads.to_vec());
    store.for_each_row(table, |key, _| {
        if !touched.contains(&key) {
            all.push(key);
        }
    })?;
    if !keys.is_empty() {
        slopes.resize(all.len() * (grads.len() / keys.len()), 0.0);
        store.push_unique(table, &all, &slopes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_store::{RowInit, RowOptim, Rows, TableConfig};

    /// Adam over the whole table, as torch.optim.Adam with weight_decay has it.
    fn adam(weights: &mut [f64], moments: &mut [(f64, f64)], grads: &[f64], (t, l2): (i32, f64)) {
        for ((w, (m, v)), g) in weights.iter_mut().zip(moments).zip(grads) {
            let g = g + l2 * *w;
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            let (mean, square) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
            *w -= 0.01 * mean / (square.sqrt() + 1e-8);
        }
    }

    #[test]
    fn rows_without_a_gradient_move_as_under_a_dense_optimiser() {
        let l2 = 0.5;
        let config = TableConfig {
            init: RowInit::Uniform(1.0),
            optim: RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
            l2: l2 as f32,
            ..TableConfig::new("t", 2)
        };
        let store = Store::new(vec![config]).unwrap();
        let table = store.table("t").unwrap();
        let keys = [3, 8, 11];
        let mut start = vec![0.0; 6];
        store.pull_or_init(table, &keys, &mut start).unwrap();
        let mut weights: Vec<f64> = start.iter().map(|w| f64::from(*w)).collect();
        let mut moments = vec![(0.0, 0.0); 6];
        for t in 1..=40 {
            let at = t as usize % 3;
            let g = [0.3 - 0.02 * t as f32, 0.1];
            push(&store, table, &keys[at..=at], &g).unwrap();
            let mut all = [0.0; 6];
            (all[2 * at], all[2 * at + 1]) = (f64::from(g[0]), f64::from(g[1]));
            adam(&mut weights, &mut moments, &all, (t, l2));
        }
        let mut end = vec![0.0; 6];
        store.pull(table, &keys, &mut end).unwrap();
        for (got, wanted) in end.iter().zip(&weights) {
            assert!((f64::from(*got) - wanted).abs() < 1e-4, "{got} against {wanted}");
        }
    }
}
