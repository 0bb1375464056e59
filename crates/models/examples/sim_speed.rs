//! Latency of SIM-soft (items × 32, unit 128-80-40-1, tower 64-200-80-1, k = 50) for requests of 500 candidates against a history of
//! 1,000 events, in process: keys looked up, rows pulled, histories searched, network run.
//!
//! `cargo run --release -p millstream-models --example sim_speed -- DIR ROWS SECONDS`
//!
//! DIR holds `history.bin` u32 `[Q, 1000]` and `items.bin` u32 `[Q, 500]`, of items below ROWS. Written there for comparison with
//! other engines: `rows.bin` f32 `[ROWS, 32]`, `weights.bin` f32 (dense weights in the order of `weights.txt`, which names them) and
//! `scores.bin` (logits of the first request). The last line is JSON; `cpu_us` is CPU time per candidate.

use millstream_models::input::Inference;
use millstream_models::ranker::{self, Shape};
use millstream_models::{ModelConfig, Ranker};
use millstream_nn::Params;
use millstream_schema::{Batch, Column, Field, Pool, Rows as Whose, Shape as Kind, Side};
use millstream_store::{RowInit, Rows, RowsMut, Store, TableConfig, TableId};
use std::path::Path;
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const CANDIDATES: usize = 500;
const EVENTS: usize = 1000;
const WIDTH: usize = 32;

fn words(path: &Path) -> Fallible<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c)).collect())
}

fn write(path: &Path, values: &[f32]) -> Fallible<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Ok(std::fs::write(path, bytes)?)
}

fn fields() -> Vec<Field> {
    let field = |name: &str, rows, shape, feature| {
        let (name, space) = (name.to_owned(), Some("item".to_owned()));
        Field { name, rows, shape, space, pool: Pool::Mean, size: None, weighted: false, feature }
    };
    vec![field("item", Whose::Candidate, Kind::Key, 0), field("clicks.item", Whose::Request, Kind::Keys, 1)]
}

fn request(history: &[u32], items: &[u32]) -> Batch {
    let keys = |ids: &[u32]| ids.iter().map(|id| u64::from(*id)).collect();
    Batch {
        requests: 1,
        candidate_request: vec![0; CANDIDATES],
        columns: vec![
            Column::Key(keys(items)),
            Column::Keys { offsets: vec![0, EVENTS as u32], keys: keys(history), weights: None },
        ],
        ..Batch::default()
    }
}

fn config() -> Fallible<ModelConfig> {
    Ok(toml::from_str(
        "name = \"sim_soft\"\nembedding = 32\nhidden = [200, 80]\nactivation = \"relu\"\n\
         [sequence]\nunit = [80, 40]\nactivation = \"relu\"\nk = 50\n",
    )?)
}

/// A model with its rows, as a server holds them.
struct Server {
    params: Params,
    model: Box<dyn Ranker>,
    store: Store,
    tables: Vec<TableId>,
    inference: Inference,
}

impl Server {
    fn new(rows: u64) -> Fallible<Self> {
        let (mut params, fields) = (Params::new(1), fields());
        let shape = Shape { fields: &fields, sides: &[Side::Item, Side::User], tasks: 1 };
        let model = ranker::build(&config()?, &shape, &mut params)?;
        let config = |t: &millstream_nn::TableSpec| TableConfig {
            init: RowInit::Normal(0.3),
            ..TableConfig::new(&t.name, t.dim)
        };
        let store = Store::new(params.tables().iter().map(config).collect())?;
        let tables: Vec<TableId> =
            params.tables().iter().map(|t| store.table(&t.name)).collect::<Result<_, _>>()?;
        assert_eq!(tables.len(), 1, "candidate and history share one table");
        let keys: Vec<u64> = (0..rows).collect();
        store.pull_or_init(tables[0], &keys, &mut vec![0.0; keys.len() * WIDTH])?;
        let inference = Inference::new(fields.into());
        Ok(Self { params, model, store, tables, inference })
    }

    fn score(&self, batch: &Batch) -> Fallible<Vec<f32>> {
        let pull =
            |at: usize, keys: &[u64], out: &mut [f32]| Ok(self.store.pull(self.tables[at], keys, out)?);
        Ok(self.inference.run(&self.params, batch, pull, |pass, x| self.model.forward(pass, x))?)
    }
}

impl Server {
    /// Weights and rows for another engine.
    fn write(&self, dir: &Path, rows: u64) -> Fallible<()> {
        let weights = self.params.weights();
        let names: Vec<String> = weights.0.iter().map(|w| format!("{} {:?}", w.name, w.shape)).collect();
        std::fs::write(dir.join("weights.txt"), names.join("\n"))?;
        write(
            &dir.join("weights.bin"),
            &weights.0.iter().flat_map(|w| w.values.clone()).collect::<Vec<_>>(),
        )?;
        let keys: Vec<u64> = (0..rows).collect();
        let mut out = vec![0.0; keys.len() * WIDTH];
        self.store.pull(self.tables[0], &keys, &mut out)?;
        write(&dir.join("rows.bin"), &out)
    }
}

/// CPU seconds of this process so far; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // The 14th and 15th field of the file: user and system time in hundredths of a second.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

#[allow(clippy::print_stdout)]
fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, rows, seconds] = &args[..] else { return Err("expected: DIR ROWS SECONDS".into()) };
    let (dir, rows, limit) = (Path::new(dir), rows.parse()?, Duration::from_secs_f64(seconds.parse()?));
    let (history, items) = (words(&dir.join("history.bin"))?, words(&dir.join("items.bin"))?);
    let each = history.chunks_exact(EVENTS).zip(items.chunks_exact(CANDIDATES));
    let requests: Vec<Batch> = each.map(|(history, items)| request(history, items)).collect();
    let server = Server::new(rows)?;
    server.write(dir, rows)?;
    write(&dir.join("scores.bin"), &server.score(&requests[0])?)?;
    let (begin, cpu, mut times) = (Instant::now(), cpu_seconds(), Vec::new());
    while begin.elapsed() < limit || times.len() < 3 {
        let start = Instant::now();
        let scores = server.score(&requests[times.len() % requests.len()])?;
        times.push(start.elapsed().as_secs_f64());
        assert_eq!(scores.len(), CANDIDATES);
    }
    let cpu_us = 1e6 * (cpu_seconds() - cpu) / (times.len() * CANDIDATES) as f64;
    times.sort_by(f64::total_cmp);
    let (middle, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "{{\"median_ms\": {:.3}, \"p99_ms\": {:.3}, \"best_ms\": {:.3}, \"requests\": {}, \"cpu_us\": {cpu_us:.2}}}",
        1e3 * middle,
        1e3 * late,
        1e3 * times[0],
        times.len()
    );
    Ok(())
}
