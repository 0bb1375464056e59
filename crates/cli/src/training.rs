//! Training one model on a prepared directory, with a bar; shared by `train`, `recipe run` and `quickstart`.

use millstream_data::{EvalUsers, PassedOverLog, Prepared, SourceOptions, Split, Use};
use millstream_models::ModelConfig;
use millstream_models::snapshot::Role;
use millstream_schema::BatchSource;
use millstream_train::config::check_keys;
use millstream_train::fit::fit_of;
use millstream_train::named::{Measured, cuts};
use millstream_train::negatives::Negatives;
use millstream_train::positives::{EachPositive, Past, PositivesOptions};
use millstream_train::record::{RECORD, RunRecord};
use millstream_train::sampler::Sampler;
use millstream_train::whole::{self, WholeOptions, WholeSequences};
use millstream_train::{
    BEST, LATEST, Learner, Metrics, Outcome, Progress, Run, Sampling, Setting, TrainConfig, checkpoint,
    learns_graph, learns_whole, role_of,
};
use std::path::Path;
use std::sync::Arc;

use crate::progress::Bar;
use crate::{Failure, Global, measure};

/// A trained model: the best state by validation.
pub struct Trained {
    /// The model.
    pub learner: Learner,
    /// How the run went.
    pub outcome: Outcome,
}

/// One training job.
pub struct Job<'a> {
    /// The data.
    pub prepared: &'a Prepared,
    /// The model.
    pub model: &'a ModelConfig,
    /// Hyperparameters.
    pub training: &'a TrainConfig,
    /// Cut-offs that lists and grades are validated at; the monitored metric's own comes to them.
    pub k: &'a [usize],
    /// Directory of the checkpoints; made if absent.
    pub dir: &'a Path,
    /// Go on from the latest checkpoint, if there is one.
    pub resume: bool,
    /// A saved model to begin with.
    pub from: Option<&'a Path>,
}

