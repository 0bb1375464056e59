//! Steps of LightGCN (D = 64, 3 layers, BPR, Adam) on a graph given as files.
//!
//! `cargo run --release -p millstream-nn --example lightgcn_speed -- DIR STEPS`
//!
//! DIR holds `offsets.bin` u32 `[users + 1]`, `items.bin` u32 (each user's items), `sizes.bin` u32 (items, batch), `triples.bin` u32 `[S, 3, batch]`
//! (user, item, item not met), and `start.bin` f32 `[users + items, 64]`. The last line is JSON: median and best seconds a step, first losses.

use millstream_nn::{Bipartite, DenseOptim, Init, Mode, Optimiser, Params, Pass, loss};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const DIM: usize = 64;
const LAYERS: usize = 3;
/// Weight of the squared length of a batch's vectors in the first layer.
const L2: f32 = 1e-4;

fn words(path: &Path) -> Fallible<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c)).collect())
}

#[allow(clippy::print_stdout)]
fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, steps] = &args[..] else { return Err("expected: DIR STEPS".into()) };
    let (dir, steps) = (Path::new(dir), steps.parse::<usize>()?);
    let sizes = words(&dir.join("sizes.bin"))?;
    let &[items, batch] = &sizes[..] else { return Err("sizes.bin holds two numbers".into()) };
    let graph =
        Bipartite::new(items as usize, &words(&dir.join("offsets.bin"))?, &words(&dir.join("items.bin"))?)?;
    let (graph, batch) = (Arc::new(graph), batch as usize);
    let triples = words(&dir.join("triples.bin"))?;
    let start: Vec<f32> = words(&dir.join("start.bin"))?.into_iter().map(f32::from_bits).collect();
    let mut params = Params::new(1);
    let id = params.dense("nodes", &[graph.nodes(), DIM], Init::Zeros)?;
    params.values_mut(id).copy_from_slice(&start);
    let mut optimiser = Optimiser::new(DenseOptim::adam(1e-3));
    let (mut losses, mut times) = (Vec::new(), Vec::new());
    for (step, triple) in triples.chunks_exact(3 * batch).cycle().take(steps).enumerate() {
        let begin = Instant::now();
        let pass = Pass::new(&params, Mode::Train, step as u64);
        let shift = |at: usize, n: &u32| if at < batch { *n } else { graph.users() as u32 + n };
        let wanted: Arc<Vec<u32>> = Arc::new(triple.iter().enumerate().map(|(at, n)| shift(at, n)).collect());
        let first = pass.param(id);
        let all = first.propagate(&graph, LAYERS, &wanted);
        let part = |at: usize| all.slice_rows(at * batch, batch);
        let (right, wrong) = (part(0).dot_rows(&part(1)), part(0).dot_rows(&part(2)));
        let length = first.gather(&wanted).square().sum().scale(0.5 * L2 / batch as f32);
        let loss = loss::bpr(&right, &wrong, &[]).add(&length);
        losses.push(loss.item());
        let gradients = pass.backward(&loss);
        drop((loss, length, right, wrong, all, first, pass));
        optimiser.step(&mut params, &gradients);
        times.push(begin.elapsed().as_secs_f64());
    }
    losses.truncate(5);
    let mut rest = times.split_off(times.len().min(2).saturating_sub(1));
    rest.sort_by(f64::total_cmp);
    println!(
        "{{\"step_s\": {:.5}, \"best_s\": {:.5}, \"steps\": {steps}, \"losses\": {losses:?}}}",
        rest[rest.len() / 2],
        rest[0]
    );
    Ok(())
}
