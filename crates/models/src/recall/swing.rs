//! Swing (Yang et al., "Large Scale Product Graph Construction for Recommendation in E-commerce", 2020): two items are alike if pairs
//! of users that have little else in common took both.
//!
//! ```text
//! s(i, j) = Σ_{u < v ∈ U_i ∩ U_j} w_u w_v / ( α + |I_u ∩ I_v| ),   w_u = |I_u|^−γ, γ = ½ in the paper
//! ```
//! A row costs O(|U_i|² · mean |I_v|); `max_item_users` bounds the first factor by an item's latest users, which then are U_i. Each
//! list is of its own row's U_i, so where that bound cuts, s(i, j) and s(j, i) may differ.

use std::sync::Arc;

use millstream_schema::ItemRow;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::blocks::{Budget, Rows, Size, lists_of};
use crate::recall::lists::InvertedLists;
use crate::recall::offline::MEMORY_MIB;
use crate::recall::positives::{Changes, Event, Grouped, Positives};
use crate::recall::top::Top;

const MODEL: &str = "swing";

/// Options of Swing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwingConfig {
    /// Entries kept per item, the most similar; 0 keeps all.
    pub neighbours: usize,
    /// α: above 0; smooths the weight of pairs with little in common.
    pub alpha: f32,
    /// γ: how very active users are damped; 0 for not at all.
    pub user_power: f32,
    /// Only a user's latest so many items count; 0 for all.
    pub max_user_items: usize,
    /// Only an item's latest so many users count; 0 for all.
    pub max_item_users: usize,
    /// Most MiB that counting may hold besides the grouped positives, as in ItemCF; 0 for no bound.
    pub memory_mib: usize,
}

impl Default for SwingConfig {
    fn default() -> Self {
        Self {
            neighbours: 200,
            alpha: 1.0,
            user_power: 0.5,
            max_user_items: 500,
            max_item_users: 1000,
            memory_mib: MEMORY_MIB,
        }
    }
}

impl SwingConfig {
    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        let fail =
            |key, x: f32, what| Err(Error::Config(format!("{MODEL}: key `{key}` is {x}; it must be {what}")));
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return fail("alpha", self.alpha, "above 0");
        }
        if !(self.user_power.is_finite() && self.user_power >= 0.0) {
            return fail("user_power", self.user_power, "0 or more");
        }
        Ok(())
    }

    /// Scores all pairs of items that two users have in common.
    ///
    /// # Errors
    /// An option out of range, lists whose lengths do not fit together, or a budget that is too small.
    pub fn build(&self, positives: &Positives<'_>) -> Result<InvertedLists, Error> {
        self.check()?;
        let by_user = Grouped::by_user(positives, self.max_user_items)?;
        Swing::new(self, &by_user, positives.items).lists(Rows::All)
    }
}

struct Swing<'a> {
    config: &'a SwingConfig,
    by_user: &'a Grouped,
    by_item: Grouped,
    /// w_u.
    weights: Vec<f32>,
}

/// What one worker writes into.
struct Scratch {
    /// Mark of the first user's items, `[items]`.
    mark: Vec<u32>,
    /// The latest mark.
    last: u32,
    common: Vec<ItemRow>,
    /// `[items]`.
    sums: Vec<f32>,
    met: Vec<ItemRow>,
}

impl<'a> Swing<'a> {
    fn new(config: &'a SwingConfig, by_user: &'a Grouped, items: usize) -> Self {
        let weigh = |u| (by_user.count(u).max(1) as f32).powf(-config.user_power).max(f32::MIN_POSITIVE);
        Self {
            config,
            by_user,
            by_item: by_user.transposed(items).latest(config.max_item_users),
            weights: (0..by_user.rows()).map(weigh).collect(),
        }
    }

    fn lists(&self, rows: Rows<'_>) -> Result<InvertedLists, Error> {
        let items = self.by_item.rows();
        let size = Size {
            fixed: self.by_item.bytes() + self.weights.len() * 4,
            worker: items * 16
                + (0..self.by_user.rows()).map(|u| self.by_user.count(u)).max().unwrap_or(0) * 8,
            rows: rows.count(items),
            columns: items,
            neighbours: self.config.neighbours,
        };
        let budget = Budget { model: MODEL, mib: self.config.memory_mib };
        let scratch = || Scratch {
            mark: vec![0; items],
            last: 0,
            common: Vec::new(),
            sums: vec![0.0; items],
            met: Vec::with_capacity(items),
        };
        lists_of(&size, budget, &scratch, &|scratch, at, top| self.row(rows.at(at), scratch, top))
    }

