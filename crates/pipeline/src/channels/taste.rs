//! A user's terms: what their history's items and their own record say.

use millstream_schema::ItemRow;
use rapidhash::RapidHashMap;

use crate::channel::Call;
use crate::terms::Terms;

/// The user's terms with their weights. An action's weight is shared among the terms of its item, so that an item
/// that says much does not drown the others; each of the record's own terms weighs 1.
pub(super) fn taste(
    index: &Terms,
    actions: &[(ItemRow, f32)],
    record: impl Iterator<Item = u32>,
    counts: impl Fn(u32) -> bool,
) -> RapidHashMap<u32, f32> {
    let mut weights: RapidHashMap<u32, f32> = RapidHashMap::default();
    for &(item, weight) in actions {
        let terms = || index.terms_of(item).iter().copied().filter(|&t| counts(t));
        let share = weight / terms().count().max(1) as f32;
        terms().for_each(|term| *weights.entry(term).or_default() += share);
    }
    for term in record.filter(|&t| counts(t)) {
        *weights.entry(term).or_default() += 1.0;
    }
    weights
}

/// The `most` terms of the greatest worth, best first, ties by code; those worth nothing are left out.
pub(super) fn strongest(
    weights: RapidHashMap<u32, f32>,
    most: usize,
    worth: impl Fn(u32) -> f32,
) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = weights.into_iter().map(|(term, w)| (term, w * worth(term))).collect();
    all.retain(|x| x.1 > 0.0);
    all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(most);
    all
}

/// For every item of the terms' lists the sum over its terms of weight times `part`, in order of the terms.
pub(super) fn matched(
    index: &Terms,
    terms: &[(u32, f32)],
    call: &Call,
    part: impl Fn(ItemRow) -> f32,
) -> Vec<(ItemRow, f32)> {
    let mut sums: RapidHashMap<ItemRow, f32> = RapidHashMap::default();
    for &(term, weight) in terms {
        for &item in index.items(term) {
            *sums.entry(item).or_default() += weight;
        }
    }
    let kept = sums.into_iter().filter(|x| call.keep(x.0));
    kept.map(|(item, sum)| (item, sum * part(item))).collect()
}
