//! What a feature is: the declarations of `[[feature]]` tables.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;

mod raw;

use crate::{Error, EventKind, config, suggest};

pub use raw::RawFeature;

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
    /// A bucket's embedding: ⌊b log₂(1 + |x|)⌋ with the sign of x, b buckets per doubling of 1 + |x|.
    Log2Bins(u32),
}

impl Transform {
    /// Whether it gives a bucket's key and not a number.
    pub fn makes_keys(&self) -> bool {
        matches!(self, Self::Quantiles(_) | Self::Edges(_) | Self::Log2Bins(_))
    }
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
        /// What is kept of the actions' times.
        times: Times,
        /// Weigh elements by the action's value.
        strength: bool,
    },
    /// A vector of numbers: all of them in order, or `index:value` pairs, where what is not named is 0.
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

/// What is kept of the times of a sequence's actions. Files from before there were sessions hold a yes or no for the gap in its
/// place, which are the first two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Times {
    /// Nothing but their order.
    #[default]
    Order,
    /// Field `name.gap`: log₂ buckets of the seconds between action and request.
    Gap,
    /// More than that.
    More {
        /// Field `name.gap`.
        gap: bool,
        /// Field `name.interval`: log₂ buckets of the seconds between an action and the one before it, missing for the first that
        /// is taken up. Unlike the gap it is the same whenever the request comes.
        interval: bool,
        /// Field `name.session`: how many sessions back an action is; one ends where nothing happens for longer than so many minutes.
        session_gap_mins: Option<u32>,
    },
}

impl Times {
    /// From what a configuration asks for.
    pub fn new(gap: bool, interval: bool, session_gap_mins: Option<u32>) -> Self {
        match (gap, interval, session_gap_mins) {
            (false, false, None) => Self::Order,
            (true, false, None) => Self::Gap,
            _ => Self::More { gap, interval, session_gap_mins },
        }
    }

    /// Whether there is a field `name.gap`.
    pub fn has_gap(self) -> bool {
        matches!(self, Self::Gap | Self::More { gap: true, .. })
    }

    /// Whether there is a field `name.interval`.
    pub fn has_interval(self) -> bool {
        matches!(self, Self::More { interval: true, .. })
    }

    /// Minutes without an action that end a session, where there is a field `name.session`.
    pub fn session_gap_mins(self) -> Option<u32> {
        match self {
            Self::More { session_gap_mins, .. } => session_gap_mins,
            Self::Order | Self::Gap => None,
        }
    }

    /// Names of the fields, after the sequence's.
    fn fields(self) -> impl Iterator<Item = &'static str> {
        let there = [
            (GAP, self.has_gap()),
            (INTERVAL, self.has_interval()),
            (SESSION, self.session_gap_mins().is_some()),
        ];
        there.into_iter().filter_map(|(name, there)| there.then_some(name))
    }
}

/// Field of a sequence for the times between action and request.
pub(crate) const GAP: &str = "gap";
/// Field of a sequence for the times between neighbouring actions.
pub(crate) const INTERVAL: &str = "interval";
/// Field of a sequence for the sessions.
pub(crate) const SESSION: &str = "session";

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
                FeatureKind::Sequence { elements, times, .. } => {
                    check_elements(feature, (elements, *times), &features)?;
                }
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
    Log2Bins(u32),
    /// Quantiles of this very feature: nothing else can share them.
    Quantiles(&'a str),
}

impl FeatureSpec {
    /// The name, and for a sequence those of its fields.
    fn names(&self) -> Vec<String> {
        let mut names = vec![self.name.clone()];
        if let FeatureKind::Sequence { elements, times, .. } = &self.kind {
            let own = |part: &str| format!("{}.{part}", self.name);
            names.extend(elements.iter().map(|element| own(element)));
            names.extend(times.fields().map(own));
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
            FeatureKind::Numeric { transform: Transform::Log2Bins(bins), .. } => {
                Some(Numbers::Log2Bins(*bins))
            }
            FeatureKind::Numeric { transform: Transform::Quantiles(_), .. } => {
                Some(Numbers::Quantiles(&self.name))
            }
            _ => None,
        }
    }

