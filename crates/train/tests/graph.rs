//! Learning from the graph of who acted on what.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_data::{EvalUsers, Interactions, Ragged};
use millstream_models::ModelConfig;
use millstream_models::embeds::Embeds;
use millstream_schema::examples::Action;
use millstream_schema::{
    Assembler, Batch, BatchSource, Error as SchemaError, Examples, Fitter, Frame, History, Schema, Side,
};
use millstream_train::sampler::Sampler;
use millstream_train::{BEST, Learner, Run, Sampling, Setting, TrainConfig, checkpoint, eval};
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
        x.labels = vec![1.0; x.candidate_item.len()];
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
    let sampling = Arc::new(Sampling { positives: even(), negatives: even() });
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
        "embedding = 8\nlayers = 0",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (learner, recall) = trained(options, dir.path());
        assert!(recall > 0.9, "{options}: {recall}");
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
            let score = |i: usize| user.iter().zip(&items[i * 8..]).map(|(a, b)| a * b).sum::<f32>();
            let worst = (5..8).map(score).fold(f32::INFINITY, f32::min);
            let other = (8..16).map(score).fold(f32::NEG_INFINITY, f32::max);
            assert!(worst > other, "{options}: {worst} {other}");
        }
        assert_eq!(Embeds::dim(&learner), 8);
    }
}
