//! A recipe: one file that says which data, which model, how it is trained and what it must reach.

mod check;

use millstream_data::Prepared;
use millstream_data::balance::BalanceStep;
use millstream_data::config::{Dataset, DatasetConfig, ExamplesConfig, RawTask, SplitConfig};
use millstream_models::ModelConfig;
use millstream_models::content::{CONTENT, ContentConfig};
use millstream_models::recall::offline::{OFFLINE, OfflineDef};
use millstream_nn::loss::TaskLoss;
use millstream_schema::{Error, config, feature::RawFeature, suggest};
use millstream_train::config::{TaskWeights, TrainMode};
use millstream_train::fit::fit_of;
use millstream_train::{TrainConfig, check_model, check_streams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file's content.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Where it was read, for messages.
    #[serde(skip)]
    place: String,
    /// As it was written, to tell keys that were given from defaults.
    #[serde(skip)]
    written: toml::Table,
    /// One line for `recipe list`.
    #[serde(default)]
    pub description: String,
    /// Files and column mapping.
    pub dataset: Dataset,
    /// Labels.
    #[serde(default)]
    pub task: Vec<RawTask>,
    /// Features.
    #[serde(default)]
    pub feature: Vec<RawFeature>,
    /// Train, validation and test.
    #[serde(default)]
    pub split: SplitConfig,
    /// Histories and negatives.
    #[serde(default)]
    pub examples: ExamplesConfig,
    /// How the training rows are balanced.
    #[serde(default)]
    pub balance: Vec<BalanceStep>,
    /// The model.
    pub model: ModelConfig,
    /// Models that learn at once and are measured beside it on the same split, each metric under its name; for such models and
    /// for `content`.
    #[serde(default)]
    pub baseline: Vec<ModelConfig>,
    /// Hyperparameters.
    #[serde(default)]
    pub training: TrainConfig,
    /// Whether the model is learned anew, for as many epochs as valid has chosen, from what trains and what validates together; that
    /// model is the one that is tested.
    #[serde(default)]
    pub refit: bool,
    /// How it is measured.
    #[serde(default)]
    pub evaluate: EvaluateConfig,
    /// What it must reach.
    #[serde(default)]
    pub target: Target,
}

/// How a model is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Cut-offs of the ranking metrics, on validation as well.
    pub k: Vec<usize>,
    /// At most so many test users, the same ones for every model; all when absent.
    pub users: Option<usize>,
    /// Retrievers: besides the full ranking, each right item is ranked among so many items drawn from those that the
    /// user never acted on (`sampled_hit_rate@K`, `sampled_ndcg@K`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<usize>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { k: vec![10, 20, 50], users: None, sampled: None }
    }
}

/// Published figures and where they come from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Metric key to the least acceptable value.
    pub at_least: BTreeMap<String, f64>,
    /// Metric key to the greatest acceptable value.
    pub at_most: BTreeMap<String, f64>,
    /// How the figure is measured.
    pub protocol: String,
    /// Where the figure was published.
    pub source: String,
}

impl Target {
    /// Whether all figures are reached; a metric that was not measured is a miss.
    pub fn met(&self, metrics: &BTreeMap<String, f64>) -> bool {
        let value = |key: &str| metrics.get(key).copied().unwrap_or(f64::NAN);
        self.at_least.iter().all(|(key, least)| value(key) >= *least)
            && self.at_most.iter().all(|(key, most)| value(key) <= *most)
    }
}

impl Recipe {
    /// The dataset's part, checked.
    pub fn dataset(&self) -> Result<DatasetConfig, Error> {
        let parts = DatasetConfig::from_parts(
            self.dataset.clone(),
            self.task.clone(),
            self.feature.clone(),
            self.split.clone(),
            self.examples.clone(),
        );
        parts.and_then(|config| config.with_balance(self.balance.clone())).map_err(|e| self.fault(&e))
    }

    /// Refuses data that was prepared otherwise than this recipe says: a model would learn from other
    /// columns than those that are written here.
    pub fn check_prepared(&self, prepared: &Prepared) -> Result<(), Error> {
        if prepared.fingerprint() == format!("{:016x}", self.dataset()?.fingerprint()) {
            return Ok(());
        }
        let dir = prepared.dir().display();
        Err(Error::config(format!(
            "{dir}: was prepared with other files, features or splits than {} names; prepare it again with \
             `data prepare`",
            self.place
        )))
    }

