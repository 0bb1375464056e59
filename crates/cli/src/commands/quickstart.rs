//! `millstream quickstart`: the whole loop on a synthetic world or on a folder of logs.

use clap::Args;
use millstream_data::config::DatasetConfig;
use millstream_data::synth::{FileFormat, World, WorldConfig, write_world};
use millstream_data::{EvalUsers, Prepared, Split};
use millstream_models::ModelConfig;
use millstream_pipeline::PipelineConfig;
use millstream_schema::{Clock, config};
use millstream_train::eval;
use millstream_train::{Metrics, TrainConfig};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::chain::{self, Chain, RunDir};
use crate::clock::ShiftedClock;
use crate::failing::Failing;
use crate::progress::Bar;
use crate::recalling::{self, Lesson};
use crate::records::Records;
use crate::serving::{self, Listen};
use crate::training::Job;
use crate::{Failure, Global, Verdict, discover, measure, output, preparing, presets, run_file};

/// The whole loop: logs, models, one table of what they reach, a served feed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream quickstart                              then open the address it prints
  millstream quickstart --once                       fetch one feed over HTTP and exit
  millstream quickstart --data path/to/folder        a folder with dataset.toml, or RecBole's atomic files
  millstream quickstart --users 500 --items 2000 --exposures 100000 --once")]
pub struct Options {
    /// Folder of real logs instead of a synthetic world.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["users", "items", "exposures"])]
    data: Option<PathBuf>,
    /// Folder for data, models and the live ledger; what an earlier quickstart left there is replaced.
    #[arg(long, value_name = "DIR", default_value = "millstream-quickstart")]
    dir: PathBuf,
    /// Fetch one feed over HTTP, print it with its trace, and exit.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    listen: Listen,
    /// Users of the synthetic world.
    #[arg(long)]
    users: Option<u32>,
    /// Items of the synthetic world.
    #[arg(long)]
    items: Option<u32>,
    /// Exposures of the synthetic world.
    #[arg(long)]
    exposures: Option<u64>,
    /// Seed of the world and of training.
    #[arg(long)]
    seed: Option<u64>,
    /// Users the table is measured on, drawn by seed.
    #[arg(long, value_name = "N", default_value = "2000")]
    eval_users: usize,
    /// Models and chain (TOML) instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    models: Option<PathBuf>,
}

/// Which models and which chain.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Models {
    retriever: Part,
    ranker: Part,
    #[serde(default)]
    pipeline: PipelineConfig,
    /// Channel to the weights of its order that are tried on the validation split; see [`tune`].
    #[serde(default)]
    tune: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    model: ModelConfig,
    #[serde(default)]
    training: TrainConfig,
}

/// Items per list in the table.
const LIST: usize = 50;
const CUTS: [usize; 2] = [10, 50];
/// Those of the retriever's validation.
const VALID_CUTS: [usize; 3] = [10, 20, 50];
/// A file that says that a folder is ours to replace.
const MARK: &str = "quickstart.mark";

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    let started = Instant::now();
    // Before minutes of work: a port that is taken would only be found at their end.
    options.listen.check()?;
    let mut models = models(options.models.as_deref())?;
    if let Some(seed) = options.seed {
        models.retriever.training.seed = seed;
        models.ranker.training.seed = seed;
    }
    // Before an earlier run is replaced.
    let found = options.data.as_deref().map(discover::dataset).transpose()?;
    if let Some(config) = &found {
        run_file::match_ids(&mut models.pipeline.catalogue, &config.dataset)?;
    }
    let dir = fresh(&options.dir)?;
    let (root, config, world) = match (&options.data, found) {
        (Some(folder), Some(config)) => (folder.clone(), config, None),
        _ => {
            let (root, config, world) = make_world(&options, &dir, global)?;
            (root, config, Some(world))
        }
    };
    run_file::match_ids(&mut models.pipeline.catalogue, &config.dataset)?;
    preparing::run(&root, &config, &dir.prepared(), false, global)?;
    let prepared = Prepared::open(&dir.prepared())?;
    let records = Records::read(&root, &config, &prepared)?;
    records.save(&dir.records())?;
    // Before minutes of work: a name that there is not would only be found at their end.
    drop(chain::catalogue(&prepared, &records, &models.pipeline)?);
    drop(records);
    train(&prepared, &models, &dir, global)?;
    tune(&mut models, &dir, options.eval_users, global)?;
    // From here on the run can be served, whatever becomes of measuring it.
    run_file::write(&dir, &models.pipeline)?;
    let (table, failing) = table(&options, &models, &dir, world.as_ref(), global)?;
    let seconds = started.elapsed().as_secs_f64();
    print_table(&table, world.is_some());
    let end_ms = world.as_ref().map_or_else(|| last_action(&prepared), |w| Ok(w.end_ms()))?;
    drop((world, prepared));
    let report = json!({
        "table": table, "failed": failing, "seconds": seconds, "peak_rss_mb": output::peak_rss_mb(),
    });
    serve(&options, &dir, models.pipeline, (end_ms, report), global)
}

