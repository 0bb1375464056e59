//! Linear terms with or without pairs of fields: what `lr`, `fm` and `ffm` have in common.

use std::ops::Range;

use millstream_nn::kernels;
use millstream_nn::{ParamId, Params};
use millstream_schema::{Batch, Column, Field, Rows};
use millstream_store::{Place, Slots, Store, TableMut};

use super::linear::{Lent, Linear};
use super::rows::{Dense, InPlace, Part, block, locate};
use super::{Live, Progressive};
use crate::ranker::{Shape, of_task};
use crate::{Error, ModelConfig};

/// Which pairs a model has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pairs {
    /// None: logistic regression.
    None,
    /// One vector of this width per key (Rendle 2010).
    Fm {
        /// D.
        dim: usize,
    },
    /// A vector of this width per key and field (Juan et al. 2016).
    Ffm {
        /// K.
        dim: usize,
        /// Whether pairs are divided by ‖x‖².
        normalise: bool,
    },
}

/// The kernel of a ranker with these pairs: linear terms `linear`, vectors `d{D}` or `ffm{K}`, as the ranker names them.
pub(crate) fn machine(
    cfg: &ModelConfig,
    shape: &Shape<'_>,
    (params, store): (&Params, &Store),
    pairs: Pairs,
) -> Result<Box<dyn Progressive>, Error> {
    let chosen = cfg.chosen(shape.fields)?;
    let weights = ((shape.fields, chosen.as_slice()), (params, store));
    let tasks = (0..shape.tasks).map(|task| Machine::new(weights, task, pairs));
    let machines = tasks.collect::<Result<_, _>>()?;
    Ok(Box::new(Machines { machines, fields: shape.fields.to_vec(), steps: Vec::new() }))
}

/// One per task.
struct Machines {
    machines: Vec<Machine>,
    fields: Vec<Field>,
    /// `[T]`: gradients of the logits at hand.
    steps: Vec<f32>,
}

/// The weights of one task and their values for the example at hand.
struct Machine {
    linear: Linear,
    bias: ParamId,
    factors: Option<Factors>,
}

/// The tables of a machine for as long as a batch is learned.
struct Lending<'b, 'a> {
    linear: Lent<'b, 'a>,
    factors: Held<'b, 'a>,
}

/// The tables of vectors, in the order in which the part names them.
enum Held<'b, 'a> {
    /// Row by row.
    Tables(Vec<&'b mut TableMut<'a>>),
    /// The rows of each field's own table, which are learned in place.
    Slots(Vec<Slots<'b>>),
}

impl Held<'_, '_> {
    /// A row to read, by its table and its place; empty without one.
    #[inline]
    fn row(&self, table: usize, place: Place) -> &[f32] {
        match self {
            Self::Slots(rows) => rows[table].row(place.slot()),
            Self::Tables(tables) => tables[table].peek(place),
        }
    }

    /// A row to change, by its table and its place. Asks for the row at another place of the same table first.
    #[inline]
    fn row_mut(&mut self, table: usize, place: Place, coming: Place) -> Option<&mut [f32]> {
        match self {
            Self::Slots(rows) => {
                rows[table].prefetch(coming.slot());
                rows[table].row_mut(place.slot())
            }
            Self::Tables(tables) => {
                tables[table].prefetch(coming);
                place.is_some().then(|| tables[table].row(place))
            }
        }
    }
}

/// Vectors and their pairs.
struct Factors {
    part: Part,
    pairs: Pairs,
    /// `[F, D]`: the fields' vectors; where they are learned in place, those that each of them meets.
    vectors: Vec<f32>,
    /// `[N, F]`: the rows that the candidates at hand meet, from `first` on, where they are learned in place.
    places: Vec<Place>,
    first: usize,
    /// `[D]`, `[F]` and `[F]`, for row-wise steps in place: squares of what the fields' vectors meet, the rows' accumulators, and
    /// what their gradients are multiplied by.
    squares: Vec<f32>,
    accumulators: Vec<f32>,
    rates: Vec<f32>,
    /// `[D]`: the vector of a key without a row.
    zeros: Vec<f32>,
    /// The rule of pairs that are learned where their rows lie: each field has one row of a table of its own.
    in_place: Option<InPlace>,
    /// `[D]`: their sum.
    total: Vec<f32>,
    /// What pairs are multiplied by.
    scale: f32,
}

/// A batch, the candidate at hand, and how many there are of those whose rows were found.
type At<'a> = (&'a Batch, usize, usize);

