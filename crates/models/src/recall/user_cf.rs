//! User-based collaborative filtering (Resnick et al., CSCW 1994, on implicit feedback): what the most similar users took.
//!
//! ```text
//! s(u → v) = [ Σ_{i ∈ I_u ∩ I_v} w_i · exp(−λ |t_ui − t_vi|) ] / ( |I_u|^α |I_v|^β + shrinkage )
//! score(u, i) = Σ_{v among the most similar to u, i ∈ I_v} s(u → v)
//! ```
//! It is ItemCF with users and items exchanged (`crate::recall::item_cf`): with α = β = ½, w_i = 1 and λ = 0 the cosine; w_i damps
//! items that everybody takes, 1 / ln(1 + |U_i|) (Breese et al., UAI 1998) or |U_i|^−γ. Known users have a list of similar users;
//! anybody else's history is folded in by the same formula.

use millstream_schema::{ItemRow, UserRow};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::blocks::{Budget, Rows};
use crate::recall::cooccurrence::{Cooccurrence, Sides};
use crate::recall::envelope;
use crate::recall::lists::InvertedLists;
use crate::recall::offline::MEMORY_MIB;
use crate::recall::positives::{Changes, Event, Grouped, Positives};
use crate::recall::similarity::{Damping, Similarity};
use crate::recall::top::{Top, top};

const MODEL: &str = "user_cf";
const MAGIC: &[u8; 8] = b"MSUSERCF";
const VERSION: u32 = 1;
const DAY_MS: f32 = 86_400_000.0;

/// Options of [`UserCf::build`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserCfConfig {
    /// Similar users kept per user; 0 keeps all.
    pub neighbours: usize,
    /// How very popular items are damped.
    pub damping: Damping,
    /// γ of `damping = "power"`.
    pub damping_power: f32,
    /// α: how the number of the user's own items is divided out.
    pub source_power: f32,
    /// β: how the number of the other user's items is divided out.
    pub target_power: f32,
    /// Added to the denominator, so that few common items count for little.
    pub shrinkage: f32,
    /// λ per day between the two users' actions on the item; 0 for none.
    pub decay_per_day: f32,
    /// Only a user's latest so many items count; 0 for all.
    pub max_user_items: usize,
    /// Only an item's latest so many users count, which bounds the cost of one item; 0 for all.
    pub max_item_users: usize,
    /// Most MiB that counting may hold besides the grouped positives, as in ItemCF; 0 for no bound.
    pub memory_mib: usize,
}

impl Default for UserCfConfig {
    fn default() -> Self {
        Self {
            neighbours: 200,
            damping: Damping::Power,
            damping_power: 0.5,
            source_power: 0.5,
            target_power: 0.5,
            shrinkage: 0.0,
            decay_per_day: 0.0,
            max_user_items: 1000,
            max_item_users: 5000,
            memory_mib: MEMORY_MIB,
        }
    }
}

impl UserCfConfig {
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

    /// Users by item, and the items of each user that are left of those.
    fn sides(&self, by_user: &Grouped, items: usize) -> Sides {
        Sides::new(by_user.transposed(items).latest(self.max_item_users), by_user.rows())
    }
}

/// Who is similar to whom, and what they took.
#[derive(Debug, Clone)]
pub struct UserCf {
    config: UserCfConfig,
    by_user: Grouped,
    sides: Sides,
    /// w_i; empty where all are 1.
    weights: Vec<f32>,
    similar: InvertedLists,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    config: UserCfConfig,
    items: usize,
    by_user: Grouped,
    similar: InvertedLists,
}

impl UserCf {
    /// Counts common items of all pairs of users.
    ///
    /// # Errors
    /// An option out of range, lists whose lengths do not fit together, or a budget that is too small.
    pub fn build(config: &UserCfConfig, positives: &Positives<'_>) -> Result<Self, Error> {
        config.check()?;
        let by_user = Grouped::by_user(positives, config.max_user_items)?;
        let sides = config.sides(&by_user, positives.items);
        let similar = config.cooccurrence(&sides).lists(Rows::All, config.budget())?;
        Ok(Self::of(config.clone(), by_user, sides, similar))
    }

    fn of(config: UserCfConfig, by_user: Grouped, sides: Sides, similar: InvertedLists) -> Self {
        let weights = config.damping.weights(config.damping_power, &sides.by_link);
        Self { config, by_user, sides, weights, similar }
    }

