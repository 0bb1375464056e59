//! LightGCN (He et al., SIGIR 2020): vectors of users and items flow along who acted on what, layer by layer; a node's vector is the mean of
//! its layers.
//!
//! e^{k+1}_v = Σ_{w ~ v} e^k_w / √(|N_v| |N_w|), e_v = (e⁰_v + … + e^K_v)/(K + 1), score ⟨e_u, e_i⟩; learned by BPR with the squared length of the
//! first layer (`loss = "bpr"`), or by the softmax of scores over τ against the batch's and drawn items (`"softmax"`; Wu et al., TOIS 2024), of
//! cosines where `unit` is set. Serving ranks by products then too, unless `serve_unit`: where the batch's other positives are the
//! negatives, uncorrected, cosines hold popular items down, and the lengths, which grow with degree, lift them again. With `item_bias`
//! a number per item says what everybody wants, and cosines the rest, in serving too.
//!
//! Every step propagates over the whole training graph. Serving needs no graph: after training each item keeps its vector and what
//! it gives to those who act on it, so that a user's vector is their own row and a sum over their history, exactly what the graph
//! would give, and follows new actions and new users at once.

use millstream_nn::{Bipartite, Inputs, Params, Pass, Pooling, RowInit, TableId, Tensor, loss, settled};
use serde::Deserialize;
use std::sync::Arc;

use super::intents::WHOLE_ALONE;
use super::profile::{Profile, check_temperature, sized};
use super::simplex::{pair, rows};
use crate::ranker::Shape;
use crate::retriever::{EdgeTargets, LearnsGraph, Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "lightgcn", check, build, whole: false, graph: true };

/// What it is learned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Loss {
    Bpr,
    Softmax,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D.
    embedding: usize,
    /// K.
    layers: usize,
    loss: Loss,
    /// λ: weight of the squared length of a batch's first-layer vectors.
    l2: f32,
    /// τ of the softmax.
    temperature: f32,
    /// Whether users and items are compared at unit length while learning; by default with the softmax.
    unit: Option<bool>,
    /// Whether items are compared at unit length in serving; with `item_bias` where they are in learning.
    serve_unit: Option<bool>,
    /// Whether each item has a number of its own that is added to its score: how often it is wanted whoever asks, which cosines cannot say.
    item_bias: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
    /// The sequence, where there are several.
    sequence: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 64,
            layers: 3,
            loss: Loss::Softmax,
            l2: 0.0,
            temperature: 0.1,
            unit: None,
            serve_unit: None,
            item_bias: false,
            init_std: 0.1,
            sequence: None,
        }
    }
}

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    let fail = |text: String| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
    check_temperature(&cfg.name, c.temperature)?;
    if !(c.l2.is_finite() && c.l2 >= 0.0) {
        return fail(format!("l2 must be 0 or more, not {}", c.l2));
    }
    match c.layers {
        0..=16 => Ok(c),
        n => fail(format!("layers must be from 0 to 16, not {n}")),
    }
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c = read(cfg)?;
    match c.loss {
        Loss::Bpr => cfg.idle("loss = \"bpr\"", &["temperature"]),
        Loss::Softmax => Ok(()),
    }
}

struct LightGcn {
    profile: Profile,
    user: (usize, TableId),
    item: (usize, TableId),
    /// Items' vectors after all layers.
    vectors: TableId,
    /// What items give to those who act on them.
    given: TableId,
    /// Items' own numbers.
    bias: Option<TableId>,
    config: Config,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c = read(cfg)?;
    let d = c.embedding;
    let profile = Profile::new((cfg, shape), c.sequence.as_deref(), (d, c.init_std))?;
    let (_, user) = pair(cfg, shape)?;
    let mut table = |place: usize, what: &str, init: RowInit| {
        let space = shape.fields[place].space.clone().unwrap_or_default();
        params.table(&format!("{space}/{what}d{d}"), &space, d, init)
    };
    let fresh = RowInit::Normal(c.init_std);
    Ok(Box::new(LightGcn {
        user: (user, table(user, "", fresh)?),
        item: (profile.item, table(profile.item, "", fresh)?),
        vectors: table(profile.item, "vector/", RowInit::Zero)?,
        given: table(profile.item, "given/", RowInit::Zero)?,
        bias: c.item_bias.then(|| profile.column(params, "bias/")).transpose()?,
        profile,
        config: c,
    }))
}

