//! What a feature is: the declarations of `[[feature]]` tables.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;

use crate::{Error, EventKind, config, suggest};

/// Whose property a feature is, and so how often it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The user's: once per request.
    User,
    /// The item's: once per candidate.
    Item,
    /// The request's (device, hour, place): once per request.
    Context,
    /// The exposure's (position): once per candidate in training, its default when serving,
    /// because it is known only after the item was shown.
    Exposure,
}

/// How a categorical value becomes an embedding key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Encoding {
    /// A vocabulary fitted on the training rows: key 0 missing, 1 unknown, 2.. by falling count.
    Vocab {
        /// Values met fewer times than this are unknown.
        min_count: u64,
        /// At most this many values are kept.
        max_size: Option<usize>,
    },
    /// The value's xxh3 hash, folded to `buckets` when that is given.
    Hash {
        /// Number of buckets; all 64 bits when absent.
        buckets: Option<u64>,
    },
}

/// What is done to a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Transform {
    /// Nothing.
    Raw,
    /// sign(x) ln(1 + |x|).
    Log,
    /// (x − mean) / standard deviation of the training rows.
    Standardise,
    /// A bucket's embedding; edges are the quantiles of the training rows.
    Quantiles(usize),
    /// A bucket's embedding; edges as declared, rising.
    Edges(Vec<f64>),
}

/// How the embeddings of a row's several keys become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// (Weighted) mean; zero for an empty row.
    #[default]
    Mean,
    /// (Weighted) sum.
    Sum,
}

/// What a feature reads and what it becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FeatureKind {
    /// One value out of a set.
    Categorical {
        /// Value to key.
        encoding: Encoding,
        /// Stands for a missing value; without it, missing has a key of its own.
        default: Option<String>,
    },
    /// A number.
    Numeric {
        /// What is done to it.
        transform: Transform,
        /// Stands for a missing or bad value.
        default: f64,
    },
    /// Several values, optionally with weights (`a:0.5|b:0.2`).
    Multi {
        /// Value to key.
        encoding: Encoding,
        /// Between elements.
        separator: String,
        /// Between an element and its weight.
        weight_separator: Option<String>,
        /// Elements beyond these are dropped.
        max_len: usize,
    },
    /// The user's last actions before the request.
    Sequence {
        /// Kinds of action taken up; empty for all actions.
        events: Vec<EventKind>,
        /// Only the latest so many.
        max_len: usize,
        /// Item features taken per element; each becomes a field `name.element`.
        elements: Vec<String>,
        /// Whether elements share the item features' embedding tables or have their own.
        shared: bool,
        /// Field `name.gap`: log₂ buckets of the seconds between action and request.
        gap: bool,
        /// Weigh elements by the action's value.
        strength: bool,
    },
    /// A vector of numbers.
    Dense {
        /// Its length.
        width: usize,
        /// Between numbers.
        separator: String,
    },
    /// Words, lower-cased and hashed.
    Text {
        /// Number of hash buckets.
        buckets: Option<u64>,
        /// Words beyond these are dropped.
        max_len: usize,
    },
    /// How much of the user's last actions is like the candidate: two numbers per candidate, ln(1 + m) and
    /// m / L, where m is the number of the last L actions' items that share the element's value with the
    /// candidate (for several values, the mean over the candidate's values).
    Match {
        /// Item feature compared: categorical, bucketised, multi-valued or text.
        element: String,
        /// Kinds of action taken up; empty for all actions.
        events: Vec<EventKind>,
        /// Only the latest so many.
        max_len: usize,
    },
    /// The product of other features' values, hashed.
    Cross {
        /// Names of categorical, bucketised or multi-valued features declared before.
        of: Vec<String>,
        /// Number of hash buckets.
        buckets: Option<u64>,
    },
}

/// One declared feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// Unique name.
    pub name: String,
    /// Whose property it is.
    pub side: Side,
    /// Column read; sequences, matches and crosses read none.
    pub column: String,
    /// What it is.
    pub kind: FeatureKind,
    /// Embedding key space: features that name the same one share embeddings.
    pub table: String,
    /// How several keys of a row are pooled.
    pub pool: Pool,
}

/// All declared features, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// The features; names are unique.
    pub features: Vec<FeatureSpec>,
}

