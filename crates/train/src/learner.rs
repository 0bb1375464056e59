//! A model with everything that learns: dense weights, rows, both optimisers, and the step.

use millstream_data::PassedOverLog;
use millstream_models::input::{Feeder, Inference, Planned};
use millstream_models::online::{self, Progressive};
use millstream_models::ranker::{self, Shape};
use millstream_models::recall::offline::OFFLINE;
use millstream_models::retriever::{self, Scope};
use millstream_models::snapshot::{Header, Role, fingerprint};
use millstream_models::{ModelConfig, RANKERS, RETRIEVERS, Ranker, Retriever, serving};
use millstream_nn::loss::TaskLoss;
use millstream_nn::{Inputs, OptimState, Optimiser, Params, Pass, Tensor, Weights};
use millstream_schema::{Batch, Encoder, Field, suggest};
use millstream_store::{Rows, Store, TableId};
use std::sync::Arc;

use crate::average::Average;
use crate::config::Updates;
use crate::frequency::Frequency;
use crate::graph::WholeGraph;
use crate::sampler::Sampler;
use crate::weighing::Weighing;
use crate::{Error, TrainConfig, rules};

/// The network, by what it is for.
pub(crate) enum Model {
    Ranker(Box<dyn Ranker>),
    Retriever(Box<dyn Retriever>),
}

/// What training a model is based on.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// The encoder of the batches.
    pub encoder: &'a Encoder,
    /// Task names.
    pub tasks: &'a [String],
    /// The model.
    pub model: &'a ModelConfig,
    /// Hyperparameters.
    pub training: &'a TrainConfig,
    /// Retrievers: probability of items as negatives; see [`Learner::step`].
    pub sampling: Option<Arc<Sampling>>,
}

/// How often an item is expected among the columns of a retriever's batch.
#[derive(Debug, Clone)]
pub struct Sampling {
    /// Distribution of the positives: item i is a batch's positive with this probability per request.
    pub positives: Sampler,
    /// Distribution of the extra negatives.
    pub negatives: Sampler,
    /// Where hard negatives are drawn from, and how many for each positive.
    pub hard: Option<(Arc<PassedOverLog>, usize)>,
}

/// A model in training.
pub struct Learner {
    pub(crate) setting: OwnedSetting,
    pub(crate) model: Model,
    pub(crate) fields: Arc<[Field]>,
    pub(crate) params: Params,
    pub(crate) store: Store,
    pub(crate) tables: Vec<TableId>,
    pub(crate) optimiser: Optimiser,
    pub(crate) feeder: Feeder,
    inference: Inference,
    /// One per task.
    pub(crate) losses: Vec<TaskLoss>,
    /// How they become one.
    pub(crate) weighing: Weighing,
    /// Learns a row at a time, where that is asked for.
    pub(crate) online: Option<Box<dyn Progressive>>,
    /// Factor on the learning rates besides the schedule's.
    pub(crate) rate: f32,
    pub(crate) steps: u64,
    /// Moving average of the weights, where one is kept and something has been taken into it.
    pub(crate) average: Option<Average>,
    /// How often items are in a batch, where that is estimated on the way.
    pub(crate) frequency: Option<Frequency>,
    /// What a model that learns from a graph learns from.
    pub(crate) graph: Option<WholeGraph>,
    /// Share of the training negatives that were kept, where they were sampled.
    pub(crate) negatives_kept: Option<f64>,
    /// When the newest example was made, for models that learn how old examples are.
    pub(crate) newest_ms: Option<i64>,
}

pub(crate) struct OwnedSetting {
    pub(crate) tasks: Vec<String>,
    pub(crate) model: ModelConfig,
    pub(crate) training: TrainConfig,
    pub(crate) sampling: Option<Arc<Sampling>>,
}

/// Whether a model of this name ranks or retrieves.
///
/// # Errors
/// No such model; names the nearest.
pub fn role_of(name: &str) -> Result<Role, Error> {
    let names = || {
        RANKERS
            .iter()
            .map(|d| (d.name, Role::Ranker))
            .chain(RETRIEVERS.iter().map(|d| (d.name, Role::Retriever)))
    };
    names().find(|(n, _)| *n == name).map(|(_, role)| role).ok_or_else(|| unknown_model(name))
}

