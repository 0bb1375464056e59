//! What every registered ranker and retriever must hold to.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod bench;
mod blocks;

use bench::*;
use millstream_models::ranker::{self, Labels, Shape};
use millstream_models::retriever::Targets;
use millstream_models::snapshot::Role;
use millstream_models::{Embedder, ModelConfig, Precision, RANKERS, Ranker, Scorer, serving};
use millstream_nn::{DenseOptim, Inputs, Mode, Optimiser, Params, Pass};
use millstream_schema::examples::Action;
use millstream_schema::{Encoder, Examples, Fitter, Schema};

#[test]
fn a_row_scores_the_same_alone_in_a_batch_and_permuted() {
    for (name, mut bench) in rankers() {
        let x = examples(bench.assembler.encoder(), 6, 3, 1);
        let batch = bench.assembler.batch(&x).unwrap();
        fit(&mut bench, &batch);
        let together = logits(&bench, &x);
        assert!(together.iter().any(|z| (z - together[0]).abs() > 1e-6), "{name}: all rows score alike");
        for r in 0..6u32 {
            let alone = logits(&bench, &x.gather(&[r]));
            for (c, z) in alone.iter().enumerate() {
                assert!(near(*z, together[r as usize * 3 + c]), "{name}: request {r}");
            }
        }
        let order = [4u32, 0, 5, 2, 1, 3];
        let permuted = logits(&bench, &x.gather(&order));
        for (new, old) in order.iter().enumerate() {
            assert!(near(permuted[new * 3], together[*old as usize * 3]), "{name}: permuted");
        }
    }
}

#[test]
fn many_candidates_of_a_request_score_as_each_does_alone() {
    // So many that what belongs to a request meets the first layers once per request.
    for (name, mut bench) in rankers() {
        let x = examples(bench.assembler.encoder(), 3, 12, 6);
        let batch = bench.assembler.batch(&x).unwrap();
        fit(&mut bench, &batch);
        let together = logits(&bench, &x);
        for n in 0..36 {
            let mut alone = x.gather(&[n as u32 / 12]);
            (alone.candidate_request, alone.candidate_item) = (vec![0], vec![x.candidate_item[n]]);
            alone.labels = vec![x.labels[n]];
            alone.exposure = bench.assembler.encoder().exposure_defaults(1).unwrap();
            let z = logits(&bench, &alone)[0];
            assert!(near(z, together[n]), "{name}: candidate {n}: {z} alone, {} among others", together[n]);
        }
    }
}

#[test]
fn the_auxiliary_loss_is_of_histories_alone_and_can_be_switched_off() {
    let build: &Build<dyn Ranker> = &|c, s, p| ranker::build(c, s, p).unwrap();
    let with = |options: &str| {
        let mut cfg = config("dien");
        cfg.options.extend(options.parse::<toml::Table>().unwrap());
        Bench::new(cfg, build)
    };
    let added = |bench: &Bench<dyn Ranker>, x: &Examples, mode: Mode| {
        let batch = bench.assembler.batch(x).unwrap();
        bench.run(&batch, mode, |model, pass, x| total(model, pass, x, &batch.labels).1.map(|l| l.item()))
    };
    let dien = with("");
    let x = examples(dien.assembler.encoder(), 20, 2, 8);
    let first = added(&dien, &x, Mode::Train).unwrap();
    assert!(first > 0.0 && first.is_finite());
    assert_eq!(added(&dien, &x, Mode::Train), Some(first), "the same seed draws the same");
    assert_eq!(added(&dien, &x, Mode::Infer), None, "nothing is added where nothing is learned");
    let other =
        Examples { candidate_item: x.candidate_item.iter().map(|i| (i + 3) % ITEMS).collect(), ..x.clone() };
    assert_eq!(added(&dien, &other, Mode::Train), Some(first), "candidates are not looked at");
    let half = added(&with("sequence = { auxiliary = 0.5 }"), &x, Mode::Train).unwrap();
    assert!(near(half, 0.5 * first), "{half} of {first}");
    assert_eq!(added(&with("sequence = { auxiliary = 0.0 }"), &x, Mode::Train), None);
    // One action in all, none, and one item again and again: there is nothing to tell apart.
    for histories in [vec![vec![3]], vec![vec![], vec![]], vec![vec![5, 5, 5], vec![5, 5]]] {
        let x = with_histories(dien.assembler.encoder(), &histories);
        assert_eq!(added(&dien, &x, Mode::Train), None, "{histories:?}");
    }
}

