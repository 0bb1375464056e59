//! Transformers and sessions over behaviour, the loss of the next action, and queries that depend on the scene: against paths that take
//! one candidate at a time, and finite differences.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod common;

use common::{near, probe, run};
use millstream_nn::*;
use std::sync::Arc;

/// Lengths of histories, and the history of each candidate: an empty one, one that nobody looks at, one that three do.
const LENGTHS: [u32; 5] = [3, 0, 6, 1, 2];
const REQUEST: [u32; 7] = [0, 1, 2, 2, 2, 4, 4];

/// Keys, context and candidates as weights, so that gradients flow to them.
struct Given {
    keys: ParamId,
    context: Option<ParamId>,
    target: ParamId,
}

impl Given {
    fn new(params: &mut Params, keys: usize, context: usize) -> Self {
        let elements = LENGTHS.iter().sum::<u32>() as usize;
        let mut weight = |name: &str, rows: usize, width: usize| {
            params.dense(name, &[rows, width], Init::Normal(0.7)).unwrap()
        };
        Self {
            keys: weight("in.keys", elements, keys),
            context: (context > 0).then(|| weight("in.context", elements, context)),
            target: weight("in.target", REQUEST.len(), keys),
        }
    }

    fn sequence(&self, pass: &Pass) -> Sequence {
        let mut offsets = vec![0];
        LENGTHS.iter().for_each(|l| offsets.push(offsets[offsets.len() - 1] + l));
        let keys = Ragged::new(Arc::new(offsets), pass.param(self.keys)).unwrap();
        let pairs = Pairs::new(&keys, Arc::new(REQUEST.to_vec())).unwrap();
        let context = self.context.map(|c| pass.param(c));
        Sequence { context, ..Sequence::new(keys, pass.param(self.target), pairs) }
    }
}

fn block(width: usize) -> TransformerConfig {
    TransformerConfig {
        heads: 2,
        hidden: 5,
        norm: BlockNorm::After,
        causal: false,
        ..TransformerConfig::new(width)
    }
}

fn encoder(params: &mut Params, layers: usize, places: Option<usize>, width: usize) -> SeqEncoder {
    SeqEncoder::new(params, "encoder", (layers, places), &block(width)).unwrap()
}

/// Each candidate's sequence laid out by itself, through the encoder alone, and pooled by hand.
fn one_by_one(pass: &Pass, (params, encoder): (&Params, &SeqEncoder), x: &Sequence, pool: SeqPool) -> Tensor {
    let mark = pass.param(params.find("bst.candidate").unwrap());
    let values = x.values();
    let one = |n: usize| {
        let span = x.keys.span(REQUEST[n] as usize);
        let blank = pass.constant(&[1, values.width() - x.target.width()], vec![0.0; 2]);
        let own = Tensor::concat(&[&x.target.slice_rows(n, 1), &blank]).add_row(&mark);
        let history = values.slice_rows(span.start, span.len());
        let all = if span.is_empty() { own } else { Tensor::stack_rows(&[&history, &own]) };
        let len = all.rows();
        let seen = encoder.forward(pass, &Ragged::new(Arc::new(vec![0, len as u32]), all).unwrap());
        let rows: Vec<Tensor> = (0..len).map(|i| seen.values().slice_rows(i, 1)).collect();
        match pool {
            SeqPool::Last => rows[len - 1].clone(),
            _ => rows.into_iter().reduce(|a, b| a.add(&b)).unwrap().scale(1.0 / len as f32),
        }
    };
    let rows: Vec<Tensor> = (0..REQUEST.len()).map(one).collect();
    Tensor::stack_rows(&rows.iter().collect::<Vec<_>>())
}

/// Opens all ReLUs of the feed-forward parts: a finite step does not cross a bend.
fn open(params: &mut Params) {
    let bias = |params: &Params, id: &ParamId| params.name(*id).ends_with("feed0.bias");
    for id in params.ids().filter(|id| bias(params, id)).collect::<Vec<_>>() {
        params.values_mut(id).fill(6.0);
    }
}