fn models(file: Option<&Path>) -> Result<Models, Failure> {
    let Some(path) = file else { return Ok(config::parse(presets::QUICKSTART, "presets/quickstart.toml")?) };
    let models: Models = config::read(path)?;
    models.pipeline.check().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(models)
}

/// An empty folder; one that another program filled is left alone.
fn fresh(dir: &Path) -> Result<RunDir, Failure> {
    let io = |e: std::io::Error| format!("{}: {e}", dir.display());
    let is_empty = |dir: &Path| std::fs::read_dir(dir).map(|mut d| d.next().is_none());
    if dir.exists() && !dir.join(MARK).exists() && !is_empty(dir).map_err(io)? {
        return Err(format!(
            "{}: is not empty and no quickstart made it; name another folder with --dir",
            dir.display()
        )
        .into());
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(io)?;
    }
    std::fs::create_dir_all(dir).map_err(io)?;
    std::fs::write(dir.join(MARK), "made by `millstream quickstart`, which may replace this folder\n")
        .map_err(io)?;
    Ok(RunDir(dir.to_owned()))
}

fn make_world(
    options: &Options,
    dir: &RunDir,
    global: &Global,
) -> Result<(PathBuf, DatasetConfig, World), Failure> {
    let default = WorldConfig::default();
    let wanted = WorldConfig {
        users: options.users.unwrap_or(default.users),
        items: options.items.unwrap_or(default.items),
        exposures: options.exposures.unwrap_or(default.exposures),
        seed: options.seed.unwrap_or(default.seed),
        ..default
    };
    let world = World::new(&wanted)?;
    let root = dir.0.join("world");
    let bar = Bar::new("make world", wanted.exposures, "events", global.quiet);
    let written = write_world(&world, &root, FileFormat::Csv, &mut |rows| bar.at(rows))?;
    bar.done(format!("{} users, {} items, {} events", wanted.users, wanted.items, written.event_rows));
    let text = presets::world(FileFormat::Csv.extension());
    std::fs::write(root.join("dataset.toml"), &text)?;
    Ok((root, DatasetConfig::parse(&text, "presets/world.toml")?, world))
}

fn train(prepared: &Prepared, models: &Models, dir: &RunDir, global: &Global) -> Result<(), Failure> {
    for (part, dir) in [(&models.retriever, dir.retriever()), (&models.ranker, dir.ranker())] {
        let (model, training) = (&part.model, &part.training);
        let job = Job { prepared, model, training, k: &VALID_CUTS, dir: &dir, resume: false, from: None };
        job.run(global)?;
    }
    // Of the training part alone: the others are measured.
    let lesson = Lesson { until: Split::Train, seed: models.retriever.training.seed };
    let offline: Vec<_> = models.pipeline.recall.models.iter().collect();
    recalling::train(dir, prepared, &offline, lesson, global)?;
    Ok(())
}

