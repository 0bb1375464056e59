//! Training speed of a DCN-v2-shaped network on random rows: 39 fields of width 16, 3 full cross layers, tower
//! 400-400-400, batches of 4,096.
//!
//! `cargo run --release -p millstream-nn --example dcn_speed -- [steps] [rows of the table]`

use millstream_nn::*;
use millstream_schema::{Batch, Column, Field, Pool, Rows, Shape};
use std::time::{Duration, Instant};

const FIELDS: usize = 39;
const DIM: usize = 16;
const BATCH: usize = 4096;

struct Dcn {
    embed: Embed,
    cross: CrossNet,
    tower: Mlp,
    head: Linear,
}

impl Dcn {
    fn new(params: &mut Params, fields: &[Field]) -> Result<Self> {
        let width = FIELDS * DIM;
        let tower = Mlp::new(params, "tower", width, &MlpConfig::default())?;
        Ok(Self {
            embed: Embed::all(params, fields, &EmbedSpec::new(DIM))?,
            cross: CrossNet::new(params, "cross", width, 3)?,
            head: Linear::new(params, "head", width + tower.outputs(), 1)?,
            tower,
        })
    }

    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let x0 = self.embed.forward(pass, x).flatten();
        let both = [&self.cross.forward(pass, &x0), &self.tower.forward(pass, &x0)];
        self.head.forward(pass, &Tensor::concat(&both))
    }
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn field(f: usize) -> Field {
    let space = Some(format!("f{f}"));
    let name = format!("f{f}");
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

/// Keys fall off like 1/x: many repeats of few, few of many.
fn batch(rows: usize, state: &mut u64) -> Batch {
    let mut key = || {
        let u = next(state) as f64 / (1u64 << 31) as f64;
        (rows as f64).powf(u) as u64
    };
    let columns = (0..FIELDS).map(|_| Column::Key((0..BATCH).map(|_| key()).collect())).collect();
    Batch {
        requests: BATCH,
        candidate_request: (0..BATCH as u32).collect(),
        columns,
        labels: (0..BATCH).map(|_| f32::from(next(state).is_multiple_of(4))).collect(),
        tasks: 1,
        ..Batch::default()
    }
}

#[allow(clippy::print_stdout)]
fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let steps: u32 = args.next().map_or(Ok(20), |a| a.parse())?;
    let table_rows: usize = args.next().map_or(Ok(25_000), |a| a.parse())?;
    let fields: Vec<Field> = (0..FIELDS).map(field).collect();
    let mut params = Params::new(1);
    let model = Dcn::new(&mut params, &fields)?;
    let mut state = 1;
    let batches: Vec<Batch> = (0..8).map(|_| batch(table_rows, &mut state)).collect();
    let mut tables = vec![vec![0.01f32; (table_rows + 1) * DIM]; FIELDS];
    let mut planner = Planner::new(&fields);
    let mut optimiser = Optimiser::new(DenseOptim::adam(1e-3));
    let mut times = vec![];
    let mut spent = [Duration::ZERO; 4];
    for step in 0..steps + 2 {
        let batch = &batches[step as usize % batches.len()];
        let mut clock = Instant::now();
        let start = clock;
        let mut lap = |i: usize| {
            spent[i] += clock.elapsed();
            clock = Instant::now();
        };
        let lookup = planner.plan(&fields, batch)?;
        let unique: Vec<Vec<u64>> = lookup.spaces.iter().map(|s| s.unique.clone()).collect();
        let rows = tables.iter().zip(&unique).map(|(t, keys)| pull(t, keys)).collect();
        lap(0);
        let pass = Pass::new(&params, Mode::Train, step.into());
        let x = Inputs::new(&pass, &fields, batch, lookup, rows)?;
        let loss = loss::bce_with_logits(&model.forward(&pass, &x), &batch.labels, &[]);
        lap(1);
        let gradients = pass.backward(&loss);
        let value = loss.item();
        drop((loss, x, pass));
        lap(2);
        optimiser.step(&mut params, &gradients);
        for (f, id) in tables_of(&mut params, &fields)?.into_iter().enumerate() {
            push(&mut tables[f], &unique[f], gradients.rows(id).unwrap_or(&[]));
        }
        lap(3);
        if step >= 2 {
            times.push(start.elapsed().as_secs_f64());
        }
        if step % 10 == 0 {
            println!("step {step}: loss {value:.5}");
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!("median {:.0} rows/s, best {:.0} rows/s", BATCH as f64 / median, BATCH as f64 / times[0]);
    println!(
        "{:.1} GFLOP/s of matrix products; the biggest product alone: {:.1}",
        FLOP_PER_ROW * BATCH as f64 / median * 1e-9,
        ceiling(&params)
    );
    let total: Duration = spent.iter().sum();
    for (name, time) in ["lookup and pull", "forward", "backward", "update"].iter().zip(spent) {
        println!("{name:>16}: {:.1} %", 100.0 * time.as_secs_f64() / total.as_secs_f64());
    }
    Ok(())
}

/// Forward and both backward products of all layers.
const FLOP_PER_ROW: f64 = 3.0 * 2.0 * (3.0 * 624.0 * 624.0 + 624.0 * 400.0 + 2.0 * 400.0 * 400.0 + 1024.0);

/// GFLOP/s of a product [4096, 624] · [624, 624], the median of some.
fn ceiling(params: &Params) -> f64 {
    let pass = Pass::new(params, Mode::Infer, 0);
    let width = FIELDS * DIM;
    let x = pass.constant(&[BATCH, width], vec![0.5; BATCH * width]);
    let w = pass.constant(&[width, width], vec![0.5; width * width]);
    let mut times: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            let _ = x.linear(&w, None);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    2.0 * (BATCH * width * width) as f64 / times[7] * 1e-9
}

fn tables_of(params: &mut Params, fields: &[Field]) -> Result<Vec<TableId>> {
    let spec = EmbedSpec::new(DIM);
    let of = |f: &Field| params.table(&format!("{}/{}", f.name, spec.suffix), &f.name, DIM, spec.init);
    fields.iter().map(of).collect()
}

fn pull(table: &[f32], keys: &[u64]) -> Vec<f32> {
    let mut out = Vec::with_capacity(keys.len() * DIM);
    keys.iter().for_each(|k| out.extend_from_slice(&table[*k as usize * DIM..][..DIM]));
    out
}

/// Plain gradient descent on the touched rows.
fn push(table: &mut [f32], keys: &[u64], grads: &[f32]) {
    for (key, g) in keys.iter().zip(grads.chunks_exact(DIM)) {
        let row = &mut table[*key as usize * DIM..][..DIM];
        row.iter_mut().zip(g).for_each(|(w, g)| *w -= 0.01 * g);
    }
}