/// Fields and chosen places; dense weights and rows.
type Weights<'a> = ((&'a [Field], &'a [usize]), (&'a Params, &'a Store));

impl Progressive for Machines {
    fn learn(&mut self, live: Live<'_>, batch: &Batch, logits: &mut Vec<f32>) -> Result<(), Error> {
        self.check(batch)?;
        let scale = live.store.learning_rate();
        let mut rows = live.store.exclusive();
        let mut dense = Dense { params: live.params, optimiser: live.optimiser, scale };
        let (n, block) = (batch.candidates(), block(self.machines.iter().flat_map(Machine::parts), batch));
        for from in (0..n).step_by(block) {
            let range = from..(from + block).min(n);
            let parts = self.machines.iter_mut().flat_map(Machine::parts_mut);
            match block < n {
                true => {
                    for part in parts {
                        part.locate(batch, range.clone(), rows.tables())?;
                    }
                }
                false => locate(parts.collect(), batch, rows.tables())?,
            }
            let mut tables: Vec<_> = rows.tables().iter_mut().map(Some).collect();
            let lent = self.machines.iter_mut();
            let lent = lent.map(|machine| machine.lend((batch, range.clone()), &mut tables));
            let mut lent: Vec<Lending<'_, '_>> = lent.collect::<Result<_, _>>()?;
            for n in range.clone() {
                self.row((batch, n, range.end), &mut lent, &mut dense, logits)?;
            }
        }
        rows.step();
        Ok(())
    }
}

impl Machines {
    /// Predicts and learns candidate `n`, of those up to `end` whose rows were found.
    fn row(
        &mut self,
        (batch, n, end): At<'_>,
        lent: &mut [Lending<'_, '_>],
        dense: &mut Dense<'_>,
        logits: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let (tasks, weight) = (self.machines.len(), batch.weights.get(n).copied().unwrap_or(1.0));
        self.steps.clear();
        for (task, (machine, lent)) in self.machines.iter_mut().zip(&mut *lent).enumerate() {
            let z = machine.predict((batch, n, end), lent, dense);
            if !z.is_finite() {
                return Err(Error::Diverged(format!(
                    "learning diverged: the logit of a row is {z}; lower the learning rate of the rows"
                )));
            }
            logits.push(z);
            let y = batch.labels.get(n * tasks + task).copied().unwrap_or(0.0);
            self.steps.push(weight * (sigmoid(z) - y));
        }
        // A row outside of a task's space has no label, and so no slope.
        let slopes = self.machines.iter_mut().zip(lent).zip(&self.steps).filter(|(_, g)| !g.is_nan());
        for ((machine, lent), &g) in slopes {
            machine.learn((batch, n, end), lent, dense, g);
        }
        Ok(())
    }

    /// Whether the batch has the fields' columns and as many rows as they should have.
    fn check(&self, batch: &Batch) -> Result<(), Error> {
        let n = batch.candidates();
        let fits = |(field, column): (&Field, &Column)| {
            let rows = if field.rows == Rows::Request { batch.requests } else { n };
            let kind = matches!(
                (field.shape, column),
                (millstream_schema::Shape::Key, Column::Key(_))
                    | (millstream_schema::Shape::Keys, Column::Keys { .. })
                    | (millstream_schema::Shape::Dense(_), Column::Dense { .. })
            );
            kind && column.check(rows).is_ok()
        };
        let requests = batch.candidate_request.iter().all(|&r| (r as usize) < batch.requests);
        let columns = batch.columns.len() == self.fields.len();
        if requests && columns && self.fields.iter().zip(&batch.columns).all(fits) {
            return Ok(());
        }
        Err(Error::Config("a batch was made by another encoder than the model's".into()))
    }
}