/// One `[[feature]]` table as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFeature {
    name: String,
    side: Option<Side>,
    kind: String,
    column: Option<String>,
    table: Option<String>,
    pool: Option<Pool>,
    encoding: Option<String>,
    min_count: Option<u64>,
    max_size: Option<usize>,
    buckets: Option<u64>,
    default: Option<toml::Value>,
    transform: Option<String>,
    bins: Option<usize>,
    edges: Option<Vec<f64>>,
    separator: Option<String>,
    weight_separator: Option<String>,
    max_len: Option<usize>,
    events: Option<Vec<EventKind>>,
    elements: Option<Vec<String>>,
    element: Option<String>,
    shared: Option<bool>,
    gap: Option<bool>,
    strength: Option<bool>,
    width: Option<usize>,
    of: Option<Vec<String>>,
}

const KINDS: [&str; 8] = ["categorical", "numeric", "multi", "sequence", "match", "dense", "text", "cross"];

impl RawFeature {
    /// The keys that were written, beyond the common ones.
    fn written(&self) -> Vec<&'static str> {
        let all = [
            ("column", self.column.is_some()),
            ("table", self.table.is_some()),
            ("pool", self.pool.is_some()),
            ("encoding", self.encoding.is_some()),
            ("min_count", self.min_count.is_some()),
            ("max_size", self.max_size.is_some()),
            ("buckets", self.buckets.is_some()),
            ("default", self.default.is_some()),
            ("transform", self.transform.is_some()),
            ("bins", self.bins.is_some()),
            ("edges", self.edges.is_some()),
            ("separator", self.separator.is_some()),
            ("weight_separator", self.weight_separator.is_some()),
            ("max_len", self.max_len.is_some()),
            ("events", self.events.is_some()),
            ("elements", self.elements.is_some()),
            ("element", self.element.is_some()),
            ("shared", self.shared.is_some()),
            ("gap", self.gap.is_some()),
            ("strength", self.strength.is_some()),
            ("width", self.width.is_some()),
            ("of", self.of.is_some()),
        ];
        all.into_iter().filter(|(_, set)| *set).map(|(key, _)| key).collect()
    }

    /// Keys that mean something for this kind of feature.
    fn allowed(&self) -> &'static [&'static str] {
        match self.kind.as_str() {
            "categorical" => &["column", "table", "encoding", "min_count", "max_size", "buckets", "default"],
            "numeric" => &["column", "table", "transform", "bins", "edges", "default"],
            "multi" => &[
                "column",
                "table",
                "pool",
                "encoding",
                "min_count",
                "max_size",
                "buckets",
                "separator",
                "weight_separator",
                "max_len",
            ],
            "sequence" => &["pool", "events", "max_len", "elements", "shared", "gap", "strength"],
            "match" => &["element", "events", "max_len"],
            "dense" => &["column", "width", "separator"],
            "text" => &["column", "table", "pool", "buckets", "max_len"],
            _ => &["table", "of", "buckets", "pool"],
        }
    }

    fn fail<T>(&self, message: impl std::fmt::Display) -> Result<T, Error> {
        Err(Error::config(format!("feature `{}`: {message}", self.name)))
    }

    /// The checked feature.
    pub fn check(self) -> Result<FeatureSpec, Error> {
        if !KINDS.contains(&self.kind.as_str()) {
            return self.fail(suggest::unknown("kind", &self.kind, KINDS));
        }
        let allowed = self.allowed();
        if let Some(key) = self.written().into_iter().find(|k| !allowed.contains(k)) {
            return self.fail(format!(
                "key `{key}` means nothing for kind `{}`; it takes {}",
                self.kind,
                allowed.join(", ")
            ));
        }
        let kind = self.feature_kind()?;
        let side = match (&kind, self.side) {
            (FeatureKind::Sequence { .. }, None | Some(Side::User)) => Side::User,
            (FeatureKind::Sequence { .. }, Some(_)) => return self.fail("a sequence is of side \"user\""),
            (FeatureKind::Match { .. }, None) => Side::Context,
            (FeatureKind::Match { .. }, Some(_)) => {
                return self.fail("a match is between user and item; leave `side` out");
            }
            (FeatureKind::Cross { .. }, None) => Side::Context,
            (FeatureKind::Cross { .. }, Some(_)) => {
                return self.fail("a cross takes its side from the features it is made of; leave `side` out");
            }
            (_, None) => return self.fail("key `side` is missing: user, item, context or exposure"),
            (_, Some(side)) => side,
        };
        Ok(FeatureSpec {
            column: self.column.clone().unwrap_or_else(|| self.name.clone()),
            table: self.table.clone().unwrap_or_else(|| self.name.clone()),
            pool: self.pool.unwrap_or_default(),
            name: self.name,
            side,
            kind,
        })
    }

    fn feature_kind(&self) -> Result<FeatureKind, Error> {
        Ok(match self.kind.as_str() {
            "categorical" => FeatureKind::Categorical {
                encoding: self.encoding()?,
                default: self.default.as_ref().map(text_of),
            },
            "numeric" => {
                FeatureKind::Numeric { transform: self.transform()?, default: self.number_default()? }
            }
            "multi" => FeatureKind::Multi {
                encoding: self.encoding()?,
                separator: self.separator.clone().unwrap_or_else(|| "|".into()),
                weight_separator: self.weight_separator.clone(),
                max_len: self.positive("max_len", self.max_len, 64)?,
            },
            "sequence" => FeatureKind::Sequence {
                events: self.events.clone().unwrap_or_default(),
                max_len: self.positive("max_len", self.max_len, 50)?,
                elements: match &self.elements {
                    Some(e) if !e.is_empty() => e.clone(),
                    _ => return self.fail("key `elements` is missing: names of item features"),
                },
                shared: self.shared.unwrap_or(true),
                gap: self.gap.unwrap_or(false),
                strength: self.strength.unwrap_or(false),
            },
            "match" => FeatureKind::Match {
                element: match &self.element {
                    Some(e) => e.clone(),
                    None => return self.fail("key `element` is missing: the name of an item feature"),
                },
                events: self.events.clone().unwrap_or_default(),
                max_len: self.positive("max_len", self.max_len, 50)?,
            },
            "dense" => FeatureKind::Dense {
                width: match self.width {
                    Some(w) if w > 0 => w,
                    _ => return self.fail("key `width` must be a whole number above 0"),
                },
                separator: self.separator.clone().unwrap_or_else(|| " ".into()),
            },
            "text" => FeatureKind::Text {
                buckets: self.buckets()?,
                max_len: self.positive("max_len", self.max_len, 64)?,
            },
            _ => FeatureKind::Cross {
                of: match &self.of {
                    Some(of) if of.len() >= 2 => of.clone(),
                    _ => return self.fail("key `of` must name two or more features"),
                },
                buckets: self.buckets()?,
            },
        })
    }

    fn positive(&self, key: &str, value: Option<usize>, default: usize) -> Result<usize, Error> {
        match value {
            Some(0) => self.fail(format!("key `{key}` must be above 0")),
            other => Ok(other.unwrap_or(default)),
        }
    }

    fn buckets(&self) -> Result<Option<u64>, Error> {
        match self.buckets {
            Some(0) => self.fail("key `buckets` must be above 0"),
            other => Ok(other),
        }
    }

    fn encoding(&self) -> Result<Encoding, Error> {
        match self.encoding.as_deref().unwrap_or("vocab") {
            "vocab" if self.buckets.is_some() => self.fail("`buckets` goes with encoding = \"hash\""),
            "vocab" => {
                Ok(Encoding::Vocab { min_count: self.min_count.unwrap_or(1), max_size: self.max_size })
            }
            "hash" if self.min_count.is_some() || self.max_size.is_some() => {
                self.fail("`min_count` and `max_size` go with encoding = \"vocab\"")
            }
            "hash" => Ok(Encoding::Hash { buckets: self.buckets()? }),
            other => self.fail(suggest::unknown("encoding", other, ["vocab", "hash"])),
        }
    }

    fn transform(&self) -> Result<Transform, Error> {
        const NAMES: [&str; 5] = ["raw", "log", "standardise", "quantiles", "edges"];
        let name = self.transform.as_deref().unwrap_or("standardise");
        if self.bins.is_some() && name != "quantiles" {
            return self.fail("`bins` goes with transform = \"quantiles\"");
        }
        if self.edges.is_some() && name != "edges" {
            return self.fail("`edges` goes with transform = \"edges\"");
        }
        match name {
            "raw" => Ok(Transform::Raw),
            "log" => Ok(Transform::Log),
            "standardise" => Ok(Transform::Standardise),
            "quantiles" => Ok(Transform::Quantiles(self.positive("bins", self.bins, 16)?)),
            "edges" => match &self.edges {
                Some(e) if !e.is_empty() && e.is_sorted_by(|a, b| a < b) => Ok(Transform::Edges(e.clone())),
                _ => self.fail("`edges` must be a rising list of numbers"),
            },
            other => self.fail(suggest::unknown("transform", other, NAMES)),
        }
    }

    fn number_default(&self) -> Result<f64, Error> {
        match &self.default {
            None => Ok(0.0),
            Some(toml::Value::Integer(i)) => Ok(*i as f64),
            Some(toml::Value::Float(x)) if x.is_finite() => Ok(*x),
            Some(other) => self.fail(format!("`default` must be a finite number, not {other}")),
        }
    }
}

