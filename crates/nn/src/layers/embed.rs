//! Field embeddings: keys, bags of keys and numbers to one vector per field.

use crate::buffer::Buffer;
use crate::chunks;
use crate::error::{Error, Result};
use crate::init::{Init, RowInit};
use crate::inputs::{FieldInput, Inputs};
use crate::ops::scatter::{Flow, Inflow, To, scatter};
use crate::ops::split::Split;
use crate::ops::{Bags, pool_bag};
use crate::params::{ParamId, Params, TableId};
use crate::pass::Pass;
use crate::product::{Mat, Onto, product};
use crate::tape::{Grads, NodeId};
use crate::tensor::Tensor;
use millstream_schema::{Field, Rows, Shape};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Width, tables and start of an [`Embed`].
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedSpec {
    /// D.
    pub dim: usize,
    /// Tables are called `space/suffix`: the same suffix is the same tables.
    pub suffix: String,
    /// How rows (and the projections of numbers) start.
    pub init: RowInit,
}

impl EmbedSpec {
    /// Width `dim`, suffix `d{dim}`, normal with standard deviation 1e-4.
    pub fn new(dim: usize) -> Self {
        Self { dim, suffix: format!("d{dim}"), init: RowInit::Normal(1e-4) }
    }
}

#[derive(Debug, Clone)]
enum Source {
    Table(TableId),
    Projection(ParamId),
}

#[derive(Debug, Clone)]
struct Chosen {
    field: usize,
    rows: Rows,
    source: Source,
}

/// One vector of width D per field: a row of the field's table for a key, the pooled rows for several keys, a learned
/// projection (without bias) for numbers. Fields of one key space share a table.
#[derive(Debug, Clone)]
pub struct Embed {
    chosen: Vec<Chosen>,
    dim: usize,
}

/// Which rows and fields of a batch are embedded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// All fields for N rows.
    Full,
    /// Request fields for R rows.
    Requests,
    /// Candidate fields for N rows.
    Candidates,
}

impl Embed {
    /// Embeds the chosen fields (places in `fields`), in that order.
    ///
    /// # Errors
    /// No field, a field that is not there, a key field without a key space, or as [`Params::table`].
    pub fn new(params: &mut Params, fields: &[Field], chosen: &[usize], spec: &EmbedSpec) -> Result<Self> {
        if chosen.is_empty() {
            return Err(Error::Model(format!("embeddings `{}` have no field", spec.suffix)));
        }
        let one = |&at: &usize| {
            let field = fields.get(at).ok_or_else(|| {
                Error::Model(format!("field {at} is to be embedded, but there are only {}", fields.len()))
            })?;
            Ok(Chosen { field: at, rows: field.rows, source: source(params, field, spec)? })
        };
        Ok(Self { chosen: chosen.iter().map(one).collect::<Result<_>>()?, dim: spec.dim })
    }

    /// Embeds all fields.
    ///
    /// # Errors
    /// As [`Embed::new`].
    pub fn all(params: &mut Params, fields: &[Field], spec: &EmbedSpec) -> Result<Self> {
        Self::new(params, fields, &(0..fields.len()).collect::<Vec<_>>(), spec)
    }

    /// F: number of fields of [`Embed::forward`].
    pub fn fields(&self) -> usize {
        self.chosen.len()
    }

    /// Number of request fields, those of [`Embed::forward_requests`].
    pub fn request_fields(&self) -> usize {
        self.chosen.iter().filter(|c| c.rows == Rows::Request).count()
    }

    /// Number of candidate fields, those of [`Embed::forward_candidates`].
    pub fn candidate_fields(&self) -> usize {
        self.fields() - self.request_fields()
    }

