//! Records to columns: the one place where a raw value becomes what a model sees.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cell::{Category, Number};
use crate::feature::{GAP, INTERVAL, SESSION, Transform};
use crate::fit::column_of;
use crate::{BadValues, Column, Columns, Error, FeatureKind, FeatureSpec, Frame, IdMap, Schema, Side, parse};

pub use crate::feature::Pool;

/// Key of a missing value.
pub const MISSING: u64 = 0;
/// Key of a value outside the vocabulary.
pub const UNKNOWN: u64 = 1;
/// First key of a vocabulary or of a hash.
pub const FIRST: u64 = 2;
/// Buckets of a time gap: ⌊log₂(seconds + 1)⌋, capped; 31 buckets reach 34 years.
pub const GAP_BUCKETS: u64 = 31;

/// How often a field is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rows {
    /// Once per request: user and context features.
    Request,
    /// Once per candidate: item and exposure features.
    Candidate,
}

/// What a field's column looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// One embedding key per row.
    Key,
    /// Any number of keys per row.
    Keys,
    /// This many numbers per row.
    Dense(usize),
}

/// One column that models see. A sequence feature makes several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// The feature's name; `feature.element`, `feature.gap` and `feature.interval` for sequences.
    pub name: String,
    /// How often it is computed.
    pub rows: Rows,
    /// Its column's shape.
    pub shape: Shape,
    /// Embedding key space; fields with the same one share embeddings. `None` for dense fields.
    pub space: Option<String>,
    /// How several keys of a row are pooled.
    pub pool: Pool,
    /// Number of possible keys, when bounded.
    pub size: Option<u64>,
    /// Whether each key of a row has a weight: the strength of a sequence's actions.
    pub weighted: bool,
    /// Place of the feature in the schema.
    pub feature: usize,
}

/// Values to keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Numbering {
    /// By a fitted vocabulary.
    Vocab(IdMap),
    /// By hash, folded to the buckets given.
    Hash(Option<u64>),
}

/// What was learned about one feature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Fitted {
    /// Nothing to learn.
    Nothing,
    /// Keys of categorical values.
    Keys(Numbering),
    /// (x − mean) / deviation.
    Scale {
        /// Mean of the training rows.
        mean: f64,
        /// Standard deviation of the training rows, 1 where it is 0.
        deviation: f64,
    },
    /// Rising bucket edges.
    Edges(Vec<f64>),
}

/// Encodes rows. Saved with a model, so that training and serving cannot differ.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Encoder {
    schema: Schema,
    fitted: Vec<Fitted>,
    fields: Vec<Field>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    schema: Schema,
    fitted: Vec<Fitted>,
}

impl TryFrom<Saved> for Encoder {
    type Error = Error;

    fn try_from(saved: Saved) -> Result<Self, Error> {
        Self::new(saved.schema, saved.fitted)
    }
}

impl From<Encoder> for Saved {
    fn from(encoder: Encoder) -> Self {
        Self { schema: encoder.schema, fitted: encoder.fitted }
    }
}

impl Numbering {
    /// The key of one value.
    #[inline]
    pub fn key(&self, value: &str) -> u64 {
        match self {
            _ if value.is_empty() => MISSING,
            Self::Vocab(ids) => ids.get(value).map_or(UNKNOWN, |row| FIRST + u64::from(row)),
            Self::Hash(buckets) => fold(hash(value.as_bytes()), *buckets),
        }
    }

    /// As [`key`](Self::key) for a value of four to eight bytes that is hashed; `None` for all others. Small enough to stand in a
    /// loop over the cells of a column.
    #[inline]
    pub(crate) fn short_key(&self, value: &[u8]) -> Option<u64> {
        match self {
            Self::Hash(buckets) if SHORT.contains(&value.len()) => Some(fold(short_hash(value), *buckets)),
            _ => None,
        }
    }

    fn size(&self) -> Option<u64> {
        match self {
            Self::Vocab(ids) => Some(FIRST + ids.len() as u64),
            Self::Hash(buckets) => buckets.map(|b| FIRST + b),
        }
    }
}

/// Lengths of the values that [`short_hash`] takes.
const SHORT: std::ops::RangeInclusive<usize> = 4..=8;

/// XXH3 with seed 0: what keys are made of, in every file.
#[inline]
fn hash(value: &[u8]) -> u64 {
    if SHORT.contains(&value.len()) { short_hash(value) } else { xxh3_64_with_seed(value, 0) }
}

