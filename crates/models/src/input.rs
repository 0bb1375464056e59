//! From a batch to what a model sees: plan the unique keys, pull their rows, lay them on the tape.

use millstream_nn::{Inputs, Lookup, Pass, Planner, TableSpec};
use millstream_schema::{Batch, Field};

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

    /// Pulls each table's rows with `pull(place of the table, keys, out)` and lays them on the tape.
    ///
    /// # Errors
    /// Those of `pull`.
    pub fn inputs(
        &self,
        pass: &Pass,
        (fields, batch): (&[Field], &Batch),
        tables: &[TableSpec],
        pull: impl Fn(usize, &[u64], &mut [f32]) -> Result<(), Error>,
    ) -> Result<Inputs, Error> {
        let mut rows = Vec::with_capacity(tables.len());
        for (at, table) in tables.iter().enumerate() {
            let keys = self.keys(table);
            let mut out = vec![0.0; keys.len() * table.dim];
            pull(at, keys, &mut out)?;
            rows.push(out);
        }
        Ok(Inputs::new(pass, fields, batch, self.lookup.clone(), rows)?)
    }
}