impl Machine {
    fn new((fields, (params, store)): Weights<'_>, task: usize, pairs: Pairs) -> Result<Self, Error> {
        let suffix = of_task("linear", task);
        let linear = Linear::new(Part::new(fields, &suffix, 1, (params, store))?);
        let name = format!("{suffix}.bias");
        let bias = params.find(&name);
        let bias = bias.ok_or_else(|| Error::Corrupt(format!("the model has no weight `{name}`")))?;
        let (suffix, dim) = match pairs {
            Pairs::None => return Ok(Self { linear, bias, factors: None }),
            Pairs::Fm { dim } => (format!("d{dim}"), dim),
            Pairs::Ffm { dim, .. } => (format!("ffm{dim}"), dim * fields.1.len()),
        };
        let part = Part::new(fields, &of_task(&suffix, task), dim, (params, store))?;
        let vectors = vec![0.0; dim * part.terms.len()];
        let ffm = matches!(pairs, Pairs::Ffm { .. }) && part.is_plain();
        let in_place = if ffm { part.adagrad() } else { None };
        let (total, zeros) = (vec![0.0; dim], vec![0.0; dim]);
        let fields = part.terms.len();
        let factors = Factors {
            part,
            pairs,
            vectors,
            places: Vec::new(),
            first: 0,
            squares: vec![0.0; dim],
            accumulators: vec![0.0; fields],
            rates: vec![0.0; fields],
            zeros,
            in_place,
            total,
            scale: 1.0,
        };
        Ok(Self { linear, bias, factors: Some(factors) })
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.linear.part).chain(self.factors.as_ref().map(|f| &f.part))
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        std::iter::once(&mut self.linear.part).chain(self.factors.as_mut().map(|f| &mut f.part))
    }

    /// Takes up candidates of a batch whose rows were found.
    fn lend<'b, 'a>(
        &mut self,
        at: (&Batch, Range<usize>),
        tables: &mut [Option<&'b mut TableMut<'a>>],
    ) -> Result<Lending<'b, 'a>, Error> {
        let linear = self.linear.lend(at.clone(), tables)?;
        let factors = self.factors.as_mut().map(|f| f.lend(at, tables)).transpose()?;
        Ok(Lending { linear, factors: factors.unwrap_or(Held::Tables(Vec::new())) })
    }

    fn predict(&mut self, at: At<'_>, lent: &Lending<'_, '_>, dense: &Dense<'_>) -> f32 {
        let bias = dense.params.values(self.bias)[0];
        let linear = bias + self.linear.predict((at.0, at.1), &lent.linear, dense);
        linear + self.factors.as_mut().map_or(0.0, |f| f.predict(at, &lent.factors, dense))
    }

    fn learn(&mut self, at: At<'_>, lent: &mut Lending<'_, '_>, dense: &mut Dense<'_>, g: f32) {
        dense.optimiser.step_one(dense.params, self.bias, &[g]);
        self.linear.learn((at.0, at.1), &mut lent.linear, dense, g);
        if let Some(factors) = &mut self.factors {
            factors.learn(at, &mut lent.factors, dense, g);
        }
    }
}

impl Factors {
    /// Takes up candidates of a batch whose rows were found.
    fn lend<'b, 'a>(
        &mut self,
        (batch, range): (&Batch, Range<usize>),
        tables: &mut [Option<&'b mut TableMut<'a>>],
    ) -> Result<Held<'b, 'a>, Error> {
        let mut own = self.part.take(tables)?;
        if self.in_place.is_none() {
            return Ok(Held::Tables(own));
        }
        self.first = range.start;
        self.part.line_up(batch, range, &mut self.places);
        Ok(match own.iter_mut().all(|table| table.slots().is_some()) {
            true => Held::Slots(own.into_iter().filter_map(TableMut::slots).collect()),
            false => Held::Tables(own),
        })
    }

