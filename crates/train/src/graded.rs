//! Measuring rankers whose labels are grades of relevance.

use millstream_schema::BatchSource;

use crate::metrics::{GradedNdcg, Scored, Ties};
use crate::run::Metrics;
use crate::{Error, Learner, eval};

/// Which tasks are graded, and the cut-offs of their NDCG.
#[derive(Debug, Clone, Copy)]
pub struct Grades<'a> {
    /// By task; a task beyond its end is not graded.
    pub tasks: &'a [bool],
    /// Cut-offs.
    pub k: &'a [usize],
}

/// What one task's scores are gathered in.
enum Sums {
    Plain(Box<Scored>),
    Graded(GradedNdcg),
}

/// As [`eval::ranker`], but for graded tasks `ndcg@K` over requests in place of what takes labels 0 and 1.
///
/// Gains are 2^grade − 1. As in LightGBM, equal scores stay in the order given, and a request without a grade above 0
/// counts 1.
///
/// # Errors
/// Reading or scoring fails.
pub fn ranker(
    learner: &Learner,
    source: &mut dyn BatchSource,
    grades: Grades<'_>,
    seen: &dyn Fn(u64),
) -> Result<Metrics, Error> {
    let tasks = learner.tasks().len();
    let graded = |t: usize| grades.tasks.get(t).copied().unwrap_or(false);
    if !(0..tasks).any(graded) {
        return eval::ranker(learner, source, seen);
    }
    let sums = |t| match graded(t) {
        true => Sums::Graded(GradedNdcg::new(grades.k, Ties::InOrder)),
        false => Sums::Plain(Box::new(Scored::of_logits())),
    };
    let mut sums: Vec<Sums> = (0..tasks).map(sums).collect();
    let mut rows = 0;
    while let Some(batch) = source.next_batch()? {
        let logits = learner.logits(&batch)?;
        for (t, sums) in sums.iter_mut().enumerate() {
            let of_task = |all: &[f32]| all.iter().skip(t).step_by(tasks).copied().collect::<Vec<f32>>();
            let (scores, labels) = (of_task(&logits), of_task(&batch.labels));
            match sums {
                Sums::Plain(scored) => scored.push(&scores, &labels, &batch.group, &batch.weights),
                Sums::Graded(ndcg) => {
                    // Candidates outside of the task's space are not in its list.
                    let inside = |n: &usize| !labels[*n].is_nan();
                    let rows: Vec<usize> = (0..labels.len()).filter(inside).collect();
                    let of = |from: &[f32]| rows.iter().map(|n| from[*n]).collect::<Vec<f32>>();
                    let requests: Vec<u32> = rows.iter().map(|n| batch.candidate_request[*n]).collect();
                    ndcg.add_groups(&of(&scores), &of(&labels), &requests);
                }
            }
        }
        rows += batch.candidates() as u64;
        seen(rows);
    }
    let values = sums.iter().map(|sums| match sums {
        Sums::Plain(scored) => scored.brief(),
        Sums::Graded(ndcg) => ndcg.counting_empty_as_one(),
    });
    Ok(eval::by_task(learner.tasks(), values))
}