/// [`hash`] of four to eight bytes (XXH3's own case for these lengths), where a compiler can put it in line.
#[inline]
fn short_hash(value: &[u8]) -> u64 {
    /// Bytes 8 to 24 of XXH3's secret, the two halves folded.
    const FLIP: u64 = 0x1cad_21f7_2c81_017c ^ 0xdb97_9083_e96d_d4de;
    const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
    let word = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
    let keyed = (word(value.last_chunk()) | word(value.first_chunk()) << 32) ^ FLIP;
    let mixed = (keyed ^ keyed.rotate_left(49) ^ keyed.rotate_left(24)).wrapping_mul(FACTOR);
    let mixed = (mixed ^ ((mixed >> 35) + value.len() as u64)).wrapping_mul(FACTOR);
    mixed ^ (mixed >> 28)
}

/// A hash as a key that is neither [`MISSING`] nor [`UNKNOWN`].
#[inline]
pub(crate) fn fold(hash: u64, buckets: Option<u64>) -> u64 {
    match buckets {
        Some(b) => FIRST + hash % b,
        None => hash.max(FIRST),
    }
}

impl Encoder {
    /// An encoder from a checked schema and what was fitted for each feature.
    ///
    /// # Errors
    /// The two do not belong together.
    pub fn new(schema: Schema, fitted: Vec<Fitted>) -> Result<Self, Error> {
        if schema.features.len() != fitted.len() {
            return Err(Error::Corrupt("an encoder's features and fitted values differ in number".into()));
        }
        let schema = Schema::new(schema.features)?;
        let mut fields = Vec::new();
        for index in 0..schema.features.len() {
            fields_of(&schema, &fitted, index, &mut fields);
        }
        Ok(Self { schema, fitted, fields })
    }

    /// All fields in order; a batch has one column for each.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The declared features.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What was fitted for a feature, by its place in the schema.
    pub(crate) fn fitted(&self, feature: usize) -> Option<&Fitted> {
        self.fitted.get(feature)
    }

    /// An encoder of features that need no data to be fitted on: hashed, or with numbers and edges as declared.
    /// What a stream is read with, whose values are not known beforehand.
    ///
    /// # Errors
    /// A feature has a vocabulary, or a mean or quantiles of the training rows; its name and what to do.
    pub fn without_fitting(schema: &Schema) -> Result<Self, Error> {
        match schema.features.iter().find_map(|f| Some((f, f.needs_fitting()?))) {
            Some((feature, why)) => Err(Error::config(format!("feature `{}`: {why}", feature.name))),
            None => crate::Fitter::new(schema).finish(),
        }
    }

    /// The place of the field of this name.
    pub fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// Encodes the features of these sides for all rows of `frame`.
    ///
    /// # Errors
    /// A column is missing, or a value is bad and `bad`'s policy is strict.
    pub fn encode(&self, sides: &[Side], frame: &Frame, bad: &mut BadValues) -> Result<Columns, Error> {
        let mut out = Columns { rows: frame.rows(), ..Columns::default() };
        for (place, field) in self.fields.iter().enumerate() {
            let spec = &self.schema.features[field.feature];
            if sides.contains(&spec.side) && spec.reads_column() {
                let at = column_of(spec, frame)?;
                out.fields.push(place as u32);
                out.columns.push(encode_column(spec, &self.fitted[field.feature], frame, at, bad)?);
            }
        }
        Ok(out)
    }

    /// `rows` rows of exposure fields at their defaults: what serving uses, where no exposure has happened.
    pub fn exposure_defaults(&self, rows: usize) -> Result<Columns, Error> {
        self.defaults(Side::Exposure, rows)
    }

    /// `rows` rows of context fields at their defaults: for requests that say nothing of themselves.
    pub fn context_defaults(&self, rows: usize) -> Result<Columns, Error> {
        self.defaults(Side::Context, rows)
    }

    fn defaults(&self, side: Side, rows: usize) -> Result<Columns, Error> {
        let mut frame = Frame::new("defaults", &self.schema.columns(side));
        frame.push_row(0, &[]);
        let one = self.encode(&[side], &frame, &mut BadValues::default())?;
        Ok(if one.fields.is_empty() { Columns::default() } else { one.gather(&vec![0; rows]) })
    }
}

