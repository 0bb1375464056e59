//! Encoded rows, columnar and ragged: what models and the store consume.

use serde::{Deserialize, Serialize};

use crate::Error;

/// One encoded field over some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Column {
    /// Exactly one embedding key per row: `[rows]`.
    Key(Vec<u64>),
    /// Any number of keys per row: row r owns `keys[offsets[r]..offsets[r + 1]]`.
    Keys {
        /// `[rows + 1]`, rising, from 0.
        offsets: Vec<u32>,
        /// All keys.
        keys: Vec<u64>,
        /// One weight per key, when weighted.
        weights: Option<Vec<f32>>,
    },
    /// `width` numbers per row: `[rows, width]`, row-major.
    Dense {
        /// Numbers per row.
        width: usize,
        /// All numbers.
        values: Vec<f32>,
    },
}

impl Column {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Key(keys) => keys.len(),
            Self::Keys { offsets, .. } => offsets.len().saturating_sub(1),
            Self::Dense { width, values } => values.len() / (*width).max(1),
        }
    }

    /// An empty column of the same shape.
    pub fn empty_like(&self) -> Self {
        match self {
            Self::Key(_) => Self::Key(Vec::new()),
            Self::Keys { weights, .. } => Self::Keys {
                offsets: vec![0],
                keys: Vec::new(),
                weights: weights.as_ref().map(|_| Vec::new()),
            },
            Self::Dense { width, .. } => Self::Dense { width: *width, values: Vec::new() },
        }
    }

    /// The rows named, in that order; a row may be named more than once.
    ///
    /// # Panics
    /// When a row is out of range: rows come from our own code, never from input.
    pub fn gather(&self, rows: &[u32]) -> Self {
        match self {
            Self::Key(keys) => Self::Key(rows.iter().map(|&r| keys[r as usize]).collect()),
            Self::Dense { width, values } => {
                let mut out = Vec::with_capacity(rows.len() * width);
                for &r in rows {
                    out.extend_from_slice(&values[r as usize * width..(r as usize + 1) * width]);
                }
                Self::Dense { width: *width, values: out }
            }
            Self::Keys { offsets, keys, weights } => {
                let span = |r: u32| offsets[r as usize] as usize..offsets[r as usize + 1] as usize;
                let total = rows.iter().map(|&r| span(r).len()).sum();
                let mut ends = Vec::with_capacity(rows.len() + 1);
                let mut out = Vec::with_capacity(total);
                let mut out_weights = weights.as_ref().map(|_| Vec::with_capacity(total));
                ends.push(0);
                for &r in rows {
                    out.extend_from_slice(&keys[span(r)]);
                    if let (Some(out), Some(weights)) = (&mut out_weights, weights) {
                        out.extend_from_slice(&weights[span(r)]);
                    }
                    ends.push(out.len() as u32);
                }
                Self::Keys { offsets: ends, keys: out, weights: out_weights }
            }
        }
    }

    /// Appends the rows of another column of the same shape.
    pub fn append(&mut self, other: &Self) -> Result<(), Error> {
        match (self, other) {
            (Self::Key(a), Self::Key(b)) => a.extend_from_slice(b),
            (Self::Dense { width: w, values: a }, Self::Dense { width: v, values: b }) if w == v => {
                a.extend_from_slice(b);
            }
            (Self::Keys { offsets, keys, weights }, Self::Keys { offsets: o, keys: k, weights: w })
                if weights.is_some() == w.is_some() =>
            {
                let base = keys.len() as u32;
                offsets.extend(o.iter().skip(1).map(|end| base + end));
                keys.extend_from_slice(k);
                if let (Some(a), Some(b)) = (weights, w) {
                    a.extend_from_slice(b);
                }
            }
            _ => return Err(Error::Corrupt("columns of different shapes cannot be joined".into())),
        }
        Ok(())
    }

    /// Checks the inner lengths; for columns read from outside.
    pub fn check(&self, rows: usize) -> Result<(), Error> {
        let sound = match self {
            Self::Key(keys) => keys.len() == rows,
            Self::Dense { width, values } => *width > 0 && Some(values.len()) == rows.checked_mul(*width),
            Self::Keys { offsets, keys, weights } => {
                Some(offsets.len()) == rows.checked_add(1)
                    && offsets.first() == Some(&0)
                    && offsets.is_sorted()
                    && offsets.last().is_some_and(|&end| end as usize == keys.len())
                    && weights.as_ref().is_none_or(|w| w.len() == keys.len())
            }
        };
        if sound { Ok(()) } else { Err(Error::Corrupt(format!("a column does not hold {rows} rows"))) }
    }
}

/// Encoded fields of some rows of one or more sides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// Number of rows of each column.
    pub rows: usize,
    /// For each column, its place in `Encoder::fields`.
    pub fields: Vec<u32>,
    /// The columns.
    pub columns: Vec<Column>,
}

impl Columns {
    /// The column of this field.
    pub fn get(&self, field: u32) -> Option<&Column> {
        self.fields.iter().position(|&f| f == field).map(|i| &self.columns[i])
    }

    /// The rows named, of every column.
    pub fn gather(&self, rows: &[u32]) -> Self {
        Self {
            rows: rows.len(),
            fields: self.fields.clone(),
            columns: self.columns.iter().map(|c| c.gather(rows)).collect(),
        }
    }

    /// Appends rows with the same fields; anything can be appended to no columns at all.
    pub fn append(&mut self, other: &Self) -> Result<(), Error> {
        if self.fields.is_empty() && self.rows == 0 {
            *self = other.clone();
            return Ok(());
        }
        if self.fields != other.fields {
            return Err(Error::Corrupt("columns of different fields cannot be joined".into()));
        }
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            mine.append(theirs)?;
        }
        self.rows += other.rows;
        Ok(())
    }

    /// Checks all inner lengths; for columns read from outside.
    pub fn check(&self) -> Result<(), Error> {
        if self.fields.len() != self.columns.len() {
            return Err(Error::Corrupt("a column has no field".into()));
        }
        self.columns.iter().try_for_each(|c| c.check(self.rows))
    }
}

/// R requests with N candidates, encoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// R.
    pub requests: usize,
    /// `[R]` epoch milliseconds, or empty where it is not known when requests were made.
    pub request_time_ms: Vec<i64>,
    /// `[N]`: the request of each candidate.
    pub candidate_request: Vec<u32>,
    /// One column per field of the encoder: R rows for request fields, N for candidate fields.
    pub columns: Vec<Column>,
    /// `[N, T]`, row-major.
    pub labels: Vec<f32>,
    /// T.
    pub tasks: usize,
    /// `[N]`, or empty when all are 1.
    pub weights: Vec<f32>,
    /// `[N]`: the user each candidate belongs to, for metrics by user.
    pub group: Vec<u32>,
    /// `[N]` catalogue rows, or empty where there is no catalogue.
    pub item: Vec<u32>,
}

impl Batch {
    /// N.
    pub fn candidates(&self) -> usize {
        self.candidate_request.len()
    }
}

/// Where batches come from; file and stream look alike to the trainer.
pub trait BatchSource: Send {
    /// The next batch; `None` at the end of the data.
    ///
    /// # Errors
    /// What reading or assembling the next rows runs into.
    fn next_batch(&mut self) -> Result<Option<Batch>, Error>;
}
