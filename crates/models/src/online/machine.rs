//! Linear terms with or without pairs of fields: what `lr`, `fm` and `ffm` have in common.

use millstream_nn::kernels::{self, AdaGradStep, FfmSums};
use millstream_nn::{ParamId, Params};
use millstream_schema::{Batch, Column, Field, Rows};
use millstream_store::{Store, TableMut};

use super::linear::{Lent, Linear};
use super::rows::{Dense, Part, Term, locate};
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
    /// In the order in which the part names them.
    factors: Vec<&'b mut TableMut<'a>>,
}

/// Vectors and their pairs.
struct Factors {
    part: Part,
    pairs: Pairs,
    /// `[F, D]`: the fields' vectors; where they are learned in place, those that each of them meets.
    vectors: Vec<f32>,
    /// `[D]`: the vector of a key without a row.
    zeros: Vec<f32>,
    /// The rule of pairs that are learned where their rows lie: each field has one row of a table of its own.
    in_place: Option<AdaGradStep>,
    /// `[D]`: their sum.
    total: Vec<f32>,
    /// What pairs are multiplied by.
    scale: f32,
}

/// Fields and chosen places; dense weights and rows.
type Weights<'a> = ((&'a [Field], &'a [usize]), (&'a Params, &'a Store));

impl Progressive for Machines {
    fn learn(&mut self, live: Live<'_>, batch: &Batch, logits: &mut Vec<f32>) -> Result<(), Error> {
        self.check(batch)?;
        let scale = live.store.learning_rate();
        let mut rows = live.store.exclusive();
        locate(self.machines.iter_mut().flat_map(Machine::parts).collect(), batch, rows.tables())?;
        let mut dense = Dense { params: live.params, optimiser: live.optimiser, scale };
        let mut tables: Vec<_> = rows.tables().iter_mut().map(Some).collect();
        let lent = self.machines.iter_mut().map(|machine| machine.lend(batch, &mut tables));
        let mut lent: Vec<Lending<'_, '_>> = lent.collect::<Result<_, _>>()?;
        for n in 0..batch.candidates() {
            self.row((batch, n), &mut lent, &mut dense, logits)?;
        }
        rows.step();
        Ok(())
    }
}

impl Machines {
    /// Predicts and learns candidate `n`.
    fn row(
        &mut self,
        (batch, n): (&Batch, usize),
        lent: &mut [Lending<'_, '_>],
        dense: &mut Dense<'_>,
        logits: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let (tasks, weight) = (self.machines.len(), batch.weights.get(n).copied().unwrap_or(1.0));
        self.steps.clear();
        for (task, (machine, lent)) in self.machines.iter_mut().zip(&mut *lent).enumerate() {
            let z = machine.predict((batch, n), lent, dense);
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
            machine.learn((batch, n), lent, dense, g);
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
        let factors = Factors { part, pairs, vectors, zeros, in_place, total, scale: 1.0 };
        Ok(Self { linear, bias, factors: Some(factors) })
    }

    fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        std::iter::once(&mut self.linear.part).chain(self.factors.as_mut().map(|f| &mut f.part))
    }

    /// Takes up a batch whose rows were found.
    fn lend<'b, 'a>(
        &mut self,
        batch: &Batch,
        tables: &mut [Option<&'b mut TableMut<'a>>],
    ) -> Result<Lending<'b, 'a>, Error> {
        let linear = self.linear.lend(batch, tables)?;
        let factors = self.factors.as_ref().map(|f| f.part.take(tables)).transpose()?.unwrap_or_default();
        Ok(Lending { linear, factors })
    }

    fn predict(&mut self, at: (&Batch, usize), lent: &Lending<'_, '_>, dense: &Dense<'_>) -> f32 {
        let bias = dense.params.values(self.bias)[0];
        let linear = bias + self.linear.predict(at, &lent.linear, dense);
        linear + self.factors.as_mut().map_or(0.0, |f| f.predict(at, &lent.factors, dense))
    }

    fn learn(&mut self, at: (&Batch, usize), lent: &mut Lending<'_, '_>, dense: &mut Dense<'_>, g: f32) {
        dense.optimiser.step_one(dense.params, self.bias, &[g]);
        self.linear.learn(at, &mut lent.linear, dense, g);
        if let Some(factors) = &mut self.factors {
            factors.learn(at, &mut lent.factors, dense, g);
        }
    }
}

