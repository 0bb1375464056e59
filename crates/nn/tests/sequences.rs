//! Layers over behaviour sequences: against naive twins, finite differences and their own laws.

#![allow(clippy::unwrap_used)]

mod common;

use common::{near, probe, run, sparsemax};
use millstream_nn::*;
use std::sync::Arc;

/// Lengths of histories, and the history of each candidate: an empty one, one that nobody looks at, one that three do.
const LENGTHS: [u32; 6] = [3, 0, 13, 1, 4, 2];
const REQUEST: [u32; 8] = [0, 1, 2, 2, 2, 4, 5, 5];

fn offsets() -> Arc<Vec<u32>> {
    let mut offsets = vec![0];
    LENGTHS.iter().for_each(|l| offsets.push(offsets[offsets.len() - 1] + l));
    Arc::new(offsets)
}

fn elements() -> usize {
    LENGTHS.iter().sum::<u32>() as usize
}

/// The element and the candidate of each pair.
fn pairs_one_by_one() -> (Arc<Vec<u32>>, Arc<Vec<u32>>) {
    let offsets = offsets();
    let (mut e, mut n) = (Vec::new(), Vec::new());
    for (candidate, r) in REQUEST.iter().enumerate() {
        for element in offsets[*r as usize]..offsets[*r as usize + 1] {
            e.push(element);
            n.push(candidate as u32);
        }
    }
    (Arc::new(e), Arc::new(n))
}

/// Inputs of a sequence as weights, so that gradients flow to them.
struct Inputs {
    keys: ParamId,
    context: Option<ParamId>,
    target: ParamId,
}

impl Inputs {
    fn new(params: &mut Params, keys: usize, context: usize) -> Self {
        let mut weight = |name: &str, rows: usize, width: usize| {
            params.dense(name, &[rows, width], Init::Normal(0.7)).unwrap()
        };
        Self {
            keys: weight("in.keys", elements(), keys),
            context: (context > 0).then(|| weight("in.context", elements(), context)),
            target: weight("in.target", REQUEST.len(), keys),
        }
    }

    fn sequence(&self, pass: &Pass) -> Sequence {
        let keys = Ragged::new(offsets(), pass.param(self.keys)).unwrap();
        let pairs = Pairs::new(&keys, Arc::new(REQUEST.to_vec())).unwrap();
        Sequence {
            context: self.context.map(|c| pass.param(c)),
            gap: Some(Arc::new((0..elements()).map(|e| (e * 5 % 7) as u8).collect())),
            strength: Some(Arc::new((0..elements()).map(|e| (e * 3 % 5) as f32 - 1.0).collect())),
            ..Sequence::new(keys, pass.param(self.target), pairs)
        }
    }
}

/// The unit as its equation says it, every pair written out.
fn written_out(pass: &Pass, params: &Params, x: &Sequence, activation: &[Activate], depth: usize) -> Tensor {
    let (e, n) = pairs_one_by_one();
    let (h, t) = (x.keys.values().gather(&e), x.target.gather(&n));
    let (minus, times) = (h.sub(&t), h.mul(&t));
    let mut parts = vec![&h, &t, &minus, &times];
    let context = x.context.as_ref().map(|c| c.gather(&e));
    parts.extend(context.as_ref());
    let mut z = Tensor::concat(&parts);
    let weight = |name: String| pass.param(params.find(&name).unwrap());
    for (layer, activate) in activation.iter().enumerate().take(depth) {
        let bias = weight(format!("unit.{layer}.bias"));
        z = activate.forward(pass, &z.linear(&weight(format!("unit.{layer}.weight")), Some(&bias)));
    }
    let scores = z.linear(&weight("unit.head.weight".into()), Some(&weight("unit.head.bias".into())));
    let weighed = x.values().gather(&e).mul_column(&scores);
    // Σ over each candidate's pairs, as a product with zeros and ones.
    let mut membership = vec![0.0; REQUEST.len() * n.len()];
    n.iter().enumerate().for_each(|(p, n_of)| membership[*n_of as usize * n.len() + p] = 1.0);
    pass.constant(&[REQUEST.len(), n.len()], membership).matmul(&weighed, Transpose::Neither)
}

fn unit(activation: Activation, hidden: &[usize], sizes: (usize, usize)) -> (Params, Inputs, ActivationUnit) {
    let mut params = Params::new(9);
    let inputs = Inputs::new(&mut params, sizes.0, sizes.1);
    let config = UnitConfig { hidden: hidden.to_vec(), activation, weighting: PairWeighting::Plain };
    let unit = ActivationUnit::new(&mut params, "unit", sizes, &config).unwrap();
    (params, inputs, unit)
}

