//! Item-based collaborative filtering (Sarwar et al., WWW 2001) with the usual corrections.
//!
//! ```text
//! s(a → b) = [ Σ_{u ∈ U_a ∩ U_b} w_u · exp(−λ |t_ua − t_ub|) ] / ( |U_a|^α |U_b|^β + shrinkage )
//! ```
//! With α = β = ½, w_u = 1, λ = 0 and no shrinkage this is the cosine |U_a ∩ U_b| / √(|U_a| |U_b|).
//! w_u damps users who touched everything: 1 / ln(1 + |I_u|) (Breese et al., UAI 1998), or |I_u|^−γ.
//! A history's score for item b is Σ_{a in history} weight_a · s(a → b).
//!
//! Building costs O(Σ_u |I_u|²) time, and memory for `neighbours` entries per item plus one dense row
//! per thread. The result does not depend on the number of threads.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::ops::Range;

use millstream_schema::ItemRow;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::positives::{Grouped, Positives};

const MAGIC: &[u8; 8] = b"MSITEMCF";
const VERSION: u32 = 1;
/// Rows of one unit of parallel work.
const BLOCK: usize = 128;
const DAY_MS: f32 = 86_400_000.0;

/// How a user's number of items lowers the weight of what they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Damping {
    /// Not at all.
    None,
    /// 1 / ln(1 + |I_u|).
    Log,
    /// |I_u|^−`damping_power`.
    #[default]
    Power,
}

/// Options of [`ItemCf::build`]. The default powers were chosen on held-out training items of Gowalla, among the
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
        }
    }
}

impl ItemCfConfig {
    fn check(&self) -> Result<(), Error> {
        let numbers = [
            ("damping_power", self.damping_power),
            ("source_power", self.source_power),
            ("target_power", self.target_power),
            ("shrinkage", self.shrinkage),
            ("decay_per_day", self.decay_per_day),
        ];
        match numbers.iter().find(|(_, x)| !(x.is_finite() && *x >= 0.0)) {
            Some((key, x)) => {
                Err(Error::Config(format!("item_cf: key `{key}` is {x}; it must be 0 or more")))
            }
            None => Ok(()),
        }
    }

    fn user_weight(&self, items: usize) -> f32 {
        let n = items.max(1) as f32;
        match self.damping {
            Damping::None => 1.0,
            Damping::Log => 1.0 / n.ln_1p(),
            Damping::Power => n.powf(-self.damping_power),
        }
    }
}

/// The most similar items of every item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemCf {
    /// `[items + 1]`.
    offsets: Vec<u64>,
    /// (neighbour, similarity), falling per item, ties by row.
    entries: Vec<(ItemRow, f32)>,
}

impl ItemCf {
    /// Counts common users of all pairs of items.
    ///
    /// # Errors
    /// An option out of range, or lists whose lengths do not fit together.
    pub fn build(cfg: &ItemCfConfig, positives: &Positives<'_>) -> Result<Self, Error> {
        cfg.check()?;
        let by_user = Grouped::by_user(positives, cfg.max_user_items)?;
        let by_item = by_user.transposed(positives.items);
        let kernel = Kernel::new(cfg, &by_user, &by_item);
        let blocks: Vec<Block> = (0..positives.items.div_ceil(BLOCK))
            .into_par_iter()
            .map_init(
                || Scratch::sized(positives.items),
                |scratch, b| kernel.block(b * BLOCK..((b + 1) * BLOCK).min(positives.items), scratch),
            )
            .collect();
        Ok(Self::joined(blocks, positives.items))
    }

    fn joined(blocks: Vec<Block>, items: usize) -> Self {
        let mut offsets = Vec::with_capacity(items + 1);
        let mut entries = Vec::with_capacity(blocks.iter().map(|b| b.entries.len()).sum());
        offsets.push(0);
        for block in blocks {
            for count in block.counts {
                offsets.push(offsets[offsets.len() - 1] + u64::from(count));
            }
            entries.extend_from_slice(&block.entries);
        }
        Self { offsets, entries }
    }

    /// Number of items known.
    pub fn items(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of (item, neighbour) pairs kept.
    pub fn pairs(&self) -> usize {
        self.entries.len()
    }

    /// The item's neighbours with their similarity, most similar first; none for an unknown item.
    pub fn neighbours(&self, item: ItemRow) -> &[(ItemRow, f32)] {
        match self.offsets.get(item as usize..item as usize + 2) {
            Some(span) => &self.entries[span[0] as usize..span[1] as usize],
            None => &[],
        }
    }

    /// The best `k` items for a weighted history among those that `keep` lets through, best first, ties by
    /// row. Items of the history itself are candidates too: it is for `keep` to leave them out.
    pub fn recommend(
        &self,
        history: &[(ItemRow, f32)],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.grow(self.items());
            for &(item, weight) in history {
                for &(other, similarity) in self.neighbours(item) {
                    scratch.add(other, weight * similarity);
                }
            }
            let mut best = Vec::with_capacity(scratch.touched.len());
            scratch.drain(|item, score| {
                if score > 0.0 && keep(item) {
                    best.push((item, score));
                }
            });
            top(&mut best, k);
            best
        })
    }

    /// Scores of all items for a weighted history, for full ranking; `out` is `[items]`, overwritten, and may
    /// be longer than the items known.
    pub fn score_into(&self, history: &[(ItemRow, f32)], out: &mut [f32]) {
        out.fill(0.0);
        for &(item, weight) in history {
            for &(other, similarity) in self.neighbours(item) {
                if let Some(slot) = out.get_mut(other as usize) {
                    *slot += weight * similarity;
                }
            }
        }
    }

    /// Magic, version, xxh3 of the rest, then offsets and entries.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        crate::recall::envelope::seal(MAGIC, VERSION, self)
    }

    /// The reverse of [`ItemCf::to_bytes`]; every inner length and row is checked.
    ///
    /// # Errors
    /// The bytes are not such a table, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = crate::recall::envelope::open(MAGIC, VERSION, "an ItemCF table", bytes)?;
        let items = read.offsets.len().checked_sub(1);
        let sound = read.offsets.first() == Some(&0)
            && read.offsets.is_sorted()
            && read.offsets.last() == Some(&(read.entries.len() as u64))
            && read.entries.iter().all(|(row, s)| Some(*row as usize) < items && s.is_finite());
        if sound { Ok(read) } else { Err(Error::Corrupt("an ItemCF table does not hold together".into())) }
    }
}

