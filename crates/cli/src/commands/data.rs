//! `millstream data synth|inspect|prepare`.

use clap::{Args, Subcommand, ValueEnum};
use millstream_data::config::DatasetConfig;
use millstream_data::inspect::inspect;
use millstream_data::leakage;
use millstream_data::logs::LogFormat;
use millstream_data::sample::{self, Labelled, Sample};
use millstream_data::synth::{self, World, WorldConfig, write_world};
use millstream_data::{Prepared, Split, write_text};
use millstream_schema::{config, suggest};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

use crate::progress::Bar;
use crate::{Failure, Global, Verdict, output, preparing, presets, recipe};

/// Make, look into and prepare data.
#[derive(Subcommand)]
pub enum Command {
    /// Make a synthetic world with known truth and write its logs.
    #[command(
        after_help = "Examples:\n  millstream data synth --out world\n  millstream data synth --out small --users 500 --items 2000 --exposures 50000 --seed 7"
    )]
    Synth(SynthOptions),
    /// What is in a log file: columns, types, missing and suspicious values, features to start from.
    #[command(
        after_help = "Examples:\n  millstream data inspect events.csv.gz\n  millstream data inspect ratings.dat --delimiter :: --columns user,item,rating,time\n  millstream data inspect ads.csv --leakage --label clicked --time shown_at\n  millstream data inspect prepared --leakage      a folder made by `data prepare`: also across its parts\n\nExit status with --leakage: 0 no leak found, 1 a leak was found, 2 bad input; what is merely suspicious leaves it at 0.\nWith --json the object has source, rows, rows_seen, positive, positive_share, columns, guessed, not_checked, findings and\nsuspicious, both of: kind (label_copy, missing, future, own_label, fades, row_order, duplicates; strong), column, figure,\nreason, advice."
    )]
    Inspect(InspectOptions),
    /// Turn log files into the prepared form that training streams.
    #[command(
        after_help = "Examples:\n  millstream data prepare world --out world/prepared            a folder that holds dataset.toml\n  millstream data prepare my/dataset.toml --data . --out prepared --strict\n  millstream data prepare frappe_deepfm --data ROOT --out prepared   the data of a recipe"
    )]
    Prepare(PrepareOptions),
}

/// Options of `data synth`.
#[derive(Args)]
pub struct SynthOptions {
    /// Folder to write to; made if absent.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// World configuration (TOML); the options below override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long)]
    users: Option<u32>,
    #[arg(long)]
    items: Option<u32>,
    #[arg(long)]
    exposures: Option<u64>,
    #[arg(long)]
    days: Option<u32>,
    #[arg(long)]
    seed: Option<u64>,
    /// How the files are written.
    #[arg(long, value_enum, default_value = "gzip")]
    format: Format,
}

/// How the files of a world are written.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Plain CSV.
    Csv,
    /// CSV, gzip.
    Gzip,
}

/// Options of `data inspect`.
#[derive(Args)]
pub struct InspectOptions {
    /// The file: CSV, TSV, JSONL, Parquet, libsvm or RecBole, plain, gzip or zstd.
    file: PathBuf,
    /// csv, tsv, jsonl, parquet, libsvm, recbole or text; by file name when absent.
    #[arg(long)]
    format: Option<String>,
    /// Between cells.
    #[arg(long)]
    delimiter: Option<String>,
    /// Column names, where the file does not name them.
    #[arg(long, value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Look at the first so many rows only; with --leakage, at about so many, evenly spread (250,000 by default).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rows: Option<u64>,
    /// Look for columns and rows that give the label away; the file may also be a prepared folder.
    #[arg(long)]
    leakage: bool,
    /// The label's column (of a prepared folder: the task); by name (label, click, target, …), or the only column of 0 and
    /// 1, when absent.
    #[arg(long, value_name = "COLUMN", requires = "leakage")]
    label: Option<String>,
    /// A label above this is positive; the greater of two values, or above the median, when absent.
    #[arg(long, value_name = "X", requires = "label", allow_negative_numbers = true)]
    above: Option<f64>,
    /// The column of the rows' times; the only column of times, or one of several by name (time, timestamp, …), when absent.
    #[arg(long, value_name = "COLUMN", requires = "leakage")]
    time: Option<String>,
}

/// Options of `data prepare`.
#[derive(Args)]
pub struct PrepareOptions {
    /// A dataset.toml, a folder that holds one, or the name or file of a recipe.
    dataset: PathBuf,
    /// Folder below which the dataset's folder lies; the place of dataset.toml by default.
    #[arg(long, value_name = "ROOT")]
    data: Option<PathBuf>,
    /// Folder for the prepared form; replaced if it holds an earlier one.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Refuse bad feature values with file and line instead of counting them.
    #[arg(long)]
    strict: bool,
}

/// Runs the command.
pub fn run(command: Command, global: &Global) -> Result<Verdict, Failure> {
    match command {
        Command::Synth(options) => make(&options, global),
        Command::Inspect(options) => look(&options, global),
        Command::Prepare(options) => prepare(&options, global),
    }
}

