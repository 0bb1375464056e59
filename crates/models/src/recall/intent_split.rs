//! Two intents of a session: what it was about for long, and what it is about now; each read out of its own part of the
//! clicks by a network that suits it.
//!
//! Items are clustered by their vectors as they are learned ([`Clusters`]: k-means by cosines, whose centroids follow the
//! vectors). After each click the long intent is the cluster that most clicks so far belong to (of equal ones the latest),
//! the short intent that of the last click. Two passes over the clicks so far keep what belongs to the one or the other
//! intent: the clicks of its cluster, and those whose cosine with its centroid is `keep` or more. The long part becomes a
//! graph, read by a gated graph network (SR-GNN, Wu et al., AAAI 2019) or by attention whose α-entmax can cut edges off
//! (`graph = "attention"`), and is summed up by soft attention; of the short part a transformer with places (SASRec, Kang &
//! McAuley, ICDM 2018) gives the last state. A gate mixes both: g = σ(W [l, s] + b), h = g ⊙ l + (1 − g) ⊙ s.
//!
//! Besides the next item the state learns its cluster: −log softmax over the clusters of the batch's next items of
//! cos(h, centroid) / `temperature`, times `contrast`.
//!
//! Which clicks are kept changes with every click, so that each beginning of a session is read by itself; all are learned
//! from, and none sees what came later. No gradient flows through the choice of clicks.

use millstream_nn::loss::softmax_cross_entropy;
use millstream_nn::{
    Clustered, Clusters, GatedGraph, GraphAttention, Init, Inputs, LayerNorm, Linear, PairWeighting, Params,
    Pass, PlaceEmbedding, Ragged, SessionGraph, SoftAttention, Tensor, TransformerBlock, TransformerConfig,
    Transpose,
};
use serde::Deserialize;
use std::sync::Arc;

use super::next_item::{Catalogue, Next, NextItem, States, check_shares, options};
use super::prefixes::Prefixes;
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "intent_split", check, build, whole: true, graph: false };

/// What reads the graph of the long part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GraphKind {
    #[default]
    Gated,
    Attention,
}

options! {
    Next::default();
    /// Intents: clusters of items.
    clusters: usize = 64,
    /// A click is kept for an intent that it is not of if its cosine with the centroid is at least this; in [-1, 1].
    keep: f32 = 0.0,
    /// The latest clicks of a session that are read.
    longest: usize = 50,
    /// Network over the long part.
    graph: GraphKind = GraphKind::Gated,
    /// Its layers.
    steps: usize = 1,
    /// With `graph = "attention"`: what becomes of the similarities.
    edges: PairWeighting = PairWeighting::Entmax(1.5),
    /// Transformer blocks over the short part.
    blocks: usize = 1,
    heads: usize = 1,
    /// Of items, and within the blocks.
    dropout: f32 = 0.2,
    /// Weight of the contrast of clusters; 0 for none.
    contrast: f32 = 0.1,
    /// Divides cosines in the contrast.
    temperature: f32 = 0.2,
}

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    let c: Config = cfg.options()?;
    let fail = |text: String| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
    let sizes = [("clusters", c.clusters), ("longest", c.longest), ("steps", c.steps), ("blocks", c.blocks)];
    if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return fail(format!("{key} must be above 0"));
    }
    if !(-1.0..=1.0).contains(&c.keep) {
        return fail(format!("keep is a cosine, in [-1, 1], not {}", c.keep));
    }
    if !(c.contrast >= 0.0 && c.contrast.is_finite()) {
        return fail(format!("contrast must be 0 or more, not {}", c.contrast));
    }
    if !(c.temperature > 0.0 && c.temperature.is_finite()) {
        return fail(format!("temperature must be above 0, not {}", c.temperature));
    }
    c.edges.check(&format!("{}: edges", cfg.name))?;
    check_shares(&cfg.name, &[("dropout", c.dropout)])?;
    c.next().check(&cfg.name)?;
    Ok(c)
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c = read(cfg)?;
    if c.graph == GraphKind::Gated {
        cfg.idle("graph = \"gated\"", &["edges"])?;
    }
    if c.contrast == 0.0 {
        cfg.idle("contrast = 0", &["temperature"])?;
    }
    c.next().idle(cfg)
}

enum Graph {
    Gated(GatedGraph),
    Attention(Vec<GraphAttention>),
}