#[test]
fn the_unit_is_its_equation_written_out_pair_by_pair() {
    use Activation::{Dice, Prelu, Relu, Sigmoid};
    for activation in [Relu, Sigmoid, Prelu, Dice] {
        // Widths that fill no panel, one, and more than one.
        for (hidden, sizes) in [(&[5, 3][..], (4, 0)), (&[16, 7][..], (16, 3)), (&[37][..], (21, 8))] {
            let (mut params, inputs, unit) = unit(activation, hidden, sizes);
            let again = |params: &mut Params| -> Vec<Activate> {
                let one =
                    |(i, w): (usize, &usize)| Activate::new(params, &format!("unit.{i}"), *w, activation);
                hidden.iter().enumerate().map(one).collect::<Result<_>>().unwrap()
            };
            let activates = again(&mut params);
            let fused = run(&params, |pass| unit.forward(pass, &inputs.sequence(pass)));
            let naive = run(&params, |pass| {
                written_out(pass, &params, &inputs.sequence(pass), &activates, hidden.len())
            });
            assert!(near(&fused.0, &naive.0, 1e-4), "{activation:?} {hidden:?}");
            for ((id, a), b) in params.ids().zip(&fused.1).zip(&naive.1) {
                assert!(near(a, b, 2e-3), "{activation:?} {hidden:?}: {}\n{a:?}\n{b:?}", params.name(id));
            }
        }
    }
}

#[test]
fn gradients_of_the_unit_match_finite_differences() {
    for activation in [Activation::Sigmoid, Activation::Dice] {
        let (mut params, inputs, unit) = unit(activation, &[5, 3], (3, 2));
        gradcheck::check(&mut params, 5e-3, |pass| probe(pass, &unit.forward(pass, &inputs.sequence(pass))))
            .unwrap();
    }
}

#[test]
fn a_candidate_scores_the_same_alone_and_beside_others_and_in_inference() {
    for weighting in [PairWeighting::Plain, PairWeighting::Softmax, PairWeighting::Entmax(1.5)] {
        let mut params = Params::new(9);
        let inputs = Inputs::new(&mut params, 8, 4);
        let config = UnitConfig { hidden: vec![12, 6], activation: Activation::Prelu, weighting };
        let unit = ActivationUnit::new(&mut params, "unit", (8, 4), &config).unwrap();
        let train = Pass::new(&params, Mode::Train, 1);
        let infer = Pass::new(&params, Mode::Infer, 1);
        let together = unit.forward(&train, &inputs.sequence(&train)).to_vec();
        let x = inputs.sequence(&infer);
        assert_eq!(unit.forward(&infer, &x).to_vec(), together, "{weighting:?}");
        for n in 0..REQUEST.len() {
            let alone =
                Sequence { target: x.target.slice_rows(n, 1), pairs: x.pairs.part(n..n + 1), ..x.clone() };
            assert!(near(unit.forward(&infer, &alone).data(), &together[n * 12..(n + 1) * 12], 1e-6), "{n}");
        }
        assert!(together[12..24].iter().all(|v| *v == 0.0), "an empty history has no interest");
    }
}

#[test]
fn many_candidates_over_long_histories_are_cut_into_stretches_without_a_difference() {
    let mut params = Params::new(2);
    let (m, n) = (1000usize, 150usize);
    let keys = params.dense("keys", &[m, 8], Init::Normal(0.5)).unwrap();
    let target = params.dense("target", &[n, 8], Init::Normal(0.5)).unwrap();
    let config = UnitConfig { hidden: vec![16], activation: Activation::Relu, ..UnitConfig::default() };
    let unit = ActivationUnit::new(&mut params, "unit", (8, 0), &config).unwrap();
    let run = |mode: Mode| {
        let pass = Pass::new(&params, mode, 0);
        let keys = Ragged::new(Arc::new(vec![0, m as u32]), pass.param(keys)).unwrap();
        let pairs = Pairs::new(&keys, Arc::new(vec![0; n])).unwrap();
        let target = pass.param(target);
        let x = Sequence::new(keys, target, pairs);
        unit.forward(&pass, &x).to_vec()
    };
    assert_eq!(run(Mode::Infer), run(Mode::Train));
}