/// What is said of a name that no ranker and no retriever has.
fn unknown_model(name: &str) -> Error {
    let rankers = || RANKERS.iter().map(|d| d.name);
    let retrievers = || RETRIEVERS.iter().map(|d| d.name);
    let at_once = || OFFLINE.iter().map(|d| d.name);
    if at_once().any(|n| n == name) {
        return Error::Config(format!(
            "model `{name}` learns from all positives at once and not by steps: `recipe run` measures it, and a `[[recall.model]]` of \
             a run serves it"
        ));
    }
    if let Some(near) = suggest::nearest(name, rankers().chain(retrievers()).chain(at_once())) {
        return Error::Config(format!("unknown model `{name}`; did you mean `{near}`?"));
    }
    let list = |names: Vec<&str>| names.join(", ");
    Error::Config(format!(
        "unknown model `{name}`; rankers are {}; retrievers are {}; models that learn at once are {}",
        list(rankers().collect()),
        list(retrievers().collect()),
        list(at_once().collect())
    ))
}

/// Whether a model learns from whole sequences.
pub fn learns_whole(name: &str) -> bool {
    RETRIEVERS.iter().any(|def| def.name == name && def.whole)
}

/// Whether a model learns from the whole graph of who acted on what.
pub fn learns_graph(name: &str) -> bool {
    RETRIEVERS.iter().any(|def| def.name == name && def.graph)
}

/// Negatives of single sequences or elements are for models that learn from whole sequences, which say themselves whether a batch's
/// positives are negatives.
fn check_scope(setting: &Setting<'_>, model: &Model) -> Result<(), Error> {
    if learns_whole(&setting.model.name) {
        check_correction(setting, model)?;
        return match setting.training.in_batch {
            true => Ok(()),
            false => Err(Error::Config(format!(
                "training.in_batch: `{}` learns from whole sequences; say `in_batch` in [model]",
                setting.model.name
            ))),
        };
    }
    if setting.training.negatives_for == Scope::Batch {
        return Ok(());
    }
    Err(Error::Config(format!(
        "training.negatives_for: `{}` does not learn from whole sequences; its negatives are for the \"batch\"",
        setting.model.name
    )))
}

/// Refuses what is said of negatives' probabilities to a loss that does not look at them: `alone`, see [`Retriever::draws_alone`].
fn check_idle(setting: &Setting<'_>, alone: Option<&str>) -> Result<(), Error> {
    let (Some(loss), training) = (alone, setting.training) else { return Ok(()) };
    let said = [
        ("frequency", training.frequency.is_some()),
        ("log_q_weight", training.log_q_weight != 1.0),
        ("in_batch", !training.in_batch),
    ];
    match said.iter().find(|(_, said)| *said) {
        Some((key, _)) => Err(Error::Config(format!(
            "training.{key} means nothing beside `{loss}` of `{}`, which compares a positive with drawn items as they are; leave \
             it out",
            setting.model.name
        ))),
        None => Ok(()),
    }
}

/// How often items are drawn is of no matter to losses that do not take it off the scores.
fn check_correction(setting: &Setting<'_>, model: &Model) -> Result<(), Error> {
    let training = setting.training;
    let Model::Retriever(model) = model else { return Ok(()) };
    let Some(next) = model.next_items() else { return Ok(()) };
    let corrects = next.corrects() && training.negatives_for != Scope::Catalogue;
    let key = match (training.log_q_weight != TrainConfig::default().log_q_weight, training.frequency) {
        (true, _) => "log_q_weight",
        (_, Some(_)) => "frequency",
        _ => return Ok(()),
    };
    let why = match corrects {
        false => {
            "learns by a loss that takes no log q off; it goes with [model] loss = \"softmax\" and drawn negatives"
        }
        true if key == "frequency" && !next.in_batch() => {
            "has no negatives of its batch; [model] says `in_batch = true`"
        }
        true => return Ok(()),
    };
    Err(Error::Config(format!("training.{key} means nothing here: `{}` {why}", setting.model.name)))
}

/// Checks a `[model]` table as far as it can be without data.
///
/// # Errors
/// An unknown model, or an option that it does not have, each with the nearest name.
pub fn check_model(model: &ModelConfig) -> Result<(), Error> {
    let rankers = RANKERS.iter().map(|d| (d.name, d.check));
    let checks = rankers.chain(RETRIEVERS.iter().map(|d| (d.name, d.check)));
    role_of(&model.name)?;
    Ok(checks.filter(|(name, _)| *name == model.name).try_for_each(|(_, check)| check(model))?)
}