struct IntentSplit {
    catalogue: Catalogue,
    clusters: Clusters,
    keep: f32,
    longest: usize,
    graph: Graph,
    attention: SoftAttention,
    long: Linear,
    places: PlaceEmbedding,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    gate: Linear,
    dropout: f32,
    contrast: f32,
    temperature: f32,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c = read(cfg)?;
    let d = c.embedding;
    let catalogue = Catalogue::new(c.next(), (cfg, shape), params)?;
    let graph = match c.graph {
        GraphKind::Gated => Graph::Gated(GatedGraph::new(params, "graph", (d, c.steps))?),
        GraphKind::Attention => Graph::Attention(
            (0..c.steps)
                .map(|i| GraphAttention::new(params, &format!("graph{i}"), d, c.edges))
                .collect::<Result<_, _>>()?,
        ),
    };
    let block = TransformerConfig { heads: c.heads, dropout: c.dropout, ..TransformerConfig::new(d) };
    let blocks = (0..c.blocks)
        .map(|i| TransformerBlock::new(params, &format!("block{i}"), &block))
        .collect::<Result<_, _>>()?;
    let start = Init::XavierUniform;
    Ok(Box::new(NextItem(IntentSplit {
        catalogue,
        clusters: Clusters::new(params, "clusters", (c.clusters, d))?,
        keep: c.keep,
        longest: c.longest,
        graph,
        attention: SoftAttention::new(params, "attention", d)?,
        long: Linear::without_bias(params, "long", (2 * d, d), start)?,
        places: PlaceEmbedding::new(params, "places", (c.longest, d), c.init_std)?,
        blocks,
        norm: LayerNorm::new(params, "norm", d)?,
        gate: Linear::with_init(params, "gate", (2 * d, d), start)?,
        dropout: c.dropout,
        contrast: c.contrast,
        temperature: c.temperature,
    })))
}

impl States for IntentSplit {
    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn states(&self, pass: &Pass, x: &Inputs) -> Ragged {
        self.states_and_loss(pass, x).0
    }

    fn last(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let known = self.clusters.forward(pass, self.catalogue.rows(x));
        self.read(pass, x, &known, &Prefixes::last(self.catalogue.bags(x), self.longest))
    }

    fn states_and_loss(&self, pass: &Pass, x: &Inputs) -> (Ragged, Option<Tensor>) {
        let known = self.clusters.forward(pass, self.catalogue.rows(x));
        let prefixes = Prefixes::every(self.catalogue.bags(x), self.longest);
        let states = self.catalogue.history(x);
        let states = states.with(self.read(pass, x, &known, &prefixes));
        let wanted = self.contrast > 0.0 && states.elements() <= x.candidates();
        let besides = wanted.then(|| self.contrast(x, &known, states.values()));
        (states, besides)
    }
}

impl IntentSplit {
    /// The state `[Q, D]` after each of the beginnings.
    fn read(&self, pass: &Pass, x: &Inputs, known: &Clustered, prefixes: &Prefixes) -> Tensor {
        let all = self.catalogue.rows(x);
        let (used, places) = prefixes.used(all.rows());
        let [long, short] = split(prefixes, &places, known, self.keep);
        let rows = all.gather(&Arc::new(used)).dropout(pass, self.dropout);
        let (long, short) = (self.long(pass, &rows, &long), self.short(pass, &rows, short));
        let gate = self.gate.forward(pass, &Tensor::concat(&[&long, &short])).sigmoid();
        short.add(&gate.mul(&long.sub(&short)))
    }

    fn long(&self, pass: &Pass, rows: &Tensor, part: &Part) -> Tensor {
        let graph = match SessionGraph::new(&part.offsets, &part.items, rows.rows()) {
            Ok(graph) => graph,
            Err(e) => unreachable!("a part of a batch's sequences is one: {e}"),
        };
        let nodes = match &self.graph {
            Graph::Gated(network) => network.forward(pass, rows, &graph),
            Graph::Attention(layers) => {
                let nodes = rows.gather(graph.rows());
                layers.iter().fold(nodes, |nodes, layer| layer.forward(pass, &nodes, &graph))
            }
        };
        let clicks = part.ragged(nodes.gather(graph.node_of()));
        let last = clicks.last();
        let whole = self.attention.forward(pass, &last, &clicks);
        self.long.forward(pass, &Tensor::concat(&[&last, &whole]))
    }

    fn short(&self, pass: &Pass, rows: &Tensor, part: Part) -> Tensor {
        let h = part.ragged(rows.gather(&Arc::new(part.items.clone())));
        let h = self.places.add(pass, &h);
        let last = match self.blocks.split_last() {
            Some((block, before)) => {
                block.last(pass, &before.iter().fold(h, |h, block| block.forward(pass, &h)))
            }
            None => h.last(),
        };
        self.norm.forward(pass, &last)
    }

    /// −log of the share of the next item's cluster among those of the batch's next items, mean over the states `[P, D]`.
    fn contrast(&self, x: &Inputs, known: &Clustered, states: &Tensor) -> Tensor {
        let next = &self.catalogue.candidates(x)[..states.rows()];
        let of: Vec<u32> = next.iter().map(|row| known.of[*row as usize]).collect();
        let mut there = of.clone();
        there.sort_unstable();
        there.dedup();
        let targets: Vec<u32> = of.iter().map(|c| there.partition_point(|t| t < c) as u32).collect();
        let centroids = known.centroids.gather(&Arc::new(there));
        let logits = states.l2_normalise().matmul(&centroids, Transpose::Right).scale(1.0 / self.temperature);
        softmax_cross_entropy(&logits, &targets, &[]).scale(self.contrast)
    }
}

