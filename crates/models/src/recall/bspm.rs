//! Blurring and sharpening (Choi et al., SIGIR 2023): what a user took, spread over the graph of users and items, then made sharp
//! again. Nothing is trained; it follows new actions and new users at once.
//!
//! ```text
//! R̃ = D_U^−½ R D_I^−½,   P = R̃ᵀR̃,   V the right singular vectors of R̃ with the largest values
//! s₀ = r P + β r D_I^−½ V Vᵀ D_I^½                     blurred; β = 0.3 and no sharpening: GF-CF (Shen et al., CIKM 2021)
//! s  = Σ_{k ≤ 4} (−T/K)^k / k! · s₀ P^k, K times       ds/dt = −s P over T, by K steps of Runge and Kutta's fourth-order method
//! ```
//! r is the user's history. A user costs 4 + 8K sparse products' halves of the training pairs, which users scored together share.

use millstream_nn::kernels::vectorised;
use millstream_schema::ItemRow;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::envelope;
use crate::recall::positives::{Grouped, Positives};
use crate::sparse::Csr;
use crate::svd;

const MODEL: &str = "bspm";
const MAGIC: &[u8; 8] = b"MSBSPM\0\0";
const VERSION: u32 = 1;
/// Users scored together.
pub(crate) const TOGETHER: usize = 16;
/// One number of each user scored together.
type Lane = [f32; TOGETHER];

/// Options of blurring and sharpening.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BspmConfig {
    /// Columns of V, up to 1024; 0 for none.
    pub directions: usize,
    /// Rounds of subspace iteration that find them.
    pub rounds: usize,
    /// β: what they count beside the neighbours; at least 0.
    pub ideal: f32,
    /// T: how long to sharpen, 0 to 10; 0 leaves it blurred.
    pub sharpen: f32,
    /// K: steps of sharpening.
    pub steps: usize,
    /// Only a user's latest so many items count; 0 for all.
    pub max_user_items: usize,
}

impl Default for BspmConfig {
    fn default() -> Self {
        Self { directions: 256, rounds: 5, ideal: 0.3, sharpen: 2.0, steps: 1, max_user_items: 0 }
    }
}

impl BspmConfig {
    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |what: &str| Err(Error::Config(format!("{MODEL}: {what}")));
        match () {
            () if self.directions > 1024 => fail("`directions` must be 0 to 1024"),
            () if !(self.ideal.is_finite() && self.ideal >= 0.0) => fail("`ideal` must be 0 or more"),
            () if !(0.0..=10.0).contains(&self.sharpen) => fail("`sharpen` must be 0 to 10"),
            () if self.rounds == 0 || self.steps == 0 => fail("`rounds` and `steps` must be above 0"),
            () => Ok(()),
        }
    }

    /// Finds the graph and its strongest directions.
    ///
    /// # Errors
    /// An option out of range, or lists whose lengths do not fit together.
    pub fn fit(&self, positives: &Positives<'_>, seed: u64) -> Result<Bspm, Error> {
        self.check()?;
        let by_user = Grouped::by_user(positives, self.max_user_items)?;
        let by_item = by_user.transposed(positives.items);
        let (user_scale, item_scale) = (scales(&by_user), scales(&by_item));
        let dim = if self.ideal > 0.0 { self.directions.min(positives.items) } else { 0 };
        let directions = match dim {
            0 => Vec::new(),
            _ => {
                let entry = |u: usize, &i: &u32| (i, user_scale[u] * item_scale[i as usize]);
                let rows: Vec<Vec<(u32, f32)>> = (0..by_user.rows())
                    .map(|u| by_user.of(u).iter().map(|i| entry(u, i)).collect())
                    .collect();
                svd::directions(&Csr::of_rows(&rows, positives.items), dim, self.rounds, seed).0
            }
        };
        Ok(Bspm { config: self.clone(), by_user, by_item, user_scale, item_scale, dim, directions })
    }
}

/// 1/√degree of each row; 0 of an empty one.
fn scales(of: &Grouped) -> Vec<f32> {
    let scale = |n: usize| if n == 0 { 0.0 } else { 1.0 / (n as f32).sqrt() };
    (0..of.rows()).map(|row| scale(of.count(row))).collect()
}

/// The graph of who took what, and its strongest directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bspm {
    config: BspmConfig,
    by_user: Grouped,
    by_item: Grouped,
    user_scale: Vec<f32>,
    item_scale: Vec<f32>,
    dim: usize,
    /// V `[items, dim]`.
    directions: Vec<f32>,
}

impl Bspm {
    /// Number of items.
    pub fn items(&self) -> usize {
        self.item_scale.len()
    }

