//! Rankers that learn from all rows at once, such as trees, instead of by steps.

use millstream_models::ranker::{Fit, FitData, Shape};
use millstream_models::{ModelConfig, RANKERS, serving};
use millstream_schema::{Batch, BatchSource};
use std::time::Instant;

use crate::run::{Evaluation, Outcome, Progress, RunState};
use crate::{BEST, Error, LATEST, Learner, Run, Setting, checkpoint};

/// How a model is fitted on all rows at once; `None` for one that learns by steps.
pub fn fit_of(model: &ModelConfig) -> Option<Fit> {
    RANKERS.iter().find(|def| def.name == model.name)?.fit
}

impl Run<'_> {
    /// Fits a model that learns from all rows at once: [`Run::open`] is read once, and `valid`, where there is one,
    /// decides how long to learn. All rows are in memory meanwhile. The result is saved as a run's is.
    ///
    /// # Errors
    /// The model learns by steps; reading, fitting or saving fails.
    pub fn fit(
        &self,
        setting: &Setting<'_>,
        learner: &mut Learner,
        valid: Option<Box<dyn BatchSource>>,
    ) -> Result<Outcome, Error> {
        let fit = fit_of(setting.model).ok_or_else(|| {
            Error::Config(format!(
                "model `{}` learns by steps, not from all rows at once",
                setting.model.name
            ))
        })?;
        let start = Instant::now();
        let mut train = all(Some((self.open)(0, 0)?))?;
        let valid = all(valid)?;
        let rows: u64 = train.iter().map(|b| b.candidates() as u64).sum();
        let sides = serving::sides(setting.encoder);
        let shape = Shape { fields: setting.encoder.fields(), sides: &sides, tasks: setting.tasks.len() };
        let progress = |round, loss| {
            let seconds = start.elapsed().as_secs_f64();
            (self.progress)(&Progress { step: round, rows, seconds, loss, ..Progress::default() });
        };
        let seed = self.config.seed;
        let data = FitData { train: &train, valid: &valid, again: false, seed, progress: &progress };
        let fitted = fit(setting.model, &shape, &data, &mut learner.params)?;
        learner.steps = fitted.rounds;
        let mut train_seconds = start.elapsed().as_secs_f64();

        // What is measured here has not learned from the validation rows yet.
        let evaluating = Instant::now();
        let evaluation = match self.evaluate {
            Some(evaluate) => {
                let metrics = evaluate(learner)?;
                Some(Evaluation { epoch: 0, step: fitted.rounds, loss: fitted.loss, metrics })
            }
            None => None,
        };
        let evaluate_seconds = evaluating.elapsed().as_secs_f64();
        if fitted.again {
            let start = Instant::now();
            train.extend(valid);
            let data = FitData { train: &train, valid: &[], again: true, seed, progress: &progress };
            fit(setting.model, &shape, &data, &mut learner.params)?;
            train_seconds += start.elapsed().as_secs_f64();
        }
        let state = RunState {
            rate: 1.0,
            evaluations: evaluation.iter().cloned().collect(),
            finished: true,
            config: Some(self.config.clone()),
            ..RunState::default()
        };
        checkpoint::save(&self.dir.join(BEST), learner, &state)?;
        checkpoint::save(&self.dir.join(LATEST), learner, &state)?;
        Ok(Outcome {
            evaluations: state.evaluations,
            best: evaluation,
            rows,
            train_seconds,
            evaluate_seconds,
        })
    }
}

fn all(source: Option<Box<dyn BatchSource>>) -> Result<Vec<Batch>, Error> {
    let mut batches = Vec::new();
    let Some(mut source) = source else { return Ok(batches) };
    while let Some(batch) = source.next_batch()? {
        batches.push(batch);
    }
    Ok(batches)
}