    fn predict(&mut self, (batch, n, end): At<'_>, held: &Held<'_, '_>, dense: &Dense<'_>) -> f32 {
        let fields = self.part.terms.len();
        if let Pairs::Ffm { normalise, dim } = self.pairs {
            let square = if normalise { self.part.square(batch, n) } else { 1.0 };
            self.scale = if square > 0.0 { 1.0 / square } else { 0.0 };
            if self.in_place.is_some() {
                return self.scale * self.meet(n, held, dim);
            }
        }
        let Held::Tables(tables) = held else { return 0.0 };
        if n + 1 < end {
            self.part.prefetch((batch, n + 1), tables);
        }
        self.part.gather((batch, n), (tables, dense.params), &mut self.vectors);
        let (vectors, total) = (&self.vectors, &mut self.total);
        match self.pairs {
            Pairs::None => 0.0,
            Pairs::Fm { .. } => kernels::vectorised!(kernels::fm(vectors, total)),
            Pairs::Ffm { dim, .. } => self.scale * kernels::vectorised!(kernels::ffm(vectors, fields, dim)),
        }
    }

    fn learn(&mut self, (batch, n, end): At<'_>, held: &mut Held<'_, '_>, dense: &mut Dense<'_>, g: f32) {
        if let Some(rule) = self.in_place {
            return self.learn_in_place((n, end), held, rule.scaled(dense.scale), g * self.scale);
        }
        let Held::Tables(tables) = held else { return };
        let (vectors, total, fields) = (&self.vectors, &self.total, self.part.terms.len());
        let width = total.len();
        match self.pairs {
            Pairs::None => {}
            Pairs::Fm { .. } => self.part.learn((batch, n), tables, dense, |f, out| {
                kernels::fm_slope(&vectors[f * width..][..width], total, g, out);
            }),
            Pairs::Ffm { dim, .. } => {
                let g = g * self.scale;
                self.part.learn((batch, n), tables, dense, |f, out| {
                    kernels::vectorised!(kernels::ffm_slope(vectors, (fields, dim), f, g, out));
                });
            }
        }
    }

    /// Σ_{i<j} ⟨x[i, j], x[j, i]⟩ of candidate `n`, where rows lie; leaves in `vectors` what each of them meets.
    fn meet(&mut self, n: usize, held: &Held<'_, '_>, dim: usize) -> f32 {
        let (fields, width, zeros) = (self.part.terms.len(), self.part.dim, &self.zeros);
        let places = self.places[(n - self.first) * fields..][..fields].iter().enumerate();
        let row = |(table, &place): (usize, &Place)| held.row(table, place).get(..width).unwrap_or(zeros);
        let met: Vec<&[f32]> = places.map(row).collect();
        kernels::ffm_rows(&met, dim, &mut self.vectors, &mut self.squares)
    }

    /// One step of the rows of candidate `n`, which was predicted just before, where they lie.
    fn learn_in_place(&mut self, (n, end): (usize, usize), held: &mut Held<'_, '_>, rule: InPlace, g: f32) {
        let (fields, width) = (self.part.terms.len(), self.part.dim);
        let places = &self.places[(n - self.first) * fields..];
        let at_once = match rule {
            InPlace::Row(step) if step.l2 == 0.0 => Some(step),
            _ => None,
        };
        if let Some(step) = at_once {
            for (table, (a, &place)) in self.accumulators.iter_mut().zip(places).enumerate() {
                *a = held.row(table, place).get(width).copied().unwrap_or(0.0);
            }
            kernels::ffm_rates(&mut self.accumulators, &self.squares, &mut self.rates, g, step);
        }
        // While this row is worked on, the next one of its table comes.
        let coming = if n + 1 < end { &places[fields..] } else { places };
        let met = places.iter().zip(coming).zip(self.vectors.chunks_exact(width));
        for (table, ((&place, &coming), crossed)) in met.enumerate() {
            let Some(row) = held.row_mut(table, place, coming) else { continue };
            let (w, a) = row.split_at_mut(width);
            match rule {
                _ if at_once.is_some() => {
                    kernels::ffm_descend(w, crossed, self.rates[table]);
                    a[0] = self.accumulators[table];
                }
                InPlace::Each(step) => kernels::ffm_adagrad(w, a, crossed, g, step),
                InPlace::Row(step) => kernels::ffm_adagrad_row_wise(w, &mut a[0], crossed, g, step),
            }
        }
    }
}

/// 1 / (1 + e⁻ᶻ).
fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}