impl Job<'_> {
    /// Trains to the end and opens the best state.
    pub fn run(&self, global: &Global) -> Result<Trained, Failure> {
        let role = role_of(&self.model.name)?;
        if self.from.is_some() && fit_of(self.model).is_some() {
            let name = &self.model.name;
            return Err(
                format!("model `{name}` is fitted as a whole; it cannot begin with a saved model").into()
            );
        }
        check_keys(self.model, self.training.changed().iter().map(String::as_str))?;
        let judge = self.judge(role)?;
        let training = &self.scheduled(role)?;
        let setting = Setting {
            encoder: &self.prepared.encoder,
            tasks: &self.prepared.tasks,
            model: self.model,
            training,
            sampling: match role {
                Role::Ranker => None,
                Role::Retriever => Some(Arc::new(sampling(self.prepared, (self.model, self.training))?)),
            },
        };
        self.check_history(role)?;
        let latest = self.dir.join(LATEST);
        let (mut learner, state) = if self.resume && latest.exists() {
            let (learner, state) = checkpoint::load(&latest, &setting)?;
            (learner, Some(state))
        } else {
            (checkpoint::fresh(&setting, self.from)?, None)
        };
        if learner.learns_graph() {
            learner.set_graph(&self.prepared.assembler, &self.prepared.interactions(Split::Train)?)?;
        }
        if learner.learns_ages() {
            let newest = self.prepared.interactions(Split::Train)?.time_ms.into_iter().max();
            learner.set_newest(newest.unwrap_or(0));
        }
        learner.set_negatives_kept(self.prepared.negatives_kept());
        // Not before: a run that cannot begin leaves nothing behind.
        let made = !self.dir.exists();
        std::fs::create_dir_all(self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        let rows = self.prepared.rows(Split::Train, use_of(role));
        let bar = Bar::new(
            &format!("train {}", self.model.name),
            rows * u64::from(self.training.epochs),
            "rows",
            global.quiet,
        );
        let progress = |p: &Progress| {
            match fit_of(self.model) {
                Some(_) => bar.note(format!("round {} loss {:.4}", p.step, p.loss)),
                None => bar.note(format!("epoch {} loss {:.4}", p.epoch + 1, p.loss)),
            }
            bar.at(u64::from(p.epoch) * rows + p.epoch_rows);
        };
        let validated = self.validates(role);
        let evaluate = |learner: &Learner| {
            let metrics = judge.metrics(self.prepared, learner)?;
            let key = training.monitored(&metrics);
            match metrics.get(key) {
                Some(value) => bar.line(format!("step {}: valid {key} {value:.5}", learner.steps())),
                // Trees choose their number by a measure of their own.
                None if fit_of(self.model).is_some() => {}
                None => {
                    let why = judge.measured(self.prepared).why_missing(key, "the validation part");
                    let asked = if training.monitor.is_some() { "training.monitor: " } else { "" };
                    let told = format!("{asked}`{key}` has no value: {why}");
                    return Err(millstream_train::Error::Config(told));
                }
            }
            Ok(metrics)
        };
        let open = |epoch, skip| self.open(&setting, role, epoch, skip);
        let run = Run {
            config: training,
            open: &open,
            evaluate: validated.then_some(&evaluate),
            dir: self.dir,
            progress: &progress,
        };
        let outcome = match (fit_of(self.model), state) {
            (Some(_), None) => run.fit(&setting, &mut learner, self.valid_rows(validated)?),
            (_, state) => run.train(&mut learner, state),
        };
        let outcome = outcome.inspect_err(|_| {
            // Only an empty folder can be removed so: a run that never came to a checkpoint leaves nothing.
            let _ = made.then(|| std::fs::remove_dir(self.dir));
        })?;
        bar.done(summary(&outcome));
        // A run that had ended before has its record, and what was measured since.
        if outcome.rows > 0 || !self.dir.join(RECORD).exists() {
            RunRecord::new(self.model, training, &self.prepared.tasks, self.prepared.dir())
                .with_outcome(&outcome)
                .save(self.dir)?;
        }
        let (learner, _) = checkpoint::load(&self.dir.join(BEST), &setting)?;
        Ok(Trained { learner, outcome })
    }

    /// The hyperparameters of a run that ends after so many epochs, and until then is as the whole one.
    pub fn ended_after(&self, epochs: u32) -> Result<TrainConfig, Failure> {
        Ok(TrainConfig { epochs, ..self.scheduled(role_of(&self.model.name)?)? })
    }

    /// The hyperparameters, with the length of the run for a schedule that needs it.
    fn scheduled(&self, role: Role) -> Result<TrainConfig, Failure> {
        let rows = match (learns_whole(&self.model.name), role == Role::Retriever && self.prepared.is_whole())
        {
            (true, _) => whole::learnable(&self.prepared.interactions(Split::Train)?).len() as u64,
            (_, true) => self.prepared.interactions(Split::Train)?.items.len() as u64,
            _ => self.prepared.rows(Split::Train, use_of(role)),
        };
        let steps = rows.div_ceil(self.training.batch_size.max(1) as u64) * u64::from(self.training.epochs);
        let schedule = self.training.schedule.map(|s| s.or_total(steps));
        Ok(TrainConfig { schedule, ..self.training.clone() })
    }

    /// Whether there is something to validate on.
    fn validates(&self, role: Role) -> bool {
        self.prepared.part(Split::Valid, use_of(role)).candidates > 0
    }

    /// What judges each epoch. Where nothing would come of it that is found before there is an epoch.
    fn judge(&self, role: Role) -> Result<Judge, Failure> {
        let (prepared, training) = (self.prepared, self.training);
        let k = cuts(self.k, training.monitor.as_deref());
        let users = match role {
            Role::Retriever if self.validates(role) => {
                Some(prepared.eval_users(Split::Valid, training.validation_users, training.seed)?)
            }
            _ => None,
        };
        let judge = Judge { role, k, graded: prepared.graded(), users };
        if let Some(key) = &training.monitor {
            judge.measured(prepared).check(key).map_err(|e| format!("training.monitor: {e}"))?;
        }
        if judge.users.as_ref().is_some_and(|users| users.users.is_empty()) {
            let why = judge.measured(prepared).why_missing("ndcg", "the validation part");
            return Err(format!("no epoch can be judged: {why}; or leave the validation part out").into());
        }
        Ok(judge)
    }

    fn open(
        &self,
        setting: &Setting<'_>,
        role: Role,
        epoch: u32,
        skip: u64,
    ) -> Result<Box<dyn BatchSource>, millstream_train::Error> {
        let seed = self.training.seed.wrapping_add(u64::from(epoch) * 0x9E37_79B9);
        let options =
            SourceOptions { batch_size: self.training.batch_size, shuffle: Some(seed), skip_batches: skip };
        if let Some(sampling) = setting.sampling.as_ref().filter(|_| learns_whole(&self.model.name)) {
            return self.whole(sampling, (seed, skip));
        }
        if let Some(sampling) = setting.sampling.as_ref().filter(|_| self.prepared.is_whole()) {
            return self.positives(sampling, (seed, skip));
        }
        let source = match &setting.sampling {
            None => self.prepared.source(Split::Train, Use::Rank, options)?,
            Some(sampling) => {
                let extra = self.training.negatives;
                let negatives = Negatives::new(setting.encoder, sampling.clone(), extra, seed)?;
                let edit =
                    Box::new(move |x: &mut millstream_schema::Examples, batch: u64| negatives.add(x, batch));
                self.prepared.source_with(Split::Train, use_of(role), options, edit)?
            }
        };
        Ok(Box::new(source) as Box<dyn BatchSource>)
    }

    /// `history = "others"` is for positives that are cut from whole sequences.
    fn check_history(&self, role: Role) -> Result<(), Failure> {
        let cut = role == Role::Retriever && self.prepared.is_whole() && !learns_whole(&self.model.name);
        match self.training.history == Past::Others && !cut {
            true => Err("training.history = \"others\" is for retrievers of single positives over data prepared with \
                         [examples] whole = true"
                .into()),
            false => Ok(()),
        }
    }

    /// The training positives, each for itself.
    fn positives(
        &self,
        sampling: &Arc<Sampling>,
        (seed, skip_batches): (u64, u64),
    ) -> Result<Box<dyn BatchSource>, millstream_train::Error> {
        let options = PositivesOptions {
            batch_size: self.training.batch_size,
            past: (!learns_graph(&self.model.name)).then_some(self.training.history),
            longest: self.prepared.max_history(),
            negatives: self.training.negatives,
            seed,
            skip_batches,
        };
        let actions = Arc::new(self.prepared.interactions(Split::Train)?);
        let tasks = self.prepared.tasks.len();
        let assembler = self.prepared.assembler.clone();
        Ok(Box::new(EachPositive::new(actions, assembler, sampling.clone(), (options, tasks))?))
    }

    /// The training sequences, each whole.
    fn whole(
        &self,
        sampling: &Arc<Sampling>,
        (seed, skip_batches): (u64, u64),
    ) -> Result<Box<dyn BatchSource>, millstream_train::Error> {
        let options = WholeOptions {
            batch_size: self.training.batch_size,
            longest: self.prepared.max_history(),
            negatives: self.training.negatives,
            scope: self.training.negatives_for,
            seed,
            skip_batches,
        };
        let sequences = Arc::new(self.prepared.interactions(Split::Train)?);
        let tasks = self.prepared.tasks.len();
        let assembler = self.prepared.assembler.clone();
        Ok(Box::new(WholeSequences::new(sequences, assembler, sampling.clone(), (options, tasks))?))
    }

    /// The validation rows, for a model that is fitted on all rows at once.
    fn valid_rows(&self, there: bool) -> Result<Option<Box<dyn BatchSource>>, Failure> {
        let options = SourceOptions { batch_size: self.training.batch_size, shuffle: None, skip_batches: 0 };
        let open = || self.prepared.source(Split::Valid, Use::Rank, options);
        Ok(there.then(open).transpose()?.map(|source| Box::new(source) as Box<dyn BatchSource>))
    }
}

