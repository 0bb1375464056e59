//! Blocks: options made layers.

use millstream_nn::{
    ActivationUnit, Augru, BlockNorm, Embed, EmbedSpec, Inputs, Params, Pass, SceneQuery, SeqEmbed,
    SeqEncoder, SeqPool, Sequence, SessionInterest, TargetAttention, TargetTransformer, Tensor,
};

use super::options::{Behaviour, Kind, Place};
use super::search::{SameCategory, category, found};
use crate::ranker::Shape;
use crate::{Error, ModelConfig};

/// A block with its layers.
pub(crate) struct Block {
    embed: SeqEmbed,
    /// What it reads out of a history, in embedding widths.
    parts: usize,
    scene: Option<(Embed, SceneQuery)>,
    reader: Reader,
    /// The fields that belong to the sequence.
    fields: Vec<usize>,
}

enum Reader {
    Pool(SeqPool),
    Attention(TargetAttention),
    Unit(ActivationUnit),
    SelfUnit(SeqEncoder, ActivationUnit),
    Transformer(TargetTransformer),
    Hard {
        unit: ActivationUnit,
        category: (usize, usize),
        k: usize,
    },
    Soft {
        unit: ActivationUnit,
        k: usize,
    },
    /// With the weight of the auxiliary loss.
    Evolution(Augru, Option<f32>),
    Sessions(Box<SessionInterest>),
}

impl Block {
    /// The block that `options` name, with weights `sequence.…`, those of further blocks `sequence2.…` and so on. Blocks over one
    /// feature share its tables and the vector of its strength.
    ///
    /// # Errors
    /// A block, feature or option that does not fit.
    pub fn new(
        (options, place): (&Behaviour, Place<'_>),
        (cfg, shape): (&ModelConfig, &Shape<'_>),
        spec: &EmbedSpec,
        params: &mut Params,
    ) -> Result<Self, Error> {
        let kind = options.kind(place)?;
        let name = options.feature(place, shape.fields)?;
        check_strength((options, place), shape, &name, params)?;
        let embed = SeqEmbed::new(params, shape.fields, &name, (spec, options.combine, options.strength))?;
        let weights = place.weights();
        let scene = scene((options, &weights), (cfg, shape), params, (spec, embed.key_width()))?;
        let prefix = format!("{name}.");
        let from = From { options, place, weights: &weights, sequence: &name, shape, embed: &embed };
        let reader = from.reader(kind, params)?;
        let belongs = |&f: &usize| shape.fields[f].name.starts_with(&prefix);
        let fields = (0..shape.fields.len()).filter(belongs).collect();
        // Sessions are read twice: what was wanted in them, and how one led to the next.
        let times = if matches!(reader, Reader::Sessions(_)) { 2 } else { 1 };
        Ok(Self { parts: times * embed.width() / spec.dim, embed, scene, reader, fields })
    }

    /// How many vectors of the embedding's width it adds to the fields.
    pub fn fields(&self) -> usize {
        self.parts
    }

    /// Whether this field is one of the sequence's.
    pub fn owns(&self, field: usize) -> bool {
        self.fields.contains(&field)
    }

    /// Interests `[N, F', D]`; zero for an empty history, but for those of `bst`, which reads the candidate too.
    pub fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let mut seq = self.embed.forward(pass, x);
        if let Some((embed, query)) = &self.scene {
            seq.target = query.forward(pass, &seq.target, &embed.forward(pass, x).flatten());
        }
        let interest = self.read(pass, x, &seq); // [N, W]
        interest.reshape(&[x.candidates(), self.parts, interest.width() / self.parts])
    }

    fn read(&self, pass: &Pass, x: &Inputs, seq: &Sequence) -> Tensor {
        match &self.reader {
            Reader::Pool(pool) => x.expand(&pool.forward(pass, seq)),
            Reader::Attention(attention) => attention.forward(pass, seq),
            Reader::Unit(unit) => unit.forward(pass, seq),
            Reader::SelfUnit(encoder, unit) => unit.forward(pass, &encoder.encode(pass, seq)),
            Reader::Transformer(transformer) => transformer.forward(pass, seq),
            Reader::Soft { unit, k } => unit.forward(pass, &seq.nearest(*k)),
            Reader::Hard { unit, category, k } => {
                let (same, pairs) = (SameCategory::new(x, *category), &seq.pairs);
                let (offsets, elements) = found(pairs.candidates(), |n| same.latest(pairs, n, *k));
                unit.forward(pass, &seq.select(offsets, elements))
            }
            Reader::Evolution(augru, auxiliary) => {
                let states = augru.states(pass, seq);
                if let Some(weight) = auxiliary.filter(|_| pass.is_training()) {
                    let loss = seq.next_action_loss(pass, &states);
                    loss.into_iter().for_each(|loss| pass.add_loss(loss.scale(weight)));
                }
                augru.forward(pass, seq, &states)
            }
            Reader::Sessions(sessions) => sessions.forward(pass, seq),
        }
    }
}

/// What a reader is made from.
struct From<'a> {
    options: &'a Behaviour,
    place: Place<'a>,
    /// Name under which the weights stand.
    weights: &'a str,
    /// Name of the sequence feature.
    sequence: &'a str,
    shape: &'a Shape<'a>,
    embed: &'a SeqEmbed,
}

