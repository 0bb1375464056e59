//! Training on a stream: rows read once, in order, each batch predicted before it is learned; shared by
//! `train --stream` and `recipe run`.

use millstream_data::config::{DatasetConfig, Kind};
use millstream_data::{Direct, DirectFiles, DirectOptions, DirectRows, Prepared, SourceOptions, Split, Use};
use millstream_models::ModelConfig;
use millstream_models::snapshot::Role;
use millstream_schema::{Encoder, Examples};
use millstream_train::config::{TrainMode, check_keys};
use millstream_train::negatives::Negatives;
use millstream_train::record::{RECORD, RunRecord};
use millstream_train::stream::{
    Numbered, OpenStream, Point, Replay, Sparsity, Stream, StreamOutcome, StreamState,
};
use millstream_train::{
    Error, LATEST, Learner, Sampling, Setting, TrainConfig, check_streams, checkpoint, role_of,
};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::progress::Bar;
use crate::training::{sampling, use_of};
use crate::{Failure, Global, output};

/// Where a stream's rows come from.
pub enum Rows<'a> {
    /// The training rows of a prepared directory, in its order.
    Prepared(&'a Prepared),
    /// The text files of a table, as they are.
    Raw(Raw),
}

/// Text files that are read without being prepared.
#[derive(Clone)]
pub struct Raw {
    files: DirectFiles,
    rows: DirectRows,
    strict: bool,
}

impl Raw {
    /// The training files of a table below `root`; all files where a split would cut them.
    ///
    /// # Errors
    /// The dataset is no plain table, or a feature has to be fitted before; what to do is said.
    pub fn of(dataset: &DatasetConfig, root: &Path, strict: bool) -> Result<Self, Failure> {
        const INSTEAD: &str = "prepare it with `data prepare`, and stream that with --prepared";
        let Some(table) = dataset.dataset.table.as_ref().filter(|_| dataset.dataset.kind == Kind::Table)
        else {
            let kind = dataset.dataset.kind.as_str();
            return Err(format!(
                "a dataset of kind \"{kind}\" has no rows to stream from its files; {INSTEAD}"
            )
            .into());
        };
        if table.request.is_some() || table.queries.is_some() {
            return Err(format!(
                "[dataset.table]: rows that belong to one request are not kept together in a stream from files; \
                 {INSTEAD}"
            )
            .into());
        }
        if let Some(step) = dataset.balance.first() {
            return Err(format!(
                "[[balance]] {}: a stream from files takes every row; {INSTEAD}",
                step.method.as_str()
            )
            .into());
        }
        if dataset.dataset.users.is_some() || dataset.dataset.items.is_some() {
            return Err(format!(
                "[dataset.users] and [dataset.items] are not joined in a stream from files; {INSTEAD}"
            )
            .into());
        }
        if table.order.is_some() {
            return Err(format!(
                "[dataset.table] order: a stream from files gives rows no histories; {INSTEAD}"
            )
            .into());
        }
        let encoder = Encoder::without_fitting(&dataset.schema)
            .map_err(|e| format!("{e}; or {}", INSTEAD.replace(" it ", " the data ")))?;
        let folder = dataset.folder(root);
        let named = if table.all.is_empty() { &table.train } else { &table.all };
        let paths: Vec<PathBuf> = named.iter().map(|file| folder.join(file)).collect();
        let rows = DirectRows {
            encoder: Arc::new(encoder),
            tasks: dataset.tasks.clone(),
            group: table.group.clone(),
        };
        Ok(Self { files: DirectFiles { paths, format: table.log_format() }, rows, strict })
    }
}

