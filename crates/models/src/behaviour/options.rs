//! The options of `[model.sequence]`.

use millstream_nn::{Activation, BlockNorm, Combine, PairWeighting, SeqPool, TransformerConfig, UnitConfig};
use millstream_schema::{Field, Rows, suggest};
use serde::Deserialize;

use crate::Error;

/// Latest elements or best matches kept by the search units, where the configuration does not say.
const FOUND: usize = 50;
/// Places that are told apart where there are no time gaps and the configuration does not say.
const PLACES: usize = 50;

/// What a block makes of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Its elements pooled, whatever the candidate.
    MeanPool,
    /// Scaled dot products with the candidate, softmax.
    TargetAttention,
    /// DIN's activation unit.
    Din,
    /// Self-attention within the history, then the unit.
    DinSelf,
    /// Transformer blocks over the history and the candidate.
    Bst,
    /// The unit over the elements of the candidate's category.
    SimHard,
    /// The unit over the k elements most like the candidate.
    SimSoft,
    /// DIEN's interest evolution.
    Dien,
    /// DSIN's interests of sessions.
    Dsin,
}

/// Every block by name, and the options that it takes beside those of all.
const BLOCKS: [(Kind, &str, &[&str]); 9] = [
    (Kind::MeanPool, "mean_pool", &["pool"]),
    (Kind::TargetAttention, "target_attention", &["weights", "scene"]),
    (Kind::Din, "din", &["unit", "activation", "weights", "scene"]),
    (Kind::DinSelf, "din_self", &["transformer", "unit", "activation", "weights", "scene"]),
    (Kind::Bst, "bst", &["transformer", "pool", "scene"]),
    (Kind::SimHard, "sim_hard", &["category", "k", "unit", "activation", "weights", "scene"]),
    (Kind::SimSoft, "sim_soft", &["k", "unit", "activation", "weights", "scene"]),
    (Kind::Dien, "dien", &["auxiliary", "scene"]),
    (Kind::Dsin, "dsin", &["transformer", "weights", "scene"]),
];

/// `[model.sequence]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Behaviour {
    /// What is made of the history; a ranker named after a block has its own.
    pub block: Option<Kind>,
    /// The sequence feature; may be left out where there is only one.
    pub feature: Option<String>,
    /// How an element's embeddings become one.
    pub combine: Combine,
    /// Whether the strength of actions is part of the elements (`strength = true` of the feature; else all are 1).
    pub strength: bool,
    /// Fields that decide, with the candidate, what is looked for.
    pub scene: Option<Vec<String>>,
    /// Widths of the unit's hidden layers.
    unit: Option<Vec<usize>>,
    /// The unit's activation.
    activation: Option<Activation>,
    /// What becomes of the scores.
    weights: Option<PairWeighting>,
    /// How elements are pooled.
    pub pool: Option<SeqPool>,
    /// Most elements that a search keeps.
    k: Option<usize>,
    /// The element that is the category of a hard search.
    pub category: Option<String>,
    /// Blocks of self-attention.
    transformer: Option<Transformer>,
    /// Weight of the loss that tells the next action from another; 0 for none.
    auxiliary: Option<f32>,
}

/// Transformer blocks, ready to be made.
pub(super) struct Stack {
    /// How many.
    pub blocks: usize,
    /// Places that are told apart.
    pub places: Option<usize>,
    /// What each is.
    pub block: TransformerConfig,
}

/// `[model.sequence.transformer]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Transformer {
    blocks: usize,
    heads: usize,
    /// Width inside the feed-forward parts, in multiples of an element's.
    feed: usize,
    dropout: f32,
    /// Where a block normalises.
    norm: Option<BlockNorm>,
    /// Whether an element sees itself and earlier ones only.
    causal: bool,
    /// Learned places, counted from the sequence's end; 0 for none.
    places: Option<usize>,
    /// Base of rotary position embeddings; none when absent.
    rotary: Option<f32>,
    /// Only so many elements back (and forth) are seen in each block.
    window: Option<usize>,
}

impl Default for Transformer {
    fn default() -> Self {
        Self {
            blocks: 1,
            heads: 1,
            feed: 4,
            dropout: 0.0,
            norm: None,
            causal: false,
            places: None,
            rotary: None,
            window: None,
        }
    }
}

