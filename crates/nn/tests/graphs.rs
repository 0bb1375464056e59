//! Networks over session graphs and clusters against naive twins, finite differences and their own laws.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod common;

use common::sparsemax;
use millstream_nn::gradcheck;
use millstream_nn::*;
use std::sync::Arc;

const D: usize = 4;
/// Sessions a b a b b c | nothing | d a | e.
const OFFSETS: [u32; 5] = [0, 6, 6, 8, 9];
const ITEMS: [u32; 9] = [0, 1, 0, 1, 1, 2, 3, 0, 4];

fn graph() -> SessionGraph {
    SessionGraph::new(&OFFSETS, &ITEMS, 5).unwrap()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn near(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < 2e-6 * (1.0 + b.abs()), "at {i}: {a} against {b}");
    }
}

struct Weights<'a>(&'a Params);

impl Weights<'_> {
    fn of(&self, name: &str) -> Vec<f32> {
        self.0.values(self.0.find(name).unwrap()).to_vec()
    }

    /// W x (+ b).
    fn linear(&self, name: &str, x: &[f32]) -> Vec<f32> {
        let w = self.of(&format!("{name}.weight"));
        let bias = self.0.find(&format!("{name}.bias")).map(|id| self.0.values(id).to_vec());
        let row = |o: usize| -> f32 { w[o * x.len()..][..x.len()].iter().zip(x).map(|(w, x)| w * x).sum() };
        (0..w.len() / x.len()).map(|o| row(o) + bias.as_ref().map_or(0.0, |b| b[o])).collect()
    }
}

/// Every weight away from zero, so that no term is idle.
fn stir(params: &mut Params) {
    for (salt, id) in params.ids().collect::<Vec<_>>().into_iter().enumerate() {
        for (i, v) in params.values_mut(id).iter_mut().enumerate() {
            *v = ((i * 7919 + salt * 4001 + 13) % 1009) as f32 / 700.0 - 0.7;
        }
    }
}

#[test]
fn a_gru_cell_is_its_formula_and_its_slopes_are_finite_differences() {
    let mut params = Params::new(1);
    let weight =
        |params: &mut Params, name: &str, width| params.dense(name, &[3, width], Init::Normal(1.0)).unwrap();
    let (x, s, h) = (weight(&mut params, "x", 6), weight(&mut params, "s", 6), weight(&mut params, "h", 2));
    let (xs, ss, hs) = (params.values(x).to_vec(), params.values(s).to_vec(), params.values(h).to_vec());
    let pass = Pass::new(&params, Mode::Infer, 0);
    let found = pass.param(x).gru_cell(&pass.param(s), &pass.param(h)).to_vec();
    let mut wanted = Vec::new();
    for i in 0..3 {
        for j in 0..2 {
            let at = |gate: usize| i * 6 + gate * 2 + j;
            let r = sigmoid(xs[at(0)] + ss[at(0)]);
            let u = sigmoid(xs[at(1)] + ss[at(1)]);
            let n = (xs[at(2)] + r * ss[at(2)]).tanh();
            wanted.push((1.0 - u) * n + u * hs[i * 2 + j]);
        }
    }
    near(&found, &wanted);
    drop(pass);
    gradcheck::check(&mut params, 2e-3, |pass| {
        pass.param(x).gru_cell(&pass.param(s), &pass.param(h)).square().sum()
    })
    .unwrap();
}

/// Nodes before (or after) a node, by looking at all steps.
fn stepped(graph: &SessionGraph, node: usize, before: bool) -> Vec<usize> {
    let of = graph.node_of();
    let mut found = Vec::new();
    for ends in OFFSETS.windows(2) {
        for e in ends[0] as usize + 1..ends[1] as usize {
            let (from, to) = (of[e - 1] as usize, of[e] as usize);
            let (at, other) = if before { (to, from) } else { (from, to) };
            if at == node && !found.contains(&other) {
                found.push(other);
            }
        }
    }
    found
}

