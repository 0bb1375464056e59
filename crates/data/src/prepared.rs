//! The prepared directory, opened: the encoder, the catalogue, and sources of batches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_schema::{Assembler, Encoder, EventKind, IdMap, Kinds, Remembered, suggest};

use crate::blocks::BlockReader;
use crate::config::{Dataset, ExamplesConfig, Kind};
use crate::interactions::{Actions, EvalRules, EvalUsers, Interactions, Start};
use crate::positive::PositiveRule;
use crate::prepare::{self, ACTIONS, CATALOGUE, Catalogue, MANIFEST, Manifest, PartReport, blocks_file};
use crate::sealed::corrupt;
use crate::source::{Edit, Source, SourceOptions};
use crate::split::TimeSplit;
use crate::{Error, Split, Use};

/// A prepared directory. Opening reads the encoder and the catalogue; examples are streamed.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Makes fields from cells; fitted on the training rows.
    pub encoder: Arc<Encoder>,
    /// Joins users, items and histories to examples.
    pub assembler: Arc<Assembler>,
    /// User ids (of a table: groups).
    pub users: IdMap,
    /// Item ids; none for a table.
    pub items: IdMap,
    /// Names of the labels, in order.
    pub tasks: Vec<String>,
    /// By item: first moment it can be shown, `i64::MIN` where unknown.
    pub item_created_ms: Vec<i64>,
    /// By item: first moment it can no longer be shown, `i64::MAX` where unknown.
    pub item_retired_ms: Vec<i64>,
    /// By item: training positives of the first task.
    pub item_positives: Vec<u32>,
    /// What the rows were.
    pub kind: Kind,
    dir: PathBuf,
    manifest: Arc<Manifest>,
    /// The place of the one task whose labels are handed out; `None` for all.
    task: Option<usize>,
}

