//! From a batch to what a model sees: plan the unique keys, pull their rows, lay them on the tape.

use millstream_nn::{Inputs, Lookup, Mode, Params, Pass, Planner, TableSpec, Tensor};
use millstream_schema::{Batch, Field};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;

/// Plans batches of one encoder's fields, keeping its memory between them.
#[derive(Debug, Clone)]
pub struct Feeder {
    planner: Planner,
}

/// A planned batch: which rows of which tables it needs.
pub struct Planned {
    lookup: Lookup,
}

impl Feeder {
    /// A feeder for batches of these fields.
    pub fn new(fields: &[Field]) -> Self {
        Self { planner: Planner::new(fields) }
    }

    /// Finds the batch's unique keys.
    ///
    /// # Errors
    /// The batch has other columns than the fields say.
    pub fn plan(&mut self, fields: &[Field], batch: &Batch) -> Result<Planned, Error> {
        Ok(Planned { lookup: self.planner.plan(fields, batch)? })
    }
}

impl Planned {
    /// The unique keys that `table` must give rows for.
    pub fn keys(&self, table: &TableSpec) -> &[u64] {
        self.lookup.unique(&table.space)
    }

    /// Pulls each table's rows with `pull(place of the table, keys, out)`, several tables at a time, and lays them on the tape.
    ///
    /// # Errors
    /// Those of `pull`.
    pub fn inputs(
        &self,
        pass: &Pass,
        (fields, batch): (&[Field], &Batch),
        tables: &[TableSpec],
        pull: impl Fn(usize, &[u64], &mut [f32]) -> Result<(), Error> + Sync,
    ) -> Result<Inputs, Error> {
        let one = |(at, table): (usize, &TableSpec)| {
            let keys = self.keys(table);
            let mut out = vec![0.0; keys.len() * table.dim];
            pull(at, keys, &mut out).map(|()| out)
        };
        let rows = tables.par_iter().enumerate().map(one).collect::<Result<_, _>>()?;
        Ok(Inputs::new(pass, fields, batch, self.lookup.clone(), rows)?)
    }
}

/// Answers for batches of one encoder's fields, from any number of threads; keeps the memory of planning between them.
#[derive(Debug)]
pub struct Inference {
    fields: Arc<[Field]>,
    /// One per thread that has asked at the same time so far.
    free: Mutex<Vec<Feeder>>,
}

impl Inference {
    /// For batches of these fields.
    pub fn new(fields: Arc<[Field]>) -> Self {
        Self { fields, free: Mutex::default() }
    }

    /// Finds the batch's unique keys.
    ///
    /// # Errors
    /// The batch has other columns than the fields say.
    pub fn plan(&self, batch: &Batch) -> Result<Planned, Error> {
        let lock = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let feeder = lock().pop();
        let mut feeder = feeder.unwrap_or_else(|| Feeder::new(&self.fields));
        let planned = feeder.plan(&self.fields, batch);
        lock().push(feeder);
        planned
    }

    /// What `forward` makes of a batch in inference, with the rows that `pull(place of the table, keys, out)` gives.
    ///
    /// All of it runs on the threads of rayon's pool, so that its many small parallel parts need not wake them one by one.
    ///
    /// # Errors
    /// The batch has other columns than the fields say, or those of `pull`.
    pub fn run(
        &self,
        params: &Params,
        batch: &Batch,
        pull: impl Fn(usize, &[u64], &mut [f32]) -> Result<(), Error> + Sync,
        forward: impl Fn(&Pass, &Inputs) -> Tensor + Sync,
    ) -> Result<Vec<f32>, Error> {
        rayon::scope(|_| self.run_planned(params, (batch, &self.plan(batch)?), &pull, &forward))
    }

    /// As [`Inference::run`], on this thread, for a batch that was planned before.
    ///
    /// # Errors
    /// As [`Inference::run`].
    pub fn run_planned(
        &self,
        params: &Params,
        (batch, planned): (&Batch, &Planned),
        pull: impl Fn(usize, &[u64], &mut [f32]) -> Result<(), Error> + Sync,
        forward: impl Fn(&Pass, &Inputs) -> Tensor,
    ) -> Result<Vec<f32>, Error> {
        let pass = Pass::new(params, Mode::Infer, 0);
        let inputs = planned.inputs(&pass, (&self.fields, batch), params.tables(), pull)?;
        Ok(forward(&pass, &inputs).to_vec())
    }
}