/// Refuses models that cannot learn a stream.
///
/// # Errors
/// The model is fitted on all rows at once, or learns from whole sequences or a whole graph.
pub fn check_streams(name: &str) -> Result<(), Error> {
    role_of(name)?;
    let cannot = |why: &str| Err(Error::Config(format!("`{name}` {why}; it cannot learn a stream")));
    if RANKERS.iter().any(|def| def.name == name && def.fit.is_some()) {
        return cannot("is fitted on all rows at once");
    }
    if learns_whole(name) {
        return cannot("learns from whole sequences");
    }
    match learns_graph(name) {
        true => cannot("learns from the whole graph of who acted on what"),
        false => Ok(()),
    }
}

impl Learner {
    /// A fresh model.
    ///
    /// # Errors
    /// A configuration that cannot be.
    pub fn new(setting: &Setting<'_>) -> Result<Self, Error> {
        Self::build(setting, Params::new(setting.training.seed), None)
    }

    /// A model that goes on from saved weights, rows and optimiser states after `steps` steps.
    ///
    /// # Errors
    /// The saved state belongs to another model or other hyperparameters.
    pub fn restore(setting: &Setting<'_>, saved: SavedState) -> Result<Self, Error> {
        let params = Params::with_weights(setting.training.seed, saved.weights)?;
        let mut learner = Self::build(setting, params, Some(saved.store))?;
        learner.optimiser.restore(&learner.params, saved.optimizer)?;
        learner.steps = saved.steps;
        Ok(learner)
    }

    fn build(setting: &Setting<'_>, mut params: Params, store: Option<Store>) -> Result<Self, Error> {
        setting.training.check()?;
        let fields: Arc<[Field]> = setting.encoder.fields().into();
        let shape =
            Shape { fields: &fields, sides: &serving::sides(setting.encoder), tasks: setting.tasks.len() };
        let model = match role_of(&setting.model.name)? {
            Role::Ranker => Model::Ranker(ranker::build(setting.model, &shape, &mut params)?),
            Role::Retriever => Model::Retriever(retriever::build(setting.model, &shape, &mut params)?),
        };
        check_scope(setting, &model)?;
        if let Model::Retriever(retriever) = &model {
            check_idle(setting, retriever.draws_alone())?;
        }
        if setting.training.frequency.is_some() && matches!(model, Model::Ranker(_)) {
            let name = &setting.model.name;
            return Err(Error::Config(format!("training.frequency: `{name}` ranks; it is for retrievers")));
        }
        let weighing = match &model {
            Model::Retriever(_) if !setting.training.task_weights.is_default() => {
                let name = &setting.model.name;
                return Err(Error::Config(format!(
                    "training.task_weights: `{name}` is a retriever, which learns one task"
                )));
            }
            _ => Weighing::new(&mut params, setting.tasks, &setting.training.task_weights)?,
        };
        rules::freeze(&mut params, setting.training)?;
        let configs = rules::tables(&params, setting.training);
        let store = match store {
            Some(store) => {
                store.check_tables(&configs)?;
                store
            }
            None => Store::with_shards(configs, rules::shards(setting.training))?,
        };
        let tables = params.tables().iter().map(|t| store.table(&t.name)).collect::<Result<_, _>>()?;
        let online = match setting.training.updates {
            Updates::Batch => None,
            Updates::Row => Some(online::build(setting.model, &shape, &params, &store)?),
        };
        Ok(Self {
            losses: rules::losses(setting.tasks, setting.training)?,
            weighing,
            setting: OwnedSetting {
                tasks: setting.tasks.to_vec(),
                model: setting.model.clone(),
                training: setting.training.clone(),
                sampling: setting.sampling.clone(),
            },
            model,
            feeder: Feeder::new(&fields),
            inference: Inference::new(fields.clone()),
            optimiser: rules::optimiser(&params, setting.training)?,
            online,
            fields,
            params,
            store,
            tables,
            rate: 1.0,
            steps: 0,
            newest_ms: None,
            average: None,
            frequency: setting.training.frequency.map(Frequency::new).transpose()?,
            graph: None,
            negatives_kept: None,
        })
    }

    /// ln of the expected number of times that an element of a batch of whole sequences with `elements` in all meets each
    /// column's item among the negatives.
    pub(crate) fn next_log_q(
        &self,
        batch: &Batch,
        (elements, in_batch): (usize, bool),
    ) -> Result<(Vec<f32>, usize), Error> {
        let sampling = self.setting.sampling.as_deref().ok_or_else(|| {
            Error::Config("a retriever trains on interactions; this data has no catalogue".into())
        })?;
        let drawn = match self.setting.training.negatives_for {
            Scope::Batch => batch.candidates().saturating_sub(elements),
            _ => self.setting.training.negatives,
        } as f32;
        let shared = if in_batch { elements as f32 } else { 0.0 };
        let expected = |&item: &u32| {
            let in_batch = if in_batch { self.expected(sampling, item, shared) } else { 0.0 };
            let expected = in_batch + drawn * sampling.negatives.log_p(item).exp();
            self.setting.training.log_q_weight * expected.max(1e-9).ln()
        };
        Ok((batch.item.iter().map(expected).collect(), sampling.negatives.len()))
    }

