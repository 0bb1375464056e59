//! Rows as points: their encoded numbers, and their categories at a price per difference.

use millstream_schema::{Column, Examples};
use rayon::prelude::*;

use crate::Error;

/// Rows as points of D numbers and C categories.
///
/// d²(a, b) = Σ (aᵢ − bᵢ)² + m² · (categories that differ), m the median over the numbers of their standard
/// deviation in the rarer class (Chawla et al. 2002, SMOTE-NC).
#[derive(Debug, Clone, Default)]
pub struct Points {
    /// `[N, D]`, row-major.
    pub numbers: Vec<f32>,
    /// D, above 0.
    pub dims: usize,
    /// `[N, C]`, row-major.
    pub categories: Vec<u64>,
    /// C.
    pub kinds: usize,
    /// m².
    pub price: f32,
}

impl Points {
    /// Of rows that stand by themselves; lists of keys are left aside.
    ///
    /// # Errors
    /// There is no number in the rows.
    pub fn of(rows: &Examples, minority: &[u32], step: &str) -> Result<Self, Error> {
        let n = rows.candidates();
        let columns: Vec<&Column> = rows.context.columns.iter().chain(&rows.exposure.columns).collect();
        let mut out = Self::default();
        for column in &columns {
            match column {
                Column::Dense { width, .. } => out.dims += width,
                Column::Key(_) => out.kinds += 1,
                Column::Keys { .. } => {}
            }
        }
        if out.dims == 0 {
            return Err(Error::config(format!(
                "[[balance]] {step}: there is nothing numeric in the rows to measure distances by; declare a \
                 feature with kind = \"numeric\" that is not put into buckets, or use negative_sampling"
            )));
        }
        for row in 0..n {
            for column in &columns {
                match column {
                    Column::Dense { width, values } => {
                        out.numbers.extend_from_slice(&values[row * width..(row + 1) * width]);
                    }
                    Column::Key(keys) => out.categories.push(keys[row]),
                    Column::Keys { .. } => {}
                }
            }
        }
        out.price = out.price_of(minority);
        Ok(out)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.numbers.len() / self.dims.max(1)
    }

    /// The square of the median standard deviation over the numbers of these rows.
    fn price_of(&self, rows: &[u32]) -> f32 {
        if self.kinds == 0 || rows.is_empty() {
            return 0.0;
        }
        let n = rows.len() as f64;
        let mut deviations: Vec<f64> = (0..self.dims)
            .map(|d| {
                let value = |r: &u32| f64::from(self.numbers[*r as usize * self.dims + d]);
                let mean = rows.iter().map(value).sum::<f64>() / n;
                (rows.iter().map(|r| (value(r) - mean).powi(2)).sum::<f64>() / n).sqrt()
            })
            .collect();
        deviations.sort_by(f64::total_cmp);
        let (low, high) = (deviations[(self.dims - 1) / 2], deviations[self.dims / 2]);
        (((low + high) / 2.0).powi(2)) as f32
    }

    /// The numbers of a row.
    pub fn of_row(&self, row: u32) -> &[f32] {
        &self.numbers[row as usize * self.dims..(row as usize + 1) * self.dims]
    }

    fn kinds_of(&self, row: u32) -> &[u64] {
        &self.categories[row as usize * self.kinds..(row as usize + 1) * self.kinds]
    }

    /// d².
    pub fn distance(&self, a: u32, b: u32) -> f32 {
        let numbers: f32 = self.of_row(a).iter().zip(self.of_row(b)).map(|(x, y)| (x - y) * (x - y)).sum();
        if self.kinds == 0 {
            return numbers;
        }
        let differ = self.kinds_of(a).iter().zip(self.kinds_of(b)).filter(|(x, y)| x != y).count();
        numbers + self.price * differ as f32
    }

    /// For each of `rows` its `k` nearest among `others`, itself left out: nearest first, of equally near ones the lower
    /// row first; fewer when there are not so many. In parallel, O(|rows| · |others|).
    pub fn nearest(&self, rows: &[u32], others: &[u32], k: usize) -> Vec<Vec<u32>> {
        rows.par_iter()
            .map_init(Vec::new, |found: &mut Vec<(f32, u32)>, &row| {
                found.clear();
                for &other in others.iter().filter(|&&other| other != row) {
                    let near = (self.distance(row, other), other);
                    let place =
                        found.partition_point(|f| f.0.total_cmp(&near.0).then(f.1.cmp(&near.1)).is_lt());
                    if place < k {
                        found.insert(place, near);
                        found.truncate(k);
                    }
                }
                found.iter().map(|f| f.1).collect()
            })
            .collect()
    }
}
