//! What a retriever is, and the list of them.

use millstream_nn::{Inputs, Params, Pass, Tensor};
use millstream_schema::suggest;
use serde::{Deserialize, Serialize};

use crate::ranker::{Build, Shape};
use crate::recall::{gat_entmax, gru4rec, intent_split, multi_behaviour, sasrec, sdm, two_tower};
use crate::{Error, ModelConfig};

/// Puts users and items into one space, where the inner product says how well they go together.
pub trait Retriever: Send + Sync {
    /// User vectors `[R, K, D]`, K interests each.
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor;
    /// Item vectors `[N, D]`.
    fn items(&self, pass: &Pass, x: &Inputs) -> Tensor;
    /// Scalar training loss.
    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor;
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
}

/// Learns from whole sequences: the state after each element is to find the next item.
pub trait NextItems: Send + Sync {
    /// Whether the next items of all elements of a batch are negatives for each other.
    fn in_batch(&self) -> bool;
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
}

/// All retrievers. A new one is a file in `recall/` and a line here.
pub const RETRIEVERS: &[RetrieverDef] = &[
    two_tower::DEF,
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
    (def.build)(cfg, shape, params)
}
