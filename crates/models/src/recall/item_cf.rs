//! Item-based collaborative filtering (Sarwar et al., WWW 2001) with the usual corrections.
//!
//! ```text
//! s(a → b) = [ Σ_{u ∈ U_a ∩ U_b} w_u · exp(−λ |t_ua − t_ub|) ] / ( |U_a|^α |U_b|^β + shrinkage )
//! ```
//! With α = β = ½, w_u = 1, λ = 0 and no shrinkage this is the cosine |U_a ∩ U_b| / √(|U_a| |U_b|).
//! w_u damps users who touched everything: 1 / ln(1 + |I_u|) (Breese et al., UAI 1998), or |I_u|^−γ.
//!
//! Building costs O(Σ_u |I_u|²) time, and memory for `neighbours` entries per item, twice while they are joined, plus half a MiB
//! per thread. The result does not depend on the number of threads. [`LiveItemCf`] follows new events and
//! counts again only those items whose lists they can change; its lists are bit for bit those of a rebuild.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::blocks::{Budget, Rows};
use crate::recall::cooccurrence::{Cooccurrence, Sides};
use crate::recall::lists::InvertedLists;
use crate::recall::offline::MEMORY_MIB;
use crate::recall::positives::{Changes, Event, Grouped, Positives};
use crate::recall::similarity::{Damping, Similarity};

const MODEL: &str = "item_cf";

/// The table that ItemCF makes.
pub type ItemCf = InvertedLists;

/// Options of [`ItemCfConfig::build`]. The default powers were chosen on held-out training items of Gowalla, among the
/// best of some twenty tried with all neighbours kept; `damping = "log"` with both powers ½ is the
/// textbook's form. `neighbours` and `max_user_items` bound memory and time, and cost a little recall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ItemCfConfig {
    /// Entries kept per item, the most similar; 0 keeps all.
    pub neighbours: usize,
    /// How very active users are damped.
    pub damping: Damping,
    /// γ of `damping = "power"`.
    pub damping_power: f32,
    /// α: how the popularity of the item in the history is divided out.
    pub source_power: f32,
    /// β: how the popularity of the item recommended is divided out.
    pub target_power: f32,
    /// Added to the denominator, so that few common users count for little.
    pub shrinkage: f32,
    /// λ per day between the user's two actions; 0 for none.
    pub decay_per_day: f32,
    /// Only a user's latest so many items count, which bounds the cost of one user; 0 for all.
    pub max_user_items: usize,
    /// Most MiB that counting may hold besides the grouped positives: sums, columns, and the lists as they are kept and joined. 0 for
    /// no bound. Fewer threads count where not all find room; a table that cannot fit is refused.
    pub memory_mib: usize,
}

impl Default for ItemCfConfig {
    fn default() -> Self {
        Self {
            neighbours: 200,
            damping: Damping::Power,
            damping_power: 0.6,
            source_power: 0.7,
            target_power: 0.3,
            shrinkage: 0.0,
            decay_per_day: 0.0,
            max_user_items: 1000,
            memory_mib: MEMORY_MIB,
        }
    }
}

