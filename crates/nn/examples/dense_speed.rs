//! Training speed of DCN-v2 (39 fields × 16, 3 full cross layers beside 400-400-400) or DeepFM (39 fields × 10, 400-400-400) on
//! batches of 4,096 from files, for comparison with other engines on the same numbers.
//!
//! `cargo run --release -p millstream-nn --example dense_speed -- dcn_v2|deepfm DIR STEPS`
//!
//! DIR holds little-endian arrays as `bench/peers/dense.py` writes them: `ids.bin` u32 `[B·N, F]` (places in one table of all
//! rows), `sizes.bin` u32 `[F]` (rows per field), `labels.bin` f32 `[B·N]`, `rows.bin` f32 `[rows, D]`, and `weights.bin` f32, the dense
//! weights in the order in which the model asks for them. Dense weights take Adam, rows element-wise AdaGrad. The last line
//! is JSON: rows per second by the median step, CPU microseconds per row, the first losses.

use millstream_nn::*;
use millstream_schema::{Batch, Column, Field, Pool, Rows, Shape};
use rayon::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BATCH: usize = 4096;

enum Model {
    Dcn { embed: Embed, cross: CrossNet, tower: Mlp, head: Linear },
    DeepFm { embed: Embed, linear: LinearTerms, tower: Mlp, head: Linear },
}

impl Model {
    fn new(name: &str, params: &mut Params, fields: &[Field]) -> Fallible<(Self, usize)> {
        let all: Vec<usize> = (0..fields.len()).collect();
        let dim = if name == "dcn_v2" { 16 } else { 10 };
        let width = fields.len() * dim;
        let embed = Embed::all(params, fields, &EmbedSpec::new(dim))?;
        let model = match name {
            "dcn_v2" => {
                let cross = CrossNet::new(params, "cross", width, 3)?;
                let tower = Mlp::new(params, "tower", width, &MlpConfig::default())?;
                let head = Linear::new(params, "head", width + tower.outputs(), 1)?;
                Self::Dcn { embed, cross, tower, head }
            }
            "deepfm" => {
                let tower = Mlp::new(params, "tower", width, &MlpConfig::default())?;
                let head = Linear::new(params, "head", tower.outputs(), 1)?;
                let linear = LinearTerms::new(params, fields, &all, "linear")?;
                Self::DeepFm { embed, linear, tower, head }
            }
            other => return Err(format!("model `{other}`: expected dcn_v2 or deepfm").into()),
        };
        Ok((model, dim))
    }

    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        match self {
            Self::Dcn { embed, cross, tower, head } => {
                let x0 = embed.forward(pass, x).flatten();
                head.forward(pass, &Tensor::concat(&[&cross.forward(pass, &x0), &tower.forward(pass, &x0)]))
            }
            Self::DeepFm { embed, linear, tower, head } => {
                let v = embed.forward(pass, x);
                let deep = head.forward(pass, &tower.forward(pass, &v.flatten()));
                deep.add(&linear.forward(pass, x)).add(&v.fm())
            }
        }
    }
}

/// A field's rows with their sums of squared gradients.
struct Table {
    id: TableId,
    field: usize,
    dim: usize,
    rows: Vec<f32>,
    squares: Vec<f32>,
}

impl Table {
    fn pull(&self, keys: &[u64]) -> Vec<f32> {
        let mut out = Vec::with_capacity(keys.len() * self.dim);
        keys.iter().for_each(|k| out.extend_from_slice(&self.rows[*k as usize * self.dim..][..self.dim]));
        out
    }

    /// Element-wise AdaGrad (Duchi et al. 2011), learning rate 0.01.
    fn push(&mut self, keys: &[u64], grads: &[f32]) {
        for (key, g) in keys.iter().zip(grads.chunks_exact(self.dim)) {
            let at = *key as usize * self.dim;
            let rows = self.rows[at..at + self.dim].iter_mut().zip(&mut self.squares[at..at + self.dim]);
            for ((w, s), g) in rows.zip(g) {
                *s += g * g;
                *w -= 0.01 * g / (s.sqrt() + 1e-10);
            }
        }
    }
}

fn words(path: &Path) -> Fallible<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
}

fn floats(path: &Path) -> Fallible<Vec<f32>> {
    Ok(words(path)?.into_iter().map(f32::from_bits).collect())
}

fn field(f: usize) -> Field {
    let name = format!("f{f}");
    let space = Some(name.clone());
    Field {
        name,
        rows: Rows::Candidate,
        shape: Shape::Key,
        space,
        pool: Pool::Mean,
        size: None,
        weighted: false,
        feature: f,
    }
}

