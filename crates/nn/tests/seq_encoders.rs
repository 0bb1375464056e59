//! Transformers over behaviour and queries that depend on the scene: against paths that take one candidate at a time, and finite
//! differences.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

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
        Sequence {
            pairs: Pairs::new(&keys, Arc::new(REQUEST.to_vec())).unwrap(),
            keys,
            context: self.context.map(|c| pass.param(c)),
            target: pass.param(self.target),
            gap: None,
            strength: None,
        }
    }
}

/// Σ c_i y_i with different c_i, so that no mix-up of places goes unseen.
fn probe(pass: &Pass, y: &Tensor) -> Tensor {
    let c = (0..y.len()).map(|i| ((i * 37 + 11) % 17) as f32 / 8.0 - 1.0).collect();
    y.mul(&pass.constant(y.shape(), c)).sum()
}

/// Outputs and the gradients of all weights.
fn run(params: &Params, f: impl Fn(&Pass) -> Tensor) -> (Vec<f32>, Vec<Vec<f32>>) {
    let pass = Pass::new(params, Mode::Train, 3);
    let y = f(&pass);
    let gradients = pass.backward(&probe(&pass, &y));
    (y.to_vec(), params.ids().map(|id| gradients.dense(id).unwrap_or(&[]).to_vec()).collect())
}

fn near(a: &[f32], b: &[f32], by: f32) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= by * (1.0 + b.abs()))
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
    // Norms of four columns bend too much after adding; before it they do not see small sums.
    let block = TransformerConfig { norm: BlockNorm::Before, ..block(4) };
    let stack = SeqEncoder::new(&mut params, "encoder", (1, Some(2)), &block).unwrap();
    let bst = TargetTransformer::new(&mut params, "bst", (stack, 4), SeqPool::Sum).unwrap();
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
        bst.forward(&pass, &Sequence { keys, context: None, target, pairs, gap: None, strength: None })
            .to_vec()
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
