//! What a retriever is, and the list of them.

use millstream_nn::loss::InBatch;
use millstream_nn::{Bipartite, Inputs, Params, Pass, TableId, Tensor};
use millstream_schema::suggest;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::ranker::{Build, Shape};
use crate::recall::{
    comirec, dat, gat_entmax, gru4rec, intent_split, lightgcn, mind, multi_behaviour, sasrec, sdm, simplex,
    two_tower, youtube_dnn,
};
use crate::{Error, ModelConfig};

/// Puts users and items into one space, where the inner product says how well they go together.
pub trait Retriever: Send + Sync {
    /// User vectors `[R, K, D]`, K interests each.
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor;
    /// Item vectors `[N, D]`.
    fn items(&self, pass: &Pass, x: &Inputs) -> Tensor;
    /// Scalar training loss.
    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor;
    /// Scalar training loss of a batch; the default is [`Retriever::loss`] of its users and items. A model that learns more from
    /// a batch than its vectors tell has its own.
    fn learn(&self, pass: &Pass, x: &Inputs, y: &Targets<'_>) -> Tensor {
        self.loss(&self.users(pass, x), &self.items(pass, x), y)
    }
    /// D.
    fn dim(&self) -> usize;
    /// K.
    fn interests(&self) -> usize {
        1
    }
    /// How it learns from whole sequences; a model that does is trained on nothing else.
    fn next_items(&self) -> Option<&dyn NextItems> {
        None
    }
    /// Its loss as a configuration writes it, where that compares a positive with drawn items alone and as they are: then it is nothing to
    /// it how likely an item is as a negative, nor whether other positives of the batch are negatives.
    fn draws_alone(&self) -> Option<&'static str> {
        None
    }
    /// Whether it learns how old examples are ([`Inputs::ages`]).
    fn ages(&self) -> bool {
        false
    }
    /// How it learns from the graph of who acted on what; a model that does is trained on nothing else.
    fn graph(&self) -> Option<&dyn LearnsGraph> {
        None
    }
}

/// Learns from the whole graph of users and items at every step.
pub trait LearnsGraph: Send + Sync {
    /// Scalar loss of some edges. The requests and candidates of `x` are all users and all items of the graph in its order.
    fn loss(&self, pass: &Pass, x: &Inputs, graph: &Arc<Bipartite>, y: &EdgeTargets<'_>) -> Tensor;
    /// What [`Retriever::users`] and [`Retriever::items`] read instead of the graph: tables, and the rows `[items, D]` that each is to have
    /// for the graph's items.
    fn settled(&self, pass: &Pass, x: &Inputs, graph: &Bipartite) -> Vec<(TableId, Vec<f32>)>;
    /// Place of the items' key among the fields: the keys of the settled rows.
    fn item(&self) -> usize;
}

/// Edges to learn from: request r's user acted on item r; the items after the R are sampled negatives.
#[derive(Debug, Clone, Copy)]
pub struct EdgeTargets<'a> {
    /// `[R]` user rows.
    pub users: &'a [u32],
    /// What is known of the items.
    pub items: Targets<'a>,
}

/// Learns from whole sequences: the state after each element is to find the next item.
pub trait NextItems: Send + Sync {
    /// Whether the next items of all elements of a batch are negatives for each other.
    fn in_batch(&self) -> bool;
    /// Whether its loss takes `log_q` off the scores.
    fn corrects(&self) -> bool;
    /// Scalar training loss of a batch whose requests' histories are whole sequences of P elements in all, and whose
    /// first P candidates are the items that come next, element by element; all further ones are negatives.
    ///
    /// # Errors
    /// The candidates do not fit the histories.
    fn loss(&self, pass: &Pass, x: &Inputs, y: &NextTargets<'_>) -> Result<Tensor, Error>;
}

/// Which elements a drawn negative is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of the batch.
    #[default]
    Batch,
    /// Those of one sequence: each sequence has its own.
    Sequence,
    /// One: each element has its own.
    Element,
    /// All of the batch, and nothing is drawn: every item of the catalogue is compared.
    Catalogue,
}

/// What is known of the items of a batch of whole sequences.
#[derive(Debug, Clone, Copy)]
pub struct NextTargets<'a> {
    /// `[N]` catalogue row of each candidate.
    pub items: &'a [u32],
    /// `[N]`: log of how often a candidate is expected among the negatives that an element is compared with.
    pub log_q: &'a [f32],
    /// How the candidates after the first P are shared out: in order of the sequences or elements, equally many each;
    /// of a catalogue all rows in order.
    pub scope: Scope,
    /// Items of the catalogue.
    pub catalogue: usize,
}

/// What a retriever learns from: request r's positive is item column r; the columns after the R
/// positives are sampled negatives.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// `[N]` catalogue row of each item column, so that another request's positive that is also one's
    /// own is not taken for a negative.
    pub items: &'a [u32],
    /// `[N]`: log of how often a column is expected to be drawn; subtracted from its logits.
    pub log_q: &'a [f32],
    /// `[R]`, or empty when all are 1.
    pub weights: &'a [f32],
    /// Whether the other requests' positives are negatives too.
    pub mixed: bool,
    /// h: the last R · h columns are negatives of one request each, h after h in the order of the requests. One whose item is the
    /// request's positive stands for none.
    pub own: usize,
}

impl<'a> Targets<'a> {
    /// The softmax over the columns, of products over a temperature.
    pub fn in_batch(&self, temperature: f32) -> InBatch<'a> {
        InBatch {
            temperature,
            log_q: self.log_q,
            items: self.items,
            weights: self.weights,
            mixed: self.mixed,
            own: self.own,
        }
    }
}

/// One entry of [`RETRIEVERS`].
pub struct RetrieverDef {
    /// Name in configurations.
    pub name: &'static str,
    /// Whether the options are ones that the model has, without building it.
    pub check: fn(&ModelConfig) -> Result<(), Error>,
    /// Asks `Params` for what the model needs: created if absent, loaded if present.
    pub build: Build<dyn Retriever>,
    /// Whether it learns from whole sequences, see [`Retriever::next_items`].
    pub whole: bool,
    /// Whether it learns from a graph, see [`Retriever::graph`].
    pub graph: bool,
}

/// All retrievers. A new one is a file in `recall/` and a line here.
pub const RETRIEVERS: &[RetrieverDef] = &[
    two_tower::DEF,
    two_tower::DSSM,
    youtube_dnn::DEF,
    mind::DEF,
    comirec::DEF,
    dat::DEF,
    lightgcn::DEF,
    simplex::DEF,
    sasrec::DEF,
    gru4rec::DEF,
    intent_split::DEF,
    gat_entmax::DEF,
    sdm::DEF,
    multi_behaviour::DEF,
];

/// Builds the retriever that `cfg` names.
///
/// # Errors
/// An unknown name or option, a field that does not exist, a saved weight of another shape.
pub fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let def = RETRIEVERS.iter().find(|d| d.name == cfg.name).ok_or_else(|| {
        let valid: Vec<&str> = RETRIEVERS.iter().map(|d| d.name).collect();
        Error::Config(suggest::unknown("retriever", &cfg.name, valid.iter().copied()))
    })?;
    (def.build)(cfg, shape, params).map_err(|e| e.of_model(&cfg.name))
}
