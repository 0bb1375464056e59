//! A `[[feature]]` table as written, and the checks that make a feature of it.

use serde::Deserialize;

use super::{Encoding, FeatureKind, FeatureSpec, Pool, Side, Times, Transform};
use crate::{Error, EventKind, suggest};

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
    session_gap_mins: Option<u32>,
    interval: Option<bool>,
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
            ("session_gap_mins", self.session_gap_mins.is_some()),
            ("interval", self.interval.is_some()),
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
            "sequence" => &[
                "pool",
                "events",
                "max_len",
                "elements",
                "shared",
                "gap",
                "interval",
                "session_gap_mins",
                "strength",
            ],
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
                times: match self.session_gap_mins {
                    Some(0) => return self.fail("key `session_gap_mins` must be above 0"),
                    mins => Times::new(self.gap.unwrap_or(false), self.interval.unwrap_or(false), mins),
                },
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
        const NAMES: [&str; 6] = ["raw", "log", "standardise", "quantiles", "edges", "log2_bins"];
        const MOST_BINS: usize = 64;
        let name = self.transform.as_deref().unwrap_or("standardise");
        if self.bins.is_some() && !["quantiles", "log2_bins"].contains(&name) {
            return self.fail("`bins` goes with transform = \"quantiles\" or \"log2_bins\"");
        }
        if self.edges.is_some() && name != "edges" {
            return self.fail("`edges` goes with transform = \"edges\"");
        }
        match name {
            "raw" => Ok(Transform::Raw),
            "log" => Ok(Transform::Log),
            "standardise" => Ok(Transform::Standardise),
            "quantiles" => Ok(Transform::Quantiles(self.positive("bins", self.bins, 16)?)),
            "log2_bins" => match self.positive("bins", self.bins, 1)? {
                bins @ 1..=MOST_BINS => Ok(Transform::Log2Bins(bins as u32)),
                bins => self.fail(format!("key `bins` is {bins} buckets per doubling; at most {MOST_BINS}")),
            },
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