impl Behaviour {
    /// The block; options that mean nothing to it are refused.
    ///
    /// # Errors
    /// No block, or an option of another block.
    pub(super) fn kind(&self, model: &str) -> Result<Kind, Error> {
        let fail = |text: String| Err(Error::Config(format!("model `{model}`: [model.sequence] {text}")));
        let Some((kind, name, taken)) = BLOCKS.iter().find(|(kind, ..)| Some(*kind) == self.block) else {
            let names: Vec<&str> = BLOCKS.iter().map(|(_, name, _)| *name).collect();
            return fail(format!("needs `block`, one of {}", names.join(", ")));
        };
        let written = [
            ("scene", self.scene.is_some()),
            ("unit", self.unit.is_some()),
            ("activation", self.activation.is_some()),
            ("weights", self.weights.is_some()),
            ("pool", self.pool.is_some()),
            ("k", self.k.is_some()),
            ("category", self.category.is_some()),
            ("transformer", self.transformer.is_some()),
            ("auxiliary", self.auxiliary.is_some()),
        ];
        if let Some((key, _)) = written.iter().find(|(key, set)| *set && !taken.contains(key)) {
            return fail(format!(
                "`{key}` means nothing for the block {name}; it takes {}",
                taken.join(", ")
            ));
        }
        if self.scene.as_ref().is_some_and(Vec::is_empty) {
            return fail("scene must name a field".into());
        }
        if self.auxiliary.is_some_and(|weight| !weight.is_finite() || weight < 0.0) {
            return fail("auxiliary must be a number of at least 0".into());
        }
        match self.k {
            Some(0) => fail("k must be at least 1".into()),
            _ => Ok(*kind),
        }
    }

    /// Most elements that a search keeps.
    pub(super) fn k(&self) -> usize {
        self.k.unwrap_or(FOUND)
    }

    /// Weight of the loss that tells the next action from another, where there is to be one.
    pub(super) fn auxiliary(&self) -> Option<f32> {
        Some(self.auxiliary.unwrap_or(1.0)).filter(|weight| *weight > 0.0)
    }

    /// What becomes of the scores of attention, softmax where nothing is said.
    pub(super) fn weights(&self) -> PairWeighting {
        self.weights.unwrap_or(PairWeighting::Softmax)
    }

    /// The block within sessions of elements of this width, which tells places apart by itself.
    ///
    /// # Errors
    /// Several blocks, or learned places.
    pub(super) fn session_block(&self, model: &str, width: usize) -> Result<TransformerConfig, Error> {
        let stack = self.transformer(width, BlockNorm::After, true);
        if stack.blocks != 1 || stack.places.is_some() {
            return Err(Error::Config(format!(
                "model `{model}`: [model.sequence] transformer: dsin has one block, whose bias tells sessions and places \
                 apart; leave out `blocks` and `places`"
            )));
        }
        Ok(stack.block)
    }

    /// Blocks of self-attention over elements of this width: how many, how many places they tell apart, and what each is. Without
    /// time gaps places are told apart where nothing is said.
    pub(super) fn transformer(&self, width: usize, norm: BlockNorm, gap: bool) -> Stack {
        let own = self.transformer.clone().unwrap_or_default();
        let places = own.places.unwrap_or(if gap { 0 } else { PLACES });
        let block = TransformerConfig {
            heads: own.heads,
            hidden: own.feed * width,
            dropout: own.dropout,
            norm: own.norm.unwrap_or(norm),
            causal: own.causal,
            window: own.window,
            rotary: own.rotary,
            ..TransformerConfig::new(width)
        };
        Stack { blocks: own.blocks, places: (places > 0).then_some(places), block }
    }

    pub(super) fn unit(&self) -> UnitConfig {
        let default = UnitConfig::default();
        UnitConfig {
            hidden: self.unit.clone().unwrap_or(default.hidden),
            activation: self.activation.unwrap_or(default.activation),
            weighting: self.weights.unwrap_or_default(),
        }
    }

    /// The sequence feature, which the configuration need not name where there is only one.
    ///
    /// # Errors
    /// None, several and none named, or one that is none.
    pub(super) fn feature(&self, model: &str, fields: &[Field]) -> Result<String, Error> {
        let mut known: Vec<&str> = Vec::new();
        for field in fields.iter().filter(|f| f.rows == Rows::Request) {
            let Some((name, element)) = field.name.rsplit_once('.') else { continue };
            if !known.contains(&name) && fields.iter().any(|f| f.name == element && f.rows == Rows::Candidate)
            {
                known.push(name);
            }
        }
        let fail = |text: String| Err(Error::Config(format!("model `{model}`: [model.sequence] {text}")));
        match (&self.feature, &known[..]) {
            (Some(name), known) if known.contains(&name.as_str()) => Ok(name.clone()),
            (_, []) => fail("there is no feature of kind \"sequence\" with elements".into()),
            (Some(name), known) => {
                fail(suggest::unknown("feature of kind \"sequence\"", name, known.iter().copied()))
            }
            (None, [only]) => Ok((*only).to_owned()),
            (None, several) => fail(format!("needs `feature`, one of {}", several.join(", "))),
        }
    }
}