#[test]
fn the_gated_network_is_sr_gnns_and_its_slopes_are_finite_differences() {
    let mut params = Params::new(2);
    let rows = params.dense("rows", &[5, D], Init::Normal(1.0)).unwrap();
    let network = GatedGraph::new(&mut params, "graph", (D, 2)).unwrap();
    stir(&mut params);
    let graph = graph();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let found = network.forward(&pass, &pass.param(rows), &graph).to_vec();
    let weights = Weights(&params);
    let table = weights.of("rows");
    let mut h: Vec<Vec<f32>> = graph.rows().iter().map(|r| table[*r as usize * D..][..D].to_vec()).collect();
    for _ in 0..2 {
        let said: Vec<Vec<f32>> = h.iter().map(|h| weights.linear("graph.say", h)).collect();
        let heard = weights.of("graph.heard");
        let step = |node: usize| -> Vec<f32> {
            let mut input = heard.clone();
            for (part, before) in [(0, true), (D, false)] {
                let others = stepped(&graph, node, before);
                for other in &others {
                    (0..D).for_each(|j| input[part + j] += said[*other][part + j] / others.len() as f32);
                }
            }
            let (x, s) = (weights.linear("graph.input", &input), weights.linear("graph.state", &h[node]));
            let one = |j: usize| {
                let (r, u) = (sigmoid(x[j] + s[j]), sigmoid(x[D + j] + s[D + j]));
                let n = (x[2 * D + j] + r * s[2 * D + j]).tanh();
                n + u * (h[node][j] - n)
            };
            (0..D).map(one).collect()
        };
        h = (0..h.len()).map(step).collect();
    }
    near(&found, &h.concat());
    drop(pass);
    gradcheck::check(&mut params, 5e-3, |pass| {
        network.forward(pass, &pass.param(rows), &graph).square().sum()
    })
    .unwrap();
}

fn softmax(z: &[f32]) -> Vec<f32> {
    let sum: f32 = z.iter().map(|z| z.exp()).sum();
    z.iter().map(|z| z.exp() / sum).collect()
}

/// Nodes after attention, and weights of each node's edges, itself first, then those before, then the others after.
fn attention(
    params: &Params,
    graph: &SessionGraph,
    weigh: impl Fn(&[f32]) -> Vec<f32>,
) -> (Vec<f32>, Vec<f32>) {
    let weights = Weights(params);
    let (table, relation) = (weights.of("rows"), weights.of("graph.relation"));
    let h: Vec<&[f32]> = graph.rows().iter().map(|r| &table[*r as usize * D..][..D]).collect();
    let each = |part: &str| -> Vec<Vec<f32>> {
        h.iter().map(|h| weights.linear(&format!("graph.{part}"), h)).collect()
    };
    let (q, k, v) = (each("query"), each("key"), each("value"));
    let (mut out, mut all) = (Vec::new(), Vec::new());
    for node in 0..h.len() {
        let (mut before, mut after) = (stepped(graph, node, true), stepped(graph, node, false));
        before.retain(|o| *o != node);
        after.retain(|o| *o != node);
        before.sort_unstable();
        after.sort_unstable();
        let mut near = vec![(node, 0)];
        near.extend(before.iter().map(|o| (*o, if after.contains(o) { 3 } else { 1 })));
        near.extend(after.iter().filter(|o| !before.contains(o)).map(|o| (*o, 2)));
        let score = |(o, kind): &(usize, usize)| {
            let dot: f32 = q[node].iter().zip(&k[*o]).map(|(a, b)| a * b).sum();
            dot / (D as f32).sqrt() + relation[*kind]
        };
        let p = weigh(&near.iter().map(score).collect::<Vec<_>>());
        let mixed = |j: usize| near.iter().zip(&p).map(|((o, _), p)| p * v[*o][j]).sum::<f32>();
        out.extend((0..D).map(|j| h[node][j] + mixed(j)));
        all.extend(p);
    }
    (out, all)
}

fn attending(weighting: PairWeighting) -> (Params, ParamId, GraphAttention) {
    let mut params = Params::new(3);
    let rows = params.dense("rows", &[5, D], Init::Normal(1.0)).unwrap();
    let layer = GraphAttention::new(&mut params, "graph", D, weighting).unwrap();
    stir(&mut params);
    // Scores far enough apart that some edges go.
    params.values_mut(rows).iter_mut().for_each(|v| *v *= 3.0);
    (params, rows, layer)
}

#[test]
fn attention_to_neighbours_is_softmax_or_sparsemax_at_either_end_of_entmax() {
    let graph = graph();
    for (weighting, wanted, tolerance) in [
        (PairWeighting::Softmax, softmax as fn(&[f32]) -> Vec<f32>, 1e-5),
        (PairWeighting::Entmax(1.0005), softmax, 5e-3),
        (PairWeighting::Entmax(2.0), sparsemax, 1e-5),
    ] {
        let (params, rows, layer) = attending(weighting);
        let pass = Pass::new(&params, Mode::Infer, 0);
        let (found, weights) =
            layer.forward_with_weights(&pass, &pass.param(rows).gather(graph.rows()), &graph);
        let (nodes, p) = attention(&params, &graph, wanted);
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far(weights.data(), &p) < tolerance, "{weighting:?}: {:?} against {p:?}", weights.data());
        assert!(far(found.data(), &nodes) < 10.0 * tolerance, "{weighting:?}");
    }
}

