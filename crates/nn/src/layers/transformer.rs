//! Self-attention blocks over sequences of different lengths.

use crate::error::{Error, Result};
use crate::init::Init;
use crate::layers::{LayerNorm, Linear};
use crate::ops::SeqAttention;
use crate::pairs::Pairs;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Where a block normalises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockNorm {
    /// As SASRec's public code does (Kang & McAuley 2018): q = norm(x); y = norm(q + attend(q, x, x)); y + feed(y).
    #[default]
    Query,
    /// y = x + attend(norm(x)); y + feed(norm(y)).
    Before,
    /// y = norm(x + attend(x)); norm(y + feed(y)) (Vaswani et al. 2017).
    After,
}

/// Sizes and options of a [`TransformerBlock`].
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerConfig {
    /// D: width of the vectors.
    pub width: usize,
    /// Heads of the attention; they divide D.
    pub heads: usize,
    /// Width between the two layers of the feed-forward part.
    pub hidden: usize,
    /// Probability of dropout of attention weights, of the attention's and of the feed-forward part's outputs, in [0, 1).
    pub dropout: f32,
    /// Where it normalises.
    pub norm: BlockNorm,
    /// Whether an element sees itself and earlier ones only.
    pub causal: bool,
    /// Only so many elements back (and, if not causal, forth) are seen, itself counted; all when absent.
    pub window: Option<usize>,
    /// Base of rotary position embeddings of queries and keys; none when absent.
    pub rotary: Option<f32>,
}

impl TransformerConfig {
    /// A causal block of one head with as wide a feed-forward part, as SASRec has it.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            heads: 1,
            hidden: width,
            dropout: 0.0,
            norm: BlockNorm::Query,
            causal: true,
            window: None,
            rotary: None,
        }
    }

    fn check(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Model(text));
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return fail(format!("heads = {} do not divide a width of {}", self.heads, self.width));
        }
        if self.rotary.is_some() && !self.width.is_multiple_of(2 * self.heads) {
            return fail(format!(
                "rotary positions need heads of an even width, not {} / {}",
                self.width, self.heads
            ));
        }
        if self.rotary.is_some_and(|base| !(base.is_finite() && base > 1.0)) {
            return fail("the base of rotary positions must be above 1".into());
        }
        if self.hidden == 0 || self.window == Some(0) {
            return fail("the width inside a block (`feed`) and `window` must be above 0".into());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(format!("dropout must be in [0, 1), not {}", self.dropout));
        }
        Ok(())
    }
}

/// Self-attention and a feed-forward part, each with a way around it; see [`BlockNorm`].
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    config: TransformerConfig,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    first_norm: LayerNorm,
    second_norm: LayerNorm,
    feed: [Linear; 2],
}

