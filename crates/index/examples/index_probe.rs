//! Prints how fast the indexes are over 100,000 clustered vectors of dim 32, with recall@10. Run with
//! `cargo run --release -p millstream-index --example index_probe`.
#![allow(clippy::print_stdout)]

use millstream_index::{Error, Flat, Hit, Hnsw, HnswConfig, Index, Metric};
use std::time::Instant;

const ROWS: usize = 100_000;
const QUERIES: usize = 2_000;
const DIM: usize = 32;
const K: usize = 10;

fn main() -> Result<(), Error> {
    let mut draw = stream(3);
    let centres: Vec<f32> = (0..1000 * DIM).map(|_| draw()).collect();
    let mut clustered = |rows: usize| {
        let mut vectors = Vec::with_capacity(rows * DIM);
        for _ in 0..rows {
            let centre = ((draw() + 0.5) * 999.0) as usize;
            vectors.extend((0..DIM).map(|d| centres[centre * DIM + d] + 0.8 * draw()));
        }
        vectors
    };
    let (vectors, queries) = (clustered(ROWS), clustered(QUERIES));
    let items: Vec<u32> = (0..ROWS as u32).collect();
    let flat = Flat::build(DIM, Metric::InnerProduct, &items, &vectors)?;
    let truth = timed("exact, batch", &flat, &queries)?;
    let started = Instant::now();
    let config = HnswConfig::default();
    let mut graph = Hnsw::build(Metric::InnerProduct, config, DIM, &items, &vectors)?;
    println!("graph built in {:.1} s with {config:?}", started.elapsed().as_secs_f64());
    for ef in [16, 32, 64, 128, 256] {
        graph.set_ef_search(ef)?;
        let found = timed(&format!("graph, ef {ef}"), &graph, &queries)?;
        println!("    recall@{K} {:.4}", recall(&found, &truth));
    }
    let started = Instant::now();
    for query in queries.chunks(DIM).take(200) {
        flat.search(query, K, &|_| true)?;
    }
    println!("exact, one query: {:.0} us", started.elapsed().as_secs_f64() / 200.0 * 1e6);
    Ok(())
}

fn timed(what: &str, index: &dyn Index, queries: &[f32]) -> Result<Vec<Vec<Hit>>, Error> {
    let started = Instant::now();
    let hits = index.search_batch(queries, K, &|_, _| true)?;
    println!("{what}: {:.0} queries/s", QUERIES as f64 / started.elapsed().as_secs_f64());
    Ok(hits)
}

fn recall(found: &[Vec<Hit>], truth: &[Vec<Hit>]) -> f64 {
    let pairs = found.iter().zip(truth);
    let hits =
        pairs.map(|(found, truth)| truth.iter().filter(|t| found.iter().any(|f| f.item == t.item)).count());
    hits.sum::<usize>() as f64 / (QUERIES * K) as f64
}

/// Numbers in [-0.5, 0.5) that look random but are the same each time.
fn stream(mut state: u64) -> impl FnMut() -> f32 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}
