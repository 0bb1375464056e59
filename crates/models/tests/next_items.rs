//! What models of the next item must hold to when they learn from whole sequences.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_models::input::Feeder;
use millstream_models::ranker::Shape;
use millstream_models::retriever::{self, NextTargets, Scope};
use millstream_models::{Error, ModelConfig, RETRIEVERS, Retriever, serving};
use millstream_nn::{DenseOptim, Inputs, Mode, Optimiser, Params, Pass, Tensor};
use millstream_schema::examples::Action;
use millstream_schema::{Assembler, Batch, Examples, Fitter, Frame, Schema, Side};
use millstream_store::{RowOptim, RowsMut, Store, TableConfig};
use std::sync::Arc;

const ITEMS: u32 = 9;

fn assembler(more: &str) -> Assembler {
    let schema: Schema = format!(
        "[[feature]]\nname = \"item_id\"\nside = \"item\"\nkind = \"categorical\"\n\
         [[feature]]\nname = \"clicks\"\nkind = \"sequence\"\nelements = [\"item_id\"]\nmax_len = 20\n{more}"
    )
    .parse()
    .unwrap();
    let mut items = Frame::new("items", &["item_id"]);
    (0..ITEMS).for_each(|i| items.push_row(i.into(), &[&format!("i{i}")]));
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::Item], &items).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let columns = encoder.encode(&[Side::Item], &items, &mut Default::default()).unwrap();
    Assembler::new(encoder, Default::default(), columns).unwrap()
}

/// Sequences whose items follow each other in a circle; the last of each is what the one before it should find.
fn circles(starts: &[(u32, usize)], negatives: &[u32]) -> Examples {
    let mut x = Examples { tasks: 1, ..Examples::default() };
    for (row, &(start, len)) in starts.iter().enumerate() {
        let item = |k: usize| (start + k as u32) % ITEMS;
        let action = |k| Action { item: item(k), time_ms: k as i64, kind: 1, value: 1.0 };
        x.request_user.push(u32::MAX);
        x.request_time_ms.push(1000);
        x.history.push((0..len).map(action));
        x.candidate_item.extend((1..=len).map(item));
        x.candidate_request.resize(x.candidate_item.len(), row as u32);
    }
    x.labels = vec![1.0; x.candidate_item.len()];
    x.candidate_item.extend_from_slice(negatives);
    x.candidate_request.resize(x.candidate_item.len(), starts.len() as u32 - 1);
    x.labels.resize(x.candidate_item.len(), 0.0);
    x
}

/// Clicks with times beside them.
const TIMED: &str = "[[feature]]\nname = \"timed\"\nkind = \"sequence\"\nelements = [\"item_id\"]\nmax_len = 20\n\
                     gap = true\ninterval = true\n";

struct Bench {
    assembler: Assembler,
    params: Params,
    store: Store,
    model: Box<dyn Retriever>,
}

fn built(
    name: &str,
    options: &str,
    assembler: &Assembler,
    params: &mut Params,
) -> Result<Box<dyn Retriever>, Error> {
    let cfg = ModelConfig { name: name.into(), fields: None, options: options.parse().unwrap() };
    let sides = serving::sides(assembler.encoder());
    let shape = Shape { fields: assembler.encoder().fields(), sides: &sides, tasks: 1 };
    retriever::build(&cfg, &shape, params)
}

impl Bench {
    fn new(name: &str, options: &str) -> Self {
        Self::over("", name, options)
    }

