//! Models ready to answer: dense weights, rows and the network, and nothing that trains.

use millstream_nn::{Inputs, Params, Pass, Precision, Tensor};
use millstream_schema::{Batch, Encoder, Field, Side};
use millstream_store::TableId;
use std::path::Path;

use crate::input::Inference;
use crate::ranker::Shape;
use crate::snapshot::{Role, Saved, StillRows};
use crate::{Error, Ranker, Retriever, ranker, retriever};

/// Dense weights, rows and fields of one model.
struct Body {
    params: Params,
    rows: StillRows,
    tables: Vec<TableId>,
    inference: Inference,
}

/// A ranker ready to score.
pub struct Scorer {
    body: Body,
    model: Box<dyn Ranker>,
    tasks: Vec<String>,
    /// Undoes the sampling of training negatives.
    shift: f32,
}

/// A retriever ready to embed users and items.
pub struct Embedder {
    body: Body,
    model: Box<dyn Retriever>,
}

/// For each field of an encoder, whose property it is.
pub fn sides(encoder: &Encoder) -> Vec<Side> {
    encoder.fields().iter().map(|f| encoder.schema().features[f.feature].side).collect()
}

impl Scorer {
    /// Opens a saved ranker for this encoder.
    ///
    /// # Errors
    /// The file is missing or damaged, holds another kind of model, or was trained on other features.
    pub fn open(path: &Path, encoder: &Encoder) -> Result<Self, Error> {
        let mut saved = Saved::open_for(path, Role::Ranker, encoder.fields())?;
        let (tasks, shift) = (saved.header.tasks.clone(), saved.header.logit_shift());
        let mut params = Params::with_weights(saved.header.seed, saved.weights()?)?;
        let shape = Shape { fields: encoder.fields(), sides: &sides(encoder), tasks: tasks.len() };
        let model = ranker::build(&saved.header.model, &shape, &mut params)?;
        Ok(Self { body: Body::new(encoder.fields(), params, saved.still_rows()?)?, model, tasks, shift })
    }

    /// The same scorer multiplying by the ranker's weights in this precision; [`Precision::F32`] unless chosen otherwise.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.body.params.set_precision(precision);
        self
    }

    /// Task names, T of them.
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// How much loss the splits on each column saved in all, by name; `None` for a model without splits.
    pub fn gain_importance(&self) -> Option<Vec<(String, f64)>> {
        self.model.gain_importance(&self.body.params)
    }

    /// Probabilities `[N, T]`, row-major. Logits are squashed here and nowhere else.
    ///
    /// # Errors
    /// The batch was made by another encoder.
    pub fn score(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let logits = self.body.infer(batch, |pass, x| self.model.forward(pass, x))?;
        Ok(logits.into_iter().map(|z| 1.0 / (1.0 + (-(z + self.shift)).exp())).collect())
    }
}

impl Embedder {
    /// Opens a saved retriever for this encoder.
    ///
    /// # Errors
    /// The file is missing or damaged, holds another kind of model, or was trained on other features.
    pub fn open(path: &Path, encoder: &Encoder) -> Result<Self, Error> {
        let mut saved = Saved::open_for(path, Role::Retriever, encoder.fields())?;
        let mut params = Params::with_weights(saved.header.seed, saved.weights()?)?;
        let shape =
            Shape { fields: encoder.fields(), sides: &sides(encoder), tasks: saved.header.tasks.len() };
        let model = retriever::build(&saved.header.model, &shape, &mut params)?;
        Ok(Self { body: Body::new(encoder.fields(), params, saved.still_rows()?)?, model })
    }

    /// D.
    pub fn dim(&self) -> usize {
        self.model.dim()
    }

    /// K: vectors per user.
    pub fn interests(&self) -> usize {
        self.model.interests()
    }

    /// User vectors `[R, K, D]`, row-major.
    ///
    /// # Errors
    /// The batch was made by another encoder.
    pub fn users(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.body.infer(batch, |pass, x| self.model.users(pass, x))
    }

    /// Item vectors `[N, D]`, row-major.
    ///
    /// # Errors
    /// The batch was made by another encoder.
    pub fn items(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        self.body.infer(batch, |pass, x| self.model.items(pass, x))
    }
}

impl Body {
    fn new(fields: &[Field], params: Params, rows: StillRows) -> Result<Self, Error> {
        let missing = params.missing_from_saved();
        if let Some(name) = missing.first() {
            return Err(Error::Corrupt(format!("a saved model lacks its weight `{name}`")));
        }
        let tables = params.tables().iter().map(|t| rows.table(&t.name)).collect::<Result<_, _>>()?;
        Ok(Self { params, rows, tables, inference: Inference::new(fields.into()) })
    }

    fn infer(
        &self,
        batch: &Batch,
        forward: impl Fn(&Pass, &Inputs) -> Tensor + Sync,
    ) -> Result<Vec<f32>, Error> {
        let pull = |at: usize, keys: &[u64], out: &mut [f32]| self.rows.pull(self.tables[at], keys, out);
        self.inference.run(&self.params, batch, pull, forward)
    }
}
