//! Searches in a history: which of its elements a candidate looks at.

use millstream_nn::{FieldInput, Inputs, Pairs};
use millstream_schema::{Field, Rows, Shape, encode, suggest};
use rayon::prelude::*;

use super::options::{Behaviour, Place};
use crate::Error;

/// Places of the category among the sequence's fields and the candidate's.
///
/// # Errors
/// No category named, or one that is no element of the sequence, with what stands in its way.
pub(super) fn category(
    options: &Behaviour,
    place: Place<'_>,
    sequence: &str,
    fields: &[Field],
) -> Result<(usize, usize), Error> {
    let prefix = format!("{sequence}.");
    let own = |f: &Field| f.name.strip_prefix(&prefix).map(str::to_owned);
    let elements: Vec<String> =
        fields.iter().filter_map(own).filter(|e| fields.iter().any(|f| f.name == *e)).collect();
    let valid = || elements.iter().map(String::as_str);
    let fail = |text: String| place.fail(text);
    let Some(name) = &options.category else {
        return fail(format!(
            "needs `category`, the element that must be the candidate's; one of {}",
            valid().collect::<Vec<_>>().join(", ")
        ));
    };
    let field = |wanted: &str| fields.iter().position(|f| f.name == wanted);
    let item = field(name).filter(|at| fields[*at].rows == Rows::Candidate);
    match (elements.contains(name), field(&format!("{prefix}{name}")), item) {
        (true, Some(element), Some(own)) => Ok((element, own)),
        (_, _, Some(own)) if fields[own].shape == Shape::Keys => fail(format!(
            "category: `{name}` has several values per item, and elements of a sequence have one; declare a categorical feature of one of them (the first, say), make it an element of `{sequence}` and name that"
        )),
        (_, _, Some(own)) if fields[own].shape == Shape::Key => fail(format!(
            "category: `{name}` is no element of `{sequence}`; add it to the feature's `elements`"
        )),
        _ => fail(format!("category: {}", suggest::unknown("element", name, valid()))),
    }
}

/// The categories of elements and candidates.
pub(super) struct SameCategory {
    elements: Vec<u64>,
    candidates: Vec<u64>,
}

impl SameCategory {
    /// From the places of the category among the sequence's fields and the candidate's.
    pub(super) fn new(x: &Inputs, (element, own): (usize, usize)) -> Self {
        let keys = |field: usize| {
            let unique = x.unique_keys(field);
            let places = match x.field(field) {
                FieldInput::Key(places) => &places[..],
                FieldInput::Keys(bags) => bags.index(),
                FieldInput::Dense { .. } => &[],
            };
            places.iter().map(|place| unique[*place as usize]).collect()
        };
        Self { elements: keys(element), candidates: keys(own) }
    }

    /// The latest k elements of candidate `n`'s category; none where its category is missing or unknown.
    pub(super) fn latest(&self, pairs: &Pairs, n: usize, k: usize) -> Vec<u32> {
        let wanted = self.candidates[n];
        if wanted < encode::FIRST {
            return Vec::new();
        }
        let same = |e: &usize| self.elements[*e] == wanted;
        let mut found: Vec<u32> = pairs.elements_of(n).rev().filter(same).take(k).map(|e| e as u32).collect();
        found.reverse();
        found
    }
}

/// `search(n)` for all N candidates: how many each found, as offsets, and what.
pub(super) fn found(n: usize, search: impl Fn(usize) -> Vec<u32> + Sync + Send) -> (Vec<u32>, Vec<u32>) {
    let found: Vec<Vec<u32>> = (0..n).into_par_iter().with_min_len(16).map(search).collect();
    let mut offsets = Vec::with_capacity(n + 1);
    offsets.push(0);
    found.iter().for_each(|f| offsets.push(offsets[offsets.len() - 1] + f.len() as u32));
    (offsets, found.concat())
}