    /// How often an item is expected among the positives of a batch.
    fn expected(&self, sampling: &Sampling, item: u32, positives: f32) -> f32 {
        match &self.frequency {
            Some(frequency) => frequency.share(item),
            None => positives * sampling.positives.log_p(item).exp(),
        }
    }

    /// ln of the expected number of times that each column's item is among the columns.
    pub(crate) fn log_q(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let sampling = self.setting.sampling.as_deref().ok_or_else(|| {
            Error::Config("a retriever trains on interactions; this data has no catalogue".into())
        })?;
        let training = &self.setting.training;
        let own = batch.requests * training.own_negatives();
        let shared = batch.candidates().saturating_sub(own);
        let (requests, extra) = (batch.requests as f32, shared.saturating_sub(batch.requests) as f32);
        let expected = |&item: &u32| {
            let in_batch = if training.in_batch { self.expected(sampling, item, requests) } else { 0.0 };
            let drawn = extra * sampling.negatives.log_p(item).exp();
            training.log_q_weight * (in_batch + drawn).max(1e-9).ln()
        };
        // A request's own negatives are there for certain: their expected number is 1.
        Ok(batch.item[..shared].iter().map(expected).chain(std::iter::repeat_n(0.0, own)).collect())
    }

    /// Logits of a ranker `[N, T]` as it learned them ([`Self::calibrated`] is what they mean on all rows), without dropout; rows that training never met are zero.
    ///
    /// # Errors
    /// The model is a retriever, or the batch was made by another encoder.
    pub fn logits(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let Model::Ranker(model) = &self.model else {
            return Err(Error::Config(format!("`{}` gives no logits", self.setting.model.name)));
        };
        self.infer(batch, |pass, x| model.forward(pass, x))
    }

    /// User vectors `[R, K, D]` of a retriever.
    ///
    /// # Errors
    /// The model is a ranker, or the batch was made by another encoder.
    pub fn users(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let model = self.retriever()?;
        self.infer(batch, |pass, x| model.users(pass, x))
    }

    /// Item vectors `[N, D]` of a retriever.
    ///
    /// # Errors
    /// The model is a ranker, or the batch was made by another encoder.
    pub fn items(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let model = self.retriever()?;
        self.infer(batch, |pass, x| model.items(pass, x))
    }

    /// The retriever.
    ///
    /// # Errors
    /// The model is a ranker.
    pub fn retriever(&self) -> Result<&dyn Retriever, Error> {
        match &self.model {
            Model::Retriever(model) => Ok(&**model),
            Model::Ranker(_) => {
                Err(Error::Config(format!("`{}` ranks; it gives no vectors", self.setting.model.name)))
            }
        }
    }

    /// Scores `[N]` of a retriever's batch: of each request's positive, and of each further item for one of the requests in turn. Of
    /// several interests the best counts.
    ///
    /// # Errors
    /// The model is a ranker, or the batch was made by another encoder.
    pub(crate) fn paired_scores(&self, batch: &Batch, planned: &Planned) -> Result<Vec<f32>, Error> {
        let model = self.retriever()?;
        let users = self.infer_planned(batch, planned, |pass, x| model.users(pass, x))?;
        let items = self.infer_planned(batch, planned, |pass, x| model.items(pass, x))?;
        let (d, each) = (model.dim(), model.interests() * model.dim());
        let score = |(n, item): (usize, &[f32])| {
            let own = &users[(n % batch.requests.max(1)) * each..][..each];
            let product = |u: &[f32]| u.iter().zip(item).map(|(a, b)| a * b).sum::<f32>();
            own.chunks_exact(d).map(product).fold(f32::NEG_INFINITY, f32::max)
        };
        Ok(items.chunks_exact(d).enumerate().map(score).collect())
    }

    fn infer(
        &self,
        batch: &Batch,
        forward: impl Fn(&Pass, &Inputs) -> Tensor + Sync,
    ) -> Result<Vec<f32>, Error> {
        Ok(self.inference.run(&self.params, batch, |at, keys, out| self.pull(at, keys, out), forward)?)
    }

