//! SASRec (Kang & McAuley, ICDM 2018): causal self-attention over the user's items; the state after each is to find the next
//! one in the table that the items themselves are read from.
//!
//! h⁰ = dropout(√D e_item + place) (or another factor, `input_scale`), blocks of causal attention, norm; score = ⟨h, e_item⟩. With `loss = "gbce"` it is
//! gSASRec (Petrov & Macdonald, RecSys 2023). Unlike the papers' code sequences are not padded, places are counted from the
//! sequence's end (which is what padding on the left comes to), the time since the element before may be added (`intervals`), and negatives may be shared within a sequence or batch.

use millstream_nn::{
    BlockNorm, FieldInput, Inputs, LayerNorm, Params, Pass, PlaceEmbedding, Ragged, RowInit, TableId, Tensor,
    TransformerBlock, TransformerConfig,
};

use super::next_item::{Catalogue, Next, NextItem, NextLoss, States, check_shares, options};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "sasrec", check, build, whole: true, graph: false };

options! {
    Next { embedding: 50, init_std: 0.02, loss: NextLoss::Bce, ..Next::default() };
    blocks: usize = 2,
    heads: usize = 1,
    /// Width inside the feed-forward parts, in multiples of D.
    feed: usize = 1,
    dropout: f32 = 0.2,
    norm: BlockNorm = BlockNorm::Query,
    /// What items' vectors are multiplied by where a sequence goes in; √D when absent, as in SASRec. gSASRec has 1, with `init_std = 1`.
    input_scale: Option<f32> = None,
    /// Learned place embeddings, counted from the sequence's end; 0 for none.
    places: usize = 200,
    /// Whether the time since the element before is added to each, by a learned vector for each power of two of seconds;
    /// needs `interval = true` of the sequence.
    intervals: bool = false,
    /// Base of rotary position embeddings; none when absent.
    rotary: Option<f32> = None,
    /// Only so many items back are seen in each block.
    window: Option<usize> = None,
}

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    let c: Config = cfg.options()?;
    if c.blocks == 0 || c.feed == 0 {
        return Err(Error::Config("model `sasrec`: `blocks` and `feed` must be above 0".into()));
    }
    if let Some(scale) = c.input_scale.filter(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(Error::Config(format!("model `sasrec`: `input_scale` must be above 0, not {scale}")));
    }
    check_shares(&cfg.name, &[("dropout", c.dropout)])?;
    c.next().check(&cfg.name)?;
    Ok(c)
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c = read(cfg)?;
    c.next().idle(cfg)
}

struct SasRec {
    catalogue: Catalogue,
    places: Option<PlaceEmbedding>,
    /// Place and table of the sequence's intervals.
    intervals: Option<(usize, TableId)>,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    dropout: f32,
    input_scale: f32,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c = read(cfg)?;
    let d = c.embedding;
    let input_scale = c.input_scale.unwrap_or((d as f32).sqrt());
    let std = c.init_std * input_scale;
    let catalogue = Catalogue::new(c.next(), (cfg, shape), params)?;
    let intervals = match c.intervals {
        true => Some(intervals(cfg, shape, &catalogue, (params, std))?),
        false => None,
    };
    let places = match c.places {
        0 => None,
        places => Some(PlaceEmbedding::new(params, "places", (places, d), std)?),
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
    let dropout = c.dropout;
    Ok(Box::new(NextItem(SasRec { catalogue, places, intervals, blocks, norm, dropout, input_scale })))
}

/// The field of the intervals, and its table.
fn intervals(
    cfg: &ModelConfig,
    shape: &Shape<'_>,
    catalogue: &Catalogue,
    (params, std): (&mut Params, f32),
) -> Result<(usize, TableId), Error> {
    let field = catalogue.beside("interval", shape.fields).map(|f| (f, shape.fields[f].space.as_deref()));
    let Some((place, Some(space))) = field else {
        return Err(Error::Config(format!(
            "model `{}`: intervals = true needs `interval = true` of the sequence",
            cfg.name
        )));
    };
    let d = catalogue.dim();
    Ok((place, params.table(&format!("{space}/d{d}"), space, d, RowInit::Normal(std))?))
}

impl States for SasRec {
    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn states(&self, pass: &Pass, x: &Inputs) -> Ragged {
        let h = self.embedded(pass, x);
        let h = self.blocks.iter().fold(h, |h, block| block.forward(pass, &h));
        h.with(self.norm.forward(pass, h.values()))
    }

    fn last(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let h = self.embedded(pass, x);
        let last = match self.blocks.split_last() {
            Some((block, before)) => {
                block.last(pass, &before.iter().fold(h, |h, block| block.forward(pass, &h)))
            }
            None => h.last(),
        };
        self.norm.forward(pass, &last)
    }
}

impl SasRec {
    /// What goes into the first block.
    fn embedded(&self, pass: &Pass, x: &Inputs) -> Ragged {
        let h = self.catalogue.history(x);
        let h = h.with(h.values().scale(self.input_scale));
        let h = self.places.as_ref().map_or(h.clone(), |places| places.add(pass, &h));
        let h = self.intervals.map_or(h.clone(), |(place, table)| match x.field(place) {
            FieldInput::Keys(bags) => h.with(h.values().add(Ragged::of_bags(bags, x.rows(table)).values())),
            _ => unreachable!("the field was a sequence's when the model was built"),
        });
        h.with(h.values().dropout(pass, self.dropout))
    }
}