    /// Takes further events, of known and of new users and items; what comes of it is bit for bit what [`UserCf::build`] makes of all
    /// events. Costs O(all pairs) to regroup them, and the counting of those users whose lists may change.
    ///
    /// # Errors
    /// The budget is too small; the model stays as it was.
    pub fn update(&mut self, events: &[Event]) -> Result<(), Error> {
        *self = self.following(&Changes::of(events))?;
        Ok(())
    }

    /// What [`UserCf::update`] makes of this one, where users may have been forgotten before; this one goes on as it is.
    ///
    /// # Errors
    /// The budget is too small.
    pub fn following(&self, changes: &Changes) -> Result<Self, Error> {
        let (by_user, items) = changes.applied(&self.by_user, self.items(), self.config.max_user_items);
        let sides = self.config.sides(&by_user, items);
        let (old, new) = (self.config.cooccurrence(&self.sides), self.config.cooccurrence(&sides));
        let similar = new.renewed(&old, &self.similar, self.config.budget())?;
        Ok(Self::of(self.config.clone(), by_user, sides, similar))
    }

    /// Number of items known.
    pub fn items(&self) -> usize {
        self.sides.by_link.rows()
    }

    /// Users with those similar to them: user → (user, similarity).
    pub fn similar(&self) -> &InvertedLists {
        &self.similar
    }

    /// The users most similar to somebody of this history of (item, epoch milliseconds), but for `own`, best first.
    pub fn similar_to(&self, history: &[(ItemRow, i64)], own: Option<UserRow>) -> Vec<(UserRow, f32)> {
        let mut history = history.to_vec();
        history.retain(|x| (x.0 as usize) < self.items());
        history.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        history.dedup_by_key(|x| x.0);
        let mut sums = vec![0.0f32; self.by_user.rows()];
        for &(item, time) in &history {
            let weight = self.weights.get(item as usize).copied().unwrap_or(1.0);
            for at in self.sides.by_link.span(item as usize) {
                let days = time.abs_diff(self.sides.by_link.time(at)) as f32 / DAY_MS;
                let fade = if self.config.decay_per_day > 0.0 {
                    (-self.config.decay_per_day * days).exp()
                } else {
                    1.0
                };
                sums[self.sides.by_link.member[at] as usize] += weight * fade;
            }
        }
        let source = (history.len() as f32).powf(self.config.source_power);
        let (mut best, mut out) = (Top::new(self.config.neighbours), Vec::new());
        for (user, &sum) in sums.iter().enumerate().filter(|x| *x.1 > 0.0 && own != Some(x.0 as UserRow)) {
            let target = (self.sides.by_row.count(user) as f32).powf(self.config.target_power);
            best.offer(user as UserRow, sum / (source * target + self.config.shrinkage));
        }
        best.drain_into(&mut out);
        out
    }

    /// Scores of all items by similar users; `out` is `[items]`, overwritten, and may be longer than the items known.
    pub fn score_into(&self, similar: &[(UserRow, f32)], out: &mut [f32]) {
        out.fill(0.0);
        for &(user, similarity) in similar.iter().filter(|x| (x.0 as usize) < self.by_user.rows()) {
            for &item in self.by_user.of(user as usize) {
                if let Some(slot) = out.get_mut(item as usize) {
                    *slot += similarity;
                }
            }
        }
    }

    /// The best `k` items by similar users among those that `keep` lets through, best first, ties by row.
    pub fn recommend(
        &self,
        similar: &[(UserRow, f32)],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        let mut scores = vec![0.0; self.items()];
        self.score_into(similar, &mut scores);
        let mut best: Vec<(ItemRow, f32)> = (0u32..).zip(scores).filter(|x| x.1 > 0.0 && keep(x.0)).collect();
        top(&mut best, k);
        best
    }

    /// Magic, version, xxh3 of the rest, then options, positives and lists.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let Self { config, by_user, similar, .. } = self.clone();
        envelope::seal(MAGIC, VERSION, &Saved { config, items: self.items(), by_user, similar })
    }

    /// The reverse of [`UserCf::to_bytes`]; every inner length and row is checked.
    ///
    /// # Errors
    /// The bytes are not such a model, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Saved = envelope::open(MAGIC, VERSION, "a UserCF model", bytes)?;
        let sound = read.by_user.sound(read.items)
            && read.similar.sound()
            && read.similar.items() == read.by_user.rows()
            && read.config.check().is_ok();
        if !sound {
            return Err(Error::Corrupt("a UserCF model does not hold together".into()));
        }
        let sides = read.config.sides(&read.by_user, read.items);
        Ok(Self::of(read.config, read.by_user, sides, read.similar))
    }
}

#[cfg(test)]
#[path = "user_cf_tests.rs"]
mod tests;