#[test]
fn a_history_of_a_hundred_thousand_events_and_none_at_all_are_defined() {
    let config = UnitConfig { hidden: vec![8], activation: Activation::Dice, ..UnitConfig::default() };
    for m in [100_000usize, 0] {
        let mut params = Params::new(2);
        let unit = ActivationUnit::new(&mut params, "unit", (4, 0), &config).unwrap();
        let pass = Pass::new(&params, Mode::Train, 0);
        let values = pass.constant(&[m, 4], (0..4 * m).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect());
        let keys = Ragged::new(Arc::new(vec![0, m as u32]), values).unwrap();
        let pairs = Pairs::new(&keys, Arc::new(vec![0])).unwrap();
        let target = pass.constant(&[1, 4], vec![0.3; 4]);
        let y = unit.forward(&pass, &Sequence::new(keys, target, pairs));
        assert!(y.is_finite());
        assert!(m > 0 || y.data().iter().all(|v| *v == 0.0));
        let gradients = pass.backward(&y.sum());
        assert!(gradients.is_finite());
    }
}

/// Softmax and α-entmax through target attention, against finite differences.
#[test]
fn gradients_of_target_attention_match_finite_differences() {
    for weighting in [PairWeighting::Plain, PairWeighting::Softmax, PairWeighting::Entmax(1.3)] {
        let mut params = Params::new(4);
        let inputs = Inputs::new(&mut params, 3, 2);
        let attention = TargetAttention::new(&mut params, "attention", (3, 4), weighting).unwrap();
        gradcheck::check(&mut params, 5e-3, |pass| {
            probe(pass, &attention.forward(pass, &inputs.sequence(pass)))
        })
        .unwrap();
    }
    let fault =
        TargetAttention::new(&mut Params::new(1), "a", (3, 4), PairWeighting::Entmax(1.0)).unwrap_err();
    assert!(fault.to_string().contains("above 1"), "{fault}");
}

#[test]
fn pools_are_what_they_say_and_their_gradients_match_finite_differences() {
    for pool in [SeqPool::Sum, SeqPool::Mean, SeqPool::Gap, SeqPool::Strength, SeqPool::Last, SeqPool::Max] {
        let mut params = Params::new(4);
        let inputs = Inputs::new(&mut params, 3, 1);
        gradcheck::check(&mut params, 5e-3, |pass| probe(pass, &pool.forward(pass, &inputs.sequence(pass))))
            .unwrap();
        let pass = Pass::new(&params, Mode::Infer, 0);
        let x = inputs.sequence(&pass);
        let (pooled, values) = (pool.forward(&pass, &x), x.values());
        for r in 0..LENGTHS.len() {
            let rows: Vec<&[f32]> = x.keys.span(r).map(|e| &values.data()[e * 4..][..4]).collect();
            let weights: Vec<f32> = match pool {
                SeqPool::Gap => {
                    x.keys.span(r).map(|e| 0.5f32.powf(0.5 * f32::from(x.gap.as_ref().unwrap()[e]))).collect()
                }
                SeqPool::Strength => {
                    x.keys.span(r).map(|e| x.strength.as_ref().unwrap()[e].max(0.0)).collect()
                }
                _ => vec![1.0; rows.len()],
            };
            let total: f32 = weights.iter().sum();
            for j in 0..4 {
                let sum: f32 = rows.iter().zip(&weights).map(|(row, w)| w * row[j]).sum();
                let wanted = match pool {
                    _ if rows.is_empty() => 0.0,
                    SeqPool::Sum => sum,
                    SeqPool::Mean | SeqPool::Gap | SeqPool::Strength if total > 0.0 => sum / total,
                    SeqPool::Last => rows[rows.len() - 1][j],
                    SeqPool::Max => rows.iter().map(|row| row[j]).fold(f32::NEG_INFINITY, f32::max),
                    _ => 0.0,
                };
                assert!((pooled.data()[r * 4 + j] - wanted).abs() < 1e-5, "{pool:?} of history {r}");
            }
        }
    }
    assert!(SeqPool::Gap.check("s", false).unwrap_err().to_string().contains("gap = true"));
}

/// Weights that attention gives to equal keys with these scores (one query, keys of width 1).
fn weights(scores: &[f32], weighting: PairWeighting) -> Vec<f32> {
    let mut params = Params::new(1);
    let attention = TargetAttention::new(&mut params, "a", (1, 1), weighting).unwrap();
    for id in params.ids() {
        params.values_mut(id)[0] = 1.0;
    }
    let pass = Pass::new(&params, Mode::Infer, 0);
    let n = scores.len();
    let keys = Ragged::new(Arc::new(vec![0, n as u32]), pass.constant(&[n, 1], scores.to_vec())).unwrap();
    // With unit vectors as context, the interest is the weights.
    let identity = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
    let pairs = Pairs::new(&keys, Arc::new(vec![0])).unwrap();
    let x = Sequence {
        context: Some(pass.constant(&[n, n], identity)),
        ..Sequence::new(keys, pass.constant(&[1, 1], vec![1.0]), pairs)
    };
    attention.forward(&pass, &x).data()[1..].to_vec()
}

