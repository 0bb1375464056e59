//! Candidates to task probabilities, through the same assembly as in training.

use millstream_schema::{Batch, Columns, Examples, History, ItemRow};

use crate::Error;
use crate::channel::Call;

/// Scores the candidates of a batch.
pub trait CandidateScorer: Send + Sync {
    /// Probabilities `[N, T]`, row-major.
    ///
    /// # Errors
    /// The batch was made by another encoder.
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, Error>;

    /// Task names, T of them.
    fn tasks(&self) -> &[String];
}

impl CandidateScorer for millstream_models::Scorer {
    fn score(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        Ok(millstream_models::Scorer::score(self, batch)?)
    }

    fn tasks(&self) -> &[String] {
        millstream_models::Scorer::tasks(self)
    }
}

/// Scores the candidates of several requests in one batch: `[N, T]` with N the sum of all lengths. The calls
/// must share one state of the catalogue.
///
/// # Errors
/// The scorer's, or it gave another number of scores than it was asked for.
pub fn score(scorer: &dyn CandidateScorer, calls: &[(&Call, &[ItemRow])]) -> Result<Vec<f32>, Error> {
    let Some((first, _)) = calls.first() else { return Ok(Vec::new()) };
    let examples = examples(calls)?;
    if examples.candidates() == 0 {
        return Ok(Vec::new());
    }
    let scores = scorer.score(&first.catalogue.assembler().batch(&examples)?)?;
    let wanted = examples.candidates() * scorer.tasks().len();
    if scores.len() != wanted {
        return Err(Error::Part(format!("the ranker gave {} scores where {wanted} were due", scores.len())));
    }
    Ok(scores)
}

/// The calls as examples without labels.
fn examples(calls: &[(&Call, &[ItemRow])]) -> Result<Examples, Error> {
    let total = calls.iter().map(|(_, items)| items.len()).sum();
    let mut x = Examples { history: History::default(), ..Examples::default() };
    let mut context = Columns::default();
    for (row, (call, items)) in calls.iter().enumerate() {
        x.request_user.push(call.request.user_row);
        x.request_time_ms.push(call.request.time_ms);
        x.history.push(call.request.history.iter().copied());
        if !call.context.fields.is_empty() {
            context.append(&call.context)?;
        }
        x.candidate_request.extend(std::iter::repeat_n(row as u32, items.len()));
        x.candidate_item.extend_from_slice(items);
    }
    x.context = context;
    if let Some((call, _)) = calls.first() {
        x.exposure = call.catalogue.assembler().encoder().exposure_defaults(total)?;
    }
    Ok(x)
}