#[test]
fn the_candidate_is_the_last_action_of_its_history() {
    for (pool, layers, places) in [(SeqPool::Last, 1, None), (SeqPool::Mean, 2, Some(3))] {
        let mut params = Params::new(9);
        let given = Given::new(&mut params, 4, 2);
        let stack = encoder(&mut params, layers, places, 6);
        let bst = TargetTransformer::new(&mut params, "bst", (stack.clone(), 6), pool).unwrap();
        let fast = run(&params, |pass| bst.forward(pass, &given.sequence(pass)));
        let naive = run(&params, |pass| one_by_one(pass, (&params, &stack), &given.sequence(pass), pool));
        assert!(near(&fast.0, &naive.0, 1e-5), "{pool:?}");
        for ((id, a), b) in params.ids().zip(&fast.1).zip(&naive.1) {
            assert!(near(a, b, 1e-4), "{pool:?}: {}\n{a:?}\n{b:?}", params.name(id));
        }
        let pass = Pass::new(&params, Mode::Infer, 0);
        assert!(near(bst.forward(&pass, &given.sequence(&pass)).data(), &fast.0, 1e-6));
    }
    let stack = encoder(&mut Params::new(1), 1, None, 6);
    for pool in [SeqPool::Gap, SeqPool::Strength] {
        let fault = TargetTransformer::new(&mut Params::new(1), "bst", (stack.clone(), 6), pool).unwrap_err();
        assert!(fault.to_string().contains("no gap and no strength"), "{fault}");
    }
}

#[test]
fn gradients_of_the_candidate_among_its_history_match_finite_differences() {
    let mut params = Params::new(5);
    let given = Given::new(&mut params, 2, 2);
    let block = TransformerConfig { norm: BlockNorm::Before, ..block(4) };
    let stack = SeqEncoder::new(&mut params, "encoder", (1, Some(2)), &block).unwrap();
    let bst = TargetTransformer::new(&mut params, "bst", (stack, 4), SeqPool::Sum).unwrap();
    open(&mut params);
    gradcheck::check(&mut params, 5e-3, |pass| probe(pass, &bst.forward(pass, &given.sequence(pass))))
        .unwrap();
}

#[test]
fn an_encoded_history_keeps_its_shape_and_does_not_see_the_candidates() {
    for context in [0, 2] {
        let mut params = Params::new(9);
        let given = Given::new(&mut params, 4, context);
        let stack = encoder(&mut params, 1, None, 4 + context);
        let pass = Pass::new(&params, Mode::Infer, 0);
        let x = given.sequence(&pass);
        let seen = stack.encode(&pass, &x);
        assert_eq!(seen.keys.values().shape(), x.keys.values().shape());
        assert_eq!(seen.context.as_ref().map(|c| c.width()), x.context.as_ref().map(|c| c.width()));
        let whole = stack.forward(&pass, &x.keys.with(x.values()));
        assert_eq!(seen.values().data(), whole.values().data());
        let other = Sequence { target: x.target.scale(-3.0), ..x.clone() };
        assert_eq!(stack.encode(&pass, &other).values().data(), seen.values().data());
        drop((x, seen, whole, other, pass));
        open(&mut params);
        gradcheck::check(&mut params, 5e-3, |pass| {
            let seen = stack.encode(pass, &given.sequence(pass));
            probe(pass, &seen.values())
        })
        .unwrap();
    }
}