    /// D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `[N, F, D]`; what belongs to a request is computed once and handed to its candidates.
    pub fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.embed(pass, x, View::Full)
    }

    /// `[R, F', D]`: the request fields, in order.
    ///
    /// # Panics
    /// If there is none.
    pub fn forward_requests(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.embed(pass, x, View::Requests)
    }

    /// `[N, F'', D]`: the candidate fields, in order.
    ///
    /// # Panics
    /// If there is none.
    pub fn forward_candidates(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.embed(pass, x, View::Candidates)
    }

    fn embed(&self, pass: &Pass, x: &Inputs, view: View) -> Tensor {
        let seen = |c: &&Chosen| match view {
            View::Full => true,
            View::Requests => c.rows == Rows::Request,
            View::Candidates => c.rows == Rows::Candidate,
        };
        let parts: Vec<Part> = self.chosen.iter().filter(seen).map(|c| self.part(pass, x, c, view)).collect();
        assert!(!parts.is_empty(), "there is no field to embed");
        let rows = if view == View::Requests { x.requests() } else { x.candidates() };
        let (d, f) = (self.dim, parts.len());
        let mut out = Buffer::any(rows * f * d);
        write(&mut out, &parts, d);
        let tracked = parts.iter().any(|p| p.rows.tracked());
        let map = x.candidate_request().clone();
        let requests = x.requests();
        if view == View::Full && !pass.is_training() && x.splits() {
            let split = self.split(pass, x).map(Rc::new);
            return Tensor { split, ..pass.output(&[rows, f, d], out, false, |_, _| ()) };
        }
        let parts: Vec<Tied> = parts.into_iter().map(Part::tie).collect();
        pass.output(&[rows, f, d], out, tracked, move |g, grads| {
            back(&g, &Parted { parts, d, map: &map, requests }, grads);
        })
    }

    /// The request's and the candidates' vectors apart, if there are both.
    fn split(&self, pass: &Pass, x: &Inputs) -> Option<Split> {
        let (shared, own) = (self.request_fields(), self.candidate_fields());
        if shared == 0 || own == 0 {
            return None;
        }
        let d = self.dim;
        let gathered = |view: View, rows: usize, fields: usize| {
            let of = if view == View::Requests { Rows::Request } else { Rows::Candidate };
            let chosen = self.chosen.iter().filter(|c| c.rows == of);
            let parts: Vec<Part> = chosen.map(|c| self.part(pass, x, c, view)).collect();
            let mut out = Buffer::any(rows * fields * d);
            write(&mut out, &parts, d);
            out
        };
        let mut stretches: Vec<(Range<usize>, bool)> = Vec::new();
        for (f, c) in self.chosen.iter().enumerate() {
            let of_request = c.rows == Rows::Request;
            match stretches.last_mut() {
                Some((columns, of)) if *of == of_request => columns.end += d,
                _ => stretches.push((f * d..(f + 1) * d, of_request)),
            }
        }
        Some(Split {
            requests: gathered(View::Requests, x.requests(), shared),
            own: gathered(View::Candidates, x.candidates(), own),
            map: x.candidate_request().clone(),
            stretches,
        })
    }

    fn part(&self, pass: &Pass, x: &Inputs, chosen: &Chosen, view: View) -> Part {
        let expand = view == View::Full && chosen.rows == Rows::Request && !x.one_candidate_each();
        let map = expand.then(|| x.candidate_request().clone());
        let rows = match chosen.source {
            Source::Table(table) => x.rows(table).clone(),
            Source::Projection(id) => pass.param(id),
        };
        let d = self.dim;
        match x.field(chosen.field) {
            FieldInput::Key(index) => Part { kind: Kind::Key(index.clone()), rows, map, made: None },
            FieldInput::Keys(bags) => {
                let made = map.is_some().then(|| {
                    let mut made = Buffer::any(bags.len() * d);
                    let from = rows.data();
                    chunks::rows(&mut made, d, |first, out| {
                        out.chunks_exact_mut(d)
                            .enumerate()
                            .for_each(|(b, o)| pool_bag(bags, first + b, from, o));
                    });
                    made
                });
                Part { kind: Kind::Keys(bags.clone()), rows, map, made }
            }
            FieldInput::Dense { width, values } => {
                let (n, w) = (values.len() / width, *width);
                let mut made = Buffer::any(n * d);
                product(&mut made, Mat::new(values, n, w), Mat::new(rows.data(), d, w).t(), Onto::Write);
                Part { kind: Kind::Dense(values.clone(), w), rows, map, made: Some(made) }
            }
        }
    }
}

fn source(params: &mut Params, field: &Field, spec: &EmbedSpec) -> Result<Source> {
    if let Shape::Dense(width) = field.shape {
        let init = match spec.init {
            RowInit::Zero => Init::Zeros,
            RowInit::Uniform(bound) => Init::Uniform(bound),
            RowInit::Normal(std) => Init::Normal(std),
        };
        let name = format!("{}/{}", field.name, spec.suffix);
        return Ok(Source::Projection(params.dense(&name, &[spec.dim, width], init)?));
    }
    let space = field
        .space
        .as_deref()
        .ok_or_else(|| Error::Model(format!("field `{}` has keys but no key space", field.name)))?;
    let name = format!("{space}/{}", spec.suffix);
    Ok(Source::Table(params.table(&name, space, spec.dim, spec.init)?))
}

/// What a field's vectors are made from.
enum Kind {
    Key(Arc<Vec<u32>>),
    Keys(Bags),
    /// Numbers and how many a row has.
    Dense(Arc<Vec<f32>>, usize),
}

/// One field, ready to be written into its columns of the output.
struct Part {
    kind: Kind,
    /// Rows of the table, or the projection `[D, width]`.
    rows: Tensor,
    /// From output rows to the field's own rows, where they differ.
    map: Option<Arc<Vec<u32>>>,
    /// The field's vectors, where they had to be made before expanding.
    made: Option<Buffer>,
}

/// What the backward pass needs of a [`Part`].
struct Tied {
    kind: Kind,
    node: Option<NodeId>,
    len: usize,
    expanded: bool,
}

impl Part {
    fn tie(self) -> Tied {
        Tied { kind: self.kind, node: self.rows.node, len: self.rows.len(), expanded: self.map.is_some() }
    }
}

/// Where one field's vectors are copied from.
enum Copy<'a> {
    Rows { from: &'a [f32], index: Option<&'a [u32]>, map: Option<&'a [u32]> },
    Bags { from: &'a [f32], bags: &'a Bags },
}