#[test]
fn edges_that_entmax_cuts_are_zero_and_what_they_lead_to_does_not_matter() {
    let (mut params, rows, layer) = attending(PairWeighting::Entmax(1.5));
    let graph = graph();
    let run = |params: &Params| {
        let pass = Pass::new(params, Mode::Infer, 0);
        let nodes = pass.param(rows).gather(graph.rows());
        let (nodes, weights) = layer.forward_with_weights(&pass, &nodes, &graph);
        (nodes.to_vec(), weights.to_vec())
    };
    let (before, weights) = run(&params);
    let cut = weights.iter().filter(|w| **w == 0.0).count();
    assert!(cut >= 2 && cut < weights.len(), "{weights:?}");
    // The weights of a node and its neighbours sum to one.
    assert!((weights.iter().sum::<f32>() - graph.nodes() as f32).abs() < 1e-5);
    // A node whose neighbour is cut is what it is without that neighbour's value: gradients do not reach through it.
    let gradients = {
        let pass = Pass::new(&params, Mode::Train, 0);
        let nodes = pass.param(rows).gather(graph.rows());
        let (_, weights) = layer.forward_with_weights(&pass, &nodes, &graph);
        let zeros: Vec<f32> = weights.data().iter().map(|w| f32::from(*w == 0.0)).collect();
        let only = pass.constant(&[zeros.len(), 1], zeros);
        let loss = weights.mul(&only).sum();
        assert_eq!(loss.item(), 0.0);
        pass.backward(&loss).dense(rows).unwrap().to_vec()
    };
    assert!(gradients.iter().all(|g| *g == 0.0), "{gradients:?}");
    // And a session of one item is itself and its own value, whatever else there is.
    let last = before[before.len() - D..].to_vec();
    params.values_mut(rows)[..4 * D].iter_mut().for_each(|v| *v += 0.5);
    assert_eq!(run(&params).0[before.len() - D..], last);
}

#[test]
fn slopes_of_attention_to_neighbours_are_finite_differences() {
    for weighting in [PairWeighting::Softmax, PairWeighting::Entmax(1.5), PairWeighting::Plain] {
        let (mut params, rows, layer) = attending(weighting);
        let graph = graph();
        // Gentler scores: where an edge comes or goes there is a bend.
        params.values_mut(rows).iter_mut().for_each(|v| *v *= 0.1);
        gradcheck::check(&mut params, 5e-3, |pass| {
            layer.forward(pass, &pass.param(rows).gather(graph.rows()), &graph).square().sum()
        })
        .unwrap();
    }
    let bad = GraphAttention::new(&mut Params::new(1), "graph", D, PairWeighting::Entmax(1.0));
    assert!(bad.unwrap_err().to_string().contains("entmax of 1"));
}

#[test]
fn soft_attention_is_its_formula_zero_for_nothing_and_its_slopes_are_finite_differences() {
    let mut params = Params::new(4);
    let values = params.dense("values", &[9, D], Init::Normal(1.0)).unwrap();
    let layer = SoftAttention::new(&mut params, "soft", D).unwrap();
    stir(&mut params);
    let run = |pass: &Pass| {
        let x = Ragged::new(Arc::new(OFFSETS.to_vec()), pass.param(values)).unwrap();
        layer.forward(pass, &x.last(), &x)
    };
    let pass = Pass::new(&params, Mode::Infer, 0);
    let found = run(&pass).to_vec();
    let weights = Weights(&params);
    let v = weights.of("values");
    let mut wanted = Vec::new();
    for ends in OFFSETS.windows(2) {
        let mut sum = vec![0.0; D];
        for e in ends[0] as usize..ends[1] as usize {
            let last = weights.linear("soft.last", &v[(ends[1] as usize - 1) * D..][..D]);
            let own = weights.linear("soft.each", &v[e * D..][..D]);
            let hidden: Vec<f32> = last.iter().zip(own).map(|(a, b)| sigmoid(a + b)).collect();
            let weight = weights.linear("soft.score", &hidden)[0];
            (0..D).for_each(|j| sum[j] += weight * v[e * D + j]);
        }
        wanted.extend(sum);
    }
    near(&found, &wanted);
    assert_eq!(found[D..2 * D], [0.0; D]);
    drop(pass);
    gradcheck::check(&mut params, 5e-3, |pass| run(pass).square().sum()).unwrap();
}

