//! Behaviour sequences: what a user did, one vector per action, without padding.

use super::{Embed, EmbedSpec};
use crate::buffer::Buffer;
use crate::chunks;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::inputs::{FieldInput, Inputs};
use crate::nearest::nearest;
use crate::ops::Bags;
use crate::ops::scatter::{Flow, Inflow, To, scatter};
use crate::pairs::Pairs;
use crate::params::{ParamId, Params, TableId};
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tape::NodeId;
use crate::tensor::Tensor;
use millstream_schema::{Field, Rows, Shape, encode};
use std::sync::Arc;

/// How the embeddings of an element's fields become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Side by side.
    #[default]
    Concat,
    /// Added up.
    Sum,
}

/// The embedded histories and candidates of a batch, with W the width of an element and K that of a candidate.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// R histories of elements `[M, K]`, oldest first: what candidates are compared with.
    pub keys: Ragged,
    /// `[M, C]`: what elements have and candidates have not, the time gap and the strength; `None` if there is none, or if it was
    /// added into the keys.
    pub context: Option<Tensor>,
    /// Candidates, embedded as the elements are: `[N, K]`.
    pub target: Tensor,
    /// Whose history each candidate looks at.
    pub pairs: Pairs,
    /// `[M]`: seconds between element and request, as ⌊log₂(seconds + 1)⌋, where the feature has gaps.
    pub gap: Option<Arc<Vec<u8>>>,
    /// `[M]`: strength of each action, where the feature has strengths.
    pub strength: Option<Arc<Vec<f32>>>,
    /// `[M]`: which session of its history each element is in, counted back from the latest, where the feature has sessions.
    pub session: Option<Arc<Vec<u32>>>,
    /// What tells the items of elements apart.
    pub items: Option<Items>,
}

/// The items of the elements, without their gaps and strengths.
#[derive(Debug, Clone)]
pub struct Items {
    /// `[M, K]`: the part of the keys that is the item's.
    pub values: Tensor,
    /// For each element field, the place `[M]` of its value among the batch's.
    pub places: Vec<Arc<Vec<u32>>>,
}

impl Items {
    /// Whether two elements are of one item.
    pub(crate) fn same(&self, a: usize, b: usize) -> bool {
        self.places.iter().all(|places| places[a] == places[b])
    }
}

impl Sequence {
    /// Histories and candidates of which nothing else is known.
    pub fn new(keys: Ragged, target: Tensor, pairs: Pairs) -> Self {
        Self { keys, context: None, target, pairs, gap: None, strength: None, session: None, items: None }
    }

    /// `[M, W]`: keys and context side by side.
    pub fn values(&self) -> Tensor {
        match &self.context {
            Some(context) => Tensor::concat(&[self.keys.values(), context]),
            None => self.keys.values().clone(),
        }
    }

    /// Some of the elements, named by number and grouped by candidate (`offsets` `[N + 1]`): each candidate then has a history of
    /// its own, of which it is not known what came next to what: sessions and items are left out.
    ///
    /// # Panics
    /// If the offsets do not fit, or an element is not there.
    pub fn select(&self, offsets: Vec<u32>, elements: Vec<u32>) -> Self {
        let index = Arc::new(elements);
        let keys = Ragged::of(Arc::new(offsets), self.keys.values().gather(&index));
        let pick = |i: &u32| *i as usize;
        let pairs = Pairs::each(&keys);
        Self {
            context: self.context.as_ref().map(|c| c.gather(&index)),
            gap: self.gap.as_ref().map(|g| Arc::new(index.iter().map(|i| g[pick(i)]).collect())),
            strength: self.strength.as_ref().map(|s| Arc::new(index.iter().map(|i| s[pick(i)]).collect())),
            ..Self::new(keys, self.target.clone(), pairs)
        }
    }

    /// Of each candidate's elements the `k` whose keys have the greatest inner product with the candidate's, of equal ones the later, in
    /// their order: the soft search of SIM (Pi et al., CIKM 2020). The search itself is not learned.
    pub fn nearest(&self, k: usize) -> Self {
        let data = (self.keys.values().data(), self.target.data());
        let (offsets, elements) = nearest(&self.pairs, data, self.keys.width(), k);
        self.select(offsets, elements)
    }
}