impl Factors {
    fn predict(
        &mut self,
        (batch, n): (&Batch, usize),
        tables: &[&mut TableMut<'_>],
        dense: &Dense<'_>,
    ) -> f32 {
        let fields = self.part.terms.len();
        if let Pairs::Ffm { dim, normalise } = self.pairs {
            let square = if normalise { self.part.square(batch, n) } else { 1.0 };
            self.scale = if square > 0.0 { 1.0 / square } else { 0.0 };
            if self.in_place.is_some() {
                return self.scale * self.predict_in_place((batch, n), tables, dim);
            }
        }
        if n + 1 < batch.candidates() {
            self.part.prefetch((batch, n + 1), tables);
        }
        self.part.gather((batch, n), (tables, dense.params), &mut self.vectors);
        let (vectors, total) = (&self.vectors, &mut self.total);
        match self.pairs {
            Pairs::None => 0.0,
            Pairs::Fm { .. } => kernels::vectorised(|| kernels::fm(vectors, total)),
            Pairs::Ffm { dim, .. } => self.scale * kernels::vectorised(|| kernels::ffm(vectors, fields, dim)),
        }
    }

    fn learn(
        &mut self,
        at: (&Batch, usize),
        tables: &mut [&mut TableMut<'_>],
        dense: &mut Dense<'_>,
        g: f32,
    ) {
        let (vectors, total, fields) = (&self.vectors, &self.total, self.part.terms.len());
        let width = total.len();
        match (self.pairs, self.in_place) {
            (Pairs::None, _) => {}
            (Pairs::Fm { .. }, _) => self.part.learn(at, tables, dense, |f, out| {
                kernels::fm_slope(&vectors[f * width..][..width], total, g, out);
            }),
            (Pairs::Ffm { .. }, Some(step)) => {
                let step = AdaGradStep { lr: step.lr * dense.scale, ..step };
                self.learn_in_place(at, tables, step, g * self.scale);
            }
            (Pairs::Ffm { dim, .. }, None) => {
                let g = g * self.scale;
                self.part.learn(at, tables, dense, |f, out| {
                    kernels::vectorised(|| kernels::ffm_slope(vectors, (fields, dim), f, g, out));
                });
            }
        }
    }

    /// Σ_{i<j} ⟨x[i, j], x[j, i]⟩, where rows lie; leaves in `vectors` what each of them meets.
    fn predict_in_place(
        &mut self,
        (batch, n): (&Batch, usize),
        tables: &[&mut TableMut<'_>],
        dim: usize,
    ) -> f32 {
        let (fields, width) = (self.part.terms.len(), self.part.dim);
        let (terms, crossed, zeros) = (&self.part.terms, &mut self.vectors, &self.zeros);
        let row = |term: &Term| term.peek((batch, n), tables).get(..width).unwrap_or(zeros);
        kernels::vectorised(|| {
            let mut sums = FfmSums::default();
            for (i, term) in terms.iter().enumerate() {
                kernels::ffm_cross(row(term), (fields, dim), i, crossed);
            }
            for (i, (term, crossed)) in terms.iter().zip(crossed.chunks_exact(width)).enumerate() {
                kernels::ffm_crossed(row(term), crossed, (i, dim), &mut sums);
            }
            sums.as_flattened().iter().sum()
        })
    }

    /// One step of the rows of candidate `n`, which was predicted just before, where they lie.
    fn learn_in_place(
        &mut self,
        (batch, n): (&Batch, usize),
        tables: &mut [&mut TableMut<'_>],
        step: AdaGradStep,
        g: f32,
    ) {
        let (more, width) = (n + 1 < batch.candidates(), self.part.dim);
        for (term, crossed) in self.part.terms.iter().zip(self.vectors.chunks_exact(width)) {
            if more {
                // While this row is worked on, the next one of its table comes.
                term.prefetch((batch, n + 1), tables);
            }
            if let Some(row) = term.row_mut((batch, n), tables) {
                let (w, a) = row.split_at_mut(width);
                kernels::vectorised(|| kernels::ffm_adagrad(w, a, crossed, g, step));
            }
        }
    }
}

/// 1 / (1 + e⁻ᶻ).
fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}
