//! The linear terms of one example at a time: all fields' weights side by side, updated in one sweep.

use millstream_nn::kernels::{self, AdaGradStep, FtrlStep};
use millstream_schema::Batch;
use millstream_store::{Place, RowOptim, TableMut};
use rayon::prelude::*;

use super::rows::{Dense, Located, Part, Source, Term};

/// Below so many keys of a batch threads cost more than they bring.
const PARALLEL: usize = 4096;

/// Weights of one example, or how to get them one by one.
pub(super) struct Linear {
    pub(super) part: Part,
    /// Set when each field has one row of a table of its own and all take the same rule, which is one of those below.
    sweep: Option<Sweep>,
    /// `[F]`: the rows that the batch at hand meets.
    near: Vec<Near>,
    /// Number of the batch, from 1.
    batch: u32,
    /// `[F]` each: weights, first and second numbers of state, gradients.
    rows: [Vec<f32>; 4],
}

/// The rows of one table that a batch meets, side by side: each is fetched from the table once and brought back once.
#[derive(Default)]
struct Near {
    /// For each key, the row's place in `values`; 0 for a key without a row.
    ids: Vec<u32>,
    /// By the row's number in its table: the last batch that met it, and its place then.
    seen: Vec<(u32, u32)>,
    places: Vec<Place>,
    /// Weight and state. The first stands for keys without a row.
    values: Vec<[f32; 4]>,
}

/// The rule of all rows, at scale 1.
#[derive(Clone, Copy)]
enum Sweep {
    Sgd { lr: f32, l2: f32 },
    AdaGrad(AdaGradStep),
    Ftrl { alpha: f32, step: FtrlStep },
}

impl Near {
    fn load(&mut self, from: &Located, table: &TableMut<'_>, batch: u32) {
        self.ids.clear();
        self.places.clear();
        self.values.clear();
        self.places.push(Place::NONE);
        self.values.push([0.0; 4]);
        for &place in &from.places {
            if !place.is_some() {
                self.ids.push(0);
                continue;
            }
            let number = table.number(place);
            if self.seen.len() <= number {
                self.seen.resize(2 * number + 64, (0, 0));
            }
            let seen = &mut self.seen[number];
            if seen.0 != batch {
                *seen = (batch, self.values.len() as u32);
                let mut value = [0.0; 4];
                value.iter_mut().zip(table.peek(place)).for_each(|(v, x)| *v = *x);
                self.values.push(value);
                self.places.push(place);
            }
            self.ids.push(seen.1);
        }
    }

    fn store(&self, table: &mut TableMut<'_>) {
        for (place, value) in self.places.iter().zip(&self.values).skip(1) {
            table.row(*place).iter_mut().zip(value).for_each(|(x, v)| *x = *v);
        }
    }
}

impl Linear {
    pub(super) fn new(part: Part) -> Self {
        let rows = [(); 4].map(|()| vec![0.0; part.terms.len()]);
        let near = part.terms.iter().map(|_| Near::default()).collect();
        Self { sweep: sweep(&part), part, near, batch: 0, rows }
    }

