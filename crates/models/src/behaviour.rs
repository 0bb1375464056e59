//! Blocks that read what a user did before: options, and the vectors they add to a ranker's fields.
//!
//! `[model.sequence]` names a block for any ranker that crosses embedded fields; its pooled vector, as many embedding widths wide as
//! an element has parts, joins the fields. The rankers `mean_pool`, `din`, `sim_hard`, `sim_soft` and `dien` are a tower over the fields with
//! their block. The sequence's own fields are then not pooled into the fields a second time.

use millstream_nn::{
    Activation, ActivationUnit, Augru, Combine, EmbedSpec, FieldInput, Inputs, Linear, MlpConfig,
    PairWeighting, Params, Pass, SeqEmbed, SeqPool, Sequence, TargetAttention, Tensor, UnitConfig,
};
use millstream_schema::{Field, Rows, encode, suggest};
use rayon::prelude::*;
use serde::Deserialize;

use crate::neural::{Fields, Neural, Tower};
use crate::ranker::{Ranker, Shape};
use crate::{Error, ModelConfig};

/// Latest elements or best matches kept by the search units, where the configuration does not say.
const FOUND: usize = 50;

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
    /// The unit over the elements of the candidate's category.
    SimHard,
    /// The unit over the k elements most like the candidate.
    SimSoft,
    /// DIEN's interest evolution.
    Dien,
}

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
    /// Widths of the unit's hidden layers.
    unit: Option<Vec<usize>>,
    /// The unit's activation.
    activation: Option<Activation>,
    /// What becomes of the scores.
    weights: Option<PairWeighting>,
    /// How elements are pooled.
    pool: Option<SeqPool>,
    /// Most elements that a search keeps.
    k: Option<usize>,
    /// The element that is the category of a hard search.
    category: Option<String>,
}

impl Behaviour {
    /// The block; options that mean nothing to it are refused.
    ///
    /// # Errors
    /// No block, or an option of another block.
    fn kind(&self, model: &str) -> Result<Kind, Error> {
        let fail = |text: String| Err(Error::Config(format!("model `{model}`: [model.sequence] {text}")));
        let Some(kind) = self.block else {
            return fail(
                "needs `block`: mean_pool, target_attention, din, sim_hard, sim_soft or dien".into(),
            );
        };
        let has_unit = matches!(kind, Kind::Din | Kind::SimHard | Kind::SimSoft);
        let searches = matches!(kind, Kind::SimHard | Kind::SimSoft);
        let strange = [
            ("unit", self.unit.is_some() && !has_unit),
            ("activation", self.activation.is_some() && !has_unit),
            ("weights", self.weights.is_some() && !has_unit && kind != Kind::TargetAttention),
            ("pool", self.pool.is_some() && kind != Kind::MeanPool),
            ("k", self.k.is_some() && !searches),
            ("category", self.category.is_some() && kind != Kind::SimHard),
        ];
        if let Some((key, _)) = strange.iter().find(|(_, strange)| *strange) {
            return fail(format!("`{key}` means nothing for this block"));
        }
        match self.k {
            Some(0) => fail("k must be at least 1".into()),
            _ => Ok(kind),
        }
    }

