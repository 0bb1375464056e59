//! One step of a gated recurrent unit, for states that are no sequence.

use crate::buffer::Buffer;
use crate::chunks;
use crate::ops::sigmoid;
use crate::tensor::{Tensor, own};

impl Tensor {
    /// Gates from the inputs `[N, 3 H]` (these: reset, update and candidate columns of W x + b), gates from the states
    /// `[N, 3 H]` (U h + c) and states h `[N, H]` → the states after one step `[N, H]`: r = σ(x_r + s_r), u = σ(x_u + s_u),
    /// n = tanh(x_n + r ⊙ s_n), h ← n + u ⊙ (h − n) (Cho et al. 2014, the form of PyTorch's `GRUCell`).
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn gru_cell(&self, from_state: &Tensor, state: &Tensor) -> Tensor {
        let h = state.width();
        let fits = self.shape() == [state.rows(), 3 * h] && from_state.shape == self.shape;
        assert!(fits, "a step from {:?} and {:?} of states {:?}", self.shape, from_state.shape, state.shape);
        let (mut out, mut gates) = (Buffer::any(state.len()), Buffer::copy_of(self.data()));
        let (s, before) = (from_state.data(), state.data());
        chunks::rows2((&mut out, h), (&mut gates, 3 * h), |from, out, gates| {
            let rows = out.chunks_exact_mut(h).zip(gates.chunks_exact_mut(3 * h));
            for (i, (out, gates)) in rows.enumerate() {
                let (s, before) = (&s[(from + i) * 3 * h..][..3 * h], &before[(from + i) * h..][..h]);
                let (r, rest) = gates.split_at_mut(h);
                let (u, n) = rest.split_at_mut(h);
                for j in 0..h {
                    r[j] = sigmoid(r[j] + s[j]);
                    u[j] = sigmoid(u[j] + s[h + j]);
                    n[j] = (n[j] + r[j] * s[2 * h + j]).tanh();
                    out[j] = n[j] + u[j] * (before[j] - n[j]);
                }
            }
        });
        let (x, s, state, shape) = (self.node, from_state.clone(), state.clone(), state.shape);
        let tracked = x.is_some() || s.tracked() || state.tracked();
        self.output(shape, own(out), tracked, move |mut g, grads| {
            let mut by_state = Buffer::any(gates.len());
            let (of_state, before) = (s.data(), state.data());
            // The gates become the slopes of the inputs.
            chunks::rows2((&mut gates, 3 * h), (&mut by_state, 3 * h), |from, gates, by_state| {
                let rows = gates.chunks_exact_mut(3 * h).zip(by_state.chunks_exact_mut(3 * h));
                for (i, (gates, by_state)) in rows.enumerate() {
                    let at = from + i;
                    let (g, before) = (&g[at * h..][..h], &before[at * h..][..h]);
                    let candidate = &of_state[at * 3 * h + 2 * h..][..h];
                    for j in 0..h {
                        let (r, u, n) = (gates[j], gates[h + j], gates[2 * h + j]);
                        let inner = g[j] * (1.0 - u) * (1.0 - n * n);
                        let reset = inner * candidate[j] * r * (1.0 - r);
                        let update = g[j] * (before[j] - n) * u * (1.0 - u);
                        (by_state[j], by_state[h + j], by_state[2 * h + j]) = (reset, update, inner * r);
                        // The update gate is still needed: its slope is written below.
                        (gates[j], gates[2 * h + j]) = (reset, inner);
                    }
                }
            });
            chunks::rows2((&mut g, h), (&mut gates, 3 * h), |from, g, gates| {
                for (i, (g, gates)) in g.chunks_exact_mut(h).zip(gates.chunks_exact_mut(3 * h)).enumerate() {
                    let update = &by_state[(from + i) * 3 * h + h..][..h];
                    g.iter_mut().zip(&gates[h..]).for_each(|(g, open)| *g *= open);
                    gates[h..2 * h].copy_from_slice(&update[..h]);
                }
            });
            grads.add(state.node, g);
            grads.add(s.node, by_state);
            grads.add(x, gates);
        })
    }
}