#[test]
fn attention_pooling_is_its_formula_whoever_asks() {
    let mut params = Params::new(7);
    let values = params.dense("values", &[9, D], Init::Normal(1.0)).unwrap();
    let asks = params.dense("asks", &[4, D], Init::Normal(1.0)).unwrap();
    let own = AttentionPool::new(&mut params, "own", D).unwrap();
    let asked = AttentionPool::asked(&mut params, "asked", D).unwrap();
    stir(&mut params);
    let run = |pass: &Pass| {
        let x = Ragged::new(Arc::new(OFFSETS.to_vec()), pass.param(values)).unwrap();
        [own.forward(pass, &x), asked.forward_for(pass, &pass.param(asks), &x)]
    };
    let pass = Pass::new(&params, Mode::Infer, 0);
    let found = run(&pass).map(|t| t.to_vec());
    let weights = Weights(&params);
    let (v, u) = (weights.of("values"), weights.of("asks"));
    for (found, name) in found.iter().zip(["own", "asked"]) {
        let mut wanted = vec![0.0; 4 * D];
        for (b, ends) in OFFSETS.windows(2).enumerate() {
            let score = |e: usize| {
                let h = weights.linear(&format!("{name}.hidden"), &v[e * D..][..D]);
                let h: Vec<f32> = h.iter().map(|h| h.tanh()).collect();
                match name {
                    "own" => weights.linear("own.score", &h)[0],
                    _ => h.iter().zip(&u[b * D..][..D]).map(|(a, b)| a * b).sum(),
                }
            };
            let span = ends[0] as usize..ends[1] as usize;
            let p = softmax(&span.clone().map(score).collect::<Vec<_>>());
            for (e, p) in span.zip(p) {
                (0..D).for_each(|j| wanted[b * D + j] += p * v[e * D + j]);
            }
        }
        near(found, &wanted);
        assert_eq!(found[D..2 * D], [0.0; D]);
    }
    drop(pass);
    gradcheck::check(&mut params, 5e-3, |pass| {
        let [own, asked] = run(pass);
        own.square().sum().add(&asked.square().sum())
    })
    .unwrap();
}

/// Three bunches of directions, of different lengths.
fn bunches() -> Vec<f32> {
    (0..60)
        .flat_map(|i| {
            let angle = [0.3f32, 2.2, 4.4][i % 3] + 0.002 * i as f32;
            let length = 0.5 + (i % 7) as f32;
            [length * angle.cos(), length * angle.sin()]
        })
        .collect()
}

#[test]
fn clusters_find_bunches_of_directions_and_stay_still_in_inference() {
    let mut params = Params::new(5);
    let clusters = Clusters::new(&mut params, "clusters", (3, 2)).unwrap();
    let mut optimiser = Optimiser::new(DenseOptim::sgd(0.1));
    let idle = params.dense("idle", &[1], Init::Ones).unwrap();
    for step in 0..200 {
        let pass = Pass::new(&params, Mode::Train, step);
        let x = pass.constant(&[60, 2], bunches());
        let found = clusters.forward(&pass, &x);
        assert_eq!(found.cosines.shape(), [60, 3]);
        let gradients = pass.backward(&pass.param(idle).sum());
        drop((found, x, pass));
        optimiser.step(&mut params, &gradients);
    }
    let before = params.weights();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let found = clusters.forward(&pass, &pass.constant(&[60, 2], bunches()));
    for i in 0..60 {
        assert_eq!(found.of[i], found.of[i % 3], "vector {i} is not with its bunch");
        let cosine = found.cosines.data()[i * 3 + found.of[i] as usize];
        assert!(cosine > 0.995, "{cosine}");
    }
    let mut own = [found.of[0], found.of[1], found.of[2]];
    own.sort_unstable();
    assert_eq!(own, [0, 1, 2], "two bunches share a cluster");
    for c in found.centroids.data().chunks(2) {
        assert!((c[0] * c[0] + c[1] * c[1] - 1.0).abs() < 1e-5);
    }
    assert_eq!(
        before.get("clusters.centroids").unwrap().values,
        params.weights().get("clusters.centroids").unwrap().values
    );
}

#[test]
fn clusters_before_the_first_batch_and_of_nothing_are_defined() {
    let mut params = Params::new(6);
    let clusters = Clusters::new(&mut params, "clusters", (4, 2)).unwrap();
    let pass = Pass::new(&params, Mode::Train, 0);
    let found = clusters.forward(&pass, &pass.constant(&[3, 2], vec![0.0, 0.0, 1.0, 0.0, 0.0, -2.0]));
    assert_eq!(found.of, [0, 0, 0]);
    assert!(found.cosines.is_finite());
    assert!(clusters.forward(&pass, &pass.constant(&[0, 2], vec![])).of.is_empty());
    assert!(
        Clusters::new(&mut params, "none", (0, 2)).unwrap_err().to_string().contains("must be a cluster")
    );
}