impl TransformerBlock {
    /// Weights `name.query`, `.key`, `.value`, `.out`, `.feed0`, `.feed1` and the norms `name.norm0`, `.norm1`.
    ///
    /// # Errors
    /// Sizes that do not fit, or as [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, config: &TransformerConfig) -> Result<Self> {
        config.check()?;
        let (d, h) = (config.width, config.hidden);
        let mut linear = |part: &str, inputs, outputs| {
            Linear::with_init(params, &format!("{name}.{part}"), (inputs, outputs), Init::XavierUniform)
        };
        Ok(Self {
            query: linear("query", d, d)?,
            key: linear("key", d, d)?,
            value: linear("value", d, d)?,
            out: linear("out", d, d)?,
            feed: [linear("feed0", d, h)?, linear("feed1", h, d)?],
            first_norm: LayerNorm::new(params, &format!("{name}.norm0"), d)?,
            second_norm: LayerNorm::new(params, &format!("{name}.norm1"), d)?,
            config: config.clone(),
        })
    }

    /// Sequences of vectors `[elements, D]` → the same shape.
    pub fn forward(&self, pass: &Pass, x: &Ragged) -> Ragged {
        let values = x.values();
        match self.config.norm {
            BlockNorm::Query => {
                let q = self.first_norm.forward(pass, values);
                let y = q.add(self.attend(pass, &x.with(q.clone()), x).values());
                let y = self.second_norm.forward(pass, &y);
                x.with(y.add(self.feed(pass, &x.with(y.clone())).values()))
            }
            BlockNorm::Before => {
                let normed = x.with(self.first_norm.forward(pass, values));
                let y = values.add(self.attend(pass, &normed, &normed).values());
                let normed = x.with(self.second_norm.forward(pass, &y));
                x.with(y.add(self.feed(pass, &normed).values()))
            }
            BlockNorm::After => {
                let y = self.first_norm.forward(pass, &values.add(self.attend(pass, x, x).values()));
                let fed = self.feed(pass, &x.with(y.clone()));
                x.with(self.second_norm.forward(pass, &y.add(fed.values())))
            }
        }
    }

    /// The last element of each sequence alone after the block, `[B, D]`: what [`TransformerBlock::forward`] makes of it, at the cost
    /// of one query for each sequence (all elements must be keys and values still). Zeros go in for an empty sequence.
    ///
    /// # Panics
    /// If the block is not causal.
    pub fn last(&self, pass: &Pass, x: &Ragged) -> Tensor {
        let c = &self.config;
        assert!(c.causal, "the last state of a block that is not causal");
        if c.rotary.is_some() {
            // Queries are turned by their place, which only whole sequences have.
            return self.forward(pass, x).last();
        }
        let x = &c.window.map_or(x.clone(), |window| x.latest(window));
        let values = x.values();
        match c.norm {
            BlockNorm::Query => {
                let q = self.first_norm.forward(pass, &x.last());
                let y = self.second_norm.forward(pass, &q.add(&self.attend_last(pass, &q, x)));
                y.add(&self.feed_rows(pass, &y))
            }
            BlockNorm::Before => {
                let normed = x.with(self.first_norm.forward(pass, values));
                let y = x.last().add(&self.attend_last(pass, &normed.last(), &normed));
                y.add(&self.feed_rows(pass, &self.second_norm.forward(pass, &y)))
            }
            BlockNorm::After => {
                let last = x.last();
                let y = self.first_norm.forward(pass, &last.add(&self.attend_last(pass, &last, x)));
                self.second_norm.forward(pass, &y.add(&self.feed_rows(pass, &y)))
            }
        }
    }

    /// Attention of one vector of each sequence `[B, D]` to all of its elements.
    fn attend_last(&self, pass: &Pass, from: &Tensor, to: &Ragged) -> Tensor {
        let c = &self.config;
        let (query, key) = (self.query.forward(pass, from), self.key.forward(pass, to.values()));
        let value = self.value.forward(pass, to.values());
        let (each, width) = (Pairs::each(to), c.width / c.heads);
        let head = |h: usize| {
            let part = |x: &Tensor| if c.heads == 1 { x.clone() } else { x.slice(h * width, width) };
            let scores = part(&key).pair_dot(&part(&query), &each, 1.0 / (width as f32).sqrt());
            let weights = scores.softmax_spans(each.offsets()).dropout(pass, c.dropout);
            weights.pair_sum(&part(&value), &each)
        };
        let mixed = Tensor::join((0..c.heads).map(head));
        self.out.forward(pass, &mixed).dropout(pass, c.dropout)
    }

    /// Attention of `from` to `to`.
    fn attend(&self, pass: &Pass, from: &Ragged, to: &Ragged) -> Ragged {
        let c = &self.config;
        let turned = |x: Ragged| c.rotary.map_or(x.clone(), |base| x.rotate(c.heads, base));
        let query = turned(from.with(self.query.forward(pass, from.values())));
        let key = turned(to.with(self.key.forward(pass, to.values())));
        let value = self.value.forward(pass, to.values());
        let how = SeqAttention {
            heads: c.heads,
            scale: 1.0 / ((c.width / c.heads) as f32).sqrt(),
            causal: c.causal,
            window: c.window,
            dropout: c.dropout,
        };
        let mixed = query.attend(pass, key.values(), &value, how);
        from.with(self.out.forward(pass, mixed.values()).dropout(pass, c.dropout))
    }

    fn feed(&self, pass: &Pass, x: &Ragged) -> Ragged {
        x.with(self.feed_rows(pass, x.values()))
    }

    fn feed_rows(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let hidden = self.feed[0].forward_relu_dropout(pass, x, self.config.dropout);
        self.feed[1].forward(pass, &hidden).dropout(pass, self.config.dropout)
    }
}

/// A learned vector for each place of a sequence, counted from its end: the last element always has the same one, however
/// much came before, as where sequences are padded on the left (Kang & McAuley 2018).
#[derive(Debug, Clone)]
pub struct PlaceEmbedding {
    table: ParamId,
    places: usize,
}

impl PlaceEmbedding {
    /// Weight `name` `[places, width]`, normal with deviation `std`.
    ///
    /// # Errors
    /// No place, or as [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, (places, width): (usize, usize), std: f32) -> Result<Self> {
        if places == 0 {
            return Err(Error::Model(format!("`{name}`: a place embedding needs a place")));
        }
        Ok(Self { table: params.dense(name, &[places, width], Init::Normal(std))?, places })
    }

    /// Adds each element's vector; elements further from the end than there are places share the last one.
    pub fn add(&self, pass: &Pass, x: &Ragged) -> Ragged {
        let from_end = |b: usize| (0..x.len_of(b)).rev().map(|place| place.min(self.places - 1) as u32);
        let index: Arc<Vec<u32>> = Arc::new((0..x.rows()).flat_map(from_end).collect());
        x.with(x.values().add(&pass.param(self.table).gather(&index)))
    }
}
