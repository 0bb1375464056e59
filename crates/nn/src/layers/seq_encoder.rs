//! Transformers over behaviour: over a history by itself, and over a history with the candidate as its last action.

use super::{PlaceEmbedding, SeqPool, Sequence, TransformerBlock, TransformerConfig};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::pairs::Pairs;
use crate::params::{ParamId, Params};
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// Elements of histories, each with its candidate, that are encoded at once in inference.
const INFER_PAIRS: usize = 1 << 15;
/// Deviation of fresh place embeddings and of the candidate's mark.
const STD: f32 = 0.01;

/// Transformer blocks one above the other, with or without learned places.
#[derive(Debug, Clone)]
pub struct SeqEncoder {
    places: Option<PlaceEmbedding>,
    blocks: Vec<TransformerBlock>,
}

impl SeqEncoder {
    /// Weights `name.places` (with `places`: so many are told apart, counted from the end) and `name.block0.…`, one per block of `layers`.
    ///
    /// # Errors
    /// No layer, sizes that do not fit, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (layers, places): (usize, Option<usize>),
        config: &TransformerConfig,
    ) -> Result<Self> {
        if layers == 0 {
            return Err(Error::Model(format!("transformer `{name}` needs a layer")));
        }
        let table = |n| PlaceEmbedding::new(params, &format!("{name}.places"), (n, config.width), STD);
        let places = places.map(table).transpose()?;
        let block = |l| TransformerBlock::new(params, &format!("{name}.block{l}"), config);
        Ok(Self { places, blocks: (0..layers).map(block).collect::<Result<_>>()? })
    }

    /// Sequences `[elements, W]` → the same shape.
    pub fn forward(&self, pass: &Pass, x: &Ragged) -> Ragged {
        if x.elements() == 0 {
            return x.clone();
        }
        let placed = self.places.as_ref().map_or_else(|| x.clone(), |places| places.add(pass, x));
        self.blocks.iter().fold(placed, |x, block| block.forward(pass, &x))
    }

    /// The history as its elements see each other: keys, context and candidates are as wide as before.
    ///
    /// It does not depend on the candidates and is made once per request.
    pub fn encode(&self, pass: &Pass, x: &Sequence) -> Sequence {
        let (keys, context) = (x.keys.width(), x.context.as_ref().map_or(0, Tensor::width));
        let seen = self.forward(pass, &x.keys.with(x.values()));
        if context == 0 {
            return Sequence { keys: seen, ..x.clone() };
        }
        Sequence {
            keys: x.keys.with(seen.values().slice(0, keys)),
            context: Some(seen.values().slice(keys, context)),
            ..x.clone()
        }
    }
}

/// The candidate as the last action of its history, transformer blocks over both, and what comes out pooled: the sequence part of the
/// behaviour sequence transformer (Chen et al., DLP-KDD 2019).
///
/// The candidate has no time gap and no strength; a learned vector, added to it, stands for them.
#[derive(Debug, Clone)]
pub struct TargetTransformer {
    mark: ParamId,
    encoder: SeqEncoder,
    pool: SeqPool,
}

impl TargetTransformer {
    /// Weights `name.candidate` `[W]` and those of `encoder`; `pool`: `Sum`, `Mean`, `Max`, or `Last`, the candidate's own place.
    ///
    /// # Errors
    /// A pool by gaps or strengths, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (encoder, width): (SeqEncoder, usize),
        pool: SeqPool,
    ) -> Result<Self> {
        if matches!(pool, SeqPool::Gap | SeqPool::Strength) {
            return Err(Error::Model(format!(
                "`{name}`: the candidate has no gap and no strength to be pooled by; take \"last\", \"mean\", \"sum\" or \"max\""
            )));
        }
        let mark = params.dense(&format!("{name}.candidate"), &[width], Init::Normal(STD))?;
        Ok(Self { mark, encoder, pool })
    }

    /// Interests `[N, W]`; of an empty history what the blocks make of the candidate alone.
    pub fn forward(&self, pass: &Pass, x: &Sequence) -> Tensor {
        let values = x.values(); // [M, W]
        let (n, rest) = (x.pairs.candidates(), values.width() - x.target.width());
        let own = match rest {
            0 => x.target.clone(),
            _ => Tensor::concat(&[&x.target, &pass.constant(&[n, rest], vec![0.0; n * rest])]),
        };
        let own = own.add_row(&pass.param(self.mark)); // [N, W]
        if pass.is_training() {
            return self.interests(pass, (&values, &own), &x.pairs);
        }
        let part = |range: Range<usize>| {
            let own = own.slice_rows(range.start, range.len());
            self.interests(pass, (&values, &own), &x.pairs.part(range))
        };
        let parts: Vec<Tensor> = x.pairs.stretches(INFER_PAIRS).into_iter().map(part).collect();
        match &parts[..] {
            [] => own,
            [one] => one.clone(),
            many => Tensor::stack_rows(&many.iter().collect::<Vec<_>>()),
        }
    }

    fn interests(&self, pass: &Pass, (values, own): (&Tensor, &Tensor), pairs: &Pairs) -> Tensor {
        let joined = with_candidates(values, own, pairs);
        let seen = self.encoder.forward(pass, &joined);
        let each = Pairs::each(&seen);
        self.pool.forward(pass, &Sequence::new(seen, own.clone(), each))
    }
}

/// Each candidate's history `[L, W]` and then itself, of elements `[M, W]` and candidates `[N, W]`.
fn with_candidates(values: &Tensor, own: &Tensor, pairs: &Pairs) -> Ragged {
    let (m, n) = (values.rows() as u32, pairs.candidates());
    let mut index = Vec::with_capacity(pairs.len() + n);
    let mut offsets = Vec::with_capacity(n + 1);
    offsets.push(0);
    for candidate in 0..n {
        index.extend(pairs.elements_of(candidate).map(|e| e as u32));
        index.push(m + candidate as u32);
        offsets.push(index.len() as u32);
    }
    Ragged::of(Arc::new(offsets), Tensor::stack_rows(&[values, own]).gather(&Arc::new(index)))
}
