//! Kernels that learn a row at a time: the same steps as the ranker's own on batches of one row, and the formulas of the
//! papers as plain loops.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use millstream_models::input::Feeder;
use millstream_models::online::{self, Live, Progressive};
use millstream_models::ranker::{self, Labels, Shape};
use millstream_models::snapshot::{self, Header, Role};
use millstream_models::{ModelConfig, Ranker, Scorer, serving};
use millstream_nn::{DenseOptim, Mode, Optimiser, Params, Pass};
use millstream_schema::ids::NO_ROW;
use millstream_schema::{Assembler, Batch, Column, Columns, Encoder, Examples, Frame, History, Schema, Side};
use millstream_store::{Admission, RowInit, RowOptim, RowsMut, Store, TableConfig};

/// Each field has one key from a table of its own.
const PLAIN: &str = r#"
    [[feature]]
    name = "city"
    side = "context"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "ad"
    side = "item"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "count"
    side = "exposure"
    kind = "numeric"
    transform = "log2_bins"
"#;

/// Lists, a shared table, numbers.
const MIXED: &str = r#"
    [[feature]]
    name = "city"
    side = "context"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "home"
    column = "ad"
    side = "item"
    kind = "categorical"
    encoding = "hash"
    table = "city"
    [[feature]]
    name = "tags"
    side = "item"
    kind = "multi"
    encoding = "hash"
    weight_separator = ":"
    [[feature]]
    name = "count"
    side = "exposure"
    kind = "numeric"
    transform = "log"
"#;

const RANKERS: [(&str, &str); 5] = [
    ("lr", ""),
    ("fm", "embedding = 3"),
    ("ffm", "embedding = 2\nnormalise = false"),
    ("ffm", "embedding = 4\nnormalise = false"),
    ("ffm", "embedding = 3\nnormalise = true"),
];

fn config(name: &str, options: &str) -> ModelConfig {
    ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) }
}

fn encoder(schema: &str) -> Arc<Encoder> {
    Arc::new(Encoder::without_fitting(&schema.parse::<Schema>().unwrap()).unwrap())
}

