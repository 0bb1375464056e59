//! A model with everything that learns: dense weights, rows, both optimisers, and the step.

use millstream_models::input::Feeder;
use millstream_models::ranker::{self, Labels, Shape};
use millstream_models::retriever::{self, Targets};
use millstream_models::snapshot::{Header, Role, fingerprint};
use millstream_models::{ModelConfig, RANKERS, RETRIEVERS, Ranker, Retriever, serving};
use millstream_nn::{
    DenseOptim, Gradients, Inputs, Mode, OptimState, Optimiser, Params, Pass, Tensor, Weights,
};
use millstream_schema::{Batch, Encoder, Field, suggest};
use millstream_store::{RowInit, RowOptim, Rows, RowsMut, Store, TableConfig, TableId};
use std::sync::Arc;

use crate::config::{DenseOptimizer, RowOptimizer};
use crate::sampler::Sampler;
use crate::{Error, TrainConfig};

/// The network, by what it is for.
enum Model {
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
}

/// A model in training.
pub struct Learner {
    setting: OwnedSetting,
    model: Model,
    fields: Arc<[Field]>,
    params: Params,
    store: Store,
    tables: Vec<TableId>,
    optimiser: Optimiser,
    feeder: Feeder,
    steps: u64,
}

struct OwnedSetting {
    tasks: Vec<String>,
    model: ModelConfig,
    training: TrainConfig,
    sampling: Option<Arc<Sampling>>,
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
    names().find(|(n, _)| *n == name).map(|(_, role)| role).ok_or_else(|| {
        let valid: Vec<&str> = names().map(|(n, _)| n).collect();
        Error::Config(suggest::unknown("model", name, valid.iter().copied()))
    })
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
        let configs = table_configs(&params, setting.training);
        let store = match store {
            Some(store) => {
                store.check_tables(&configs)?;
                store
            }
            None => Store::new(configs)?,
        };
        let tables = params.tables().iter().map(|t| store.table(&t.name)).collect::<Result<_, _>>()?;
        Ok(Self {
            setting: OwnedSetting {
                tasks: setting.tasks.to_vec(),
                model: setting.model.clone(),
                training: setting.training.clone(),
                sampling: setting.sampling.clone(),
            },
            model,
            feeder: Feeder::new(&fields),
            optimiser: Optimiser::new(dense_rule(setting.training)),
            fields,
            params,
            store,
            tables,
            steps: 0,
        })
    }

    /// One step on one batch; gives the batch's loss.
    ///
    /// A retriever's batch holds R requests, whose positives are the first R candidates in order; candidates
    /// beyond those are negatives drawn from [`Sampling::negatives`].
    ///
    /// # Errors
    /// The loss or a gradient is not finite, or the batch was made by another encoder.
    pub fn step(&mut self, batch: &Batch) -> Result<f32, Error> {
        let planned = self.feeder.plan(&self.fields, batch)?;
        let pass = Pass::new(&self.params, Mode::Train, self.setting.training.seed ^ (self.steps << 20));
        let x = planned.inputs(&pass, (&self.fields, batch), self.params.tables(), |at, keys, out| {
            Ok(self.store.pull_or_init(self.tables[at], keys, out)?)
        })?;
        let loss = self.loss(&pass, &x, batch)?;
        let value = loss.item();
        let mut gradients = pass.backward(&loss);
        drop((loss, x, pass));
        self.check_finite(value, &gradients)?;
        if let Some(norm) = self.setting.training.clip_norm {
            gradients.clip(norm);
        }
        self.optimiser.step(&mut self.params, &gradients);
        let ids: Vec<_> = self.params.table_ids().collect();
        for ((at, table), id) in self.params.tables().iter().enumerate().zip(ids) {
            if let Some(grads) = gradients.rows(id) {
                self.store.push_unique(self.tables[at], planned.keys(table), grads)?;
            }
        }
        self.steps += 1;
        Ok(value)
    }

    fn loss(&self, pass: &Pass, x: &Inputs, batch: &Batch) -> Result<Tensor, Error> {
        match &self.model {
            Model::Ranker(model) => {
                let y = Labels { values: &batch.labels, weights: &batch.weights };
                Ok(model.loss(&model.forward(pass, x), &y))
            }
            Model::Retriever(model) => {
                let log_q = self.log_q(batch)?;
                let weights = batch.weights.get(..batch.requests).unwrap_or(&[]);
                let y = Targets { items: &batch.item, log_q: &log_q, weights };
                Ok(model.loss(&model.users(pass, x), &model.items(pass, x), &y))
            }
        }
    }

    /// ln of the expected number of times that each column's item is among the columns.
    fn log_q(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let sampling = self.setting.sampling.as_deref().ok_or_else(|| {
            Error::Config("a retriever trains on interactions; this data has no catalogue".into())
        })?;
        let (requests, extra) = (batch.requests as f32, (batch.candidates() - batch.requests) as f32);
        let expected = |&item: &u32| {
            let in_batch = requests * sampling.positives.log_p(item).exp();
            let drawn = extra * sampling.negatives.log_p(item).exp();
            (in_batch + drawn).max(1e-9).ln()
        };
        Ok(batch.item.iter().map(expected).collect())
    }

    fn check_finite(&self, loss: f32, gradients: &Gradients) -> Result<(), Error> {
        if loss.is_finite() {
            return Ok(());
        }
        let place = gradients.first_non_finite(&self.params).unwrap_or("the loss itself");
        Err(Error::Diverged(format!(
            "training diverged at step {}: the loss is {loss} (first bad gradient: {place}); lower the learning \
             rate or set training.clip_norm",
            self.steps + 1
        )))
    }

    /// Logits of a ranker `[N, T]`, without dropout; rows that training never met are zero.
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

    fn infer(&self, batch: &Batch, forward: impl Fn(&Pass, &Inputs) -> Tensor) -> Result<Vec<f32>, Error> {
        let planned = self.feeder.clone().plan(&self.fields, batch)?;
        let pass = Pass::new(&self.params, Mode::Infer, 0);
        let x = planned.inputs(&pass, (&self.fields, batch), self.params.tables(), |at, keys, out| {
            Ok(self.store.pull(self.tables[at], keys, out)?)
        })?;
        Ok(forward(&pass, &x).to_vec())
    }

    /// Multiplies both learning rates by `factor` from the next step on.
    pub fn set_rate(&mut self, factor: f32) {
        self.optimiser.set_lr(dense_rule(&self.setting.training).lr() * factor);
        // The factor is positive and finite: the configuration was checked.
        let _ = self.store.set_learning_rate(factor);
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// T.
    pub fn tasks(&self) -> &[String] {
        &self.setting.tasks
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
        }
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

fn table_configs(params: &Params, training: &TrainConfig) -> Vec<TableConfig> {
    let lr = training.rows.learning_rate;
    let optim = match training.rows.optimizer {
        RowOptimizer::AdaGrad => RowOptim::AdaGradRowWise { lr, eps: 1e-10, initial_accumulator: 0.0 },
        RowOptimizer::Adam => RowOptim::LazyAdam { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        RowOptimizer::Sgd => RowOptim::Sgd { lr },
    };
    let init = |init| match init {
        millstream_nn::RowInit::Zero => RowInit::Zero,
        millstream_nn::RowInit::Uniform(bound) => RowInit::Uniform(bound),
        millstream_nn::RowInit::Normal(std) => RowInit::Normal(std),
    };
    let config = |t: &millstream_nn::TableSpec| TableConfig {
        name: t.name.clone(),
        dim: t.dim,
        init: init(t.init),
        optim,
        l2: training.rows.l2,
        seed: training.seed,
    };
    params.tables().iter().map(config).collect()
}

fn dense_rule(training: &TrainConfig) -> DenseOptim {
    let (lr, l2) = (training.dense.learning_rate, training.dense.l2);
    match training.dense.optimizer {
        DenseOptimizer::Adam => DenseOptim::Adam { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, l2 },
        DenseOptimizer::AdamW => DenseOptim::AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: l2 },
        DenseOptimizer::AdaGrad => DenseOptim::AdaGrad { lr, eps: 1e-10, initial_accumulator: 0.0, l2 },
        DenseOptimizer::Sgd => DenseOptim::Sgd { lr, momentum: 0.0, l2 },
    }
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