fn text_of(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Schema {
    /// Checks features against each other: unique names, elements and crosses that exist.
    pub fn new(features: Vec<FeatureSpec>) -> Result<Self, Error> {
        let mut names = BTreeSet::new();
        for name in features.iter().flat_map(FeatureSpec::names) {
            if names.contains(&name) {
                return Err(Error::config(format!("feature `{name}` is declared twice")));
            }
            names.insert(name);
        }
        for (i, feature) in features.iter().enumerate() {
            match &feature.kind {
                FeatureKind::Cross { of, .. } => check_cross(feature, of, &features[..i])?,
                FeatureKind::Sequence { elements, .. } => check_elements(feature, elements, &features)?,
                FeatureKind::Match { element, .. } => check_match(feature, element, &features)?,
                _ => {}
            }
            check_table(feature, &features[..i])?;
        }
        Ok(Self { features })
    }

    /// The checked form of raw `[[feature]]` tables.
    pub fn from_raw(raw: Vec<RawFeature>) -> Result<Self, Error> {
        Self::new(raw.into_iter().map(RawFeature::check).collect::<Result<_, _>>()?)
    }

    /// Columns that features of this side read, in order, each once.
    pub fn columns(&self, side: Side) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for feature in self.features.iter().filter(|f| f.side == side && f.reads_column()) {
            if !columns.contains(&feature.column) {
                columns.push(feature.column.clone());
            }
        }
        columns
    }
}