#[test]
fn sessions_ask_for_the_feature_to_have_them() {
    let schema = SCHEMA.replace("session_gap_mins = 30\n", "");
    let encoder = Fitter::new(&schema.parse::<Schema>().unwrap()).finish().unwrap();
    let sides = serving::sides(&encoder);
    let shape = Shape { fields: encoder.fields(), sides: &sides, tasks: 1 };
    let err = ranker::build(&ModelConfig::named("dsin"), &shape, &mut Params::new(1)).err().unwrap();
    assert!(err.to_string().contains("need `session_gap_mins` of the sequence `clicks`"), "{err}");
}

#[test]
fn gradients_match_finite_differences() {
    // What is fitted as a whole has no gradients.
    let by_steps = |cfg: &ModelConfig| RANKERS.iter().any(|def| def.name == cfg.name && def.fit.is_none());
    for (name, mut bench) in rankers().into_iter().filter(|(_, bench)| by_steps(&bench.cfg)) {
        let batch = bench.assembler.batch(&examples(bench.assembler.encoder(), 8, 2, 2)).unwrap();
        let y = batch.labels.clone();
        let loss = |bench: &Bench<dyn Ranker>, mode| {
            bench.run(&batch, mode, |model, pass, x| {
                let (loss, layers) = total(model, pass, x, &y);
                let loss = layers.map_or(loss.clone(), |layers| loss.add(&layers));
                (loss.item(), (mode == Mode::Train).then(|| pass.backward(&loss)))
            })
        };
        let gradients = loss(&bench, Mode::Train).1.unwrap();
        let mut checked = 0;
        for id in bench.params.ids() {
            let Some(gradient) = gradients.dense(id).map(<[f32]>::to_vec) else { continue };
            let at = gradient.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap().0;
            let before = bench.params.values(id)[at];
            let mut slope = |h: f32| {
                let mut side = |d: f32| {
                    bench.params.values_mut(id)[at] = before + d;
                    // In training, as the gradient: some activations bend by the moments of the batch.
                    f64::from(loss(&bench, Mode::Train).0)
                };
                let slope = (side(h) - side(-h)) / (2.0 * f64::from(h));
                bench.params.values_mut(id)[at] = before;
                slope
            };
            let analytic = f64::from(gradient[at]);
            let fits = |numeric: f64| (numeric - analytic).abs() <= 2e-3 + 0.05 * analytic.abs();
            // A ReLU that opens within the step bends the loss; a shorter step does not reach it.
            let (long, short) = (slope(1e-2), slope(2e-3));
            assert!(
                fits(long) || fits(short),
                "{name}: {} [{at}]: {analytic} against {long} and {short}",
                bench.params.name(id)
            );
            checked += 1;
        }
        assert!(checked >= 3, "{name}: only {checked} weights have gradients");
    }
}

#[test]
fn sixty_four_rows_are_over_fitted() {
    for (name, mut bench) in rankers() {
        let mut x = examples(bench.assembler.encoder(), 64, 1, 3);
        // Rows that look alike must be labelled alike to be learnable.
        for r in 0..64 {
            x.labels[r] = ((x.request_user[r] * 5 + x.candidate_item[r] * 3) % 7 < 3) as u8 as f32;
        }
        let batch = bench.assembler.batch(&x).unwrap();
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.02));
        let last = std::cell::Cell::new(f32::INFINITY);
        let loss = |model: &(dyn Ranker + 'static), pass: &Pass, x: &Inputs| {
            // What layers add is learned too, but it need not vanish.
            let (loss, layers) = total(model, pass, x, &batch.labels);
            last.set(loss.item());
            layers.map_or(loss.clone(), |layers| loss.add(&layers))
        };
        if fit(&mut bench, &batch) {
            bench.run(&batch, Mode::Infer, loss);
        } else {
            for _ in 0..300 {
                bench.step(&batch, &mut optimiser, loss);
            }
        }
        assert!(last.get() < 0.05, "{name}: loss is still {}", last.get());
    }
}

