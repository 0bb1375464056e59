//! The truth: the probability of a click, for one item or for all of them.

use super::config::examine;
use super::policy::{Shelf, Slate};
use super::rng::{self, Part};
use super::{DAY_MS, ItemRow, UserRow, World, schedule};

/// Requests that the intercept is fitted on.
const CALIBRATION_REQUESTS: usize = 2_000;

/// All that the truth knows of a user at one time, gathered once per request.
pub(super) struct Taste<'w> {
    pub(super) vector: &'w [f32],
    kind: [f32; 3],
    price: f32,
    region: u16,
    language: u16,
    time_ms: i64,
}

/// The effects of the configuration as `f32`, and the fitted intercept.
#[derive(Clone, Copy, Default)]
pub(super) struct Weights {
    pub(super) intercept: f32,
    affinity: f32,
    quality: f32,
    recency: f32,
    recency_ms: f32,
    kind: f32,
    language: f32,
    region: f32,
    price: f32,
}

impl Weights {
    pub(super) fn new(effects: &super::Effects) -> Self {
        Self {
            intercept: 0.0,
            affinity: effects.affinity as f32,
            quality: effects.quality as f32,
            recency: effects.recency as f32,
            recency_ms: (effects.recency_days * DAY_MS as f64) as f32,
            kind: effects.kind as f32,
            language: effects.language as f32,
            region: effects.region as f32,
            price: effects.price as f32,
        }
    }
}

impl World {
    /// True probability that `user` clicks `item` at `time_ms` once it is examined, in [0, 1];
    /// 0 when the item is not alive.
    ///
    /// # Panics
    /// When a row is outside this world.
    pub fn click_probability(&self, user: UserRow, item: ItemRow, time_ms: i64) -> f64 {
        if !self.items.facts[item as usize].alive(time_ms) {
            return 0.0;
        }
        f64::from(sigmoid(self.logit(&self.taste(user, time_ms), item)))
    }

    /// True probability of a click at a position (from 0): P(examined | position) · P(click | examined).
    ///
    /// Craswell et al., "An experimental comparison of click position-bias models", WSDM 2008,
    /// examination hypothesis.
    ///
    /// # Panics
    /// When a row is outside this world.
    pub fn click_probability_at(&self, user: UserRow, item: ItemRow, time_ms: i64, position: u32) -> f64 {
        self.examine(position) * self.click_probability(user, item, time_ms)
    }

    /// P(examined | position), position from 0, in (0, 1].
    pub fn examine(&self, position: u32) -> f64 {
        examine(position, self.config.position_bias)
    }

    /// [`World::click_probability`] of every item, in item order; `out` has one place per item.
    ///
    /// # Panics
    /// When `out` is not as long as the catalogue, or the user is outside this world.
    pub fn score_all(&self, user: UserRow, time_ms: i64, out: &mut [f32]) {
        assert_eq!(out.len(), self.items.terms.len(), "one place per item");
        let taste = self.taste(user, time_ms);
        for (item, (out, terms)) in out.iter_mut().zip(&self.items.terms).enumerate() {
            *out = if terms.born_ms <= time_ms && time_ms < terms.dies_ms {
                sigmoid(self.logit(&taste, item as ItemRow))
            } else {
                0.0
            };
        }
    }

    /// The `k` items most likely to be clicked by `user` at `time_ms` among the living ones that
    /// `keep` accepts, best first, ties by row: what an oracle would show.
    ///
    /// # Panics
    /// When the user is outside this world.
    pub fn best(
        &self,
        user: UserRow,
        time_ms: i64,
        k: usize,
        keep: impl Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        let mut scores = vec![0.0; self.items.terms.len()];
        self.score_all(user, time_ms, &mut scores);
        let mut best: Vec<(ItemRow, f32)> = scores
            .into_iter()
            .enumerate()
            .map(|(item, p)| (item as ItemRow, p))
            .filter(|&(item, p)| p > 0.0 && keep(item))
            .collect();
        let order = |a: &(ItemRow, f32), b: &(ItemRow, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if k < best.len() {
            best.select_nth_unstable_by(k, order);
            best.truncate(k);
        }
        best.sort_unstable_by(order);
        best
    }

    pub(super) fn taste(&self, user: UserRow, time_ms: i64) -> Taste<'_> {
        let user = user as usize;
        let (facts, leaning) = (&self.users.facts[user], &self.users.leanings[user]);
        Taste {
            vector: self.users.mind(user, time_ms).1,
            kind: leaning.kind.map(|k| k * self.weights.kind),
            price: leaning.price * self.weights.price,
            region: facts.region,
            language: facts.language,
            time_ms,
        }
    }

    /// logit P(click | examined); see [`super::Effects`] for the equation.
    #[inline]
    pub(super) fn logit(&self, taste: &Taste<'_>, item: ItemRow) -> f32 {
        let (w, terms) = (&self.weights, &self.items.terms[item as usize]);
        let vector = self.items.vector(item as usize, taste.vector.len());
        let age = (taste.time_ms - terms.born_ms) as f32;
        let mut logit = w.intercept + w.affinity * dot(taste.vector, vector);
        logit += w.quality * terms.quality;
        logit += w.recency * (1.0 - age / w.recency_ms).max(0.0);
        logit += taste.kind[terms.kind as usize];
        logit += taste.price * terms.price;
        logit += if terms.region == taste.region { w.region } else { 0.0 };
        logit - if terms.language == taste.language { 0.0 } else { w.language }
    }

    /// Dot product of a user's interests and an item, about [-1, 1].
    pub(super) fn affinity(&self, taste: &Taste<'_>, item: ItemRow) -> f32 {
        dot(taste.vector, self.items.vector(item as usize, taste.vector.len()))
    }

    /// Finds the intercept at which the logging policy, nothing having been clicked yet, clicks at the
    /// configured rate; so the truth does not depend on the length of the log.
    ///
    /// The policy compares logits only with each other, so the slates do not depend on the intercept.
    pub(super) fn calibrate(&mut self) {
        let rng = &mut rng::stream(self.config.seed, Part::Calibration);
        let mut shelf = Shelf::new(self);
        let mut slate = Slate::default();
        let mut shown: Vec<(f32, f64)> = Vec::new();
        for request in schedule::make(self, rng, CALIBRATION_REQUESTS) {
            shelf.refresh(self, request.time_ms);
            slate.fill(self, &shelf, rng, (&request, &[]));
            let examined = (0..).map(|p| self.examine(p));
            shown.extend(slate.slots().iter().map(|s| s.logit).zip(examined));
        }
        let rate = |intercept: f32| {
            let clicks = shown.iter().map(|&(l, e)| e * f64::from(sigmoid(l + intercept)));
            clicks.sum::<f64>() / shown.len().max(1) as f64
        };
        let (mut low, mut high) = (-80.0f32, 80.0f32);
        for _ in 0..40 {
            let middle = 0.5 * (low + high);
            if rate(middle) < self.config.click_rate {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.weights.intercept = 0.5 * (low + high);
    }
}

/// 1 / (1 + e^-x).
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Dot product of two rows whose length is a multiple of eight.
#[inline]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}
