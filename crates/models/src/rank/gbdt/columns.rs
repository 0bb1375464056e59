//! The numbers that splits compare, of a batch.

use millstream_nn::{FieldInput, Inputs};
use millstream_schema::{Batch, Column, Field, Rows, Shape as FieldShape};
use std::borrow::Cow;

use crate::{Error, ModelConfig};

/// Keys above this are not exact as f32.
const MOST_KEYS: u64 = 1 << 24;

/// Which fields are columns.
pub(super) struct Columns {
    parts: Vec<Part>,
    width: usize,
}

/// One field's columns.
struct Part {
    name: String,
    /// Place among the encoder's fields.
    field: usize,
    rows: Rows,
    /// First column and their number.
    at: usize,
    width: usize,
}

/// Rows with their labels, as plain numbers.
#[derive(Clone, Default)]
pub(super) struct Matrix {
    /// `[N, width]`, row-major.
    pub(super) values: Vec<f32>,
    pub(super) width: usize,
    /// `[T][N]`.
    pub(super) labels: Vec<Vec<f32>>,
    /// `[N]`, or empty when all are 1.
    pub(super) weights: Vec<f32>,
    /// Rows up to the end of each request.
    pub(super) ends: Vec<usize>,
}

impl Matrix {
    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// The rows in the space of a task: those whose label is a number. Labels of other tasks are left out where rows are.
    pub(super) fn in_space(&self, task: usize) -> Cow<'_, Self> {
        let inside: Vec<usize> = (0..self.rows()).filter(|row| !self.labels[task][*row].is_nan()).collect();
        if inside.len() == self.rows() {
            return Cow::Borrowed(self);
        }
        let mut labels = vec![Vec::new(); self.labels.len()];
        labels[task] = inside.iter().map(|row| self.labels[task][*row]).collect();
        let row = |row: &usize| self.values[row * self.width..][..self.width].iter().copied();
        // Requests of which no candidate is left end nowhere.
        let mut ends: Vec<usize> =
            self.ends.iter().map(|end| inside.partition_point(|row| row < end)).collect();
        ends.dedup();
        Cow::Owned(Self {
            values: inside.iter().flat_map(row).collect(),
            width: self.width,
            labels,
            weights: inside.iter().filter_map(|row| self.weights.get(*row).copied()).collect(),
            ends: ends.into_iter().filter(|end| *end > 0).collect(),
        })
    }
}

/// Columns that a field makes; none where it has no numbers to compare.
fn columns_of(field: &Field) -> Option<usize> {
    match field.shape {
        FieldShape::Dense(width) => Some(width),
        FieldShape::Key => field.size.is_some_and(|size| size <= MOST_KEYS).then_some(1),
        FieldShape::Keys => None,
    }
}

impl Columns {
    pub(super) fn new(cfg: &ModelConfig, fields: &[Field]) -> Result<Self, Error> {
        let (mut parts, mut width) = (Vec::new(), 0);
        for at in cfg.chosen(fields)? {
            let field = &fields[at];
            let Some(own) = columns_of(field) else {
                if cfg.fields.is_some() {
                    return Err(Error::Config(format!(
                        "model `{}`: field `{}` holds {}, which splits cannot compare; leave it out of `fields`",
                        cfg.name,
                        field.name,
                        if field.shape == FieldShape::Keys { "several keys" } else { "unbounded hashes" }
                    )));
                }
                continue;
            };
            parts.push(Part { name: field.name.clone(), field: at, rows: field.rows, at: width, width: own });
            width += own;
        }
        if width == 0 {
            return Err(Error::Config(format!(
                "model `{}`: no field holds numbers or the keys of a bounded space",
                cfg.name
            )));
        }
        Ok(Self { parts, width })
    }

    /// Number of columns.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// `field`, or `field[i]` for each number of a wider one.
    pub(super) fn names(&self) -> Vec<String> {
        let names = |part: &Part| -> Vec<String> {
            match part.width {
                1 => vec![part.name.clone()],
                width => (0..width).map(|i| format!("{}[{i}]", part.name)).collect(),
            }
        };
        self.parts.iter().flat_map(names).collect()
    }

