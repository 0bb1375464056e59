//! Vectors of many users or items from whatever gives vectors, in batches.

use millstream_schema::{Assembler, Batch, Examples, History, ids::NO_ROW};

use crate::{Embedder, Error};

/// Candidates or requests embedded at once.
const CHUNK: usize = 4096;
/// Actions of users embedded at once, about.
const ACTIONS: usize = 1 << 16;

/// Gives vectors of the users and items of a batch: an opened retriever, or one in training.
pub trait Embeds: Sync {
    /// User vectors `[R, K, D]`, row-major.
    ///
    /// # Errors
    /// The batch was made by another encoder.
    fn users(&self, batch: &Batch) -> Result<Vec<f32>, Error>;
    /// Item vectors `[N, D]`, row-major.
    ///
    /// # Errors
    /// The batch was made by another encoder.
    fn items(&self, batch: &Batch) -> Result<Vec<f32>, Error>;
    /// D.
    fn dim(&self) -> usize;
    /// K.
    fn interests(&self) -> usize;
}

impl Embeds for Embedder {
    fn users(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.users(batch)
    }

    fn items(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.items(batch)
    }

    fn dim(&self) -> usize {
        self.dim()
    }

    fn interests(&self) -> usize {
        self.interests()
    }
}

/// Vectors of the catalogue rows `items`: `[items.len(), D]`.
///
/// # Errors
/// The assembler's encoder is not the model's.
pub fn item_vectors(model: &dyn Embeds, assembler: &Assembler, items: &[u32]) -> Result<Vec<f32>, Error> {
    let mut out = Vec::with_capacity(items.len() * model.dim());
    for chunk in items.chunks(CHUNK) {
        let mut history = History::default();
        history.push([]);
        let x = Examples {
            request_user: vec![NO_ROW],
            request_time_ms: vec![0],
            history,
            candidate_request: vec![0; chunk.len()],
            candidate_item: chunk.to_vec(),
            context: assembler.encoder().context_defaults(1)?,
            exposure: assembler.encoder().exposure_defaults(chunk.len())?,
            ..Examples::default()
        };
        out.extend(model.items(&assembler.batch(&x)?)?);
    }
    Ok(out)
}

/// Vectors of users as they are at a time with a history: `[users.len(), K, D]`.
///
/// # Errors
/// The assembler's encoder is not the model's.
pub fn user_vectors(
    model: &dyn Embeds,
    assembler: &Assembler,
    (users, time_ms, history): (&[u32], &[i64], &History),
) -> Result<Vec<f32>, Error> {
    let mut out = Vec::with_capacity(users.len() * model.interests() * model.dim());
    let rows: Vec<u32> = (0..users.len() as u32).collect();
    // Users whose histories are long are taken fewer at a time.
    let actions = history.item.len() / users.len().max(1);
    for chunk in rows.chunks((ACTIONS / (actions + 1)).clamp(32, CHUNK)) {
        let x = Examples {
            request_user: chunk.iter().map(|&r| users[r as usize]).collect(),
            request_time_ms: chunk.iter().map(|&r| time_ms[r as usize]).collect(),
            history: history.gather(chunk),
            context: assembler.encoder().context_defaults(chunk.len())?,
            exposure: assembler.encoder().exposure_defaults(0)?,
            ..Examples::default()
        };
        out.extend(model.users(&assembler.batch(&x)?)?);
    }
    Ok(out)
}
