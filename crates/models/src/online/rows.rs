//! The rows that one example takes from tables of one width, and the numbers it has instead of rows.

use std::ops::Range;

use millstream_nn::kernels::{self, AdaGradStep};
use millstream_nn::{Optimiser, ParamId, Params};
use millstream_schema::{Batch, Column, Field, Pool, Rows, Shape};
use millstream_store::{Place, RowOptim, Store, TableMut};
use rayon::prelude::*;

use crate::Error;

/// One table per field (or a projection, for numbers), all of one width.
pub(super) struct Part {
    pub(super) dim: usize,
    pub(super) terms: Vec<Term>,
    /// Places in the store of the tables that the terms name by their place here.
    tables: Vec<usize>,
    /// Whether an example may meet a row twice: by lists, or by fields that share a table.
    repeats: bool,
    /// Where look-ups in one table and in the next begin.
    starts: [Vec<usize>; 2],
}

/// One field of a part.
pub(super) struct Term {
    pub(super) field: usize,
    rows: Rows,
    pool: Pool,
    pub(super) source: Source,
}

/// Where a field's vectors come from.
pub(super) enum Source {
    /// Rows of a table, found for the batch at hand.
    Table(Located),
    /// A projection `[D, width]`.
    Numbers(ParamId),
}

/// A table, by its place among those of the part, and the places there of the keys at hand.
pub(super) struct Located {
    pub(super) table: usize,
    pub(super) optim: RowOptim,
    pub(super) l2: f32,
    /// Whether every key has a row.
    admits: bool,
    /// Of the keys from `first` on.
    places: Vec<Place>,
    first: usize,
}

/// The rule of rows that are learned where they lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum InPlace {
    /// Element-wise AdaGrad.
    Each(AdaGradStep),
    /// Row-wise AdaGrad.
    Row(AdaGradStep),
}

impl InPlace {
    /// The rule with its learning rate times `scale`.
    pub(super) fn scaled(self, scale: f32) -> Self {
        let scaled = |step: AdaGradStep| AdaGradStep { lr: step.lr * scale, ..step };
        match self {
            Self::Each(step) => Self::Each(scaled(step)),
            Self::Row(step) => Self::Row(scaled(step)),
        }
    }
}

/// What is changed while learning, beside the rows.
pub(super) struct Dense<'a> {
    pub(super) params: &'a mut Params,
    pub(super) optimiser: &'a mut Optimiser,
    /// Factor of the rows' learning rates.
    pub(super) scale: f32,
}

impl Part {
    /// The tables `space/suffix` and weights `field/suffix` of the chosen fields.
    pub(super) fn new(
        (fields, chosen): (&[Field], &[usize]),
        suffix: &str,
        dim: usize,
        (params, store): (&Params, &Store),
    ) -> Result<Self, Error> {
        let mut tables = Vec::new();
        let mut term = |&at: &usize| {
            let field = &fields[at];
            let source = source(field, suffix, (dim, &mut tables), (params, store))?;
            Ok(Term { field: at, rows: field.rows, pool: field.pool, source })
        };
        let terms: Vec<Term> = chosen.iter().map(&mut term).collect::<Result<_, Error>>()?;
        let lists = chosen.iter().any(|&at| fields[at].shape == Shape::Keys);
        let shared = tables.len() < terms.iter().filter_map(Term::table).count();
        Ok(Self { dim, terms, tables, repeats: lists || shared, starts: Default::default() })
    }

    /// Takes the part's tables out of those of the store; no other part has them.
    pub(super) fn take<'b, 'a>(
        &self,
        tables: &mut [Option<&'b mut TableMut<'a>>],
    ) -> Result<Vec<&'b mut TableMut<'a>>, Error> {
        let taken = self.tables.iter().map(|&at| tables.get_mut(at).and_then(Option::take));
        let taken: Option<Vec<_>> = taken.collect();
        taken.ok_or_else(|| Error::Corrupt("two parts of a model share a table".into()))
    }

    /// Whether each field has one row, from a table of its own.
    pub(super) fn is_plain(&self) -> bool {
        !self.repeats && self.terms.iter().all(|term| term.table().is_some())
    }