/// Tries all combinations of the weights to be tried on the validation split, with counts of the training split
/// only, and keeps those with the best √(Recall@50 · NDCG@10).
fn tune(models: &mut Models, dir: &RunDir, most: usize, global: &Global) -> Result<(), Failure> {
    if models.tune.is_empty() {
        return Ok(());
    }
    let bar = Bar::new("tune the chain", 0, "settings", global.quiet);
    let mut chain = Chain::open(dir, models.pipeline.clone(), &[Split::Train])?;
    let users = chain.prepared.eval_users(Split::Valid, Some(most), measure::EVAL_SEED)?;
    if users.users.is_empty() {
        bar.done("no user has a past and a future around the validation split; weights stay as they are");
        return Ok(());
    }
    let mut failing = Failing::default();
    let mut best: Option<(f64, BTreeMap<String, f32>)> = None;
    for (tried, weights) in combinations(&models.tune).into_iter().enumerate() {
        chain.fused_with(&weights)?;
        failing = Failing::default();
        let lists = full_chain(&chain, &users, &mut failing)?;
        let metrics = eval::lists(&users, &lists, &CUTS, chain.prepared.items.len());
        let of = |key: &str| metrics.get(key).copied().unwrap_or(0.0);
        let score = (of("recall@50") * of("ndcg@10")).sqrt();
        if best.as_ref().is_none_or(|(other, _)| score > *other) {
            best = Some((score, weights));
        }
        bar.at(tried as u64 + 1);
    }
    let Some((_, weights)) = best else { return Ok(()) };
    let shown: Vec<String> = weights.iter().map(|(name, w)| format!("{name} {w}")).collect();
    bar.done(format!("on {} users of the validation split: {}", users.users.len(), shown.join(", ")));
    failing.tell(users.users.len());
    models.pipeline.fuse.channels.extend(weights);
    Ok(())
}

/// One weight of each channel, in all ways.
fn combinations(tried: &BTreeMap<String, Vec<f32>>) -> Vec<BTreeMap<String, f32>> {
    let mut all = vec![BTreeMap::new()];
    for (name, weights) in tried {
        let with = |old: &BTreeMap<String, f32>, w: f32| {
            let mut new = old.clone();
            new.insert(name.clone(), w);
            new
        };
        all = all.iter().flat_map(|old| weights.iter().map(move |&w| with(old, w))).collect();
    }
    all
}

/// One way of choosing items, measured.
#[derive(serde::Serialize)]
struct Row {
    name: &'static str,
    #[serde(flatten)]
    metrics: Metrics,
}

/// Measures every way of choosing on the same users at the start of the test split.
fn table(
    options: &Options,
    models: &Models,
    dir: &RunDir,
    world: Option<&World>,
    global: &Global,
) -> Result<(Vec<Row>, Failing), Failure> {
    let bar = Bar::new("compare", 0, "lists", global.quiet);
    let past = [Split::Train, Split::Valid];
    let chain = Chain::open(dir, models.pipeline.clone(), &past)?;
    let prepared = &chain.prepared;
    let users = prepared.eval_users(Split::Test, Some(options.eval_users), measure::EVAL_SEED)?;
    if users.users.is_empty() {
        return Err("no user has both a past and a future around the split; widen split.test".into());
    }
    let mut rows = Vec::new();
    let mut add = |name: &'static str, lists: &[Vec<u32>]| {
        let mut metrics = eval::lists(&users, lists, &CUTS, prepared.items.len());
        if let Some(world) = world {
            metrics.insert("ctr@10".into(), true_rate(world, prepared, &users, lists));
        }
        rows.push(Row { name, metrics });
    };
    add("popularity", &popular(&chain, &users));
    let item_cf = chain.pipeline.resources().item_cf.clone().ok_or("ItemCF is missing from the chain")?;
    add("ItemCF", &measure::item_cf_lists(prepared, &item_cf.get(), &users, LIST));
    add(
        "two-tower",
        &eval::retriever_lists(
            &**chain.embedder(),
            &prepared.assembler,
            &measure::rules(prepared, &users),
            LIST,
        )?,
    );
    let mut failing = Failing::default();
    add("full chain", &full_chain(&chain, &users, &mut failing)?);
    if let Some(world) = world {
        add("oracle", &oracle(world, prepared, &users));
    }
    bar.done(format!("{} users with a past and a future", users.users.len()));
    failing.tell(users.users.len());
    Ok((rows, failing))
}

fn popular(chain: &Chain, users: &EvalUsers) -> Vec<Vec<u32>> {
    let mut scores = vec![0.0f32; chain.prepared.items.len()];
    for (item, score) in scores.iter_mut().enumerate() {
        *score = chain.prepared.item_positives.get(item).map_or(0.0, |&n| n as f32);
    }
    measure::shared_lists(&chain.prepared, &scores, users, LIST)
}