fn make(options: &SynthOptions, global: &Global) -> Result<Verdict, Failure> {
    let mut config = match &options.config {
        Some(path) => WorldConfig::from_toml(&config::read_text(path)?, &path.display().to_string())?,
        None => WorldConfig::default(),
    };
    config.users = options.users.unwrap_or(config.users);
    config.items = options.items.unwrap_or(config.items);
    config.exposures = options.exposures.unwrap_or(config.exposures);
    config.days = options.days.unwrap_or(config.days);
    config.seed = options.seed.unwrap_or(config.seed);
    let started = Instant::now();
    let world = World::new(&config)?;
    let format = match options.format {
        Format::Csv => synth::FileFormat::Csv,
        Format::Gzip => synth::FileFormat::CsvGz,
    };
    let bar = Bar::new("write world", config.exposures, "events", global.quiet);
    let written = write_world(&world, &options.out, format, &mut |rows| bar.at(rows))?;
    let preset = presets::world(format.extension());
    let dataset = options.out.join("dataset.toml");
    write_text(&dataset, &preset)?;
    bar.done(format!("{} events in {}", written.event_rows, options.out.display()));
    if global.json {
        let seconds = started.elapsed().as_secs_f64();
        output::json(&json!({
            "out": options.out, "users": config.users, "items": config.items, "exposures": config.exposures,
            "events": written.event_rows, "seconds": seconds,
            "rows_per_second": written.event_rows as f64 / seconds, "peak_rss_mb": output::peak_rss_mb(),
        }));
    }
    Ok(Verdict::Done)
}

fn look(options: &InspectOptions, global: &Global) -> Result<Verdict, Failure> {
    let format = options
        .format
        .as_ref()
        .map(|name| {
            let table = [("format".to_owned(), toml::Value::from(name.as_str()))].into_iter().collect();
            millstream_schema::config::from_table::<LogFormat>(&table, "--format")
        })
        .transpose()?;
    let format = LogFormat {
        format: format.and_then(|f| f.format),
        delimiter: options.delimiter.clone(),
        header: options.columns.as_ref().map(|_| false),
        columns: options.columns.clone(),
        encoding: None,
    };
    let bar = Bar::new("inspect", 0, "rows", global.quiet);
    if options.leakage {
        return leaks(options, &format, &bar, global);
    }
    let found = inspect(&options.file, &format, options.rows, &mut |rows| bar.at(rows))?;
    bar.done(format!("{} rows", found.rows));
    if global.json {
        output::json(&found);
    } else {
        output::line(found.to_string().trim_end());
    }
    Ok(Verdict::Done)
}

/// Rows that the leakage check holds, about.
const LEAKAGE_ROWS: u64 = 250_000;

fn leaks(
    options: &InspectOptions,
    format: &LogFormat,
    bar: &Bar,
    global: &Global,
) -> Result<Verdict, Failure> {
    let most = usize::try_from(options.rows.unwrap_or(LEAKAGE_ROWS)).unwrap_or(usize::MAX / 4);
    let mut sample = if options.file.is_dir() {
        of_prepared(options, most)?
    } else {
        let (label, time) = (options.label.clone(), options.time.clone());
        let labelled = Labelled { label, time, above: options.above, most };
        sample::read(&options.file, format, &labelled, &mut |rows| bar.at(rows))?
    };
    sample.guess_time();
    let found = leakage::check(&sample);
    if global.json {
        output::json(&found);
    } else {
        output::line(found.to_string().trim_end());
    }
    Ok(if found.findings.is_empty() { Verdict::Done } else { Verdict::Missed })
}

fn of_prepared(options: &InspectOptions, most: usize) -> Result<Sample, Failure> {
    let prepared = Prepared::open(&options.file)?;
    if options.above.is_some() || options.time.is_some() {
        return Err("--above and --time are for files; a prepared folder has its labels and parts".into());
    }
    let task = match &options.label {
        None => 0,
        Some(name) => prepared
            .tasks
            .iter()
            .position(|t| t == name)
            .ok_or_else(|| suggest::unknown("task", name, prepared.tasks.iter().map(String::as_str)))?,
    };
    Ok(sample::of_prepared(&prepared, task, &Split::ALL, most)?)
}

fn prepare(options: &PrepareOptions, global: &Global) -> Result<Verdict, Failure> {
    let (config, root) = dataset_of(options)?;
    let started = Instant::now();
    let report = preparing::run(&root, &config, &options.out, options.strict, global)?;
    let seconds = started.elapsed().as_secs_f64();
    if global.json {
        let rate = report.rows_read as f64 / seconds.max(1e-9);
        output::json(&json!({
            "out": options.out, "report": report, "seconds": seconds, "rows_per_second": rate,
            "peak_rss_mb": output::peak_rss_mb(),
        }));
    } else {
        output::line(report.to_string().trim_end());
    }
    Ok(Verdict::Done)
}

/// The dataset meant, and the folder below which its files lie.
fn dataset_of(options: &PrepareOptions) -> Result<(DatasetConfig, PathBuf), Failure> {
    let path = &options.dataset;
    let file = if path.is_dir() { path.join("dataset.toml") } else { path.clone() };
    let here = file.parent().map(PathBuf::from).unwrap_or_default();
    let is_recipe = !file.exists() || std::fs::read_to_string(&file).is_ok_and(|t| t.contains("[model]"));
    if !is_recipe {
        return Ok((DatasetConfig::read(&file)?, options.data.clone().unwrap_or(here)));
    }
    if path.is_dir() {
        return Err(format!("{}: there is no dataset.toml in this folder", path.display()).into());
    }
    if path.components().count() > 1 && !file.exists() {
        return Err(format!("{}: {}", path.display(), suggest::missing_file(path)).into());
    }
    let source = recipe::find(&path.to_string_lossy(), None)?;
    let root = options.data.clone().ok_or("--data is missing: the folder that holds the dataset's folder")?;
    Ok((source.parse()?.dataset()?, root))
}
