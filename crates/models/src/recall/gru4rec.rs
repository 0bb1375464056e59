//! GRU4Rec (Hidasi et al., ICLR 2016; Hidasi & Karatzoglou, CIKM 2018): a gated recurrent unit over the session's items; the
//! state after each is to find the next one in the table that the items themselves are read from.
//!
//! h = GRU(dropout(e_item)), score = ⟨W h, e_item⟩, W only where the state is wider or narrower than the embedding. Unlike
//! the papers' code whole sessions are learned at once (a step of the unit is one product over the sessions that are that
//! long), so that gradients flow back to a session's first item, and nothing is carried over between batches.

use millstream_nn::{Gru, Init, Inputs, Linear, Params, Pass, Ragged};

use super::next_item::{Catalogue, Next, NextItem, States, check_shares, options};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "gru4rec", check, build, whole: true, graph: false };

options! {
    Next::default();
    /// Widths of the units, one on top of the other.
    hidden: Vec<usize> = vec![100],
    /// Dropout of the items.
    dropout: f32 = 0.0,
    /// Dropout of each unit's states on the way up.
    state_dropout: f32 = 0.0,
}

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    let c: Config = cfg.options()?;
    if c.hidden.is_empty() || c.hidden.contains(&0) {
        return Err(Error::Config("model `gru4rec`: `hidden` needs a width, all above 0".into()));
    }
    check_shares(&cfg.name, &[("dropout", c.dropout), ("state_dropout", c.state_dropout)])?;
    c.next().check(&cfg.name)?;
    Ok(c)
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c = read(cfg)?;
    c.next().idle(cfg)
}

struct Gru4Rec {
    catalogue: Catalogue,
    units: Vec<Gru>,
    out: Option<Linear>,
    dropout: f32,
    state_dropout: f32,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c = read(cfg)?;
    let d = c.embedding;
    let catalogue = Catalogue::new(c.next(), (cfg, shape), params)?;
    let (mut units, mut width) = (Vec::new(), d);
    for (i, &hidden) in c.hidden.iter().enumerate() {
        units.push(Gru::new(params, &format!("gru{i}"), (width, hidden))?);
        width = hidden;
    }
    let out = match width == d {
        true => None,
        false => Some(Linear::without_bias(params, "out", (width, d), Init::XavierUniform)?),
    };
    Ok(Box::new(NextItem(Gru4Rec {
        catalogue,
        units,
        out,
        dropout: c.dropout,
        state_dropout: c.state_dropout,
    })))
}

impl States for Gru4Rec {
    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn states(&self, pass: &Pass, x: &Inputs) -> Ragged {
        let h = self.catalogue.history(x);
        if h.elements() == 0 {
            return h;
        }
        let mut h = h.with(h.values().dropout(pass, self.dropout));
        for unit in &self.units {
            h = unit.forward(pass, &h);
            h = h.with(h.values().dropout(pass, self.state_dropout));
        }
        self.out.as_ref().map_or(h.clone(), |out| h.with(out.forward(pass, h.values())))
    }
}
