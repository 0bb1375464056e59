//! Rotary position embeddings.

use crate::buffer::Buffer;
use crate::chunks;
use crate::ragged::Ragged;
use crate::tensor::own;

impl Ragged {
    /// Turns each pair of columns (2p, 2p + 1) of each head by the angle m · base^(−2p / A), m being the element's place in its
    /// sequence and A the width of a head (Su et al. 2021, eq. 15): the product of a query and a key so turned
    /// depends on the distance of their places alone.
    ///
    /// # Panics
    /// If the heads do not divide the width into an even number of columns, or the base is not above 0.
    pub fn rotate(&self, heads: usize, base: f32) -> Ragged {
        let total = self.width();
        assert!(heads > 0 && total.is_multiple_of(2 * heads), "rotation of {heads} heads in {total} columns");
        assert!(base > 0.0, "the base of a rotation is {base}");
        let longest = (0..self.rows()).map(|b| self.len_of(b)).max().unwrap_or(0);
        let turns = angles(longest, total / heads, base);
        let places: Vec<u32> = (0..self.rows()).flat_map(|b| 0..self.len_of(b) as u32).collect();
        let turn = move |x: &mut [f32], way: f32| {
            chunks::rows(x, total, |from, x| {
                for (row, place) in x.chunks_exact_mut(total).zip(&places[from..]) {
                    let turns = &turns[*place as usize * (total / heads / 2)..][..total / heads / 2];
                    for head in row.chunks_exact_mut(total / heads) {
                        for (pair, (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                            let [a, b] = *pair;
                            *pair = [a * cos - way * b * sin, way * a * sin + b * cos];
                        }
                    }
                }
            });
        };
        let x = self.values();
        let mut out = Buffer::copy_of(x.data());
        turn(&mut out, 1.0);
        let node = x.node;
        self.with(x.output(x.shape, own(out), node.is_some(), move |mut g, grads| {
            turn(&mut g, -1.0);
            grads.add(node, g);
        }))
    }
}

/// `[longest, A / 2]` cosines and sines.
fn angles(longest: usize, width: usize, base: f32) -> Vec<(f32, f32)> {
    let rate = |p: usize| f64::from(base).powf(-2.0 * p as f64 / width as f64);
    let rates: Vec<f64> = (0..width / 2).map(rate).collect();
    let of = |place: usize| {
        rates.iter().map(move |rate| {
            let (sin, cos) = (place as f64 * rate).sin_cos();
            (cos as f32, sin as f32)
        })
    };
    (0..longest).flat_map(of).collect()
}
