//! Retrievers: learning from the graph of who acted on what, from single positives, and from a stream.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_data::{EvalUsers, Interactions, PassedOverLog, Ragged};
use millstream_models::ModelConfig;
use millstream_models::embeds::{self, Embeds};
use millstream_schema::examples::Action;
use millstream_schema::{
    Assembler, Batch, BatchSource, Error as SchemaError, Examples, Fitter, Frame, History, IdMap, Schema,
    Side,
};
use millstream_train::config::TrainMode;
use millstream_train::positives::{EachPositive, Past, PositivesOptions};
use millstream_train::sampler::Sampler;
use millstream_train::stream::{Numbered, Replay, Stream};
use millstream_train::{BEST, Learner, Run, Sampling, Setting, TrainConfig, check_streams, checkpoint, eval};
use std::sync::Arc;

const USERS: u32 = 24;
const ITEMS: u32 = 16;

fn assembler() -> Arc<Assembler> {
    let schema: Schema = "[[feature]]\nname = \"user_id\"\nside = \"user\"\nkind = \"categorical\"\n\
         [[feature]]\nname = \"item_id\"\nside = \"item\"\nkind = \"categorical\"\n\
         [[feature]]\nname = \"past\"\nkind = \"sequence\"\nelements = [\"item_id\"]\nmax_len = 40\n"
        .parse()
        .unwrap();
    let mut users = Frame::new("users", &["user_id"]);
    (0..USERS).for_each(|u| users.push_row(u.into(), &[&format!("u{u}")]));
    let mut items = Frame::new("items", &["item_id"]);
    (0..ITEMS).for_each(|i| items.push_row(i.into(), &[&format!("i{i}")]));
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::User], &users).unwrap();
    fitter.observe(&[Side::Item], &items).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let bad = &mut Default::default();
    let users = encoder.encode(&[Side::User], &users, bad).unwrap();
    let items = encoder.encode(&[Side::Item], &items, bad).unwrap();
    Arc::new(Assembler::new(encoder, users, items).unwrap())
}

/// Two groups of users, each with its half of the items; user u has not met item u mod 8 of its half.
fn interactions() -> Interactions {
    let (mut offsets, mut items) = (vec![0], Vec::new());
    for u in 0..USERS {
        let half = (u % 2) * 8;
        items.extend((0..8).filter(|i| *i != u / 2 % 8).map(|i| half + i));
        offsets.push(items.len() as u32);
    }
    let n = items.len();
    Interactions { offsets, items, time_ms: vec![0; n], kind: vec![1; n], value: vec![1.0; n] }
}

/// All positives in batches of 32, with 8 drawn items each.
struct Edges(Vec<Batch>);

impl BatchSource for Edges {
    fn next_batch(&mut self) -> Result<Option<Batch>, SchemaError> {
        Ok(self.0.pop())
    }
}

fn edges(assembler: &Assembler, epoch: u32) -> Edges {
    let all = interactions();
    let pairs: Vec<(u32, u32)> =
        (0..USERS).flat_map(|u| all.items_of(u).iter().map(move |i| (u, *i)).collect::<Vec<_>>()).collect();
    let one = |(b, pairs): (usize, &[(u32, u32)])| {
        let mut x = Examples { tasks: 1, ..Examples::default() };
        for (r, (u, i)) in pairs.iter().enumerate() {
            x.request_user.push(*u);
            x.request_time_ms.push(0);
            x.history.push([]);
            x.candidate_item.push(*i);
            x.candidate_request.push(r as u32);
        }
        x.candidate_item.extend((0..8).map(|k| (k * 5 + b as u32 + epoch) % ITEMS));
        x.candidate_request.resize(x.candidate_item.len(), pairs.len() as u32 - 1);
        x.labels = (0..x.candidate_item.len()).map(|n| f32::from(n < pairs.len())).collect();
        assembler.batch(&x).unwrap()
    };
    Edges(pairs.chunks(32).enumerate().map(one).collect())
}

fn eval_users() -> EvalUsers {
    let all = interactions();
    let (mut history, mut truth, mut seen) = (History::default(), Ragged::default(), Ragged::default());
    for u in 0..USERS {
        let action = |item: &u32| Action { item: *item, time_ms: 0, kind: 1, value: 1.0 };
        history.push(all.items_of(u).iter().map(action));
        truth.push([(u % 2) * 8 + u / 2 % 8]);
        seen.push(all.items_of(u).iter().copied());
    }
    EvalUsers { users: (0..USERS).collect(), time_ms: vec![1; USERS as usize], history, truth, seen }
}