#[test]
fn saved_and_reopened_rankers_score_bit_for_bit_alike() {
    let dir = tempfile::tempdir().unwrap();
    for (name, mut bench) in rankers() {
        let batch = bench.assembler.batch(&examples(bench.assembler.encoder(), 9, 2, 4)).unwrap();
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.02));
        fit(&mut bench, &batch);
        bench.step(&batch, &mut optimiser, |model, pass, x| {
            model.loss(&model.forward(pass, x), &Labels { values: &batch.labels, weights: &[] })
        });
        let path = dir.path().join("a.model");
        bench.save(&path, Role::Ranker);
        let scorer = Scorer::open(&path, bench.assembler.encoder()).unwrap();
        let live = bench.run(&batch, Mode::Infer, |model, pass, x| model.forward(pass, x).to_vec());
        let live: Vec<f32> = live.into_iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        assert_eq!(scorer.score(&batch).unwrap(), live, "{name}");
        assert!(
            Embedder::open(&path, bench.assembler.encoder()).is_err(),
            "{name}: a ranker is no retriever"
        );
    }
}

/// Probability that a positive stands above a negative, and log-loss, of logits.
fn auc_and_log_loss(logits: &[f32], labels: &[f32]) -> (f64, f64) {
    let (mut above, mut pairs, mut loss) = (0.0, 0.0, 0.0);
    for (z, y) in logits.iter().zip(labels) {
        let sign = if *y > 0.5 { -1.0 } else { 1.0 };
        loss += (sign * f64::from(*z)).exp().ln_1p() / labels.len() as f64;
        for other in logits.iter().zip(labels).filter(|other| *y > 0.5 && *other.1 < 0.5).map(|other| other.0)
        {
            pairs += 1.0;
            above += if z > other { 1.0 } else { f64::from(u8::from(z == other)) / 2.0 };
        }
    }
    (above / pairs, loss)
}

/// What a user makes of an item, with some noise.
fn taste(x: &mut Examples, seed: usize) {
    for c in 0..x.candidates() {
        let (user, item) = (x.request_user[x.candidate_request[c] as usize], x.candidate_item[c]);
        let noise = (c * 7919 + seed * 31).is_multiple_of(10);
        x.labels[c] = f32::from(u8::from(((user * 5 + item * 3) % 7 < 3) != noise));
    }
}

#[test]
fn sixteen_bits_score_as_f32_does_nearly() {
    let dir = tempfile::tempdir().unwrap();
    for options in ["structure = \"parallel\"", "structure = \"stacked\"", "batch_norm = true"] {
        let mut cfg = ModelConfig::named("dcn_v2");
        let sizes = "embedding = 16\nhidden = [64, 32]\ninit_std = 0.1\n";
        cfg.options.extend(format!("{sizes}{options}").parse::<toml::Table>().unwrap());
        let mut bench = Bench::<dyn Ranker>::new(cfg, &|c, s, p| ranker::build(c, s, p).unwrap());
        let mut seen = examples(bench.assembler.encoder(), 40, 10, 1);
        taste(&mut seen, 1);
        let batch = bench.assembler.batch(&seen).unwrap();
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.01));
        for _ in 0..25 {
            bench.step(&batch, &mut optimiser, |model, pass, x| {
                model.loss(&model.forward(pass, x), &Labels { values: &batch.labels, weights: &[] })
            });
        }
        let mut fresh = examples(bench.assembler.encoder(), 20, 50, 2);
        taste(&mut fresh, 2);
        let exact = logits(&bench, &fresh);
        bench.params.set_precision(Precision::I16);
        let fixed = logits(&bench, &fresh);
        let path = dir.path().join("a.model");
        bench.save(&path, Role::Ranker);
        let batch = bench.assembler.batch(&fresh).unwrap();
        let scorer = Scorer::open(&path, bench.assembler.encoder()).unwrap().with_precision(Precision::I16);
        let served: Vec<f32> = fixed.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        assert_eq!(scorer.score(&batch).unwrap(), served, "{options}");
        let n = exact.len() as f32;
        let off = exact.iter().zip(&fixed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let mean = exact.iter().sum::<f32>() / n;
        let spread = (exact.iter().map(|z| (z - mean).powi(2)).sum::<f32>() / n).sqrt();
        let (a, b) = (auc_and_log_loss(&exact, &batch.labels), auc_and_log_loss(&fixed, &batch.labels));
        println!(
            "{options}: logits {off:.1e} apart, spread {spread:.2}; AUC {:.6} and {:.6}; log-loss {:.6} and {:.6}",
            a.0, b.0, a.1, b.1
        );
        assert!(a.0 > 0.75, "{options}: AUC {}", a.0);
        assert!(off > 0.0 && off < 2e-3 * spread, "{options}: {off} of {spread}");
        assert!((a.0 - b.0).abs() < 1e-3 && (a.1 - b.1).abs() < 1e-3 * a.1, "{options}: {a:?} and {b:?}");
    }
}

