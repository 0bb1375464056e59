//! An index that answers commands, for `bench/peers/hnsw.py`: searches are timed here, in the same rounds as those of
//! the libraries it is compared with.
//!
//! ```text
//! index_peer BASE.npy QUERIES.npy TRUTH.npy M EF_CONSTRUCTION METRIC(cosine|inner-product)
//! > build STORAGE COARSE(0|1)         {"seconds": 12.3}
//! > search EF ROUNDS THREADS(1|2..)   {"qps": 40000.0, "recall": 0.95}
//! > filtered EF MODULUS               {"qps": 2000.0, "recall": 0.99}   items divisible by MODULUS alone pass
//! ```
//! `TRUTH.npy` holds item numbers as float32, `[Q, K]`.
#![allow(clippy::print_stdout)]

use millstream_index::bench::{Asked, Point, point, read_vectors, recall};
use millstream_index::{Flat, Hit, Hnsw, HnswConfig, Index, Metric, Storage};
use std::io::BufRead;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

struct Data {
    dim: usize,
    base: Vec<f32>,
    queries: Vec<f32>,
    truth: Vec<Vec<Hit>>,
    k: usize,
    metric: Metric,
    config: HnswConfig,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, queries, truth, m, ef_construction, metric] = args.as_slice() else {
        return Err("arguments: BASE.npy QUERIES.npy TRUTH.npy M EF_CONSTRUCTION METRIC".into());
    };
    let metric = match metric.as_str() {
        "cosine" => Metric::Cosine,
        "inner-product" => Metric::InnerProduct,
        other => return Err(format!("METRIC is `{other}`, expected `cosine` or `inner-product`").into()),
    };
    let ((dim, base), (_, queries), (k, truth)) =
        (read_vectors(base)?, read_vectors(queries)?, read_vectors(truth)?);
    let hits = |row: &[f32]| row.iter().map(|&item| Hit { item: item as u32, score: 0.0 }).collect();
    let truth = truth.chunks(k).map(hits).collect();
    let config =
        HnswConfig { m: m.parse()?, ef_construction: ef_construction.parse()?, ..HnswConfig::default() };
    let data = Data { dim, base, queries, truth, k, metric, config };
    let mut index = None;
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&data, &mut index, &line?)?);
    }
    Ok(())
}

fn answer(data: &Data, index: &mut Option<Hnsw>, line: &str) -> Result<String, Failure> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match (words.as_slice(), index) {
        (["build", storage, coarse], index) => {
            let storage =
                Storage::ALL.into_iter().find(|kind| kind.name() == *storage).ok_or("no such storage")?;
            let config = HnswConfig { storage, coarse: *coarse == "1", ..data.config };
            let items: Vec<u32> = (0..(data.base.len() / data.dim) as u32).collect();
            let started = Instant::now();
            *index = Some(Hnsw::build(data.metric, config, data.dim, &items, &data.base)?);
            Ok(format!("{{\"seconds\": {}}}", started.elapsed().as_secs_f64()))
        }
        (["search", ef, rounds, threads], Some(index)) => {
            let Data { queries, truth, k, .. } = data;
            let (rounds, parallel) = (rounds.parse()?, *threads != "1");
            let asked = Asked { queries, truth, k: *k, keep: &|_| true, rounds, parallel };
            let Point { recall, qps, .. } = point(index, ef.parse()?, asked)?;
            Ok(format!("{{\"qps\": {qps}, \"recall\": {recall}}}"))
        }
        (["filtered", ef, modulus], Some(index)) => {
            let modulus: u32 = modulus.parse()?;
            index.set_ef_search(ef.parse()?)?;
            let keep = |item: u32| item.is_multiple_of(modulus);
            let items: Vec<u32> =
                (0..(data.base.len() / data.dim) as u32).filter(|&item| keep(item)).collect();
            let vectors: Vec<f32> = items
                .iter()
                .flat_map(|&i| &data.base[i as usize * data.dim..][..data.dim])
                .copied()
                .collect();
            let flat = Flat::build(data.dim, data.metric, &items, &vectors)?;
            let truth = flat.search_batch(&data.queries, data.k, &|_, _| true)?;
            let started = Instant::now();
            let found: Result<Vec<_>, _> =
                data.queries.chunks(data.dim).map(|query| index.search(query, data.k, &keep)).collect();
            let qps = truth.len() as f64 / started.elapsed().as_secs_f64();
            Ok(format!("{{\"qps\": {qps}, \"recall\": {}}}", recall(&found?, &truth)))
        }
        _ => Err(format!("unknown command, or nothing built yet: {line}").into()),
    }
}