/// The chain as it is served, asked for every user at the start of the test split.
/// Channels that fail are done without and counted.
fn full_chain(chain: &Chain, users: &EvalUsers, failing: &mut Failing) -> Result<Vec<Vec<u32>>, Failure> {
    let feeds = chain.pipeline.recommend_batch(&chain.requests(users, LIST))?;
    failing.hear(&feeds);
    Ok(feeds.into_iter().map(|feed| feed.items.iter().map(|i| i.row).collect()).collect())
}

/// From the catalogue's rows to the world's; ids tie them.
fn world_rows(world: &World, prepared: &Prepared) -> Vec<Option<u32>> {
    prepared.items.iter().map(|id| world.item_row(id)).collect()
}

/// The best that anyone could do: every living item by its true probability.
fn oracle(world: &World, prepared: &Prepared, users: &EvalUsers) -> Vec<Vec<u32>> {
    let rows = world_rows(world, prepared);
    let rules = measure::rules(prepared, users);
    let row_of: std::collections::HashMap<u32, u32> =
        rows.iter().enumerate().filter_map(|(row, w)| Some(((*w)?, row as u32))).collect();
    (0..users.users.len())
        .into_par_iter()
        .map(|place| {
            let Some(user) = world.user_row(prepared.users.name(users.users[place])) else {
                return Vec::new();
            };
            let keep = |item: u32| row_of.get(&item).is_some_and(|&row| rules.allows(place, row));
            let best = world.best(user, users.time_ms[place], LIST, keep);
            best.iter().filter_map(|(item, _)| row_of.get(item).copied()).collect()
        })
        .collect()
}

/// Mean true click probability of the first ten items, over users.
fn true_rate(world: &World, prepared: &Prepared, users: &EvalUsers, lists: &[Vec<u32>]) -> f64 {
    let rows = world_rows(world, prepared);
    let rate = |place: usize| -> f64 {
        let Some(user) = world.user_row(prepared.users.name(users.users[place])) else { return 0.0 };
        let of = |item: &u32| {
            rows[*item as usize].map_or(0.0, |i| world.click_probability(user, i, users.time_ms[place]))
        };
        lists[place].iter().take(10).map(of).sum::<f64>() / 10.0
    };
    (0..lists.len()).into_par_iter().map(rate).sum::<f64>() / lists.len().max(1) as f64
}

fn print_table(table: &[Row], has_truth: bool) {
    let mut keys = vec!["recall@50", "ndcg@10"];
    let mut header = vec!["", "Recall@50", "NDCG@10"];
    if has_truth {
        keys.push("ctr@10");
        header.push("true CTR of top 10");
    }
    let rows: Vec<Vec<String>> = table
        .iter()
        .map(|row| {
            let figures = keys.iter().map(|k| output::figure(row.metrics.get(*k).copied()));
            [row.name.to_owned()].into_iter().chain(figures).collect()
        })
        .collect();
    output::line(output::table(&header, &rows).trim_end());
}

/// When the log ends.
fn last_action(prepared: &Prepared) -> Result<i64, Failure> {
    let mut last = i64::MIN;
    for split in Split::ALL {
        last = last.max(prepared.interactions(split)?.time_ms.into_iter().max().unwrap_or(i64::MIN));
    }
    Ok(last + 1000)
}

fn serve(
    options: &Options,
    dir: &RunDir,
    pipeline: PipelineConfig,
    (end_ms, mut report): (i64, serde_json::Value),
    global: &Global,
) -> Result<Verdict, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(ShiftedClock::showing(end_ms));
    let chain = Chain::open(dir, pipeline, &Split::ALL)?;
    chain.tell_notes();
    let parts = serving::parts(chain, dir, clock.clone(), global)?;
    let serve = options.listen.config(clock)?;
    if !options.once {
        if global.json {
            output::json(&report);
        }
        return serving::until_stopped(serve, parts);
    }
    let user = serving::busiest(&parts)?;
    let running = millstream_serve::spawn(serve, parts)?;
    let feed = serving::fetch(running.addr(), &user)?;
    serving::print_feed(&feed);
    running.shutdown();
    if global.json {
        report["feed"] = feed;
        output::json(&report);
    }
    Ok(Verdict::Done)
}
