//! A sample of prepared data.

use millstream_schema::encode::MISSING;
use millstream_schema::{Batch, BatchSource, Column, Rows};
use xxhash_rust::xxh3::xxh3_64;

use super::{Builder, Sample};
use crate::{Error, Prepared, SourceOptions, Split, Use};

/// Numbers of a dense field that become columns of their own.
const WIDEST: usize = 16;

/// A sample of the ranking rows of some parts, at most about `most` from each; rows after training are late. Columns
/// are the encoder's fields as models see them: keys as codes, dense fields as numbers (`name[1]`, … when there are
/// several, the first sixteen), and the rows' user and item. Times are those of the requests.
///
/// # Errors
/// Reading fails, there is no such task, or there is one class only.
pub fn of_prepared(prepared: &Prepared, task: usize, splits: &[Split], most: usize) -> Result<Sample, Error> {
    let name = prepared.tasks.get(task).ok_or_else(|| Error::config(format!("there is no task {task}")))?;
    let mut taker = Taker::new(prepared, task);
    let mut sample = Sample {
        source: format!("{} ({})", prepared.dir().display(), names(splits)),
        positive: format!("`{name}` above 0.5"),
        ..Sample::default()
    };
    for &split in splits {
        let rows = prepared.rows(split, Use::Rank);
        if rows == 0 {
            continue;
        }
        taker.stride = rows.div_ceil(most.max(1) as u64).max(1);
        let options = SourceOptions { batch_size: 8192, shuffle: None, skip_batches: 0 };
        let mut source = prepared.source(split, Use::Rank, options)?;
        while let Some(batch) = source.next_batch().map_err(Error::Schema)? {
            taker.take(&batch, split != Split::Train, &mut sample);
        }
        sample.rows_seen += rows;
    }
    // Data without times has the same one everywhere.
    if sample.time_ms.len() < sample.label.len() || sample.time_ms.windows(2).all(|w| w[0] == w[1]) {
        sample.time_ms.clear();
    }
    sample
        .lacks
        .push("times after the event: prepared columns are no longer told as times; look at the file".into());
    sample.columns = taker.builders.into_iter().flatten().map(Builder::finish).collect();
    sample.columns.retain(|c| c.distinct > 0);
    if !sample.late.contains(&true) || !sample.late.contains(&false) {
        sample.late.clear();
    }
    let some = sample.label.iter().filter(|y| **y).count();
    if some == 0 || some == sample.rows() {
        return Err(Error::config(format!("{}: task `{name}` has one class only", sample.source)));
    }
    Ok(sample)
}

fn names(splits: &[Split]) -> String {
    splits.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ")
}

struct Taker<'a> {
    prepared: &'a Prepared,
    task: usize,
    /// By field, then `user` and `item`: one builder, or one per number of a dense field.
    builders: Vec<Vec<Builder>>,
    stride: u64,
    seen: u64,
}

impl<'a> Taker<'a> {
    fn new(prepared: &'a Prepared, task: usize) -> Self {
        let fields = prepared.encoder.fields().iter().map(|field| match field.shape {
            millstream_schema::encode::Shape::Dense(width) if width > 1 => {
                (0..width.min(WIDEST)).map(|i| Builder::new(&format!("{}[{}]", field.name, i + 1))).collect()
            }
            _ => vec![Builder::new(&field.name)],
        });
        let ids = ["row's user", "row's item"].map(|name| vec![Builder::new(name)]);
        Self { prepared, task, builders: fields.chain(ids).collect(), stride: 1, seen: 0 }
    }

    fn take(&mut self, batch: &Batch, late: bool, sample: &mut Sample) {
        let fields = self.prepared.encoder.fields();
        for row in 0..batch.candidates() {
            self.seen += 1;
            if !self.seen.is_multiple_of(self.stride) {
                continue;
            }
            let label = batch.labels[row * batch.tasks + self.task];
            // Outside of the task's space.
            if label.is_nan() {
                continue;
            }
            sample.label.push(label > 0.5);
            sample.late.push(late);
            let request = batch.candidate_request[row] as usize;
            sample.time_ms.extend(batch.request_time_ms.get(request));
            for ((builders, column), field) in self.builders.iter_mut().zip(&batch.columns).zip(fields) {
                push(builders, column, if field.rows == Rows::Request { request } else { row });
            }
            let ids = [batch.group.get(row), batch.item.get(row)];
            for (builders, id) in self.builders[fields.len()..].iter_mut().zip(ids) {
                let id = id.filter(|id| **id != millstream_schema::ids::NO_ROW);
                builders[0].push(id.map(|id| (u64::from(*id), f64::NAN)));
            }
        }
    }
}

fn push(builders: &mut [Builder], column: &Column, row: usize) {
    match column {
        Column::Key(keys) => {
            builders[0].push((keys[row] != MISSING).then_some((keys[row], f64::NAN)));
        }
        Column::Keys { offsets, keys, .. } => {
            let keys = &keys[offsets[row] as usize..offsets[row + 1] as usize];
            let bytes: Vec<u8> = keys.iter().flat_map(|k| k.to_le_bytes()).collect();
            builders[0].push((!keys.is_empty()).then(|| (xxh3_64(&bytes), f64::NAN)));
        }
        Column::Dense { width, values } => {
            for (builder, x) in builders.iter_mut().zip(&values[row * width..(row + 1) * width]) {
                let x = f64::from(*x);
                builder.push(x.is_finite().then_some((x.to_bits(), x)));
            }
        }
    }
}