fn fields_of(schema: &Schema, fitted: &[Fitted], index: usize, out: &mut Vec<Field>) {
    let spec = &schema.features[index];
    let weighted = matches!(spec.kind, FeatureKind::Sequence { strength: true, .. });
    let mut add = |name: String, rows: Rows, shape: Shape, space: Option<String>, size: Option<u64>| {
        out.push(Field { name, rows, shape, space, pool: spec.pool, size, weighted, feature: index });
    };
    let rows = match spec.side {
        Side::User | Side::Context => Rows::Request,
        Side::Item | Side::Exposure => Rows::Candidate,
    };
    let table = Some(spec.table.clone());
    let size = size_of(&fitted[index]);
    match &spec.kind {
        FeatureKind::Categorical { .. } => add(spec.name.clone(), rows, Shape::Key, table, size),
        FeatureKind::Numeric { transform, .. } => match transform {
            Transform::Log2Bins(bins) => {
                add(spec.name.clone(), rows, Shape::Key, table, Some(log2_keys(*bins)))
            }
            _ if transform.makes_keys() => add(spec.name.clone(), rows, Shape::Key, table, size),
            _ => add(spec.name.clone(), rows, Shape::Dense(1), None, None),
        },
        FeatureKind::Multi { .. } | FeatureKind::Text { .. } => {
            add(spec.name.clone(), rows, Shape::Keys, table, size);
        }
        FeatureKind::Dense { width, .. } => add(spec.name.clone(), rows, Shape::Dense(*width), None, None),
        FeatureKind::Match { .. } => add(spec.name.clone(), Rows::Candidate, Shape::Dense(2), None, None),
        FeatureKind::Cross { of, .. } => {
            let (rows, shape) = cross_shape(schema, of);
            add(spec.name.clone(), rows, shape, table, size);
        }
        FeatureKind::Sequence { elements, shared, times, max_len, .. } => {
            for element in elements {
                let name = format!("{}.{element}", spec.name);
                let Some(at) = schema.features.iter().position(|f| f.name == *element) else { continue };
                let space = if *shared { schema.features[at].table.clone() } else { name.clone() };
                add(name, Rows::Request, Shape::Keys, Some(space), size_of(&fitted[at]));
            }
            let mut counted = |part: &str, size: u64| {
                let name = format!("{}.{part}", spec.name);
                add(name.clone(), Rows::Request, Shape::Keys, Some(name), Some(FIRST + size));
            };
            if times.has_gap() {
                counted(GAP, GAP_BUCKETS);
            }
            if times.has_interval() {
                counted(INTERVAL, GAP_BUCKETS);
            }
            if times.session_gap_mins().is_some() {
                counted(SESSION, *max_len as u64);
            }
        }
    }
}

/// Rows and shape of a cross: per candidate if any part is; several keys if any part has several.
fn cross_shape(schema: &Schema, of: &[String]) -> (Rows, Shape) {
    let (mut rows, mut shape) = (Rows::Request, Shape::Key);
    for part in schema.features.iter().filter(|f| of.contains(&f.name)) {
        if matches!(part.side, Side::Item | Side::Exposure) {
            rows = Rows::Candidate;
        }
        if matches!(part.kind, FeatureKind::Multi { .. } | FeatureKind::Text { .. }) {
            shape = Shape::Keys;
        }
    }
    (rows, shape)
}

/// Keys of [`Transform::Log2Bins`]: `f64`s reach up to 2¹⁰²⁴, on both sides of zero.
fn log2_keys(bins: u32) -> u64 {
    FIRST + 2 * (1024 * u64::from(bins) + 1)
}

fn size_of(fitted: &Fitted) -> Option<u64> {
    match fitted {
        Fitted::Keys(numbering) => numbering.size(),
        Fitted::Edges(edges) => Some(edges.len() as u64 + FIRST),
        _ => None,
    }
}

fn encode_column(
    spec: &FeatureSpec,
    fitted: &Fitted,
    frame: &Frame,
    at: usize,
    bad: &mut BadValues,
) -> Result<Column, Error> {
    match (&spec.kind, fitted) {
        (FeatureKind::Categorical { default, .. }, Fitted::Keys(numbering)) => {
            let rule = Category::new(numbering, default.as_deref());
            Ok(Column::Key((0..frame.rows()).map(|row| rule.key(frame.get(row, at))).collect()))
        }
        (FeatureKind::Numeric { transform, default }, _) => {
            numeric_column(spec, &Number::new(transform, fitted, *default), frame, at, bad)
        }
        (FeatureKind::Multi { .. }, Fitted::Keys(numbering)) => multi_column(spec, numbering, frame, at, bad),
        (FeatureKind::Text { max_len, .. }, Fitted::Keys(numbering)) => {
            let mut ragged = Ragged::new(false);
            for row in 0..frame.rows() {
                parse::words(frame.get(row, at))
                    .take(*max_len)
                    .for_each(|w| ragged.push(numbering.key(&w), 1.0));
                ragged.end_row();
            }
            Ok(ragged.column())
        }
        (FeatureKind::Dense { width, separator }, _) => {
            dense_column(spec, (*width, separator), frame, at, bad)
        }
        _ => Err(Error::Corrupt(format!("feature `{}` was fitted as another kind", spec.name))),
    }
}

