//! Which sequence a recommender of items reads, and by which of its elements.

use millstream_schema::{Field, Rows, Shape as Kind, suggest};

use super::profile::is_item;
use crate::ranker::Shape;
use crate::{Error, ModelConfig};

/// Whether a field is an element of a sequence.
fn is_element(field: &Field) -> bool {
    field.rows == Rows::Request && field.shape == Kind::Keys && field.name.contains('.')
}

/// The sequence's name out of that of its field.
fn sequence_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(sequence, _)| sequence)
}

/// Each name once, in their order.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut out = Vec::new();
    for name in names {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

/// Places of the element that is read and of the item field whose keys it has. `named` is a sequence, or one of its elements as
/// `sequence.element`; it may be left out where one sequence shares a table with an item feature.
///
/// Of several such elements the one of most possible keys is read: the item's id, and not its category or author.
///
/// # Errors
/// There is no such element, none of that name, or several between which only the configuration can decide.
pub(crate) fn item_sequence(
    (cfg, shape): (&ModelConfig, &Shape<'_>),
    named: Option<&str>,
) -> Result<(usize, usize), Error> {
    let fail = |text: String| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
    let chosen = cfg.chosen(shape.fields)?;
    let name = |f: usize| shape.fields[f].name.as_str();
    let item_of = |f: usize| {
        let same = |&i: &usize| is_item(shape, i) && shape.fields[i].space == shape.fields[f].space;
        chosen.iter().copied().find(same)
    };
    let elements = chosen.iter().copied().filter(|&f| is_element(&shape.fields[f]));
    let all: Vec<(usize, usize)> = elements.filter_map(|f| item_of(f).map(|item| (f, item))).collect();
    if all.is_empty() {
        return fail("there is no sequence that shares its table with an item feature".into());
    }
    let called = |f: usize| named.is_none_or(|named| name(f) == named || sequence_of(name(f)) == named);
    let found: Vec<(usize, usize)> = all.iter().copied().filter(|(f, _)| called(*f)).collect();
    // What may be any number of keys is more than what is bounded.
    let keys = |item: usize| shape.fields[item].size.unwrap_or(u64::MAX);
    let most = |sequence: &str| {
        let own = found.iter().filter(|(f, _)| sequence_of(name(*f)) == sequence);
        own.map(|(_, item)| keys(*item)).max()
    };
    let best: Vec<(usize, usize)> =
        found.iter().copied().filter(|(f, item)| Some(keys(*item)) == most(sequence_of(name(*f)))).collect();
    match best[..] {
        [one] => Ok(one),
        [] => {
            let names = all.iter().flat_map(|(f, _)| [sequence_of(name(*f)), name(*f)]);
            let (named, valid) = (named.unwrap_or_default(), distinct(names));
            fail(suggest::unknown("sequence", named, valid.iter().copied()))
        }
        [(first, _), ..] => {
            let names: Vec<String> = best.iter().map(|(f, _)| format!("`{}`", name(*f))).collect();
            fail(format!("{}? say which with `sequence = \"{}\"`", names.join(" or "), name(first)))
        }
    }
}
