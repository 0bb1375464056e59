//! SASRec (Kang & McAuley, ICDM 2018): causal self-attention over the user's items; the state after each is to find the next
//! one in the table that the items themselves are read from.
//!
//! h⁰ = dropout(√D e_item + place), blocks of causal attention, norm; score = ⟨h, e_item⟩. With `loss = "gbce"` it is
//! gSASRec (Petrov & Macdonald, RecSys 2023). Unlike the papers' code sequences are not padded, places are counted from the
//! sequence's end (which is what padding on the left comes to), and negatives may be shared within a sequence or batch.

use millstream_nn::{
    BlockNorm, Inputs, LayerNorm, Params, Pass, PlaceEmbedding, Ragged, TransformerBlock, TransformerConfig,
};
use serde::Deserialize;

use super::next_item::{Catalogue, LossConfig, NextItem, NextLoss, States};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "sasrec", check, build, whole: true };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D: width of items and states.
    embedding: usize,
    blocks: usize,
    heads: usize,
    /// Width inside the feed-forward parts, in multiples of D.
    feed: usize,
    dropout: f32,
    norm: BlockNorm,
    /// Learned place embeddings, counted from the sequence's end; 0 for none.
    places: usize,
    /// Base of rotary position embeddings; none when absent.
    rotary: Option<f32>,
    /// Only so many items back are seen in each block.
    window: Option<usize>,
    loss: NextLoss,
    /// t of gBCE.
    calibration: f32,
    /// λ of BPR-max.
    penalty: f32,
    /// Whether the next items of the whole batch are negatives too.
    in_batch: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
    /// The sequence, where there are several.
    sequence: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 50,
            blocks: 2,
            heads: 1,
            feed: 1,
            dropout: 0.2,
            norm: BlockNorm::Query,
            places: 200,
            rotary: None,
            window: None,
            loss: NextLoss::Bce,
            calibration: 0.75,
            penalty: 1.0,
            in_batch: false,
            init_std: 0.02,
            sequence: None,
        }
    }
}

impl Config {
    fn loss(&self) -> Result<LossConfig, Error> {
        let Self { loss, calibration, penalty, in_batch, .. } = *self;
        LossConfig { loss, calibration, penalty, in_batch }.check("sasrec")
    }
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c: Config = cfg.options()?;
    if c.blocks == 0 || c.feed == 0 {
        return Err(Error::Config("model `sasrec`: `blocks` and `feed` must be above 0".into()));
    }
    if !(0.0..1.0).contains(&c.dropout) {
        return Err(Error::Config(format!("model `sasrec`: dropout must be in [0, 1), not {}", c.dropout)));
    }
    c.loss().map(drop)
}

struct SasRec {
    catalogue: Catalogue,
    places: Option<PlaceEmbedding>,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    dropout: f32,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    check(cfg)?;
    let c: Config = cfg.options()?;
    let d = c.embedding;
    let table = (d, c.init_std, c.loss()?);
    let catalogue = Catalogue::new((cfg, c.sequence.as_deref()), shape, params, table)?;
    let places = match c.places {
        0 => None,
        places => Some(PlaceEmbedding::new(params, "places", (places, d), c.init_std * (d as f32).sqrt())?),
    };
    let block = TransformerConfig {
        heads: c.heads,
        hidden: c.feed * d,
        dropout: c.dropout,
        norm: c.norm,
        window: c.window,
        rotary: c.rotary,
        ..TransformerConfig::new(d)
    };
    let blocks: Vec<TransformerBlock> = (0..c.blocks)
        .map(|i| TransformerBlock::new(params, &format!("block{i}"), &block))
        .collect::<Result<_, _>>()?;
    let norm = LayerNorm::new(params, "norm", d)?;
    Ok(Box::new(NextItem(SasRec { catalogue, places, blocks, norm, dropout: c.dropout })))
}

impl States for SasRec {
    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn states(&self, pass: &Pass, x: &Inputs) -> Ragged {
        let h = self.catalogue.history(x);
        if h.elements() == 0 {
            return h;
        }
        let h = h.with(h.values().scale((self.catalogue.dim() as f32).sqrt()));
        let h = self.places.as_ref().map_or(h.clone(), |places| places.add(pass, &h));
        let h = h.with(h.values().dropout(pass, self.dropout));
        let h = self.blocks.iter().fold(h, |h, block| block.forward(pass, &h));
        h.with(self.norm.forward(pass, h.values()))
    }
}