/// How a model is judged after each epoch.
struct Judge {
    role: Role,
    k: Vec<usize>,
    /// Tasks of grades.
    graded: Vec<bool>,
    /// Of a retriever: whose lists are ranked.
    users: Option<EvalUsers>,
}

impl Judge {
    fn metrics(&self, prepared: &Prepared, learner: &Learner) -> Result<Metrics, millstream_train::Error> {
        match &self.users {
            Some(users) => measure::vectors(prepared, learner, users, &self.k),
            None => measure::scores(prepared, learner, (Split::Valid, &self.k), &|_| {}),
        }
    }

    fn measured<'a>(&'a self, prepared: &'a Prepared) -> Measured<'a> {
        match self.role {
            Role::Retriever => Measured::Lists { k: &self.k, sampled: false },
            Role::Ranker => {
                Measured::Scores { tasks: &prepared.tasks, graded: &self.graded, k: &self.k, whole: false }
            }
        }
    }
}

/// What a role trains on.
pub fn use_of(role: Role) -> Use {
    match role {
        Role::Ranker => Use::Rank,
        Role::Retriever => Use::Recall,
    }
}

/// How a finished run went, in one line.
fn summary(outcome: &Outcome) -> String {
    let rate = outcome.rows as f64 / outcome.train_seconds.max(1e-9);
    let best = outcome.best.as_ref().map_or_else(String::new, |best| {
        let shown: Vec<String> = best.metrics.iter().map(|(k, v)| format!("{k} {v:.4}")).collect();
        format!("; best epoch {}: {}", best.epoch + 1, shown.join(", "))
    });
    format!("{} rows, {rate:.0} rows/s{best}", outcome.rows)
}

/// How often items are positives, and how often they are drawn as negatives.
///
/// # Errors
/// There are hard negatives that cannot be read, or a model that does not learn from them.
pub fn sampling(
    prepared: &Prepared,
    (model, training): (&ModelConfig, &TrainConfig),
) -> Result<Sampling, Failure> {
    let counts: Vec<f64> = prepared.item_positives.iter().map(|&n| f64::from(n)).collect();
    let drawn: Vec<f64> = counts.iter().map(|n| (n + 1.0).powf(training.negative_power)).collect();
    let hard = match &training.hard_negatives {
        None => None,
        Some(_) if learns_whole(&model.name) || learns_graph(&model.name) => {
            let kind = if learns_graph(&model.name) { "a graph" } else { "whole sequences" };
            return Err(format!(
                "training.hard_negatives: `{}` learns from {kind}; hard negatives are for models of single positives, such as \
                 two_tower",
                model.name
            )
            .into());
        }
        Some(hard) => {
            let ids = (&prepared.users, &prepared.items);
            let log = PassedOverLog::read(&hard.file, ids, &prepared.interactions(Split::Train)?)?;
            let left = log.left_out;
            if left.users + left.unknown > 0 {
                let (file, users, items) = (hard.file.display(), left.users, left.unknown);
                tracing::warn!(
                    "{file}: left out {users} requests of unknown users and {items} unknown items"
                );
            }
            Some((Arc::new(log), hard.each))
        }
    };
    Ok(Sampling { positives: Sampler::new(&counts), negatives: Sampler::new(&drawn), hard })
}
