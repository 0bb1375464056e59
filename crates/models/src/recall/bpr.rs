//! Matrix factorisation by Bayesian personalised ranking (Rendle et al., UAI 2009).
//!
//! ```text
//! min Σ_{(u,i,j)} −log σ(x_u·(y_i − y_j)) + λ/2 (|x_u|² + |y_i|² + |y_j|²)
//! ```
//! over items i that u took and drawn items j that u did not. Of `negatives` draws the one that scores highest is j: with 1 this is
//! plain BPR, with more it is dynamic negative sampling (Zhang et al., SIGIR 2013).
//!
//! Steps are stratified (Gemulla et al., KDD 2011): an epoch lays users and items out in `blocks` random blocks each, and goes
//! through as many turns, in each of which every block of users meets one block of items, positives and negatives alike. Blocks that meet
//! in a turn share no row, so that threads need no locks and the result does not depend on their number. Items are laid out
//! anew each epoch; any two items are compared in about one of `blocks` epochs.

use millstream_nn::kernels::vectorised;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::draws::Draws;
use crate::recall::factors::{FactorModel, FoldIn, dot};
use crate::recall::positives::{Grouped, Positives};

const MODEL: &str = "bpr";
/// Draws for one negative before a user is taken to have everything.
const TRIES: usize = 32;

/// Options of BPR.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BprConfig {
    /// D, 1 to 1024.
    pub dim: usize,
    /// Times that all positives are gone through.
    pub epochs: usize,
    /// Learning rate of the first epoch; it falls in a straight line to a tenth.
    pub lr: f32,
    /// λ.
    pub l2: f32,
    /// Draws of which the highest-scored item is the negative; 1 for plain BPR.
    pub negatives: usize,
    /// Blocks of users and of items.
    pub blocks: usize,
    /// Only a user's latest so many items count; 0 for all.
    pub max_user_items: usize,
}

impl Default for BprConfig {
    fn default() -> Self {
        Self { dim: 64, epochs: 60, lr: 0.05, l2: 0.01, negatives: 1, blocks: 8, max_user_items: 0 }
    }
}

impl BprConfig {
    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |what: &str| Err(Error::Config(format!("{MODEL}: {what}")));
        match () {
            () if !(1..=1024).contains(&self.dim) => fail("`dim` must be 1 to 1024"),
            () if self.epochs == 0 || self.negatives == 0 => fail("`epochs` and `negatives` must be above 0"),
            () if !(1..=1024).contains(&self.blocks) => fail("`blocks` must be 1 to 1024"),
            () if !(self.lr.is_finite() && self.lr > 0.0) => fail("`lr` must be above 0"),
            () if !(self.l2.is_finite() && self.l2 >= 0.0) => fail("`l2` must be 0 or more"),
            () => Ok(()),
        }
    }

    /// Learns users' and items' vectors; `seen` is told after each epoch and given the factors so far.
    ///
    /// # Errors
    /// An option out of range, lists whose lengths do not fit together, or vectors that are no numbers any more.
    pub fn fit(
        &self,
        positives: &Positives<'_>,
        seed: u64,
        seen: &mut dyn FnMut(usize, &Bpr),
    ) -> Result<FactorModel, Error> {
        let mut bpr = Bpr::new(self, positives, seed)?;
        for epoch in 0..self.epochs {
            bpr.epoch();
            seen(epoch + 1, &bpr);
        }
        bpr.model()
    }
}

/// Factors that are being learned, an epoch at a time.
#[derive(Debug, Clone)]
pub struct Bpr {
    config: BprConfig,
    seed: u64,
    epoch: usize,
    by_user: Grouped,
    /// `[U, D]`.
    users: Vec<f32>,
    /// `[N, D]`.
    items: Vec<f32>,
}

/// One turn's learning of a block of users against a block of items.
struct Meeting<'a> {
    users: &'a mut [f32],
    items: &'a mut [f32],
    /// (place among the block's users, place among the block's items).
    pairs: &'a mut [(u32, u32)],
    /// First user of the block.
    first: usize,
    /// Item at each place of the block.
    item_of: &'a [u32],
    draws: Draws,
}

