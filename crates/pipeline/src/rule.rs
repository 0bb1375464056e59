//! What a re-ranking rule is, and the list of them.

use std::sync::Arc;

use millstream_schema::{ItemRow, config, suggest};
use rapidhash::RapidHashMap;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::catalogue::Snapshot;
use crate::channel::Call;
use crate::rules::{alive, mmr, per_author, seen};
use crate::trace::Step;
use crate::vectors::ItemVectors;

/// A ranked candidate. Small on purpose: everything else is looked up by `merged`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Catalogue row.
    pub item: ItemRow,
    /// Fused score; may be NaN, which stands last.
    pub score: f32,
    /// Place in the merged list; unique.
    pub merged: u32,
}

/// What a rule may look at.
pub struct RuleCall<'a> {
    /// The request and its catalogue.
    pub call: &'a Call,
    /// The catalogue as it is by now.
    pub latest: &'a Snapshot,
    /// Vectors of items, where there are any.
    pub vectors: Option<&'a dyn ItemVectors>,
    /// Length of the page.
    pub n: usize,
}

/// Re-orders or drops; may not add or rescore. Applied twice it does no more than once.
pub trait Rule: Send + Sync {
    /// Changes the order of `slate`, or takes entries out.
    ///
    /// # Errors
    /// Whatever keeps the rule from being applied.
    fn apply(&self, x: &RuleCall<'_>, slate: &mut Vec<Entry>) -> Result<(), Error>;
}

/// One entry of [`RULES`].
pub struct RuleDef {
    /// Name in configurations and traces.
    pub name: &'static str,
    /// Whether it does nothing where items have no author.
    pub by_author: bool,
    /// Makes the rule from its options.
    pub build: fn(&toml::Table) -> Result<Box<dyn Rule>, Error>,
}

/// All rules. A new one is a file in `rules/` and a line here; it then stands the law suite.
pub const RULES: &[RuleDef] = &[seen::DEF, alive::DEF, mmr::DEF, per_author::DEF];

/// A rule under its name.
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    rule: Box<dyn Rule>,
}

/// A rule's own options; an unknown key is an error that names the nearest.
pub(crate) fn options<T: DeserializeOwned>(table: &toml::Table, rule: &str) -> Result<T, Error> {
    Ok(config::from_table(table, &format!("options of rule `{rule}`"))?)
}

impl Named {
    /// Builds the rule of this name.
    pub(crate) fn build(name: &str, options: &toml::Table) -> Result<Self, Error> {
        let def = RULES.iter().find(|d| d.name == name).ok_or_else(|| {
            let valid: Vec<&str> = RULES.iter().map(|d| d.name).collect();
            Error::Config(suggest::unknown("rule", name, valid.iter().copied()))
        })?;
        Ok(Self { name: def.name.into(), rule: (def.build)(options)? })
    }

    #[cfg(test)]
    pub(crate) fn of(name: &str, rule: Box<dyn Rule>) -> Self {
        Self { name: name.into(), rule }
    }

    /// Applies the rule and records, under its name, what it dropped and what it moved: places are counted
    /// among the entries that stayed, so that a drop does not show as a move of all that follow.
    pub(crate) fn apply(
        &self,
        x: &RuleCall<'_>,
        slate: &mut Vec<Entry>,
        steps: &mut Vec<(u32, Step)>,
    ) -> Result<(), Error> {
        let before = slate.clone();
        self.rule.apply(x, slate)?;
        let after: RapidHashMap<u32, (u32, f32)> =
            slate.iter().enumerate().map(|(at, e)| (e.merged, (at as u32, e.score))).collect();
        let mut stayed = 0;
        for (from, entry) in before.iter().enumerate() {
            match after.get(&entry.merged) {
                None => steps.push((entry.merged, self.step(from as u32, None))),
                Some((_, score)) if score.to_bits() != entry.score.to_bits() => {
                    return Err(Error::Part(format!("rule `{}` changed a score", self.name)));
                }
                Some(&(to, _)) => {
                    if to != stayed {
                        steps.push((entry.merged, self.step(stayed, Some(to))));
                    }
                    stayed += 1;
                }
            }
        }
        if stayed as usize != slate.len() {
            return Err(Error::Part(format!("rule `{}` added an item", self.name)));
        }
        Ok(())
    }

    fn step(&self, from: u32, to: Option<u32>) -> Step {
        Step { rule: self.name.clone(), from: Some(from), to }
    }
}
