//! `millstream index bench`.

use clap::{Args, Subcommand, ValueEnum};
use millstream_index::bench::{Asked, Point, Shape, in_share, point, read_vectors, speed_at, synthetic};
use millstream_index::{Flat, Hnsw, HnswConfig, Index, Metric, Storage};
use millstream_schema::ItemRow;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::progress::Bar;
use crate::{Failure, Global, Verdict, output};

/// Nearest-neighbour indexes.
#[derive(Subcommand)]
pub enum Command {
    /// Recall against queries per second of the graph index, over its search effort.
    #[command(after_help = EXAMPLES)]
    Bench(Options),
}

const EXAMPLES: &str = "\
Examples:
  millstream index bench --synthetic clustered --items 200000 --dim 64
  millstream index bench --vectors items.npy --queries-from users.npy --metric inner-product
  millstream index bench --vectors sift_base.fvecs --queries 1000 --storage int8
  millstream index bench --synthetic clustered --pass 0.01
  millstream index bench --synthetic uniform --ef 32,64,128,256 --search-threads 2 --json

A file is .npy (float32, [rows, dim]) or .fvecs. Without --queries-from, the last --queries rows of the file are
taken out and asked for. Recall is measured against exact search, with --pass among the items that pass. `--threads`
sets the threads of building; searches run on one thread unless --search-threads says otherwise.

Exit status: 0; 2 when the options or a file cannot be used.";

/// Where vectors come from and what the index is like.
#[derive(Args)]
pub struct Options {
    /// Vectors of the items: a .npy or .fvecs file of float32.
    #[arg(long, value_name = "FILE", required_unless_present = "synthetic", conflicts_with = "synthetic")]
    vectors: Option<PathBuf>,
    /// Vectors to ask for; by default the last rows of the items' file.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    queries_from: Option<PathBuf>,
    /// Make vectors up instead.
    #[arg(long, value_enum)]
    synthetic: Option<Made>,
    /// Items to make up.
    #[arg(long, default_value_t = 100_000, conflicts_with = "vectors")]
    items: usize,
    /// Numbers per vector made up.
    #[arg(long, default_value_t = 64, conflicts_with = "vectors")]
    dim: usize,
    /// Seed of the vectors made up and of the graph's levels.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Queries to ask.
    #[arg(long, default_value_t = 1000)]
    queries: usize,
    /// Items wanted per query.
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// What makes vectors alike.
    #[arg(long, value_enum, default_value = "cosine")]
    metric: Alike,
    /// Links chosen per node.
    #[arg(long, default_value_t = 16)]
    m: usize,
    /// Nodes remembered while linking.
    #[arg(long, default_value_t = 200, value_name = "EF")]
    ef_construction: usize,
    /// Nodes remembered while searching, at least k, one measurement each; by default 10 to 256, more for a larger k.
    #[arg(long, value_delimiter = ',', value_name = "EF,..")]
    ef: Vec<usize>,
    /// Share of the items that pass a filter, above 0 and at most 1: searches are for the best of these.
    #[arg(long, value_name = "SHARE")]
    pass: Option<f64>,
    /// How vectors are stored.
    #[arg(long, value_enum, default_value = "f32")]
    storage: Stored,
    /// Compare stored vectors while walking, not int8 copies of them.
    #[arg(long)]
    no_coarse: bool,
    /// Threads that search; the speed is that of all together.
    #[arg(long, default_value_t = 1, value_name = "N")]
    search_threads: usize,
    /// Rounds per measurement, of which the fastest counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Made {
    /// Around a thousand centres.
    Clustered,
    /// Without any structure: the hardest case.
    Uniform,
}