/// Missing numbers are the default, or a bucket of their own; bad ones are the default.
fn numeric_column(
    spec: &FeatureSpec,
    rule: &Number<'_>,
    frame: &Frame,
    at: usize,
    bad: &mut BadValues,
) -> Result<Column, Error> {
    let mut number = |row: usize| match rule.number(frame.get(row, at)) {
        Ok(x) => Ok(x),
        Err(reason) => {
            bad.add(frame, row, &spec.column, &reason)?;
            Ok(Some(rule.default()))
        }
    };
    let rows = 0..frame.rows();
    if rule.makes_keys() {
        let keys: Result<_, Error> =
            rows.map(|row| Ok(number(row)?.map_or(MISSING, |x| rule.key(x)))).collect();
        return Ok(Column::Key(keys?));
    }
    let value = |row| Ok(rule.value(number(row)?.unwrap_or(rule.default())));
    Ok(Column::Dense { width: 1, values: rows.map(value).collect::<Result<_, Error>>()? })
}

fn multi_column(
    spec: &FeatureSpec,
    numbering: &Numbering,
    frame: &Frame,
    at: usize,
    bad: &mut BadValues,
) -> Result<Column, Error> {
    let FeatureKind::Multi { separator, weight_separator, max_len, .. } = &spec.kind else {
        return Err(Error::Corrupt(format!("feature `{}` was fitted as another kind", spec.name)));
    };
    let mut ragged = Ragged::new(weight_separator.is_some());
    for row in 0..frame.rows() {
        for element in parse::elements(frame.get(row, at), separator).take(*max_len) {
            let (name, weight) = match weight_separator.as_deref().and_then(|w| element.rsplit_once(w)) {
                Some((name, weight)) => match parse::number(weight) {
                    Ok(w) => (name.trim(), w as f32),
                    Err(reason) => {
                        bad.add(frame, row, &spec.column, &format!("weight {reason}"))?;
                        (name.trim(), 1.0)
                    }
                },
                None => (element, 1.0),
            };
            ragged.push(numbering.key(name), weight);
        }
        ragged.end_row();
    }
    Ok(ragged.column())
}

/// Cells of numbers in order, or of `index:value` pairs (indices from 0), where what is not named is 0.
fn dense_column(
    spec: &FeatureSpec,
    (width, separator): (usize, &str),
    frame: &Frame,
    at: usize,
    bad: &mut BadValues,
) -> Result<Column, Error> {
    let mut values = Vec::with_capacity(frame.rows() * width);
    for row in 0..frame.rows() {
        let cell = frame.get(row, at);
        let start = values.len();
        if cell.contains(':') {
            values.resize(start + width, 0.0);
            if let Err(reason) = pairs(cell, separator, &mut values[start..]) {
                bad.add(frame, row, &spec.column, &reason)?;
                values[start..].fill(0.0);
            }
            continue;
        }
        let parsed = parse::elements(cell, separator).try_for_each(|e| {
            values.push(parse::number(e)? as f32);
            Ok::<(), String>(())
        });
        let found = values.len() - start;
        let problem = match parsed {
            Err(reason) => Some(reason),
            Ok(()) if found != width && found > 0 => {
                Some(format!("a vector of another length ({found} for {width})"))
            }
            Ok(()) => None,
        };
        if let Some(reason) = problem {
            bad.add(frame, row, &spec.column, &reason)?;
        }
        if found != width || values[start..].iter().any(|x| !x.is_finite()) {
            values.truncate(start);
            values.resize(start + width, 0.0);
        }
    }
    Ok(Column::Dense { width, values })
}

/// Puts the `index:value` pairs of a cell into a row.
fn pairs(cell: &str, separator: &str, row: &mut [f32]) -> Result<(), String> {
    for pair in parse::elements(cell, separator) {
        let (index, value) = pair
            .split_once(':')
            .ok_or_else(|| format!("{} is not `index:value` as the others are", parse::short(pair)))?;
        let at: usize = index.trim().parse().map_err(|_| format!("{} is no index", parse::short(index)))?;
        let width = row.len();
        let slot = row
            .get_mut(at)
            .ok_or_else(|| format!("index {at} is beyond the width {width} (indices begin at 0)"))?;
        *slot = parse::number(value)? as f32;
    }
    Ok(())
}

/// Builds a ragged column row by row.
pub(crate) struct Ragged {
    offsets: Vec<u32>,
    keys: Vec<u64>,
    weights: Option<Vec<f32>>,
}

impl Ragged {
    pub(crate) fn new(weighted: bool) -> Self {
        Self { offsets: vec![0], keys: Vec::new(), weights: weighted.then(Vec::new) }
    }

    pub(crate) fn push(&mut self, key: u64, weight: f32) {
        self.keys.push(key);
        if let Some(weights) = &mut self.weights {
            weights.push(weight);
        }
    }

    pub(crate) fn end_row(&mut self) {
        self.offsets.push(self.keys.len() as u32);
    }

    pub(crate) fn column(self) -> Column {
        Column::Keys { offsets: self.offsets, keys: self.keys, weights: self.weights }
    }
}