    /// With further features.
    fn over(more: &str, name: &str, options: &str) -> Self {
        let assembler = assembler(more);
        let mut params = Params::new(3);
        let model = built(name, options, &assembler, &mut params).unwrap();
        let table = |t: &millstream_nn::TableSpec| TableConfig {
            init: millstream_store::RowInit::Normal(0.3),
            optim: RowOptim::LazyAdam { lr: 0.02, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
            seed: 5,
            ..TableConfig::new(t.name.clone(), t.dim)
        };
        let store = Store::new(params.tables().iter().map(table).collect()).unwrap();
        Self { assembler, params, store, model }
    }

    fn run<T>(&self, batch: &Batch, mode: Mode, f: impl FnOnce(&dyn Retriever, &Pass, &Inputs) -> T) -> T {
        let fields = self.assembler.encoder().fields();
        let planned = Feeder::new(fields).plan(fields, batch).unwrap();
        let pass = Pass::new(&self.params, mode, 1);
        let pull = |at: usize, keys: &[u64], out: &mut [f32]| {
            let table = self.store.table(&self.params.tables()[at].name)?;
            Ok(self.store.pull_or_init(table, keys, out)?)
        };
        let x = planned.inputs(&pass, (fields, batch), self.params.tables(), pull).unwrap();
        f(&*self.model, &pass, &x)
    }

    fn loss(&self, batch: &Batch, scope: Scope, pass: &Pass, x: &Inputs) -> Result<Tensor, Error> {
        let log_q = vec![-1.0; batch.candidates()];
        let y = NextTargets { items: &batch.item, log_q: &log_q, scope, catalogue: ITEMS as usize };
        self.model.next_items().unwrap().loss(pass, x, &y)
    }

    fn step(&mut self, batch: &Batch, scope: Scope, optimiser: &mut Optimiser) -> f32 {
        let fields = self.assembler.encoder().fields().to_vec();
        let planned = Feeder::new(&fields).plan(&fields, batch).unwrap();
        let (value, gradients) = self.run(batch, Mode::Train, |_, pass, x| {
            let loss = self.loss(batch, scope, pass, x).unwrap();
            (loss.item(), pass.backward(&loss))
        });
        optimiser.step(&mut self.params, &gradients);
        for (table, id) in self.params.tables().iter().zip(self.params.table_ids()) {
            let grads = gradients.rows(id).unwrap();
            self.store
                .push_unique(self.store.table(&table.name).unwrap(), planned.keys(table), grads)
                .unwrap();
        }
        value
    }
}

/// Models, losses and what the negatives are for.
fn cases() -> Vec<(&'static str, String, Scope)> {
    let small = "embedding = 8\ndropout = 0.0\n";
    let mut cases = Vec::new();
    for def in RETRIEVERS.iter().filter(|def| def.whole) {
        let hidden = if def.name == "gru4rec" { "hidden = [8]\n" } else { "" };
        for (loss, scope) in [
            ("bce", Scope::Element),
            ("gbce", Scope::Sequence),
            ("gbce\"\nbias = -2.0\n#", Scope::Sequence),
            ("softmax", Scope::Batch),
            ("softmax", Scope::Catalogue),
            ("bpr_max", Scope::Sequence),
            ("top1_max", Scope::Batch),
            ("softmax\"\nin_batch = true\n#", Scope::Batch),
        ] {
            cases.push((def.name, format!("{small}{hidden}loss = \"{loss}\"\n"), scope));
        }
    }
    for more in [
        "graph = \"attention\"\nsteps = 2\nblocks = 2\nkeep = -1.0\n",
        "steps = 2\nkeep = 0.9\nclusters = 3\n",
    ] {
        cases.push(("intent_split", format!("{small}loss = \"softmax\"\n{more}"), Scope::Catalogue));
    }
    for form in ["centroid", "items"] {
        let more = format!("intents = {{ clusters = 3, weight = 0.3, noise = 0.2, form = \"{form}\" }}\n");
        let hidden = "hidden = [8]\n";
        cases.push(("gru4rec", format!("{small}{hidden}loss = \"softmax\"\n{more}"), Scope::Batch));
    }
    assert!(cases.len() >= 26);
    cases
}

/// Where sequences begin, and how long they are.
fn starts() -> Vec<(u32, usize)> {
    (0..ITEMS).flat_map(|start| [2, 4, 7].map(|len| (start, len))).collect()
}

/// Every item for whom it concerns: what is no negative is never pushed down.
fn negatives(scope: Scope) -> Vec<u32> {
    let times = match scope {
        Scope::Element => starts().iter().map(|(_, len)| *len as u32).sum(),
        Scope::Sequence => starts().len() as u32,
        Scope::Batch | Scope::Catalogue => 1,
    };
    (0..times * ITEMS).map(|i| i % ITEMS).collect()
}

#[test]
fn every_loss_learns_which_item_comes_next() {
    for (name, options, scope) in cases() {
        let mut bench = Bench::new(name, &options);
        let batch = bench.assembler.batch(&circles(&starts(), &negatives(scope))).unwrap();
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.02));
        for _ in 0..200 {
            bench.step(&batch, scope, &mut optimiser);
        }
        // A sequence never met: the circle from another place.
        let asked =
            bench.assembler.batch(&circles(&[(2, 4), (5, 2)], &(0..ITEMS).collect::<Vec<_>>())).unwrap();
        let (users, items) = bench.run(&asked, Mode::Infer, |model, pass, x| {
            (model.users(pass, x).to_vec(), model.items(pass, x).to_vec())
        });
        let d = bench.model.dim();
        let all = &items[6 * d..];
        for (user, wanted) in users.chunks(d).zip([6, 7]) {
            let score = |i: usize| user.iter().zip(&all[i * d..][..d]).map(|(a, b)| a * b).sum::<f32>();
            let best = (0..ITEMS as usize).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
            assert_eq!(best, wanted, "{name} with {options}");
        }
    }
}

