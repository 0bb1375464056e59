//! Long short-term memory over sequences of different lengths.

use super::exp::{fast_sigmoid, fast_tanh};
use super::steps::Steps;
use crate::buffer::Buffer;
use crate::chunks;
use crate::product::{Mat, Onto, product};
use crate::ragged::Ragged;
use crate::tensor::{Tensor, own};

impl Ragged {
    /// Gate inputs W x + b `[elements, 4H]` → outputs `[elements, H]` from a state and cell of zeros (Hochreiter & Schmidhuber
    /// 1997, in the form of PyTorch's `LSTM`), columns in the order i, f, g, o:
    ///
    /// i, f, o = σ(x + U h), g = tanh(x_g + U_g h), c' = f c + i g, h' = o tanh c'.
    ///
    /// `recurrent` is U `[4H, H]`; a bias belongs to the gate inputs. Each step is one product over the rows that are that
    /// long; memory is O(elements · H).
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn lstm(&self, recurrent: &Tensor) -> Ragged {
        let &[gates, h] = recurrent.shape() else { panic!("recurrent weight {:?}", recurrent.shape) };
        let fits = gates == 4 * h && self.width() == gates;
        assert!(fits, "LSTM of weight [{gates}, {h}] over {} columns", self.width());
        let (x, u) = (self.values().clone(), recurrent.clone());
        let kept = Kept::forward(Steps::new(self.offsets()), h, x.data(), u.data());
        let mut out = Buffer::any(self.elements() * h);
        kept.steps.unpack(&kept.state, h, &mut out);
        let (total, shape) = (self.elements(), x.shape.with_width(h));
        self.with(self.values().output(shape, own(out), x.tracked() || u.tracked(), move |g, grads| {
            let slopes = kept.back(u.data(), &g);
            let before = kept.steps.before(&kept.state, h);
            grads.write(u.node, gates * h, |gu, add| {
                product(gu, Mat::new(&slopes, total, gates).t(), Mat::new(&before, total, h), add.into());
            });
            let mut gx = Buffer::any(total * gates);
            kept.steps.unpack(&slopes, gates, &mut gx);
            grads.add(x.node, gx);
        }))
    }
}

/// What the backward pass goes by, packed by step.
struct Kept {
    steps: Steps,
    /// H.
    h: usize,
    /// `[elements, 4H]`: i, f, g and o.
    gate: Buffer,
    /// `[elements, H]`: c'.
    cell: Buffer,
    /// `[elements, H]`: h'.
    state: Buffer,
}

impl Kept {
    fn forward(steps: Steps, h: usize, x: &[f32], u: &[f32]) -> Self {
        let (total, gates) = (x.len() / (4 * h), 4 * h);
        let mut gate = Buffer::any(total * gates);
        let (mut cell, mut state) = (Buffer::any(total * h), Buffer::any(total * h));
        steps.pack(x, gates, &mut gate);
        for t in 0..steps.count() {
            let (at, rows) = (steps.span(t), steps.span(t).len());
            let (states, now) = state.split_at_mut(at.start * h);
            let (cells, new) = cell.split_at_mut(at.start * h);
            let gate = &mut gate[at.start * gates..at.end * gates];
            let before = steps.previous(t).map(|from| &cells[from * h..][..rows * h]);
            if let Some(from) = steps.previous(t) {
                let before = Mat::new(&states[from * h..][..rows * h], rows, h);
                product(gate, before, Mat::new(u, gates, h).t(), Onto::Add);
            }
            chunks::rows(gate, gates, |_, gate| {
                for gate in gate.chunks_exact_mut(gates) {
                    gate[..2 * h].iter_mut().for_each(|g| *g = fast_sigmoid(*g));
                    gate[2 * h..3 * h].iter_mut().for_each(|g| *g = fast_tanh(*g));
                    gate[3 * h..].iter_mut().for_each(|g| *g = fast_sigmoid(*g));
                }
            });
            let gate = &*gate;
            chunks::rows2((&mut now[..rows * h], h), (&mut new[..rows * h], h), |from, now, new| {
                for (r, (now, new)) in now.chunks_exact_mut(h).zip(new.chunks_exact_mut(h)).enumerate() {
                    let gate = &gate[(from + r) * gates..][..gates];
                    let before = before.map(|b| &b[(from + r) * h..][..h]);
                    for j in 0..h {
                        let old = before.map_or(0.0, |b| gate[h + j] * b[j]);
                        new[j] = old + gate[j] * gate[2 * h + j];
                        now[j] = gate[3 * h + j] * fast_tanh(new[j]);
                    }
                }
            });
        }
        Self { steps, h, gate, cell, state }
    }

    /// Slopes of the gate inputs, packed `[elements, 4H]`.
    fn back(&self, u: &[f32], g: &[f32]) -> Buffer {
        let (h, gates) = (self.h, 4 * self.h);
        let mut of_state = Buffer::any(self.state.len());
        self.steps.pack(g, h, &mut of_state);
        let mut of_cell = Buffer::zeros(self.steps.most() * h);
        let mut slopes = Buffer::any(self.gate.len());
        for t in (0..self.steps.count()).rev() {
            let (at, rows) = (self.steps.span(t), self.steps.span(t).len());
            let (earlier, now) = of_state.split_at_mut(at.start * h);
            let from = self.steps.previous(t);
            let before = from.map(|from| &self.cell[from * h..][..rows * h]);
            let wide = at.start * gates..at.end * gates;
            let (gate, cell) = (&self.gate[wide.clone()], &self.cell[at.start * h..at.end * h]);
            let now = &now[..rows * h];
            let into = (&mut slopes[wide.clone()], gates);
            chunks::rows2(into, (&mut of_cell[..rows * h], h), |first, slopes, of_cell| {
                for (r, (slopes, of_cell)) in
                    slopes.chunks_exact_mut(gates).zip(of_cell.chunks_exact_mut(h)).enumerate()
                {
                    let row = first + r;
                    let gate = &gate[row * gates..][..gates];
                    let (cell, now) = (&cell[row * h..][..h], &now[row * h..][..h]);
                    let before = before.map(|b| &b[row * h..][..h]);
                    for j in 0..h {
                        let (i, f, g, o) = (gate[j], gate[h + j], gate[2 * h + j], gate[3 * h + j]);
                        let open = fast_tanh(cell[j]);
                        let c = of_cell[j] + now[j] * o * (1.0 - open * open);
                        slopes[j] = c * g * i * (1.0 - i);
                        slopes[h + j] = c * before.map_or(0.0, |b| b[j]) * f * (1.0 - f);
                        slopes[2 * h + j] = c * i * (1.0 - g * g);
                        slopes[3 * h + j] = now[j] * open * o * (1.0 - o);
                        of_cell[j] = c * f;
                    }
                }
            });
            let Some(from) = from else { continue };
            let carry = &mut earlier[from * h..][..rows * h];
            product(carry, Mat::new(&slopes[wide], rows, gates), Mat::new(u, gates, h), Onto::Add);
        }
        slopes
    }
}