#[test]
fn many_candidates_over_a_long_history_and_none_at_all_are_defined() {
    let mut params = Params::new(2);
    let keys = params.dense("keys", &[900, 4], Init::Normal(0.5)).unwrap();
    let target = params.dense("target", &[80, 4], Init::Normal(0.5)).unwrap();
    let stack = encoder(&mut params, 1, None, 4);
    let bst = TargetTransformer::new(&mut params, "bst", (stack, 4), SeqPool::Last).unwrap();
    let run = |mode: Mode, n: usize| {
        let pass = Pass::new(&params, mode, 0);
        let keys = Ragged::new(Arc::new(vec![0, 900]), pass.param(keys)).unwrap();
        let pairs = Pairs::new(&keys, Arc::new(vec![0; n])).unwrap();
        let target = pass.param(target).slice_rows(0, n);
        bst.forward(&pass, &Sequence::new(keys, target, pairs)).to_vec()
    };
    // 80 · 901 elements are more than are encoded at once in inference.
    assert!(near(&run(Mode::Infer, 80), &run(Mode::Train, 80), 1e-6));
    assert!(run(Mode::Infer, 0).is_empty());
}

#[test]
fn a_scene_bends_the_query_and_starts_by_leaving_it_alone() {
    let mut params = Params::new(3);
    let target = params.dense("in.target", &[4, 3], Init::Normal(0.7)).unwrap();
    let scene = params.dense("in.scene", &[4, 2], Init::Normal(0.7)).unwrap();
    let query = SceneQuery::new(&mut params, "scene", (2, 3)).unwrap();
    let forward = |pass: &Pass| query.forward(pass, &pass.param(target), &pass.param(scene));
    let first = run(&params, forward).0;
    assert_eq!(first, params.values(target));
    for (i, name) in ["scene.gate.weight", "scene.shift.weight"].iter().enumerate() {
        let id = params.find(name).unwrap();
        params.values_mut(id).iter_mut().enumerate().for_each(|(j, w)| *w = 0.3 * (i + j) as f32 - 0.7);
    }
    let (gate, shift) =
        (params.find("scene.gate.weight").unwrap(), params.find("scene.shift.weight").unwrap());
    let (g, u, s) = (params.values(gate), params.values(shift), params.values(scene));
    let bent = run(&params, forward).0;
    for n in 0..4 {
        for j in 0..3 {
            let along = |w: &[f32]| w[j * 2] * s[n * 2] + w[j * 2 + 1] * s[n * 2 + 1];
            let t = params.values(target)[n * 3 + j];
            let wanted = 2.0 / (1.0 + (-along(g)).exp()) * t + along(u);
            assert!((bent[n * 3 + j] - wanted).abs() < 1e-5);
        }
    }
    gradcheck::check(&mut params, 5e-3, |pass| probe(pass, &forward(pass))).unwrap();
}

/// Sessions of the elements of [`LENGTHS`], counted back from the latest of each history.
const SESSIONS: [u32; 12] = [1, 1, 0, 2, 2, 1, 0, 0, 0, 0, 1, 0];

fn sessions(params: &mut Params, norm: BlockNorm) -> (TransformerConfig, SessionInterest) {
    let block = TransformerConfig { norm, ..block(6) };
    let made = SessionInterest::new(params, "dsin", (4, &block), PairWeighting::Softmax).unwrap();
    (block, made)
}

fn with_sessions(given: &Given, pass: &Pass) -> Sequence {
    Sequence { session: Some(Arc::new(SESSIONS.to_vec())), ..given.sequence(pass) }
}