#[test]
fn slopes_of_dense_weights_are_finite_differences() {
    for (name, options, scope) in cases() {
        let mut bench = Bench::new(name, &options);
        let batch = bench.assembler.batch(&circles(&starts(), &negatives(scope))).unwrap();
        let value = |bench: &Bench, mode| {
            bench.run(&batch, mode, |_, pass, x| {
                let loss = bench.loss(&batch, scope, pass, x).unwrap();
                (loss.item(), (mode == Mode::Train).then(|| pass.backward(&loss)))
            })
        };
        let gradients = value(&bench, Mode::Train).1.unwrap();
        let mut checked = 0;
        for id in bench.params.ids() {
            let Some(gradient) = gradients.dense(id).map(<[f32]>::to_vec) else { continue };
            let at = gradient.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap().0;
            let (h, before) = (1e-3, bench.params.values(id)[at]);
            let mut side = |d: f32| {
                bench.params.values_mut(id)[at] = before + d;
                f64::from(value(&bench, Mode::Infer).0)
            };
            let numeric = (side(h) - side(-h)) / (2.0 * f64::from(h));
            bench.params.values_mut(id)[at] = before;
            let analytic = f64::from(gradient[at]);
            let near = (numeric - analytic).abs() <= 2e-3 + 0.05 * analytic.abs();
            assert!(
                near,
                "{name} with {options}: {} [{at}]: {analytic} against {numeric}",
                bench.params.name(id)
            );
            checked += 1;
        }
        assert!(checked >= 4, "{name}: only {checked} weights have gradients");
    }
}