    /// Puts what the `[[task]]`s say of their training where the trainer looks for it.
    fn take_task_training(&mut self) -> Result<(), Error> {
        let (mut losses, mut weights) = (BTreeMap::new(), BTreeMap::new());
        for task in self.task.iter().map(RawTask::training) {
            let name = task.name;
            let twice = |key: &str, place: &str| {
                self.fault(&format_args!("task `{name}`: {key} is given here and in [training.{place}]"))
            };
            if let Some(loss) = task.loss {
                let wrong = |e: toml::de::Error| {
                    self.fault(&format_args!("task `{name}`: key `loss`: {}", e.message()))
                };
                let loss: TaskLoss = loss.clone().try_into().map_err(wrong)?;
                if self.training.losses.contains_key(name) {
                    return Err(twice("loss", "losses"));
                }
                losses.insert(name.to_owned(), loss);
            }
            if let Some(weight) = task.weight {
                if self.training.task_weights.weights.contains_key(name) {
                    return Err(twice("weight", "task_weights.weights"));
                }
                weights.insert(name.to_owned(), weight);
            }
        }
        self.training.losses.extend(losses);
        self.training.task_weights.weights.extend(weights);
        Ok(())
    }

    /// What a single-task twin of this recipe is: the same model and hyperparameters for one of its tasks.
    pub fn twin(&self, task: &str) -> Self {
        let mut twin = self.clone();
        twin.training.losses.retain(|name, _| name == task);
        twin.training.task_weights = TaskWeights::default();
        // `income.auc` and `mean.auc` are `auc` where there is one task.
        let bare = |key: &String| key.rsplit_once('.').map_or(key.clone(), |(_, bare)| bare.to_owned());
        twin.training.monitor = twin.training.monitor.as_ref().map(bare);
        twin.target = Target::default();
        twin
    }

    /// Whether the model learns from all positives, or from texts, at once.
    pub fn learns_at_once(&self) -> bool {
        self.model.name == CONTENT || OfflineDef::find(&self.model.name).is_some()
    }

    /// Whether item texts are needed.
    pub fn reads_texts(&self) -> bool {
        [&self.model].into_iter().chain(&self.baseline).any(|model| model.name == CONTENT)
    }

    /// Checks what can be checked before any data is read.
    fn check(&self) -> Result<(), Error> {
        self.dataset()?;
        if self.training.mode == TrainMode::Stream {
            check_streams(&self.model.name).map_err(|e| self.fault(&e))?;
        }
        let at_once = self.learns_at_once();
        if self.refit {
            self.check_refit().map_err(|e| self.fault(&e))?;
        }
        if !self.baseline.is_empty() && !at_once {
            return Err(self.fault(&format_args!(
                "[[baseline]] stands beside models that learn at once and beside `{CONTENT}`, not beside `{}`",
                self.model.name
            )));
        }
        for (at, baseline) in self.baseline.iter().enumerate() {
            let name = &baseline.name;
            if *name == self.model.name || self.baseline[..at].iter().any(|b| b.name == *name) {
                return Err(self.fault(&format_args!("[[baseline]]: `{name}` is named twice")));
            }
            check_at_once(baseline).map_err(|e| self.fault(&e))?;
        }
        if at_once {
            check_at_once(&self.model).map_err(|e| self.fault(&e))?;
        } else {
            check_model(&self.model).and_then(|()| self.training.check()).map_err(|e| self.fault(&e))?;
        }
        self.check_meaning().map_err(|e| self.fault(&e))
    }

    /// Refuses what cannot be learned anew for a number of epochs.
    fn check_refit(&self) -> Result<(), Error> {
        let training = &self.training;
        let not_for = [
            (training.mode == TrainMode::Stream, "mode = \"stream\", which has no epochs to choose"),
            (self.learns_at_once(), "models that learn at once, which have no epochs to choose"),
            (
                fit_of(&self.model).is_some(),
                "models that are fitted as a whole, which have no epochs to choose",
            ),
            (training.evaluate_every.is_some(), "`evaluate_every`: valid is to choose whole epochs"),
            (
                training.reduce_on_plateau.is_some(),
                "`reduce_on_plateau`, which needs what validates to the end",
            ),
        ];
        match not_for.iter().find(|(there, _)| *there) {
            Some((_, what)) => Err(Error::config(format!("refit is not for {what}"))),
            None => Ok(()),
        }
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> Error {
        Error::config(format!("{}: {error}", self.place))
    }
}

/// Checks the options of a model that learns at once.
fn check_at_once(model: &ModelConfig) -> Result<(), millstream_models::Error> {
    if model.name == CONTENT {
        return ContentConfig::of(model).map(|_| ());
    }
    match OfflineDef::find(&model.name) {
        Some(offline) => offline.check(model),
        None => {
            let valid: Vec<&str> = OFFLINE.iter().map(|d| d.name).chain([CONTENT]).collect();
            Err(millstream_models::Error::Config(suggest::unknown("baseline", &model.name, valid)))
        }
    }
}

/// The recipes that come with the binary.
#[derive(rust_embed::RustEmbed)]
#[folder = "../../recipes"]
struct BuiltIn;

/// A recipe's text and where it is from.
pub struct Source {
    /// File name without its ending.
    pub name: String,
    /// Path, for messages.
    pub place: String,
    text: String,
}

impl Source {
    /// Reads the text.
    pub fn parse(&self) -> Result<Recipe, Error> {
        let mut recipe: Recipe = config::parse(&self.text, &self.place)?;
        recipe.place.clone_from(&self.place);
        recipe.written = config::parse(&self.text, &self.place)?;
        recipe.take_task_training()?;
        recipe.check().map(|()| recipe)
    }