impl Bpr {
    /// Small random vectors.
    ///
    /// # Errors
    /// As [`BprConfig::fit`].
    pub fn new(config: &BprConfig, positives: &Positives<'_>, seed: u64) -> Result<Self, Error> {
        config.check()?;
        let by_user = Grouped::by_user(positives, config.max_user_items)?;
        let random = |rows: usize, place: u64| {
            let mut draws = Draws::new(seed, place);
            (0..rows * config.dim).map(|_| 0.1 * draws.normal()).collect::<Vec<f32>>()
        };
        let (users, items) = (random(by_user.rows(), 1 << 40), random(positives.items, 2 << 40));
        Ok(Self { config: config.clone(), seed, epoch: 0, by_user, users, items })
    }

    /// `[U, D]` and `[N, D]`.
    pub fn factors(&self) -> (&[f32], &[f32]) {
        (&self.users, &self.items)
    }

    /// Goes through all positives once.
    pub fn epoch(&mut self) {
        let (dim, users, items) = (self.config.dim, self.by_user.rows(), self.items.len() / self.config.dim);
        if users == 0 || items == 0 {
            return;
        }
        let blocks = self.config.blocks.min(users).min(items);
        let (wide, tall) = (items.div_ceil(blocks), users.div_ceil(blocks));
        // Items where they lie this epoch.
        let mut item_of: Vec<u32> = (0..items as u32).collect();
        Draws::new(self.seed, self.epoch as u64).shuffle(&mut item_of);
        let mut place = vec![0u32; items];
        item_of.iter().enumerate().for_each(|(at, &i)| place[i as usize] = at as u32);
        let mut laid: Vec<f32> = Vec::with_capacity(self.items.len());
        item_of.iter().for_each(|&i| laid.extend_from_slice(&self.items[i as usize * dim..][..dim]));
        let mut pairs = self.bucketed(&place, (blocks, tall, wide));
        let left = 1.0 - 0.9 * self.epoch as f32 / self.config.epochs.max(1) as f32;
        let step = Step { lr: self.config.lr * left, l2: self.config.l2, negatives: self.config.negatives };
        for turn in 0..blocks {
            let mut item_blocks: Vec<Option<&mut [f32]>> = laid.chunks_mut(wide * dim).map(Some).collect();
            let mut meetings = Vec::with_capacity(blocks);
            let mut rest = pairs.iter_mut().map(Vec::as_mut_slice).map(Some).collect::<Vec<_>>();
            for (b, users) in self.users.chunks_mut(tall * dim).enumerate() {
                let at = (b + turn) % blocks;
                let Some(items) = item_blocks.get_mut(at).and_then(Option::take) else { continue };
                let Some(pairs) = rest[b * blocks + at].take() else { continue };
                let number = ((self.epoch * blocks + turn) * blocks + b) as u64;
                let item_of = &item_of[at * wide..((at + 1) * wide).min(item_of.len())];
                let draws = Draws::new(self.seed, (3 << 40) + number);
                meetings.push(Meeting { users, items, pairs, first: b * tall, item_of, draws });
            }
            let by_user = &self.by_user;
            meetings.into_par_iter().with_max_len(1).for_each(|m| m.learn(by_user, dim, step));
        }
        for (at, &i) in item_of.iter().enumerate() {
            self.items[i as usize * dim..][..dim].copy_from_slice(&laid[at * dim..][..dim]);
        }
        self.epoch += 1;
    }

    /// Pairs (place of user, place of item) of each block of users with each block of items.
    fn bucketed(&self, place: &[u32], (blocks, tall, wide): (usize, usize, usize)) -> Vec<Vec<(u32, u32)>> {
        let mut pairs = vec![Vec::new(); blocks * blocks];
        for user in 0..self.by_user.rows() {
            for &item in self.by_user.of(user) {
                let at = place[item as usize] as usize;
                pairs[user / tall * blocks + at / wide].push(((user % tall) as u32, (at % wide) as u32));
            }
        }
        pairs
    }

