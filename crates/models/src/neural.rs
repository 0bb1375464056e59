//! What neural rankers share: their options, the embedding of the fields, and towers with or without gates.

use millstream_nn::{Embed, EmbedSpec, Inputs, Lhuc, Mlp, MlpConfig, Params, Pass, RowInit, Tensor};
use millstream_schema::suggest;
use serde::{Deserialize, Deserializer};

use crate::behaviour::{Block, Blocks, Place};
use crate::ranker::Shape;
use crate::{Error, ModelConfig};

/// Declares a neural ranker's `Config`: the options that all of them have, with the defaults of a [`Neural`], and its own.
macro_rules! options {
    ($all:expr; $($(#[$meta:meta])* $field:ident: $type:ty = $default:expr,)*) => {
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Config {
            #[serde(deserialize_with = "crate::neural::one_width")]
            embedding: usize,
            init_std: f32,
            embedding_dropout: f32,
            hidden: Vec<usize>,
            dropout: f32,
            batch_norm: bool,
            activation: millstream_nn::Activation,
            weight_init: millstream_nn::Init,
            lhuc: Option<crate::neural::Gate>,
            sequence: crate::behaviour::Blocks,
            $($(#[$meta])* $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                let all: crate::neural::Neural = $all;
                Self {
                    embedding: all.embedding,
                    init_std: all.init_std,
                    embedding_dropout: all.embedding_dropout,
                    hidden: all.mlp.hidden,
                    dropout: all.mlp.dropout,
                    batch_norm: all.mlp.batch_norm,
                    activation: all.mlp.activation,
                    weight_init: all.mlp.weight_init,
                    lhuc: None,
                    sequence: crate::behaviour::Blocks::default(),
                    $($field: $default,)*
                }
            }
        }

        impl Config {
            /// The options that all neural rankers have.
            fn neural(&self) -> crate::neural::Neural {
                crate::neural::Neural {
                    embedding: self.embedding,
                    init_std: self.init_std,
                    embedding_dropout: self.embedding_dropout,
                    mlp: millstream_nn::MlpConfig {
                        hidden: self.hidden.clone(),
                        activation: self.activation,
                        dropout: self.dropout,
                        batch_norm: self.batch_norm,
                        weight_init: self.weight_init,
                    },
                    lhuc: self.lhuc.clone(),
                    sequence: self.sequence.clone(),
                }
            }
        }
    };
}
pub(crate) use options;

/// Options that all neural rankers have; in a configuration `hidden`, `dropout`, `batch_norm`, `activation` and
/// `weight_init` stand beside the
/// others.
#[derive(Debug, Clone)]
pub(crate) struct Neural {
    /// D: width of each field's embedding.
    pub embedding: usize,
    /// Standard deviation of fresh embeddings.
    pub init_std: f32,
    /// Probability of dropping an embedding's element, in [0, 1).
    pub embedding_dropout: f32,
    /// The tower.
    pub mlp: MlpConfig,
    /// Gates on the tower's hidden layers.
    pub lhuc: Option<Gate>,
    /// Blocks over histories, whose vectors join the fields.
    pub sequence: Blocks,
}

impl Default for Neural {
    fn default() -> Self {
        let mlp = MlpConfig { hidden: vec![400, 400, 400], ..MlpConfig::default() };
        Self {
            embedding: 16,
            init_std: 1e-4,
            embedding_dropout: 0.0,
            mlp,
            lhuc: None,
            sequence: Blocks::default(),
        }
    }
}

/// `lhuc = { fields = ["user_id"], hidden = [64] }`: each hidden layer of the tower is multiplied by 2σ(MLP(fields)).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gate {
    /// Fields that decide: the user, the scene.
    pub fields: Vec<String>,
    /// Layers of the gate's MLP before its last.
    #[serde(default = "gate_hidden")]
    pub hidden: Vec<usize>,
}

fn gate_hidden() -> Vec<usize> {
    vec![64]
}

/// A width that all fields share.
///
/// # Errors
/// Anything but one whole number.
pub(crate) fn one_width<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    struct Width;
    impl serde::de::Visitor<'_> for Width {
        type Value = usize;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("`embedding` to be one whole number above 0: all fields share a width")
        }

        fn visit_i64<E: serde::de::Error>(self, width: i64) -> Result<usize, E> {
            match usize::try_from(width) {
                Ok(width) if width > 0 => Ok(width),
                _ => Err(E::invalid_value(serde::de::Unexpected::Signed(width), &self)),
            }
        }
    }
    from.deserialize_i64(Width)
}

/// Embeddings of the fields a model sees.
pub(crate) struct Fields {
    embed: Embed,
    dropout: f32,
    /// Places in the encoder's fields.
    pub chosen: Vec<usize>,
    blocks: Vec<Block>,
}

impl Fields {
    /// F: the chosen fields, and then those of the blocks over histories, one after the other.
    pub fn count(&self) -> usize {
        self.embed.fields() + self.blocks.iter().map(Block::fields).sum::<usize>()
    }