#[derive(Clone, Copy, ValueEnum)]
enum Alike {
    InnerProduct,
    Cosine,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stored {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number.
    Bf16,
    /// 1 byte a number and a scale per vector.
    Int8,
}

/// Items, and what is asked for.
struct Sample {
    dim: usize,
    /// `[items, D]`.
    base: Vec<f32>,
    /// `[queries, D]`.
    queries: Vec<f32>,
}

/// What the last line says.
#[derive(Serialize)]
struct Report {
    items: usize,
    dim: usize,
    queries: usize,
    k: usize,
    storage: Storage,
    /// Whether walks compared int8 copies.
    coarse: bool,
    /// Items that pass the filter; all where there is none.
    passing: usize,
    build_seconds: f64,
    search_threads: usize,
    points: Vec<Measured>,
    /// Queries per second where recall is 0.95, between the points around it; where even the smallest `ef` has more,
    /// that one's.
    qps_at_95: Option<f64>,
    /// That smallest `ef`: recall 0.95 takes at most so much. Null where `qps_at_95` lies between points.
    at_most: Option<usize>,
}

#[derive(Serialize)]
struct Measured {
    ef: usize,
    recall: f64,
    qps: f64,
}

/// Runs the command.
pub fn run(command: Command, global: &Global) -> Result<Verdict, Failure> {
    let Command::Bench(options) = command;
    check(&options)?;
    let report = bench(&options, global)?;
    if global.json {
        output::json(&report);
        return Ok(Verdict::Done);
    }
    let Report { items, dim, queries, k, build_seconds, passing, .. } = report;
    output::line(format!(
        "{items} items of dim {dim}, built in {build_seconds:.1} s; {queries} queries, k {k}"
    ));
    if passing < items {
        output::line(format!("{passing} items pass the filter"));
    }
    if config(&options).copies() && !report.coarse {
        output::line("walks compare the vectors themselves: int8 copies do not tell these apart well enough");
    }
    let row = |p: &Measured| {
        let recall = output::figure(Some(p.recall));
        vec![p.ef.to_string(), recall, format!("{:.0}", p.qps), format!("{:.1}", 1e6 / p.qps)]
    };
    let rows: Vec<Vec<String>> = report.points.iter().map(row).collect();
    let recall = format!("recall@{k}");
    output::line(output::table(&["ef", &recall, "queries/s", "µs each"], &rows));
    match (report.qps_at_95, report.at_most) {
        (Some(qps), None) => output::line(format!("at recall 0.95: {qps:.0} queries/s")),
        (Some(qps), Some(ef)) => output::line(format!(
            "at recall 0.95: at least {qps:.0} queries/s, with an ef of at most {ef}, the smallest measured"
        )),
        _ => {}
    }
    Ok(Verdict::Done)
}

/// What clap cannot know.
fn check(options: &Options) -> Result<(), Failure> {
    let counts = [
        ("--items", options.items),
        ("--queries", options.queries),
        ("--k", options.k),
        ("--search-threads", options.search_threads),
        ("--rounds", options.rounds),
    ];
    if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
        return Err(format!("{name} is 0, expected at least 1").into());
    }
    if let Some(ef) = options.ef.iter().find(|&&ef| ef < options.k) {
        let k = options.k;
        return Err(format!("--ef {ef} is below --k {k}: a search remembers at least what is wanted").into());
    }
    match options.pass {
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            Err(format!("--pass is {share}, expected a share above 0 and at most 1").into())
        }
        _ => Ok(()),
    }
}

fn bench(options: &Options, global: &Global) -> Result<Report, Failure> {
    let Sample { dim, base, queries } = sample(options)?;
    let items: Vec<ItemRow> = (0..(base.len() / dim) as u32).collect();
    let metric = match options.metric {
        Alike::InnerProduct => Metric::InnerProduct,
        Alike::Cosine => Metric::Cosine,
    };
    let share = options.pass.unwrap_or(1.0);
    let keep = |item: ItemRow| in_share(item, share);
    let passing = items.iter().filter(|&&item| keep(item)).count();
    if passing == 0 {
        return Err(format!("--pass {share} lets none of {} items through", items.len()).into());
    }
    let bar = Bar::new("exact answers", 0, "queries", global.quiet);
    let flat = Flat::build(dim, metric, &items, &base)?;
    let truth = flat.search_batch(&queries, options.k, &|_, item| keep(item))?;
    drop(flat);
    bar.done(format!("{} queries", truth.len()));
    let bar = Bar::new("graph", 0, "items", global.quiet);
    let started = Instant::now();
    let mut index = Hnsw::build(metric, config(options), dim, &items, &base)?;
    let build_seconds = started.elapsed().as_secs_f64();
    bar.done(format!("{} items in {build_seconds:.1} s", items.len()));
    let &Options { k, rounds, search_threads, .. } = options;
    let parallel = search_threads > 1;
    let asked = Asked { queries: &queries, truth: &truth, k, keep: &keep, rounds, parallel };
    let points = points(options, &mut index, asked)?;
    let smallest = points.first().filter(|point| point.recall >= 0.95);
    let qps_at_95 = smallest.map(|point| point.qps).or_else(|| speed_at(&points, 0.95));
    let at_most = smallest.map(|point| point.ef);
    let points = points.iter().map(|&Point { ef, recall, qps }| Measured { ef, recall, qps }).collect();
    let (storage, coarse) = (index.config().storage, index.is_coarse());
    let (items, queries) = (items.len(), truth.len());
    Ok(Report {
        items,
        dim,
        queries,
        k,
        storage,
        coarse,
        passing,
        build_seconds,
        search_threads,
        points,
        qps_at_95,
        at_most,
    })
}

fn config(options: &Options) -> HnswConfig {
    let storage = match options.storage {
        Stored::F32 => Storage::F32,
        Stored::Bf16 => Storage::Bf16,
        Stored::Int8 => Storage::Int8,
    };
    let &Options { m, ef_construction, seed, no_coarse, .. } = options;
    HnswConfig { m, ef_construction, seed, storage, coarse: !no_coarse, ..HnswConfig::default() }
}

