//! The options of `[model.sequence]`, and of each `[[model.sequence]]` where there are several.

use millstream_nn::{Activation, BlockNorm, Combine, PairWeighting, SeqPool, TransformerConfig, UnitConfig};
use millstream_schema::{Field, Rows, suggest};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

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

/// The blocks of a ranker: one as a table `[model.sequence]`, or several as `[[model.sequence]]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Blocks(pub(crate) Vec<Behaviour>);

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Blocks;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table [model.sequence], or several tables [[model.sequence]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, one: A) -> Result<Blocks, A::Error> {
                Behaviour::deserialize(MapAccessDeserializer::new(one)).map(|one| Blocks(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut several: A) -> Result<Blocks, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = several.next_element()? {
                    blocks.push(block);
                }
                match blocks.is_empty() {
                    true => Err(A::Error::custom("[[model.sequence]] names no block; leave it out")),
                    false => Ok(Blocks(blocks)),
                }
            }
        }
        from.deserialize_any(OneOrSeveral)
    }
}

/// Which block of a configuration is meant, for what is said of it.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The model.
    pub model: &'a str,
    /// The block's place among them, from 0.
    pub at: usize,
    /// How many blocks there are.
    pub of: usize,
}

impl Place<'_> {
    pub(super) fn fail<T>(&self, text: impl fmt::Display) -> Result<T, Error> {
        Err(Error::Config(format!("model `{}`: {self} {text}", self.model)))
    }

    /// Name under which the block's weights stand: `sequence`, then `sequence2`, ….
    pub(super) fn weights(&self) -> String {
        match self.at {
            0 => "sequence".into(),
            at => format!("sequence{}", at + 1),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            0 | 1 => f.write_str("[model.sequence]"),
            _ => write!(f, "[[model.sequence]] number {}:", self.at + 1),
        }
    }
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
    pub(super) fn kind(&self, place: Place<'_>) -> Result<Kind, Error> {
        let Some((kind, name, taken)) = BLOCKS.iter().find(|(kind, ..)| Some(*kind) == self.block) else {
            let names: Vec<&str> = BLOCKS.iter().map(|(_, name, _)| *name).collect();
            return place.fail(format!("needs `block`, one of {}", names.join(", ")));
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
            return place
                .fail(format!("`{key}` means nothing for the block {name}; it takes {}", taken.join(", ")));
        }
        if self.scene.as_ref().is_some_and(Vec::is_empty) {
            return place.fail("scene must name a field");
        }
        if self.auxiliary.is_some_and(|weight| !weight.is_finite() || weight < 0.0) {
            return place.fail("auxiliary must be a number of at least 0");
        }
        match self.k {
            Some(0) => place.fail("k must be at least 1"),
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
    pub(super) fn session_block(&self, place: Place<'_>, width: usize) -> Result<TransformerConfig, Error> {
        let stack = self.transformer(width, BlockNorm::After, true);
        if stack.blocks != 1 || stack.places.is_some() {
            return place.fail(
                "transformer: dsin has one block, whose bias tells sessions and places apart; leave out `blocks` and \
                 `places`",
            );
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
    pub(super) fn feature(&self, place: Place<'_>, fields: &[Field]) -> Result<String, Error> {
        let mut known: Vec<&str> = Vec::new();
        for field in fields.iter().filter(|f| f.rows == Rows::Request) {
            let Some((name, element)) = field.name.rsplit_once('.') else { continue };
            if !known.contains(&name) && fields.iter().any(|f| f.name == element && f.rows == Rows::Candidate)
            {
                known.push(name);
            }
        }
        match (&self.feature, &known[..]) {
            (Some(name), known) if known.contains(&name.as_str()) => Ok(name.clone()),
            (_, []) => place.fail("there is no feature of kind \"sequence\" with elements"),
            (Some(name), known) => {
                place.fail(suggest::unknown("feature of kind \"sequence\"", name, known.iter().copied()))
            }
            (None, [only]) => Ok((*only).to_owned()),
            (None, several) => place.fail(format!("needs `feature`, one of {}", several.join(", "))),
        }
    }
}