    /// F·D.
    pub fn width(&self) -> usize {
        self.count() * self.embed.dim()
    }

    /// `[N, F, D]`.
    pub fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let own = self.embed.forward(pass, x);
        if self.blocks.is_empty() {
            return own.dropout(pass, self.dropout);
        }
        let (n, d) = (x.candidates(), self.embed.dim());
        let interests = self.blocks.iter().map(|block| block.forward(pass, x).flatten());
        let joined = Tensor::join(std::iter::once(own.flatten()).chain(interests));
        joined.reshape(&[n, self.count(), d]).dropout(pass, self.dropout)
    }
}

/// A tower, gated or not.
pub(crate) struct Tower {
    mlp: Mlp,
    gate: Option<(Embed, Lhuc)>,
}

impl Tower {
    /// Width of the last layer.
    pub fn outputs(&self) -> usize {
        self.mlp.outputs()
    }

    /// `[N, inputs]` → `[N, outputs]`.
    pub fn forward(&self, pass: &Pass, x: &Inputs, h: &Tensor) -> Tensor {
        let Some((embed, lhuc)) = &self.gate else { return self.mlp.forward(pass, h) };
        let gates = lhuc.forward(pass, &embed.forward(pass, x).flatten());
        self.mlp.forward_gated(pass, h, &gates)
    }
}

impl Neural {
    /// The defaults without a tower.
    pub fn without_tower() -> Self {
        let all = Self::default();
        Self { mlp: MlpConfig { hidden: Vec::new(), ..all.mlp }, ..all }
    }

    /// Embeddings `space/d{D}` of the chosen fields.
    ///
    /// # Errors
    /// A field that does not exist, a dropout outside [0, 1).
    pub fn fields(&self, cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Fields, Error> {
        if !(0.0..1.0).contains(&self.embedding_dropout) {
            return Err(Error::Config(format!(
                "model `{}`: embedding_dropout is {}, expected 0 up to but below 1",
                cfg.name, self.embedding_dropout
            )));
        }
        let (spec, mut chosen) = (self.spec(), cfg.chosen(shape.fields)?);
        let Blocks(blocks) = &self.sequence;
        let place = |at: usize| Place { model: &cfg.name, at, of: blocks.len() };
        let made = blocks.iter().enumerate();
        let made = made.map(|(at, block)| Block::new((block, place(at)), (cfg, shape), &spec, params));
        let blocks: Vec<Block> = made.collect::<Result<_, _>>()?;
        chosen.retain(|&field| !blocks.iter().any(|block| block.owns(field)));
        let embed = Embed::new(params, shape.fields, &chosen, &spec)?;
        Ok(Fields { embed, dropout: self.embedding_dropout, chosen, blocks })
    }

    /// A tower over `inputs` columns, with layers `name.0`, ..; its gate, if asked for, is `name.lhuc` and looks at the
    /// embeddings of its fields in the model's own tables.
    ///
    /// # Errors
    /// A gate on a tower without a layer, or on a field that does not exist.
    pub fn tower(
        &self,
        (cfg, shape): (&ModelConfig, &Shape<'_>),
        params: &mut Params,
        name: &str,
        inputs: usize,
    ) -> Result<Tower, Error> {
        let mlp = Mlp::new(params, name, inputs, &self.mlp)?;
        let Some(gate) = &self.lhuc else { return Ok(Tower { mlp, gate: None }) };
        if mlp.widths().is_empty() || gate.fields.is_empty() {
            return Err(Error::Config(format!(
                "model `{}`: lhuc needs a hidden layer to scale and a field that decides",
                cfg.name
            )));
        }
        let chosen = cfg.places(&gate.fields, shape.fields)?;
        let embed = Embed::new(params, shape.fields, &chosen, &self.spec())?;
        let width = embed.fields() * embed.dim();
        let lhuc = Lhuc::new(params, &format!("{name}.lhuc"), width, &gate.hidden, &mlp.widths())?;
        Ok(Tower { mlp, gate: Some((embed, lhuc)) })
    }

    fn spec(&self) -> EmbedSpec {
        EmbedSpec { init: RowInit::Normal(self.init_std), ..EmbedSpec::new(self.embedding) }
    }
}

/// Places among the model's chosen fields of those that `names` name.
///
/// # Errors
/// A field that the model does not see.
pub(crate) fn places_among(
    cfg: &ModelConfig,
    names: &[String],
    shape: &Shape<'_>,
    chosen: &[usize],
) -> Result<Vec<usize>, Error> {
    let place = |field: usize| {
        chosen.iter().position(|c| *c == field).ok_or_else(|| {
            let valid: Vec<&str> = chosen.iter().map(|&c| shape.fields[c].name.as_str()).collect();
            let name = &shape.fields[field].name;
            Error::Config(format!(
                "model `{}` does not see it: {}",
                cfg.name,
                suggest::unknown("field", name, valid)
            ))
        })
    };
    cfg.places(names, shape.fields)?.into_iter().map(place).collect()
}