/// Efforts measured for ten items wanted.
const EFS: [usize; 10] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// One measurement per effort, the smallest first.
fn points(options: &Options, index: &mut Hnsw, asked: Asked<'_>) -> Result<Vec<Point>, Failure> {
    let mut efs = match options.ef.is_empty() {
        // In the same relation to what is wanted.
        true => EFS.map(|ef| ef.saturating_mul(options.k.max(10)) / 10).to_vec(),
        false => options.ef.clone(),
    };
    efs.sort_unstable();
    efs.dedup();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.search_threads).build()?;
    Ok(efs.into_iter().map(|ef| pool.install(|| point(index, ef, asked))).collect::<Result<_, _>>()?)
}

fn sample(options: &Options) -> Result<Sample, Failure> {
    let Some(path) = &options.vectors else {
        let shape = match options.synthetic {
            Some(Made::Uniform) => Shape::Uniform,
            _ => Shape::Clustered,
        };
        let (dim, rows) = (options.dim, options.items.saturating_add(options.queries));
        if dim == 0 || rows.checked_mul(dim).is_none_or(|numbers| numbers > u32::MAX as usize) {
            return Err(format!("--items {} of --dim {dim} cannot be made up", options.items).into());
        }
        let base = synthetic(shape, rows, dim, options.seed);
        return Ok(cut(dim, base, options.queries));
    };
    let read = |path: &Path| match read_vectors(path) {
        Ok((_, vectors)) if vectors.is_empty() => Err(format!("{} holds no vectors", path.display()).into()),
        read => read.map_err(Failure::from),
    };
    let (dim, base) = read(path)?;
    if let Some(from) = &options.queries_from {
        let (own, mut queries) = read(from)?;
        if own != dim {
            let (from, path) = (from.display(), path.display());
            return Err(format!("{from} holds vectors of {own} numbers, {path} of {dim}").into());
        }
        queries.truncate(options.queries * dim);
        return Ok(Sample { dim, base, queries });
    }
    let rows = base.len() / dim;
    if rows <= options.queries {
        let path = path.display();
        return Err(format!(
            "{path} holds {rows} vectors: not enough to take {} queries out",
            options.queries
        )
        .into());
    }
    Ok(cut(dim, base, options.queries))
}

/// Takes the last rows out as queries.
fn cut(dim: usize, mut base: Vec<f32>, queries: usize) -> Sample {
    let queries = base.split_off(base.len() - queries * dim);
    Sample { dim, base, queries }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Line::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).map(|line| line.options)
    }

    #[test]
    fn recall_grows_with_effort_and_the_report_says_what_was_measured() {
        let options = parse(
            "--synthetic clustered --items 3000 --dim 16 --queries 50 --ef 80,10 --storage bf16 --rounds 1",
        )
        .unwrap();
        let global = Global { json: false, quiet: true, threads: None };
        let report = bench(&options, &global).unwrap();
        assert_eq!((report.items, report.dim, report.queries), (3000, 16, 50));
        assert_eq!(report.points.iter().map(|p| p.ef).collect::<Vec<_>>(), [10, 80]);
        assert!(report.points[0].recall <= report.points[1].recall && report.points[1].recall > 0.9);
        assert!(report.points.iter().all(|p| p.qps > 0.0) && report.storage == Storage::Bf16);
    }

    #[test]
    fn a_filter_is_measured_among_what_passes_and_the_smallest_effort_bounds_the_speed() {
        let options =
            parse("--synthetic clustered --items 3000 --dim 16 --queries 50 --pass 0.1 --rounds 1").unwrap();
        let global = Global { json: false, quiet: true, threads: None };
        let report = bench(&options, &global).unwrap();
        assert!((200..400).contains(&report.passing), "{}", report.passing);
        assert!(report.points.iter().all(|p| p.recall > 0.9), "those who do not pass are no answers");
        let (first, k) = (&report.points[0], parse("--synthetic uniform --k 20 --pass 1").unwrap());
        assert_eq!((report.at_most, report.qps_at_95), (Some(first.ef), Some(first.qps)));
        check(&k).unwrap();
    }

    #[test]
    fn bad_options_are_refused_with_one_sentence() {
        for line in ["", "--vectors a.npy --synthetic uniform", "--synthetic ring", "--queries-from q.npy"] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(
            check(&parse("--synthetic uniform --k 0").unwrap())
                .unwrap_err()
                .to_string()
                .starts_with("--k is 0")
        );
        for (line, parts) in [
            ("--ef 64,9", ["--ef 9", "--k 10"]),
            ("--ef 0", ["--ef 0", "--k 10"]),
            ("--pass 0", ["--pass is 0", "at most 1"]),
            ("--pass 1.5", ["--pass is 1.5", "at most 1"]),
            ("--pass NaN", ["--pass is NaN", "at most 1"]),
        ] {
            let options = parse(&format!("--synthetic uniform {line}")).unwrap();
            let said = check(&options).unwrap_err().to_string();
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        let said = sample(&parse("--vectors nowhere.npy").unwrap()).err().unwrap().to_string();
        assert!(said.starts_with("cannot open nowhere.npy"), "{said}");
        assert!(sample(&parse("--synthetic uniform --dim 0").unwrap()).is_err());
    }
}
