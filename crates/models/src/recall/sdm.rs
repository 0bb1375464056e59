//! SDM, sequential deep matching (Lv et al., CIKM 2019): the session at hand and what came before it, each in its own way, and a
//! gate between them.
//!
//! Short: the clicks of the session, side by side the embeddings of their features, through an LSTM, self-attention in the session,
//! and attention of the user to its states, s. Long: the earlier clicks of the past `days`, for each feature attention of the user
//! to that feature's embeddings alone, the results side by side through a layer, p = tanh(W z + b). G = σ(W₁ u + W₂ s + W₃ p + b),
//! o = (1 − G) ⊙ p + G ⊙ s, score = ⟨o, e_item⟩, softmax over the batch's and drawn items.
//!
//! The session is what happened within about `session_minutes` before the request, at least the last click: the sequence's `gap`
//! tells times by powers of two, to which minutes and days are rounded up. Unlike in the paper "within a week" is a limit and not
//! a set of days, self-attention is one block with its feed-forward part, and u is the sum of embeddings of the user's features
//! (a learned vector where there is none).

use millstream_nn::{
    AttentionPool, FieldInput, Init, Inputs, Linear, Lstm, ParamId, Params, Pass, Ragged, RowInit, TableId,
    Tensor, TransformerBlock, TransformerConfig, loss,
};
use millstream_schema::encode::FIRST;
use millstream_schema::{Rows, Shape as Kind, Side};
use serde::Deserialize;
use std::sync::Arc;

use super::intents::WHOLE_ALONE;
use super::next_item::check_shares;
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "sdm", check, build, whole: false, graph: false };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D: width of each embedding, of users and of items.
    embedding: usize,
    heads: usize,
    dropout: f32,
    /// The session's length.
    session_minutes: u32,
    /// How far back the long part goes.
    days: u32,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
    /// The sequence, where there are several.
    sequence: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 64,
            heads: 1,
            dropout: 0.2,
            session_minutes: 30,
            days: 7,
            init_std: 0.05,
            sequence: None,
        }
    }
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    let fail = |text: &str| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
    if c.embedding == 0 || !(c.init_std.is_finite() && c.init_std > 0.0) {
        return fail("`embedding` and `init_std` must be above 0");
    }
    if c.session_minutes == 0 || c.days == 0 || bucket(c.session_minutes, 60) >= bucket(c.days, 86_400) {
        return fail("`session_minutes` and `days` must be above 0, and the days longer");
    }
    check_shares(&cfg.name, &[("dropout", c.dropout)])
}

/// The bucket of gaps that this many of `seconds` are in.
fn bucket(count: u32, seconds: u64) -> u64 {
    FIRST + u64::from((u64::from(count) * seconds + 1).ilog2())
}

/// One feature of the clicks.
struct Part {
    /// Place of its field.
    place: usize,
    table: TableId,
    /// Attention over the long part.
    pool: AttentionPool,
}

struct Sdm {
    parts: Vec<Part>,
    gap: usize,
    item: usize,
    items: TableId,
    /// Places and tables of the user's features.
    user: Vec<(usize, TableId)>,
    stranger: ParamId,
    lstm: Lstm,
    block: TransformerBlock,
    ask: AttentionPool,
    /// W₁, W₂ and W₃ side by side.
    gate: Linear,
    long: Linear,
    limits: [u64; 2],
    dim: usize,
    dropout: f32,
}

/// The fields that are read.
struct Found {
    item: usize,
    elements: Vec<usize>,
    gap: usize,
    user: Vec<usize>,
}

fn fields(cfg: &ModelConfig, named: Option<&str>, shape: &Shape<'_>) -> Result<Found, Error> {
    let fail = |text: String| Error::Config(format!("model `{}`: {text}", cfg.name));
    let chosen = cfg.chosen(shape.fields)?;
    let keys = |f: usize, rows: Rows, kind: Kind| {
        let field = &shape.fields[f];
        field.rows == rows && field.shape == kind && field.space.is_some()
    };
    let find = |test: &dyn Fn(usize) -> bool| chosen.iter().copied().filter(|&f| test(f)).collect::<Vec<_>>();
    let gaps = find(&|f| {
        let name = shape.fields[f].name.strip_suffix(".gap");
        keys(f, Rows::Request, Kind::Keys) && name.is_some_and(|name| named.is_none_or(|n| n == name))
    });
    let gap = match gaps[..] {
        [gap] => gap,
        [] => return Err(fail("there is no sequence with `gap = true`, which tells sessions apart".into())),
        _ => {
            return Err(fail(
                "there are several sequences with `gap = true`; say which with `sequence`".into(),
            ));
        }
    };
    let prefix = shape.fields[gap].name.trim_end_matches("gap");
    let plain = |f: usize| keys(f, Rows::Candidate, Kind::Key) && shape.sides[f] == Side::Item;
    let elements = find(&|f| {
        let element = shape.fields[f].name.strip_prefix(prefix);
        element.is_some_and(|e| chosen.iter().any(|&i| plain(i) && shape.fields[i].name == e))
    });
    let first = elements.first().ok_or_else(|| {
        fail(format!(
            "`{}` has no element that is an item feature with one key",
            prefix.trim_end_matches('.')
        ))
    })?;
    let shared = |f: &&usize| plain(**f) && shape.fields[**f].space == shape.fields[*first].space;
    let item = chosen.iter().find(shared).copied().ok_or_else(|| {
        fail(format!("`{}` shares no table with an item feature", shape.fields[*first].name))
    })?;
    let user = find(&|f| {
        keys(f, Rows::Request, Kind::Key)
            && shape.sides[f] == Side::User
            && !shape.fields[f].name.contains('.')
    });
    Ok(Found { item, elements, gap, user })
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    check(cfg)?;
    let c: Config = cfg.options()?;
    let d = c.embedding;
    let found = fields(cfg, c.sequence.as_deref(), shape)?;
    let table = |params: &mut Params, place: usize| {
        let space = shape.fields[place].space.clone().unwrap_or_default();
        params.table(&format!("{space}/d{d}"), &space, d, RowInit::Normal(c.init_std))
    };
    let mut parts = Vec::new();
    for &place in &found.elements {
        let name = format!("long.{}", shape.fields[place].name);
        let pool = AttentionPool::asked(params, &name, d)?;
        parts.push(Part { place, table: table(params, place)?, pool });
    }
    let block =
        TransformerConfig { heads: c.heads, dropout: c.dropout, causal: false, ..TransformerConfig::new(d) };
    let start = Init::XavierUniform;
    let width = parts.len() * d;
    Ok(Box::new(Sdm {
        gap: found.gap,
        item: found.item,
        items: table(params, found.item)?,
        user: found.user.iter().map(|&f| Ok((f, table(params, f)?))).collect::<Result<_, Error>>()?,
        stranger: params.dense("user", &[d], Init::Normal(c.init_std))?,
        lstm: Lstm::new(params, "short.lstm", (width, d))?,
        block: TransformerBlock::new(params, "short.block", &block)?,
        ask: AttentionPool::asked(params, "short.ask", d)?,
        gate: Linear::with_init(params, "gate", (3 * d, d), start)?,
        long: Linear::with_init(params, "long.out", (width, d), start)?,
        limits: [bucket(c.session_minutes, 60), bucket(c.days, 86_400)],
        parts,
        dim: d,
        dropout: c.dropout,
    }))
}

