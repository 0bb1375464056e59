//! One batch as models see it.

use crate::error::{Error, Result};
use crate::lookup::{Lookup, Places, SpaceKeys};
use crate::ops::Bags;
use crate::ops::split::Split;
use crate::params::TableId;
use crate::pass::Pass;
use crate::tensor::Tensor;
use millstream_schema::{Batch, Column, Field};
use std::rc::Rc;
use std::sync::Arc;

/// Candidates per request from which it pays to meet the request's columns of a weight once per request.
const SPLIT_FROM: usize = 4;

/// Milliseconds.
const DAY_MS: f32 = 86_400_000.0;

/// One encoded field of a batch.
#[derive(Debug, Clone)]
pub enum FieldInput {
    /// One row of the field's tables per request or candidate.
    Key(Arc<Vec<u32>>),
    /// A bag of rows of the field's tables per request or candidate.
    Keys(Bags),
    /// Numbers `[rows, width]`.
    Dense {
        /// Numbers per row.
        width: usize,
        /// All numbers, row-major.
        values: Arc<Vec<f32>>,
    },
}

/// R requests with N candidates, their fields as places in tables, and the tables' rows for this batch.
#[derive(Debug, Clone)]
pub struct Inputs {
    requests: usize,
    candidates: usize,
    candidate_request: Arc<Vec<u32>>,
    ages: Vec<f32>,
    one_each: bool,
    fields: Vec<FieldInput>,
    /// Distinct keys by space, and the place of each field's space among them.
    spaces: Arc<Vec<SpaceKeys>>,
    space_of: Vec<Option<usize>>,
    rows: Vec<Tensor>,
}

impl Inputs {
    /// Joins a batch, the places of its keys, and for each table of the pass the rows `[U, D]` of the unique keys of
    /// its space, in the order of [`crate::SpaceKeys::unique`].
    ///
    /// # Errors
    /// Rows of another number than a table needs, or a lookup of another batch.
    pub fn new(
        pass: &Pass,
        fields: &[Field],
        batch: &Batch,
        lookup: Lookup,
        rows: Vec<Vec<f32>>,
    ) -> Result<Self> {
        if lookup.fields.len() != fields.len() || batch.columns.len() != fields.len() {
            return Err(Error::Batch("a batch, its lookup and the encoder's fields differ in number".into()));
        }
        let rows = table_rows(pass, &lookup, rows)?;
        let spaces = lookup.spaces;
        let place = |field: &Field| spaces.iter().position(|s| Some(&s.space) == field.space.as_ref());
        let space_of = fields.iter().map(place).collect();
        let pairs = lookup.fields.into_iter().zip(&batch.columns).zip(fields);
        let inputs =
            pairs.map(|((place, column), field)| input(place, column, field)).collect::<Result<_>>()?;
        let candidate_request = batch.candidate_request.clone();
        let one_each = candidate_request.len() == batch.requests
            && candidate_request.iter().enumerate().all(|(n, r)| n == *r as usize);
        Ok(Self {
            requests: batch.requests,
            candidates: candidate_request.len(),
            candidate_request: Arc::new(candidate_request),
            ages: Vec::new(),
            one_each,
            fields: inputs,
            spaces,
            space_of,
            rows,
        })
    }

    /// R.
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// N.
    pub fn candidates(&self) -> usize {
        self.candidates
    }

    /// `[N]`: the request of each candidate.
    pub fn candidate_request(&self) -> &Arc<Vec<u32>> {
        &self.candidate_request
    }

    /// The same with the times of its requests, told from the newest that training knows of.
    #[must_use]
    pub fn aged(self, newest_ms: i64, request_time_ms: &[i64]) -> Self {
        let days = |&time: &i64| newest_ms.saturating_sub(time).max(0) as f32 / DAY_MS;
        Self { ages: request_time_ms.iter().map(days).collect(), ..self }
    }

    /// `[R]` days by which each request of training is older than the newest; empty where all is of now, as in inference.
    pub fn ages(&self) -> &[f32] {
        &self.ages
    }

    /// Whether candidate n is the only one of request n, for all n.
    pub fn one_candidate_each(&self) -> bool {
        self.one_each
    }

    /// A field by its place in the encoder's fields.
    pub fn field(&self, field: usize) -> &FieldInput {
        &self.fields[field]
    }

    /// The distinct keys `[U]` of a field's space in this batch: what its places stand for; none for numbers.
    pub fn unique_keys(&self, field: usize) -> &[u64] {
        self.space_of[field].map_or(&[], |at| &self.spaces[at].unique)
    }

    /// The rows `[U, D]` of a table for this batch.
    pub fn rows(&self, table: TableId) -> &Tensor {
        &self.rows[table.index()]
    }

    /// `[R, ..]` → `[N, ..]`: each candidate gets its request's row.
    ///
    /// In inference, with many candidates for a request, what such rows are multiplied by meets them once per request.
    pub fn expand(&self, per_request: &Tensor) -> Tensor {
        if self.one_each {
            return per_request.clone();
        }
        let rows = per_request.gather(&self.candidate_request);
        let split = (self.splits() && !rows.tracked() && rows.shape().len() == 2)
            .then(|| Rc::new(Split::of_requests(per_request, &self.candidate_request)));
        Tensor { split, ..rows }
    }

    /// Whether there are so many candidates that it pays to meet the request's columns of a weight once per request.
    pub(crate) fn splits(&self) -> bool {
        self.candidates > 0 && self.candidates >= SPLIT_FROM * self.requests
    }
}

fn table_rows(pass: &Pass, lookup: &Lookup, rows: Vec<Vec<f32>>) -> Result<Vec<Tensor>> {
    let tables = pass.tables();
    if tables.len() != rows.len() {
        let text =
            format!("rows of {} embedding tables are given, but the model has {}", rows.len(), tables.len());
        return Err(Error::Batch(text));
    }
    let make = |(i, rows): (usize, Vec<f32>)| {
        let (table, unique) = (&tables[i], lookup.unique(&tables[i].space).len());
        if rows.len() != unique * table.dim {
            return Err(Error::Batch(format!(
                "embedding table `{}` needs {unique} rows of {}, but {} values are given",
                table.name,
                table.dim,
                rows.len()
            )));
        }
        Ok(pass.table_rows(TableId(i), table.dim, rows))
    };
    rows.into_iter().enumerate().map(make).collect()
}

fn input(place: Places, column: &Column, field: &Field) -> Result<FieldInput> {
    match (place, column) {
        (Places::One(index), Column::Key(_)) => Ok(FieldInput::Key(index)),
        (Places::Many(bags), Column::Keys { .. }) => Ok(FieldInput::Keys(bags)),
        (Places::None, Column::Dense { width, values }) => {
            Ok(FieldInput::Dense { width: *width, values: Arc::new(values.clone()) })
        }
        _ => Err(Error::Batch(format!("column `{}` is of another kind than its lookup", field.name))),
    }
}
