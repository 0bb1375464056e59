//! Session-based recommendation by attention over a session's graph that cuts noise off: Veličković et al., ICLR 2018, with
//! α-entmax (Peters et al., ACL 2019) in place of softmax, read out as in SR-GNN (Wu et al., AAAI 2019).
//!
//! Nodes are the items of a session, edges its steps; in each layer h_i ← h_i + Σ_j p_ij V h_j with p_i the α-entmax of
//! ⟨Q h_i, K h_j⟩ / √D + b over node i and its neighbours ([`GraphAttention`]): a neighbour that is too little alike gets exactly
//! zero. To the clicks' nodes places counted from the end are added, and ⟨W [last, Σ_e a_e h_e], e_item⟩ scores, with soft attention of the last click to all. `edges = "softmax"` cuts nothing.
//!
//! Each beginning of a session is a graph of its own, and is learned from by itself.

use millstream_nn::{
    GraphAttention, Init, Inputs, Linear, PairWeighting, Params, Pass, PlaceEmbedding, Ragged, SessionGraph,
    SoftAttention, Tensor,
};
use std::sync::Arc;

use super::next_item::{Catalogue, Next, NextItem, States, check_shares, options};
use super::prefixes::Prefixes;
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "gat_entmax", check, build, whole: true, graph: false };

options! {
    Next::default();
    /// Layers of attention to neighbours.
    layers: usize = 1,
    /// What becomes of the similarities of neighbours: `{ entmax = 1.5 }`, or "softmax".
    edges: PairWeighting = PairWeighting::Entmax(1.5),
    /// The latest clicks of a session that are read.
    longest: usize = 50,
    /// Of items.
    dropout: f32 = 0.2,
}

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    let c: Config = cfg.options()?;
    if c.layers == 0 || c.longest == 0 {
        return Err(Error::Config(format!("model `{}`: `layers` and `longest` must be above 0", cfg.name)));
    }
    c.edges.check(&format!("{}: edges", cfg.name))?;
    check_shares(&cfg.name, &[("dropout", c.dropout)])?;
    c.next().check(&cfg.name)?;
    Ok(c)
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c = read(cfg)?;
    c.next().idle(cfg)
}

struct GatEntmax {
    catalogue: Catalogue,
    layers: Vec<GraphAttention>,
    places: PlaceEmbedding,
    attention: SoftAttention,
    out: Linear,
    longest: usize,
    dropout: f32,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c = read(cfg)?;
    let d = c.embedding;
    let catalogue = Catalogue::new(c.next(), (cfg, shape), params)?;
    let layers = (0..c.layers)
        .map(|i| GraphAttention::new(params, &format!("graph{i}"), d, c.edges))
        .collect::<Result<_, _>>()?;
    Ok(Box::new(NextItem(GatEntmax {
        catalogue,
        layers,
        places: PlaceEmbedding::new(params, "places", (c.longest, d), c.init_std)?,
        attention: SoftAttention::new(params, "attention", d)?,
        out: Linear::without_bias(params, "out", (2 * d, d), Init::XavierUniform)?,
        longest: c.longest,
        dropout: c.dropout,
    })))
}

impl States for GatEntmax {
    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn states(&self, pass: &Pass, x: &Inputs) -> Ragged {
        let prefixes = Prefixes::every(self.catalogue.bags(x), self.longest);
        let history = self.catalogue.history(x);
        history.with(self.read(pass, x, &prefixes))
    }

    fn last(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.read(pass, x, &Prefixes::last(self.catalogue.bags(x), self.longest))
    }
}

impl GatEntmax {
    /// The state `[Q, D]` after each of the beginnings.
    fn read(&self, pass: &Pass, x: &Inputs, prefixes: &Prefixes) -> Tensor {
        let all = self.catalogue.rows(x);
        let (used, places) = prefixes.used(all.rows());
        let rows = all.gather(&Arc::new(used)).dropout(pass, self.dropout);
        let clicks = SessionGraph::new(&prefixes.offsets, &places, rows.rows()).and_then(|graph| {
            let nodes = rows.gather(graph.rows());
            let nodes = self.layers.iter().fold(nodes, |nodes, layer| layer.forward(pass, &nodes, &graph));
            Ragged::new(Arc::new(prefixes.offsets.clone()), nodes.gather(graph.node_of()))
        });
        let clicks = match clicks {
            Ok(clicks) => self.places.add(pass, &clicks),
            Err(e) => unreachable!("beginnings of a batch's sequences are sequences: {e}"),
        };
        let last = clicks.last();
        let whole = self.attention.forward(pass, &last, &clicks);
        self.out.forward(pass, &Tensor::concat(&[&last, &whole]))
    }
}