#[test]
fn retrievers_learn_which_item_goes_with_whom_and_survive_saving() {
    let dir = tempfile::tempdir().unwrap();
    // What a graph's model serves is made by training; crates/train tests it.
    for (name, mut bench) in retrievers().into_iter().filter(|(_, bench)| bench.model.graph().is_none()) {
        let mut x = examples(bench.assembler.encoder(), 40, 1, 5);
        for r in 0..40 {
            x.candidate_item[r] = right_item(name, &x, r);
        }
        let batch = bench.assembler.batch(&x).unwrap();
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.02));
        let log_q = vec![0.0; 40];
        let mut losses = Vec::new();
        for _ in 0..150 {
            losses.push(bench.step(&batch, &mut optimiser, |model, pass, x| {
                let y = Targets { items: &batch.item, log_q: &log_q, weights: &[], mixed: true, own: 0 };
                model.learn(pass, x, &y)
            }));
        }
        assert!(losses[149] < 0.3 * losses[0], "{name}: {} to {}", losses[0], losses[149]);
        let path = dir.path().join(format!("{name}.model"));
        bench.save(&path, Role::Retriever);
        let opened = Embedder::open(&path, bench.assembler.encoder()).unwrap();
        let users = bench.run(&batch, Mode::Infer, |model, pass, x| model.users(pass, x).to_vec());
        let items = bench.run(&batch, Mode::Infer, |model, pass, x| model.items(pass, x).to_vec());
        assert_eq!(opened.users(&batch).unwrap(), users, "{name}");
        assert_eq!(opened.items(&batch).unwrap(), items, "{name}");
        assert_eq!(users.len(), 40 * opened.interests() * opened.dim());
    }
}

#[test]
fn wrong_options_name_the_nearest_one() {
    let assembler = assembler();
    let sides = serving::sides(assembler.encoder());
    let shape = Shape { fields: assembler.encoder().fields(), sides: &sides, tasks: 1 };
    for (options, said) in [
        ("member = { name = \"deepfn\" }", "did you mean `deepfm`?"),
        ("member = { name = \"gbdt\" }", "unknown member `gbdt`"),
        ("member = { name = \"fm\", embeding = 4 }", "did you mean `embedding`?"),
        ("members = 0", "members must be above 0, not 0"),
    ] {
        let mut cfg = ModelConfig::named("ensemble");
        cfg.options.extend(options.parse::<toml::Table>().unwrap());
        let err = ranker::build(&cfg, &shape, &mut Params::new(1)).err().unwrap().to_string();
        assert!(err.contains(said), "{options}: {err}");
    }
    for def in RANKERS {
        let options = "embeding = 4".parse().unwrap();
        let cfg = ModelConfig { name: def.name.into(), fields: None, options };
        let err = ranker::build(&cfg, &shape, &mut Params::new(1)).err().unwrap().to_string();
        let near =
            if config(def.name).options.contains_key("embedding") { "did you mean `embedding`?" } else { "" };
        assert!(err.contains("unknown key `embeding`") && err.contains(near), "{}: {err}", def.name);
        let cfg = ModelConfig { fields: Some(vec!["itm_id".into()]), ..ModelConfig::named(def.name) };
        let err = ranker::build(&cfg, &shape, &mut Params::new(1)).err().unwrap().to_string();
        assert!(err.contains("did you mean `item_id`?"), "{}: {err}", def.name);
    }
    let err =
        ranker::build(&ModelConfig::named("deepfn"), &shape, &mut Params::new(1)).err().unwrap().to_string();
    assert!(err.contains("did you mean `deepfm`?"), "{err}");
}

