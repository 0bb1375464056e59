//! `millstream recipe list|run`.

use clap::{Args, Subcommand};
use millstream_data::config::{DatasetConfig, Kind};
use millstream_data::{Prepared, Split, Use};
use millstream_models::snapshot::Role;
use millstream_train::config::TrainMode;
use millstream_train::seeds::mean_and_sd;
use millstream_train::stream::Sparsity;
use millstream_train::{LATEST, Metrics, role_of};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::at_once::Bench;
use crate::recipe::{self, Recipe, Target};
use crate::streaming::{self, Raw, Rows, StreamJob};
use crate::training::{Job, use_of};
use crate::twins::Twins;
use crate::{Failure, Global, Verdict, measure, output, preparing};

/// Recipes: datasets, models and the published figures they reach.
#[derive(Subcommand)]
pub enum Command {
    /// List the recipes.
    List(ListOptions),
    /// Prepare, train, measure on the test split, and compare with the published figure.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunOptions),
}

const RUN_EXAMPLES: &str = "\
Examples:
  millstream recipe run frappe_deepfm --data ROOT        ROOT holds a folder per dataset
  millstream recipe run my/own.toml --data . --json      a recipe of one's own
  millstream recipe run ml_1m_gsasrec --data ROOT --out run             checkpoints are kept, and
  millstream recipe run ml_1m_gsasrec --data ROOT --out run --resume    after a kill it goes on
  millstream recipe run frappe_deepfm --data ROOT --seeds 3   mean and deviation of three seeds
  millstream recipe run census_mmoe --data ROOT --twins       each task beside a model of its own

A recipe with `mode = \"stream\"` is measured by progressive validation: its files are read once,
each batch is predicted before it is learned, and rows per second are from text to weights.

Exit status: 0 target met, 1 target missed, 2 bad input.";

/// Options of `recipe list`.
#[derive(Args)]
pub struct ListOptions {
    /// Folder of further recipes.
    #[arg(long, value_name = "DIR")]
    recipes: Option<PathBuf>,
}

/// Options of `recipe run`.
#[derive(Args)]
pub struct RunOptions {
    /// Name of a recipe, or path of a recipe file.
    name: String,
    /// Folder that holds the dataset folders.
    #[arg(long, value_name = "ROOT")]
    data: PathBuf,
    /// Where prepared data and checkpoints go; a temporary folder by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from what a run that was broken off left in --out; the result is that of an unbroken run.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Refuse bad feature values with file and line.
    #[arg(long)]
    strict: bool,
    /// Train with this seed instead of the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// Train with so many seeds, one after the other from the recipe's on; metrics are means, the target is for them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Also train the model for each task alone, and set what each task reaches beside it.
    #[arg(long)]
    twins: bool,
    /// Folder of further recipes.
    #[arg(long, value_name = "DIR")]
    recipes: Option<PathBuf>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    recipe: &'a str,
    metrics: &'a Metrics,
    target: &'a Target,
    met: bool,
    rows_per_second: f64,
    seconds: f64,
    peak_rss_mb: f64,
    valid: Option<&'a Metrics>,
    threads: usize,
    seed: u64,
    /// Seeds trained with.
    seeds: u64,
    /// Standard deviations over the seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    sd: Option<&'a Metrics>,
    /// Streams: zero weights and exported rows, of the first seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity: Option<&'a Sparsity>,
    /// Each task beside its single-task twin.
    #[serde(skip_serializing_if = "Option::is_none")]
    twins: Option<&'a Twins>,
}

/// Runs the command.
pub fn run(command: Command, global: &Global) -> Result<Verdict, Failure> {
    match command {
        Command::List(options) => list(&options, global),
        Command::Run(options) => run_recipe(&options, global),
    }
}

fn list(options: &ListOptions, global: &Global) -> Result<Verdict, Failure> {
    let recipes = recipe::all(options.recipes.as_deref())?;
    if global.json {
        let names: Vec<&str> = recipes.iter().map(|r| r.name.as_str()).collect();
        output::json(&serde_json::json!({ "recipes": names }));
        return Ok(Verdict::Done);
    }
    let mut rows = Vec::new();
    for source in &recipes {
        let recipe = source.parse()?;
        let least = recipe.target.at_least.iter().map(|(k, v)| format!("{k} ≥ {v}"));
        let most = recipe.target.at_most.iter().map(|(k, v)| format!("{k} ≤ {v}"));
        let target: Vec<String> = least.chain(most).collect();
        rows.push(vec![source.name.clone(), target.join(", "), recipe.description]);
    }
    output::line(output::table(&["recipe", "target", "what"], &rows).trim_end());
    Ok(Verdict::Done)
}