/// Batches whose keys are places in the field's own rows.
fn batches(dir: &Path, sizes: &[u32]) -> Fallible<Vec<Batch>> {
    let (ids, labels) = (words(&dir.join("ids.bin"))?, floats(&dir.join("labels.bin"))?);
    let starts: Vec<u32> = sizes.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
    let one = |(ids, labels): (&[u32], &[f32])| Batch {
        requests: BATCH,
        candidate_request: (0..BATCH as u32).collect(),
        columns: (0..sizes.len())
            .map(|f| {
                Column::Key(
                    ids.iter().skip(f).step_by(sizes.len()).map(|id| u64::from(id - starts[f])).collect(),
                )
            })
            .collect(),
        labels: labels.to_vec(),
        tasks: 1,
        ..Batch::default()
    };
    Ok(ids.chunks_exact(BATCH * sizes.len()).zip(labels.chunks_exact(BATCH)).map(one).collect())
}

/// The model's tables with the given rows; tables of width 1 start at zero.
fn tables(params: &Params, fields: &[Field], sizes: &[u32], rows: &[f32], dim: usize) -> Vec<Table> {
    let ids: Vec<TableId> = params.table_ids().collect();
    let one = |(spec, id): (&TableSpec, TableId)| {
        let field = fields.iter().position(|f| f.space.as_ref() == Some(&spec.space)).unwrap_or(0);
        let start: usize = sizes[..field].iter().map(|n| *n as usize).sum();
        let len = sizes[field] as usize * spec.dim;
        let own = if spec.dim == dim { rows[start * dim..][..len].to_vec() } else { vec![0.0; len] };
        Table { id, field, dim: spec.dim, rows: own, squares: vec![0.0; len] }
    };
    params.tables().iter().zip(ids).map(one).collect()
}

/// The weights of `like`, in order, out of a flat array.
fn weights(like: &Params, flat: &[f32]) -> Fallible<Weights> {
    let mut weights = like.weights();
    let mut at = 0;
    for weight in &mut weights.0 {
        let part = flat.get(at..at + weight.values.len()).ok_or("weights.bin is too short")?;
        weight.values.copy_from_slice(part);
        at += part.len();
    }
    if at == flat.len() { Ok(weights) } else { Err("weights.bin is too long".into()) }
}

#[allow(clippy::print_stdout)]
fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, dir, steps] = &args[..] else { return Err("expected: dcn_v2|deepfm DIR STEPS".into()) };
    let (dir, steps) = (Path::new(dir), steps.parse::<usize>()?);
    let sizes = words(&dir.join("sizes.bin"))?;
    let fields: Vec<Field> = (0..sizes.len()).map(field).collect();
    let mut fresh = Params::new(1);
    Model::new(name, &mut fresh, &fields)?;
    let mut params = Params::with_weights(1, weights(&fresh, &floats(&dir.join("weights.bin"))?)?)?;
    drop(fresh);
    let (model, dim) = Model::new(name, &mut params, &fields)?;
    let mut tables = tables(&params, &fields, &sizes, &floats(&dir.join("rows.bin"))?, dim);
    let batches = batches(dir, &sizes)?;
    let mut planner = Planner::new(&fields);
    let mut optimiser = Optimiser::new(DenseOptim::adam(1e-3));
    let (mut times, mut losses, mut spent) = (Vec::new(), Vec::new(), [Duration::ZERO; 4]);
    for step in 0..steps {
        let batch = &batches[step % batches.len()];
        let start = Instant::now();
        let mut clock = start;
        let mut lap = |i: usize| {
            spent[i] += clock.elapsed();
            clock = Instant::now();
        };
        let lookup = planner.plan(&fields, batch)?;
        let unique: Vec<Vec<u64>> = lookup.spaces.iter().map(|s| s.unique.clone()).collect();
        let rows = tables.par_iter().map(|t| t.pull(&unique[t.field])).collect();
        lap(0);
        let pass = Pass::new(&params, Mode::Train, step as u64);
        let x = Inputs::new(&pass, &fields, batch, lookup, rows)?;
        let loss = loss::bce_with_logits(&model.forward(&pass, &x), &batch.labels, &[]);
        lap(1);
        let gradients = pass.backward(&loss);
        losses.push(loss.item());
        drop((loss, x, pass));
        lap(2);
        optimiser.step(&mut params, &gradients);
        let given: Vec<&[f32]> = tables.iter().map(|t| gradients.rows(t.id).unwrap_or(&[])).collect();
        tables.par_iter_mut().zip(given).for_each(|(t, g)| t.push(&unique[t.field], g));
        lap(3);
        times.push(start.elapsed().as_secs_f64());
    }
    let mut sorted = times[(steps / 5).min(3)..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let total: Duration = spent.iter().sum();
    for (what, time) in ["lookup and pull", "forward", "backward", "update"].iter().zip(spent) {
        println!("{what:>16}: {:.1} %", 100.0 * time.as_secs_f64() / total.as_secs_f64());
    }
    println!(
        "{{\"rows_s\": {:.1}, \"steps\": {steps}, \"losses\": {:?}}}",
        BATCH as f64 / sorted[sorted.len() / 2],
        &losses[..steps.min(5)]
    );
    Ok(())
}