    /// Why the feature cannot be encoded before training rows were seen; `None` where it can.
    pub(crate) fn needs_fitting(&self) -> Option<&'static str> {
        match &self.kind {
            FeatureKind::Categorical { encoding: Encoding::Vocab { .. }, .. }
            | FeatureKind::Multi { encoding: Encoding::Vocab { .. }, .. } => {
                Some("a vocabulary must be fitted on data first; for a stream give encoding = \"hash\"")
            }
            FeatureKind::Numeric { transform: Transform::Standardise | Transform::Quantiles(_), .. } => Some(
                "its transform must be fitted on data first; for a stream give transform = \"log\", \"raw\", \
                 \"edges\" or \"log2_bins\"",
            ),
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
        FeatureKind::Numeric { transform, .. } => transform.makes_keys(),
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

fn check_elements(
    feature: &FeatureSpec,
    (elements, times): (&[String], Times),
    all: &[FeatureSpec],
) -> Result<(), Error> {
    // An item feature so called would be taken for what the sequence's field is the history of.
    if let Some(name) = times.fields().find(|name| all.iter().any(|f| f.name == *name)) {
        return Err(Error::config(format!(
            "feature `{}` has a field `{}.{name}` of its own; call the feature `{name}` something else",
            feature.name, feature.name
        )));
    }
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
    fn times_are_written_as_the_gap_was() {
        let sizes = [postcard::to_stdvec(&Times::Order).unwrap(), postcard::to_stdvec(&Times::Gap).unwrap()];
        assert_eq!(sizes, [postcard::to_stdvec(&false).unwrap(), postcard::to_stdvec(&true).unwrap()]);
        let more = |gap, interval, mins| Times::new(gap, interval, mins);
        for times in [more(false, false, Some(30)), more(true, true, None), more(true, false, Some(5))] {
            let bytes = postcard::to_stdvec(&times).unwrap();
            assert_eq!(postcard::from_bytes::<Times>(&bytes).unwrap(), times);
        }
    }

    #[test]
    fn sessions_are_checked() {
        let item = |name: &str| format!("[[feature]]\nname='{name}'\nside='item'\nkind='categorical'\n");
        let seq =
            |more: &str| format!("[[feature]]\nname='s'\nkind='sequence'\nelements=['item_id']\n{more}\n");
        let message = error(&(item("item_id") + &seq("session_gap_mins=0")));
        assert!(message.contains("`session_gap_mins` must be above 0"), "{message}");
        for (name, more) in
            [("session", "session_gap_mins=30"), ("gap", "gap=true"), ("interval", "interval=true")]
        {
            let message = error(&(item("item_id") + &item(name) + &seq(more)));
            assert!(message.contains(&format!("has a field `s.{name}` of its own")), "{message}");
            assert!((item("item_id") + &item(name) + &seq("")).parse::<Schema>().is_ok());
        }
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
    fn bins_of_a_doubling_are_few_and_belong_to_their_transform() {
        let numeric = |rest: &str| format!("[[feature]]\nname='a'\nside='user'\nkind='numeric'\n{rest}\n");
        let message = error(&numeric("transform='log2_bins'\nbins=65"));
        assert!(message.contains("`bins` is 65 buckets per doubling; at most 64"), "{message}");
        let message = error(&numeric("transform='log'\nbins=3"));
        assert!(message.contains("`bins` goes with transform = \"quantiles\" or \"log2_bins\""), "{message}");
        let schema: Schema = numeric("transform='log2_bins'").parse().unwrap();
        let bins = FeatureKind::Numeric { transform: Transform::Log2Bins(1), default: 0.0 };
        assert_eq!(schema.features[0].kind, bins);
        assert!(crate::Encoder::without_fitting(&schema).is_ok());
        let message = crate::Encoder::without_fitting(&numeric("").parse().unwrap()).unwrap_err().to_string();
        assert!(message.contains("feature `a`") && message.contains("log2_bins"), "{message}");
    }

    #[test]
    fn a_cross_of_something_undeclared_is_refused() {
        let message = error("[[feature]]\nname='x'\nkind='cross'\nof=['a','b']\n");
        assert!(message.contains("unknown feature `a`"), "{message}");
    }
}
