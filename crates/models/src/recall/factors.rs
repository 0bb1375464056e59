//! Vectors of items learned outside the rankers, and how a user gets one: what ALS, BPR and item2vec hand to a channel.

use millstream_nn::kernels::vectorised;
use millstream_schema::{ItemRow, UserRow};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::als;
use crate::recall::envelope;
use crate::recall::lists::InvertedLists;
use crate::recall::near::Near;
use crate::recall::top::top;

const MAGIC: &[u8; 8] = b"MSFACTOR";
const VERSION: u32 = 1;

/// Items as vectors, and users by what they did: a user's score for an item is the product of the two vectors.
pub trait Factors: Send + Sync {
    /// D.
    fn dim(&self) -> usize;

    /// `[N, D]`; the row of an item that was never met is zero.
    fn items(&self) -> &[f32];

    /// The vector `[D]` of somebody with this weighted history; items not known are passed over. Zero for an empty history.
    fn user_vector(&self, history: &[(ItemRow, f32)]) -> Vec<f32>;

    /// Scores of all items for a vector of a user; `out` is `[N]` or longer, where the rest becomes 0.
    fn score_into(&self, user: &[f32], out: &mut [f32]) {
        let (dim, items) = (self.dim(), self.items());
        let known = (items.len() / dim).min(out.len());
        out[known..].fill(0.0);
        vectorised!({
            for (o, item) in out.iter_mut().zip(items.chunks_exact(dim)) {
                *o = dot(user, item);
            }
        });
    }
}

/// How a history becomes a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FoldIn {
    /// ALS: the vector that fits the history best, with the items' as they are.
    Solve {
        /// α: confidence 1 + α in what was taken.
        alpha: f32,
        /// λ.
        l2: f32,
        /// YᵀY `[D, D]`.
        gram: Vec<f32>,
    },
    /// The mean of the vectors of the history's items, of length 1.
    Mean,
    /// As `Mean`, of other vectors of the same items, `[N, D]`: those that tell of the ones which are scored.
    MeanOf(Vec<f32>),
    /// The mean, and from there gradient steps of the BPR loss against drawn items.
    Bpr {
        /// Steps per item of the history.
        steps: usize,
        /// Learning rate.
        lr: f32,
        /// Penalty.
        l2: f32,
    },
}

/// Learned factors, ready to be served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorModel {
    kind: Box<str>,
    dim: usize,
    /// `[N, D]`.
    items: Vec<f32>,
    /// `[U, D]`; empty where users have no vectors of their own.
    users: Vec<f32>,
    fold_in: FoldIn,
}

impl FactorModel {
    pub(crate) fn new(kind: &str, dim: usize, (items, users): (Vec<f32>, Vec<f32>), fold_in: FoldIn) -> Self {
        Self { kind: kind.into(), dim, items, users, fold_in }
    }

    /// What learned them: `als`, `bpr`, `item2vec`, `node2vec` or `spectral`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The learned vector of a user of the training data, where this kind of model has such.
    pub fn user(&self, user: UserRow) -> Option<&[f32]> {
        let from = user as usize * self.dim;
        self.users.get(from..from + self.dim)
    }

    /// The best `k` items for a vector of a user among those that `keep` lets through, best first, ties by row.
    pub fn recommend(&self, user: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Vec<(ItemRow, f32)> {
        let mut scores = vec![0.0; self.items.len() / self.dim];
        self.score_into(user, &mut scores);
        let mut best: Vec<(ItemRow, f32)> = Vec::with_capacity(4 * k.max(64));
        // Whatever is below the k-th best met so far needs no look at `keep`.
        let mut floor = f32::NEG_INFINITY;
        for (item, score) in (0u32..).zip(scores) {
            if score >= floor && keep(item) {
                best.push((item, score));
                if best.len() >= 4 * k.max(64) {
                    top(&mut best, k);
                    floor = best.last().map_or(floor, |x| x.1);
                }
            }
        }
        top(&mut best, k);
        best
    }

    /// Item to item by cosine, as inverted lists.
    ///
    /// # Errors
    /// No neighbours are asked for.
    pub fn near(&self, near: &Near) -> Result<InvertedLists, Error> {
        near.lists(self.dim, &self.items)
    }

    /// Magic, version, xxh3 of the rest, then the factors.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        envelope::seal(MAGIC, VERSION, self)
    }

    /// The reverse of [`FactorModel::to_bytes`]; shapes are checked, and that all values are numbers.
    ///
    /// # Errors
    /// The bytes are not such factors, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = envelope::open(MAGIC, VERSION, "learned factors", bytes)?;
        match read.sound() {
            true => Ok(read),
            false => Err(Error::Corrupt("learned factors do not hold together".into())),
        }
    }

    /// Whether shapes are right and all values are numbers: for what was read from a file.
    pub(crate) fn sound(&self) -> bool {
        let numbers = |x: &[f32]| x.iter().all(|v| v.is_finite());
        let whole = |x: &[f32]| self.dim > 0 && x.len().is_multiple_of(self.dim) && numbers(x);
        let gram = match &self.fold_in {
            FoldIn::Solve { gram, .. } => Some(gram.len()) == self.dim.checked_mul(self.dim) && numbers(gram),
            FoldIn::MeanOf(inputs) => inputs.len() == self.items.len() && numbers(inputs),
            FoldIn::Mean | FoldIn::Bpr { .. } => true,
        };
        whole(&self.items) && whole(&self.users) && gram
    }

    fn mean(&self, history: &[(&[f32], f32)]) -> Vec<f32> {
        let mut mean = vec![0.0; self.dim];
        let total: f32 = history.iter().map(|x| x.1).sum();
        for (item, weight) in history {
            mean.iter_mut().zip(*item).for_each(|(m, v)| *m += weight / total * v);
        }
        mean
    }
}