impl Rows<'_> {
    fn encoder(&self) -> &Encoder {
        match self {
            Self::Prepared(prepared) => &prepared.encoder,
            Self::Raw(raw) => &raw.rows.encoder,
        }
    }

    fn tasks(&self) -> Vec<String> {
        match self {
            Self::Prepared(prepared) => prepared.tasks.clone(),
            Self::Raw(raw) => raw.rows.tasks.iter().map(|task| task.name().to_owned()).collect(),
        }
    }

    /// Where they are read.
    fn place(&self) -> &Path {
        match self {
            Self::Prepared(prepared) => prepared.dir(),
            Self::Raw(raw) => raw.files.paths.first().map_or(Path::new(""), |path| path.as_path()),
        }
    }

    /// Rows in all, where that is known.
    fn total(&self, of: Use) -> u64 {
        match self {
            Self::Prepared(prepared) => prepared.rows(Split::Train, of),
            Self::Raw(_) => 0,
        }
    }

    /// How often items are positives and are drawn, for a retriever.
    ///
    /// # Errors
    /// Text files, which hold no catalogue.
    fn sampling(
        &self,
        model: &ModelConfig,
        training: &TrainConfig,
    ) -> Result<Option<Arc<Sampling>>, Failure> {
        match (role_of(&model.name)?, self) {
            (Role::Ranker, _) => Ok(None),
            (Role::Retriever, Self::Prepared(prepared)) => Ok(Some(Arc::new(sampling(prepared, (model, training))?))),
            (Role::Retriever, Self::Raw(_)) => Err(format!(
                "`{}` is a retriever, which needs a catalogue; prepare a log with `data prepare`, and stream that with \
                 --prepared",
                model.name
            )
            .into()),
        }
    }

    fn open(&self, setting: &Setting<'_>, position: u64) -> Result<Box<dyn Replay>, Error> {
        let batch_size = setting.training.batch_size;
        match self {
            Self::Prepared(prepared) => {
                let options = SourceOptions { batch_size, shuffle: None, skip_batches: position };
                let source = match &setting.sampling {
                    None => prepared.source(Split::Train, Use::Rank, options)?,
                    Some(sampling) => {
                        let (extra, seed) = (setting.training.negatives, setting.training.seed);
                        let negatives = Negatives::new(setting.encoder, sampling.clone(), extra, seed)?;
                        let edit = Box::new(move |x: &mut Examples, batch: u64| negatives.add(x, batch));
                        prepared.source_with(Split::Train, Use::Recall, options, edit)?
                    }
                };
                Ok(Box::new(Numbered::new(source, position)))
            }
            Self::Raw(raw) => {
                let options = DirectOptions { batch_size, skip_rows: position, strict: raw.strict };
                Ok(Box::new(Direct::start(raw.files.clone(), raw.rows.clone(), options)?))
            }
        }
    }
}

/// One stream to learn.
pub struct StreamJob<'a> {
    /// The rows.
    pub rows: Rows<'a>,
    /// The model.
    pub model: &'a ModelConfig,
    /// Hyperparameters.
    pub training: &'a TrainConfig,
    /// Directory of the checkpoints; made if absent.
    pub dir: &'a Path,
    /// Go on from the latest checkpoint, if there is one.
    pub resume: bool,
    /// A saved model to begin with.
    pub from: Option<&'a Path>,
    /// Rows between checkpoints; only at the end when absent.
    pub checkpoint_every: Option<u64>,
    /// Rows between points of progressive validation; doubling when absent.
    pub report_every: Option<u64>,
}

