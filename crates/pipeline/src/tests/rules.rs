//! Every rule of the registry, the ones to come included.

use super::world::*;
use crate::rule::{Entry, Named, RULES, Rule, RuleCall};
use crate::{DenseVectors, Error, ItemVectors};

fn slate(len: u32) -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..len)
        .map(|i| Entry { item: (i * 37) % ITEMS, score: ((i * 7919) % 101) as f32 / 101.0, merged: i })
        .collect();
    entries.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.merged.cmp(&b.merged)));
    if let Some(last) = entries.last_mut() {
        last.score = f32::NAN;
    }
    entries
}

fn with_call<T>(vectors: Option<&dyn ItemVectors>, n: usize, check: impl FnOnce(&RuleCall<'_>) -> T) -> T {
    let call = call(request(2, n));
    let latest = call.catalogue.clone();
    check(&RuleCall { call: &call, latest: &latest, vectors, n })
}

fn bits(slate: &[Entry]) -> Vec<(u32, u32, u32)> {
    slate.iter().map(|e| (e.item, e.score.to_bits(), e.merged)).collect()
}

#[test]
fn rules_draw_from_their_input_and_leave_scores_alone() {
    let dense = DenseVectors::new(4, vectors()).unwrap();
    for vectors in [None, Some(&dense as &dyn ItemVectors)] {
        for def in RULES {
            for len in [0, 1, 5, 150] {
                with_call(vectors, 10, |x| {
                    let before = slate(len);
                    let mut after = before.clone();
                    (def.build)(&toml::Table::new()).unwrap().apply(x, &mut after).unwrap();
                    let input: std::collections::BTreeSet<_> = bits(&before).into_iter().collect();
                    let output: std::collections::BTreeSet<_> = bits(&after).into_iter().collect();
                    assert!(output.is_subset(&input), "{}", def.name);
                    assert_eq!(output.len(), after.len(), "{} repeats an entry", def.name);
                });
            }
        }
    }
}

#[test]
fn rules_applied_twice_do_no_more_than_once() {
    let dense = DenseVectors::new(4, vectors()).unwrap();
    for vectors in [None, Some(&dense as &dyn ItemVectors)] {
        for def in RULES {
            with_call(vectors, 12, |x| {
                let rule = (def.build)(&toml::Table::new()).unwrap();
                let mut once = slate(150);
                rule.apply(x, &mut once).unwrap();
                let mut twice = once.clone();
                rule.apply(x, &mut twice).unwrap();
                assert_eq!(bits(&once), bits(&twice), "{}", def.name);
            });
        }
    }
}

#[test]
fn rules_take_no_unknown_option_and_every_drop_has_a_name() {
    for def in RULES {
        let wrong: toml::Table = "no_such_option = 1".parse().unwrap();
        let err = (def.build)(&wrong).err().unwrap().to_string();
        assert!(err.contains("no_such_option") && err.contains(def.name), "{err}");
        with_call(None, 10, |x| {
            let before = slate(150);
            let (mut after, mut steps) = (before.clone(), Vec::new());
            Named::build(def.name, &toml::Table::new()).unwrap().apply(x, &mut after, &mut steps).unwrap();
            for entry in &before {
                let stays = after.iter().any(|e| e.merged == entry.merged);
                let dropped = steps.iter().any(|s| s.0 == entry.merged && s.1.to.is_none());
                assert_ne!(stays, dropped, "{}", def.name);
            }
            assert!(steps.iter().all(|s| &*s.1.rule == def.name));
        });
    }
    let err = Named::build("mmrr", &toml::Table::new()).err().unwrap().to_string();
    assert!(err.contains("did you mean `mmr`"), "{err}");
}

struct Breaks(fn(&mut Vec<Entry>));

impl Rule for Breaks {
    fn apply(&self, _: &RuleCall<'_>, slate: &mut Vec<Entry>) -> Result<(), Error> {
        (self.0)(slate);
        Ok(())
    }
}

#[test]
fn a_rule_that_adds_or_rescores_is_found_out() {
    let adds = |s: &mut Vec<Entry>| s.push(Entry { item: 0, score: 1.0, merged: 999 });
    let repeats = |s: &mut Vec<Entry>| s.push(s[0]);
    let rescores = |s: &mut Vec<Entry>| s[0].score += 1.0;
    for (broken, word) in
        [(adds as fn(&mut Vec<Entry>), "added"), (repeats, "added"), (rescores, "changed a score")]
    {
        with_call(None, 10, |x| {
            let rule = Named::of("broken", Box::new(Breaks(broken)));
            let err = rule.apply(x, &mut slate(20), &mut Vec::new()).unwrap_err().to_string();
            assert!(err.contains("broken") && err.contains(word), "{err}");
        });
    }
}

#[test]
fn seen_and_dead_items_are_dropped() {
    with_call(None, 10, |x| {
        let all = |row| Entry { item: row, score: 1.0, merged: row };
        let (mut after, mut steps) = ((0..ITEMS).map(all).collect::<Vec<_>>(), Vec::new());
        for name in ["seen", "alive"] {
            Named::build(name, &toml::Table::new()).unwrap().apply(x, &mut after, &mut steps).unwrap();
        }
        assert!(after.iter().all(|e| x.call.keep(e.item)));
        assert_eq!(after.len() + steps.len(), ITEMS as usize);
        assert!(DEAD.iter().all(|d| steps.iter().any(|s| s.0 == *d)));
    });
}

#[test]
fn no_author_has_more_than_the_most_before_the_others_had_their_turn() {
    with_call(None, 10, |x| {
        let mut after = slate(150);
        let rule = |options: &str| Named::build("per_author", &options.parse().unwrap()).unwrap();
        rule("max = 2").apply(x, &mut after, &mut Vec::new()).unwrap();
        assert_eq!(after.len(), 150);
        let author = |e: &Entry| x.call.catalogue.author(e.item);
        for name in 1..100 {
            assert!(after[..14].iter().filter(|e| author(e) == name).count() <= 2);
        }
        rule("max = 2\nhard = true").apply(x, &mut after, &mut Vec::new()).unwrap();
        assert_eq!(after.len(), 14);
    });
    assert!(Named::build("per_author", &"max = 0".parse().unwrap()).is_err());
    assert!(Named::build("mmr", &"lambda = 1.5".parse().unwrap()).is_err());
}

#[test]
fn diversity_parts_items_of_one_category_where_there_are_no_vectors() {
    with_call(None, 4, |x| {
        // Rows 0, 5, 10 share a category; their authors differ.
        let rows = [0u32, 5, 10, 1];
        let entry = |at: usize| Entry { item: rows[at], score: 1.0 - at as f32 * 0.1, merged: at as u32 };
        let mut after: Vec<Entry> = (0..4).map(entry).collect();
        let rule = Named::build("mmr", &"lambda = 0.3".parse().unwrap()).unwrap();
        rule.apply(x, &mut after, &mut Vec::new()).unwrap();
        assert_eq!(after[..2].iter().map(|e| e.item).collect::<Vec<_>>(), [0, 1]);
    });
}
