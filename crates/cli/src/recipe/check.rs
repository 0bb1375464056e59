//! Keys of a recipe that would change nothing, and figures that nobody measures: refused before any data is read.

use millstream_data::config::{DatasetConfig, SplitBy, Task};
use millstream_models::ModelConfig;
use millstream_models::content::CONTENT;
use millstream_models::recall::offline::OfflineDef;
use millstream_models::snapshot::Role;
use millstream_schema::Error;
use millstream_train::config::{TrainMode, check_keys};
use millstream_train::fit::fit_of;
use millstream_train::named::{Measured, cuts};
use millstream_train::{Metrics, role_of};
use std::collections::BTreeSet;

use super::{Recipe, Target};

/// `[examples]` of a table whose rows have an order.
const OF_ORDERED: &[&str] = &["max_history", "history_where"];

/// Whether a model that learns at once draws random numbers.
fn draws(model: &ModelConfig) -> bool {
    model.name != CONTENT && OfflineDef::find(&model.name).is_none_or(|def| def.draws)
}

impl Recipe {
    /// Whether another seed gives another result.
    pub fn draws(&self) -> bool {
        !self.learns_at_once() || [&self.model].into_iter().chain(&self.baseline).any(draws)
    }

    /// Whether the key stands in the section.
    fn says(&self, section: &str, key: &str) -> bool {
        self.keys(section).any(|k| k == key)
    }