/// Examples whose histories are as given, one request each; all for user 1 and item 2.
fn with_histories(encoder: &Encoder, histories: &[Vec<u32>]) -> Examples {
    let mut x = Examples { tasks: 1, ..Examples::default() };
    for (r, items) in histories.iter().enumerate() {
        x.request_user.push(1);
        x.request_time_ms.push(1_000_000_000);
        // All at one moment: the order is that of the history.
        let action = |&item: &u32| Action { item, time_ms: 999_000_000, kind: 1, value: 1.0 };
        x.history.push(items.iter().map(action));
        x.candidate_request.push(r as u32);
        x.candidate_item.push(2);
        x.labels.push(0.0);
    }
    x.exposure = encoder.exposure_defaults(x.candidates()).unwrap();
    x
}

/// Rankers that read a history by a block.
const READERS: [&str; 8] = ["mean_pool", "din", "din_self", "bst", "sim_hard", "sim_soft", "dien", "dsin"];

/// Rankers and variants that look at histories in the way given.
fn reading(names: &[&str]) -> Vec<(String, Bench<dyn Ranker>)> {
    rankers().into_iter().filter(|(name, _)| names.contains(&name.split(' ').next().unwrap())).collect()
}

#[test]
fn histories_that_are_sets_may_be_permuted_and_those_that_are_not_may_not() {
    let histories = [vec![1, 2, 3, 2, 7], vec![7, 2, 3, 2, 1], vec![]];
    for (name, bench) in reading(&READERS) {
        let z = logits(&bench, &with_histories(bench.assembler.encoder(), &histories));
        // The latest of several matches, the last element, a recurrence, places and masks know an order.
        let knows = ["last", "places", "causal", "rotary", "window"].iter().any(|word| name.contains(word));
        let knows = knows || name.starts_with("dien");
        // The bias of a place within a session is small at first.
        let ordered = knows || name.starts_with("dsin") || name.contains("k = 2");
        assert!(z.iter().all(|z| z.is_finite()), "{name}: an empty history");
        assert!(ordered || near(z[0], z[1]), "{name}: {z:?}");
        if knows {
            assert!((z[0] - z[1]).abs() > 1e-6, "{name} does not see the order: {z:?}");
        }
    }
}