impl LightGcn {
    fn unit(&self) -> bool {
        self.config.unit.unwrap_or(self.config.loss == Loss::Softmax)
    }

    fn serve_unit(&self) -> bool {
        self.config.serve_unit.unwrap_or(self.config.item_bias && self.unit())
    }

    /// Users' vectors, with the coordinate that takes items' own numbers.
    fn with_one(&self, pass: &Pass, users: Tensor) -> Tensor {
        let one = self.bias.map(|_| pass.constant(&[users.rows(), 1], vec![1.0; users.rows()]));
        Tensor::join([Some(users), one].into_iter().flatten())
    }

    /// Items' vectors, with their own numbers.
    fn with_bias(&self, items: Tensor, bias: impl FnOnce(TableId) -> Tensor) -> Tensor {
        Tensor::join([Some(items), self.bias.map(bias)].into_iter().flatten())
    }

    /// The first layer `[users + items, D]`.
    fn first(&self, x: &Inputs) -> Tensor {
        Tensor::stack_rows(&[&rows(x, self.user), &rows(x, self.item)])
    }
}

impl Retriever for LightGcn {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let bags = self.profile.bags(x).pooled_by(Pooling::Sum);
        let degree = |r: usize| (bags.range(r).len().max(1) as f32).sqrt().recip();
        let scale = pass.constant(&[x.requests(), 1], (0..x.requests()).map(degree).collect());
        let given = x.rows(self.given).pool(&bags).mul_column(&scale);
        let own = rows(x, self.user).scale(1.0 / (self.config.layers + 1) as f32);
        let users = sized(own.add(&given), self.serve_unit());
        self.with_one(pass, users).reshape(&[x.requests(), 1, self.dim()])
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        let items = sized(rows(x, (self.item.0, self.vectors)), self.serve_unit());
        self.with_bias(items, |bias| rows(x, (self.item.0, bias))) // [N, D], and one column more with the bias
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        loss::in_batch_softmax(&users.flatten(), items, &y.in_batch(self.config.temperature))
    }

    fn dim(&self) -> usize {
        self.config.embedding + usize::from(self.config.item_bias)
    }

    fn draws_alone(&self) -> Option<&'static str> {
        (self.config.loss == Loss::Bpr).then_some("loss = \"bpr\"")
    }

    fn graph(&self) -> Option<&dyn LearnsGraph> {
        Some(self)
    }
}

impl LearnsGraph for LightGcn {
    fn loss(&self, pass: &Pass, x: &Inputs, graph: &Arc<Bipartite>, y: &EdgeTargets<'_>) -> Tensor {
        let (r, n) = (y.users.len(), y.items.items.len());
        let item = |i: &u32| graph.users() as u32 + i;
        let wanted: Arc<Vec<u32>> =
            Arc::new(y.users.iter().copied().chain(y.items.items.iter().map(item)).collect());
        let first = self.first(x);
        let all = first.propagate(graph, self.config.layers, &wanted); // [R + N, D]
        let all = sized(all, self.unit());
        let users = self.with_one(pass, all.slice_rows(0, r));
        let places = || Arc::new(y.items.items.to_vec());
        let items =
            self.with_bias(all.slice_rows(r, n), |bias| rows(x, (self.item.0, bias)).gather(&places()));
        let loss = match self.config.loss {
            Loss::Softmax => Retriever::loss(self, &users, &items, &y.items),
            Loss::Bpr => {
                let right = users.dot_rows(&items.slice_rows(0, r)); // [R, 1]
                // Negative j is for request j mod R.
                let drawn = n - r;
                let asks: Arc<Vec<u32>> = Arc::new((0..drawn).map(|j| (j % r) as u32).collect());
                let wrong = users.gather(&asks).dot_rows(&items.slice_rows(r, drawn));
                loss::bpr(&right.gather(&asks), &wrong, &[])
            }
        };
        if self.config.l2 == 0.0 {
            return loss;
        }
        let length = first.gather(&wanted).square().sum();
        loss.add(&length.scale(0.5 * self.config.l2 / r.max(1) as f32))
    }

    fn settled(&self, _pass: &Pass, x: &Inputs, graph: &Bipartite) -> Vec<(TableId, Vec<f32>)> {
        let first = self.first(x);
        let (vectors, given) = settled(graph, (first.data(), self.config.embedding), self.config.layers);
        vec![(self.vectors, vectors), (self.given, given)]
    }

    fn item(&self) -> usize {
        self.item.0
    }
}
