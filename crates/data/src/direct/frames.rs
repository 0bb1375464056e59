//! The careful road: frames of cells, the encoder and the assembler, as for prepared data.

use std::sync::Arc;

use millstream_schema::ids::NO_ROW;
use millstream_schema::{Assembler, BadValues, Columns, Examples, Frame, History, Side};

use super::{DirectRows, Made, group_number, policy};
use crate::Error;
use crate::prepare::{Labels, place_of, rows_of, some_fields};

/// Makes batches of frames.
pub(super) struct Framer<'a> {
    rows: &'a DirectRows,
    assembler: Assembler,
    strict: bool,
}

impl<'a> Framer<'a> {
    pub(super) fn new(rows: &'a DirectRows, strict: bool) -> Result<Self, Error> {
        let assembler = Assembler::new(Arc::clone(&rows.encoder), Columns::default(), Columns::default())?;
        Ok(Self { rows, assembler, strict })
    }

    /// # Errors
    /// A column that is missing, a label that is none, or with `strict` a bad value, with file and line.
    pub(super) fn frame(&self, frame: &Frame) -> Result<Made, Error> {
        let mut bad = BadValues::new(policy(self.strict));
        let labels = Labels::new(&self.rows.tasks, frame)?;
        let (mut kept, mut values) = (Vec::new(), Vec::new());
        for row in 0..frame.rows() {
            if labels.read(row, &mut values)? {
                kept.push(row as u32);
            }
        }
        let chosen = (kept.len() < frame.rows()).then(|| rows_of(frame, &kept));
        let frame_kept = chosen.as_ref().unwrap_or(frame);
        let mut batch = self.assembler.batch(&self.examples(frame_kept, values, &mut bad)?)?;
        if let Some(group) = &self.rows.group {
            let at = place_of(frame, group, "[dataset.table] group")?;
            batch.group = kept.iter().map(|&row| group_number(frame.get(row as usize, at))).collect();
        }
        Ok(Made { batch, bad, rows: frame.rows() as u64 })
    }

    /// One request with one candidate per row; all fields stand in the examples themselves.
    fn examples(&self, frame: &Frame, labels: Vec<f32>, bad: &mut BadValues) -> Result<Examples, Error> {
        let n = frame.rows();
        let encoder = &self.rows.encoder;
        Ok(Examples {
            request_user: vec![NO_ROW; n],
            request_time_ms: vec![0; n],
            history: History { offsets: vec![0; n + 1], ..History::default() },
            context: some_fields(encoder.encode(&[Side::User, Side::Context], frame, bad)?),
            candidate_request: (0..n as u32).collect(),
            candidate_item: Vec::new(),
            exposure: some_fields(encoder.encode(&[Side::Item, Side::Exposure], frame, bad)?),
            labels,
            tasks: self.rows.tasks.len(),
            weights: Vec::new(),
        })
    }
}