#[test]
fn an_action_that_is_there_twice_counts_twice_where_nothing_is_averaged() {
    let histories = [vec![1, 2, 3], vec![1, 2, 3, 1, 2, 3]];
    for (name, bench) in reading(&["mean_pool", "din"]) {
        let z = logits(&bench, &with_histories(bench.assembler.encoder(), &histories));
        let averaged = (name.starts_with("mean_pool") && !name.contains("sum")) || name.contains("softmax");
        let averaged = averaged || name.contains("pool = \"last\"");
        let twice = name.contains("entmax") || name.starts_with("mean_pool") && !averaged;
        match (averaged, twice) {
            (true, _) => assert!(near(z[0], z[1]), "{name}: {z:?}"),
            (false, false) => assert!((z[0] - z[1]).abs() > 1e-6, "{name}: {z:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_soft_search_for_as_many_as_there_are_is_din() {
    let build: &Build<dyn Ranker> = &|c, s, p| ranker::build(c, s, p).unwrap();
    let with = |name: &str, options: &str| {
        let mut cfg = config(name);
        cfg.options.extend(options.parse::<toml::Table>().unwrap());
        Bench::new(cfg, build)
    };
    let din = with("din", "sequence = { unit = [8, 4] }");
    let x = examples(din.assembler.encoder(), 40, 3, 9);
    let all = logits(&din, &x);
    let same = logits(&with("sim_soft", "sequence = { unit = [8, 4], k = 4 }"), &x);
    assert!(all.iter().zip(&same).all(|(a, b)| (a - b).abs() <= 1e-6), "k ≥ L differs from DIN");
    let fewer = logits(&with("sim_soft", "sequence = { unit = [8, 4], k = 1 }"), &x);
    assert!(all.iter().zip(&fewer).any(|(a, b)| (a - b).abs() > 1e-5), "k = 1 finds all");
}

#[test]
fn options_of_sequence_blocks_are_checked() {
    let assembler = assembler();
    let sides = serving::sides(assembler.encoder());
    let shape = Shape { fields: assembler.encoder().fields(), sides: &sides, tasks: 1 };
    for (name, options, expected) in [
        ("deepfm", "unit = [4]", "needs `block`"),
        ("din", "unit = [0]", "model `din`: `sequence.unit` is 0; it must be above 0"),
        ("bst", "transformer = { heads = 7 }", "model `bst`: heads = 7 do not divide"),
        (
            "bst",
            "transformer = { window = 0 }",
            "model `bst`: the width inside a block (`feed`) and `window` must be above 0",
        ),
        ("lr", "block = \"din\"", "[model.sequence] is for rankers with layers over embedded fields"),
        ("fm", "block = \"din\"", "[model.sequence] is for rankers with layers over embedded fields"),
        ("ffm", "block = \"din\"", "[model.sequence] is for rankers with layers over embedded fields"),
        ("gbdt", "block = \"din\"", "[model.sequence] is for rankers with layers over embedded fields"),
        ("ensemble", "block = \"din\"", "say it in [model.member.sequence]"),
        ("din", "block = \"din\"", "block of its own"),
        ("din", "feature = \"clics\"", "did you mean `clicks`?"),
        ("din", "pool = \"sum\"", "`pool` means nothing"),
        ("din", "unt = [4]", "did you mean `unit`?"),
        ("din", "unit = []", "needs a hidden layer"),
        ("din", "weights = { entmax = 1.0 }", "above 1"),
        ("din", "k = 3", "`k` means nothing"),
        ("sim_soft", "k = 0", "at least 1"),
        ("sim_hard", "k = 3", "needs `category`"),
        ("sim_hard", "category = \"item\"", "did you mean `item_id`?"),
        ("sim_hard", "category = \"tags\"", "`tags` has several values per item"),
        ("mean_pool", "activation = \"relu\"", "`activation` means nothing"),
        ("mean_pool", "scene = [\"position\"]", "`scene` means nothing"),
        ("din", "scene = [\"positon\"]", "did you mean `position`?"),
        ("din", "scene = []", "must name a field"),
        ("din", "transformer = { heads = 2 }", "`transformer` means nothing"),
        ("bst", "unit = [4]", "`unit` means nothing for the block bst; it takes transformer, pool, scene"),
        ("bst", "transformer = { heads = 3 }", "heads = 3 do not divide"),
        ("bst", "pool = \"gap\"", "no gap and no strength"),
        ("dien", "auxiliary = -1.0", "auxiliary must be a number of at least 0"),
        ("din", "auxiliary = 1.0", "`auxiliary` means nothing"),
        ("dsin", "transformer = { blocks = 2 }", "dsin has one block"),
        ("dsin", "transformer = { places = 9 }", "dsin has one block"),
        ("dsin", "weights = { entmax = 0.5 }", "above 1"),
        ("din_self", "transformer = { blocks = 0 }", "needs a layer"),
        ("din_self", "transformer = { feed = 0 }", "must be above 0"),
        ("din_self", "transformer = { causl = true }", "did you mean `causal`?"),
        ("din_self", "transformer = { dropout = 1.0 }", "dropout must be in [0, 1)"),
    ] {
        let table = format!("sequence = {{ {options} }}").parse().unwrap();
        let cfg = ModelConfig { name: name.into(), fields: None, options: table };
        let err = ranker::build(&cfg, &shape, &mut Params::new(1)).err().unwrap().to_string();
        assert!(err.contains(expected), "{name} with {options:?}: {err}");
    }
}

#[test]
fn one_event_a_hundred_thousand_unknown_items_and_equal_times_have_defined_scores() {
    let long: Vec<u32> = (0..100_000).map(|e| e % ITEMS).collect();
    let latest = long[long.len() - 50..].to_vec();
    let histories = [vec![3], long, latest, vec![ITEMS + 5, ITEMS + 9], vec![ITEMS + 9, ITEMS + 5]];
    for (name, bench) in reading(&READERS) {
        let z = logits(&bench, &with_histories(bench.assembler.encoder(), &histories));
        assert!(z.iter().all(|z| z.is_finite()), "{name}: {z:?}");
        assert!(near(z[1], z[2]), "{name}: the feature keeps the latest 50");
        assert!(near(z[3], z[4]), "{name}: unknown items are one");
    }
}
