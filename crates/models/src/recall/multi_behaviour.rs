//! The next item of one behaviour (what is bought) out of all behaviours: views, carts and earlier purchases are one sequence, whose
//! elements say of which behaviour they are.
//!
//! Element vectors are e_item + b_behaviour; blocks of self-attention in which everything sees everything (Gu et al., CIKM 2020,
//! and Yuan et al., ICDE 2022, for sequences of behaviours with type embeddings), attention pooling p (Yang et al. 2016),
//! u = norm(p + W p + c), and score = ⟨u, e_item⟩ with softmax over the batch's and drawn items. The way around W makes an item that
//! was viewed a likely one from the first step on, and the norm puts
//! users of few and of many actions on one scale. No places: what a user did is taken for a set, which is
//! all that some files tell.
//!
//! `behaviours = ["buys"]` alone is the control that it must beat.

use millstream_nn::{
    AttentionPool, FieldInput, Init, Inputs, LayerNorm, Linear, ParamId, Params, Pass, Ragged, RowInit,
    TableId, Tensor, TransformerBlock, TransformerConfig, loss,
};
use millstream_schema::{Field, Rows, Shape as Kind, Side, suggest};
use serde::Deserialize;
use std::sync::Arc;

use super::intents::WHOLE_ALONE;
use super::next_item::check_shares;
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef =
    RetrieverDef { name: "multi_behaviour", check, build, whole: false, graph: false };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D: width of items and users.
    embedding: usize,
    /// Sequence features to read, each a behaviour; all that share a table with an item feature when absent.
    behaviours: Option<Vec<String>>,
    /// Blocks of self-attention; 0 for none.
    blocks: usize,
    heads: usize,
    dropout: f32,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { embedding: 64, behaviours: None, blocks: 1, heads: 1, dropout: 0.2, init_std: 0.05 }
    }
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    let fail = |text: &str| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
    if c.embedding == 0 || !(c.init_std.is_finite() && c.init_std > 0.0) {
        return fail("`embedding` and `init_std` must be above 0");
    }
    let names = c.behaviours.unwrap_or_default();
    if (1..names.len()).any(|i| names[..i].contains(&names[i])) {
        return fail("`behaviours` names a sequence twice");
    }
    check_shares(&cfg.name, &[("dropout", c.dropout)])
}

struct MultiBehaviour {
    /// Places of the sequences of item keys, each with the number of its behaviour.
    sequences: Vec<(usize, u32)>,
    /// Place of the candidates' item key.
    item: usize,
    table: TableId,
    /// `[behaviours, D]`.
    types: ParamId,
    blocks: Vec<TransformerBlock>,
    pool: AttentionPool,
    out: Linear,
    norm: LayerNorm,
    dim: usize,
    dropout: f32,
}

/// The item field and the sequences of its keys, in the order of `named` if there are names.
fn fields(
    cfg: &ModelConfig,
    named: Option<&[String]>,
    shape: &Shape<'_>,
) -> Result<(usize, Vec<usize>), Error> {
    let fail = |text: String| Error::Config(format!("model `{}`: {text}", cfg.name));
    let chosen = cfg.chosen(shape.fields)?;
    let is_item = |&f: &usize| {
        let field = &shape.fields[f];
        let plain = field.shape == Kind::Key && field.rows == Rows::Candidate && field.space.is_some();
        plain && shape.sides[f] == Side::Item
    };
    let is_sequence = |f: &Field| f.rows == Rows::Request && f.shape == Kind::Keys && f.name.contains('.');
    let of = |item: usize| -> Vec<usize> {
        let fits =
            |&f: &usize| is_sequence(&shape.fields[f]) && shape.fields[f].space == shape.fields[item].space;
        chosen.iter().copied().filter(fits).collect()
    };
    let found = chosen.iter().copied().filter(is_item).map(|item| (item, of(item)));
    let Some((item, all)) = found.into_iter().find(|(_, sequences)| !sequences.is_empty()) else {
        return Err(fail("there is no sequence that shares its table with an item feature".into()));
    };
    let Some(named) = named else { return Ok((item, all)) };
    let called = |f: usize| shape.fields[f].name.split('.').next().unwrap_or_default();
    let one = |name: &String| {
        all.iter().copied().find(|&f| called(f) == name).ok_or_else(|| {
            let valid: Vec<&str> = all.iter().map(|&f| called(f)).collect();
            fail(format!("behaviours: {}", suggest::unknown("sequence", name, valid.iter().copied())))
        })
    };
    let sequences: Vec<usize> = named.iter().map(one).collect::<Result<_, _>>()?;
    match sequences.is_empty() {
        true => Err(fail("`behaviours` names no sequence".into())),
        false => Ok((item, sequences)),
    }
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    check(cfg)?;
    let c: Config = cfg.options()?;
    let d = c.embedding;
    let (item, sequences) = fields(cfg, c.behaviours.as_deref(), shape)?;
    let space = shape.fields[item].space.clone().unwrap_or_default();
    let block =
        TransformerConfig { heads: c.heads, dropout: c.dropout, causal: false, ..TransformerConfig::new(d) };
    let blocks = (0..c.blocks)
        .map(|i| TransformerBlock::new(params, &format!("block{i}"), &block))
        .collect::<Result<_, _>>()?;
    Ok(Box::new(MultiBehaviour {
        item,
        table: params.table(&format!("{space}/d{d}"), &space, d, RowInit::Normal(c.init_std))?,
        types: params.dense("behaviours", &[sequences.len(), d], Init::Normal(c.init_std))?,
        sequences: sequences.into_iter().zip(0..).collect(),
        blocks,
        pool: AttentionPool::new(params, "pool", d)?,
        out: Linear::with_init(params, "out", (d, d), Init::XavierUniform)?,
        norm: LayerNorm::new(params, "norm", d)?,
        dim: d,
        dropout: c.dropout,
    }))
}

impl MultiBehaviour {
    /// All behaviours of each request one after the other.
    fn joined(&self, pass: &Pass, x: &Inputs) -> Ragged {
        let (mut offsets, mut rows, mut types) = (vec![0u32], Vec::new(), Vec::new());
        for request in 0..x.requests() {
            for (place, behaviour) in &self.sequences {
                let FieldInput::Keys(bags) = x.field(*place) else {
                    unreachable!("the field was a sequence when the model was built");
                };
                rows.extend_from_slice(&bags.index()[bags.range(request)]);
                types.resize(rows.len(), *behaviour);
            }
            offsets.push(rows.len() as u32);
        }
        let types = pass.param(self.types).gather(&Arc::new(types));
        let values = x.rows(self.table).gather(&Arc::new(rows)).add(&types);
        match Ragged::new(Arc::new(offsets), values.dropout(pass, self.dropout)) {
            Ok(joined) => joined,
            Err(e) => unreachable!("offsets were made with their elements: {e}"),
        }
    }
}

impl Retriever for MultiBehaviour {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let h = self.joined(pass, x);
        let h = match h.elements() {
            0 => h,
            _ => self.blocks.iter().fold(h, |h, block| block.forward(pass, &h)),
        };
        let pooled = self.pool.forward(pass, &h);
        let user = self.norm.forward(pass, &pooled.add(&self.out.forward(pass, &pooled))); // [R, D]
        user.reshape(&[x.requests(), 1, self.dim])
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        let FieldInput::Key(places) = x.field(self.item) else {
            unreachable!("the field was a key when the model was built");
        };
        x.rows(self.table).gather(places) // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        let known = y.in_batch(1.0);
        loss::in_batch_softmax(&users.flatten(), items, &known)
    }

    fn dim(&self) -> usize {
        self.dim
    }
}