/// Embeddings of one sequence feature's fields, and of the candidate's same features.
///
/// With [`Combine::Concat`] an element is [e₁ ‖ … ‖ e_E ‖ gap ‖ interval ‖ ln(1 + strength) s], e_f being the rows of its item
/// features, s a learned vector: K = E·D, C = D for each of the last three that there is. With [`Combine::Sum`] they are added: K = D, C = 0.
#[derive(Debug, Clone)]
pub struct SeqEmbed {
    /// Place and table of each element field.
    elements: Vec<(usize, TableId)>,
    gap: Option<(usize, TableId)>,
    /// Place of the field that says which session an element is in.
    session: Option<usize>,
    interval: Option<(usize, TableId)>,
    strength: Option<ParamId>,
    target: Embed,
    combine: Combine,
    dim: usize,
}

impl SeqEmbed {
    /// For the sequence feature `name`, whose element fields are called `name.element`, its times `name.gap` and `name.interval`, and its
    /// sessions `name.session`; candidates are embedded from the item fields `element`. `strength`: whether the strength of actions is part
    /// of the elements; its vector is the weight `name.strength/suffix`.
    ///
    /// # Errors
    /// No such sequence, one without elements, an element that is no field with one key per candidate, or as
    /// [`Params::table`].
    pub fn new(
        params: &mut Params,
        fields: &[Field],
        name: &str,
        (spec, combine, strength): (&EmbedSpec, Combine, bool),
    ) -> Result<Self> {
        let (mut elements, mut targets) = (Vec::new(), Vec::new());
        let (mut gap, mut interval, mut session) = (None, None, None);
        for (at, field) in fields.iter().enumerate() {
            let Some(element) = field.name.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let Some(space) = field.space.as_deref().filter(|_| field.shape == Shape::Keys) else { continue };
            let mut table = || params.table(&format!("{space}/{}", spec.suffix), space, spec.dim, spec.init);
            let own = |f: &Field| f.name == element && f.rows == Rows::Candidate && f.shape == Shape::Key;
            match fields.iter().position(own) {
                Some(target) => {
                    elements.push((at, table()?));
                    targets.push(target);
                }
                None if element == "gap" => gap = Some((at, table()?)),
                None if element == "interval" => interval = Some((at, table()?)),
                None if element == "session" => session = Some(at),
                None => {
                    return Err(Error::Model(format!(
                        "sequence `{name}`: its element `{element}` is no item field with one key"
                    )));
                }
            }
        }
        if elements.is_empty() {
            return Err(Error::Model(format!("there is no sequence `{name}` with elements")));
        }
        let target = Embed::new(params, fields, &targets, spec)?;
        let strength = strength.then(|| {
            params.dense(&format!("{name}.strength/{}", spec.suffix), &[spec.dim, 1], Init::Normal(0.01))
        });
        let (strength, dim) = (strength.transpose()?, spec.dim);
        Ok(Self { elements, gap, interval, session, strength, target, combine, dim })
    }

    /// K: width of a candidate, and of what it is compared with.
    pub fn key_width(&self) -> usize {
        match self.combine {
            Combine::Concat => self.elements.len() * self.dim,
            Combine::Sum => self.dim,
        }
    }

    /// C: width of the gap, the interval and the strength, where these stand beside.
    pub fn context_width(&self) -> usize {
        let times = self.gap.iter().chain(&self.interval).count();
        let parts = times + usize::from(self.strength.is_some());
        if self.combine == Combine::Concat { parts * self.dim } else { 0 }
    }

    /// W = K + C.
    pub fn width(&self) -> usize {
        self.key_width() + self.context_width()
    }

    /// Whether elements have time gaps.
    pub fn has_gaps(&self) -> bool {
        self.gap.is_some()
    }

    /// Whether it is known which session elements are in.
    pub fn has_sessions(&self) -> bool {
        self.session.is_some()
    }

