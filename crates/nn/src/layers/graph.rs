//! Networks over session graphs.

use super::session_graph::RELATIONS;
use super::{Linear, PairWeighting, SessionGraph};
use crate::error::Result;
use crate::init::Init;
use crate::pairs::Pairs;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tensor::Tensor;

/// A gated graph network (Li et al. 2016; SR-GNN, Wu et al. 2019, eq. 1 to 5): in each step a node hears the mean of what the
/// nodes before it say, and of what those after it say, and a GRU cell takes that in.
///
/// Neighbours count once and alike, as in SR-GNN's code. Its two biases of a message are one.
#[derive(Debug, Clone)]
pub struct GatedGraph {
    say: Linear,
    heard: ParamId,
    input: Linear,
    state: Linear,
    steps: usize,
    width: usize,
}

impl GatedGraph {
    /// Weights `name.say` `[2 D, D]`, `name.heard` `[2 D]`, `name.input` `[3 D, 2 D]`, `name.state` `[3 D, D]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, (width, steps): (usize, usize)) -> Result<Self> {
        let start = Init::Uniform(1.0 / (width as f32).sqrt());
        let mut linear = |part: &str, inputs, outputs| {
            Linear::with_init(params, &format!("{name}.{part}"), (inputs, outputs), start)
        };
        Ok(Self {
            say: linear("say", width, 2 * width)?,
            input: linear("input", 2 * width, 3 * width)?,
            state: linear("state", width, 3 * width)?,
            heard: params.dense(&format!("{name}.heard"), &[2 * width], Init::Zeros)?,
            steps,
            width,
        })
    }

    /// Rows of items `[U, D]` → nodes `[N, D]` after all steps.
    pub fn forward(&self, pass: &Pass, rows: &Tensor, graph: &SessionGraph) -> Tensor {
        let d = self.width;
        // What an item says and how its state meets the gates at first is the same in every session.
        let mut said = self.say.forward(pass, rows).gather(graph.rows()); // [N, 2 D]
        let mut gates = self.state.forward(pass, rows).gather(graph.rows()); // [N, 3 D]
        let mut nodes = rows.gather(graph.rows());
        for step in 0..self.steps {
            if step > 0 {
                said = self.say.forward(pass, &nodes);
                gates = self.state.forward(pass, &nodes);
            }
            let before = said.slice(0, d).pool(graph.before());
            let after = said.slice(d, d).pool(graph.after());
            let heard = Tensor::concat(&[&before, &after]).add_row(&pass.param(self.heard));
            nodes = self.input.forward(pass, &heard).gru_cell(&gates, &nodes);
        }
        nodes
    }
}

/// Attention of nodes to their neighbours (Veličković et al. 2018) that can leave some out: h_i + Σ_j p_ij V h_j, p_i the
/// softmax or α-entmax over node i and its neighbours of ⟨Q h_i, K h_j⟩ / √D + b, b one number for each way in which j can
/// stand to i (itself, before, after, both).
///
/// With α-entmax (Peters et al. 2019) the edges to neighbours that are too little alike have weight zero: noise in a session
/// is cut off and not only turned down.
#[derive(Debug, Clone)]
pub struct GraphAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    relation: ParamId,
    weighting: PairWeighting,
}

impl GraphAttention {
    /// Weights `name.query`, `name.key`, `name.value` `[D, D]`, without bias, and `name.relation` `[4, 1]`.
    ///
    /// # Errors
    /// An α of entmax that is not above 1, or as [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize, weighting: PairWeighting) -> Result<Self> {
        weighting.check(name)?;
        let mut linear = |part: &str| {
            let name = format!("{name}.{part}");
            Linear::without_bias(params, &name, (width, width), Init::XavierUniform)
        };
        Ok(Self {
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            relation: params.dense(&format!("{name}.relation"), &[RELATIONS, 1], Init::Zeros)?,
            weighting,
        })
    }

    /// Nodes `[N, D]` → nodes `[N, D]`.
    pub fn forward(&self, pass: &Pass, nodes: &Tensor, graph: &SessionGraph) -> Tensor {
        self.forward_with_weights(pass, nodes, graph).0
    }

    /// As [`GraphAttention::forward`], and the weight of each edge `[E, 1]`: of each node, its own and then its neighbours'.
    pub fn forward_with_weights(
        &self,
        pass: &Pass,
        nodes: &Tensor,
        graph: &SessionGraph,
    ) -> (Tensor, Tensor) {
        let (near, relations) = graph.neighbours();
        let keys = self.key.forward(pass, nodes).gather(&near.index);
        let keys = Ragged::of(near.offsets.clone(), keys);
        let pairs = Pairs::each(&keys);
        let scale = 1.0 / (nodes.width() as f32).sqrt();
        let scores = keys.values().pair_dot(&self.query.forward(pass, nodes), &pairs, scale);
        let scores = scores.add(&pass.param(self.relation).gather(&relations));
        let weights = self.weighting.apply(&scores, &pairs);
        let mixed = self.value.forward(pass, nodes).pool_weighted(&near, &weights);
        (nodes.add(&mixed), weights)
    }
}

/// Attention of a session's last element to all of them (SR-GNN, Wu et al. 2019, eq. 6): Σ_e ⟨q, σ(A v_last + B v_e + c)⟩ v_e,
/// without softmax.
#[derive(Debug, Clone)]
pub struct SoftAttention {
    last: Linear,
    each: Linear,
    score: Linear,
}

impl SoftAttention {
    /// Weights `name.last` `[D, D]`, `name.each` `[D, D]` with its bias, `name.score` `[1, D]`.
    ///
    /// # Errors
    /// As [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize) -> Result<Self> {
        let start = Init::Uniform(1.0 / (width as f32).sqrt());
        let (last, score) = (format!("{name}.last"), format!("{name}.score"));
        Ok(Self {
            last: Linear::without_bias(params, &last, (width, width), start)?,
            each: Linear::with_init(params, &format!("{name}.each"), (width, width), start)?,
            score: Linear::without_bias(params, &score, (width, 1), start)?,
        })
    }

    /// Vectors of the last elements `[B, D]` and of all `[M, D]` → `[B, D]`; zero for an empty session.
    pub fn forward(&self, pass: &Pass, last: &Tensor, x: &Ragged) -> Tensor {
        let session = |b: usize| x.span(b).map(move |_| b as u32);
        let session = std::sync::Arc::new((0..x.rows()).flat_map(session).collect::<Vec<u32>>());
        let asked = self.last.forward(pass, last).gather(&session);
        let weights = self.score.forward(pass, &self.each.forward(pass, x.values()).add(&asked).sigmoid());
        weights.pair_sum(x.values(), &Pairs::each(x))
    }
}