impl From<'_> {
    fn reader(&self, kind: Kind, params: &mut Params) -> Result<Reader, Error> {
        let (options, keys, name) = (self.options, self.embed.key_width(), self.weights);
        Ok(match kind {
            Kind::MeanPool => {
                let pool = options.pool.unwrap_or_default();
                pool.check(self.sequence, self.embed.has_gaps())?;
                Reader::Pool(pool)
            }
            Kind::TargetAttention => {
                Reader::Attention(TargetAttention::new(params, name, (keys, keys), options.weights())?)
            }
            Kind::Din => Reader::Unit(self.unit(params)?),
            Kind::DinSelf => Reader::SelfUnit(self.encoder(params, BlockNorm::Before)?, self.unit(params)?),
            Kind::Bst => {
                let encoder = (self.encoder(params, BlockNorm::After)?, self.embed.width());
                let pool = options.pool.unwrap_or(SeqPool::Last);
                Reader::Transformer(TargetTransformer::new(params, name, encoder, pool)?)
            }
            Kind::SimSoft => Reader::Soft { unit: self.unit(params)?, k: options.k() },
            Kind::SimHard => {
                let category = category(options, self.place, self.sequence, self.shape.fields)?;
                Reader::Hard { unit: self.unit(params)?, category, k: options.k() }
            }
            Kind::Dien => {
                let augru = Augru::new(params, name, (keys, self.embed.width()))?;
                Reader::Evolution(augru, options.auxiliary())
            }
            Kind::Dsin => {
                if !self.embed.has_sessions() {
                    return self.place.fail(format!(
                        "sessions need `session_gap_mins` of the sequence `{}`, such as 30: minutes without an action that \
                         end one",
                        self.sequence
                    ));
                }
                let block = options.session_block(self.place, self.embed.width())?;
                let weights = options.weights();
                let sessions = SessionInterest::new(params, name, (keys, &block), weights)?;
                Reader::Sessions(Box::new(sessions))
            }
        })
    }

    fn unit(&self, params: &mut Params) -> Result<ActivationUnit, Error> {
        let sizes = (self.embed.key_width(), self.embed.context_width());
        Ok(ActivationUnit::new(params, self.weights, sizes, &self.options.unit())?)
    }

    fn encoder(&self, params: &mut Params, norm: BlockNorm) -> Result<SeqEncoder, Error> {
        let stack = self.options.transformer(self.embed.width(), norm, self.embed.has_gaps());
        let name = format!("{}.transformer", self.weights);
        Ok(SeqEncoder::new(params, &name, (stack.blocks, stack.places), &stack.block)?)
    }
}

/// Refuses strengths of a feature that has none, for all would be 1. Saved models are opened as they were trained.
fn check_strength(
    (options, place): (&Behaviour, Place<'_>),
    shape: &Shape<'_>,
    sequence: &str,
    params: &Params,
) -> Result<(), Error> {
    let own = |name: &str| name.strip_prefix(sequence).is_some_and(|rest| rest.starts_with('.'));
    let has = shape.fields.iter().any(|field| own(&field.name) && field.weighted);
    let key = match (options.strength, options.pool) {
        (true, _) => "`strength = true`",
        (false, Some(SeqPool::Strength)) => "`pool = \"strength\"`",
        _ => return Ok(()),
    };
    match has || params.is_loaded() {
        true => Ok(()),
        false => place.fail(format!(
            "{key} needs the strength of actions; say `strength = true` of the feature `{sequence}` too"
        )),
    }
}

/// The embedding of the fields that decide with the candidate what is looked for, and what they make of it.
fn scene(
    (options, weights): (&Behaviour, &str),
    (cfg, shape): (&ModelConfig, &Shape<'_>),
    params: &mut Params,
    (spec, keys): (&EmbedSpec, usize),
) -> Result<Option<(Embed, SceneQuery)>, Error> {
    let Some(names) = &options.scene else { return Ok(None) };
    let chosen = cfg.places(names, shape.fields)?;
    let embed = Embed::new(params, shape.fields, &chosen, spec)?;
    let sizes = (embed.fields() * embed.dim(), keys);
    let query = SceneQuery::new(params, &format!("{weights}.scene"), sizes)?;
    Ok(Some((embed, query)))
}
