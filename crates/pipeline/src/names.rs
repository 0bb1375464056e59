//! The names that a configuration may use: fields of items and users, fields of the context, kinds of action. A name that
//! is none of them would silently do nothing.

use std::collections::BTreeSet;

use millstream_schema::{Encoder, EventKind, Record, Side, suggest};

use crate::Error;
use crate::facts::CatalogueConfig;

/// What there is in a catalogue that a configuration can name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    items: BTreeSet<String>,
    users: BTreeSet<String>,
    context: Vec<String>,
}

impl Names {
    /// The fields that the schema reads, and those that a record has.
    pub(crate) fn of<'a>(
        encoder: &Encoder,
        users: impl Iterator<Item = &'a Record>,
        items: impl Iterator<Item = &'a Record>,
    ) -> Self {
        let schema = encoder.schema();
        Self {
            items: fields(schema.columns(Side::Item), items),
            users: fields(schema.columns(Side::User), users),
            context: schema.columns(Side::Context),
        }
    }

    /// Whether there is an item field of this name.
    pub fn has_item_field(&self, name: &str) -> bool {
        self.items.contains(name)
    }

    /// Refuses the name of an item field that there is not.
    ///
    /// # Errors
    /// What is wrong, with the nearest name.
    pub fn item_field(&self, name: &str) -> Result<(), String> {
        known(("item field", "no item has a field"), name, self.items.iter())
    }

    /// Refuses the name of a user field that there is not.
    ///
    /// # Errors
    /// What is wrong, with the nearest name.
    pub fn user_field(&self, name: &str) -> Result<(), String> {
        known(("user field", "no user has a field"), name, self.users.iter())
    }

    /// Refuses the name of a context field that is not declared.
    ///
    /// # Errors
    /// What is wrong, with the nearest name.
    pub fn context_field(&self, name: &str) -> Result<(), String> {
        known(("context field", "no feature reads a context field"), name, self.context.iter())
    }

    /// Refuses what a table `[catalogue]` names and there is not. A category, an author or a kind that goes by the
    /// default name may be missing: then there is none.
    pub(crate) fn check(&self, config: &CatalogueConfig) -> Result<(), Error> {
        let default = CatalogueConfig::default();
        let fail = |key: &str, what: String| Error::Config(format!("[catalogue]: key `{key}`: {what}"));
        let facts = [
            ("category", &config.category, &default.category),
            ("author", &config.author, &default.author),
            ("kind", &config.kind, &default.kind),
        ];
        for (key, name, usual) in facts {
            if name != usual {
                self.item_field(name).map_err(|what| fail(key, what))?;
            }
        }
        for (key, names) in [("tags", &config.tags), ("keywords", &config.keywords)] {
            names.iter().try_for_each(|name| self.item_field(name).map_err(|what| fail(key, what)))?;
        }
        let segment = config.segment.as_deref();
        segment.map_or(Ok(()), |name| self.user_field(name).map_err(|what| fail("segment", what)))
    }
}

fn fields<'a>(declared: Vec<String>, records: impl Iterator<Item = &'a Record>) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = declared.into_iter().collect();
    for name in records.flat_map(|record| record.fields.keys()) {
        if !all.contains(name) {
            all.insert(name.clone());
        }
    }
    all
}

fn known<'a>(
    (what, none): (&str, &str),
    name: &str,
    all: impl Iterator<Item = &'a String> + Clone,
) -> Result<(), String> {
    if all.clone().any(|known| known == name) {
        return Ok(());
    }
    match all.clone().next() {
        None => Err(format!("{none} `{name}`, or any other")),
        Some(_) => Err(suggest::unknown(what, name, all.map(String::as_str).collect::<Vec<_>>())),
    }
}

/// The kind of action of this name, which must be among `known`, where those are known.
///
/// # Errors
/// It is no name of a kind, or none of those; the nearest is given.
pub fn action(name: &str, known: &[EventKind]) -> Result<EventKind, Error> {
    let kind: EventKind = name.parse()?;
    if known.is_empty() || known.contains(&kind) {
        return Ok(kind);
    }
    let what = suggest::unknown("kind of action", name, known.iter().map(EventKind::as_str));
    Err(Error::Config(format!("{what} (histories hold no others)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_must_be_one_that_histories_hold_where_that_is_known() {
        let all = [EventKind::Click, EventKind::Order, EventKind::Custom("search".into())];
        assert_eq!(action("order", &all).unwrap(), EventKind::Order);
        assert_eq!(action("search", &all).unwrap(), all[2]);
        assert_eq!(action("clik", &[]).unwrap(), EventKind::Custom("clik".into()));
        for (name, part) in [
            ("clik", "did you mean `click`?"),
            ("play", "expected one of click, order, search"),
            ("No kind", "lower-case"),
        ] {
            let error = action(name, &all).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