#[test]
fn entmax_is_sparsemax_at_two_and_softmax_near_one_and_sums_to_one() {
    let rows: [&[f32]; 5] =
        [&[0.3], &[1.0, 1.0, 1.0], &[2.0, -1.0, 1.7, 0.4], &[0.1, 0.2, 0.15, 0.12, 0.05], &[-40.0, 60.0]];
    for z in rows {
        assert!(near(&weights(z, PairWeighting::Entmax(2.0)), &sparsemax(z), 1e-5), "{z:?}");
        assert!(
            near(&weights(z, PairWeighting::Entmax(1.0005)), &weights(z, PairWeighting::Softmax), 2e-3),
            "{z:?}"
        );
        for alpha in [1.2, 1.5, 2.0, 3.0] {
            let p = weights(z, PairWeighting::Entmax(alpha));
            assert!(
                (p.iter().sum::<f32>() - 1.0).abs() < 1e-5 && p.iter().all(|p| *p >= 0.0),
                "{z:?} {alpha}"
            );
        }
    }
    assert!(
        weights(&[2.0, -1.0, 1.7, 0.4], PairWeighting::Entmax(1.5)).contains(&0.0),
        "weights can be zero"
    );
}

/// DIEN's recurrences step by step out of plain operations, one candidate at a time.
fn evolved(pass: &Pass, params: &Params, x: &Sequence, width: usize) -> Tensor {
    let weight = |name: &str| pass.param(params.find(&format!("dien.{name}")).unwrap());
    let recur = |layer: &str, inputs: &[Tensor], attention: &[Tensor]| -> Vec<Tensor> {
        let (w, b) = (weight(&format!("{layer}.input.weight")), weight(&format!("{layer}.input.bias")));
        let u = weight(&format!("{layer}.state.weight"));
        let mut h = pass.constant(&[1, width], vec![0.0; width]);
        let step = |(e, x): (usize, &Tensor)| {
            let (from_x, from_h) = (x.linear(&w, Some(&b)), h.linear(&u, None));
            let part = |t: &Tensor, gate: usize| t.slice(gate * width, width);
            let update = part(&from_x, 0).add(&part(&from_h, 0)).sigmoid();
            let reset = part(&from_x, 1).add(&part(&from_h, 1)).sigmoid();
            let new = part(&from_x, 2).add(&reset.mul(&part(&from_h, 2))).tanh();
            let update = attention.get(e).map_or(update.clone(), |a| update.mul_column(a));
            h = h.add(&update.mul(&new.sub(&h)));
            h.clone()
        };
        inputs.iter().enumerate().map(step).collect()
    };
    let values = x.values();
    let interest = |(n, r): (usize, &u32)| {
        let inputs: Vec<Tensor> = x.keys.span(*r as usize).map(|e| values.slice_rows(e, 1)).collect();
        if inputs.is_empty() {
            return pass.constant(&[1, width], vec![0.0; width]);
        }
        let states = recur("first", &inputs, &[]);
        let query = x.target.slice_rows(n, 1).linear(&weight("query.weight"), None);
        let score = |s: &Tensor| s.matmul(&query, Transpose::Right);
        let weights = Tensor::join(states.iter().map(score)).softmax();
        let attention: Vec<Tensor> = (0..states.len()).map(|e| weights.slice(e, 1)).collect();
        recur("second", &states, &attention).pop().unwrap()
    };
    let all: Vec<Tensor> = REQUEST.iter().enumerate().map(interest).collect();
    Tensor::stack_rows(&all.iter().collect::<Vec<_>>())
}

#[test]
fn recurrences_are_those_of_plain_operations() {
    let mut params = Params::new(9);
    let inputs = Inputs::new(&mut params, 4, 2);
    let augru = Augru::new(&mut params, "dien", (4, 6)).unwrap();
    let interests = |pass: &Pass| {
        let x = inputs.sequence(pass);
        augru.forward(pass, &x, &augru.states(pass, &x))
    };
    let fused = run(&params, interests);
    let naive = run(&params, |pass| evolved(pass, &params, &inputs.sequence(pass), 6));
    assert!(near(&fused.0, &naive.0, 1e-5));
    for ((id, a), b) in params.ids().zip(&fused.1).zip(&naive.1) {
        assert!(near(a, b, 1e-4), "{}: {a:?} {b:?}", params.name(id));
    }
    gradcheck::check(&mut params, 5e-3, |pass| probe(pass, &interests(pass))).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    assert!(near(interests(&pass).data(), &fused.0, 1e-6));
}
