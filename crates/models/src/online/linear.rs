//! The linear terms of one example at a time: all fields' weights side by side, updated in one sweep.

use std::ops::Range;

use millstream_nn::kernels::{self, AdaGradStep, FtrlStep};
use millstream_schema::Batch;
use millstream_store::{Place, RowOptim, TableMut};

use super::rows::{Dense, Located, Part, Source};
use crate::Error;

/// Weights of one example, or how to get them one by one.
pub(super) struct Linear {
    pub(super) part: Part,
    /// Set when each field has one row of a table of its own and all take the same rule, which is one of those below.
    sweep: Option<Sweep>,
    /// `[N, F]`: the rows that the candidates at hand meet, from `first` on.
    places: Vec<Place>,
    first: usize,
    /// `[F]` each, and zeros up to whole registers: weights, first and second numbers of state, gradients.
    rows: [Vec<f32>; 4],
}

/// Lanes of the widest register in use.
const LANES: usize = 8;

/// Rows turned from side by side into numbers side by side at once.
const TURNED: usize = 4;

/// The tables of a linear part for as long as a batch is learned.
pub(super) enum Lent<'b, 'a> {
    /// Rows of a weight and the word of touched.
    Two(Beside<'b, 2>),
    /// With one number of state.
    Three(Beside<'b, 3>),
    /// With two.
    Four(Beside<'b, 4>),
    /// All else, row by row.
    Tables(Vec<&'b mut TableMut<'a>>),
}

/// The rows of each field's table as they lie in memory, S words each.
pub(super) struct Beside<'b, const S: usize> {
    rows: Vec<&'b mut [[f32; S]]>,
    /// The last word of a row that is touched.
    word: f32,
}

/// The rule of all rows, at scale 1.
#[derive(Clone, Copy)]
enum Sweep {
    Sgd { lr: f32, l2: f32 },
    AdaGrad(AdaGradStep),
    Ftrl { alpha: f32, step: FtrlStep },
}

impl<'b, const S: usize> Beside<'b, S> {
    /// `None` if the tables do not lie so.
    fn new<'a>(tables: Vec<&'b mut TableMut<'a>>) -> Option<Self> {
        let (mut rows, mut last) = (Vec::with_capacity(tables.len()), 0.0);
        for table in tables {
            let (all, word) = table.side_by_side()?;
            rows.push(all);
            last = word;
        }
        Some(Self { rows, word: last })
    }

    /// The rows in `places` `[F]`, cut into weights and state; zeros for a key without a row.
    #[inline(always)]
    fn read(&self, places: &[Place], [w, first, second]: [&mut [f32]; 3]) {
        let row = |(rows, slot): (&&mut [[f32; S]], &Place)| {
            rows.get(slot.slot() as usize).copied().unwrap_or([0.0; S])
        };
        let mut cut = |at: usize, row: [f32; S]| {
            w[at] = row[0];
            if S > 2 {
                first[at] = row[1];
            }
            if S > 3 {
                second[at] = row[2];
            }
        };
        let (tables, last_tables) = self.rows.as_chunks::<TURNED>();
        let (places, last_places) = places.as_chunks::<TURNED>();
        for (four, (tables, places)) in tables.iter().zip(places).enumerate() {
            let rows: [[f32; S]; TURNED] = std::array::from_fn(|i| row((&tables[i], &places[i])));
            rows.into_iter().enumerate().for_each(|(i, row)| cut(TURNED * four + i, row));
        }
        let whole = TURNED * tables.len();
        let last = last_tables.iter().zip(last_places).map(row).enumerate();
        last.for_each(|(i, row)| cut(whole + i, row));
    }

    /// Puts back what [`read`](Self::read) gave.
    #[inline(always)]
    fn write(&mut self, places: &[Place], [w, first, second]: [&[f32]; 3]) {
        let from = w.iter().zip(first).zip(second);
        for ((rows, slot), ((w, a), b)) in self.rows.iter_mut().zip(places).zip(from) {
            let Some(to) = rows.get_mut(slot.slot() as usize) else { continue };
            let mut row = [self.word; S];
            row[0] = *w;
            if S > 2 {
                row[1] = *a;
            }
            if S > 3 {
                row[2] = *b;
            }
            *to = row;
        }
    }
}

impl Linear {
    pub(super) fn new(part: Part) -> Self {
        let rows = [(); 4].map(|()| vec![0.0; part.terms.len().next_multiple_of(LANES)]);
        Self { sweep: sweep(&part), part, places: Vec::new(), first: 0, rows }
    }