/// The clicks that were kept of each beginning.
#[derive(Default)]
struct Part {
    /// `[Q + 1]`.
    offsets: Vec<u32>,
    /// Places of the items among those used.
    items: Vec<u32>,
}

impl Part {
    fn ragged(&self, values: Tensor) -> Ragged {
        match Ragged::new(Arc::new(self.offsets.clone()), values) {
            Ok(ragged) => ragged,
            Err(e) => unreachable!("offsets were made with their elements: {e}"),
        }
    }
}

/// The clicks of each beginning that belong to its long and to its short intent; `places` are those of its items among the
/// ones used. Neither part of a beginning is empty unless the beginning is.
fn split(prefixes: &Prefixes, places: &[u32], known: &Clustered, keep: f32) -> [Part; 2] {
    let clusters = known.cosines.width();
    let mut counts = vec![0u32; clusters];
    let mut parts = [Part::default(), Part::default()];
    parts.iter_mut().for_each(|part| part.offsets.push(0));
    for ends in prefixes.offsets.windows(2) {
        let span = ends[0] as usize..ends[1] as usize;
        let rows = &prefixes.rows[span.clone()];
        let of = |row: &u32| known.of[*row as usize];
        let intents = [most_frequent(rows.iter().map(of), &mut counts), rows.last().map_or(0, of)];
        for (part, intent) in parts.iter_mut().zip(intents) {
            for (row, place) in rows.iter().zip(&places[span.clone()]) {
                let cosine = known.cosines.data()[*row as usize * clusters + intent as usize];
                if of(row) == intent || cosine >= keep {
                    part.items.push(*place);
                }
            }
            part.offsets.push(part.items.len() as u32);
        }
    }
    parts
}

/// The most frequent of some numbers, of equally frequent ones the latest; 0 of none. `counts` are zero, and are left so.
fn most_frequent(of: impl DoubleEndedIterator<Item = u32> + Clone, counts: &mut [u32]) -> u32 {
    of.clone().for_each(|c| counts[c as usize] += 1);
    let mut best = None;
    for c in of.clone().rev() {
        if best.is_none_or(|b: u32| counts[c as usize] > counts[b as usize]) {
            best = Some(c);
        }
    }
    of.for_each(|c| counts[c as usize] = 0);
    best.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_nn::{Bags, Mode, Pooling};

    #[test]
    fn the_latest_of_the_most_frequent_is_the_long_intent() {
        let mut counts = [0; 5];
        let mut most = |of: &[u32]| most_frequent(of.iter().copied(), &mut counts);
        assert_eq!(most(&[3, 1, 1, 3]), 3);
        assert_eq!(most(&[3, 1, 3, 1]), 1);
        assert_eq!(most(&[2, 2, 4]), 2);
        assert_eq!(most(&[]), 0);
        assert_eq!(counts, [0; 5]);
    }

    /// Items 0 and 1 are of cluster 0, items 2 and 3 of cluster 1; item 3 is near cluster 0.
    fn known(pass: &Pass) -> Clustered {
        let cosines = vec![0.9, 0.0, 0.8, 0.1, 0.1, 0.9, 0.5, 0.7];
        Clustered {
            of: vec![0, 0, 1, 1],
            cosines: pass.constant(&[4, 2], cosines),
            centroids: pass.constant(&[2, 1], vec![1.0, -1.0]),
        }
    }

    #[test]
    fn two_passes_cut_the_clicks_into_two_sequences() {
        let params = Params::new(1);
        let pass = Pass::new(&params, Mode::Infer, 0);
        let bags = Bags::new(vec![0, 4, 4], vec![0, 2, 1, 3], None, Pooling::Sum).unwrap();
        let prefixes = Prefixes::every(&bags, 50);
        let (used, places) = prefixes.used(4);
        assert_eq!(used, [0, 1, 2, 3]);
        let parts = |keep| split(&prefixes, &places, &known(&pass), keep);
        // After "0 2" both clusters are there once: the latest is the long intent. After "0 2 1 3" the same.
        let [long, short] = parts(0.95);
        assert_eq!(long.offsets, [0, 1, 2, 4, 6]);
        assert_eq!(long.items, [0, 2, 0, 1, 2, 3]);
        assert_eq!(short.items, [0, 2, 0, 1, 2, 3]);
        let bags = Bags::new(vec![0, 4], vec![0, 1, 2, 3], None, Pooling::Sum).unwrap();
        let prefixes = Prefixes::every(&bags, 50);
        let [long, short] = split(&prefixes, &prefixes.used(4).1, &known(&pass), 0.5);
        // "0 1 2": long is cluster 0, short is cluster 1. "0 1 2 3": two each, the latest wins.
        assert_eq!((long.offsets, long.items), (vec![0, 1, 3, 5, 7], vec![0, 0, 1, 0, 1, 2, 3]));
        assert_eq!((short.offsets, short.items), (vec![0, 1, 3, 4, 6], vec![0, 0, 1, 2, 2, 3]));
        let everything = split(&prefixes, &prefixes.used(4).1, &known(&pass), -1.0);
        assert!(everything.iter().all(|part| part.items == prefixes.rows));
    }
}
