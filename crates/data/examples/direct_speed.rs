//! Rows per second from text to batches. Arguments: a dataset file, the folder of the data, rows per batch (1024).
//!
//! `cargo run --release -p millstream-data --example direct_speed -- ads.toml data 1024`
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use millstream_data::{DatasetConfig, Direct, DirectFiles, DirectOptions, DirectRows};
use millstream_schema::{BatchSource, Encoder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some(file), Some(root)) = (args.first(), args.get(1)) else {
        return Err("expected a dataset file and the folder of the data".into());
    };
    let batch_size = args.get(2).map_or(Ok(1024), |n| n.parse())?;
    let config = DatasetConfig::read(Path::new(file))?;
    let table = config.dataset.table.as_ref().ok_or("the dataset is no table")?;
    let paths = table.all.iter().map(|f| config.folder(Path::new(root)).join(f)).collect();
    let files = DirectFiles { paths, format: table.log_format() };
    let encoder = Arc::new(Encoder::without_fitting(&config.schema)?);
    let rows = DirectRows { encoder, tasks: config.tasks.clone(), group: None };
    for _ in 0..5 {
        let start = Instant::now();
        let mut source =
            Direct::start(files.clone(), rows.clone(), DirectOptions { batch_size, ..Default::default() })?;
        while source.next_batch()?.is_some() {}
        let seconds = start.elapsed().as_secs_f64();
        println!("{} rows, {:.0} rows/s", source.position(), source.position() as f64 / seconds);
    }
    Ok(())
}