    /// Scores of all items for one user; `out` is `[items]` or longer, and what is beyond stays as it is.
    pub fn score_into(&self, history: &[(ItemRow, f32)], out: &mut [f32]) {
        self.score_together(&[history], out.len(), out);
    }

    /// Scores of up to 16 users at once: `out` is `[users, width]`, of which the first `items` of each row are written.
    ///
    /// # Panics
    /// There are more than 16 histories, or `out` is too short.
    pub fn score_together(&self, histories: &[&[(ItemRow, f32)]], width: usize, out: &mut [f32]) {
        assert!(histories.len() <= TOGETHER && out.len() >= histories.len() * width);
        let mut x = vec![[0.0; TOGETHER]; self.items()];
        for (lane, history) in histories.iter().enumerate() {
            for &(item, weight) in *history {
                if let Some(x) = x.get_mut(item as usize) {
                    x[lane] += weight;
                }
            }
        }
        let scores = vectorised!(self.sharpened(self.blurred(&x)));
        for (lane, out) in out.chunks_mut(width.max(1)).take(histories.len()).enumerate() {
            out.iter_mut().zip(&scores).for_each(|(o, s)| *o = s[lane]);
        }
    }

    /// s₀.
    #[inline(always)]
    fn blurred(&self, x: &[Lane]) -> Vec<Lane> {
        let mut out = self.spread(x);
        if self.dim == 0 {
            return out;
        }
        let mut along = vec![[0.0f32; TOGETHER]; self.dim];
        for ((x, v), scale) in x.iter().zip(self.directions.chunks_exact(self.dim)).zip(&self.item_scale) {
            if x.iter().any(|x| *x != 0.0) {
                along.iter_mut().zip(v).for_each(|(a, v)| add(a, x, v * scale));
            }
        }
        for ((out, v), scale) in
            out.iter_mut().zip(self.directions.chunks_exact(self.dim)).zip(&self.item_scale)
        {
            let mut sum = [0.0; TOGETHER];
            along.iter().zip(v).for_each(|(a, v)| add(&mut sum, a, *v));
            if *scale > 0.0 {
                add(out, &sum, self.config.ideal / scale);
            }
        }
        out
    }

    /// s from s₀.
    #[inline(always)]
    fn sharpened(&self, mut scores: Vec<Lane>) -> Vec<Lane> {
        if self.config.sharpen == 0.0 {
            return scores;
        }
        let step = self.config.sharpen / self.config.steps as f32;
        for _ in 0..self.config.steps {
            let (mut term, mut factor) = (scores.clone(), 1.0);
            for k in 1..=4u8 {
                factor *= -step / f32::from(k);
                term = self.spread(&term);
                scores.iter_mut().zip(&term).for_each(|(s, t)| add(s, t, factor));
            }
        }
        scores
    }

    /// x P.
    #[inline(always)]
    fn spread(&self, x: &[Lane]) -> Vec<Lane> {
        let scaled: Vec<Lane> = x.iter().zip(&self.item_scale).map(|(x, s)| x.map(|x| x * s)).collect();
        let users = sums(&self.by_user, &scaled, |u| self.user_scale[u] * self.user_scale[u]);
        sums(&self.by_item, &users, |i| self.item_scale[i])
    }

    /// Magic, version, xxh3 of the rest, then the content.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        envelope::seal(MAGIC, VERSION, self)
    }

    /// Reads what [`Bspm::to_bytes`] wrote.
    ///
    /// # Errors
    /// Other or damaged bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let out: Self = envelope::open(MAGIC, VERSION, "a blurring and sharpening model", bytes)?;
        let (users, items) = (out.user_scale.len(), out.item_scale.len());
        let sound = out.by_user.rows() == users
            && out.by_item.rows() == items
            && out.by_user.sound(items)
            && out.by_item.sound(users)
            && out.by_user.member.len() == out.by_item.member.len()
            && Some(out.directions.len()) == items.checked_mul(out.dim)
            && [&out.user_scale, &out.item_scale, &out.directions]
                .iter()
                .all(|x| x.iter().all(|x| x.is_finite()));
        if !sound || out.config.check().is_err() {
            return Err(Error::Corrupt("not a blurring and sharpening model: its parts do not fit".into()));
        }
        Ok(out)
    }
}

/// For each row the sum of its members' numbers, times the row's scale.
#[inline(always)]
fn sums(of: &Grouped, x: &[Lane], scale: impl Fn(usize) -> f32) -> Vec<Lane> {
    let row = |row: usize| {
        let mut sum = [0.0f32; TOGETHER];
        of.of(row).iter().for_each(|&m| add(&mut sum, &x[m as usize], 1.0));
        let scale = scale(row);
        sum.map(|s| s * scale)
    };
    (0..of.rows()).map(row).collect()
}