/// Rows `from..to` of an endless table.
fn batch(encoder: &Arc<Encoder>, rows: std::ops::Range<u64>) -> Batch {
    let mut frame = Frame::new("table", &["city", "ad", "tags", "count"]);
    let mut labels = Vec::new();
    let n = (rows.end - rows.start) as usize;
    for row in rows {
        let draw = |salt: u64, most: u64| {
            let x = (row * 31 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % most
        };
        let (city, ad) = (draw(1, 8), draw(2, 16));
        let tags = match draw(3, 4) {
            0 => String::new(),
            1 => format!("t{}:0.5|t{}:2", draw(4, 4), draw(5, 4)),
            _ => format!("t{}:1", draw(4, 4)),
        };
        frame.push_row(row, &[&format!("v{city}"), &format!("v{ad}"), &tags, &draw(6, 8).to_string()]);
        labels.push(f32::from(u8::from((city + ad + draw(7, 2)) % 3 == 0)));
    }
    let bad = &mut Default::default();
    let x = Examples {
        request_user: vec![NO_ROW; n],
        request_time_ms: vec![0; n],
        history: History { offsets: vec![0; n + 1], ..History::default() },
        context: encoder.encode(&[Side::User, Side::Context], &frame, bad).unwrap(),
        candidate_request: (0..n as u32).collect(),
        exposure: encoder.encode(&[Side::Item, Side::Exposure], &frame, bad).unwrap(),
        labels,
        tasks: 1,
        ..Examples::default()
    };
    Assembler::new(encoder.clone(), Columns::default(), Columns::default()).unwrap().batch(&x).unwrap()
}

/// A ranker with its weights and rows.
struct Model {
    encoder: Arc<Encoder>,
    config: ModelConfig,
    params: Params,
    store: Store,
    optimiser: Optimiser,
    ranker: Box<dyn Ranker>,
}

impl Model {
    /// As streams have it: a single shard per table.
    fn new(schema: &str, named: (&str, &str), optim: RowOptim) -> Self {
        Self::with(schema, named, optim, (1, None))
    }

    fn with(
        schema: &str,
        (name, options): (&str, &str),
        optim: RowOptim,
        (shards, admission): (usize, Option<Admission>),
    ) -> Self {
        let (encoder, config) = (encoder(schema), config(name, options));
        let mut params = Params::new(3);
        let sides = serving::sides(&encoder);
        let shape = Shape { fields: encoder.fields(), sides: &sides, tasks: 1 };
        let ranker = ranker::build(&config, &shape, &mut params).unwrap();
        let table = |t: &millstream_nn::TableSpec| TableConfig {
            init: RowInit::Uniform(0.3),
            optim,
            // Without a penalty row-wise steps are taken by the rows of all fields at once.
            l2: if options.contains("embedding = 2") { 0.0 } else { 1e-3 },
            seed: 5,
            admission,
            ..TableConfig::new(t.name.clone(), t.dim)
        };
        let store = Store::with_shards(params.tables().iter().map(table).collect(), shards).unwrap();
        Self { encoder, config, params, store, optimiser: Optimiser::new(DenseOptim::sgd(0.05)), ranker }
    }

    fn kernel(&self) -> Box<dyn Progressive> {
        let sides = serving::sides(&self.encoder);
        let shape = Shape { fields: self.encoder.fields(), sides: &sides, tasks: 1 };
        online::build(&self.config, &shape, &self.params, &self.store).unwrap()
    }

    fn learn(&mut self, kernel: &mut dyn Progressive, batch: &Batch) -> Vec<f32> {
        let mut logits = Vec::new();
        let live = Live { params: &mut self.params, store: &mut self.store, optimiser: &mut self.optimiser };
        kernel.learn(live, batch, &mut logits).unwrap();
        logits
    }

    /// A step of the ranker's own; gives the logits before it.
    fn step(&mut self, batch: &Batch) -> Vec<f32> {
        let fields = self.encoder.fields();
        let planned = Feeder::new(fields).plan(fields, batch).unwrap();
        let pass = Pass::new(&self.params, Mode::Train, 1);
        let x = planned
            .inputs(&pass, (fields, batch), self.params.tables(), |at, keys, out| {
                let table = self.store.table(&self.params.tables()[at].name)?;
                Ok(self.store.pull_or_init(table, keys, out)?)
            })
            .unwrap();
        let z = self.ranker.forward(&pass, &x);
        let logits = z.to_vec();
        let loss = self.ranker.loss(&z, &Labels { values: &batch.labels, weights: &[] });
        let gradients = pass.backward(&loss);
        drop((z, x, loss, pass));
        self.optimiser.step(&mut self.params, &gradients);
        for (table, id) in self.params.tables().iter().zip(self.params.table_ids()) {
            if let Some(grads) = gradients.rows(id) {
                let to = self.store.table(&table.name).unwrap();
                self.store.push_unique(to, planned.keys(table), grads).unwrap();
            }
        }
        logits
    }

    /// All weights, in one order.
    fn weights(&self) -> Vec<f32> {
        let mut all: Vec<f32> = self.params.iter().flat_map(|(_, _, values)| values.to_vec()).collect();
        for (table, _) in self.store.tables() {
            self.store.for_each_row(table, |_, row| all.extend_from_slice(row)).unwrap();
        }
        all
    }
}

fn rules() -> [RowOptim; 4] {
    [
        RowOptim::Sgd { lr: 0.05 },
        RowOptim::AdaGrad { lr: 0.1, eps: 1e-8, initial_accumulator: 0.1 },
        RowOptim::Ftrl { alpha: 0.1, beta: 1.0, l1: 0.01, l2: 0.1 },
        RowOptim::AdaGradRowWise { lr: 0.1, eps: 1e-8, initial_accumulator: 0.1 },
    ]
}

fn near(a: &[f32], b: &[f32], most: f32) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most * (1.0 + a.abs()))
}

#[test]
fn learning_rows_one_by_one_is_stepping_on_batches_of_one_row() {
    for schema in [PLAIN, MIXED] {
        for (name, options) in RANKERS {
            for optim in rules() {
                let mut rows = Model::new(schema, (name, options), optim);
                let mut steps = Model::new(schema, (name, options), optim);
                let mut kernel = rows.kernel();
                let before = rows.weights().len();
                let logits = rows.learn(&mut *kernel, &batch(&rows.encoder.clone(), 0..150));
                let by_steps: Vec<f32> =
                    (0..150).flat_map(|n| steps.step(&batch(&steps.encoder.clone(), n..n + 1))).collect();
                assert!(near(&logits, &by_steps, 1e-4), "{name} {optim:?}: logits");
                assert!(near(&rows.weights(), &steps.weights(), 1e-4), "{name} {optim:?}: weights");
                assert!(rows.weights().len() > before);
            }
        }
    }
}

#[test]
fn one_gradient_step_is_the_ranker_s_to_the_last_digits() {
    for schema in [PLAIN, MIXED] {
        for (name, options) in RANKERS {
            for row in 0..20 {
                let mut rows = Model::new(schema, (name, options), RowOptim::Sgd { lr: 0.5 });
                let mut steps = Model::new(schema, (name, options), RowOptim::Sgd { lr: 0.5 });
                let one = batch(&rows.encoder.clone(), row..row + 1);
                let mut kernel = rows.kernel();
                let logits = rows.learn(&mut *kernel, &one);
                assert!(near(&logits, &steps.step(&one), 1e-5), "{name}: {row}");
                assert!(near(&rows.weights(), &steps.weights(), 1e-5), "{name}: {row}");
            }
        }
    }
}