impl ItemCfConfig {
    /// With as many neighbours fewer as it takes to count so many items within `memory_mib`: a chain that nobody gave options counts a
    /// large catalogue with shorter lists instead of refusing it.
    #[must_use]
    pub fn for_items(self, items: usize) -> Self {
        // An entry while lists are joined, and some room for what counting holds besides.
        let fits = (self.memory_mib << 20) / 32 / items.max(1);
        match self.memory_mib {
            0 => self,
            _ => Self { neighbours: self.neighbours.min(fits.max(1)), ..self },
        }
    }

    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        self.similarity().check(MODEL)
    }

    fn similarity(&self) -> Similarity {
        Similarity {
            neighbours: self.neighbours,
            damping: self.damping,
            damping_power: self.damping_power,
            source_power: self.source_power,
            target_power: self.target_power,
            shrinkage: self.shrinkage,
            decay_per_day: self.decay_per_day,
        }
    }

    fn cooccurrence<'a>(&self, sides: &'a Sides) -> Cooccurrence<'a> {
        self.similarity().over(sides)
    }

    fn budget(&self) -> Budget {
        Budget { model: MODEL, mib: self.memory_mib }
    }

    /// Counts common users of all pairs of items.
    ///
    /// # Errors
    /// An option out of range, lists whose lengths do not fit together, or a budget that is too small.
    pub fn build(&self, positives: &Positives<'_>) -> Result<InvertedLists, Error> {
        self.check()?;
        let sides = Sides::new(Grouped::by_user(positives, self.max_user_items)?, positives.items);
        self.cooccurrence(&sides).lists(Rows::All, self.budget())
    }
}

/// An ItemCF table that follows events.
#[derive(Debug, Clone)]
pub struct LiveItemCf {
    config: ItemCfConfig,
    sides: Sides,
    lists: Arc<InvertedLists>,
}

impl LiveItemCf {
    /// As [`ItemCfConfig::build`].
    ///
    /// # Errors
    /// As there.
    pub fn new(config: &ItemCfConfig, positives: &Positives<'_>) -> Result<Self, Error> {
        config.check()?;
        let sides = Sides::new(Grouped::by_user(positives, config.max_user_items)?, positives.items);
        let lists = config.cooccurrence(&sides).lists(Rows::All, config.budget())?;
        Ok(Self { config: config.clone(), sides, lists: Arc::new(lists) })
    }

    /// Goes on from lists that were built before, of the same positives. Some of them are counted again to see that they are those;
    /// where they are not, all are.
    ///
    /// # Errors
    /// As [`ItemCfConfig::build`].
    pub fn resume(
        config: &ItemCfConfig,
        positives: &Positives<'_>,
        lists: Arc<InvertedLists>,
    ) -> Result<Self, Error> {
        config.check()?;
        let sides = Sides::new(Grouped::by_user(positives, config.max_user_items)?, positives.items);
        let counting = config.cooccurrence(&sides);
        let some = lists.sample(&sides.by_row);
        let same = lists.items() == positives.items
            && lists.holds(&some, &counting.lists(Rows::Some(&some), config.budget())?);
        let lists = match same {
            true => lists,
            false => Arc::new(counting.lists(Rows::All, config.budget())?),
        };
        Ok(Self { config: config.clone(), sides, lists })
    }

    /// Takes further events, of known and of new users and items. Costs O(all pairs) to regroup them, and the counting of those items
    /// whose lists may change.
    ///
    /// # Errors
    /// The budget is too small; the table stays as it was.
    pub fn update(&mut self, events: &[Event]) -> Result<(), Error> {
        self.follow(&Changes::of(events))
    }

    /// As [`LiveItemCf::update`], where users may have been forgotten before.
    ///
    /// # Errors
    /// As there.
    pub fn follow(&mut self, changes: &Changes) -> Result<(), Error> {
        let (by_link, by_row) = (&self.sides.by_link, &self.sides.by_row);
        let (by_user, items) = changes.applied(by_link, by_row.rows(), self.config.max_user_items);
        let sides = Sides::new(by_user, items);
        let (old, new) = (self.config.cooccurrence(&self.sides), self.config.cooccurrence(&sides));
        self.lists = Arc::new(new.renewed(&old, &self.lists, self.config.budget())?);
        self.sides = sides;
        Ok(())
    }

    /// The table as of the last update.
    pub fn lists(&self) -> &InvertedLists {
        &self.lists
    }

    /// As [`LiveItemCf::lists`], to be kept while the next is made.
    pub fn shared(&self) -> Arc<InvertedLists> {
        self.lists.clone()
    }
}

#[cfg(test)]
#[path = "item_cf_tests.rs"]
mod tests;
