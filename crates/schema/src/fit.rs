//! Learning an encoder from the training rows: vocabularies, quantiles, means.

use rapidhash::RapidHashMap;

use crate::encode::{Encoder, Fitted, Numbering};
use crate::feature::{Encoding, Transform};
use crate::{Error, FeatureKind, FeatureSpec, Frame, IdMap, Schema, Side, parse, suggest};

/// Numbers kept to estimate quantiles from.
const SAMPLE: usize = 100_000;

/// Observes training rows and ends in an [`Encoder`].
pub struct Fitter {
    schema: Schema,
    states: Vec<State>,
}

enum State {
    Nothing,
    Counts(RapidHashMap<Box<str>, u64>),
    Moments { n: u64, mean: f64, m2: f64 },
    Sample { seen: u64, rng: u64, kept: Vec<f64> },
}

impl Fitter {
    /// Starts with nothing observed.
    pub fn new(schema: &Schema) -> Self {
        let states = schema.features.iter().map(State::of).collect();
        Self { schema: schema.clone(), states }
    }

    /// Takes in the features of these sides from rows of `frame`.
    ///
    /// # Errors
    /// A feature's column is not in the frame.
    pub fn observe(&mut self, sides: &[Side], frame: &Frame) -> Result<(), Error> {
        for (spec, state) in self.schema.features.iter().zip(&mut self.states) {
            if sides.contains(&spec.side) && spec.reads_column() {
                let column = column_of(spec, frame)?;
                for row in 0..frame.rows() {
                    state.take(&spec.kind, frame.get(row, column));
                }
            }
        }
        Ok(())
    }

    /// The encoder.
    pub fn finish(self) -> Result<Encoder, Error> {
        let mut states = self.states;
        share_counts(&self.schema.features, &mut states);
        let fitted: Vec<Fitted> =
            self.schema.features.iter().zip(states).map(|(spec, state)| state.finish(&spec.kind)).collect();
        Encoder::new(self.schema, fitted)
    }
}

/// Features of one embedding table get one vocabulary: a key must mean the same value to all of them.
fn share_counts(features: &[FeatureSpec], states: &mut [State]) {
    for i in 0..features.len() {
        let same = |j: &usize| features[*j].table == features[i].table;
        let shared: Vec<usize> = (0..features.len()).filter(same).collect();
        if shared[0] != i || shared.len() == 1 {
            continue;
        }
        let mut sum: RapidHashMap<Box<str>, u64> = RapidHashMap::default();
        for &j in &shared {
            if let State::Counts(counts) = &mut states[j] {
                std::mem::take(counts).into_iter().for_each(|(value, n)| *sum.entry(value).or_default() += n);
            }
        }
        for &j in &shared {
            if let State::Counts(counts) = &mut states[j] {
                counts.clone_from(&sum);
            }
        }
    }
}

/// The place of the feature's column, or an error naming file, column and the nearest one.
pub(crate) fn column_of(spec: &FeatureSpec, frame: &Frame) -> Result<usize, Error> {
    frame.column(&spec.column).ok_or_else(|| {
        let valid: Vec<&str> = frame.columns().iter().map(String::as_str).collect();
        Error::config(format!(
            "{}: feature `{}`: {}",
            frame.source(),
            spec.name,
            suggest::unknown("column", &spec.column, valid.iter().copied())
        ))
    })
}

impl State {
    fn of(spec: &FeatureSpec) -> Self {
        match &spec.kind {
            FeatureKind::Categorical { encoding: Encoding::Vocab { .. }, .. }
            | FeatureKind::Multi { encoding: Encoding::Vocab { .. }, .. } => Self::Counts(Default::default()),
            FeatureKind::Numeric { transform: Transform::Standardise, .. } => {
                Self::Moments { n: 0, mean: 0.0, m2: 0.0 }
            }
            FeatureKind::Numeric { transform: Transform::Quantiles(_), .. } => {
                Self::Sample { seen: 0, rng: 0x9E37_79B9_7F4A_7C15, kept: Vec::new() }
            }
            _ => Self::Nothing,
        }
    }