/// The paper's equations for one candidate, session after session.
fn of_one_candidate(
    pass: &Pass,
    params: &mut Params,
    (block, x): (&TransformerConfig, &Sequence),
    n: usize,
) -> Tensor {
    let layer = TransformerBlock::new(params, "dsin.block", block).unwrap();
    let lstms = ["dsin.forth", "dsin.back"].map(|name| Lstm::new(params, name, (6, 6)).unwrap());
    let weight = |name: &str| pass.param(params.find(&format!("dsin.{name}")).unwrap());
    let alone = |rows: Tensor| Ragged::new(Arc::new(vec![0, rows.rows() as u32]), rows).unwrap();
    let span = x.keys.span(REQUEST[n] as usize);
    if span.is_empty() {
        return pass.constant(&[1, 12], vec![0.0; 12]);
    }
    let mut interests: Vec<Tensor> = Vec::new();
    for k in (0..3).rev() {
        let elements: Vec<usize> = span.clone().filter(|e| SESSIONS[*e] == k).collect();
        let Some(first) = elements.first() else { continue };
        let row = |(t, e): (usize, &usize)| {
            let bias = weight("bias.session").slice_rows(k as usize, 1);
            let bias = bias.add(&weight("bias.place").slice_rows(t, 1));
            x.values().slice_rows(*e, 1).add_column(&bias).add_row(&weight("bias.column"))
        };
        assert_eq!(first + elements.len() - 1, elements[elements.len() - 1]);
        let rows: Vec<Tensor> = elements.iter().enumerate().map(row).collect();
        let seen = layer.forward(pass, &alone(Tensor::stack_rows(&rows.iter().collect::<Vec<_>>())));
        let rows: Vec<Tensor> = (0..rows.len()).map(|i| seen.values().slice_rows(i, 1)).collect();
        let count = rows.len() as f32;
        interests.push(rows.into_iter().reduce(|a, b| a.add(&b)).unwrap().scale(1.0 / count));
    }
    let count = interests.len();
    let forth = lstms[0].forward(pass, &alone(Tensor::stack_rows(&interests.iter().collect::<Vec<_>>())));
    let turned: Vec<&Tensor> = interests.iter().rev().collect();
    let back = lstms[1].forward(pass, &alone(Tensor::stack_rows(&turned)));
    let state = |k: usize| forth.values().slice_rows(k, 1).add(&back.values().slice_rows(count - 1 - k, 1));
    let states: Vec<Tensor> = (0..count).map(state).collect();
    let read = |rows: &[Tensor], query: &str| {
        let query = x.target.slice_rows(n, 1).linear(&weight(&format!("query.{query}.weight")), None);
        let scores: Vec<Tensor> = rows.iter().map(|row| row.dot_rows(&query)).collect();
        let weights = Tensor::join(scores).softmax();
        let weighed = rows.iter().enumerate().map(|(k, row)| row.mul_column(&weights.slice(k, 1)));
        weighed.reduce(|a, b| a.add(&b)).unwrap()
    };
    Tensor::concat(&[&read(&interests, "interest"), &read(&states, "state")])
}

#[test]
fn interests_of_sessions_are_those_of_the_equations_session_by_session() {
    let mut params = Params::new(9);
    let given = Given::new(&mut params, 4, 2);
    let (block, made) = sessions(&mut params, BlockNorm::After);
    let fast = run(&params, |pass| made.forward(pass, &with_sessions(&given, pass)));
    let naive = run(&params, |pass| {
        let x = with_sessions(&given, pass);
        // The layers are asked for again: the same weights by name.
        let mut again = Params::new(9);
        let _ = (Given::new(&mut again, 4, 2), sessions(&mut again, BlockNorm::After));
        let one = |n| of_one_candidate(pass, &mut again, (&block, &x), n);
        let rows: Vec<Tensor> = (0..REQUEST.len()).map(one).collect();
        Tensor::stack_rows(&rows.iter().collect::<Vec<_>>())
    });
    assert!(near(&fast.0, &naive.0, 1e-5));
    assert!(fast.0[12..24].iter().all(|v| *v == 0.0), "an empty history has no interest");
    for ((id, a), b) in params.ids().zip(&fast.1).zip(&naive.1) {
        assert!(near(a, b, 1e-4), "{}\n{a:?}\n{b:?}", params.name(id));
    }
    let pass = Pass::new(&params, Mode::Infer, 0);
    assert!(near(made.forward(&pass, &with_sessions(&given, &pass)).data(), &fast.0, 1e-6));
}

#[test]
fn gradients_of_sessions_match_finite_differences() {
    let mut params = Params::new(5);
    let given = Given::new(&mut params, 4, 2);
    let made = sessions(&mut params, BlockNorm::Before).1;
    open(&mut params);
    gradcheck::check(&mut params, 5e-3, |pass| {
        probe(pass, &made.forward(pass, &with_sessions(&given, pass)))
    })
    .unwrap();
}

