//! Embedding rows outside the engine, element-wise AdaGrad.

use rayon::prelude::*;

pub struct Table {
    rows: Vec<f32>,
    squares: Vec<f32>,
    place: Vec<u32>,
    dim: usize,
}

impl Table {
    pub fn new(rows: Vec<f32>, dim: usize) -> Self {
        Self { squares: vec![0.0; rows.len()], place: vec![u32::MAX; rows.len() / dim], rows, dim }
    }

    pub fn gather(&self, ids: &[u32]) -> Vec<f32> {
        let dim = self.dim;
        let mut out = vec![0.0; ids.len() * dim];
        out.par_chunks_mut(dim).with_min_len(4096).zip(ids).for_each(|(o, i)| {
            o.copy_from_slice(&self.rows[*i as usize * dim..][..dim]);
        });
        out
    }

    pub fn update(&mut self, ids: &[u32], g: &[f32]) {
        let dim = self.dim;
        let (mut unique, mut sums) = (Vec::new(), Vec::<f32>::new());
        for (id, g) in ids.iter().zip(g.chunks_exact(dim)) {
            let place = &mut self.place[*id as usize];
            if *place == u32::MAX {
                *place = unique.len() as u32;
                unique.push(*id);
                sums.extend_from_slice(g);
            } else {
                sums[*place as usize * dim..][..dim].iter_mut().zip(g).for_each(|(s, g)| *s += g);
            }
        }
        for (id, g) in unique.iter().zip(sums.chunks_exact(dim)) {
            self.place[*id as usize] = u32::MAX;
            let at = *id as usize * dim;
            let state = self.rows[at..at + dim].iter_mut().zip(&mut self.squares[at..at + dim]);
            state.zip(g).for_each(|((w, s), g)| {
                *s += g * g;
                *w -= 0.01 * g / (s.sqrt() + 1e-10);
            });
        }
    }
}