    /// Writes the fields' vectors of candidate `n` to `out` `[F, D]`: rows, pooled where there are several, and
    /// projected numbers.
    pub(super) fn gather(
        &self,
        (batch, n): (&Batch, usize),
        (tables, params): (&[&mut TableMut<'_>], &Params),
        out: &mut [f32],
    ) {
        for (term, out) in self.terms.iter().zip(out.chunks_exact_mut(self.dim)) {
            let at = term.row(batch, n);
            match (&term.source, &batch.columns[term.field]) {
                (Source::Table(from), Column::Key(_)) => copy(tables[from.table], from.place(at), out),
                (Source::Table(from), Column::Keys { .. }) => {
                    out.fill(0.0);
                    for (e, x) in term.bag(batch, at) {
                        let row = tables[from.table].peek(from.place(e));
                        out.iter_mut().zip(row).for_each(|(o, w)| *o += x * w);
                    }
                }
                (Source::Numbers(id), Column::Dense { width, values }) => {
                    let x = &values[at * width..(at + 1) * width];
                    let weights = params.values(*id).chunks_exact(*width);
                    out.iter_mut()
                        .zip(weights)
                        .for_each(|(o, w)| *o = w.iter().zip(x).map(|(w, x)| w * x).sum());
                }
                _ => out.fill(0.0),
            }
        }
    }

    /// The one rule of all tables, if it is AdaGrad.
    pub(super) fn adagrad(&self) -> Option<InPlace> {
        let step = |term: &Term| {
            let Source::Table(Located { optim, l2, .. }) = &term.source else { return None };
            match *optim {
                RowOptim::AdaGrad { lr, eps, .. } => Some(InPlace::Each(AdaGradStep { lr, eps, l2: *l2 })),
                RowOptim::AdaGradRowWise { lr, eps, .. } => {
                    Some(InPlace::Row(AdaGradStep { lr, eps, l2: *l2 }))
                }
                _ => None,
            }
        };
        let first = step(self.terms.first()?)?;
        self.terms.iter().all(|term| step(term) == Some(first)).then_some(first)
    }

    /// Asks for the rows of candidate `n`.
    pub(super) fn prefetch(&self, (batch, n): (&Batch, usize), tables: &[&mut TableMut<'_>]) {
        self.terms.iter().for_each(|term| term.prefetch((batch, n), tables));
    }

    /// One update of everything that candidate `n`'s vectors were made from. `slope(f, out)` gives the gradient of field
    /// f's vector `[D]`. A row that was met twice takes the sum of its gradients, once.
    #[inline(always)]
    pub(super) fn learn(
        &self,
        (batch, n): (&Batch, usize),
        tables: &mut [&mut TableMut<'_>],
        dense: &mut Dense<'_>,
        mut slope: impl FnMut(usize, &mut [f32]),
    ) {
        let mut grad = vec![0.0; self.dim];
        let mut sums: Vec<Sum<'_>> = Vec::new();
        for (f, term) in self.terms.iter().enumerate() {
            let at = term.row(batch, n);
            slope(f, &mut grad);
            match (&term.source, &batch.columns[term.field]) {
                (Source::Table(from), Column::Key(_)) if !self.repeats => {
                    from.update(tables[from.table], from.place(at), &grad, dense.scale);
                }
                (Source::Table(from), Column::Key(_)) => add(&mut sums, from, from.place(at), (1.0, &grad)),
                (Source::Table(from), Column::Keys { .. }) => {
                    for (e, x) in term.bag(batch, at) {
                        add(&mut sums, from, from.place(e), (x, &grad));
                    }
                }
                (Source::Numbers(id), Column::Dense { width, values }) => {
                    let x = &values[at * width..(at + 1) * width];
                    let outer: Vec<f32> = grad.iter().flat_map(|g| x.iter().map(move |x| g * x)).collect();
                    dense.optimiser.step_one(dense.params, *id, &outer);
                }
                _ => {}
            }
        }
        for sum in sums {
            sum.from.update(tables[sum.from.table], sum.place, &sum.grad, dense.scale);
        }
    }

    /// Whether the rows of some candidates may be found before those of the others, with the same result: each field has one key per
    /// candidate, and every key a row.
    pub(super) fn can_be_cut(&self, batch: &Batch) -> bool {
        self.terms.iter().all(|term| match (&term.source, &batch.columns[term.field]) {
            (Source::Table(from), Column::Key(keys)) => from.admits && keys.len() == batch.candidates(),
            (source, _) => matches!(source, Source::Numbers(_)),
        })
    }

    /// Finds the rows of some candidates of a batch that [`can_be_cut`](Self::can_be_cut), whose requests are its candidates. While
    /// those in one table are looked up, what will be read in the next one comes.
    pub(super) fn locate(
        &mut self,
        batch: &Batch,
        range: Range<usize>,
        tables: &mut [TableMut<'_>],
    ) -> Result<(), Error> {
        let keys_of = |term: &Term| match &batch.columns[term.field] {
            Column::Key(keys) => &keys[range.clone()],
            _ => &[][..],
        };
        let Self { terms, tables: own, starts: [now, next], .. } = self;
        for at in 0..terms.len() {
            if at == 0 {
                announce(&terms[at], keys_of(&terms[at]), (tables, own), now);
            }
            if let Some(term) = terms.get(at + 1) {
                announce(term, keys_of(term), (tables, own), next);
            }
            let keys = keys_of(&terms[at]);
            if let Source::Table(to) = &mut terms[at].source {
                to.first = range.start;
                tables[own[to.table]].locate_announced(keys, now, &mut to.places)?;
            }
            std::mem::swap(now, next);
        }
        Ok(())
    }

    /// Puts the places of candidates side by side, `[N, F]`, where each field has one key; none for a field without a table.
    pub(super) fn line_up(&self, batch: &Batch, range: Range<usize>, places: &mut Vec<Place>) {
        let fields = self.terms.len();
        places.resize(range.len() * fields, Place::NONE);
        for (f, term) in self.terms.iter().enumerate() {
            if let Source::Table(from) = &term.source {
                let to = places[f..].iter_mut().step_by(fields);
                to.zip(range.clone()).for_each(|(place, n)| *place = from.place(term.row(batch, n)));
            }
        }
    }

    /// ‖x‖² of candidate `n`: a key counts as 1, the keys of a list by their weights, a number as itself.
    pub(super) fn square(&self, batch: &Batch, n: usize) -> f32 {
        let of = |term: &Term| {
            let at = term.row(batch, n);
            match &batch.columns[term.field] {
                Column::Key(_) => 1.0,
                Column::Keys { .. } => term.bag(batch, at).map(|(_, x)| x * x).sum(),
                Column::Dense { width, values } => {
                    values[at * width..(at + 1) * width].iter().map(|v| v * v).sum()
                }
            }
        };
        self.terms.iter().map(of).sum()
    }
}

impl Term {
    pub(super) fn table(&self) -> Option<usize> {
        match &self.source {
            Source::Table(from) => Some(from.table),
            Source::Numbers(_) => None,
        }
    }

    /// The field's row for candidate `n`.
    #[inline]
    pub(super) fn row(&self, batch: &Batch, n: usize) -> usize {
        match self.rows {
            Rows::Request => batch.candidate_request[n] as usize,
            Rows::Candidate => n,
        }
    }

    /// Asks for the row of a field with one key for candidate `n`.
    #[inline]
    pub(super) fn prefetch(&self, (batch, n): (&Batch, usize), tables: &[&mut TableMut<'_>]) {
        if let (Source::Table(from), Column::Key(_)) = (&self.source, &batch.columns[self.field]) {
            tables[from.table].prefetch(from.place(self.row(batch, n)));
        }
    }

    /// Places of a list's keys and the weight that each has in the pooled vector.
    fn bag<'b>(&self, batch: &'b Batch, row: usize) -> impl Iterator<Item = (usize, f32)> + use<'b> {
        let (range, weights) = match &batch.columns[self.field] {
            Column::Keys { offsets, weights, .. } => {
                (offsets[row] as usize..offsets[row + 1] as usize, weights.as_deref())
            }
            _ => (0..0, None),
        };
        let scale = match (self.pool, weights) {
            (Pool::Sum, _) => 1.0,
            (Pool::Mean, None) => 1.0 / range.len().max(1) as f32,
            (Pool::Mean, Some(w)) => {
                let sum: f32 = w[range.clone()].iter().sum();
                if sum > 0.0 { 1.0 / sum } else { 0.0 }
            }
        };
        range.map(move |e| (e, scale * weights.map_or(1.0, |w| w[e])))
    }
}

impl Located {
    /// Where the row of key number `at` of the batch lies.
    #[inline]
    pub(super) fn place(&self, at: usize) -> Place {
        self.places[at - self.first]
    }

    /// One step of a row under its table's rule.
    #[inline(always)]
    fn update(&self, table: &mut TableMut<'_>, place: Place, grad: &[f32], scale: f32) {
        match self.optim {
            RowOptim::AdaGrad { lr, eps, .. } if place.is_some() => {
                let (w, a) = table.row(place).split_at_mut(grad.len());
                let step = AdaGradStep { lr: lr * scale, eps, l2: self.l2 };
                kernels::vectorised!(kernels::adagrad(w, a, grad, step));
            }
            _ => table.update(place, grad),
        }
    }
}

/// Below so many keys of a batch threads cost more than they bring.
const PARALLEL: usize = 4096;

/// Candidates of a batch whose rows are found, then learned, before those of the next: few enough that what was found is still in
/// the processor's caches.
const BLOCK: usize = 64;

/// Candidates whose rows are found at once. Of two threads the other is busy with the batches to come; more find the rows of a
/// whole batch side by side.
pub(super) fn block<'p>(mut parts: impl Iterator<Item = &'p Part>, batch: &Batch) -> usize {
    let n = batch.candidates();
    let one = |(at, &request): (usize, &u32)| request as usize == at;
    let alone = batch.requests == n && batch.candidate_request.iter().enumerate().all(one);
    let cut = alone && rayon::current_num_threads() <= 2 && parts.all(|part| part.can_be_cut(batch));
    if cut { BLOCK } else { n.max(1) }
}

/// What is to be found in one table.
struct Search<'s, 't> {
    table: &'s mut TableMut<'t>,
    wanted: Vec<(&'s [u64], &'s mut Vec<Place>)>,
}

/// Finds the rows of all keys of a batch, those of several tables side by side.
pub(super) fn locate(parts: Vec<&mut Part>, batch: &Batch, tables: &mut [TableMut<'_>]) -> Result<(), Error> {
    let mut searches: Vec<Search<'_, '_>> =
        tables.iter_mut().map(|table| Search { table, wanted: Vec::new() }).collect();
    let (mut count, mut wide) = (0, false);
    for part in parts {
        wide |= part.dim > 1;
        for term in &mut part.terms {
            let Source::Table(to) = &mut term.source else { continue };
            let keys: &[u64] = match &batch.columns[term.field] {
                Column::Key(keys) | Column::Keys { keys, .. } => keys,
                Column::Dense { .. } => &[],
            };
            count += keys.len();
            to.first = 0;
            searches[part.tables[to.table]].wanted.push((keys, &mut to.places));
        }
    }
    let one = |search: &mut Search<'_, '_>| {
        search.wanted.iter_mut().try_for_each(|(keys, places)| search.table.locate(keys, places))
    };
    // To find a row takes as long as to hand the work over; to make a wide one takes longer. Of two threads, the other is busy
    // with the batches to come.
    match count >= PARALLEL && (wide || rayon::current_num_threads() > 2) {
        false => searches.iter_mut().try_for_each(one)?,
        true => searches.par_iter_mut().try_for_each(one)?,
    }
    Ok(())
}

/// Asks for what the look-ups of a field's keys will read.
fn announce(term: &Term, keys: &[u64], (tables, own): (&[TableMut<'_>], &[usize]), starts: &mut Vec<usize>) {
    match &term.source {
        Source::Table(to) => tables[own[to.table]].announce(keys, starts),
        Source::Numbers(_) => starts.clear(),
    }
}

#[inline(always)]
fn copy(table: &TableMut<'_>, place: Place, out: &mut [f32]) {
    match table.peek(place).get(..out.len()) {
        Some(row) => out.copy_from_slice(row),
        None => out.fill(0.0),
    }
}

/// The gradients of a row that an example may meet twice.
struct Sum<'a> {
    from: &'a Located,
    place: Place,
    grad: Vec<f32>,
}

/// Adds x · grad to the sum of a row's gradients.
fn add<'a>(sums: &mut Vec<Sum<'a>>, from: &'a Located, place: Place, (x, grad): (f32, &[f32])) {
    match sums.iter_mut().find(|sum| sum.from.table == from.table && sum.place == place) {
        Some(sum) => sum.grad.iter_mut().zip(grad).for_each(|(s, g)| *s += x * g),
        None => sums.push(Sum { from, place, grad: grad.iter().map(|g| x * g).collect() }),
    }
}

fn source(
    field: &Field,
    suffix: &str,
    (dim, tables): (usize, &mut Vec<usize>),
    (params, store): (&Params, &Store),
) -> Result<Source, Error> {
    if matches!(field.shape, Shape::Dense(_)) {
        let name = format!("{}/{suffix}", field.name);
        let id = params.find(&name);
        return id
            .map(Source::Numbers)
            .ok_or_else(|| Error::Corrupt(format!("the model has no weight `{name}`")));
    }
    let name = format!("{}/{suffix}", field.space.as_deref().unwrap_or_default());
    let id = store.table(&name)?;
    let found = store.tables().enumerate().find(|(_, (table, _))| *table == id);
    match found {
        Some((place, (_, config))) if config.dim == dim => {
            let table = tables.iter().position(|&at| at == place).unwrap_or(tables.len());
            if table == tables.len() {
                tables.push(place);
            }
            let (optim, l2, admits) = (config.optim, config.l2, config.admission.is_none());
            Ok(Source::Table(Located { table, optim, l2, admits, places: Vec::new(), first: 0 }))
        }
        _ => Err(Error::Corrupt(format!("table `{name}` is not {dim} wide"))),
    }
}