impl Prepared {
    /// Opens a directory that [`crate::prepare()`] wrote.
    ///
    /// # Errors
    /// It is no such directory, of another version, or damaged; the file is named.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let manifest = Manifest::read(dir)?;
        let encoder = Arc::new(prepare::read_encoder(dir)?);
        let path = dir.join(CATALOGUE);
        let mut catalogue = Catalogue::read(&path)?;
        if (catalogue.users.len(), catalogue.items.len()) != (manifest.users, manifest.items) {
            return Err(corrupt(&path, "it does not belong to the manifest beside it"));
        }
        let assembler = prepare::assembler(encoder.clone(), &mut catalogue)?;
        Ok(Self {
            encoder,
            assembler: Arc::new(assembler),
            users: catalogue.users,
            items: catalogue.items,
            tasks: manifest.tasks.clone(),
            item_created_ms: catalogue.created_ms,
            item_retired_ms: catalogue.retired_ms,
            item_positives: catalogue.positives,
            kind: manifest.kind,
            dir: dir.to_owned(),
            manifest: Arc::new(manifest),
            task: None,
        })
    }

    /// The same rows with the labels of one task only: what a single-task model learns from.
    ///
    /// # Errors
    /// There is no such task; names the nearest.
    pub fn with_task(&self, name: &str) -> Result<Self, Error> {
        let task = self.manifest.tasks.iter().position(|task| task == name).ok_or_else(|| {
            let valid = self.manifest.tasks.iter().map(String::as_str);
            Error::Config(suggest::unknown("task", name, valid))
        })?;
        Ok(Self { tasks: vec![name.to_owned()], task: Some(task), ..self.clone() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// [`crate::DatasetConfig::fingerprint`] of the configuration it was prepared with, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.manifest.fingerprint
    }

    /// The files and columns that it was prepared from; `None` where another version wrote them in another way.
    pub fn dataset(&self) -> Option<Dataset> {
        serde_json::from_value(self.manifest.config.get("dataset")?.clone()).ok()
    }

    /// Kinds of the actions that enter histories, by name; all when empty.
    pub fn history_events(&self) -> Vec<EventKind> {
        let written = self.manifest.config.get("examples").cloned().unwrap_or_default();
        serde_json::from_value::<ExamplesConfig>(written).map_or_else(|_| Vec::new(), |x| x.history_events)
    }

    /// Where a split by time was cut.
    pub fn time_split(&self) -> Option<TimeSplit> {
        self.manifest.time_split
    }

    /// The kinds of event that were met, impressions among them; none where an earlier version prepared the data.
    pub fn event_kinds(&self) -> &[EventKind] {
        &self.manifest.kinds
    }

    /// Which past actions a request carries: what examples were made by.
    pub fn remembered(&self) -> Remembered {
        let enter = Kinds::of_codes(self.manifest.history_kinds.clone());
        Remembered::new(self.encoder.schema(), enter, self.manifest.max_history)
    }

    /// Actions of one behaviour list, at most.
    pub fn max_history(&self) -> usize {
        self.manifest.max_history
    }

    /// Whether an item may be recommended again to who has acted on it.
    pub fn repeats(&self) -> bool {
        self.manifest.repeats
    }

    /// Whether some kinds of action leave an item free to be recommended again.
    pub fn bars_some_kinds(&self) -> bool {
        !self.manifest.seen_kinds.is_empty()
    }

    /// Share of the training negatives that were kept, where they were sampled; models that learned from them say too
    /// much, by [`crate::balance::calibrated`].
    pub fn negatives_kept(&self) -> Option<f64> {
        self.manifest.negatives_kept
    }

    /// For each task, whether its labels are grades of relevance instead of 0 or 1.
    pub fn graded(&self) -> Vec<bool> {
        self.tasks.iter().map(|task| self.manifest.graded.contains(task)).collect()
    }

    /// What a part holds for a use.
    pub fn part(&self, split: Split, for_use: Use) -> PartReport {
        self.manifest.counts.part(split, for_use)
    }

    /// Number of candidates (rows) of a part for a use.
    pub fn rows(&self, split: Split, for_use: Use) -> u64 {
        self.part(split, for_use).candidates
    }

    /// Batches of a part, read in constant memory.
    ///
    /// # Errors
    /// The block file is missing or damaged; a table has none for [`Use::Recall`]; batch size 0.
    pub fn source(&self, split: Split, for_use: Use, options: SourceOptions) -> Result<Source, Error> {
        self.source_with(split, for_use, options, Box::new(|_, _| Ok(())))
    }

    /// As [`Prepared::source`], with each batch's examples changed before they are assembled.
    ///
    /// # Errors
    /// As [`Prepared::source`], and those of `edit` when its batch is due.
    pub fn source_with(
        &self,
        split: Split,
        for_use: Use,
        options: SourceOptions,
        mut edit: Edit,
    ) -> Result<Source, Error> {
        if self.kind == Kind::Table && for_use == Use::Recall {
            return Err(Error::Config(format!(
                "{}: a table has no items to retrieve; prepare a log or sequences",
                self.dir.display()
            )));
        }
        if let Some(task) = self.task {
            edit = Box::new(move |x, batch| {
                edit(x, batch)?;
                x.labels = x.labels.iter().skip(task).step_by(x.tasks.max(1)).copied().collect();
                x.tasks = 1;
                Ok(())
            });
        }
        if self.manifest.whole {
            return Err(Error::Config(format!(
                "{}: was prepared with [examples] whole = true, which is for retrievers: no examples were written",
                self.dir.display()
            )));
        }
        let blocks = BlockReader::open(&self.dir.join(blocks_file(split, for_use)))?;
        Source::start_with(blocks, self.assembler.clone(), options, edit)
    }

    /// Whether sequences were kept whole (`[examples] whole = true`) and no examples written.
    pub fn is_whole(&self) -> bool {
        self.manifest.whole
    }

    /// Positives of the first task in a part, by user.
    ///
    /// # Errors
    /// The file of actions is missing (a table has none) or damaged.
    pub fn interactions(&self, split: Split) -> Result<Interactions, Error> {
        Ok(self.actions()?.interactions(Some(split)))
    }

    /// Every action of every user, whatever its kind and part.
    ///
    /// # Errors
    /// As [`Prepared::interactions`].
    pub fn all_actions(&self) -> Result<Interactions, Error> {
        Ok(self.actions()?.interactions(None))
    }

    /// What makes an action a positive of the first task.
    ///
    /// # Errors
    /// The rows are a table's, which holds no actions, or the manifest does not say it.
    pub fn positive(&self) -> Result<PositiveRule, Error> {
        if self.kind == Kind::Table {
            return Err(Error::Config(format!("{}: a table holds no actions of users", self.dir.display())));
        }
        PositiveRule::of(&self.manifest.config).ok_or_else(|| {
            let reason = "it does not say which actions are positives; prepare the data again";
            corrupt(&self.dir.join(MANIFEST), reason)
        })
    }

    /// Users that have a past before the part and positives in it; with `max_users`, a seeded draw.
    ///
    /// # Errors
    /// As [`Prepared::interactions`].
    pub fn eval_users(&self, split: Split, max_users: Option<usize>, seed: u64) -> Result<EvalUsers, Error> {
        self.users_at(split, true, (max_users, seed))
    }

    /// Users that have a past before the part, with or without positives in it, as they were when it began; with `max_users`, a
    /// seeded draw.
    ///
    /// # Errors
    /// As [`Prepared::interactions`].
    pub fn users_before(
        &self,
        split: Split,
        max_users: Option<usize>,
        seed: u64,
    ) -> Result<EvalUsers, Error> {
        self.users_at(split, false, (max_users, seed))
    }

    fn users_at(
        &self,
        split: Split,
        future: bool,
        (max_users, seed): (Option<usize>, u64),
    ) -> Result<EvalUsers, Error> {
        let start = match self.manifest.time_split {
            Some(t) if split == Split::Test => Start::At(t.test_ms),
            Some(t) => Start::At(t.valid_ms),
            None if self.manifest.ratio_split => Start::AfterAll,
            None => Start::FirstPositive,
        };
        let barred = Kinds::of_codes(self.manifest.seen_kinds.clone());
        let rules = EvalRules {
            split,
            start,
            future,
            kinds: &Kinds::of_codes(self.manifest.history_kinds.clone()),
            created_ms: &self.item_created_ms,
            retired_ms: &self.item_retired_ms,
            barred: (!self.manifest.repeats).then_some(&barred),
        };
        Ok(self.actions()?.eval_users(&rules, max_users, seed))
    }

    fn actions(&self) -> Result<Actions, Error> {
        if self.kind == Kind::Table {
            return Err(Error::Config(format!("{}: a table holds no actions of users", self.dir.display())));
        }
        let path = self.dir.join(ACTIONS);
        let actions = Actions::read(&path)?;
        let known = actions.item.iter().all(|&i| (i as usize) < self.items.len());
        if actions.users() != self.users.len() || !known {
            return Err(corrupt(&path, "it does not belong to the catalogue beside it"));
        }
        Ok(actions)
    }
}
