//! Seconds for the exact AUC of ten million scores: `cargo run --release -p millstream-train --example auc_speed`.
//!
//! `-- --write DIR` also writes them as little-endian floats (`scores.f32`, `labels.f32`) for a peer to read
//! (`bench/peers/sklearn_auc.py`); `-- --count N` takes another number. The last line is JSON.

#![allow(clippy::print_stdout)]

use millstream_train::metrics::auc;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (mut n, mut write) = (10_000_000usize, None);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--count", Some(count)) => n = count.parse()?,
            ("--write", Some(dir)) => write = Some(PathBuf::from(dir)),
            _ => return Err("usage: auc_speed [--count N] [--write DIR]".into()),
        }
    }
    let (scores, labels) = draw(n);
    if let Some(dir) = write {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        std::fs::write(dir.join("scores.f32"), bytes(&scores))?;
        std::fs::write(dir.join("labels.f32"), bytes(&labels))?;
    }
    let (mut seconds, mut value) = (f64::INFINITY, None);
    for _ in 0..5 {
        let start = Instant::now();
        value = auc::auc(&scores, &labels);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    let threads = rayon::current_num_threads();
    println!("AUC of {n} scores: {value:?} in {seconds:.3} s (best of 5, {threads} threads)");
    println!("{}", serde_json::json!({ "count": n, "auc": value, "seconds": seconds, "threads": threads }));
    Ok(())
}

/// Probabilities of a model of middling skill, one row in ten positive.
fn draw(n: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(1);
    (0..n)
        .map(|_| {
            let label = if rng.random::<f32>() < 0.1 { 1.0 } else { 0.0 };
            let noise: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum();
            (1.0 / (1.0 + (2.0 - label - 1.5 * noise).exp()), label)
        })
        .unzip()
}
