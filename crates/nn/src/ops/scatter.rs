//! Adding many gradient rows into few table rows, in parallel and in a fixed order.
//!
//! Each thread owns a range of table rows, cut so that all ranges receive about as many additions, and walks the
//! whole index adding only what falls in its range. A row's additions thus always happen in the same order,
//! whatever the number of threads, and nothing is locked, sorted or summed twice.

use super::pool::{Bags, bag_weight};
use crate::chunks;
use rayon::prelude::*;

/// Additions (in floats) from which a table is cut into ranges.
const PARALLEL_FROM: usize = 64 * 1024;

/// Which table rows a gradient goes to.
pub(crate) enum To<'a> {
    /// Gradient row n to table row `index[map[n]]`, or `index[n]` without a map.
    Rows { index: &'a [u32], map: Option<&'a [u32]> },
    /// Gradient row b to the rows of bag b, by their weights.
    Bags(&'a Bags),
}

/// Gradient rows of a table's width, `step` floats apart, and where they go.
pub(crate) struct Flow<'a> {
    pub(crate) grad: &'a [f32],
    pub(crate) step: usize,
    pub(crate) to: To<'a>,
}

/// All that flows into one table's gradient `[U, width]`.
pub(crate) struct Inflow<'a> {
    pub(crate) into: &'a mut [f32],
    pub(crate) width: usize,
    pub(crate) flows: Vec<Flow<'a>>,
}

impl Flow<'_> {
    fn additions(&self) -> usize {
        match &self.to {
            To::Rows { index, map } => map.map_or(index.len(), <[u32]>::len),
            To::Bags(bags) => bags.index.len(),
        }
    }

    fn count(&self, counts: &mut [u32]) {
        match &self.to {
            To::Rows { index, map: None } => index.iter().for_each(|i| counts[*i as usize] += 1),
            To::Rows { index, map: Some(map) } => {
                map.iter().for_each(|r| counts[index[*r as usize] as usize] += 1);
            }
            To::Bags(bags) => bags.index.iter().for_each(|i| counts[*i as usize] += 1),
        }
    }

    /// Adds what goes to rows `low ..` (as many as `into` holds).
    fn add(&self, into: &mut [f32], low: u32, width: usize) {
        let rows = (into.len() / width) as u32;
        let mut add = |row: u32, n: usize, weight: f32| {
            let at = row.wrapping_sub(low);
            if at < rows {
                let to = &mut into[at as usize * width..][..width];
                chunks::add_scaled(to, weight, &self.grad[n * self.step..][..width]);
            }
        };
        match &self.to {
            To::Rows { index, map: None } => index.iter().enumerate().for_each(|(n, i)| add(*i, n, 1.0)),
            To::Rows { index, map: Some(map) } => {
                map.iter().enumerate().for_each(|(n, r)| add(index[*r as usize], n, 1.0));
            }
            To::Bags(bags) => {
                for b in 0..bags.len() {
                    let (range, scale) = bag_weight(bags, b);
                    for e in range {
                        add(bags.index[e], b, scale * bags.weight(e));
                    }
                }
            }
        }
    }
}

/// Runs all flows of all tables.
pub(crate) fn scatter(inflows: Vec<Inflow<'_>>) {
    let parts: Vec<Vec<usize>> = inflows.par_iter().map(borders).collect();
    let mut jobs = Vec::new();
    let mut flows = Vec::with_capacity(inflows.len());
    for (i, (inflow, ends)) in inflows.into_iter().zip(parts).enumerate() {
        let (mut rest, mut low) = (inflow.into, 0);
        for end in ends {
            let (part, tail) = rest.split_at_mut((end - low) * inflow.width);
            jobs.push((i, low as u32, part));
            (rest, low) = (tail, end);
        }
        flows.push((inflow.width, inflow.flows));
    }
    jobs.into_par_iter().for_each(|(i, low, part)| {
        let (width, flows) = &flows[i];
        flows.iter().for_each(|f| f.add(part, low, *width));
    });
}

/// Ends of the row ranges, each of about the same number of additions.
fn borders(inflow: &Inflow<'_>) -> Vec<usize> {
    let rows = inflow.into.len() / inflow.width;
    let additions: usize = inflow.flows.iter().map(Flow::additions).sum();
    let threads = rayon::current_num_threads();
    if threads == 1 || additions * inflow.width < PARALLEL_FROM || rows < 2 {
        return vec![rows];
    }
    let mut counts = vec![0u32; rows];
    inflow.flows.iter().for_each(|f| f.count(&mut counts));
    let mut ends = Vec::with_capacity(threads);
    let mut sum = 0;
    for (row, count) in counts.iter().enumerate() {
        sum += *count as usize;
        if sum * threads >= additions * (ends.len() + 1) && ends.len() + 1 < threads {
            ends.push(row + 1);
        }
    }
    ends.push(rows);
    ends
}