/// How a feature's values become keys, as far as two features of one table must agree on it.
#[derive(Debug, PartialEq)]
enum Numbers<'a> {
    Values(Encoding),
    Edges(&'a [f64]),
    /// Quantiles of this very feature: nothing else can share them.
    Quantiles(&'a str),
}

impl FeatureSpec {
    /// The name, and for a sequence those of its fields.
    fn names(&self) -> Vec<String> {
        let mut names = vec![self.name.clone()];
        if let FeatureKind::Sequence { elements, gap, .. } = &self.kind {
            let gap = gap.then_some("gap");
            names
                .extend(elements.iter().map(String::as_str).chain(gap).map(|e| format!("{}.{e}", self.name)));
        }
        names
    }

    /// `None` for features without keys.
    fn numbering(&self) -> Option<Numbers<'_>> {
        match &self.kind {
            FeatureKind::Categorical { encoding, .. } | FeatureKind::Multi { encoding, .. } => {
                Some(Numbers::Values(encoding.clone()))
            }
            FeatureKind::Text { buckets, .. } | FeatureKind::Cross { buckets, .. } => {
                Some(Numbers::Values(Encoding::Hash { buckets: *buckets }))
            }
            FeatureKind::Numeric { transform: Transform::Edges(edges), .. } => Some(Numbers::Edges(edges)),
            FeatureKind::Numeric { transform: Transform::Quantiles(_), .. } => {
                Some(Numbers::Quantiles(&self.name))
            }
            _ => None,
        }
    }

    /// Whether the feature reads a column (sequences, matches and crosses read none).
    pub fn reads_column(&self) -> bool {
        !matches!(
            self.kind,
            FeatureKind::Sequence { .. } | FeatureKind::Match { .. } | FeatureKind::Cross { .. }
        )
    }
}

/// Features of one table must number their values alike: a key means one value.
fn check_table(feature: &FeatureSpec, before: &[FeatureSpec]) -> Result<(), Error> {
    let shares = |f: &&FeatureSpec| f.table == feature.table && f.numbering().is_some();
    match (feature.numbering(), before.iter().find(shares)) {
        (Some(mine), Some(other)) if Some(&mine) != other.numbering().as_ref() => {
            Err(Error::config(format!(
                "feature `{}` shares table `{}` with `{}` but numbers its values in another way; give both the same \
             `encoding`, `min_count`, `max_size`, `buckets` or `edges`",
                feature.name, feature.table, other.name
            )))
        }
        _ => Ok(()),
    }
}

