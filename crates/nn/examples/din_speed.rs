//! Training speed of DIN (unit 128-80-40-1, tower 96-200-80-1 over [interest, candidate, their product], ReLU) on batches of 1,024 from
//! files, for comparison with other engines on the same numbers.
//!
//! `cargo run --release -p millstream-nn --example din_speed -- DIR full|ragged STEPS`
//!
//! DIR holds little-endian arrays as `bench/peers/din.py` writes them: `history.bin` u32 `[B·N, 50]`, `lengths.bin` u32 `[B·N]` (used by
//! `ragged`), `items.bin` u32 `[B·N]`, `labels.bin` f32 `[B·N]`, `rows.bin` f32 `[rows, 32]`, and `weights.bin` f32, weight `[O, I]` and bias of
//! each layer in order. Dense weights take Adam, rows element-wise AdaGrad. The last line is JSON: rows per second by the median
//! step, the first losses.

use millstream_nn::*;
use millstream_schema::{Batch, Column, Field, Pool, Rows, Shape};
use std::path::Path;
use std::time::{Duration, Instant};

type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BATCH: usize = 1024;
const LENGTH: usize = 50;
const DIM: usize = 32;

struct Model {
    history: SeqEmbed,
    unit: ActivationUnit,
    tower: Mlp,
    head: Linear,
}

impl Model {
    fn new(params: &mut Params, fields: &[Field]) -> Result<Self> {
        let spec = EmbedSpec::new(DIM);
        let history = SeqEmbed::new(params, fields, "history", (&spec, Combine::Concat, false))?;
        let config =
            UnitConfig { hidden: vec![80, 40], activation: Activation::Relu, ..UnitConfig::default() };
        let unit = ActivationUnit::new(params, "unit", (DIM, 0), &config)?;
        let tower =
            Mlp::new(params, "tower", 3 * DIM, &MlpConfig { hidden: vec![200, 80], ..MlpConfig::default() })?;
        let head = Linear::new(params, "head", tower.outputs(), 1)?;
        Ok(Self { history, unit, tower, head })
    }

    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let seq = self.history.forward(pass, x);
        let v = self.unit.forward(pass, &seq);
        let joined = Tensor::concat(&[&v, &seq.target, &v.mul(&seq.target)]);
        self.head.forward(pass, &self.tower.forward(pass, &joined))
    }
}

fn words(path: &Path) -> Fallible<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
}

fn floats(path: &Path) -> Fallible<Vec<f32>> {
    Ok(words(path)?.into_iter().map(f32::from_bits).collect())
}

fn fields() -> Vec<Field> {
    let field = |name: &str, rows, shape, feature| Field {
        name: name.into(),
        rows,
        shape,
        space: Some("item".into()),
        pool: Pool::Mean,
        size: None,
        weighted: false,
        feature,
    };
    vec![field("history.item", Rows::Request, Shape::Keys, 0), field("item", Rows::Candidate, Shape::Key, 1)]
}

fn batches(dir: &Path, ragged: bool) -> Fallible<Vec<Batch>> {
    let read = |name: &str| words(&dir.join(format!("{name}.bin")));
    let (history, lengths, items) = (read("history")?, read("lengths")?, read("items")?);
    let labels = floats(&dir.join("labels.bin"))?;
    let one = |b: usize| {
        let (mut offsets, mut keys) = (vec![0], Vec::new());
        for n in b * BATCH..(b + 1) * BATCH {
            let length = if ragged { lengths[n] as usize } else { LENGTH };
            keys.extend(history[n * LENGTH..][..length].iter().map(|k| u64::from(*k)));
            offsets.push(keys.len() as u32);
        }
        let item = items[b * BATCH..][..BATCH].iter().map(|k| u64::from(*k)).collect();
        Batch {
            requests: BATCH,
            candidate_request: (0..BATCH as u32).collect(),
            columns: vec![Column::Keys { offsets, keys, weights: None }, Column::Key(item)],
            labels: labels[b * BATCH..][..BATCH].to_vec(),
            tasks: 1,
            ..Batch::default()
        }
    };
    Ok((0..items.len() / BATCH).map(one).collect())
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

/// Element-wise AdaGrad (Duchi et al. 2011), learning rate 0.01.
fn push((rows, squares): (&mut [f32], &mut [f32]), keys: &[u64], grads: &[f32]) {
    for (key, g) in keys.iter().zip(grads.chunks_exact(DIM)) {
        let at = *key as usize * DIM;
        let row = rows[at..at + DIM].iter_mut().zip(&mut squares[at..at + DIM]);
        for ((w, s), g) in row.zip(g) {
            *s += g * g;
            *w -= 0.01 * g / (s.sqrt() + 1e-10);
        }
    }
}

#[allow(clippy::print_stdout)]
fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, shape, steps] = &args[..] else { return Err("expected: DIR full|ragged STEPS".into()) };
    let (dir, steps) = (Path::new(dir), steps.parse::<usize>()?);
    let fields = fields();
    let mut fresh = Params::new(1);
    Model::new(&mut fresh, &fields)?;
    let mut params = Params::with_weights(1, weights(&fresh, &floats(&dir.join("weights.bin"))?)?)?;
    let model = Model::new(&mut params, &fields)?;
    let table = params.table_ids().next().ok_or("the model has no table")?;
    let mut rows = floats(&dir.join("rows.bin"))?;
    let mut squares = vec![0.0; rows.len()];
    let batches = batches(dir, shape == "ragged")?;
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
        let unique = lookup.unique("item").to_vec();
        let mut pulled = Vec::with_capacity(unique.len() * DIM);
        unique.iter().for_each(|k| pulled.extend_from_slice(&rows[*k as usize * DIM..][..DIM]));
        lap(0);
        let pass = Pass::new(&params, Mode::Train, step as u64);
        let x = Inputs::new(&pass, &fields, batch, lookup, vec![pulled])?;
        let loss = loss::bce_with_logits(&model.forward(&pass, &x), &batch.labels, &[]);
        lap(1);
        let gradients = pass.backward(&loss);
        losses.push(loss.item());
        drop((loss, x, pass));
        lap(2);
        optimiser.step(&mut params, &gradients);
        push((&mut rows, &mut squares), &unique, gradients.rows(table).unwrap_or(&[]));
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