    /// Keys that stand in the section.
    fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        let table = self.written.get(section).and_then(toml::Value::as_table);
        table.into_iter().flat_map(|table| table.keys().map(String::as_str))
    }

    /// What is measured of the model on a part, or by progressive validation, as far as its own keys go.
    ///
    /// # Errors
    /// No such model.
    pub fn with_measured<R>(&self, with: impl FnOnce(&Measured<'_>) -> R) -> Result<R, Error> {
        let config = self.dataset()?;
        let tasks: Vec<String> = config.tasks.iter().map(|task| task.name().to_owned()).collect();
        let graded: Vec<bool> = config.tasks.iter().map(Task::graded).collect();
        let (k, tasks) = (&self.evaluate.k[..], &tasks[..]);
        if self.learns_at_once() {
            return Ok(with(&Measured::Lists { k, sampled: false }));
        }
        let role = role_of(&self.model.name).map_err(|e| Error::config(e.to_string()))?;
        Ok(with(&match role {
            _ if self.training.mode == TrainMode::Stream => Measured::Stream { tasks },
            Role::Retriever => Measured::Lists { k, sampled: self.evaluate.sampled.is_some() },
            Role::Ranker => Measured::Scores { tasks, graded: &graded, k, whole: true },
        }))
    }

    /// Refuses what says nothing to this model or this data.
    pub(super) fn check_meaning(&self) -> Result<(), Error> {
        let config = self.dataset()?;
        self.check_examples(&config)?;
        let by_files = config.split_by() == SplitBy::Files;
        if let Some(key) = ["valid", "test"].into_iter().find(|key| by_files && self.says("split", key)) {
            return Err(Error::config(format!(
                "[split] {key} means nothing where the files given are the split; `valid_of_train` takes a share of the \
                 training rows"
            )));
        }
        self.check_training()?;
        self.check_evaluate(&config)?;
        self.check_monitor(&config)?;
        self.check_target()
    }

    /// A table's rows are examples already; histories are of tables with an order.
    fn check_examples(&self, config: &DatasetConfig) -> Result<(), Error> {
        let Some(table) = &config.dataset.table else { return Ok(()) };
        let taken = if table.order.is_some() { OF_ORDERED } else { &[] };
        match self.keys("examples").find(|key| !taken.contains(key)) {
            Some(key) if OF_ORDERED.contains(&key) => Err(Error::config(format!(
                "[examples] {key} means nothing to a table without [dataset.table] order: its rows have no histories"
            ))),
            Some(key) => Err(Error::config(format!(
                "[examples] {key} means nothing to a table, whose rows are examples with their labels"
            ))),
            None => Ok(()),
        }
    }

    fn check_training(&self) -> Result<(), Error> {
        let changed = self.training.changed();
        let keys: BTreeSet<&str> = self.keys("training").chain(changed.iter().map(String::as_str)).collect();
        if !self.learns_at_once() {
            return check_keys(&self.model, keys).map_err(|e| Error::config(e.to_string()));
        }
        let name = &self.model.name;
        match keys.into_iter().find(|key| *key != "seed" || !self.draws()) {
            Some("seed") => {
                Err(Error::config(format!("training.seed means nothing here: `{name}` draws nothing")))
            }
            Some(key) => Err(Error::config(format!(
                "training.{key} means nothing here: `{name}` learns at once, by its options in [model]{}",
                if self.draws() { "; of [training] there is `seed`" } else { "" }
            ))),
            None => Ok(()),
        }
    }

    fn check_evaluate(&self, config: &DatasetConfig) -> Result<(), Error> {
        let evaluate = &self.evaluate;
        let fail = |text: String| Err(Error::config(format!("[evaluate] {text}")));
        if evaluate.k.is_empty() || evaluate.k.contains(&0) {
            return fail("k: cut-offs are whole numbers above 0, at least one".into());
        }
        for (key, n) in [("users", evaluate.users), ("sampled", evaluate.sampled)] {
            if n == Some(0) {
                return fail(format!("{key} must be above 0"));
            }
        }
        let name = &self.model.name;
        let graded = config.tasks.iter().any(Task::graded);
        let ranks = !self.learns_at_once()
            && role_of(name).map_err(|e| Error::config(e.to_string()))? == Role::Ranker;
        let idle = |key: &&str| match *key {
            "k" => ranks && !graded,
            "users" => ranks,
            _ => ranks || self.learns_at_once(),
        };
        match self.keys("evaluate").find(idle) {
            Some(key) if ranks => fail(format!(
                "{key} means nothing here: `{name}` is a ranker, which is measured on all rows{}",
                if graded { "" } else { " by what takes labels 0 and 1" }
            )),
            Some(key) => fail(format!(
                "{key} means nothing here: it is for retrievers that learn in steps, not `{name}`"
            )),
            None => Ok(()),
        }
    }

    /// The monitored metric is one that validation measures.
    fn check_monitor(&self, config: &DatasetConfig) -> Result<(), Error> {
        let training = &self.training;
        let Some(key) = training.monitor.as_deref().filter(|_| !self.learns_at_once()) else { return Ok(()) };
        if training.mode == TrainMode::Stream || fit_of(&self.model).is_some() {
            return Ok(());
        }
        let k = &cuts(&self.evaluate.k, Some(key));
        let tasks: Vec<String> = config.tasks.iter().map(|task| task.name().to_owned()).collect();
        let graded: Vec<bool> = config.tasks.iter().map(Task::graded).collect();
        let measured = match role_of(&self.model.name).map_err(|e| Error::config(e.to_string()))? {
            Role::Retriever => Measured::Lists { k, sampled: false },
            Role::Ranker => Measured::Scores { tasks: &tasks, graded: &graded, k, whole: false },
        };
        measured.check(key).map_err(|told| Error::config(format!("training.monitor: {told}")))
    }

    /// The target's metrics are ones that are measured, and its figures numbers.
    fn check_target(&self) -> Result<(), Error> {
        let written = self.written.get("target").and_then(toml::Value::as_table);
        let sides = [("at_least", &self.target.at_least), ("at_most", &self.target.at_most)];
        for (side, figures) in sides {
            if figures.is_empty() && written.is_some_and(|target| target.contains_key(side)) {
                return Err(Error::config(format!("[target] {side} names no metric")));
            }
            for (key, value) in figures {
                if !value.is_finite() {
                    return Err(Error::config(format!(
                        "[target] {side}: `{key}` must be a number, not {value}"
                    )));
                }
                self.check_measured(key).map_err(|told| Error::config(format!("[target] {side}: {told}")))?;
            }
        }
        Ok(())
    }

    /// A metric of the model, or of a baseline under its name.
    fn check_measured(&self, key: &str) -> Result<(), String> {
        let own = self.baseline.iter().find_map(|b| key.strip_prefix(&format!("{}.", b.name)));
        self.with_measured(|measured| measured.check(own.unwrap_or(key))).map_err(|e| e.to_string())?
    }

    /// Refuses to judge figures that have no value, with the reason.
    ///
    /// # Errors
    /// Names the first metric of the target without a value.
    pub fn check_reached(&self, metrics: &Metrics) -> Result<(), Error> {
        match self.target.keys().find(|key| !metrics.contains_key(*key)) {
            Some(key) => Err(self.unmeasured(key)),
            None => Ok(()),
        }
    }

    /// Why a metric of the target has no value.
    pub fn unmeasured(&self, key: &str) -> Error {
        let part = match self.training.mode {
            TrainMode::Stream => "the stream",
            TrainMode::Epochs => "the test part",
        };
        match self.with_measured(|measured| measured.why_missing(key, part)) {
            Ok(why) => self.fault(&format_args!("[target] `{key}` cannot be measured: {why}")),
            Err(e) => e,
        }
    }
}

impl Target {
    /// All metrics named.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.at_least.keys().chain(self.at_most.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;

    const TABLE: &str = "[dataset]\nkind = \"table\"\n[dataset.table]\nall = [\"a.csv\"]\n\
                         [[task]]\nname = \"click\"\ncolumn = \"y\"\n\
                         [[feature]]\nname = \"user\"\nside = \"user\"\nkind = \"categorical\"\n";
    const SEQUENCES: &str = "[dataset]\nkind = \"sequences\"\n[dataset.sequences]\ntrain = [\"a.txt\"]\n";

    fn parse(data: &str, model: &str, rest: &str) -> Result<(), String> {
        let text = format!("{data}[model]\nname = \"{model}\"\n{rest}");
        let parsed = Source { name: "r".into(), place: "r.toml".into(), text }.parse();
        parsed.map(drop).map_err(|e| e.to_string())
    }