#[inline(always)]
fn add(out: &mut Lane, x: &Lane, weight: f32) {
    (0..TOGETHER).for_each(|i| out[i] += weight * x[i]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positives(lists: &[Vec<u32>]) -> (Vec<u64>, Vec<u32>) {
        let (mut offsets, mut item) = (vec![0u64], Vec::new());
        for list in lists {
            item.extend(list);
            offsets.push(item.len() as u64);
        }
        (offsets, item)
    }

    /// P by its definition.
    fn dense(lists: &[Vec<u32>], items: usize) -> Vec<Vec<f64>> {
        let mut r = vec![vec![0.0f64; items]; lists.len()];
        lists.iter().zip(&mut r).for_each(|(l, r)| l.iter().for_each(|&i| r[i as usize] = 1.0));
        let users: Vec<f64> = r.iter().map(|r| r.iter().sum::<f64>()).collect();
        let degrees: Vec<f64> = (0..items).map(|i| r.iter().map(|r| r[i]).sum()).collect();
        let scaled =
            |u: usize, i: usize| if r[u][i] > 0.0 { 1.0 / (users[u] * degrees[i]).sqrt() } else { 0.0 };
        let p = |i, j| (0..lists.len()).map(|u| scaled(u, i) * scaled(u, j)).sum();
        (0..items).map(|i| (0..items).map(|j| p(i, j)).collect()).collect()
    }

    fn times(x: &[f64], p: &[Vec<f64>]) -> Vec<f64> {
        (0..x.len()).map(|j| x.iter().zip(p).map(|(x, row)| x * row[j]).sum()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn scores_are_those_of_dense_matrices(
            lists in prop::collection::vec(prop::collection::vec(0u32..9, 1..6), 2..8),
            sharpen in 0.0f32..3.0,
            steps in 1usize..3,
        ) {
            let items = 10;
            let (offsets, item) = positives(&lists);
            let p = Positives { items, offsets: &offsets, item: &item, time_ms: &[] };
            // As many directions as there are: V Vᵀ leaves a training user's row as it is.
            let config = BspmConfig { directions: items, rounds: 60, ideal: 0.5, sharpen, steps, max_user_items: 0 };
            let model = config.fit(&p, 3).unwrap();
            let matrix = dense(&lists, items);
            let histories: Vec<Vec<(u32, f32)>> = lists.iter().map(|l| {
                let mut own = l.clone();
                own.sort_unstable();
                own.dedup();
                own.iter().map(|&i| (i, 1.0)).collect()
            }).collect();
            let views: Vec<&[(u32, f32)]> = histories.iter().map(Vec::as_slice).collect();
            let mut together = vec![0.0f32; views.len() * items];
            model.score_together(&views, items, &mut together);
            for (history, got) in histories.iter().zip(together.chunks(items)) {
                let mut r = vec![0.0f64; items];
                history.iter().for_each(|&(i, w)| r[i as usize] = f64::from(w));
                let mut s: Vec<f64> = times(&r, &matrix).iter().zip(&r).map(|(a, b)| a + 0.5 * b).collect();
                for _ in 0..steps {
                    let (mut term, mut factor) = (s.clone(), 1.0);
                    for k in 1..=4 {
                        factor *= -f64::from(sharpen) / steps as f64 / f64::from(k);
                        term = times(&term, &matrix);
                        s.iter_mut().zip(&term).for_each(|(s, t)| *s += factor * t);
                    }
                }
                for (got, want) in got.iter().zip(&s) {
                    prop_assert!((f64::from(*got) - want).abs() < 2e-3, "{got} for {want}");
                }
                let mut alone = vec![0.0f32; items];
                model.score_into(history, &mut alone);
                prop_assert_eq!(&alone[..], got);
            }
        }
    }

    #[test]
    fn bytes_come_back_and_damage_is_found() {
        let (offsets, item) = positives(&[vec![0, 1, 2], vec![1, 3], vec![0, 3, 4]]);
        let p = Positives { items: 5, offsets: &offsets, item: &item, time_ms: &[] };
        let model = BspmConfig { directions: 2, ..BspmConfig::default() }.fit(&p, 1).unwrap();
        let bytes = model.to_bytes().unwrap();
        assert_eq!(Bspm::from_bytes(&bytes).unwrap(), model);
        let mut bad = bytes.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert!(Bspm::from_bytes(&bad).is_err());
        let short = Bspm { directions: vec![0.0; 3], ..model };
        assert!(Bspm::from_bytes(&short.to_bytes().unwrap()).is_err());
        let wrong = BspmConfig { sharpen: -1.0, ..BspmConfig::default() };
        assert!(wrong.fit(&p, 1).unwrap_err().to_string().contains("`sharpen` must be 0 to 10"));
    }
}