    /// Takes up a batch whose rows were found.
    pub(super) fn load(&mut self, batch: &Batch, tables: &[TableMut<'_>]) {
        if self.sweep.is_none() {
            return;
        }
        self.batch = self.batch.wrapping_add(1).max(1);
        let number = self.batch;
        let one = |(near, term): (&mut Near, &Term)| {
            if let Source::Table(from) = &term.source {
                near.load(from, &tables[from.table], number);
            }
        };
        match batch.candidates() * self.near.len() < PARALLEL {
            true => self.near.iter_mut().zip(&self.part.terms).for_each(one),
            false => self.near.par_iter_mut().zip(&self.part.terms).for_each(one),
        }
    }

    /// Brings back the rows of a batch.
    pub(super) fn store(&self, batch: &Batch, tables: &mut [TableMut<'_>]) {
        if self.sweep.is_none() {
            return;
        }
        let of = |at: usize| self.part.terms.iter().position(|term| term.table() == Some(at));
        let mut own: Vec<(&mut TableMut<'_>, &Near)> = tables
            .iter_mut()
            .enumerate()
            .filter_map(|(at, table)| Some((table, &self.near[of(at)?])))
            .collect();
        match batch.candidates() * own.len() < PARALLEL {
            true => own.iter_mut().for_each(|(table, near)| near.store(table)),
            false => own.par_iter_mut().for_each(|(table, near)| near.store(table)),
        }
    }

    /// Σ w x of candidate `n`.
    #[inline]
    pub(super) fn predict(
        &mut self,
        (batch, n): (&Batch, usize),
        tables: &[TableMut<'_>],
        dense: &Dense<'_>,
    ) -> f32 {
        let [w, first, second, _] = &mut self.rows;
        if self.sweep.is_none() {
            self.part.gather((batch, n), (tables, dense.params), w);
            return kernels::sum(w);
        }
        let rows = w.iter_mut().zip(first).zip(second);
        for (((w, a), b), (near, term)) in rows.zip(self.near.iter().zip(&self.part.terms)) {
            [*w, *a, *b, _] = near.values[near.ids[term.row(batch, n)] as usize];
        }
        kernels::vectorised(|| kernels::sum(w))
    }

    /// Learns candidate `n`, which was predicted just before; `g` is the gradient of its logit.
    #[inline]
    pub(super) fn learn(
        &mut self,
        (batch, n): (&Batch, usize),
        tables: &mut [TableMut<'_>],
        dense: &mut Dense<'_>,
        g: f32,
    ) {
        let Some(sweep) = self.sweep else {
            return self.part.learn((batch, n), tables, dense, |_, out| out.fill(g));
        };
        let [w, first, second, grads] = &mut self.rows;
        grads.fill(g);
        kernels::vectorised(|| sweep.apply(w, (first, second), grads, dense.scale));
        let rows = w.iter().zip(first).zip(second);
        for (((w, a), b), (near, term)) in rows.zip(self.near.iter_mut().zip(&self.part.terms)) {
            let id = near.ids[term.row(batch, n)] as usize;
            if id > 0 {
                near.values[id] = [*w, *a, *b, 0.0];
            }
        }
    }
}

impl Sweep {
    #[inline(always)]
    fn apply(self, w: &mut [f32], (a, b): (&mut [f32], &mut [f32]), g: &[f32], scale: f32) {
        match self {
            Self::Sgd { lr, l2 } => {
                w.iter_mut().zip(g).for_each(|(w, g)| *w -= lr * scale * (g + l2 * *w));
            }
            Self::AdaGrad(step) => kernels::adagrad(w, a, g, AdaGradStep { lr: step.lr * scale, ..step }),
            Self::Ftrl { alpha, step } if alpha * scale > 0.0 => {
                kernels::ftrl(w, (a, b), g, FtrlStep { rate: 1.0 / (alpha * scale), ..step });
            }
            Self::Ftrl { .. } => {}
        }
    }
}

/// The rule, if the part can be swept.
fn sweep(part: &Part) -> Option<Sweep> {
    let located = |source: &Source| match source {
        Source::Table(Located { optim, l2, .. }) => Some((*optim, *l2)),
        Source::Numbers(_) => None,
    };
    let first = located(&part.terms.first()?.source)?;
    let same = part.terms.iter().all(|term| located(&term.source) == Some(first));
    if !same || !part.is_plain() {
        return None;
    }
    let l2 = first.1;
    match first.0 {
        RowOptim::Sgd { lr } => Some(Sweep::Sgd { lr, l2 }),
        RowOptim::AdaGrad { lr, eps, .. } => Some(Sweep::AdaGrad(AdaGradStep { lr, eps, l2 })),
        RowOptim::Ftrl { alpha, beta, l1, l2: ridge } => {
            Some(Sweep::Ftrl { alpha, step: FtrlStep { rate: 1.0 / alpha, beta, l1, ridge, l2 } })
        }
        _ => None,
    }
}