#[test]
fn logits_are_those_of_loops_over_all_pairs() {
    for (name, options) in RANKERS {
        let mut model = Model::new(PLAIN, (name, options), RowOptim::Sgd { lr: 0.05 });
        let mut kernel = model.kernel();
        for n in 0..40 {
            let one = batch(&model.encoder.clone(), n..n + 1);
            let naive = naive_logit(&model, &one, (name, options));
            let logit = model.learn(&mut *kernel, &one)[0];
            assert!((f64::from(logit) - naive).abs() < 1e-5, "{name}: {logit} {naive}");
        }
    }
}

/// b + Σ wᵢ + Σ_{i<j} ⟨vᵢ, vⱼ⟩, or ⟨v_{i, j}, v_{j, i}⟩ over ‖x‖² where that is asked for.
fn naive_logit(model: &Model, batch: &Batch, (name, options): (&str, &str)) -> f64 {
    let fields = model.encoder.fields();
    let options: toml::Table = options.parse().unwrap();
    let k = options.get("embedding").and_then(|v| v.as_integer()).unwrap_or(0) as usize;
    let row = |f: usize, suffix: &str, dim: usize| {
        let Column::Key(keys) = &batch.columns[f] else { panic!("no key") };
        let table = model.store.table(&format!("{}/{suffix}", fields[f].space.as_ref().unwrap())).unwrap();
        let mut out = vec![0.0; dim];
        model.store.pull_or_init(table, &keys[..1], &mut out).unwrap();
        out.into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    let bias = model.params.find("linear.bias").unwrap();
    let mut z = f64::from(model.params.values(bias)[0]);
    z += (0..fields.len()).map(|f| row(f, "linear", 1)[0]).sum::<f64>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut pairs = 0.0;
    for i in 0..fields.len() {
        for j in i + 1..fields.len() {
            pairs += match name {
                "fm" => dot(&row(i, "d3", k), &row(j, "d3", k)),
                "ffm" => {
                    let row = |f| row(f, &format!("ffm{k}"), k * fields.len());
                    dot(&row(i)[j * k..(j + 1) * k], &row(j)[i * k..(i + 1) * k])
                }
                _ => 0.0,
            };
        }
    }
    let normalise = options.get("normalise").and_then(|v| v.as_bool()).unwrap_or(false);
    z + if normalise { pairs / fields.len() as f64 } else { pairs }
}

#[test]
fn what_was_learned_row_by_row_opens_in_the_scorer_and_scores_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in RANKERS {
        let optim = RowOptim::Ftrl { alpha: 0.1, beta: 1.0, l1: 0.05, l2: 0.0 };
        let mut model = Model::new(MIXED, (name, options), optim);
        let encoder = model.encoder.clone();
        let mut kernel = model.kernel();
        model.learn(&mut *kernel, &batch(&encoder, 0..300));
        let path = dir.path().join(format!("{name}.ckpt"));
        let header = Header {
            role: Role::Ranker,
            model: model.config.clone(),
            tasks: vec!["click".into()],
            fields: snapshot::fingerprint(encoder.fields()),
            seed: 3,
            steps: 1,
            negatives_kept: None,
        };
        snapshot::write(&path, &header, &model.params, &model.store, &[]).unwrap();
        let scorer = Scorer::open(&path, &encoder).unwrap();
        // Only rows whose keys were all met: the scorer takes zeros for others, a learner makes them.
        for n in 0..50 {
            let one = batch(&encoder, n..n + 1);
            let mut copy = Model::new(MIXED, (name, options), optim);
            copy.learn(&mut *copy.kernel(), &batch(&encoder, 0..300));
            let live = copy.learn(&mut *copy.kernel(), &one)[0];
            let saved = scorer.score(&one).unwrap()[0];
            assert!((1.0 / (1.0 + (-live).exp()) - saved).abs() < 1e-6, "{name}: {live} {saved}");
        }
    }
}

