//! Which keys of `[training]` mean something to a model. A key that would change nothing is refused.

use millstream_models::ModelConfig;
use millstream_models::snapshot::Role;
use serde_json::Value;
use std::collections::BTreeSet;

use super::TrainConfig;
use crate::Error;
use crate::fit::fit_of;
use crate::learner::{learns_graph, learns_whole, role_of};

/// What a ranker that is fitted on all rows at once takes; whether it can learn a stream is asked elsewhere.
const OF_FITTED: &[&str] = &["seed", "batch_size", "mode"];
/// What retrievers alone have: where negatives come from, and who judges.
const OF_RETRIEVERS: &[&str] = &[
    "negatives",
    "negatives_for",
    "in_batch",
    "log_q_weight",
    "negative_power",
    "history",
    "frequency",
    "hard_negatives",
    "negative_source",
    "validation_users",
];
/// What rankers alone have.
const OF_RANKERS: &[&str] = &["loss", "losses"];

impl TrainConfig {
    /// Keys whose values are not the defaults.
    pub fn changed(&self) -> Vec<String> {
        let table = |config: &Self| serde_json::to_value(config).unwrap_or_default();
        let (own, usual) = (table(self), table(&Self::default()));
        let Value::Object(own) = own else { return Vec::new() };
        own.iter().filter(|(key, value)| usual.get(key) != Some(value)).map(|(key, _)| key.clone()).collect()
    }
}

/// Refuses keys of `[training]` that mean nothing to the model.
///
/// # Errors
/// An unknown model, or the first such key, with what the model goes by instead.
pub fn check_keys<'a>(model: &ModelConfig, keys: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let (role, name) = (role_of(&model.name)?, &model.name);
    let fitted = fit_of(model).is_some();
    let reason = |key: &str| match role {
        _ if fitted && !OF_FITTED.contains(&key) => Some(
            "is fitted on all rows at once: of [training] it takes `seed` and `batch_size`, and what it learns for is \
             `objective` in [model]",
        ),
        Role::Ranker if OF_RETRIEVERS.contains(&key) => Some("is a ranker; the key is for retrievers"),
        Role::Retriever if OF_RANKERS.contains(&key) => {
            Some("is a retriever, which has a loss of its own; the key is for rankers")
        }
        Role::Retriever if key == "hard_negatives" && learns_whole(name) => Some(
            "learns from whole sequences; hard negatives are for models of single positives, such as two_tower",
        ),
        Role::Retriever if key == "hard_negatives" && learns_graph(name) => {
            Some("learns from a graph; hard negatives are for models of single positives, such as two_tower")
        }
        Role::Retriever if key == "in_batch" && learns_whole(name) => {
            Some("learns from whole sequences; say `in_batch` in [model]")
        }
        Role::Retriever if key == "history" && (learns_whole(name) || learns_graph(name)) => {
            Some("learns from all that users did at once, not from single positives with a past each")
        }
        _ => None,
    };
    let keys: BTreeSet<&str> = keys.into_iter().collect();
    match keys.into_iter().find_map(|key| Some((key, reason(key)?))) {
        Some((key, reason)) => {
            Err(Error::Config(format!("training.{key} means nothing here: `{name}` {reason}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_defaults_is_listed() {
        assert_eq!(TrainConfig::default().changed(), Vec::<String>::new());
        let config = TrainConfig { epochs: 3, monitor: Some("auc".into()), ..TrainConfig::default() };
        assert_eq!(config.changed(), ["epochs", "monitor"]);
        let all = TrainConfig { validation_users: None, ..TrainConfig::default() };
        assert_eq!(all.changed(), ["validation_users"]);
    }

    #[test]
    fn a_key_that_means_nothing_to_the_model_is_refused_with_the_reason() {
        let said =
            |model: &str, key: &str| check_keys(&ModelConfig::named(model), [key]).unwrap_err().to_string();
        assert!(
            said("gbdt", "clip_norm").contains("training.clip_norm")
                && said("gbdt", "loss").contains("`objective`")
        );
        for key in OF_RETRIEVERS {
            assert!(said("deepfm", key).contains("is for retrievers"));
        }
        assert!(said("two_tower", "loss").contains("a loss of its own"));
        assert!(said("sasrec", "in_batch").contains("`in_batch` in [model]"));
        assert!(said("lightgcn", "history").contains("`lightgcn`"));
        assert!(said("lightgcn", "hard_negatives").contains("learns from a graph"));
        check_keys(&ModelConfig::named("gbdt"), ["seed", "batch_size"]).unwrap();
        check_keys(&ModelConfig::named("two_tower"), ["in_batch", "history", "log_q_weight"]).unwrap();
        check_keys(&ModelConfig::named("deepfm"), ["loss", "losses", "epochs"]).unwrap();
    }
}