fn trained(options: &str, dir: &std::path::Path) -> (Learner, f64) {
    let assembler = assembler();
    let model = ModelConfig { name: "lightgcn".into(), fields: None, options: options.parse().unwrap() };
    let training: TrainConfig =
        toml::from_str("batch_size = 32\nepochs = 30\n[rows]\noptimizer = \"adam\"\nlearning_rate = 0.02\n")
            .unwrap();
    let even = || Sampler::new(&[1.0; ITEMS as usize]);
    let sampling = Arc::new(Sampling { positives: even(), negatives: even(), hard: None });
    let tasks = ["like".to_owned()];
    let setting = Setting {
        encoder: assembler.encoder(),
        tasks: &tasks,
        model: &model,
        training: &training,
        sampling: Some(sampling),
    };
    let mut learner = Learner::new(&setting).unwrap();
    assert!(learner.learns_graph());
    let before = learner.step(&edges(&assembler, 0).0[0]).unwrap_err().to_string();
    assert!(before.contains("the graph of who acted on what"), "{before}");
    learner.set_graph(&assembler, &interactions()).unwrap();
    let open = |epoch, _| Ok(Box::new(edges(&assembler, epoch)) as Box<dyn BatchSource>);
    let run = Run { config: &training, open: &open, evaluate: None, dir, progress: &|_| () };
    run.train(&mut learner, None).unwrap();
    let (best, _) = checkpoint::load(&dir.join(BEST), &setting).unwrap();
    let users = eval_users();
    let rules = eval::Rules { eval: &users, created_ms: &[], retired_ms: &[] };
    let lists = eval::retriever_lists(&best, &assembler, &rules, 2).unwrap();
    let metrics = eval::lists_beside(&users, &lists, &[1], &[1; ITEMS as usize]);
    (best, metrics["recall@1"])
}

#[test]
fn a_graph_finds_what_its_like_have_met_and_serves_from_rows_alone() {
    for options in [
        "embedding = 8\nlayers = 2",
        "embedding = 8\nlayers = 2\nloss = \"bpr\"",
        "embedding = 8\nlayers = 2\nitem_bias = true",
        "embedding = 8\nlayers = 0",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (learner, recall) = trained(options, dir.path());
        assert!(recall > 0.9, "{options}: {recall}");
        let d = Embeds::dim(&learner);
        assert_eq!(d, 8 + usize::from(options.contains("item_bias")));
        // A stranger with a history is served by it: the half that they like.
        let assembler = assembler();
        let mut x = Examples {
            request_user: vec![u32::MAX],
            request_time_ms: vec![1],
            tasks: 1,
            ..Examples::default()
        };
        x.history.push((0..5).map(|item| Action { item, time_ms: 0, kind: 1, value: 1.0 }));
        let user = learner.users(&assembler.batch(&x).unwrap()).unwrap();
        if options.contains("layers = 2") {
            let mut all = Examples {
                request_user: vec![0],
                request_time_ms: vec![1],
                candidate_request: vec![0; ITEMS as usize],
                candidate_item: (0..ITEMS).collect(),
                tasks: 1,
                labels: vec![0.0; ITEMS as usize],
                ..Examples::default()
            };
            all.history.push([]);
            let items = learner.items(&assembler.batch(&all).unwrap()).unwrap();
            let score = |i: usize| user.iter().zip(&items[i * d..]).map(|(a, b)| a * b).sum::<f32>();
            let worst = (5..8).map(score).fold(f32::INFINITY, f32::min);
            let other = (8..16).map(score).fold(f32::NEG_INFINITY, f32::max);
            assert!(worst > other, "{options}: {worst} {other}");
        }
    }
}