#[test]
fn rows_side_by_side_and_rows_in_shards_learn_the_same_bits_with_and_without_admission() {
    for schema in [PLAIN, MIXED] {
        for (name, options) in RANKERS {
            for (optim, sightings) in rules().into_iter().flat_map(|rule| [(rule, 1), (rule, 3)]) {
                let admission = (sightings > 1).then_some(Admission::Count { sightings });
                let learned = |shards: usize| {
                    let mut model = Model::with(schema, (name, options), optim, (shards, admission));
                    let mut kernel = model.kernel();
                    let mut bits = model.learn(&mut *kernel, &batch(&model.encoder.clone(), 0..100));
                    bits.extend(model.learn(&mut *kernel, &batch(&model.encoder.clone(), 100..200)));
                    bits.extend(model.weights());
                    bits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                assert_eq!(learned(1), learned(8), "{name} {optim:?}");
            }
        }
    }
}

#[test]
fn it_does_not_matter_how_rows_are_cut_into_batches() {
    for (name, options) in RANKERS {
        let learned = |sizes: &[u64]| {
            let mut model = Model::new(MIXED, (name, options), rules()[1]);
            let (mut kernel, mut from, mut logits) = (model.kernel(), 0, Vec::new());
            for &size in sizes.iter().cycle() {
                let to = (from + size).min(4000);
                logits.extend(model.learn(&mut *kernel, &batch(&model.encoder.clone(), from..to)));
                from = to;
                if from == 4000 {
                    break;
                }
            }
            (logits, model.weights())
        };
        assert!(learned(&[4000]) == learned(&[1, 7, 300, 1000]), "{name}");
    }
}

#[test]
fn loss_falls_and_l1_leaves_zeros() {
    let optim = RowOptim::Ftrl { alpha: 0.5, beta: 1.0, l1: 2.0, l2: 0.0 };
    let mut model = Model::new(PLAIN, ("lr", ""), optim);
    let (encoder, mut kernel) = (model.encoder.clone(), model.kernel());
    let loss = |z: &f32, y: &f32| f64::from((1.0 + (-(2.0 * y - 1.0) * z).exp()).ln());
    let part = |model: &mut Model, kernel: &mut dyn Progressive, rows: std::ops::Range<u64>| {
        let rows = batch(&encoder, rows);
        let logits = model.learn(kernel, &rows);
        logits.iter().zip(&rows.labels).map(|(z, y)| loss(z, y)).sum::<f64>() / logits.len() as f64
    };
    let first = part(&mut model, &mut *kernel, 0..100);
    part(&mut model, &mut *kernel, 100..2000);
    let last = part(&mut model, &mut *kernel, 2000..3000);
    assert!(last < first, "{first} {last}");
    let weights = model.weights();
    let zeros = weights.iter().filter(|w| **w == 0.0).count();
    assert!(zeros > 0 && zeros < weights.len(), "{zeros} of {}", weights.len());
}

#[test]
fn weights_of_rows_scale_their_gradients() {
    let learned = |weight: f32, lr: f32| {
        let mut model = Model::new(PLAIN, ("fm", "embedding = 3"), RowOptim::Sgd { lr });
        model.optimiser = Optimiser::new(DenseOptim::sgd(lr));
        for (table, _) in model.store.tables().map(|(t, c)| (t, c.clone())).collect::<Vec<_>>() {
            assert_eq!(model.store.len(table).unwrap(), 0);
        }
        let rows = Batch { weights: vec![weight], ..batch(&model.encoder.clone(), 5..6) };
        model.learn(&mut *model.kernel(), &rows);
        model.weights()
    };
    // L2 is no part of the loss, so it is left as small as it is.
    assert!(near(&learned(2.0, 0.01), &learned(1.0, 0.02), 1e-4));
    assert!(!near(&learned(2.0, 0.01), &learned(1.0, 0.01), 1e-4));
}

#[test]
fn what_cannot_be_is_said() {
    let model = Model::new(PLAIN, ("lr", ""), RowOptim::Sgd { lr: 0.1 });
    let sides = serving::sides(&model.encoder);
    let shape = Shape { fields: model.encoder.fields(), sides: &sides, tasks: 1 };
    let message =
        |name: &str| match online::build(&ModelConfig::named(name), &shape, &model.params, &model.store) {
            Ok(_) => panic!("{name} was built"),
            Err(e) => e.to_string(),
        };
    assert_eq!(message("deepfm"), "`deepfm` does not learn a row at a time; lr, fm, ffm do");
    assert!(message("fmm").contains("did you mean"), "{}", message("fmm"));
    let mut diverging = Model::new(PLAIN, ("lr", ""), RowOptim::Sgd { lr: 0.1 });
    let (encoder, mut kernel) = (diverging.encoder.clone(), diverging.kernel());
    diverging.params.values_mut(diverging.params.find("linear.bias").unwrap())[0] = f32::NAN;
    let live = Live {
        params: &mut diverging.params,
        store: &mut diverging.store,
        optimiser: &mut diverging.optimiser,
    };
    let error = kernel.learn(live, &batch(&encoder, 0..2), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("diverged"), "{error}");
    let live = Live {
        params: &mut diverging.params,
        store: &mut diverging.store,
        optimiser: &mut diverging.optimiser,
    };
    let foreign = Batch { columns: Vec::new(), ..batch(&encoder, 0..2) };
    assert!(kernel.learn(live, &foreign, &mut Vec::new()).is_err());
}