    fn take(&mut self, kind: &FeatureKind, cell: &str) {
        match self {
            Self::Nothing => {}
            Self::Counts(counts) => match kind {
                FeatureKind::Multi { separator, weight_separator, .. } => {
                    for element in parse::elements(cell, separator) {
                        let name = weight_separator.as_deref().and_then(|w| element.rsplit_once(w));
                        // Trimmed as the encoder does, so that `a : 0.5` is `a` to both.
                        count(counts, name.map_or(element, |(name, _)| name.trim()));
                    }
                }
                _ => count(counts, cell.trim()),
            },
            // Bad numbers are counted when the row is encoded, not twice.
            Self::Moments { n, mean, m2 } => {
                if let Ok(x) = parse::number(cell) {
                    *n += 1;
                    let d = x - *mean;
                    *mean += d / *n as f64;
                    *m2 += d * (x - *mean);
                }
            }
            Self::Sample { seen, rng, kept } => {
                if let Ok(x) = parse::number(cell) {
                    reservoir(seen, rng, kept, x);
                }
            }
        }
    }

    fn finish(self, kind: &FeatureKind) -> Fitted {
        match (self, kind) {
            (
                Self::Counts(counts),
                FeatureKind::Categorical { encoding, .. } | FeatureKind::Multi { encoding, .. },
            ) => Fitted::Keys(Numbering::Vocab(vocabulary(counts, encoding))),
            (_, FeatureKind::Categorical { encoding: Encoding::Hash { buckets }, .. })
            | (_, FeatureKind::Multi { encoding: Encoding::Hash { buckets }, .. }) => {
                Fitted::Keys(Numbering::Hash(*buckets))
            }
            (_, FeatureKind::Text { buckets, .. } | FeatureKind::Cross { buckets, .. }) => {
                Fitted::Keys(Numbering::Hash(*buckets))
            }
            (Self::Moments { n, mean, m2 }, _) => {
                let variance = if n > 1 { m2 / n as f64 } else { 1.0 };
                let deviation = if variance > 1e-24 { variance.sqrt() } else { 1.0 };
                Fitted::Scale { mean, deviation }
            }
            (
                Self::Sample { kept, .. },
                FeatureKind::Numeric { transform: Transform::Quantiles(bins), .. },
            ) => Fitted::Edges(quantiles(kept, *bins)),
            (_, FeatureKind::Numeric { transform: Transform::Edges(edges), .. }) => {
                Fitted::Edges(edges.clone())
            }
            _ => Fitted::Nothing,
        }
    }
}

fn count(counts: &mut RapidHashMap<Box<str>, u64>, value: &str) {
    if value.is_empty() {
        return;
    }
    match counts.get_mut(value) {
        Some(n) => *n += 1,
        None => {
            counts.insert(value.into(), 1);
        }
    }
}

/// Algorithm R (Vitter 1985) with a fixed seed: the same rows give the same sample.
fn reservoir(seen: &mut u64, rng: &mut u64, kept: &mut Vec<f64>, x: f64) {
    *seen += 1;
    if kept.len() < SAMPLE {
        kept.push(x);
        return;
    }
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    let at = (*rng % *seen) as usize;
    if at < SAMPLE {
        kept[at] = x;
    }
}

/// Values by falling count, then by name.
fn vocabulary(counts: RapidHashMap<Box<str>, u64>, encoding: &Encoding) -> IdMap {
    let (least, most) = match encoding {
        Encoding::Vocab { min_count, max_size } => (*min_count, max_size.unwrap_or(usize::MAX)),
        Encoding::Hash { .. } => (1, usize::MAX),
    };
    let mut values: Vec<(Box<str>, u64)> = counts.into_iter().filter(|(_, n)| *n >= least).collect();
    values.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut ids = IdMap::new();
    for (value, _) in values.iter().take(most) {
        ids.insert(value);
    }
    ids
}

/// Distinct inner edges of `bins` equally filled buckets.
fn quantiles(mut kept: Vec<f64>, bins: usize) -> Vec<f64> {
    kept.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..bins).filter_map(|i| kept.get(kept.len() * i / bins).copied()).collect();
    edges.dedup();
    edges
}
