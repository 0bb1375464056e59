//! What a vector channel asks its index with.

use std::sync::Arc;

use millstream_models::recall::factors::Factors;
use millstream_schema::{Examples, History};

use crate::Error;
use crate::channel::{Call, UserVectors};
pub use crate::channels::actions::Weighing;
use crate::vectors::ItemVectors;

/// A user's vectors in the space of an index.
pub trait Queries: Send + Sync {
    /// `[K, D]`, row-major: one vector per interest; empty where nothing is known of the user.
    ///
    /// # Errors
    /// The model cannot use the request.
    fn queries(&self, call: &Call) -> Result<Vec<f32>, Error>;

    /// D, above 0.
    fn dim(&self) -> usize;

    /// The same with actions weighed so; none where the model reads histories in a way of its own.
    fn weighed(&self, _: Weighing) -> Option<Arc<dyn Queries>> {
        None
    }
}

/// A user by what they did, as the request tells it: the history folded into the space of learned items (ALS, BPR, item2vec,
/// node2vec, spectral). Users who came after training have vectors, too; repeated actions on an item add up.
pub struct Folded {
    model: Arc<dyn Factors>,
    weighing: Weighing,
}

impl Folded {
    /// The whole history counts, each action 1.
    pub fn new(model: Arc<dyn Factors>) -> Self {
        Self { model, weighing: Weighing::even() }
    }
}

impl Queries for Folded {
    fn queries(&self, call: &Call) -> Result<Vec<f32>, Error> {
        let vector = self.model.user_vector(&self.weighing.distinct(&call.request));
        // Nothing of the history was known when the model was trained.
        Ok(if vector.iter().any(|x| *x != 0.0) { vector } else { Vec::new() })
    }

    fn dim(&self) -> usize {
        self.model.dim()
    }

    fn weighed(&self, weighing: Weighing) -> Option<Arc<dyn Queries>> {
        Some(Arc::new(Self { model: self.model.clone(), weighing }))
    }
}

/// The user side of a retriever, computed at each request.
pub struct Embedded(pub Arc<dyn UserVectors>);

impl Queries for Embedded {
    fn queries(&self, call: &Call) -> Result<Vec<f32>, Error> {
        self.0.users(&call.catalogue.assembler().batch(&asked(call)?)?)
    }

    fn dim(&self) -> usize {
        self.0.dim()
    }
}

/// The request without candidates: all that the user side reads.
fn asked(call: &Call) -> Result<Examples, Error> {
    let mut history = History::default();
    history.push(call.request.history.iter().copied());
    Ok(Examples {
        request_user: vec![call.request.user_row],
        request_time_ms: vec![call.request.time_ms],
        history,
        context: call.context.clone(),
        exposure: call.catalogue.assembler().encoder().exposure_defaults(0)?,
        ..Examples::default()
    })
}

/// The vector learned for each user, as matrix factorisation has them: by user row. A user who came later
/// has none.
pub struct PerUser(pub Arc<dyn ItemVectors>);

impl Queries for PerUser {
    fn queries(&self, call: &Call) -> Result<Vec<f32>, Error> {
        let mut vector = vec![0.0; self.0.dim()];
        Ok(if self.0.copy(call.request.user_row, &mut vector) { vector } else { Vec::new() })
    }

    fn dim(&self) -> usize {
        self.0.dim()
    }
}

/// The mean of the vectors of a user's latest actions' items, as item2vec and text vectors are used; the `j`-th
/// latest counts `decay`^j.
pub struct OfHistory {
    /// Vectors of items.
    pub vectors: Arc<dyn ItemVectors>,
    /// Latest actions that count.
    pub max_history: usize,
    /// In (0, 1].
    pub decay: f32,
}

impl Queries for OfHistory {
    fn queries(&self, call: &Call) -> Result<Vec<f32>, Error> {
        let dim = self.vectors.dim();
        let (mut sum, mut one) = (vec![0.0; dim], vec![0.0; dim]);
        let (mut weight, mut total) = (1.0f32, 0.0f32);
        for action in call.request.history.iter().rev().take(self.max_history) {
            if self.vectors.copy(action.item, &mut one) {
                sum.iter_mut().zip(&one).for_each(|(s, x)| *s += weight * x);
                total += weight;
            }
            weight *= self.decay;
        }
        sum.iter_mut().for_each(|s| *s /= total);
        Ok(if total > 0.0 { sum } else { Vec::new() })
    }

    fn dim(&self) -> usize {
        self.vectors.dim()
    }
}