    /// What was learned.
    ///
    /// # Errors
    /// The vectors are no numbers any more.
    pub fn model(self) -> Result<FactorModel, Error> {
        if !self.users.iter().chain(&self.items).all(|v| v.is_finite()) {
            return Err(Error::Diverged(format!("{MODEL}: the vectors are no numbers any more; lower `lr`")));
        }
        let fold_in = FoldIn::Bpr { steps: FOLD_STEPS, lr: self.config.lr, l2: self.config.l2 };
        let mut items = self.items;
        let mut met = vec![false; items.len() / self.config.dim];
        self.by_user.member.iter().for_each(|&i| met[i as usize] = true);
        // An item that nobody took has no place of its own.
        for (row, _) in items.chunks_exact_mut(self.config.dim).zip(met).filter(|x| !x.1) {
            row.fill(0.0);
        }
        Ok(FactorModel::new(MODEL, self.config.dim, (items, self.users), fold_in))
    }
}

/// Gradient steps per item of a folded-in history.
const FOLD_STEPS: usize = 20;

#[derive(Clone, Copy)]
struct Step {
    lr: f32,
    l2: f32,
    negatives: usize,
}

impl Meeting<'_> {
    fn learn(mut self, by_user: &Grouped, dim: usize, step: Step) {
        self.draws.shuffle(self.pairs);
        let Self { users, items, pairs, first, item_of, mut draws } = self;
        vectorised!({
            for &mut (user, item) in pairs {
                let taken = by_user.of(first + user as usize);
                let x = &mut users[user as usize * dim..][..dim];
                let negative = hardest(x, items, taken, item_of, (&mut draws, step.negatives));
                if let Some(negative) = negative
                    && let Ok([y, z]) = items.get_disjoint_mut([
                        item as usize * dim..(item as usize + 1) * dim,
                        negative * dim..(negative + 1) * dim,
                    ])
                {
                    descend(x, y, z, step);
                }
            }
        });
    }
}

/// Of so many drawn items that are not `taken`, the place of the one that scores highest.
#[inline(always)]
fn hardest(
    x: &[f32],
    items: &[f32],
    taken: &[u32],
    item_of: &[u32],
    (draws, negatives): (&mut Draws, usize),
) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for _ in 0..negatives {
        let drawn = (0..TRIES).find_map(|_| {
            let at = draws.below(item_of.len());
            taken.binary_search(&item_of[at]).is_err().then_some(at)
        });
        let Some(at) = drawn else { continue };
        if negatives == 1 {
            return Some(at);
        }
        let score = dot(x, &items[at * x.len()..][..x.len()]);
        if best.is_none_or(|b| score > b.1) {
            best = Some((at, score));
        }
    }
    best.map(|b| b.0)
}

/// One step on (user, item taken, item not taken).
#[inline(always)]
fn descend(x: &mut [f32], y: &mut [f32], z: &mut [f32], step: Step) {
    let margin = dot(x, y) - dot(x, z);
    let pull = step.lr / (1.0 + margin.exp());
    let decay = step.lr * step.l2;
    for ((x, y), z) in x.iter_mut().zip(y).zip(z) {
        let (a, b, c) = (*x, *y, *z);
        *x = a + pull * (b - c) - decay * a;
        *y = b + pull * a - decay * b;
        *z = c - pull * a - decay * c;
    }
}