#[test]
fn an_empty_history_is_a_vector_of_its_own_and_longer_ones_are_as_alone() {
    for name in RETRIEVERS.iter().filter(|def| def.whole).map(|def| def.name) {
        let bench = Bench::new(name, "embedding = 8");
        let users = |starts: &[(u32, usize)]| {
            let batch = bench.assembler.batch(&circles(starts, &[1])).unwrap();
            bench.run(&batch, Mode::Infer, |model, pass, x| model.users(pass, x).to_vec())
        };
        let all = users(&[(0, 3), (0, 0), (5, 1)]);
        assert_eq!(all[8..16], [0.0; 8], "{name}: nothing was learned of strangers yet");
        assert_eq!(users(&[(0, 0)]), [0.0; 8]);
        assert!(users(&[(5, 1)]).iter().zip(&all[16..]).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn what_is_learned_after_each_element_is_what_a_user_with_that_past_has() {
    for name in RETRIEVERS.iter().filter(|def| def.whole).map(|def| def.name) {
        // Places counted from the end, and a contrast, are not what this is about.
        let own = ["places = 0", "contrast = 0.0"];
        let cfg = |option: &str| ModelConfig { options: option.parse().unwrap(), ..ModelConfig::named(name) };
        let def = RETRIEVERS.iter().find(|def| def.name == name).unwrap();
        let taken: Vec<&str> = own.into_iter().filter(|o| (def.check)(&cfg(o)).is_ok()).collect();
        let mut bench = Bench::new(name, &format!("embedding = 8\nloss = \"softmax\"\n{}", taken.join("\n")));
        let all: Vec<u32> = (0..ITEMS).collect();
        let asked = |len| bench.assembler.batch(&circles(&[(3, len)], &all)).unwrap();
        let batch = asked(6);
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.02));
        for _ in 0..3 {
            bench.step(&batch, Scope::Catalogue, &mut optimiser);
        }
        let asked = |len| bench.assembler.batch(&circles(&[(3, len)], &all)).unwrap();
        let total = |len: usize| {
            let batch = asked(len);
            let mean = bench.run(&batch, Mode::Infer, |_, pass, x| {
                bench.loss(&batch, Scope::Catalogue, pass, x).unwrap().item()
            });
            len as f32 * mean
        };
        for len in 2..6 {
            let batch = asked(len);
            let scores: Vec<f32> = bench.run(&batch, Mode::Infer, |model, pass, x| {
                let (user, items) = (model.users(pass, x).to_vec(), model.items(pass, x).to_vec());
                let dot = |v: &[f32]| user.iter().zip(v).map(|(a, b)| a * b).sum();
                items[len * 8..].chunks(8).map(dot).collect()
            });
            let next = (3 + len) % ITEMS as usize;
            let wanted = scores.iter().map(|s| s.exp()).sum::<f32>().ln() - scores[next];
            let found = total(len) - total(len - 1);
            assert!((found - wanted).abs() < 1e-4, "{name} after {len}: {found} against {wanted}");
        }
    }
}

#[test]
fn batches_and_options_that_do_not_fit_are_told() {
    let bench = Bench::new("sasrec", "embedding = 8\nin_batch = true\nloss = \"softmax\"");
    let batch = bench.assembler.batch(&circles(&starts(), &negatives(Scope::Sequence))).unwrap();
    let told = |scope| {
        bench.run(&batch, Mode::Train, |_, pass, x| {
            bench.loss(&batch, scope, pass, x).unwrap_err().to_string()
        })
    };
    assert!(told(Scope::Sequence).contains("negatives_for = \"batch\""));
    let bench = Bench::new("sasrec", "embedding = 8");
    let none = bench.assembler.batch(&circles(&starts(), &[])).unwrap();
    let message = bench.run(&none, Mode::Train, |_, pass, x| {
        bench.loss(&none, Scope::Batch, pass, x).unwrap_err().to_string()
    });
    assert!(message.contains("training.negatives above 0"), "{message}");
    for (name, options, said) in [
        ("sasrec", "heads = 3", "heads = 3 do not divide a width of 50"),
        ("sasrec", "calibration = 1.5", "calibration must be in [0, 1]"),
        ("sasrec", "loss = \"softmax\"\nbias = 1.0", "bias is for the losses"),
        ("sasrec", "input_scale = 0.0", "`input_scale` must be above 0"),
        ("sasrec", "blocks = 0", "`blocks` and `feed` must be above 0"),
        ("sasrec", "loss = \"gbce\"\nin_batch = true", "uniform negatives"),
        ("gru4rec", "hidden = []", "`hidden` needs a width"),
        ("sasrec", "embedding = 0", "`embedding` is 0; it must be above 0"),
        ("sasrec", "init_std = 0.0", "`embedding` and `init_std` must be above 0"),
        ("gru4rec", "state_dropout = 1.0", "state_dropout must be in [0, 1), not 1"),
        ("intent_split", "clusters = 0", "clusters must be above 0"),
        ("intent_split", "keep = 1.5", "keep is a cosine, in [-1, 1], not 1.5"),
        ("intent_split", "keep = nan", "keep is a cosine"),
        ("intent_split", "contrast = -1.0", "contrast must be 0 or more"),
        ("intent_split", "temperature = 0.0", "temperature must be above 0"),
        ("intent_split", "heads = 3", "heads = 3 do not divide a width of 100"),
        ("intent_split", "edges = { entmax = 1.0 }", "entmax of 1, expected a number above 1"),
        ("intent_split", "graph = \"gatde\"", "did you mean `gated`?"),
        ("intent_split", "clutsers = 3", "did you mean `clusters`?"),
        ("sasrec", "intervals = true", "needs `interval = true` of the sequence"),
        ("gru4rec", "intents = { clusters = 0 }", "[model.intents] clusters must be above 0"),
        ("gru4rec", "intents = { weight = -1.0 }", "weight must be 0 or more, not -1"),
        ("gru4rec", "intents = { noise = nan }", "noise must be 0 or more"),
        ("gru4rec", "intents = { wieght = 1.0 }", "did you mean `weight`?"),
        ("gru4rec", "intents = { form = \"centre\" }", "did you mean `centroid`?"),
        ("sdm", "", "no sequence with `gap = true`"),
        ("sdm", "days = 0", "must be above 0, and the days longer"),
        ("sdm", "session_minutes = 20000", "must be above 0, and the days longer"),
        ("sdm", "embeding = 3", "did you mean `embedding`?"),
        ("multi_behaviour", "behaviours = []", "names no sequence"),
        ("multi_behaviour", "behaviours = [\"cliks\"]", "did you mean `clicks`?"),
        ("multi_behaviour", "behaviours = [\"clicks\", \"clicks\"]", "names a sequence twice"),
        ("multi_behaviour", "embedding = 0", "must be above 0"),
        ("gat_entmax", "layers = 0", "`layers` and `longest` must be above 0"),
        ("gat_entmax", "edges = { entmax = 0.5 }", "entmax of 0.5"),
        ("gru4rec", "sequence = \"clikcs\"", "did you mean `clicks`?"),
        ("gru4rec", "sequence = \"clicks.item\"", "did you mean `clicks.item_id`?"),
    ] {
        let message = built(name, options, &assembler(""), &mut Params::new(1)).err().unwrap().to_string();
        assert!(message.contains(said), "{message}");
    }
    let two = assembler("[[feature]]\nname = \"buys\"\nkind = \"sequence\"\nelements = [\"item_id\"]\n");
    let message = built("sasrec", "", &two, &mut Params::new(1)).err().unwrap().to_string();
    assert!(message.contains("say which with `sequence = \"clicks.item_id\"`"), "{message}");
    built("sasrec", "sequence = \"buys\"", &two, &mut Params::new(1)).unwrap();
    built("sasrec", "sequence = \"buys.item_id\"", &two, &mut Params::new(1)).unwrap();
}

#[test]
fn options_that_mean_nothing_beside_others_are_refused_before_training() {
    for (name, options, said) in [
        (
            "sasrec",
            "loss = \"bce\"\ncalibration = 0.5",
            "`calibration` means nothing beside `loss = \"bce\"`",
        ),
        ("gru4rec", "loss = \"bce\"\npenalty = 0.5", "`penalty` means nothing beside `loss = \"bce\"`"),
        (
            "gru4rec",
            "loss = \"top1_max\"\npenalty = 0.5",
            "`penalty` means nothing beside `loss = \"top1_max\"`",
        ),
        ("gru4rec", "penalty = 0.5", "beside `loss = \"softmax\"`"),
        ("gat_entmax", "loss = \"bpr_max\"\ncalibration = 0.5", "beside `loss = \"bpr_max\"`"),
        (
            "gru4rec",
            "intents = { noise = 0.0, bound = 0.1 }",
            "`intents.bound` means nothing beside `noise = 0`",
        ),
        ("intent_split", "edges = \"softmax\"", "`edges` means nothing beside `graph = \"gated\"`"),
        (
            "intent_split",
            "contrast = 0.0\ntemperature = 0.3",
            "`temperature` means nothing beside `contrast = 0`",
        ),
        (
            "sdm",
            "intents = { clusters = 8 }",
            "[model.intents] is for models that learn from whole sequences",
        ),
        (
            "multi_behaviour",
            "intents = { clusters = 8 }",
            "[model.intents] is for models that learn from whole",
        ),
    ] {
        let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
        let def = RETRIEVERS.iter().find(|def| def.name == name).unwrap();
        let message = (def.check)(&cfg).unwrap_err().to_string();
        assert!(message.contains(said) && message.contains(name), "{name} {options}: {message}");
        // What was trained before it was refused still opens.
        if !options.contains("clusters") {
            built(name, options, &assembler(""), &mut Params::new(1)).unwrap();
        }
    }
    let fine = ModelConfig {
        options: "loss = \"gbce\"\ncalibration = 0.5".parse().unwrap(),
        ..ModelConfig::named("sasrec")
    };
    (RETRIEVERS.iter().find(|def| def.name == "sasrec").unwrap().check)(&fine).unwrap();
}

/// User vectors of these histories, as items with times in seconds, all of requests at one moment.
fn users_of(bench: &Bench, now_s: i64, histories: &[Vec<(u32, i64)>]) -> Vec<f32> {
    let mut x = Examples { tasks: 1, ..Examples::default() };
    for (row, history) in histories.iter().enumerate() {
        x.request_user.push(u32::MAX);
        x.request_time_ms.push(now_s * 1000);
        let action = |&(item, at)| Action { item, time_ms: at * 1000, kind: 1, value: 1.0 };
        x.history.push(history.iter().map(action));
        x.candidate_item.push(0);
        x.candidate_request.push(row as u32);
        x.labels.push(1.0);
    }
    let batch = bench.assembler.batch(&x).unwrap();
    bench.run(&batch, Mode::Infer, |model, pass, x| model.users(pass, x).to_vec())
}

#[test]
fn intervals_tell_pauses_apart_and_not_when_the_request_comes() {
    let options = "sequence = \"timed\"\nembedding = 8\nintervals = ";
    let history = |pause: i64| vec![(1, 0), (2, 60), (3, 60 + pause), (4, 120 + pause)];
    for (on, differs) in [("true", true), ("false", false)] {
        let bench = Bench::over(TIMED, "sasrec", &format!("{options}{on}"));
        let one = |now, pause| users_of(&bench, now, &[history(pause)]);
        assert_eq!(one(100_000, 60) != one(100_000, 7200), differs);
        assert_eq!(one(100_000, 60), one(900_000, 60));
    }
}

#[test]
fn the_session_and_what_was_before_it_are_read_apart() {
    let bench = Bench::over(TIMED, "sdm", "embedding = 8\ndropout = 0.0");
    let now = 40 * 86_400;
    let session = [(5, now - 500), (6, now - 60)];
    let with = |earlier: &[(u32, i64)]| {
        let history: Vec<(u32, i64)> = earlier.iter().chain(&session).copied().collect();
        users_of(&bench, now, &[history])
    };
    let day = 86_400;
    let plain = with(&[]);
    assert_ne!(with(&[(1, now - 2 * day)]), plain, "a click of this week counts");
    assert_eq!(with(&[(1, now - 39 * day)]), plain, "a click of last month does not");
    // Before the session order says nothing; within it does.
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let two = |a, b| with(&[(a, now - 3 * day), (b, now - 2 * day)]);
    assert!(near(&two(1, 2), &two(2, 1)));
    let turned = users_of(&bench, now, &[vec![(6, now - 500), (5, now - 60)]]);
    assert!(!near(&turned, &plain));
    // A user without a session has the last click for one; without clicks there is no vector that is not finite.
    let odd = users_of(&bench, now, &[vec![], vec![(3, now - 3 * day)], vec![(3, 0); 30]]);
    assert!(odd.iter().all(|v| v.is_finite()));
}

#[test]
fn behaviours_are_told_apart_and_are_sets() {
    let more =
        "[[feature]]\nname = \"buys\"\nkind = \"sequence\"\nelements = [\"item_id\"]\nevents = [\"order\"]\n";
    let bench = Bench::over(more, "multi_behaviour", "embedding = 8\nblocks = 2\nheads = 2");
    let user = |actions: &[(u32, u16)]| {
        let mut x = Examples { tasks: 1, labels: vec![1.0], ..Examples::default() };
        (x.request_user, x.request_time_ms) = (vec![u32::MAX], vec![1000]);
        (x.candidate_item, x.candidate_request) = (vec![0], vec![0]);
        let action = |&(item, kind)| Action { item, time_ms: 0, kind, value: 1.0 };
        x.history.push(actions.iter().map(action));
        let batch = bench.assembler.batch(&x).unwrap();
        bench.run(&batch, Mode::Infer, |model, pass, x| model.users(pass, x).to_vec())
    };
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    // `clicks` takes all kinds, `buys` orders alone.
    let seen = user(&[(1, 1), (2, 1), (3, 1)]);
    assert!(near(&seen, &user(&[(3, 1), (1, 1), (2, 1)])));
    assert!(!near(&seen, &user(&[(1, 1), (2, 1), (3, 3)])));
    assert!(user(&[]).iter().all(|v| v.is_finite()));
}

#[test]
fn a_long_history_and_one_item_over_and_over_have_defined_vectors() {
    // The others read no sequence, or need a user's id, which this data has not.
    let other = ["two_tower", "dssm", "dat", "simplex", "lightgcn"];
    for def in RETRIEVERS.iter().filter(|def| !other.contains(&def.name)) {
        let options = if def.name == "gru4rec" { "embedding = 8\nhidden = [8]" } else { "embedding = 8" };
        let sequence = if def.name == "multi_behaviour" { "" } else { "\nsequence = \"timed\"" };
        let long = TIMED.replace("max_len = 20", "max_len = 100000");
        let bench = Bench::over(&long, def.name, &format!("{options}{sequence}"));
        let many = (0..20_000).map(|i| ((i % 7) as u32, i)).collect();
        let users = users_of(&bench, 30_000, &[many, vec![(2, 5); 300], vec![(u32::MAX, 1)], vec![]]);
        assert_eq!(users.len(), 4 * bench.model.interests() * bench.model.dim());
        assert!(users.iter().all(|v| v.is_finite()), "{}", def.name);
    }
}