#[test]
fn what_is_said_of_probabilities_is_refused_beside_a_loss_that_does_not_look_at_them() {
    let assembler = assembler();
    let tasks = ["like".to_owned()];
    for (name, options, loss) in [
        ("simplex", "", "loss = \"contrastive\""),
        ("lightgcn", "loss = \"bpr\"", "loss = \"bpr\""),
        ("simplex", "loss = \"softmax\"", ""),
    ] {
        let model = ModelConfig { name: name.into(), fields: None, options: options.parse().unwrap() };
        for (key, said) in [
            ("log_q_weight", "log_q_weight = 0.5"),
            ("in_batch", "in_batch = false"),
            ("frequency", "frequency = { alpha = 0.1, places = 64 }"),
        ] {
            let training: TrainConfig = toml::from_str(&format!("negatives = 4\n{said}")).unwrap();
            let setting = Setting {
                encoder: assembler.encoder(),
                tasks: &tasks,
                model: &model,
                training: &training,
                sampling: Some(even()),
            };
            match Learner::new(&setting).map(drop) {
                Ok(()) => assert!(loss.is_empty(), "{name} {options} takes {said}"),
                Err(error) => {
                    let error = error.to_string();
                    let named = error.contains(&format!("training.{key}")) && error.contains(loss);
                    assert!(!loss.is_empty() && named, "{name} {options} {said}: {error}");
                }
            }
        }
    }
}

fn even() -> Arc<Sampling> {
    let each = || Sampler::new(&[1.0; ITEMS as usize]);
    Arc::new(Sampling { positives: each(), negatives: each(), hard: None })
}