struct Block {
    counts: Vec<u32>,
    entries: Vec<(ItemRow, f32)>,
}

struct Kernel<'a> {
    cfg: &'a ItemCfConfig,
    by_user: &'a Grouped,
    by_item: &'a Grouped,
    /// w_u.
    weights: Vec<f32>,
    /// |U_a|^α.
    source: Vec<f32>,
    /// |U_b|^β.
    target: Vec<f32>,
}

impl<'a> Kernel<'a> {
    fn new(cfg: &'a ItemCfConfig, by_user: &'a Grouped, by_item: &'a Grouped) -> Self {
        let power = |p: f32| (0..by_item.rows()).map(|i| (by_item.span(i).len() as f32).powf(p)).collect();
        Self {
            cfg,
            by_user,
            by_item,
            weights: (0..by_user.rows()).map(|u| cfg.user_weight(by_user.span(u).len())).collect(),
            source: power(cfg.source_power),
            target: power(cfg.target_power),
        }
    }

    fn block(&self, rows: Range<usize>, scratch: &mut Scratch) -> Block {
        let mut block = Block { counts: Vec::with_capacity(rows.len()), entries: Vec::new() };
        let mut row = Vec::new();
        for item in rows {
            self.row(item, scratch, &mut row);
            block.counts.push(row.len() as u32);
            block.entries.extend_from_slice(&row);
        }
        block
    }

    /// All neighbours of one item, best kept.
    fn row(&self, item: usize, scratch: &mut Scratch, out: &mut Vec<(ItemRow, f32)>) {
        for at in self.by_item.span(item) {
            let user = self.by_item.member[at] as usize;
            let span = self.by_user.span(user);
            let weight = self.weights[user];
            if self.cfg.decay_per_day > 0.0 {
                let mine = self.by_item.time_ms[at];
                for other in span {
                    let days = (mine - self.by_user.time_ms[other]).unsigned_abs() as f32 / DAY_MS;
                    scratch.add(self.by_user.member[other], weight * (-self.cfg.decay_per_day * days).exp());
                }
            } else {
                for &other in &self.by_user.member[span] {
                    scratch.add(other, weight);
                }
            }
        }
        out.clear();
        scratch.drain(|other, sum| {
            if other as usize != item && sum > 0.0 {
                let norm = self.source[item] * self.target[other as usize] + self.cfg.shrinkage;
                out.push((other, sum / norm));
            }
        });
        top(out, if self.cfg.neighbours == 0 { usize::MAX } else { self.cfg.neighbours });
    }
}

/// A dense row of sums with the places that were touched.
#[derive(Default)]
struct Scratch {
    sums: Vec<f32>,
    met: Vec<bool>,
    touched: Vec<ItemRow>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

impl Scratch {
    fn sized(items: usize) -> Self {
        let mut scratch = Self::default();
        scratch.grow(items);
        scratch
    }

    fn grow(&mut self, items: usize) {
        if self.sums.len() < items {
            self.sums.resize(items, 0.0);
            self.met.resize(items, false);
        }
    }

    fn add(&mut self, item: ItemRow, x: f32) {
        let at = item as usize;
        if !self.met[at] {
            self.met[at] = true;
            self.touched.push(item);
        }
        self.sums[at] += x;
    }

    /// Gives every touched place once and leaves all zero.
    fn drain(&mut self, mut take: impl FnMut(ItemRow, f32)) {
        let Self { sums, met, touched } = self;
        for &item in touched.iter() {
            let at = item as usize;
            take(item, std::mem::take(&mut sums[at]));
            met[at] = false;
        }
        touched.clear();
    }
}

/// Falling score, then rising row.
fn by_score(a: &(ItemRow, f32), b: &(ItemRow, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the best `k`, sorted.
pub(crate) fn top(scored: &mut Vec<(ItemRow, f32)>, k: usize) {
    if k == 0 {
        scored.clear();
    }
    if scored.len() > k {
        scored.select_nth_unstable_by(k - 1, by_score);
        scored.truncate(k);
    }
    scored.sort_unstable_by(by_score);
}

#[cfg(test)]
#[path = "item_cf_tests.rs"]
mod tests;
