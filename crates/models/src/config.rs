//! What a `[model]` table says: which model, and its options.

use millstream_schema::{Field, config, suggest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, sizes};

/// A model by name with its options, as written under `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Name in `RANKERS` or `RETRIEVERS`.
    pub name: String,
    /// Field names the model sees; all when absent. A sequence's name stands for all its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// Everything else, checked by the model.
    #[serde(flatten)]
    pub options: toml::Table,
}

impl ModelConfig {
    /// A model with default options.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), fields: None, options: toml::Table::new() }
    }

    /// The model's own options.
    ///
    /// # Errors
    /// A key that the model does not have, with the nearest that it has; a value of another kind; a size that no machine has
    /// room for.
    pub fn options<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let options = config::from_table(&self.options, &format!("model `{}`", self.name))?;
        sizes::check(&self.name, &self.options)?;
        Ok(options)
    }

    /// What the configuration says of the option `key`, `table.key` being one in a table.
    pub(crate) fn said(&self, key: &str) -> Option<&toml::Value> {
        match key.split_once('.') {
            Some((table, key)) => self.options.get(table)?.as_table()?.get(key),
            None => self.options.get(key),
        }
    }

    /// Refuses options that mean nothing beside what another one says, as `beside` tells it: `loss = "bce"`. What is saved with a
    /// model is not asked, so that models open that were trained before an option was refused.
    ///
    /// # Errors
    /// Names both.
    pub(crate) fn idle(&self, beside: &str, keys: &[&str]) -> Result<(), Error> {
        match keys.iter().find(|key| self.said(key).is_some()) {
            Some(key) => Err(Error::Config(format!(
                "model `{}`: `{key}` means nothing beside `{beside}`; leave one of them out",
                self.name
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a table that other models have, and this one not.
    ///
    /// # Errors
    /// Says `why`.
    pub(crate) fn without(&self, table: &str, why: &str) -> Result<(), Error> {
        match self.options.contains_key(table) {
            true => Err(Error::Config(format!("model `{}`: [model.{table}] {why}", self.name))),
            false => Ok(()),
        }
    }

    /// Places of the fields this model sees.
    pub fn chosen(&self, fields: &[Field]) -> Result<Vec<usize>, Error> {
        match &self.fields {
            Some(names) => self.places(names, fields),
            None => Ok((0..fields.len()).collect()),
        }
    }

    /// Places of the fields named; a sequence's name stands for all its fields.
    ///
    /// # Errors
    /// A name that no field has.
    pub fn places(&self, names: &[String], fields: &[Field]) -> Result<Vec<usize>, Error> {
        let mut chosen = Vec::new();
        for name in names {
            let before = chosen.len();
            let part = format!("{name}.");
            chosen.extend(
                (0..fields.len()).filter(|&i| fields[i].name == *name || fields[i].name.starts_with(&part)),
            );
            if chosen.len() == before {
                let valid: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
                return Err(Error::Config(format!(
                    "model `{}`: {}",
                    self.name,
                    suggest::unknown("field", name, valid.iter().copied())
                )));
            }
        }
        Ok(chosen)
    }
}