impl Factors for FactorModel {
    fn dim(&self) -> usize {
        self.dim
    }

    fn items(&self) -> &[f32] {
        &self.items
    }

    fn user_vector(&self, history: &[(ItemRow, f32)]) -> Vec<f32> {
        let from = if let FoldIn::MeanOf(inputs) = &self.fold_in { inputs } else { &self.items };
        let row = |item: ItemRow| from.get(item as usize * self.dim..(item as usize + 1) * self.dim);
        let known: Vec<(&[f32], f32)> =
            history.iter().filter(|x| x.1 > 0.0).filter_map(|x| row(x.0).map(|r| (r, x.1))).collect();
        if known.is_empty() {
            return vec![0.0; self.dim];
        }
        match &self.fold_in {
            FoldIn::Solve { alpha, l2, gram } => als::fold_in(&known, gram, (*alpha, *l2)),
            FoldIn::Mean | FoldIn::MeanOf(_) => {
                let mut mean = self.mean(&known);
                normalise(&mut mean);
                mean
            }
            FoldIn::Bpr { steps, lr, l2 } => {
                let start = self.mean(&known);
                super::bpr::fold_in(start, &known, &self.items, (*steps, *lr, *l2))
            }
        }
    }
}

/// To length 1; zero stays.
pub(crate) fn normalise(x: &mut [f32]) {
    let length = dot(x, x).sqrt();
    if length > 0.0 {
        x.iter_mut().for_each(|v| *v /= length);
    }
}

/// Scalar product with eight running sums, so that the compiler may use vector registers.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((ca, ra), (cb, rb)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0f32; 8];
    for (x, y) in ca.iter().zip(cb) {
        (0..8).for_each(|i| sums[i] += x[i] * y[i]);
    }
    let rest: f32 = ra.iter().zip(rb).map(|(a, b)| a * b).sum();
    // By halves: any other order is mixed into the loop.
    let [a, b, c, d]: [f32; 4] = std::array::from_fn(|i| sums[i] + sums[i + 4]);
    (a + c) + (b + d) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> FactorModel {
        FactorModel::new("item2vec", 2, (vec![1.0, 0.0, 0.0, 1.0, 0.75, 0.75], vec![]), FoldIn::Mean)
    }

    #[test]
    fn a_history_is_the_mean_of_its_items_and_unknown_items_do_not_count() {
        let model = model();
        let user = model.user_vector(&[(0, 1.0), (1, 1.0), (99, 5.0)]);
        assert!((user[0] - 0.5f32.sqrt()).abs() < 1e-6 && (user[1] - 0.5f32.sqrt()).abs() < 1e-6);
        assert_eq!(model.recommend(&user, 1, &|_| true)[0].0, 2);
        assert_eq!(model.recommend(&[1.0, 0.0], 9, &|i| i != 0), [(2, 0.75), (1, 0.0)]);
        assert_eq!(model.user_vector(&[]), [0.0, 0.0]);
        let mut scores = [9.0; 4];
        model.score_into(&[1.0, 1.0], &mut scores);
        assert_eq!(scores, [1.0, 1.0, 1.5, 0.0]);
        assert_eq!(model.user(0), None);
    }

    #[test]
    fn bytes_come_back_and_damage_is_found() {
        for fold_in in [
            FoldIn::Mean,
            FoldIn::MeanOf(vec![0.5; 6]),
            FoldIn::Bpr { steps: 3, lr: 0.1, l2: 0.0 },
            FoldIn::Solve { alpha: 1.0, l2: 0.1, gram: vec![1.0; 4] },
        ] {
            let model = FactorModel { fold_in, ..model() };
            let bytes = model.to_bytes().unwrap();
            assert_eq!(FactorModel::from_bytes(&bytes).unwrap(), model);
            let mut bad = bytes.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert!(FactorModel::from_bytes(&bad).is_err());
        }
        let wrong = FactorModel { items: vec![1.0; 5], ..model() };
        assert!(FactorModel::from_bytes(&wrong.to_bytes().unwrap()).is_err());
        let wrong = FactorModel { fold_in: FoldIn::MeanOf(vec![0.5; 4]), ..model() };
        assert!(FactorModel::from_bytes(&wrong.to_bytes().unwrap()).is_err());
        let wrong = FactorModel { users: vec![f32::NAN; 2], ..model() };
        assert!(FactorModel::from_bytes(&wrong.to_bytes().unwrap()).is_err());
    }
}