/// Clicks `[from, to)` of each request, as offsets and places among all clicks.
fn cut(spans: &[std::ops::Range<usize>]) -> (Arc<Vec<u32>>, Vec<usize>) {
    let mut offsets = vec![0u32];
    spans.iter().for_each(|span| offsets.push(offsets[offsets.len() - 1] + span.len() as u32));
    (Arc::new(offsets), spans.iter().cloned().flatten().collect())
}

impl Sdm {
    /// The clicks of each request that are of the session, and those before it that are recent enough.
    fn spans(&self, x: &Inputs) -> [Vec<std::ops::Range<usize>>; 2] {
        let FieldInput::Keys(gaps) = x.field(self.gap) else {
            unreachable!("the field was a sequence's when the model was built");
        };
        let ages = x.unique_keys(self.gap);
        let age = |at: usize| ages[gaps.index()[at] as usize];
        let [session, week] = self.limits;
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for request in 0..gaps.len() {
            let all = gaps.range(request);
            // Clicks are in order of time, the oldest first.
            let begin = all.clone().rev().take_while(|&at| age(at) <= session).last();
            let begin = begin.unwrap_or(all.end.saturating_sub(1)).max(all.start);
            let recent = (all.start..begin).rev().take_while(|&at| age(at) <= week).last().unwrap_or(begin);
            short.push(begin..all.end);
            long.push(recent..begin);
        }
        [short, long]
    }

    /// The embeddings of one feature of some clicks.
    fn part(&self, x: &Inputs, part: &Part, offsets: &Arc<Vec<u32>>, clicks: &[usize]) -> Ragged {
        let FieldInput::Keys(bags) = x.field(part.place) else {
            unreachable!("the field was a sequence's when the model was built");
        };
        let rows = clicks.iter().map(|at| bags.index()[*at]).collect();
        match Ragged::new(offsets.clone(), x.rows(part.table).gather(&Arc::new(rows))) {
            Ok(part) => part,
            Err(e) => unreachable!("offsets were made with their elements: {e}"),
        }
    }

    /// u `[R, D]`.
    fn user(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let (r, d) = (x.requests(), self.dim);
        let base = pass.constant(&[r, d], vec![1.0; r * d]).mul_row(&pass.param(self.stranger));
        self.user.iter().fold(base, |sum, (place, table)| match x.field(*place) {
            FieldInput::Key(rows) => sum.add(&x.rows(*table).gather(rows)),
            _ => unreachable!("the field was a key when the model was built"),
        })
    }
}

impl Retriever for Sdm {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let user = self.user(pass, x);
        let [short, long] = self.spans(x);
        let (offsets, clicks) = cut(&short);
        let parts = self.parts.iter().map(|part| self.part(x, part, &offsets, &clicks).values().clone());
        let session = Tensor::join(parts).dropout(pass, self.dropout);
        let short = match Ragged::new(offsets, session) {
            Ok(session) if session.elements() > 0 => {
                let h = self.block.forward(pass, &self.lstm.forward(pass, &session));
                self.ask.forward_for(pass, &user, &h)
            }
            _ => user.scale(0.0),
        };
        let (offsets, clicks) = cut(&long);
        let parts = self.parts.iter().map(|part| {
            let h = self.part(x, part, &offsets, &clicks);
            part.pool.forward_for(pass, &user, &h.with(h.values().dropout(pass, self.dropout)))
        });
        let long = self.long.forward(pass, &Tensor::join(parts)).tanh();
        let gate = self.gate.forward(pass, &Tensor::concat(&[&user, &short, &long])).sigmoid();
        let both = long.add(&gate.mul(&short.sub(&long))); // [R, D]
        both.reshape(&[x.requests(), 1, self.dim])
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        let FieldInput::Key(places) = x.field(self.item) else {
            unreachable!("the field was a key when the model was built");
        };
        x.rows(self.items).gather(places) // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        let known = y.in_batch(1.0);
        loss::in_batch_softmax(&users.flatten(), items, &known)
    }

    fn dim(&self) -> usize {
        self.dim
    }
}
