//! `millstream recall mine`.

use clap::Args;
use millstream_data::{PassedOver, Split};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

use crate::chain::{Chain, RunDir};
use crate::failing::Failing;
use crate::progress::Bar;
use crate::{Failure, Global, Verdict, measure, output, run_file};

/// Requests answered between two looks at the clock.
const WAVE: usize = 256;

/// Write down what a run's chain ranks and does not show, for `[training.hard_negatives]`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream recall mine --run millstream-quickstart --out hard.jsonl
  millstream recall mine --run millstream-quickstart --out hard.jsonl --keep 50 --skip 100 --users 5000

Then, where the two towers are trained:
  [training.hard_negatives]
  file = \"hard.jsonl\"
  each = 2

Each user with a past is asked for once, as they were when the validation part began. A server writes such lines of live requests to
RUN/passed_over.jsonl where run.toml has [passed_over] with keep above 0.")]
pub struct Options {
    /// Folder of a run, as `quickstart` leaves it.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// File to write, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Candidates written down of each request, evenly spread over the ranking below --skip.
    #[arg(long, value_name = "N", default_value = "20")]
    keep: usize,
    /// Candidates below the page that are left out.
    #[arg(long, value_name = "N", default_value = "20")]
    skip: usize,
    /// Items on a page.
    #[arg(long, value_name = "N", default_value = "10")]
    page: usize,
    /// Users at most, drawn by seed; all when absent.
    #[arg(long, value_name = "N")]
    users: Option<usize>,
}

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    if options.keep == 0 || options.page == 0 || options.users == Some(0) {
        return Err("--keep, --page and --users must be above 0".into());
    }
    let dir = RunDir(options.run.clone());
    let mut config = run_file::read(&dir)?;
    (config.passed_over.keep, config.passed_over.skip) = (options.keep, options.skip);
    let chain = Chain::open(&dir, config, &[Split::Train])?;
    let users = chain.prepared.users_before(Split::Valid, options.users, measure::EVAL_SEED)?;
    let requests = chain.requests(&users, options.page);
    let bar = Bar::new("mine", requests.len() as u64, "requests", global.quiet);
    let (mut text, mut lines, mut items) = (Vec::new(), 0u64, 0u64);
    let mut failing = Failing::default();
    for (wave, asked) in requests.chunks(WAVE).enumerate() {
        let feeds = chain.pipeline.recommend_batch(asked)?;
        failing.hear(&feeds);
        for (feed, request) in feeds.into_iter().zip(asked) {
            if feed.passed_over.is_empty() {
                continue;
            }
            (lines, items) = (lines + 1, items + feed.passed_over.len() as u64);
            let line = PassedOver { time_ms: request.time_ms, user: feed.user, items: feed.passed_over };
            serde_json::to_writer(&mut text, &line)?;
            writeln!(text)?;
        }
        bar.at((wave * WAVE + asked.len()) as u64);
    }
    bar.done(format!("{lines} requests with {items} items"));
    if lines == 0 {
        return Err(format!(
            "no candidate was ranked and left over: the page is {}, {} more are left out, and [rank] candidates is {}",
            options.page,
            options.skip,
            chain.pipeline.config().rank.candidates
        )
        .into());
    }
    chain.tell_notes();
    failing.tell(requests.len());
    millstream_data::write_text(&options.out, &String::from_utf8(text)?)?;
    output::line(format!("{}: {lines} requests, {items} items", options.out.display()));
    if global.json {
        output::json(&json!({
            "requests": lines, "items": items, "out": options.out, "failed": failing,
            "peak_rss_mb": output::peak_rss_mb(),
        }));
    }
    Ok(Verdict::Done)
}