    pub(crate) fn infer_planned(
        &self,
        batch: &Batch,
        planned: &Planned,
        forward: impl Fn(&Pass, &Inputs) -> Tensor,
    ) -> Result<Vec<f32>, Error> {
        let pull = |at: usize, keys: &[u64], out: &mut [f32]| self.pull(at, keys, out);
        Ok(self.inference.run_planned(&self.params, (batch, planned), pull, forward)?)
    }

    /// Rows of the table at this place; see [`Planned::inputs`].
    fn pull(&self, at: usize, keys: &[u64], out: &mut [f32]) -> Result<(), millstream_models::Error> {
        Ok(self.store.pull(self.tables[at], keys, out)?)
    }

    /// Multiplies all learning rates by `factor`, besides what the schedule does, from the next step on.
    pub fn set_rate(&mut self, factor: f32) {
        self.rate = factor;
    }

    /// Begins all embedding rows afresh; dense weights and their optimiser stay.
    ///
    /// # Errors
    /// None that the configuration, which was checked, allows.
    pub fn reset_rows(&mut self) -> Result<(), Error> {
        let training = &self.setting.training;
        self.store = Store::with_shards(rules::tables(&self.params, training), rules::shards(training))?;
        self.tables =
            self.params.tables().iter().map(|t| self.store.table(&t.name)).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// T.
    pub fn tasks(&self) -> &[String] {
        &self.setting.tasks
    }

    /// What each task's loss counts now, by task; `None` where all count the same.
    pub fn task_weights(&self) -> Option<Vec<f32>> {
        self.weighing.weights(&self.params)
    }

    /// The dense weights.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The embedding rows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A hash of all dense weights and rows with their optimiser state: equal for equal models.
    pub fn weights_hash(&self) -> u64 {
        let mut hash = HashWriter(xxhash_rust::xxh3::Xxh3::new());
        for (name, _, values) in self.params.iter() {
            hash.0.update(name.as_bytes());
            values.iter().for_each(|v| hash.0.update(&v.to_bits().to_le_bytes()));
        }
        // A hasher never fails to take bytes.
        let _ = self.store.write_to(&mut hash);
        hash.0.digest()
    }

    /// The dense optimiser's memory.
    pub fn optimizer_state(&self) -> OptimState {
        self.optimiser.state()
    }

    /// What a saved file says of the model.
    pub fn header(&self) -> Header {
        Header {
            role: if matches!(self.model, Model::Ranker(_)) { Role::Ranker } else { Role::Retriever },
            model: self.setting.model.clone(),
            tasks: self.setting.tasks.clone(),
            fields: fingerprint(&self.fields),
            seed: self.setting.training.seed,
            steps: self.steps,
            negatives_kept: self.negatives_kept,
        }
    }

    /// Says that the rows to learn from have a share `kept` of the negatives; it is saved with the model, and
    /// [`Self::calibrated`] takes it into account.
    pub fn set_negatives_kept(&mut self, kept: Option<f64>) {
        self.negatives_kept = kept;
    }

    /// Whether the model learns how old examples are: training from files then says when the newest was made. In a stream each
    /// example is the newest, and its age 0.
    pub fn learns_ages(&self) -> bool {
        matches!(&self.model, Model::Retriever(model) if model.ages())
    }

    /// Says when the newest of the examples to come was made, epoch milliseconds.
    pub fn set_newest(&mut self, newest_ms: i64) {
        self.newest_ms = Some(newest_ms);
    }

    /// Logits as they are on all rows: ln w is added to those of a model that learned from a share w of the negatives.
    pub fn calibrated(&self, mut logits: Vec<f32>) -> Vec<f32> {
        let shift = self.negatives_kept.map_or(0.0, |kept| kept.ln() as f32);
        if shift != 0.0 {
            logits.iter_mut().for_each(|z| *z += shift);
        }
        logits
    }
}

struct HashWriter(xxhash_rust::xxh3::Xxh3);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a learner goes on from.
pub struct SavedState {
    /// Dense weights.
    pub weights: Weights,
    /// Embedding rows.
    pub store: Store,
    /// The dense optimiser's memory.
    pub optimizer: OptimState,
    /// Steps taken.
    pub steps: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_table_is_checked_without_data() {
        for (text, said) in [
            ("name = \"deepfn\"", "did you mean `deepfm`?"),
            ("name = \"deepfm\"\nembeding = 3", "unknown key `embeding`; did you mean `embedding`?"),
            ("name = \"two_tower\"\ntemprature = 1.0", "did you mean `temperature`?"),
        ] {
            let model = millstream_schema::config::parse(text, "a.toml").unwrap();
            let message = check_model(&model).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
        check_model(&ModelConfig::named("dcn_v2")).unwrap();
    }
}
