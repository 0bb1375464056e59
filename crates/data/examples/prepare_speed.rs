//! Prepares a dataset and reads it back, and tells how fast.
//!
//! `cargo run --release -p millstream-data --example prepare_speed -- ROOT DATASET.toml OUT`

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use millstream_data::blocks::BlockReader;
use millstream_data::{DatasetConfig, PrepareOptions, Prepared, SourceOptions, Split, Use, prepare};
use millstream_schema::BatchSource;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [root, config, out] = &args[..] else {
        return Err("usage: prepare_speed ROOT DATASET.toml OUT".into());
    };
    let config = DatasetConfig::read(Path::new(config))?;
    let started = Instant::now();
    let report = prepare(Path::new(root), &config, Path::new(out), &PrepareOptions::default())?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{report}prepared in {seconds:.2} s: {:.0} rows/s", report.rows_read as f64 / seconds);
    let prepared = Prepared::open(Path::new(out))?;
    for for_use in Use::ALL {
        if prepared.rows(Split::Train, for_use) > 0 {
            blocks(&prepared, for_use)?;
            batches(&prepared, for_use)?;
        }
    }
    if let Some(peak) = peak_memory() {
        println!("peak memory {peak}");
    }
    Ok(())
}

/// Reading and decoding alone.
fn blocks(prepared: &Prepared, for_use: Use) -> Result<(), Box<dyn std::error::Error>> {
    let path = prepared.dir().join(format!("train.{}.blocks", for_use.as_str()));
    let started = Instant::now();
    let mut reader = BlockReader::open(&path)?;
    let (mut bytes, mut candidates) = (0u64, 0u64);
    for block in 0..reader.entries().len() {
        let x = reader.read(block)?;
        candidates += x.candidates() as u64;
        // What the trainer gets in memory, whatever the file holds of it.
        let columns = x.context.columns.iter().chain(&x.exposure.columns);
        bytes += columns.map(|c| 8 * c.rows() as u64).sum::<u64>();
        bytes += 17 * x.history.item.len() as u64 + 12 * x.requests() as u64 + 12 * x.candidates() as u64;
    }
    let seconds = started.elapsed().as_secs_f64();
    let stored = std::fs::metadata(&path)?.len() as f64 / 1e6;
    println!(
        "train.{}: {stored:.1} MB decoded in {seconds:.3} s: {:.0} MB/s of file, {:.0} MB/s of memory, {:.0} rows/s",
        for_use.as_str(),
        stored / seconds,
        bytes as f64 / 1e6 / seconds,
        candidates as f64 / seconds
    );
    Ok(())
}

/// Shuffled batches, assembled.
fn batches(prepared: &Prepared, for_use: Use) -> Result<(), Box<dyn std::error::Error>> {
    let options = SourceOptions { batch_size: 4096, shuffle: Some(1), skip_batches: 0 };
    let started = Instant::now();
    let mut source = prepared.source(Split::Train, for_use, options)?;
    let (mut count, mut rows) = (0, 0);
    while let Some(batch) = source.next_batch()? {
        count += 1;
        rows += batch.candidates();
    }
    let rate = rows as f64 / started.elapsed().as_secs_f64();
    println!("train.{}: {count} shuffled batches, {rate:.0} rows/s", for_use.as_str());
    Ok(())
}

/// The largest resident set so far, where the system tells it.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
}
