//! Prints how many rows per second a store pulls and pushes: 40,000 unique keys of dim 16 per call
//! on a table of 1,000,000 rows. Run with `cargo run --release -p millstream-store --example store_probe`.
#![allow(clippy::print_stdout)]

use millstream_store::{Error, RowInit, RowOptim, Rows, RowsMut, Store, TableConfig};
use std::time::Instant;

const ROWS: u64 = 1_000_000;
const KEYS: usize = 40_000;
const DIM: usize = 16;
const CALLS: usize = 50;

/// One call on keys and a buffer of their rows.
type Run<'a> = &'a mut dyn FnMut(&[u64], &mut [f32]) -> Result<(), Error>;

fn main() -> Result<(), Error> {
    for optim in [
        RowOptim::AdaGradRowWise { lr: 0.1, eps: 1e-8, initial_accumulator: 0.1 },
        RowOptim::LazyAdam { lr: 0.001, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        RowOptim::Sgd { lr: 0.1 },
    ] {
        probe(optim)?;
    }
    Ok(())
}

fn probe(optim: RowOptim) -> Result<(), Error> {
    let config = TableConfig { init: RowInit::Uniform(0.05), optim, ..TableConfig::new("item", DIM) };
    let store = Store::new(vec![config])?;
    let table = store.table("item")?;
    let all: Vec<u64> = (0..ROWS).collect();
    let started = Instant::now();
    for keys in all.chunks(KEYS) {
        store.pull_or_init(table, keys, &mut vec![0.0; keys.len() * DIM])?;
    }
    let filled = started.elapsed();
    println!("{optim:?}");
    println!("  fill   {:6.1} M rows/s", ROWS as f64 / filled.as_secs_f64() / 1e6);
    // A walk by a step prime to ROWS: the keys of one call are unique and far apart.
    let batches: Vec<Vec<u64>> = (0..CALLS)
        .map(|call| (0..KEYS).map(|at| ((call * KEYS + at) as u64 * 618_033) % ROWS).collect())
        .collect();
    let mut out = vec![0.0; KEYS * DIM];
    let mut timed = |what: &str, run: Run<'_>| {
        let started = Instant::now();
        batches.iter().try_for_each(|keys| run(keys, &mut out))?;
        let rows = (KEYS * CALLS) as f64 / started.elapsed().as_secs_f64();
        println!("  {what:<12} {:6.1} M rows/s", rows / 1e6);
        Ok::<(), Error>(())
    };
    timed("pull", &mut |keys, out| store.pull(table, keys, out))?;
    timed("pull_or_init", &mut |keys, out| store.pull_or_init(table, keys, out))?;
    timed("push_unique", &mut |keys, out| store.push_unique(table, keys, out))?;
    timed("push", &mut |keys, out| store.push(table, keys, out))?;
    timed("pull + push_unique", &mut |keys, out| {
        store.pull_or_init(table, keys, out)?;
        store.push_unique(table, keys, out)
    })?;
    probe_exclusive(store, &batches)
}

/// One thread, row by row: the keys of a call are found, then each row is read and changed.
fn probe_exclusive(mut store: Store, batches: &[Vec<u64>]) -> Result<(), Error> {
    let table = store.table("item")?;
    let held = store.memory_bytes();
    let mut rows = store.exclusive();
    let mut places = Vec::new();
    let (mut finding, mut changing) = (0.0, 0.0);
    for keys in batches {
        let started = Instant::now();
        rows.locate(table, keys, &mut places)?;
        finding += started.elapsed().as_secs_f64();
        let started = Instant::now();
        for (at, &place) in places.iter().enumerate() {
            if let Some(&next) = places.get(at + 16) {
                rows.prefetch(table, next);
            }
            rows.row(table, place)[0] += 1.0;
        }
        changing += started.elapsed().as_secs_f64();
        rows.step();
    }
    let rate = |secs: f64| (KEYS * batches.len()) as f64 / secs / 1e6;
    println!("  {:<12} {:6.1} M rows/s, one thread", "locate", rate(finding));
    println!("  {:<12} {:6.1} M rows/s, one thread", "row", rate(changing));
    println!("  {:.0} MB held", held as f64 / 1e6);
    Ok(())
}