/// Steps on a user's vector alone, from `x`, on each (vector, weight) of a history against drawn items. The draws depend on
/// the history's length only.
pub(crate) fn fold_in(
    mut x: Vec<f32>,
    taken: &[(&[f32], f32)],
    items: &[f32],
    (steps, lr, l2): (usize, f32, f32),
) -> Vec<f32> {
    let dim = x.len();
    let (rows, mut draws) = (items.len() / dim, Draws::new(taken.len() as u64, 0));
    for _ in 0..steps {
        for (y, weight) in taken {
            let z = &items[draws.below(rows) * dim..][..dim];
            let pull = lr * weight / (1.0 + (dot(&x, y) - dot(&x, z)).exp());
            x.iter_mut().zip(y.iter().zip(z)).for_each(|(x, (b, c))| *x += pull * (b - c) - lr * l2 * *x);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::factors::Factors;

    fn world() -> (Vec<u64>, Vec<u32>) {
        let mut draws = Draws::new(5, 0);
        let (mut offsets, mut item) = (vec![0u64], Vec::new());
        for user in 0..80u32 {
            (0..9).for_each(|_| item.push(user % 2 * 25 + draws.below(25) as u32));
            offsets.push(item.len() as u64);
        }
        (offsets, item)
    }

    fn config() -> BprConfig {
        BprConfig { dim: 12, epochs: 150, blocks: 4, ..BprConfig::default() }
    }

    #[test]
    fn users_learn_what_their_kind_takes_and_folded_in_ones_agree() {
        let (offsets, item) = world();
        let p = Positives { items: 51, offsets: &offsets, item: &item, time_ms: &[] };
        for negatives in [1, 4] {
            let config = BprConfig { negatives, ..config() };
            let mut loss = Vec::new();
            let model = config
                .fit(&p, 1, &mut |_, bpr| {
                    let (x, y) = bpr.factors();
                    let margin = |u: usize| dot(&x[u * 12..][..12], &y[item[u * 9] as usize * 12..][..12]);
                    loss.push((0..80).map(margin).sum::<f32>());
                })
                .unwrap();
            assert!(loss[149] > loss[0] + 20.0, "{loss:?}");
            let mut right = [0, 0];
            for user in 0..80u32 {
                let history: Vec<(u32, f32)> = (0..9).map(|n| (item[user as usize * 9 + n], 1.0)).collect();
                let vectors = [model.user(user).unwrap().to_vec(), model.user_vector(&history)];
                for (right, x) in right.iter_mut().zip(vectors) {
                    *right +=
                        model.recommend(&x, 10, &|_| true).iter().filter(|x| x.0 / 25 == user % 2).count();
                }
            }
            assert!(right.iter().all(|r| *r > 760), "{right:?} of 800, {negatives} negatives");
            assert!(model.items()[50 * 12..].iter().all(|v| *v == 0.0), "an item never met");
        }
    }

    #[test]
    fn threads_change_nothing_and_seeds_do() {
        let (offsets, item) = world();
        let p = Positives { items: 50, offsets: &offsets, item: &item, time_ms: &[] };
        let fit = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| BprConfig { epochs: 3, ..config() }.fit(&p, seed, &mut |_, _| {}).unwrap())
        };
        assert_eq!(fit(1, 7), fit(3, 7));
        assert_ne!(fit(1, 7), fit(1, 8));
    }

    #[test]
    fn a_step_follows_the_gradient() {
        let (mut draws, step) = (Draws::new(3, 3), Step { lr: 1e-3, l2: 0.1, negatives: 1 });
        let mut rows: [Vec<f32>; 3] = std::array::from_fn(|_| (0..5).map(|_| draws.normal()).collect());
        let loss = |r: &[Vec<f32>; 3]| {
            let margin = f64::from(dot(&r[0], &r[1]) - dot(&r[0], &r[2]));
            let squares: f64 = r.iter().flatten().map(|v| f64::from(*v) * f64::from(*v)).sum();
            (-margin).exp().ln_1p() + 0.05 * squares
        };
        let before = rows.clone();
        let [x, y, z] = &mut rows;
        descend(x, y, z, step);
        for (r, row) in before.iter().enumerate() {
            for d in 0..row.len() {
                let at = |e: f32| {
                    let mut moved = before.clone();
                    moved[r][d] += e;
                    loss(&moved)
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                let went = f64::from(rows[r][d] - before[r][d]) / -1e-3;
                assert!((slope - went).abs() < 2e-3, "{slope} {went}");
            }
        }
    }

    #[test]
    fn users_who_took_everything_and_empty_worlds_do_no_harm() {
        let p = Positives { items: 2, offsets: &[0, 2, 2], item: &[0, 1], time_ms: &[] };
        assert!(config().fit(&p, 0, &mut |_, _| {}).is_ok());
        let p = Positives { items: 0, offsets: &[0], item: &[], time_ms: &[] };
        assert!(config().fit(&p, 0, &mut |_, _| {}).is_ok());
        let error = BprConfig { blocks: 0, ..config() }.fit(&p, 0, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("`blocks`"));
    }
}
