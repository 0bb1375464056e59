//! A weight as the parameters keep it: its values, and what products have copied of them for reuse.

use crate::product::Mat;
use crate::tiles::Panels;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The next stamp.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn stamp() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Values of a weight. Panels that products made of them live as long as the values do not change, so that requests to a model
/// that no longer learns share them.
#[derive(Debug)]
pub(crate) struct Kept {
    values: Vec<f32>,
    panels: Mutex<Vec<Chosen>>,
    stamp: u64,
}

/// Panels of some columns of a weight `[O, I]`, transposed.
#[derive(Debug)]
struct Chosen {
    outputs: usize,
    columns: Vec<Range<usize>>,
    panels: Arc<Panels>,
}

impl Kept {
    /// The values, to change: whatever was made of them is dropped.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.panels.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.stamp = stamp();
        &mut self.values
    }

    /// A number that no other values of this process have: as long as it is the same, so are they.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Panels of the transpose of a weight of `outputs` rows, of its columns `columns` side by side (of all, if there is no
    /// range); made when asked for the first time, on this thread:
    /// another one may wait for them.
    pub(crate) fn panels(&self, outputs: usize, columns: &[Range<usize>]) -> Arc<Panels> {
        let mut made = self.panels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.iter().find(|c| (c.outputs, &c.columns[..]) == (outputs, columns)) {
            return found.panels.clone();
        }
        let width = self.values.len() / outputs;
        let panels = match columns {
            [] => Panels::of(Mat::new(&self.values, outputs, width).t()),
            _ => {
                let chosen = side_by_side(&self.values, width, columns);
                Panels::of(Mat::new(&chosen, outputs, chosen.len() / outputs).t())
            }
        };
        let panels = Arc::new(panels);
        made.push(Chosen { outputs, columns: columns.to_vec(), panels: panels.clone() });
        panels
    }
}

/// The columns of rows of `width`, side by side.
pub(crate) fn side_by_side(rows: &[f32], width: usize, columns: &[Range<usize>]) -> Vec<f32> {
    let wanted: usize = columns.iter().map(ExactSizeIterator::len).sum();
    let mut out = Vec::with_capacity(rows.len() / width * wanted);
    for row in rows.chunks_exact(width) {
        columns.iter().for_each(|c| out.extend_from_slice(&row[c.clone()]));
    }
    out
}

impl From<Vec<f32>> for Kept {
    fn from(values: Vec<f32>) -> Self {
        Self { values, panels: Mutex::default(), stamp: stamp() }
    }
}

/// A copy is made to be changed: it begins without panels.
impl Clone for Kept {
    fn clone(&self) -> Self {
        self.values.clone().into()
    }
}

impl Deref for Kept {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Init, Mode, Params, Pass};

    #[test]
    fn changed_weights_are_packed_anew() {
        let (n, i, o) = (64, 64, 48);
        let mut params = Params::new(1);
        let w = params.dense("w", &[o, i], Init::Normal(1.0)).unwrap();
        let x: Vec<f32> = (0..n * i).map(|v| ((v * 7) % 11) as f32 - 5.0).collect();
        let infer = |params: &Params| {
            let pass = Pass::new(params, Mode::Infer, 0);
            pass.constant(&[n, i], x.clone()).linear(&pass.param(w), None).to_vec()
        };
        let copy = params.clone();
        let before = infer(&params);
        assert_eq!(before, infer(&params));
        params.values_mut(w).iter_mut().for_each(|v| *v *= 2.0);
        let doubled: Vec<f32> = before.iter().map(|v| 2.0 * v).collect();
        assert_eq!(infer(&params), doubled);
        assert_eq!(infer(&copy), before);
    }

    #[test]
    fn a_stamp_lasts_as_long_as_the_values() {
        let mut params = Params::new(1);
        let w = params.dense("w", &[2], Init::Zeros).unwrap();
        let before = params.stamp(w);
        assert_eq!(Pass::new(&params, Mode::Infer, 0).stamp(w), before);
        params.values_mut(w)[0] = 1.0;
        assert_ne!(params.stamp(w), before);
    }

    #[test]
    fn columns_are_put_side_by_side_in_order() {
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(side_by_side(&rows, 4, &[0..1, 2..4]), [1.0, 3.0, 4.0, 5.0, 7.0, 8.0]);
    }

    #[test]
    fn panels_are_made_once_per_choice_of_columns() {
        let kept: Kept = (0..48 * 64).map(|v| v as f32).collect::<Vec<_>>().into();
        let (all, some) = (kept.panels(48, &[]), kept.panels(48, &[0..20, 30..64]));
        assert!(Arc::ptr_eq(&all, &kept.panels(48, &[])) && !Arc::ptr_eq(&all, &some));
        assert!(Arc::ptr_eq(&some, &kept.panels(48, &[0..20, 30..64])));
        assert_eq!(kept.clone().panels.lock().unwrap().len(), 0);
    }
}