/// Histories whose items have these numbers.
fn with_items(given: &Given, pass: &Pass, numbers: &[u32]) -> Sequence {
    let x = given.sequence(pass);
    let items = Items { values: x.keys.values().clone(), places: vec![Arc::new(numbers.to_vec())] };
    Sequence { items: Some(items), ..x }
}

#[test]
fn the_next_action_is_told_from_one_of_another_item() {
    let mut params = Params::new(5);
    let given = Given::new(&mut params, 3, 2);
    let state = params.dense("in.states", &[12, 5], Init::Normal(0.7)).unwrap();
    let loss = |pass: &Pass, numbers: &[u32]| {
        with_items(&given, pass, numbers).next_action_loss(pass, &pass.param(state))
    };
    // Two items: the only item that is not the next one is known, whatever is drawn of its elements if these are equal.
    let numbers = [0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0];
    for (e, item) in numbers.iter().enumerate() {
        params.values_mut(given.keys)[3 * e..][..3].copy_from_slice(&[
            0.3,
            -0.2 + *item as f32,
            0.5 - 0.9 * *item as f32,
        ]);
    }
    let (keys, context) =
        (params.values(given.keys).to_vec(), params.values(given.context.unwrap()).to_vec());
    let states = params.values(state).to_vec();
    let key_of = |item: u32| {
        let e = numbers.iter().position(|i| *i == item).unwrap();
        &keys[3 * e..][..3]
    };
    let (mut sum, mut count, mut first) = (0.0, 0, 0);
    for len in LENGTHS {
        for next in first + 1..first + len as usize {
            let (s, c) = (&states[5 * (next - 1)..][..5], &context[2 * next..][..2]);
            let score = |item: u32| -> f32 { key_of(item).iter().chain(c).zip(s).map(|(v, s)| v * s).sum() };
            let (yes, no) = (score(numbers[next]), score(1 - numbers[next]));
            sum += (1.0 + (-yes).exp()).ln() + (1.0 + no.exp()).ln();
            count += 1;
        }
        first += len as usize;
    }
    let pass = Pass::new(&params, Mode::Train, 1);
    let value = loss(&pass, &numbers).unwrap().item();
    assert!((value - sum / count as f32).abs() < 1e-5, "{value} against {}", sum / count as f32);
    drop(pass);
    let all: Vec<u32> = (0..12).collect();
    gradcheck::check(&mut params, 5e-3, |pass| loss(pass, &all).unwrap()).unwrap();
    let values = |seed: u64| {
        let pass = Pass::new(&params, Mode::Train, seed);
        loss(&pass, &all).unwrap().item()
    };
    // Items of one kind differ now: what is drawn matters, and the seed decides.
    assert_eq!(values(1), values(1));
    let pass = Pass::new(&params, Mode::Train, 1);
    assert!(loss(&pass, &[7; 12]).is_none(), "there is no other item");
    let unknown = Sequence { items: None, ..with_items(&given, &pass, &all) };
    assert!(unknown.next_action_loss(&pass, &pass.param(state)).is_none());
}

#[test]
fn losses_of_layers_are_added_up_and_taken_once() {
    let mut params = Params::new(1);
    let w = params.dense("w", &[2], Init::Ones).unwrap();
    let pass = Pass::new(&params, Mode::Train, 0);
    assert!(pass.take_losses().is_none());
    pass.add_loss(pass.param(w).sum());
    pass.add_loss(pass.param(w).sum().scale(2.0));
    let loss = pass.take_losses().unwrap();
    assert_eq!(loss.item(), 6.0);
    assert!(pass.take_losses().is_none());
    assert_eq!(pass.backward(&loss).dense(w), Some(&[3.0, 3.0][..]));
    let pass = Pass::new(&params, Mode::Infer, 0);
    pass.add_loss(pass.param(w).sum());
    assert!(pass.take_losses().is_none(), "nothing is learned in inference");
}