/// Whether the feature has embedding keys of its own.
fn has_keys(feature: &FeatureSpec) -> bool {
    match &feature.kind {
        FeatureKind::Categorical { .. } | FeatureKind::Multi { .. } | FeatureKind::Text { .. } => true,
        FeatureKind::Numeric { transform, .. } => {
            matches!(transform, Transform::Quantiles(_) | Transform::Edges(_))
        }
        _ => false,
    }
}

fn check_match(feature: &FeatureSpec, element: &str, all: &[FeatureSpec]) -> Result<(), Error> {
    let items = all.iter().filter(|f| f.side == Side::Item);
    let valid: Vec<&str> = items.clone().map(|f| f.name.as_str()).collect();
    match items.clone().find(|f| f.name == element) {
        Some(part) if has_keys(part) => Ok(()),
        Some(_) => Err(Error::config(format!(
            "feature `{}`: `{element}` has no keys to compare; bucketise it first",
            feature.name
        ))),
        None => Err(Error::config(format!(
            "feature `{}`: {}",
            feature.name,
            suggest::unknown("item feature", element, valid.iter().copied())
        ))),
    }
}

fn check_cross(feature: &FeatureSpec, of: &[String], before: &[FeatureSpec]) -> Result<(), Error> {
    for name in of {
        let part = before.iter().find(|f| f.name == *name).ok_or_else(|| {
            let valid: Vec<&str> = before.iter().map(|f| f.name.as_str()).collect();
            Error::config(format!(
                "feature `{}`: {} (a cross is made of features declared before it)",
                feature.name,
                suggest::unknown("feature", name, valid.iter().copied())
            ))
        })?;
        if !has_keys(part) {
            return Err(Error::config(format!(
                "feature `{}`: `{name}` has no keys to cross; bucketise it first",
                feature.name
            )));
        }
    }
    Ok(())
}

fn check_elements(feature: &FeatureSpec, elements: &[String], all: &[FeatureSpec]) -> Result<(), Error> {
    for name in elements {
        let items = all.iter().filter(|f| f.side == Side::Item);
        let valid: Vec<&str> = items.clone().map(|f| f.name.as_str()).collect();
        let Some(part) = items.clone().find(|f| f.name == *name) else {
            let message = suggest::unknown("item feature", name, valid.iter().copied());
            return Err(Error::config(format!("feature `{}`: {message}", feature.name)));
        };
        if !matches!(part.kind, FeatureKind::Categorical { .. }) {
            return Err(Error::config(format!(
                "feature `{}`: element `{name}` must be a categorical item feature",
                feature.name
            )));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaFile {
    #[serde(default)]
    feature: Vec<RawFeature>,
}

impl FromStr for Schema {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let file: SchemaFile = config::parse(text, "schema")?;
        Self::from_raw(file.feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Schema>().unwrap_err().to_string()
    }

    #[test]
    fn every_kind_is_read() {
        let schema: Schema = include_str!("../tests/every_kind.toml").parse().unwrap();
        assert_eq!(schema.features.len(), 13);
        assert_eq!(schema.columns(Side::User), ["user_id", "age"]);
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let message = error("[[feature]]\nname='a'\nside='user'\nkind='numeric'\nbuckets=3\n");
        assert!(message.contains("`buckets` means nothing for kind `numeric`"), "{message}");
    }

    #[test]
    fn wrong_names_are_answered_with_the_nearest() {
        let message = error("[[feature]]\nname='a'\nside='user'\nkind='categoricl'\n");
        assert!(message.contains("did you mean `categorical`?"), "{message}");
        let message = error("[[feature]]\nname='a'\nside='user'\nkind='categorical'\nencodng='hash'\n");
        assert!(message.contains("did you mean `encoding`?"), "{message}");
    }

    #[test]
    fn a_cross_of_something_undeclared_is_refused() {
        let message = error("[[feature]]\nname='x'\nkind='cross'\nof=['a','b']\n");
        assert!(message.contains("unknown feature `a`"), "{message}");
    }
}