    fn row(&self, item: usize, scratch: &mut Scratch, top: &mut Top) {
        let users = self.by_item.of(item);
        for (n, &u) in users.iter().enumerate() {
            scratch.last = scratch.last.wrapping_add(1);
            if scratch.last == 0 {
                scratch.mark.fill(0);
                scratch.last = 1;
            }
            self.by_user.of(u as usize).iter().for_each(|&i| scratch.mark[i as usize] = scratch.last);
            for &v in &users[n + 1..] {
                self.pair((u as usize, v as usize), scratch);
            }
        }
        for other in scratch.met.drain(..) {
            let sum = std::mem::take(&mut scratch.sums[other as usize]);
            if other as usize != item {
                top.offer(other, sum);
            }
        }
    }

    /// Adds what a pair of users says, the first of whom is marked.
    fn pair(&self, (u, v): (usize, usize), scratch: &mut Scratch) {
        let Scratch { mark, last, common, sums, met } = scratch;
        let theirs = self.by_user.of(v);
        if common.len() < theirs.len() {
            common.resize(theirs.len(), 0);
        }
        let mut n = 0;
        for &i in theirs {
            common[n] = i;
            n += usize::from(mark[i as usize] == *last);
        }
        // The row's own item is always common: one alone says nothing of another.
        if n < 2 {
            return;
        }
        let term =
            (self.weights[u] * self.weights[v] / (self.config.alpha + n as f32)).max(f32::MIN_POSITIVE);
        for &i in &common[..n] {
            let sum = &mut sums[i as usize];
            if *sum == 0.0 {
                met.push(i);
            }
            *sum += term;
        }
    }
}

/// A table of Swing that follows events.
#[derive(Debug, Clone)]
pub struct LiveSwing {
    config: SwingConfig,
    by_user: Grouped,
    lists: Arc<InvertedLists>,
}

impl LiveSwing {
    /// As [`SwingConfig::build`].
    ///
    /// # Errors
    /// As there.
    pub fn new(config: &SwingConfig, positives: &Positives<'_>) -> Result<Self, Error> {
        config.check()?;
        let by_user = Grouped::by_user(positives, config.max_user_items)?;
        let lists = Swing::new(config, &by_user, positives.items).lists(Rows::All)?;
        Ok(Self { config: config.clone(), by_user, lists: Arc::new(lists) })
    }

    /// Goes on from lists that were built before, of the same positives. Some of them are counted again to see that they are those;
    /// where they are not, all are.
    ///
    /// # Errors
    /// As [`SwingConfig::build`].
    pub fn resume(
        config: &SwingConfig,
        positives: &Positives<'_>,
        lists: Arc<InvertedLists>,
    ) -> Result<Self, Error> {
        config.check()?;
        let by_user = Grouped::by_user(positives, config.max_user_items)?;
        let swing = Swing::new(config, &by_user, positives.items);
        let some = lists.sample(&swing.by_item);
        let same = lists.items() == positives.items && lists.holds(&some, &swing.lists(Rows::Some(&some))?);
        let lists = if same { lists } else { Arc::new(swing.lists(Rows::All)?) };
        Ok(Self { config: config.clone(), by_user, lists })
    }

    /// Takes further events, of known and of new users and items. Only items of users whose items changed can have other lists; they
    /// are counted again, so that all lists are bit for bit those of a rebuild.
    ///
    /// # Errors
    /// The budget is too small; the table stays as it was.
    pub fn update(&mut self, events: &[Event]) -> Result<(), Error> {
        self.follow(&Changes::of(events))
    }

    /// As [`LiveSwing::update`], where users may have been forgotten before.
    ///
    /// # Errors
    /// As there.
    pub fn follow(&mut self, changes: &Changes) -> Result<(), Error> {
        let (by_user, items) = changes.applied(&self.by_user, self.lists.items(), self.config.max_user_items);
        let mut stale = vec![false; items];
        let mut mark = |list: &[ItemRow]| list.iter().for_each(|&i| stale[i as usize] = true);
        let timed = self.config.max_item_users > 0;
        for user in 0..by_user.rows() {
            let known = user < self.by_user.rows();
            let before: &[ItemRow] = if known { self.by_user.of(user) } else { &[] };
            let same = known
                && before == by_user.of(user)
                && (!timed || self.by_user.times_of(user) == by_user.times_of(user));
            if !same {
                mark(before);
                mark(by_user.of(user));
            }
        }
        let stale: Vec<ItemRow> = (0..items as u32).filter(|&i| stale[i as usize]).collect();
        let fresh = Swing::new(&self.config, &by_user, items).lists(Rows::Some(&stale))?;
        self.lists = Arc::new(self.lists.replaced(items, &stale, &fresh));
        self.by_user = by_user;
        Ok(())
    }

    /// The table as of the last update.
    pub fn lists(&self) -> &InvertedLists {
        &self.lists
    }

    /// As [`LiveSwing::lists`], to be kept while the next is made.
    pub fn shared(&self) -> Arc<InvertedLists> {
        self.lists.clone()
    }
}

#[cfg(test)]
#[path = "swing_tests.rs"]
mod tests;