    fn unit(&self) -> UnitConfig {
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
    fn feature(&self, model: &str, fields: &[Field]) -> Result<String, Error> {
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

/// A block with its layers.
pub(crate) struct Block {
    embed: SeqEmbed,
    /// Parts of an element: how many embedding widths wide it is.
    parts: usize,
    reader: Reader,
    /// The fields that belong to the sequence.
    fields: Vec<usize>,
}

enum Reader {
    Pool(SeqPool),
    Attention(TargetAttention),
    Unit(ActivationUnit),
    Hard { unit: ActivationUnit, category: (usize, usize), k: usize },
    Soft { unit: ActivationUnit, k: usize },
    Evolution(Augru),
}

impl Block {
    /// The block that `options` name, with weights `sequence.…`.
    ///
    /// # Errors
    /// A block, feature or option that does not fit.
    pub fn new(
        options: &Behaviour,
        (cfg, shape): (&ModelConfig, &Shape<'_>),
        spec: &EmbedSpec,
        params: &mut Params,
    ) -> Result<Self, Error> {
        let kind = options.kind(&cfg.name)?;
        let name = options.feature(&cfg.name, shape.fields)?;
        let embed = SeqEmbed::new(params, shape.fields, &name, (spec, options.combine, options.strength))?;
        let (sizes, at) = ((embed.key_width(), embed.context_width()), "sequence");
        let prefix = format!("{name}.");
        let place = |wanted: &str| shape.fields.iter().position(|f| f.name == wanted);
        let mut unit = || ActivationUnit::new(params, at, sizes, &options.unit());
        let reader = match kind {
            Kind::MeanPool => {
                let pool = options.pool.unwrap_or_default();
                pool.check(&name, place(&format!("{prefix}gap")).is_some())?;
                Reader::Pool(pool)
            }
            Kind::TargetAttention => {
                let weights = options.weights.unwrap_or(PairWeighting::Softmax);
                Reader::Attention(TargetAttention::new(params, at, (sizes.0, sizes.0), weights)?)
            }
            Kind::Din => Reader::Unit(unit()?),
            Kind::SimSoft => Reader::Soft { unit: unit()?, k: options.k.unwrap_or(FOUND) },
            Kind::SimHard => {
                let category = category(options, &cfg.name, &prefix, shape.fields)?;
                Reader::Hard { unit: unit()?, category, k: options.k.unwrap_or(FOUND) }
            }
            Kind::Dien => Reader::Evolution(Augru::new(params, at, (sizes.0, embed.width()))?),
        };
        let belongs = |&f: &usize| shape.fields[f].name.starts_with(&prefix);
        let fields = (0..shape.fields.len()).filter(belongs).collect();
        Ok(Self { parts: embed.width() / spec.dim, embed, reader, fields })
    }

    /// How many vectors of the embedding's width it adds to the fields.
    pub fn fields(&self) -> usize {
        self.parts
    }

    /// Whether this field is one of the sequence's.
    pub fn owns(&self, field: usize) -> bool {
        self.fields.contains(&field)
    }

    /// Interests `[N, F', D]`; zero for an empty history.
    pub fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let seq = self.embed.forward(pass, x);
        let interest = match &self.reader {
            Reader::Pool(pool) => x.expand(&pool.forward(pass, &seq)),
            Reader::Attention(attention) => attention.forward(pass, &seq),
            Reader::Unit(unit) => unit.forward(pass, &seq),
            Reader::Soft { unit, k } => {
                let search = Search::new(&seq);
                let (offsets, elements) = found(seq.pairs.candidates(), |n| search.nearest(n, *k));
                unit.forward(pass, &seq.select(offsets, elements))
            }
            Reader::Hard { unit, category, k } => {
                let (same, pairs) = (SameCategory::new(x, *category), &seq.pairs);
                let (offsets, elements) = found(pairs.candidates(), |n| same.latest(pairs, n, *k));
                unit.forward(pass, &seq.select(offsets, elements))
            }
            Reader::Evolution(augru) => augru.forward(pass, &seq),
        }; // [N, W]
        interest.reshape(&[x.candidates(), self.parts, interest.width() / self.parts])
    }
}

/// Places of the category among the sequence's fields and the candidate's.
fn category(
    options: &Behaviour,
    model: &str,
    prefix: &str,
    fields: &[Field],
) -> Result<(usize, usize), Error> {
    let own = |f: &Field| f.name.strip_prefix(prefix).map(str::to_owned);
    let elements: Vec<String> =
        fields.iter().filter_map(own).filter(|e| fields.iter().any(|f| f.name == *e)).collect();
    let valid = || elements.iter().map(String::as_str);
    let Some(name) = &options.category else {
        return Err(Error::Config(format!(
            "model `{model}`: [model.sequence] needs `category`, the element that must be the candidate's; one of {}",
            valid().collect::<Vec<_>>().join(", ")
        )));
    };
    let place = |wanted: &str| fields.iter().position(|f| f.name == wanted);
    match (elements.contains(name), place(&format!("{prefix}{name}")), place(name)) {
        (true, Some(element), Some(own)) => Ok((element, own)),
        _ => Err(Error::Config(format!(
            "model `{model}`: [model.sequence] category: {}",
            suggest::unknown("element", name, valid())
        ))),
    }
}

/// What a search looks at.
struct Search<'a> {
    keys: &'a [f32],
    target: &'a [f32],
    width: usize,
    pairs: &'a millstream_nn::Pairs,
}

impl<'a> Search<'a> {
    fn new(seq: &'a Sequence) -> Self {
        let (keys, target) = (seq.keys.values().data(), seq.target.data());
        Self { keys, target, width: seq.keys.width(), pairs: &seq.pairs }
    }

    /// The k elements with the greatest inner product with candidate `n`, of equal ones the later; in their order.
    fn nearest(&self, n: usize, k: usize) -> Vec<u32> {
        let elements = self.pairs.elements_of(n);
        if elements.len() <= k {
            return elements.map(|e| e as u32).collect();
        }
        let (w, t) = (self.width, &self.target[n * self.width..][..self.width]);
        let score = |e: usize| self.keys[e * w..][..w].iter().zip(t).map(|(a, b)| a * b).sum::<f32>();
        let mut scored: Vec<(f32, u32)> = elements.map(|e| (score(e), e as u32)).collect();
        scored.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        let mut best: Vec<u32> = scored[..k].iter().map(|(_, e)| *e).collect();
        best.sort_unstable();
        best
    }
}

/// The categories of elements and candidates.
struct SameCategory {
    elements: Vec<u64>,
    candidates: Vec<u64>,
}

impl SameCategory {
    /// From the places of the category among the sequence's fields and the candidate's.
    fn new(x: &Inputs, (element, own): (usize, usize)) -> Self {
        let keys = |field: usize| {
            let unique = x.unique_keys(field);
            let places = match x.field(field) {
                FieldInput::Key(places) => &places[..],
                FieldInput::Keys(bags) => bags.index(),
                FieldInput::Dense { .. } => &[],
            };
            places.iter().map(|place| unique[*place as usize]).collect()
        };
        Self { elements: keys(element), candidates: keys(own) }
    }

    /// The latest k elements of candidate `n`'s category; none where its category is missing or unknown.
    fn latest(&self, pairs: &millstream_nn::Pairs, n: usize, k: usize) -> Vec<u32> {
        let wanted = self.candidates[n];
        if wanted < encode::FIRST {
            return Vec::new();
        }
        let same = |e: &usize| self.elements[*e] == wanted;
        let mut found: Vec<u32> = pairs.elements_of(n).rev().filter(same).take(k).map(|e| e as u32).collect();
        found.reverse();
        found
    }
}

/// `search(n)` for all N candidates: how many each found, as offsets, and what.
fn found(n: usize, search: impl Fn(usize) -> Vec<u32> + Sync + Send) -> (Vec<u32>, Vec<u32>) {
    let found: Vec<Vec<u32>> = (0..n).into_par_iter().with_min_len(16).map(search).collect();
    let mut offsets = Vec::with_capacity(n + 1);
    offsets.push(0);
    found.iter().for_each(|f| offsets.push(offsets[offsets.len() - 1] + f.len() as u32));
    (offsets, found.concat())
}

/// A tower over the fields and a block's interest: what the rankers named after a block are.
struct TowerOver {
    fields: Fields,
    tower: Tower,
    head: Linear,
}

/// The defaults of those rankers: a tower of 200 and 80 with Dice, as in DIN's paper.
pub(crate) fn defaults() -> Neural {
    let mlp = MlpConfig { hidden: vec![200, 80], activation: Activation::Dice, ..MlpConfig::default() };
    Neural { mlp, ..Neural::default() }
}

/// A tower over the fields and the interest that `kind` reads out of the history.
///
/// # Errors
/// `block` beside a ranker that has its own, or as [`Neural::fields`].
pub(crate) fn build(
    kind: Kind,
    mut neural: Neural,
    (cfg, shape): (&ModelConfig, &Shape<'_>),
    params: &mut Params,
) -> Result<Box<dyn Ranker>, Error> {
    let mut sequence = neural.sequence.take().unwrap_or_default();
    if sequence.block.is_some() {
        return Err(Error::Config(format!(
            "model `{}` has a block of its own; leave out `block` of [model.sequence]",
            cfg.name
        )));
    }
    sequence.block = Some(kind);
    neural.sequence = Some(sequence);
    let fields = neural.fields(cfg, shape, params)?;
    let tower = neural.tower((cfg, shape), params, "tower", fields.width())?;
    let head = Linear::new(params, "head", tower.outputs(), shape.tasks)?;
    Ok(Box::new(TowerOver { fields, tower, head }))
}

impl Ranker for TowerOver {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let v = self.fields.forward(pass, x); // [N, F, D], the interest last
        let h = self.tower.forward(pass, x, &v.flatten()); // [N, H]
        self.head.forward(pass, &h) // [N, T]
    }
}