    /// Rows `[N, width]` of what a model sees.
    pub(super) fn of_inputs(&self, x: &Inputs) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.candidates() * self.width];
        for part in &self.parts {
            match x.field(part.field) {
                FieldInput::Dense { values, .. } => {
                    self.put(&mut out, part, x.candidate_request(), |row, to| {
                        to.copy_from_slice(&values[row * part.width..][..part.width]);
                    });
                }
                FieldInput::Key(places) => {
                    let keys = x.unique_keys(part.field);
                    self.put(&mut out, part, x.candidate_request(), |row, to| {
                        to[0] = keys[places[row] as usize] as f32;
                    });
                }
                FieldInput::Keys(_) => {}
            }
        }
        out
    }

    fn put(&self, out: &mut [f32], part: &Part, requests: &[u32], write: impl Fn(usize, &mut [f32])) {
        let rows = out.chunks_exact_mut(self.width).zip(requests).enumerate();
        for (candidate, (row, &request)) in rows {
            let from = if part.rows == Rows::Request { request as usize } else { candidate };
            write(from, &mut row[part.at..part.at + part.width]);
        }
    }

    /// All rows of these batches.
    pub(super) fn of_batches(&self, batches: &[Batch], tasks: usize) -> Result<Matrix, Error> {
        let rows = batches.iter().map(Batch::candidates).sum::<usize>();
        let mut out = Matrix {
            values: Vec::with_capacity(rows * self.width),
            width: self.width,
            labels: vec![Vec::with_capacity(rows); tasks],
            ..Matrix::default()
        };
        for batch in batches {
            self.append(batch, tasks, &mut out)?;
        }
        Ok(out)
    }

    fn append(&self, batch: &Batch, tasks: usize, out: &mut Matrix) -> Result<(), Error> {
        let (before, n) = (out.rows(), batch.candidates());
        let other =
            || Error::Config("a batch was made by another encoder than the model was built for".into());
        if batch.tasks != tasks || !batch.candidate_request.is_sorted() {
            return Err(other());
        }
        out.values.resize((before + n) * self.width, f32::NAN);
        for part in &self.parts {
            let column = batch.columns.get(part.field).ok_or_else(other)?;
            let values = &mut out.values[before * self.width..];
            let requests = &batch.candidate_request;
            match column {
                Column::Dense { width, values: from } if *width == part.width => {
                    self.put(values, part, requests, |row, to| {
                        to.copy_from_slice(&from[row * part.width..][..part.width]);
                    });
                }
                Column::Key(keys) => self.put(values, part, requests, |row, to| to[0] = keys[row] as f32),
                _ => return Err(other()),
            }
        }
        for (task, labels) in out.labels.iter_mut().enumerate() {
            labels.extend(batch.labels.iter().skip(task).step_by(tasks));
        }
        if !batch.weights.is_empty() || !out.weights.is_empty() {
            out.weights.resize(before, 1.0);
            out.weights.extend_from_slice(&batch.weights);
            out.weights.resize(before + n, 1.0);
        }
        let last = |at: usize| at + 1 == n || batch.candidate_request[at] != batch.candidate_request[at + 1];
        out.ends.extend((0..n).filter(|&at| last(at)).map(|at| before + at + 1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_nn::{Lookup, Mode, Params, Pass};
    use millstream_schema::Pool;

    fn field(name: &str, rows: Rows, shape: FieldShape, size: Option<u64>) -> Field {
        let space = (!matches!(shape, FieldShape::Dense(_))).then(|| "s".to_owned());
        Field { name: name.into(), rows, shape, space, pool: Pool::Mean, size, weighted: false, feature: 0 }
    }

    fn fields() -> Vec<Field> {
        vec![
            field("user", Rows::Request, FieldShape::Key, Some(100)),
            field("tags", Rows::Candidate, FieldShape::Keys, Some(9)),
            field("numbers", Rows::Candidate, FieldShape::Dense(2), None),
            field("hash", Rows::Candidate, FieldShape::Key, None),
        ]
    }

    #[test]
    fn training_and_serving_see_the_same_rows() {
        let (fields, cfg) = (fields(), ModelConfig::named("gbdt"));
        let columns = Columns::new(&cfg, &fields).unwrap();
        assert_eq!(columns.names(), ["user", "numbers[0]", "numbers[1]"]);
        let batch = Batch {
            requests: 2,
            candidate_request: vec![0, 0, 1],
            columns: vec![
                Column::Key(vec![42, 7]),
                Column::Keys { offsets: vec![0, 1, 1, 2], keys: vec![3, 4], weights: None },
                Column::Dense { width: 2, values: vec![0.5, 1.5, 2.5, f32::NAN, 4.5, 5.5] },
                Column::Key(vec![u64::MAX, 1, 2]),
            ],
            labels: vec![1.0, 0.0, 1.0],
            tasks: 1,
            ..Batch::default()
        };
        let matrix = columns.of_batches(&[batch.clone(), batch.clone()], 1).unwrap();
        assert_eq!(matrix.ends, [2, 3, 5, 6]);
        assert_eq!(matrix.rows(), 6);
        let params = Params::new(1);
        let pass = Pass::new(&params, Mode::Infer, 0);
        let inputs =
            Inputs::new(&pass, &fields, &batch, Lookup::plan(&fields, &batch).unwrap(), vec![]).unwrap();
        let served = columns.of_inputs(&inputs);
        let same = |a: &f32, b: &f32| a == b || a.is_nan() && b.is_nan();
        assert!(served.iter().zip(&matrix.values).all(|(a, b)| same(a, b)), "{served:?}");
        assert_eq!(served[..3], [42.0, 0.5, 1.5]);
    }

    #[test]
    fn a_named_field_without_numbers_is_refused() {
        for (name, said) in [("tags", "several keys"), ("hash", "unbounded hashes")] {
            let cfg = ModelConfig { fields: Some(vec![name.into()]), ..ModelConfig::named("gbdt") };
            let message = Columns::new(&cfg, &fields()).err().unwrap().to_string();
            assert!(message.contains(said) && message.contains(name), "{message}");
        }
    }
}
