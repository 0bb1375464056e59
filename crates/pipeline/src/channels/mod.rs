//! Recall channels, one file each.

pub(crate) mod actions;
pub mod bspm;
pub mod content;
pub mod hot;
pub mod i2i;
pub mod item_cf;
pub mod keyword;
pub mod near_line;
pub mod new_items;
pub mod remote;
pub mod tag;
mod taste;
pub mod two_tower;
pub mod user_cf;
pub mod vector;

use millstream_schema::ItemRow;
use rapidhash::RapidHashSet;

use crate::Error;
use crate::channel::{Candidate, Setup};

/// Refuses an option `user_fields` that names a field which no user has.
fn check_user_fields(setup: &Setup<'_>, fields: &[String]) -> Result<(), Error> {
    let check = |name: &String| setup.names.user_field(name);
    fields.iter().try_for_each(check).map_err(|e| setup.refuse(format!("key `user_fields`: {e}")))
}

/// Candidates of scored items, in their order.
fn candidates(found: Vec<(ItemRow, f32)>) -> Vec<Candidate> {
    found.into_iter().map(|(item, score)| Candidate { item, score }).collect()
}

/// The best `k` of scored items, ties by row.
fn best(mut found: Vec<(ItemRow, f32)>, k: usize) -> Vec<Candidate> {
    found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    found.truncate(k);
    candidates(found)
}

/// The first of every list, then the second of every list, and so on, each item once.
fn dealt(lists: &[Vec<(ItemRow, f32)>], k: usize) -> Vec<Candidate> {
    let mut met = RapidHashSet::default();
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|at| lists.iter().filter_map(move |l| l.get(at)));
    turns.filter(|x| met.insert(x.0)).take(k).map(|&(item, score)| Candidate { item, score }).collect()
}

/// The names in an error: `a`, `b`.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}
