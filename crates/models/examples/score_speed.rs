//! Candidates scored per second by DCN-v2 (39 fields × 16, 3 full cross layers beside 400-400-400) for requests of 500
//! candidates, in process: keys looked up, rows pulled, network run, request fields computed once.
//!
//! `cargo run --release -p millstream-models --example score_speed -- DIR SECONDS [f32|i16]`
//!
//! DIR holds `ids.bin` u32 `[Q·500, F]` (key per field; the first fields are the request's) and `sizes.bin` u32 (rows per field, with a
//! last number saying how many fields are the request's). Written there for comparison with other engines: `weights.bin` f32
//! (dense weights in the order of `weights.txt`, which names them), `rows.bin` f32 (each field's rows in order) and `scores.bin`
//! (logits of the first request; of f32 whatever the precision). The last line is JSON; `cpu_us` is CPU time per candidate of the scoring
//! alone, `apart` the greatest difference of the first request's logits from those of f32, `spread` the standard deviation of the latter.

use millstream_models::input::Inference;
use millstream_models::ranker::{self, Shape};
use millstream_models::{ModelConfig, Ranker};
use millstream_nn::{Params, Precision};
use millstream_schema::{Batch, Column, Field, Pool, Rows as Whose, Shape as Kind, Side};
use millstream_store::{RowInit, Rows, RowsMut, Store, TableConfig, TableId};
use std::path::Path;
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const CANDIDATES: usize = 500;

fn words(path: &Path) -> Fallible<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
}

fn write(path: &Path, values: &[f32]) -> Fallible<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Ok(std::fs::write(path, bytes)?)
}

fn fields(sizes: &[u32], shared: usize) -> Vec<Field> {
    let field = |f: usize| {
        let name = format!("f{f}");
        let rows = if f < shared { Whose::Request } else { Whose::Candidate };
        let space = Some(name.clone());
        Field {
            name,
            rows,
            shape: Kind::Key,
            space,
            pool: Pool::Mean,
            size: None,
            weighted: false,
            feature: f,
        }
    };
    (0..sizes.len()).map(field).collect()
}

/// One request per 500 rows of ids.
fn requests(ids: &[u32], fields: &[Field]) -> Vec<Batch> {
    let one = |ids: &[u32]| {
        let column = |(f, field): (usize, &Field)| {
            let rows = if field.rows == Whose::Request { 1 } else { CANDIDATES };
            Column::Key(
                ids.iter().skip(f).step_by(fields.len()).take(rows).map(|id| u64::from(*id)).collect(),
            )
        };
        Batch {
            requests: 1,
            candidate_request: vec![0; CANDIDATES],
            columns: fields.iter().enumerate().map(column).collect(),
            ..Batch::default()
        }
    };
    ids.chunks_exact(CANDIDATES * fields.len()).map(one).collect()
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
    fn new(fields: Vec<Field>, sizes: &[u32]) -> Fallible<Self> {
        let mut params = Params::new(1);
        let sides: Vec<Side> =
            fields.iter().map(|f| if f.rows == Whose::Request { Side::User } else { Side::Item }).collect();
        let shape = Shape { fields: &fields, sides: &sides, tasks: 1 };
        let model = ranker::build(&ModelConfig::named("dcn_v2"), &shape, &mut params)?;
        let config = |t: &millstream_nn::TableSpec| TableConfig {
            init: RowInit::Normal(0.05),
            ..TableConfig::new(&t.name, t.dim)
        };
        let store = Store::new(params.tables().iter().map(config).collect())?;
        let tables: Vec<TableId> =
            params.tables().iter().map(|t| store.table(&t.name)).collect::<Result<_, _>>()?;
        for (table, (spec, size)) in tables.iter().zip(params.tables().iter().zip(sizes)) {
            let keys: Vec<u64> = (0..u64::from(*size)).collect();
            store.pull_or_init(*table, &keys, &mut vec![0.0; keys.len() * spec.dim])?;
        }
        let inference = Inference::new(fields.into());
        Ok(Self { params, model, store, tables, inference })
    }

    fn score(&self, batch: &Batch) -> Fallible<Vec<f32>> {
        let pull =
            |at: usize, keys: &[u64], out: &mut [f32]| Ok(self.store.pull(self.tables[at], keys, out)?);
        Ok(self.inference.run(&self.params, batch, pull, |pass, x| self.model.forward(pass, x))?)
    }

    /// Weights and rows for another engine.
    fn write(&self, dir: &Path, sizes: &[u32]) -> Fallible<()> {
        let weights = self.params.weights();
        let names: Vec<String> = weights.0.iter().map(|w| format!("{} {:?}", w.name, w.shape)).collect();
        std::fs::write(dir.join("weights.txt"), names.join("\n"))?;
        write(
            &dir.join("weights.bin"),
            &weights.0.iter().flat_map(|w| w.values.clone()).collect::<Vec<_>>(),
        )?;
        let mut rows = Vec::new();
        for (table, size) in self.tables.iter().zip(sizes) {
            let keys: Vec<u64> = (0..u64::from(*size)).collect();
            let mut out = vec![0.0; keys.len() * self.store.dim(*table)?];
            self.store.pull(*table, &keys, &mut out)?;
            rows.extend(out);
        }
        write(&dir.join("rows.bin"), &rows)
    }
}

/// CPU seconds of this process so far; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // The 14th and 15th field of the file: user and system time in hundredths of a second.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Greatest difference, and standard deviation of the former.
fn difference(exact: &[f32], other: &[f32]) -> (f64, f64) {
    let n = exact.len() as f64;
    let apart = exact.iter().zip(other).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    let mean = exact.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (apart, (exact.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt())
}

#[allow(clippy::print_stdout)]
fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (dir, seconds, precision) = match &args[..] {
        [dir, seconds] => (dir, seconds, Precision::F32),
        [dir, seconds, name] if name == "f32" => (dir, seconds, Precision::F32),
        [dir, seconds, name] if name == "i16" => (dir, seconds, Precision::I16),
        _ => return Err("expected: DIR SECONDS [f32|i16]".into()),
    };
    let (dir, limit) = (Path::new(dir), Duration::from_secs_f64(seconds.parse()?));
    let mut sizes = words(&dir.join("sizes.bin"))?;
    let shared = sizes.pop().ok_or("sizes.bin is empty")? as usize;
    let fields = fields(&sizes, shared);
    let requests = requests(&words(&dir.join("ids.bin"))?, &fields);
    let mut server = Server::new(fields, &sizes)?;
    server.write(dir, &sizes)?;
    let exact = server.score(&requests[0])?;
    write(&dir.join("scores.bin"), &exact)?;
    server.params.set_precision(precision);
    let (apart, spread) = difference(&exact, &server.score(&requests[0])?);
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
        "{{\"candidates_s\": {:.0}, \"median_ms\": {:.3}, \"p99_ms\": {:.3}, \"best_ms\": {:.3}, \"requests\": {}, \
         \"cpu_us\": {cpu_us:.2}, \"apart\": {apart:e}, \"spread\": {spread:e}}}",
        CANDIDATES as f64 / middle,
        1e3 * middle,
        1e3 * late,
        1e3 * times[0],
        times.len()
    );
    Ok(())
}