#[test]
fn a_retriever_ends_in_the_same_weights_by_file_and_by_stream_and_is_judged_before_it_learns() {
    let assembler = assembler();
    let by_file: TrainConfig = toml::from_str(
        "batch_size = 32\nepochs = 1\n[frequency]\nalpha = 0.1\nplaces = 64\n[rows]\noptimizer = \"adam\"\nlearning_rate = 0.02\n",
    )
    .unwrap();
    let by_stream = TrainConfig { mode: TrainMode::Stream, ..by_file.clone() };
    let tasks = ["like".to_owned()];
    // The same positives ten times over, so that there is something to learn on the way.
    let source = || Edges((0..10).flat_map(|epoch| edges(&assembler, epoch).0).collect());
    for name in ["two_tower", "youtube_dnn", "mind", "comirec", "simplex", "dat"] {
        let mut model = ModelConfig::named(name);
        if name == "simplex" {
            // Its other loss looks at no probabilities.
            model.options = "loss = \"softmax\"".parse().unwrap();
        }
        let setting = |training| Setting {
            encoder: assembler.encoder(),
            tasks: &tasks,
            model: &model,
            training,
            sampling: Some(even()),
        };
        let dir = tempfile::tempdir().unwrap();
        let mut filed = Learner::new(&setting(&by_file)).unwrap();
        let open = |_, _| Ok(Box::new(source()) as Box<dyn BatchSource>);
        let run = Run { config: &by_file, open: &open, evaluate: None, dir: dir.path(), progress: &|_| () };
        run.train(&mut filed, None).unwrap();
        let mut streamed = Learner::new(&setting(&by_stream)).unwrap();
        let open = |_| Ok(Box::new(Numbered::new(source(), 0)) as Box<dyn Replay>);
        let stream = Stream {
            config: &by_stream,
            open: &open,
            dir: dir.path(),
            checkpoint_every: None,
            report_every: None,
            progress: &|_| (),
            report: &|_| (),
        };
        let outcome = stream.train(&mut streamed, None).unwrap();
        assert_eq!(filed.weights_hash(), streamed.weights_hash(), "{name}");
        // The latest rows are told from drawn ones, though histories are empty here.
        let auc = outcome.metrics["auc"];
        assert!(auc > if ["comirec"].contains(&name) { 0.4 } else { 0.6 }, "{name}: {auc}");
    }
    for (name, why) in
        [("lightgcn", "whole graph"), ("sasrec", "whole sequences"), ("gbdt", "all rows at once")]
    {
        let error = check_streams(name).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn each_positive_comes_once_with_what_its_request_may_know() {
    let assembler = assembler();
    let actions = Arc::new(interactions());
    let options = |past, seed| PositivesOptions {
        batch_size: 10,
        past,
        longest: 4,
        negatives: 3,
        seed,
        skip_batches: 0,
    };
    let batches = |options| {
        let mut source = EachPositive::new(actions.clone(), assembler.clone(), even(), (options, 1)).unwrap();
        let mut all = Vec::new();
        while let Some(batch) = source.next_batch().unwrap() {
            all.push(batch);
        }
        all
    };
    for past in [None, Some(Past::Before), Some(Past::Others)] {
        let mut met = Vec::new();
        for batch in batches(options(past, 7)) {
            assert_eq!(batch.candidates(), batch.requests + 3);
            assert_eq!(batch.columns.is_empty(), past.is_none());
            for r in 0..batch.requests {
                let (user, item) = (batch.group[r], batch.item[r]);
                met.push((user, item));
                let Some(past) = past else { continue };
                let millstream_schema::Column::Keys { offsets, keys, .. } = &batch.columns[2] else {
                    panic!("the history is the third field");
                };
                let known = &keys[offsets[r] as usize..offsets[r + 1] as usize];
                let own = actions.items_of(user);
                let at = own.iter().position(|i| *i == item).unwrap();
                let others: Vec<u32> = match past {
                    Past::Before => own[..at].to_vec(),
                    Past::Others => own.iter().copied().filter(|i| *i != item).collect(),
                };
                let latest = &others[others.len().saturating_sub(4)..];
                assert_eq!(known.len(), latest.len(), "{past:?}");
                // Keys of a vocabulary follow no order that is known here: equal items have equal keys.
                let distinct = |all: &[u64]| all.iter().collect::<std::collections::BTreeSet<_>>().len();
                assert_eq!(distinct(known), latest.len());
            }
        }
        met.sort_unstable();
        let all =
            (0..USERS).flat_map(|u| actions.items_of(u).iter().map(move |i| (u, *i)).collect::<Vec<_>>());
        assert_eq!(met, all.collect::<Vec<_>>());
    }
    let firsts = |seed| batches(options(None, seed))[0].item.clone();
    assert_eq!(firsts(3), firsts(3));
    assert_ne!(firsts(3), firsts(4));
}

/// The log that says of every user that the one item of their half which they have not met was passed over.
fn passed_over(dir: &std::path::Path) -> PassedOverLog {
    let (mut users, mut items) = (IdMap::default(), IdMap::default());
    (0..USERS).for_each(|u| _ = users.insert(&format!("u{u}")));
    (0..ITEMS).for_each(|i| _ = items.insert(&format!("i{i}")));
    let line =
        |u| format!("{{\"time_ms\": 0, \"user\": \"u{u}\", \"items\": [\"i{}\"]}}\n", u % 2 * 8 + u / 2 % 8);
    let file = dir.join("passed.jsonl");
    std::fs::write(&file, (0..USERS).map(line).collect::<String>()).unwrap();
    PassedOverLog::read(&file, (&users, &items), &interactions()).unwrap()
}

#[test]
fn hard_negatives_fall_behind_for_their_users_alone() {
    let (assembler, tasks) = (assembler(), ["like".to_owned()]);
    let gap = |each: usize| {
        let dir = tempfile::tempdir().unwrap();
        let hard = (each > 0).then(|| (Arc::new(passed_over(dir.path())), each));
        let sampling = Arc::new(Sampling { hard, ..Sampling::clone(&even()) });
        let hard =
            if each > 0 { format!("[hard_negatives]\nfile = \"-\"\neach = {each}\n") } else { String::new() };
        let training: TrainConfig = toml::from_str(&format!(
            "batch_size = 32\nepochs = 40\nin_batch = false\nhistory = \"others\"\n{hard}[rows]\noptimizer = \"adam\"\n\
             learning_rate = 0.02\n"
        ))
        .unwrap();
        let model = ModelConfig::named("two_tower");
        let setting = Setting {
            encoder: assembler.encoder(),
            tasks: &tasks,
            model: &model,
            training: &training,
            sampling: Some(sampling.clone()),
        };
        let mut learner = Learner::new(&setting).unwrap();
        for seed in 0..40 {
            let options = PositivesOptions {
                batch_size: 32,
                past: Some(Past::Others),
                longest: 40,
                negatives: 8,
                seed,
                skip_batches: 0,
            };
            let each_positive = (options, 1);
            let actions = Arc::new(interactions());
            let mut source =
                EachPositive::new(actions, assembler.clone(), sampling.clone(), each_positive).unwrap();
            while let Some(batch) = source.next_batch().unwrap() {
                assert_eq!(batch.candidates(), batch.requests * (1 + each) + 8);
                learner.step(&batch).unwrap();
            }
        }
        // By how much the item passed over lies below those taken, by cosine.
        let (users, d) = (eval_users(), learner.dim());
        let vectors = embeds::item_vectors(&learner, &assembler, &(0..ITEMS).collect::<Vec<_>>()).unwrap();
        let asked = (users.users.as_slice(), users.time_ms.as_slice(), &users.history);
        let of_users = embeds::user_vectors(&learner, &assembler, asked).unwrap();
        let below = |u: usize| {
            let score = |item: u32| {
                let item = &vectors[item as usize * d..][..d];
                of_users[u * d..][..d].iter().zip(item).map(|(a, b)| a * b).sum::<f32>()
            };
            let taken = users.seen.row(u);
            taken.iter().map(|item| score(*item)).sum::<f32>() / taken.len() as f32
                - score(users.truth.row(u)[0])
        };
        (0..USERS as usize).map(below).sum::<f32>() / USERS as f32
    };
    let (without, with) = (gap(0), gap(2));
    assert!(with > 2.0 * without && with > 0.2, "{without} without, {with} with");
}

/// Requests without a history over two days: the first half of the items is wanted on the first day, the other on the second.
fn two_days(assembler: &Assembler) -> Vec<Batch> {
    let one = |b: u32| {
        let mut x = Examples { tasks: 1, ..Examples::default() };
        for r in 0..32u32 {
            let (draw, day) = (b * 32 + r, r % 2);
            x.request_user.push(draw / 2 % USERS);
            x.request_time_ms.push(i64::from(day) * 86_400_000);
            x.history.push([]);
            x.candidate_item.push(day * 8 + (draw.wrapping_mul(2_654_435_761) >> 16) % 8);
            x.candidate_request.push(r);
        }
        x.candidate_item.extend((0..8).map(|k| (k * 5 + b) % ITEMS));
        x.candidate_request.resize(x.candidate_item.len(), 31);
        x.labels = (0..x.candidate_item.len()).map(|n| f32::from(n < 32)).collect();
        assembler.batch(&x).unwrap()
    };
    (0..150).map(one).collect()
}

#[test]
fn what_was_wanted_lately_is_served_where_the_age_of_examples_is_learned() {
    let assembler = assembler();
    // Among the first items and among the last, how much more one is wanted than another is not asked for here.
    let late_over_early = |options: &str| {
        let text = format!("hidden = [16]\nembedding = 8\n{options}");
        let model = ModelConfig { name: "youtube_dnn".into(), fields: None, options: text.parse().unwrap() };
        let training: TrainConfig = toml::from_str(
            "batch_size = 32\nlog_q_weight = 0.0\n[rows]\noptimizer = \"adam\"\nlearning_rate = 0.02\n[dense]\noptimizer = \"adam\"\nlearning_rate = 0.01\n",
        )
        .unwrap();
        let even = || Sampler::new(&[1.0; ITEMS as usize]);
        let sampling = Arc::new(Sampling { positives: even(), negatives: even(), hard: None });
        let tasks = ["like".to_owned()];
        let setting = Setting {
            encoder: assembler.encoder(),
            tasks: &tasks,
            model: &model,
            training: &training,
            sampling: Some(sampling),
        };
        let mut learner = Learner::new(&setting).unwrap();
        if learner.learns_ages() {
            learner.set_newest(86_400_000);
        }
        two_days(&assembler).iter().for_each(|batch| {
            learner.step(batch).unwrap();
        });
        let mut x = Examples { tasks: 1, ..Examples::default() };
        for u in 0..USERS {
            x.request_user.push(u);
            // Long ago: in inference that is not looked at.
            x.request_time_ms.push(-86_400_000_000);
            x.history.push([]);
        }
        x.candidate_item = (0..ITEMS).collect();
        x.candidate_request = vec![USERS - 1; ITEMS as usize];
        x.labels = vec![0.0; ITEMS as usize];
        let batch = assembler.batch(&x).unwrap();
        let (users, items) = (learner.users(&batch).unwrap(), learner.items(&batch).unwrap());
        let width = items.len() / ITEMS as usize;
        let score = |u: usize, i: usize| {
            let (u, i) = (&users[u * width..][..width], &items[i * width..][..width]);
            u.iter().zip(i).map(|(a, b)| a * b).sum::<f32>()
        };
        let sum = |from: usize| {
            (0..USERS as usize).map(|u| (from..from + 8).map(|i| score(u, i)).sum::<f32>()).sum::<f32>()
        };
        (sum(8) - sum(0)) / (8 * USERS) as f32
    };
    let (without, with) = (late_over_early(""), late_over_early("example_age = true"));
    // A logit of 2 is more than seven times as likely.
    assert!(without.abs() < 0.5 && with > 2.0, "{without} without, {with} with");
}