    fn refused(data: &str, model: &str, rest: &str, parts: &[&str]) {
        let said = parse(data, model, rest).unwrap_err();
        assert!(said.starts_with("r.toml: ") && parts.iter().all(|part| said.contains(part)), "{said}");
    }

    #[test]
    fn metrics_of_a_target_are_known_before_training() {
        refused(
            TABLE,
            "lr",
            "[target]\nat_least = { aucc = 0.5 }",
            &["at_least", "`aucc`", "did you mean `auc`?"],
        );
        refused(TABLE, "lr", "[target]\nat_least = { \"ndcg@10\" = 0.5 }", &["unknown metric `ndcg@10`"]);
        refused(TABLE, "lr", "[target]\nat_least = { \"click.auk\" = 0.5 }", &["unknown metric `click.auk`"]);
        refused(TABLE, "lr", "[target]\nat_most = { \"nope.logloss\" = 1 }", &["at_most", "`logloss`"]);
        refused(TABLE, "lr", "[target]\nat_least = {}", &["at_least names no metric"]);
        refused(TABLE, "lr", "[target]\nat_least = { auc = nan }", &["`auc` must be a number"]);
        let stream = "[training]\nmode = \"stream\"\n[target]\nat_least = ";
        refused(TABLE, "lr", &format!("{stream}{{ gauc = 0.5 }}"), &["unknown metric `gauc`"]);
        parse(TABLE, "lr", &format!("{stream}{{ \"window.auc\" = 0.5 }}")).unwrap();
        parse(TABLE, "lr", "[target]\nat_least = { gauc = 0.5 }\nat_most = { ece = 1.0 }").unwrap();
        let lists = "[evaluate]\nk = [5]\n[target]\nat_least = ";
        refused(SEQUENCES, "two_tower", &format!("{lists}{{ \"ndcg@10\" = 0.1 }}"), &["[evaluate] k is 5"]);
        refused(SEQUENCES, "two_tower", &format!("{lists}{{ \"sampled_ndcg@5\" = 0.1 }}"), &["`sampled`"]);
        parse(SEQUENCES, "two_tower", &format!("{lists}{{ \"ndcg@5\" = 0.1 }}")).unwrap();
        let beside = "[[baseline]]\nname = \"item_cf\"\n";
        parse(SEQUENCES, "als", &format!("{beside}{lists}{{ \"item_cf.ndcg@5\" = 0.1 }}")).unwrap();
        refused(SEQUENCES, "als", &format!("{lists}{{ \"item_cf.ndcg@5\" = 0.1 }}"), &["item_cf.ndcg@5"]);
    }

    #[test]
    fn the_monitored_metric_is_known_before_training() {
        let monitor = |key: &str| format!("[evaluate]\nk = [5]\n[training]\nmonitor = \"{key}\"");
        parse(SEQUENCES, "two_tower", &monitor("ndcg@7")).unwrap();
        refused(SEQUENCES, "two_tower", &monitor("auc"), &["training.monitor", "unknown metric `auc`"]);
        refused(TABLE, "lr", "[training]\nmonitor = \"auk\"", &["training.monitor", "did you mean `auc`?"]);
    }

    #[test]
    fn keys_that_would_change_nothing_are_refused() {
        for (key, value) in [("k", "[5]"), ("users", "9"), ("sampled", "9")] {
            refused(TABLE, "lr", &format!("[evaluate]\n{key} = {value}"), &[key, "is a ranker"]);
        }
        refused(SEQUENCES, "two_tower", "[evaluate]\nk = [0, 10]", &["[evaluate] k", "above 0"]);
        refused(SEQUENCES, "als", "[evaluate]\nsampled = 10", &["sampled", "`als`"]);
        refused(TABLE, "lr", "[examples]\nmax_history = 9", &["[examples] max_history", "order"]);
        refused(TABLE, "lr", "[examples]\nnegatives = 9", &["[examples] negatives", "table"]);
        let files = TABLE.replace("all =", "train =");
        refused(&files, "lr", "[split]\nby = \"files\"\nvalid = 0.15", &["[split] valid", "valid_of_train"]);
        for key in ["negatives = 9", "in_batch = true", "log_q_weight = 0.5", "validation_users = 9"] {
            refused(TABLE, "lr", &format!("[training]\n{key}"), &["is for retrievers"]);
        }
        refused(TABLE, "gbdt", "[training]\nloss = \"lambda_rank\"", &["training.loss", "`objective`"]);
        refused(SEQUENCES, "sasrec", "[training]\nin_batch = true", &["training.in_batch", "[model]"]);
        refused(SEQUENCES, "sasrec", "[training]\nloss = \"bpr\"", &["training.loss", "retriever"]);
        for key in ["epochs = 3", "batch_size = 9", "monitor = \"ndcg@10\"", "seed = 1"] {
            refused(SEQUENCES, "item_cf", &format!("[training]\n{key}"), &["training.", "`item_cf`"]);
        }
        parse(SEQUENCES, "als", "[training]\nseed = 3").unwrap();
        refused(SEQUENCES, "als", "[training]\nepochs = 3", &["training.epochs", "`seed`"]);
    }
}