impl StreamJob<'_> {
    /// Learns to the end of the rows.
    pub fn run(&self, global: &Global) -> Result<(Learner, StreamOutcome), Failure> {
        check_streams(&self.model.name)?;
        check_keys(self.model, self.training.changed().iter().map(String::as_str))?;
        let role = role_of(&self.model.name)?;
        let total = self.rows.total(use_of(role));
        let (training, idle) = streamed(self.training, total);
        if !idle.is_empty() && !global.quiet {
            eprintln!(
                "note: a stream has no epochs and no validation: [training] {} play no part",
                idle.join(", ")
            );
        }
        let tasks = self.rows.tasks();
        let setting = Setting {
            encoder: self.rows.encoder(),
            tasks: &tasks,
            model: self.model,
            training: &training,
            sampling: self.rows.sampling(self.model, &training)?,
        };
        let (mut learner, state) = self.begin(&setting)?;
        let made = !self.dir.exists();
        std::fs::create_dir_all(self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        let title = format!("stream {}", self.model.name);
        let bar = Bar::new(&title, total, "rows", global.quiet);
        let headed = Cell::new(false);
        let report = |point: &Point| {
            let logloss = output::figure(point.metrics.get("logloss").copied());
            bar.note(format!("log-loss {logloss}"));
            if !global.json {
                print_point(point, !headed.replace(true));
            }
        };
        let rows_of = |batches: u64| batches.saturating_mul(training.batch_size as u64);
        let progress = |state: &StreamState| bar.at(state.rows);
        let open: &OpenStream<'_> = &|position| self.rows.open(&setting, position);
        let stream = Stream {
            config: &training,
            open,
            dir: self.dir,
            checkpoint_every: self.checkpoint_every.or(training.checkpoint_every.map(rows_of)),
            report_every: self.report_every,
            progress: &progress,
            report: &report,
        };
        let outcome = stream.train(&mut learner, state).inspect_err(|_| {
            // Only an empty folder can be removed so: a stream that never came to a checkpoint leaves nothing.
            let _ = made.then(|| std::fs::remove_dir(self.dir));
        })?;
        // A stream that had ended before has its record, and what was measured since.
        if outcome.new_rows > 0 || !self.dir.join(RECORD).exists() {
            RunRecord::new(self.model, &training, &tasks, self.rows.place())
                .with_stream(&outcome)
                .save(self.dir)?;
        }
        let rate = outcome.new_rows as f64 / outcome.seconds.max(1e-9);
        bar.done(format!("{} rows, {rate:.0} rows/s", outcome.new_rows));
        if let Some(bad) = outcome.bad.as_ref().filter(|_| !global.quiet) {
            eprintln!("bad values, replaced by defaults (refuse them with --strict):\n{bad}");
        }
        Ok((learner, outcome))
    }

    fn begin(&self, setting: &Setting<'_>) -> Result<(Learner, Option<StreamState>), Failure> {
        let latest = self.dir.join(LATEST);
        if self.resume && latest.exists() {
            let (learner, state) = checkpoint::load_stream(&latest, setting)?;
            self.check_position(&state)?;
            return Ok((learner, Some(state)));
        }
        let mut learner = checkpoint::fresh(setting, self.from)?;
        if let Rows::Prepared(prepared) = &self.rows {
            learner.set_negatives_kept(prepared.negatives_kept());
        }
        Ok((learner, None))
    }

    /// Prepared rows that end before the position were prepared anew from other files. (Text files are looked at as they are read.)
    fn check_position(&self, state: &StreamState) -> Result<(), Failure> {
        let Rows::Prepared(prepared) = &self.rows else { return Ok(()) };
        // A retriever's rows are counted with the negatives that are drawn to them.
        let there = prepared.rows(Split::Train, Use::Rank);
        match role_of(&self.model.name)? {
            Role::Ranker if !state.finished && state.rows > there => Err(format!(
                "{}: {there} training rows, but {} were learned from before the stream was broken off; go on with the data \
                 that it began with",
                prepared.dir().display(),
                state.rows
            )
            .into()),
            _ => Ok(()),
        }
    }
}

/// The hyperparameters of a recipe of epochs for a stream of so many rows (0 where that is not known), and the keys that play no
/// part: what goes by epochs and validation.
fn streamed(training: &TrainConfig, rows: u64) -> (TrainConfig, Vec<&'static str>) {
    let steps = rows.div_ceil(training.batch_size.max(1) as u64);
    let schedule = training.schedule.map(|s| if rows > 0 { s.or_total(steps) } else { s });
    if training.mode == TrainMode::Stream {
        return (TrainConfig { schedule, ..training.clone() }, Vec::new());
    }
    let idle = [
        ("average", training.average.is_some()),
        ("monitor", training.monitor.is_some()),
        ("evaluate_every", training.evaluate_every.is_some()),
        ("reduce_on_plateau", training.reduce_on_plateau.is_some()),
        ("reset_rows_each_epoch", training.reset_rows_each_epoch),
    ];
    let streamed = TrainConfig {
        mode: TrainMode::Stream,
        average: None,
        monitor: None,
        evaluate_every: None,
        reduce_on_plateau: None,
        reset_rows_each_epoch: false,
        schedule,
        ..training.clone()
    };
    (streamed, idle.into_iter().filter_map(|(key, set)| set.then_some(key)).collect())
}

/// The columns of a point, and their keys.
const COLUMNS: [(&str, &str); 4] = [
    ("log-loss", "logloss"),
    ("auc", "auc"),
    ("window log-loss", "window.logloss"),
    ("window auc", "window.auc"),
];

fn print_point(point: &Point, head: bool) {
    if head {
        let names: Vec<String> = COLUMNS.iter().map(|(name, _)| format!("{name:>15}")).collect();
        output::line(format!("{:>12} {}", "rows", names.join(" ")));
    }
    let figures =
        COLUMNS.iter().map(|(_, key)| format!("{:>15}", output::figure(point.metrics.get(*key).copied())));
    output::line(format!("{:>12} {}", point.rows, figures.collect::<Vec<_>>().join(" ")));
}

/// What became of the weights, in one line.
pub fn sparsity_line(s: &Sparsity) -> String {
    format!(
        "{} of {} weights are zero ({:.1} %); {} of {} rows are exported",
        s.zeros,
        s.weights,
        100.0 * s.share,
        s.rows_kept,
        s.rows
    )
}
