//! Recipes of models that learn at once: from all positives before a part, or from texts.

use millstream_data::{Prepared, Split};
use millstream_models::ModelConfig;
use millstream_models::content::CONTENT;
use millstream_models::recall::offline::OfflineDef;
use millstream_schema::Record;
use millstream_train::{Metrics, eval};
use std::path::Path;
use std::time::{Duration, Instant};

use super::recipe::Reached;
use crate::content::ContentModel;
use crate::progress::Bar;
use crate::recipe::Recipe;
use crate::records::Records;
use crate::{Failure, Global, measure};

/// What such models are measured on.
pub(super) struct Bench<'a> {
    prepared: &'a Prepared,
    /// Item records, where texts are read.
    items: Vec<Record>,
    quiet: bool,
}

impl<'a> Bench<'a> {
    /// Reads what the recipe's models need besides the prepared data.
    pub(super) fn open(
        recipe: &Recipe,
        root: &Path,
        prepared: &'a Prepared,
        global: &Global,
    ) -> Result<Self, Failure> {
        let items = match recipe.reads_texts() {
            true => Records::read(root, &recipe.dataset()?, prepared)?.items,
            false => Vec::new(),
        };
        Ok(Self { prepared, items, quiet: global.quiet })
    }

    /// What the recipe's model reaches, and under its name each baseline's. Where there is a validation split they are judged on it as
    /// well, by models that learned from the training split alone.
    pub(super) fn reach(&self, recipe: &Recipe) -> Result<Reached, Failure> {
        let started = Instant::now();
        let content = self.content(recipe)?;
        let spent = started.elapsed();
        let (test, learned) = self.part((recipe, content.as_ref()), Split::Test)?;
        let held = self.prepared.part(Split::Valid, millstream_data::Use::Recall).candidates > 0;
        let valid = held.then(|| self.part((recipe, content.as_ref()), Split::Valid)).transpose()?;
        Ok(Reached {
            test,
            valid: valid.map(|valid| valid.0),
            rows: self.prepared.item_positives.iter().map(|&n| u64::from(n)).sum(),
            train_seconds: if recipe.model.name == CONTENT { spent } else { learned }.as_secs_f64(),
            sd: None,
            sparsity: None,
        })
    }

    /// The model of texts among the recipe's, if there is one. It learns from no action, and so serves all parts.
    fn content(&self, recipe: &Recipe) -> Result<Option<ContentModel>, Failure> {
        let model = std::iter::once(&recipe.model).chain(&recipe.baseline).find(|m| m.name == CONTENT);
        model.map(|model| ContentModel::fit(model, &self.items, self.prepared)).transpose()
    }

    /// Metrics of all models on one part, and how long the recipe's own learned from actions.
    fn part(
        &self,
        all: (&Recipe, Option<&ContentModel>),
        split: Split,
    ) -> Result<(Metrics, Duration), Failure> {
        let recipe = all.0;
        let (mut metrics, learned) = self.one(all, &recipe.model, split)?;
        for baseline in &recipe.baseline {
            let (own, _) = self.one(all, baseline, split)?;
            metrics.extend(own.into_iter().map(|(key, value)| (format!("{}.{key}", baseline.name), value)));
        }
        Ok((metrics, learned))
    }

    fn one(
        &self,
        (recipe, content): (&Recipe, Option<&ContentModel>),
        model: &ModelConfig,
        split: Split,
    ) -> Result<(Metrics, Duration), Failure> {
        let prepared = self.prepared;
        let users = prepared.eval_users(split, recipe.evaluate.users, measure::EVAL_SEED)?;
        let (k, started) = (&recipe.evaluate.k, Instant::now());
        let most = k.iter().copied().max().unwrap_or(0);
        let (lists, learned) = match (OfflineDef::find(&model.name), content) {
            (Some(def), _) => {
                measure::check_times(prepared, model)?;
                let before: &[Split] =
                    if split == Split::Test { &[Split::Train, Split::Valid] } else { &[Split::Train] };
                let fitted = measure::with_positives(prepared, before, |positives| {
                    def.fit(model, positives, recipe.training.seed)
                })?;
                let learned = started.elapsed();
                let bar =
                    Bar::new(&format!("rank {}", model.name), users.users.len() as u64, "users", self.quiet);
                let lists = measure::offline_lists(prepared, &fitted, (&users, most), &|done| bar.at(done));
                bar.done(format!("{} users of {split}", users.users.len()));
                (lists, learned)
            }
            (None, Some(content)) => (content.lists(prepared, &users, most), Duration::ZERO),
            (None, None) => return Err(format!("`{}` does not learn at once", model.name).into()),
        };
        Ok((eval::lists_beside(&users, &lists, k, &prepared.item_positives), learned))
    }
}