    /// Takes up candidates of a batch whose rows were found.
    pub(super) fn lend<'b, 'a>(
        &mut self,
        (batch, range): (&Batch, Range<usize>),
        tables: &mut [Option<&'b mut TableMut<'a>>],
    ) -> Result<Lent<'b, 'a>, Error> {
        let mut own = self.part.take(tables)?;
        let width = match self.sweep {
            Some(Sweep::Sgd { .. }) => own.iter_mut().all(|t| t.side_by_side::<2>().is_some()).then_some(2),
            Some(Sweep::AdaGrad(_)) => own.iter_mut().all(|t| t.side_by_side::<3>().is_some()).then_some(3),
            Some(Sweep::Ftrl { .. }) => own.iter_mut().all(|t| t.side_by_side::<4>().is_some()).then_some(4),
            None => None,
        };
        if width.is_some() {
            self.first = range.start;
            self.part.line_up(batch, range, &mut self.places);
        }
        let lent = match width {
            Some(2) => Beside::new(own).map(Lent::Two),
            Some(3) => Beside::new(own).map(Lent::Three),
            Some(_) => Beside::new(own).map(Lent::Four),
            None => Some(Lent::Tables(own)),
        };
        lent.ok_or_else(|| Error::Corrupt("the rows of a table changed their size".into()))
    }

    /// Σ w x of candidate `n`.
    #[inline]
    pub(super) fn predict(
        &mut self,
        (batch, n): (&Batch, usize),
        lent: &Lent<'_, '_>,
        dense: &Dense<'_>,
    ) -> f32 {
        let [w, first, second, _] = &mut self.rows;
        let fields = self.part.terms.len();
        let places = || &self.places[(n - self.first) * fields..][..fields];
        kernels::vectorised!({
            match lent {
                Lent::Two(rows) => rows.read(places(), [w, first, second]),
                Lent::Three(rows) => rows.read(places(), [w, first, second]),
                Lent::Four(rows) => rows.read(places(), [w, first, second]),
                Lent::Tables(tables) => {
                    self.part.gather((batch, n), (tables, dense.params), &mut w[..fields]);
                }
            }
            kernels::sum(w)
        })
    }

    /// Learns candidate `n`, which was predicted just before; `g` is the gradient of its logit.
    #[inline]
    pub(super) fn learn(
        &mut self,
        (batch, n): (&Batch, usize),
        lent: &mut Lent<'_, '_>,
        dense: &mut Dense<'_>,
        g: f32,
    ) {
        let sweep = match (self.sweep, &mut *lent) {
            (Some(sweep), Lent::Two(_) | Lent::Three(_) | Lent::Four(_)) => sweep,
            (_, Lent::Tables(tables)) => {
                return self.part.learn((batch, n), tables, dense, |_, out| out.fill(g));
            }
            (None, _) => return,
        };
        let [w, first, second, grads] = &mut self.rows;
        let fields = self.part.terms.len();
        // Behind them all is zero, and stays so: no rule moves a weight of zero that has no gradient.
        grads[..fields].fill(g);
        let places = &self.places[(n - self.first) * fields..][..fields];
        kernels::vectorised!({
            sweep.apply(w, (first, second), grads, dense.scale);
            match lent {
                Lent::Two(rows) => rows.write(places, [w, first, second]),
                Lent::Three(rows) => rows.write(places, [w, first, second]),
                Lent::Four(rows) => rows.write(places, [w, first, second]),
                Lent::Tables(_) => {}
            }
        });
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