    fn file(path: &Path) -> Result<Self, Error> {
        let text = config::read_text(path)?;
        let name = path.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Self { name, place: path.display().to_string(), text })
    }
}

/// The built-in recipes and those of `folder`, by name; a file stands in for a built-in one of its name.
pub fn all(folder: Option<&Path>) -> Result<Vec<Source>, Error> {
    let mut found = BTreeMap::new();
    for file in BuiltIn::iter().filter(|f| f.ends_with(".toml")) {
        let Some(content) = BuiltIn::get(&file) else { continue };
        let name = file.trim_end_matches(".toml").to_owned();
        let text = String::from_utf8_lossy(&content.data).into_owned();
        found.insert(name.clone(), Source { name, place: format!("recipes/{file}"), text });
    }
    if let Some(folder) = folder {
        for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
            let path: PathBuf = entry.map_err(|e| Error::io(folder, e))?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                let source = Source::file(&path)?;
                found.insert(source.name.clone(), source);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Whether a recipe is named by its file.
pub fn is_file(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == "toml")
}

/// The recipe of this name, or in this file.
pub fn find(name: &str, folder: Option<&Path>) -> Result<Source, Error> {
    if is_file(name) {
        return Source::file(Path::new(name));
    }
    let mut recipes = all(folder)?;
    if let Some(at) = recipes.iter().position(|r| r.name == name) {
        return Ok(recipes.swap_remove(at));
    }
    let valid: Vec<&str> = recipes.iter().map(|r| r.name.as_str()).collect();
    Err(Error::config(suggest::unknown("recipe", name, valid.iter().copied())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_recipe_is_sound_and_has_a_target_with_its_source() {
        let recipes = all(None).unwrap();
        assert!(recipes.len() >= 2);
        for source in recipes {
            let recipe = source.parse().unwrap();
            recipe.dataset().unwrap();
            recipe.training.check().unwrap();
            recipe.with_measured(|measured| assert!(!measured.keys().is_empty())).unwrap();
            assert!(
                !recipe.target.at_least.is_empty() || !recipe.target.at_most.is_empty(),
                "{}",
                source.name
            );
            assert!(
                !recipe.target.source.is_empty() && !recipe.target.protocol.is_empty(),
                "{}",
                source.name
            );
        }
    }

    #[test]
    fn a_metric_that_was_not_measured_is_a_miss() {
        let target = Target { at_least: [("auc".to_owned(), 0.5)].into(), ..Target::default() };
        assert!(!target.met(&BTreeMap::new()));
        assert!(target.met(&[("auc".to_owned(), 0.5)].into()));
    }

    #[test]
    fn baselines_are_checked_and_stand_beside_what_learns_at_once() {
        let parse = |model: &str, rest: &str| {
            let dataset = "[dataset]\nkind = \"sequences\"\n[dataset.sequences]\ntrain = [\"a.txt\"]\n";
            let text = format!("{dataset}[model]\nname = \"{model}\"\n{rest}");
            Source { name: "r".into(), place: "r.toml".into(), text }.parse()
        };
        let fault = |model: &str, rest: &str| parse(model, rest).err().unwrap().to_string();
        let beside = "[[baseline]]\nname = \"item_cf\"\n";
        let good = parse("content", &format!("texts = [\"t\"]\n{beside}")).unwrap();
        assert!(good.learns_at_once() && good.reads_texts());
        assert!(!parse("als", beside).unwrap().reads_texts());
        assert!(fault("sasrec", beside).contains("not beside `sasrec`"));
        assert!(fault("item_cf", beside).contains("named twice"));
        assert!(fault("als", &format!("{beside}{beside}")).contains("named twice"));
        assert!(fault("als", "[[baseline]]\nname = \"item_fc\"\n").contains("did you mean `item_cf`?"));
        assert!(fault("als", &format!("{beside}memmory = 3\n")).contains("memmory"));
        assert!(fault("content", "").contains("`texts`"));
    }

    #[test]
    fn an_unknown_recipe_is_answered_with_the_nearest() {
        let err = find("frape_deepfm", None).err().unwrap().to_string();
        assert!(err.contains("did you mean `frappe_deepfm`?"), "{err}");
    }
}