/// What a model reached on the test split, or by progressive validation.
pub(super) struct Reached {
    pub(super) test: Metrics,
    pub(super) valid: Option<Metrics>,
    pub(super) rows: u64,
    pub(super) train_seconds: f64,
    pub(super) sd: Option<Metrics>,
    pub(super) sparsity: Option<Sparsity>,
}

fn run_recipe(options: &RunOptions, global: &Global) -> Result<Verdict, Failure> {
    let started = Instant::now();
    if options.recipes.is_some() && recipe::is_file(&options.name) {
        return Err(format!("--recipes: {} is a recipe's own file; leave --recipes out", options.name).into());
    }
    let source = recipe::find(&options.name, options.recipes.as_deref())?;
    let mut recipe = source.parse()?;
    if let Some(seed) = options.seed {
        if !recipe.draws() {
            return Err(format!("--seed: `{}` draws nothing that a seed decides", recipe.model.name).into());
        }
        recipe.training.seed = seed;
    }
    let temporary;
    let out: &Path = match &options.out {
        Some(dir) => dir,
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let raw = match recipe.training.mode {
        TrainMode::Stream => Some(Raw::of(&recipe.dataset()?, &options.data, options.strict)?),
        TrainMode::Epochs => None,
    };
    if options.twins {
        check_twins(&recipe)?;
    }
    if options.resume && recipe.learns_at_once() {
        let name = &recipe.model.name;
        return Err(format!("--resume: `{name}` learns at once; there is nothing to go on from").into());
    }
    if !options.resume && holds_run(out) {
        return Err(format!(
            "{}: holds a run already; go on from it with --resume, or name another --out",
            out.display()
        )
        .into());
    }
    let (reached, twins) = keeping_clean(out, || run_all(&recipe, raw, (out, options), global))?;
    let met = recipe.target.met(&reached.test);
    print_table(&recipe, &reached, options.seeds);
    if reached.test.is_empty() && !global.quiet {
        eprintln!(
            "note: nothing was measured: the test part holds nothing that the model could be measured by"
        );
    }
    if let Some(twins) = &twins {
        twins.print();
    }
    if global.json {
        output::json(&Report {
            recipe: &source.name,
            metrics: &reached.test,
            target: &recipe.target,
            met,
            rows_per_second: reached.rows as f64 / reached.train_seconds.max(1e-9),
            seconds: started.elapsed().as_secs_f64(),
            peak_rss_mb: output::peak_rss_mb(),
            valid: reached.valid.as_ref(),
            threads: rayon::current_num_threads(),
            seed: recipe.training.seed,
            seeds: options.seeds,
            sd: reached.sd.as_ref(),
            sparsity: reached.sparsity.as_ref(),
            twins: twins.as_ref(),
        });
    }
    Ok(if met { Verdict::Done } else { Verdict::Missed })
}

/// Whether there are checkpoints of a run below the folder.
fn holds_run(out: &Path) -> bool {
    let holds = |folder: &Path| match folder.file_name().and_then(|name| name.to_str()) {
        Some(name) if name == "model" || name.starts_with("model-") => folder.join(LATEST).exists(),
        Some(name) if name.starts_with("twin-") => holds_run(folder),
        _ => false,
    };
    std::fs::read_dir(out).is_ok_and(|entries| entries.flatten().any(|entry| holds(&entry.path())))
}

/// Runs in the folder, which is made if it is absent. A folder that was absent or empty is so again when the run fails before there
/// is a checkpoint to go on from.
fn keeping_clean<R>(out: &Path, run: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    let absent = !out.exists();
    std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let entries = || std::fs::read_dir(out).map(|all| all.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let empty = entries().is_empty();
    run().inspect_err(|_| {
        if !empty || holds_run(out) {
            return;
        }
        for entry in entries() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
        let _ = absent.then(|| std::fs::remove_dir(out));
    })
}

/// Trains and measures with all seeds, and the twins.
fn run_all(
    recipe: &Recipe,
    raw: Option<Raw>,
    (out, options): (&Path, &RunOptions),
    global: &Global,
) -> Result<(Reached, Option<Twins>), Failure> {
    let (seeds, mut twins) = (options.seeds, None);
    let resume = options.resume;
    let all = match raw {
        Some(raw) => {
            each_seed(recipe, seeds, out, &|recipe, dir| stream(recipe, &raw, (dir, resume), global))?
        }
        None => {
            let data =
                |config: &DatasetConfig, folder: &str| prepared(config, &out.join(folder), options, global);
            let dataset = recipe.dataset()?;
            let prepared = data(&dataset, "prepared")?;
            check_test(recipe, &prepared)?;
            let again = recipe.refit.then(|| data(&dataset.without_valid(), "prepared-with-valid"));
            let again = again.transpose()?;
            let all = if recipe.learns_at_once() {
                let bench = Bench::open(recipe, &options.data, &prepared, global)?;
                each_seed(recipe, seeds, out, &|recipe, _| bench.reach(recipe))?
            } else {
                each_seed(recipe, seeds, out, &|recipe, dir| {
                    reach(recipe, (&prepared, again.as_ref()), (dir, resume), global)
                })?
            };
            if options.twins {
                twins = Some(train_twins((recipe, &prepared), &all, (seeds, out, resume), global)?);
            }
            all
        }
    };
    let reached = averaged(all);
    recipe.check_reached(&reached.test)?;
    Ok((reached, twins))
}

/// Refuses a target for which there is nothing to measure, before anything is trained.
fn check_test(recipe: &Recipe, prepared: &Prepared) -> Result<(), Failure> {
    let Some(key) = recipe.target.keys().next() else { return Ok(()) };
    if !recipe.learns_at_once() && role_of(&recipe.model.name)? == Role::Ranker {
        return match prepared.rows(Split::Test, Use::Rank) {
            0 => Err(format!("[target] `{key}` cannot be measured: the test part holds no rows").into()),
            _ => Ok(()),
        };
    }
    // A table has no users to find things for; what is wrong with that is said where it is trained.
    if prepared.kind == Kind::Table {
        return Ok(());
    }
    match prepared.eval_users(Split::Test, recipe.evaluate.users, measure::EVAL_SEED)?.users.is_empty() {
        true => Err(recipe.unmeasured(key).into()),
        false => Ok(()),
    }
}

/// Refuses twins of what has none.
fn check_twins(recipe: &Recipe) -> Result<(), Failure> {
    let dataset = recipe.dataset()?;
    if dataset.tasks.len() < 2 {
        return Err("--twins: the recipe has one task; twins are for several".into());
    }
    if recipe.refit {
        return Err("--twins: not for recipes with refit = true".into());
    }
    if recipe.training.mode == TrainMode::Stream {
        return Err("--twins: not for mode = \"stream\"".into());
    }
    match role_of(&recipe.model.name)? {
        Role::Ranker => Ok(()),
        Role::Retriever => {
            Err(format!("--twins: `{}` is a retriever, which learns one task", recipe.model.name).into())
        }
    }
}

/// Trains the model for each task alone, with the same seeds, and sets it beside what the task reached with the others.
fn train_twins(
    (recipe, prepared): (&Recipe, &Prepared),
    joint: &[Reached],
    (seeds, out, resume): (u64, &Path, bool),
    global: &Global,
) -> Result<Twins, Failure> {
    let mut twins = Twins::default();
    for task in &prepared.tasks {
        let (twin, own, dir) =
            (recipe.twin(task), prepared.with_task(task)?, out.join(format!("twin-{task}")));
        let reach = |recipe: &Recipe, dir: &Path| reach(recipe, (&own, None), (dir, resume), global);
        let single = each_seed(&twin, seeds, &dir, &reach)?;
        let tests = |all: &[Reached]| all.iter().map(|r| r.test.clone()).collect::<Vec<Metrics>>();
        twins.add(task, &tests(joint), &tests(&single));
    }
    Ok(twins)
}

/// Runs the recipe with so many seeds.
fn each_seed(
    recipe: &Recipe,
    seeds: u64,
    out: &Path,
    reach: &dyn Fn(&Recipe, &Path) -> Result<Reached, Failure>,
) -> Result<Vec<Reached>, Failure> {
    if seeds == 1 {
        return Ok(vec![reach(recipe, &out.join("model"))?]);
    }
    if !recipe.draws() {
        let name = &recipe.model.name;
        let what = "draws nothing that [training] seed decides; one seed is as good as many";
        return Err(format!("--seeds: `{name}` {what}").into());
    }
    let mut all = Vec::new();
    for seed in (0..seeds).map(|n| recipe.training.seed.wrapping_add(n)) {
        let mut one = recipe.clone();
        one.training.seed = seed;
        all.push(reach(&one, &out.join(format!("model-{seed}")))?);
    }
    Ok(all)
}

/// What the seeds reached on average; a single one is what it is.
fn averaged(mut all: Vec<Reached>) -> Reached {
    if all.len() == 1 {
        return all.remove(0);
    }
    let valid: Option<Vec<&Metrics>> = all.iter().map(|r| r.valid.as_ref()).collect();
    let (test, sd) = mean_and_sd(&all.iter().map(|r| &r.test).collect::<Vec<_>>());
    Reached {
        test,
        sd: Some(sd),
        valid: valid.map(|valid| mean_and_sd(&valid).0),
        rows: all.iter().map(|r| r.rows).sum(),
        train_seconds: all.iter().map(|r| r.train_seconds).sum(),
        sparsity: all.first().and_then(|r| r.sparsity),
    }
}

/// Progressive validation straight from the files.
fn stream(
    recipe: &Recipe,
    raw: &Raw,
    (dir, resume): (&Path, bool),
    global: &Global,
) -> Result<Reached, Failure> {
    let job = StreamJob {
        rows: Rows::Raw(raw.clone()),
        model: &recipe.model,
        training: &recipe.training,
        dir,
        resume,
        from: None,
        checkpoint_every: None,
        report_every: None,
    };
    let (_, outcome) = job.run(global)?;
    Ok(Reached {
        test: outcome.metrics,
        valid: None,
        rows: outcome.new_rows,
        train_seconds: outcome.seconds,
        sd: None,
        sparsity: Some(outcome.sparsity),
    })
}

/// The data as `config` says; what a run that was broken off has prepared so is taken as it is.
fn prepared(
    config: &DatasetConfig,
    dir: &Path,
    options: &RunOptions,
    global: &Global,
) -> Result<Prepared, Failure> {
    if options.resume && dir.exists() {
        // Broken off while it was written, it does not open, and is written again.
        let left = Prepared::open(dir).ok();
        if let Some(left) = left.filter(|l| l.fingerprint() == format!("{:016x}", config.fingerprint())) {
            return Ok(left);
        }
    }
    preparing::run(&options.data, config, dir, options.strict, global)?;
    Ok(Prepared::open(dir)?)
}

/// Trains and tests; where the data is there `again` with what validates, the model is learned anew from that, for as many epochs as
/// were best.
fn reach(
    recipe: &Recipe,
    (prepared, again): (&Prepared, Option<&Prepared>),
    (dir, resume): (&Path, bool),
    global: &Global,
) -> Result<Reached, Failure> {
    let (model, training) = (&recipe.model, &recipe.training);
    let validates = prepared.part(Split::Valid, use_of(role_of(&model.name)?)).candidates > 0;
    if again.is_some() && !validates {
        return Err("refit: nothing validates, so that no number of epochs can be chosen".into());
    }
    let job = Job { prepared, model, training, k: &recipe.evaluate.k, dir, resume, from: None };
    let chosen = job.run(global)?;
    let (mut rows, mut seconds) = (chosen.outcome.rows, chosen.outcome.train_seconds);
    let best = chosen.outcome.best;
    let anew = dir.join("with-valid");
    let (learner, from, dir) = match (again, &best) {
        (Some(prepared), Some(best)) => {
            drop(chosen.learner);
            let whole = Job { prepared, dir: &anew, ..job };
            let training = &whole.ended_after(best.epoch + 1)?;
            let trained = Job { training, ..whole }.run(global)?;
            rows += trained.outcome.rows;
            seconds += trained.outcome.train_seconds;
            (trained.learner, prepared, &*anew)
        }
        _ => (chosen.learner, prepared, dir),
    };
    let test = measure::part_into(dir, (from, &learner), Split::Test, &recipe.evaluate, global)?;
    Ok(Reached {
        test: test.metrics,
        valid: best.map(|b| b.metrics),
        rows,
        train_seconds: seconds,
        sd: None,
        sparsity: None,
    })
}

fn print_table(recipe: &Recipe, reached: &Reached, seeds: u64) {
    let target = &recipe.target;
    let streamed = recipe.training.mode == TrainMode::Stream;
    let mut header = vec!["metric"];
    header.extend((!streamed).then_some("valid"));
    header.push(if streamed { "progressive" } else { "test" });
    header.extend((seeds > 1).then_some("sd"));
    header.push("target");
    let cell = |metrics: &Option<Metrics>, key: &str| {
        output::figure(metrics.as_ref().and_then(|m| m.get(key)).copied())
    };
    let row = |(key, value): (&String, &f64)| {
        let wanted = match (target.at_least.get(key), target.at_most.get(key)) {
            (Some(x), _) => format!("≥ {x}"),
            (_, Some(x)) => format!("≤ {x}"),
            _ => String::new(),
        };
        let mut row = vec![key.clone()];
        row.extend((!streamed).then(|| cell(&reached.valid, key)));
        row.push(output::figure(Some(*value)));
        row.extend((seeds > 1).then(|| cell(&reached.sd, key)));
        row.push(wanted);
        row
    };
    let rows: Vec<Vec<String>> = reached.test.iter().map(row).collect();
    output::line(output::table(&header, &rows).trim_end());
    if let Some(sparsity) = &reached.sparsity {
        output::line(streaming::sparsity_line(sparsity));
    }
    if !target.protocol.is_empty() {
        output::line(format!("protocol: {}\nsource:   {}", target.protocol, target.source));
    }
    output::line(match target.met(&reached.test) {
        _ if target.at_least.is_empty() && target.at_most.is_empty() => "no target to meet",
        true => "target met",
        false => "target missed",
    });
}
