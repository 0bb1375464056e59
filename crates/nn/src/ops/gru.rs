//! A gated recurrent unit over sequences of different lengths.

use super::exp::{fast_sigmoid, fast_tanh};
use super::steps::Steps;
use crate::buffer::Buffer;
use crate::chunks;
use crate::product::{Mat, Onto, product};
use crate::ragged::Ragged;
use crate::tensor::{Tensor, own};

impl Ragged {
    /// Gate inputs W x + b `[elements, 3H]` → states `[elements, H]` from a state of zeros (Cho et al. 2014, in the form of
    /// PyTorch's `GRU`), columns in the order r, z, n:
    ///
    /// r = σ(x_r + U_r h + c_r), z = σ(x_z + U_z h + c_z), n = tanh(x_n + r (U_n h + c_n)), h' = (1 − z) n + z h.
    ///
    /// `recurrent` is U `[3H, H]`, `bias` c `[3H]`. Each step is one product over the rows that are that long; memory is
    /// O(elements · H).
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn gru(&self, recurrent: &Tensor, bias: &Tensor) -> Ragged {
        let &[gates, h] = recurrent.shape() else { panic!("recurrent weight {:?}", recurrent.shape) };
        let fits = gates == 3 * h && self.width() == gates && bias.len() == gates;
        assert!(fits, "GRU of weight [{gates}, {h}] over {} columns and bias {:?}", self.width(), bias.shape);
        let (x, u, c) = (self.values().clone(), recurrent.clone(), bias.clone());
        let kept = Kept::forward(Steps::new(self.offsets()), h, x.data(), (u.data(), c.data()));
        let mut out = Buffer::any(self.elements() * h);
        kept.steps.unpack(&kept.state, h, &mut out);
        let tracked = x.tracked() || u.tracked() || c.tracked();
        let (total, shape) = (self.elements(), x.shape.with_width(h));
        self.with(self.values().output(shape, own(out), tracked, move |g, grads| {
            let (slopes, of_share) = kept.back(u.data(), &g);
            let before = kept.steps.before(&kept.state, h);
            grads.write(u.node, gates * h, |gu, add| {
                product(gu, Mat::new(&of_share, total, gates).t(), Mat::new(&before, total, h), add.into());
            });
            grads.sum(c.node, gates, |gc| chunks::column_sums(&of_share, gates, gc));
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
    /// `[elements, 3H]`: r, z and n.
    gate: Buffer,
    /// `[elements, H]`: U_n h + c_n.
    share: Buffer,
    /// `[elements, H]`: h'.
    state: Buffer,
}

impl Kept {
    fn forward(steps: Steps, h: usize, x: &[f32], (u, c): (&[f32], &[f32])) -> Self {
        let (total, gates) = (x.len() / (3 * h), 3 * h);
        let mut gate = Buffer::any(total * gates);
        let (mut share, mut state) = (Buffer::any(total * h), Buffer::any(total * h));
        steps.pack(x, gates, &mut gate);
        let mut from_state = Buffer::zeros(steps.most() * gates);
        for t in 0..steps.count() {
            let (at, rows) = (steps.span(t), steps.span(t).len());
            let (done, now) = state.split_at_mut(at.start * h);
            let before = steps.previous(t).map(|from| &done[from * h..][..rows * h]);
            let from_state = &mut from_state[..rows * gates];
            if let Some(before) = before {
                product(from_state, Mat::new(before, rows, h), Mat::new(u, gates, h).t(), Onto::Write);
            }
            let gate = &mut gate[at.start * gates..at.end * gates];
            let share = &mut share[at.start * h..at.end * h];
            chunks::rows2((&mut *gate, gates), (share, h), |from, gate, share| {
                open(&from_state[from * gates..], c, gate, share);
            });
            let gate = &*gate;
            chunks::rows(&mut now[..rows * h], h, |from, now| {
                let before = before.map(|b| &b[from * h..]);
                for (i, (now, gate)) in
                    now.chunks_exact_mut(h).zip(gate[from * gates..].chunks_exact(gates)).enumerate()
                {
                    for j in 0..h {
                        let (z, n) = (gate[h + j], gate[2 * h + j]);
                        now[j] = (1.0 - z) * n + before.map_or(0.0, |b| z * b[i * h + j]);
                    }
                }
            });
        }
        Self { steps, h, gate, share, state }
    }

    /// Slopes of the gate inputs, and of U h + c, both packed `[elements, 3H]`.
    fn back(&self, u: &[f32], g: &[f32]) -> (Buffer, Buffer) {
        let (h, gates) = (self.h, 3 * self.h);
        let mut of_state = Buffer::any(self.state.len());
        self.steps.pack(g, h, &mut of_state);
        let (mut slopes, mut of_share) = (Buffer::any(self.gate.len()), Buffer::any(self.gate.len()));
        for t in (0..self.steps.count()).rev() {
            let (at, rows) = (self.steps.span(t), self.steps.span(t).len());
            let (earlier, now) = of_state.split_at_mut(at.start * h);
            let from = self.steps.previous(t);
            let before = from.map(|from| &self.state[from * h..][..rows * h]);
            let wide = at.start * gates..at.end * gates;
            let known = Step {
                h,
                gate: &self.gate[wide.clone()],
                share: &self.share[at.start * h..at.end * h],
                before,
                of_state: &now[..rows * h],
            };
            let into = (&mut slopes[wide.clone()], gates);
            chunks::rows2(into, (&mut of_share[wide.clone()], gates), |from, slopes, of_share| {
                known.slopes(from, slopes, of_share);
            });
            let Some(from) = from else { continue };
            let carry = &mut earlier[from * h..][..rows * h];
            for ((carry, g), gate) in carry
                .chunks_exact_mut(h)
                .zip(known.of_state.chunks_exact(h))
                .zip(known.gate.chunks_exact(gates))
            {
                carry.iter_mut().zip(g).zip(&gate[h..]).for_each(|((c, g), z)| *c += g * z);
            }
            product(carry, Mat::new(&of_share[wide], rows, gates), Mat::new(u, gates, h), Onto::Add);
        }
        (slopes, of_share)
    }
}

/// Gate inputs → gates, and the recurrent share of n, for some rows.
#[inline(always)]
fn open(from_state: &[f32], bias: &[f32], gate: &mut [f32], share: &mut [f32]) {
    let h = bias.len() / 3;
    let rows = gate.chunks_exact_mut(3 * h).zip(share.chunks_exact_mut(h));
    for ((gate, share), s) in rows.zip(from_state.chunks_exact(3 * h)) {
        let (switch, new) = gate.split_at_mut(2 * h);
        for ((g, s), c) in switch.iter_mut().zip(s).zip(bias) {
            *g = fast_sigmoid(*g + s + c);
        }
        for ((share, s), c) in share.iter_mut().zip(&s[2 * h..]).zip(&bias[2 * h..]) {
            *share = s + c;
        }
        for ((n, r), share) in new.iter_mut().zip(&*switch).zip(&*share) {
            *n = fast_tanh(*n + r * share);
        }
    }
}

/// One step on the way back.
struct Step<'a> {
    h: usize,
    gate: &'a [f32],
    share: &'a [f32],
    before: Option<&'a [f32]>,
    /// Slopes of h'.
    of_state: &'a [f32],
}

impl Step<'_> {
    /// Slopes of the rows from `first` on.
    #[inline(always)]
    fn slopes(&self, first: usize, slopes: &mut [f32], of_share: &mut [f32]) {
        let (h, gates) = (self.h, 3 * self.h);
        let rows = slopes.chunks_exact_mut(gates).zip(of_share.chunks_exact_mut(gates)).enumerate();
        for (i, (slopes, of_share)) in rows {
            let at = (first + i) * h;
            let (gate, g) = (&self.gate[3 * at..][..gates], &self.of_state[at..][..h]);
            let (share, before) = (&self.share[at..][..h], self.before.map(|b| &b[at..][..h]));
            for j in 0..h {
                let (r, z, n) = (gate[j], gate[h + j], gate[2 * h + j]);
                let of_new = g[j] * (1.0 - z) * (1.0 - n * n);
                slopes[j] = of_new * share[j] * r * (1.0 - r);
                slopes[h + j] = g[j] * (before.map_or(0.0, |b| b[j]) - n) * z * (1.0 - z);
                slopes[2 * h + j] = of_new;
                of_share[2 * h + j] = of_new * r;
            }
            of_share[..2 * h].copy_from_slice(&slopes[..2 * h]);
        }
    }
}
