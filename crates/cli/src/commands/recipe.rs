//! `millstream recipe list|run`.

use clap::{Args, Subcommand};
use millstream_data::{Prepared, Split};
use millstream_models::recall::item_cf::ItemCfConfig;
use millstream_train::{Metrics, eval};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::recipe::{self, Recipe, Target};
use crate::training::Job;
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
    /// Refuse bad feature values with file and line.
    #[arg(long)]
    strict: bool,
    /// Train with this seed instead of the recipe's.
    #[arg(long)]
    seed: Option<u64>,
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
        let target: Vec<String> = recipe.target.at_least.iter().map(|(k, v)| format!("{k} ≥ {v}")).collect();
        rows.push(vec![source.name.clone(), target.join(", "), recipe.description]);
    }
    output::line(output::table(&["recipe", "target", "what"], &rows).trim_end());
    Ok(Verdict::Done)
}

/// What a model reached on the test split.
struct Reached {
    test: Metrics,
    valid: Option<Metrics>,
    rows: u64,
    train_seconds: f64,
}

fn run_recipe(options: &RunOptions, global: &Global) -> Result<Verdict, Failure> {
    let started = Instant::now();
    let source = recipe::find(&options.name, options.recipes.as_deref())?;
    let mut recipe = source.parse()?;
    if let Some(seed) = options.seed {
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
    std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let prepared_dir = out.join("prepared");
    preparing::run(&options.data, &recipe.dataset()?, &prepared_dir, options.strict, global)?;
    let prepared = Prepared::open(&prepared_dir)?;
    let reached = reach(&recipe, &prepared, out, global)?;
    let met = recipe.target.met(&reached.test);
    print_table(&recipe, &reached);
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
        });
    }
    Ok(if met { Verdict::Done } else { Verdict::Missed })
}

fn reach(recipe: &Recipe, prepared: &Prepared, out: &Path, global: &Global) -> Result<Reached, Failure> {
    if recipe.model.name == "item_cf" {
        return item_cf(recipe, prepared);
    }
    let job = Job {
        prepared,
        model: &recipe.model,
        training: &recipe.training,
        dir: &out.join("model"),
        resume: false,
    };
    let trained = job.run(global)?;
    let test = measure::part(prepared, &trained.learner, Split::Test, &recipe.evaluate, global)?;
    Ok(Reached {
        test,
        valid: trained.outcome.best.map(|b| b.metrics),
        rows: trained.outcome.rows,
        train_seconds: trained.outcome.train_seconds,
    })
}

/// Counts instead of learning: all that comes before the test split.
fn item_cf(recipe: &Recipe, prepared: &Prepared) -> Result<Reached, Failure> {
    let config: ItemCfConfig = recipe.model.options()?;
    let started = Instant::now();
    let splits = [Split::Train, Split::Valid];
    let model = measure::count_item_cf(prepared, &config, &splits)?;
    let train_seconds = started.elapsed().as_secs_f64();
    let rows = prepared.item_positives.iter().map(|&n| u64::from(n)).sum();
    let users = prepared.eval_users(Split::Test, recipe.evaluate.users, measure::EVAL_SEED)?;
    let k = &recipe.evaluate.k;
    let lists = measure::item_cf_lists(prepared, &model, &users, k.iter().copied().max().unwrap_or(0));
    Ok(Reached {
        test: eval::lists(&users, &lists, k, prepared.items.len()),
        valid: None,
        rows,
        train_seconds,
    })
}

fn print_table(recipe: &Recipe, reached: &Reached) {
    let target = &recipe.target;
    let rows: Vec<Vec<String>> = reached
        .test
        .iter()
        .map(|(key, value)| {
            let valid = reached.valid.as_ref().and_then(|m| m.get(key)).copied();
            let wanted = match (target.at_least.get(key), target.at_most.get(key)) {
                (Some(x), _) => format!("≥ {x}"),
                (_, Some(x)) => format!("≤ {x}"),
                _ => String::new(),
            };
            vec![key.clone(), output::figure(valid), output::figure(Some(*value)), wanted]
        })
        .collect();
    output::line(output::table(&["metric", "valid", "test", "target"], &rows).trim_end());
    if !target.protocol.is_empty() {
        output::line(format!("protocol: {}\nsource:   {}", target.protocol, target.source));
    }
    output::line(match target.met(&reached.test) {
        _ if target.at_least.is_empty() && target.at_most.is_empty() => "no target to meet",
        true => "target met",
        false => "target missed",
    });
}