fn write(out: &mut [f32], parts: &[Part], d: usize) {
    let copies: Vec<Copy<'_>> = parts
        .iter()
        .map(|p| {
            let map = p.map.as_ref().map(|m| m.as_slice());
            match (&p.made, &p.kind) {
                (Some(made), _) => Copy::Rows { from: made, index: None, map },
                (None, Kind::Keys(bags)) => Copy::Bags { from: p.rows.data(), bags },
                (None, Kind::Key(index)) => Copy::Rows { from: p.rows.data(), index: Some(index), map },
                (None, Kind::Dense(..)) => unreachable!("numbers are always projected first"),
            }
        })
        .collect();
    let width = parts.len() * d;
    chunks::rows(out, width, |first, out| {
        for (f, copy) in copies.iter().enumerate() {
            for (i, row) in out.chunks_exact_mut(width).enumerate() {
                copy.write(first + i, &mut row[f * d..][..d]);
            }
        }
    });
}

impl Copy<'_> {
    #[inline]
    fn write(&self, n: usize, out: &mut [f32]) {
        match self {
            Copy::Rows { from, index, map } => {
                let n = map.map_or(n, |m| m[n] as usize);
                let n = index.map_or(n, |i| i[n] as usize);
                copy(out, &from[n * out.len()..]);
            }
            Copy::Bags { from, bags } => pool_bag(bags, n, from, out),
        }
    }
}

/// Fills `to` from the head of `from`: rows are too short for a call of the system's copy to pay.
#[inline]
fn copy(to: &mut [f32], from: &[f32]) {
    const LANES: usize = 8;
    let from = &from[..to.len()];
    let rest = to.len() / LANES * LANES;
    for (to, from) in to.chunks_exact_mut(LANES).zip(from.chunks_exact(LANES)) {
        to.copy_from_slice(from);
    }
    to[rest..].iter_mut().zip(&from[rest..]).for_each(|(t, f)| *t = *f);
}

/// The fields of an output `[rows, F, d]`.
struct Parted<'a> {
    parts: Vec<Tied>,
    d: usize,
    map: &'a [u32],
    requests: usize,
}

impl Parted<'_> {
    /// For fields made once per request: the candidates' gradients summed by request `[R, d]`.
    fn summed(&self, g: &[f32], f: usize) -> Option<Buffer> {
        let part = &self.parts[f];
        if !part.expanded || matches!(part.kind, Kind::Key(_)) || part.node.is_none() {
            return None;
        }
        let mut sum = Buffer::zeros(self.requests * self.d);
        let flow =
            Flow { grad: &g[f * self.d..], step: self.step(), to: To::Rows { index: self.map, map: None } };
        scatter(vec![Inflow { into: &mut sum, width: self.d, flows: vec![flow] }]);
        Some(sum)
    }

    fn step(&self) -> usize {
        self.parts.len() * self.d
    }
}

/// Gradients of all tables and projections from that of the output.
fn back(g: &[f32], x: &Parted<'_>, grads: &mut Grads) {
    if g.is_empty() {
        return;
    }
    let sums: Vec<Option<Buffer>> = (0..x.parts.len()).map(|f| x.summed(g, f)).collect();
    let of = |f: usize| sums[f].as_deref().map_or((&g[f * x.d..], x.step()), |sum| (sum, x.d));
    let mut tables: Vec<(NodeId, usize, Vec<Flow<'_>>)> = Vec::new();
    for (f, part) in x.parts.iter().enumerate() {
        let (Some(node), (grad, step)) = (part.node, of(f)) else { continue };
        let to = match &part.kind {
            Kind::Key(index) => To::Rows { index, map: part.expanded.then_some(x.map) },
            Kind::Keys(bags) => To::Bags(bags),
            Kind::Dense(values, w) => {
                project_back((grad, step), (values, *w), x.d, (node, grads));
                continue;
            }
        };
        let flow = Flow { grad, step, to };
        match tables.iter_mut().find(|t| t.0 == node) {
            Some((.., flows)) => flows.push(flow),
            None => tables.push((node, part.len, vec![flow])),
        }
    }
    let mut into: Vec<(NodeId, Buffer)> = tables
        .iter()
        .map(|(n, len, _)| (*n, grads.take(*n).unwrap_or_else(|| Buffer::zeros(*len))))
        .collect();
    let inflows = into.iter_mut().zip(tables);
    scatter(inflows.map(|((_, into), (.., flows))| Inflow { into, width: x.d, flows }).collect());
    into.into_iter().for_each(|(node, buffer)| grads.add(Some(node), buffer));
}

/// Gradient of a projection `[d, w]`: gᵀ x.
fn project_back(
    (grad, step): (&[f32], usize),
    (values, w): (&[f32], usize),
    d: usize,
    (node, grads): (NodeId, &mut Grads),
) {
    let n = values.len() / w;
    grads.write(Some(node), d * w, |into, add| {
        product(into, Mat::strided(grad, n, d, step).t(), Mat::new(values, n, w), add.into());
    });
}