    /// Places of the fields that the candidate is embedded from.
    pub fn element_fields(&self) -> impl Iterator<Item = usize> + '_ {
        self.elements.iter().map(|(at, _)| *at)
    }

    /// The histories and candidates of a batch.
    ///
    /// # Panics
    /// If the batch's fields are not those the layer was made for.
    pub fn forward(&self, pass: &Pass, x: &Inputs) -> Sequence {
        let bags: Vec<(&Bags, &Tensor)> =
            self.elements.iter().map(|(at, table)| (keys(x, *at), x.rows(*table))).collect();
        let (first, m) = (bags[0].0, bags[0].0.index.len());
        assert!(
            bags.iter().all(|(b, _)| b.offsets == first.offsets),
            "fields of one sequence differ in length"
        );
        let mut keys_of = lay(pass, &bags, self.combine);
        let places = bags.iter().map(|(bags, _)| bags.index.clone()).collect();
        let items = Some(Items { values: keys_of.clone(), places });
        let times = self.gap.iter().chain(&self.interval);
        let embedded = times.map(|(at, table)| lay(pass, &[(keys(x, *at), x.rows(*table))], Combine::Sum));
        let strength = first.weights.clone();
        let felt = self.strength.map(|id| {
            let logs = (0..m).map(|e| first.weight(e).max(0.0).ln_1p()).collect();
            pass.constant(&[m, 1], logs).linear(&pass.param(id), None)
        });
        let parts: Vec<Tensor> = embedded.chain(felt).collect();
        let context = match self.combine {
            Combine::Concat => (!parts.is_empty()).then(|| Tensor::join(parts)),
            Combine::Sum => {
                keys_of = parts.iter().fold(keys_of, |sum, part| sum.add(part));
                None
            }
        };
        let keys = Ragged::of(first.offsets.clone(), keys_of);
        let target = self.target.forward_candidates(pass, x); // [N, E, D]
        let target = if self.combine == Combine::Sum { target.sum_middle() } else { target.flatten() };
        let gap = self.gap.map(|(at, _)| Arc::new(gaps(x, at)));
        let session = self.session.map(|at| Arc::new(sessions(x, at)));
        Sequence { pairs: pairs(&keys, x), keys, context, target, gap, strength, session, items }
    }
}

/// The candidates of a batch over its histories.
///
/// # Panics
/// If candidates do not stand in the order of their requests.
fn pairs(keys: &Ragged, x: &Inputs) -> Pairs {
    match Pairs::new(keys, x.candidate_request().clone()) {
        Ok(pairs) => pairs,
        Err(e) => panic!("{e}"),
    }
}

fn keys(x: &Inputs, at: usize) -> &Bags {
    match x.field(at) {
        FieldInput::Keys(bags) => bags,
        other => panic!("a field of a sequence is {other:?}"),
    }
}

/// ⌊log₂(seconds + 1)⌋ of each element.
fn gaps(x: &Inputs, at: usize) -> Vec<u8> {
    numbers(x, at).map(|log| log.min(255) as u8).collect()
}

/// The session of each element.
fn sessions(x: &Inputs, at: usize) -> Vec<u32> {
    numbers(x, at).map(|session| session.min(u64::from(u32::MAX)) as u32).collect()
}

/// What the keys of a field of the sequence count.
fn numbers(x: &Inputs, at: usize) -> impl Iterator<Item = u64> + '_ {
    let unique = x.unique_keys(at);
    keys(x, at).index.iter().map(|i| unique[*i as usize].saturating_sub(encode::FIRST))
}

/// Rows of several tables (or of one, several times) for each element, side by side `[M, E·D]` or added up `[M, D]`.
fn lay(pass: &Pass, parts: &[(&Bags, &Tensor)], combine: Combine) -> Tensor {
    let (m, d) = (parts[0].0.index.len(), parts[0].1.width());
    let width = if combine == Combine::Concat { parts.len() * d } else { d };
    let step = if combine == Combine::Concat { d } else { 0 };
    let mut out = Buffer::any(m * width);
    let rows_of: Vec<(&[u32], &[f32])> =
        parts.iter().map(|(bags, rows)| (&bags.index[..], rows.data())).collect();
    chunks::rows(&mut out, width, |from, out| {
        for (f, (index, rows)) in rows_of.iter().enumerate() {
            for (out, i) in out.chunks_exact_mut(width).zip(&index[from..]) {
                let row = &rows[*i as usize * d..][..d];
                let out = &mut out[f * step..][..d];
                if f > 0 && step == 0 { chunks::add(out, row) } else { out.copy_from_slice(row) }
            }
        }
    });
    let tracked = parts.iter().any(|(_, rows)| rows.tracked());
    let of = |(bags, rows): &(&Bags, &Tensor)| Some((rows.node?, rows.len(), bags.index.clone()));
    let sources: Vec<(NodeId, usize, Arc<Vec<u32>>)> = parts.iter().filter_map(of).collect();
    pass.output(&[m, width], out, tracked, move |g, grads| {
        if g.is_empty() {
            return;
        }
        for (f, (node, len, index)) in sources.iter().enumerate() {
            grads.sum(Some(*node), *len, |into| {
                let to = To::Rows { index, map: None };
                let flow = Flow { grad: &g[f * step..], step: width, to };
                scatter(vec![Inflow { into, width: d, flows: vec![flow] }]);
            });
        }
    })
}
