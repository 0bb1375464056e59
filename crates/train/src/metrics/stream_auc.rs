//! AUC of a stream: exact while that is cheap, then by histograms.

use serde::{Deserialize, Serialize};

use super::{Bins, POSITIVE, auc, order_of};

/// AUC from the positives' and the negatives' scores: the first as they are, as far as the bins say so, then two histograms.
///
/// Pairs in different bins are counted as they are, pairs within a bin as ties. The result is therefore off by at
/// most half the share of pairs that lie within one bin, which is [`Self::error_bound`]: a bound, not an estimate. With the default
/// bins it is 0 up to 131,072 examples. Beyond, measured on normal scores with a quarter of positives, it is 5e-5 for
/// −1.1 ± 0.8 and at most 6e-5 around 0 for spreads of 1e-4 and above; where all scores lie close together and far from 0 they are
/// seen more coarsely (−1.1 ± 0.1: 5e-4; −1.1 ± 0.01: 5e-3). 8 bytes per example kept, 16 per bin; pushing is O(1),
/// [`Self::value`] O(bins) or a sort.
/// Parts pushed on several threads and merged in any order equal one pass: bit for bit while weights are whole
/// numbers, to rounding otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct StreamAuc {
    bins: Bins,
    held: Held,
    nan_scores: u64,
}

/// A score and its weight.
type Weighted = (f32, f32);

#[derive(Debug, Clone)]
enum Held {
    /// Each example as it is.
    Each { positives: Vec<Weighted>, negatives: Vec<Weighted> },
    /// Summed weights by bin.
    Binned { positives: Vec<f64>, negatives: Vec<f64> },
}

impl StreamAuc {
    /// Without examples.
    pub fn new(bins: Bins) -> Self {
        let held = match bins.exact() {
            0 => Held::empty(bins),
            _ => Held::Each { positives: Vec::new(), negatives: Vec::new() },
        };
        Self { bins, held, nan_scores: 0 }
    }

    /// Adds an example: its score on the scale of the bins, its label (positive above 0.5), its weight (≥ 0).
    #[inline]
    pub fn push(&mut self, score: f32, label: f32, weight: f32) {
        self.nan_scores += u64::from(score.is_nan());
        self.held.push(self.bins, (score, weight), label > POSITIVE);
        self.settle();
    }

    /// From so many examples on they are counted by bins.
    #[inline]
    fn settle(&mut self) {
        if let Held::Each { positives, negatives } = &self.held
            && positives.len() + negatives.len() > self.bins.exact()
        {
            let mut binned = Held::empty(self.bins);
            binned.add(self.bins, &self.held);
            self.held = binned;
        }
    }

    /// Adds the examples of another with the same bins.
    ///
    /// # Panics
    /// When the bins differ: both come from the caller's own code.
    pub fn merge(&mut self, other: &Self) {
        assert!(self.bins == other.bins, "histograms of different bins");
        if matches!((&self.held, &other.held), (Held::Each { .. }, Held::Binned { .. })) {
            let mut binned = Held::empty(self.bins);
            binned.add(self.bins, &self.held);
            self.held = binned;
        }
        self.held.add(self.bins, &other.held);
        self.settle();
        self.nan_scores += other.nan_scores;
    }

    /// Forgets all examples.
    pub fn clear(&mut self) {
        *self = Self::new(self.bins);
    }

    /// Summed weight of the positives.
    pub fn positives(&self) -> f64 {
        self.held.sums().0
    }

    /// Summed weight of the negatives.
    pub fn negatives(&self) -> f64 {
        self.held.sums().1
    }

    /// Scores that were NaN; they are the lowest.
    pub fn nan_scores(&self) -> u64 {
        self.nan_scores
    }

    /// By rising score: each score that is held, or the middle of each bin that holds something, its positives and its negatives.
    pub fn filled(&self) -> impl DoubleEndedIterator<Item = (f32, f64, f64)> {
        self.held.runs(self.bins).into_iter()
    }

    /// In [0, 1]; `None` when one class is missing.
    pub fn value(&self) -> Option<f64> {
        let (positives, negatives) = match &self.held {
            Held::Each { positives, negatives } => return exact(positives, negatives),
            Held::Binned { positives, negatives } => (positives, negatives),
        };
        let (mut below, mut won) = (0.0, 0.0);
        for (p, n) in positives.iter().zip(negatives) {
            won += p * (below + 0.5 * n);
            below += n;
        }
        let pairs = self.positives() * below;
        (pairs > 0.0 && pairs.is_finite()).then(|| won / pairs)
    }

    /// What [`Self::value`] may be off from the exact AUC, at most: ½ Σ_b P_b N_b / (P N); 0 while examples are held as they are.
    pub fn error_bound(&self) -> Option<f64> {
        let within: f64 = match &self.held {
            Held::Each { .. } => 0.0,
            Held::Binned { positives, negatives } => {
                positives.iter().zip(negatives).map(|(p, n)| p * n).sum()
            }
        };
        let pairs = self.positives() * self.negatives();
        (pairs > 0.0 && pairs.is_finite()).then(|| 0.5 * within / pairs)
    }
}

/// Equal when they hold the same examples, in whatever order these came.
impl PartialEq for StreamAuc {
    fn eq(&self, other: &Self) -> bool {
        let held = match (&self.held, &other.held) {
            (Held::Each { positives: p, negatives: n }, Held::Each { positives: q, negatives: m }) => {
                rising(p) == rising(q) && rising(n) == rising(m)
            }
            (Held::Binned { positives: p, negatives: n }, Held::Binned { positives: q, negatives: m }) => {
                p == q && n == m
            }
            _ => false,
        };
        held && self.bins == other.bins && self.nan_scores == other.nan_scores
    }
}

impl Held {
    /// Bins without examples.
    fn empty(bins: Bins) -> Self {
        Self::Binned { positives: vec![0.0; bins.count()], negatives: vec![0.0; bins.count()] }
    }

    #[inline]
    fn push(&mut self, bins: Bins, example: Weighted, positive: bool) {
        match self {
            Self::Each { positives, negatives } => {
                let side = if positive { positives } else { negatives };
                side.push(example);
            }
            Self::Binned { positives, negatives } => {
                let side = if positive { positives } else { negatives };
                side[bins.of(example.0)] += f64::from(example.1);
            }
        }
    }

    /// Adds what another holds; examples cannot be had back from bins, so that bins go into bins.
    fn add(&mut self, bins: Bins, other: &Self) {
        match (self, other) {
            (own, Self::Each { positives, negatives }) => {
                positives.iter().for_each(|example| own.push(bins, *example, true));
                negatives.iter().for_each(|example| own.push(bins, *example, false));
            }
            (Self::Binned { positives: p, negatives: n }, Self::Binned { positives, negatives }) => {
                p.iter_mut().zip(positives).for_each(|(a, b)| *a += b);
                n.iter_mut().zip(negatives).for_each(|(a, b)| *a += b);
            }
            (Self::Each { .. }, Self::Binned { .. }) => unreachable!("examples were put into bins before"),
        }
    }

    /// Summed weights of positives and negatives.
    fn sums(&self) -> (f64, f64) {
        let each = |side: &[Weighted]| side.iter().map(|(_, weight)| f64::from(*weight)).sum();
        match self {
            Self::Each { positives, negatives } => (each(positives), each(negatives)),
            Self::Binned { positives, negatives } => (positives.iter().sum(), negatives.iter().sum()),
        }
    }

    /// Score, positives and negatives of what is held, by rising score.
    fn runs(&self, bins: Bins) -> Vec<(f32, f64, f64)> {
        match self {
            Self::Binned { positives, negatives } => {
                let bins_of = positives.iter().zip(negatives).enumerate();
                let some = bins_of.filter(|(_, (p, n))| **p + **n > 0.0);
                some.map(|(bin, (p, n))| (bins.middle(bin), *p, *n)).collect()
            }
            Self::Each { positives, negatives } => {
                let one = |side: &[Weighted], p: f64, n: f64| -> Vec<(f32, f64, f64)> {
                    side.iter().map(|(score, w)| (*score, p * f64::from(*w), n * f64::from(*w))).collect()
                };
                let mut all = one(positives, 1.0, 0.0);
                all.extend(one(negatives, 0.0, 1.0));
                all.sort_by_key(|run| order_of(run.0));
                all.dedup_by(|next, run| {
                    let same = order_of(next.0) == order_of(run.0);
                    if same {
                        *run = (run.0, run.1 + next.1, run.2 + next.2);
                    }
                    same
                });
                all
            }
        }
    }
}

/// The AUC of examples as they are.
fn exact(positives: &[Weighted], negatives: &[Weighted]) -> Option<f64> {
    let all = || positives.iter().chain(negatives);
    let scores: Vec<f32> = all().map(|(score, _)| *score).collect();
    let labels: Vec<f32> = (0..scores.len()).map(|i| f32::from(u8::from(i < positives.len()))).collect();
    let weights: Vec<f32> = match all().all(|(_, weight)| *weight == 1.0) {
        true => Vec::new(),
        false => all().map(|(_, weight)| *weight).collect(),
    };
    auc::weighted(&scores, &labels, &weights).value
}

/// In an order of their own, as bits.
fn rising(side: &[Weighted]) -> Vec<(u32, u32)> {
    let mut all: Vec<(u32, u32)> =
        side.iter().map(|(score, weight)| (order_of(*score), weight.to_bits())).collect();
    all.sort_unstable();
    all
}

/// How a checkpoint holds it. The first two kinds of bins are as they were when there were no others.
#[derive(Serialize, Deserialize)]
struct Saved {
    bins: SavedBins,
    /// By bin; of examples as they are score and weight in turn.
    positives: Vec<f64>,
    negatives: Vec<f64>,
    nan_scores: u64,
}

#[derive(Serialize, Deserialize)]
enum SavedBins {
    Probability(usize),
    Logit {
        bins: usize,
        limit: f32,
    },
    Fine {
        bins: usize,
        scale: f32,
        reach: f32,
        exact: usize,
    },
    /// None of these yet.
    Each(Bins),
}

impl From<StreamAuc> for Saved {
    fn from(auc: StreamAuc) -> Self {
        let flat =
            |side: &[Weighted]| side.iter().flat_map(|(a, b)| [f64::from(*a), f64::from(*b)]).collect();
        let (bins, positives, negatives) = match auc.held {
            Held::Each { positives, negatives } => {
                (SavedBins::Each(auc.bins), flat(&positives), flat(&negatives))
            }
            Held::Binned { positives, negatives } => {
                let bins = match auc.bins {
                    Bins::Probability(bins) => SavedBins::Probability(bins),
                    Bins::Logit { bins, limit } => SavedBins::Logit { bins, limit },
                    Bins::Fine { bins, scale, reach, exact } => SavedBins::Fine { bins, scale, reach, exact },
                };
                (bins, positives, negatives)
            }
        };
        Self { bins, positives, negatives, nan_scores: auc.nan_scores }
    }
}

impl From<Saved> for StreamAuc {
    fn from(saved: Saved) -> Self {
        let Saved { bins, positives, negatives, nan_scores } = saved;
        let bins = match bins {
            SavedBins::Probability(bins) => Bins::Probability(bins),
            SavedBins::Logit { bins, limit } => Bins::Logit { bins, limit },
            SavedBins::Fine { bins, scale, reach, exact } => Bins::Fine { bins, scale, reach, exact },
            SavedBins::Each(bins) => {
                let pairs = |flat: &[f64]| flat.chunks_exact(2).map(|w| (w[0] as f32, w[1] as f32)).collect();
                let held = Held::Each { positives: pairs(&positives), negatives: pairs(&negatives) };
                return Self { bins, held, nan_scores };
            }
        };
        Self { bins, held: Held::Binned { positives, negatives }, nan_scores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::test_numbers;

    /// Scores around `centre`, a quarter of them positive and those higher on average.
    fn push_normal(auc: &mut StreamAuc, (centre, spread): (f32, f32), n: usize) -> (Vec<f32>, Vec<f32>) {
        let mut next = test_numbers(7);
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let label = f32::from(u8::from(next() < 0.25));
            let noise: f64 = (0..12).map(|_| next() - 0.5).sum();
            let score = centre + spread * (noise as f32 + 0.8 * label);
            auc.push(score, label, 1.0);
            scores.push(score);
            labels.push(label);
        }
        (scores, labels)
    }

    #[test]
    fn it_is_exact_at_first_and_fine_near_zero_afterwards() {
        for (place, most) in
            [((-1.1, 0.8), 8e-5), ((0.0, 0.01), 5e-5), ((0.0, 1e-3), 5e-5), ((0.0, 1e-4), 1e-4)]
        {
            let (mut held, mut binned) = (StreamAuc::new(Bins::default()), StreamAuc::new(Bins::default()));
            let (scores, labels) = push_normal(&mut held, place, 50_000);
            assert_eq!(
                (held.value(), held.error_bound()),
                (auc::weighted(&scores, &labels, &[]).value, Some(0.0))
            );
            let (scores, labels) = push_normal(&mut binned, place, 150_000);
            let (found, exact) =
                (binned.value().unwrap(), auc::weighted(&scores, &labels, &[]).value.unwrap());
            let bound = binned.error_bound().unwrap();
            assert!(bound > 0.0 && bound < most, "{place:?}: {bound}");
            assert!((found - exact).abs() <= bound, "{place:?}: {found} {exact} {bound}");
        }
    }

    #[test]
    fn parts_of_either_kind_add_up() {
        let bins = Bins::Fine { bins: 4096, scale: 1e-3, reach: 10.0, exact: 100 };
        let filled = |n: usize| {
            let mut auc = StreamAuc::new(bins);
            push_normal(&mut auc, (0.0, 1.0), n);
            auc
        };
        for (a, b) in [(50, 40), (50, 90), (90, 300), (300, 90), (300, 300)] {
            let mut merged = filled(a);
            merged.merge(&filled(b));
            let mut binned = StreamAuc::new(Bins::Fine { bins: 4096, scale: 1e-3, reach: 10.0, exact: 0 });
            push_normal(&mut binned, (0.0, 1.0), a);
            push_normal(&mut binned, (0.0, 1.0), b);
            assert_eq!(merged.error_bound() == Some(0.0), a + b <= 100, "{a} and {b}");
            if a + b > 100 {
                assert_eq!(merged.value(), binned.value());
                assert_eq!(merged.filled().collect::<Vec<_>>(), binned.filled().collect::<Vec<_>>());
            }
            assert_eq!((merged.positives(), merged.negatives()), (binned.positives(), binned.negatives()));
        }
    }

    #[test]
    fn what_is_held_can_be_walked_by_score() {
        let mut auc = StreamAuc::new(Bins::default());
        [(0.5, 1.0), (-2.0, 0.0), (0.5, 0.0), (f32::NAN, 0.0)].iter().for_each(|&(s, y)| auc.push(s, y, 2.0));
        let runs: Vec<_> = auc.filled().skip(1).collect();
        assert_eq!(runs, [(-2.0, 0.0, 2.0), (0.5, 2.0, 2.0)]);
        assert_eq!((auc.nan_scores(), auc.positives(), auc.negatives()), (1, 2.0, 6.0));
        auc.clear();
        assert_eq!((auc.value(), auc.error_bound()), (None, None));
    }

    #[test]
    fn it_comes_back_from_a_checkpoint_and_so_do_those_of_before() {
        for n in [50, 200] {
            let mut auc = StreamAuc::new(Bins::Fine { bins: 64, scale: 1e-3, reach: 10.0, exact: 100 });
            push_normal(&mut auc, (0.0, 1.0), n);
            let bytes = postcard::to_stdvec(&auc).unwrap();
            assert_eq!(postcard::from_bytes::<StreamAuc>(&bytes).unwrap(), auc);
        }
        // Two bins of logits up to 1, by version 0.1: 3 positives above, 1 and 2 negatives.
        let mut bytes = vec![1, 2];
        bytes.extend(1.0f32.to_le_bytes());
        for side in [[0.0f64, 3.0], [1.0, 2.0]] {
            bytes.push(2);
            side.iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
        }
        bytes.push(0);
        let old: StreamAuc = postcard::from_bytes(&bytes).unwrap();
        let mut same = StreamAuc::new(Bins::Logit { bins: 2, limit: 1.0 });
        for (score, label, weight) in [(0.5, 1.0, 3.0), (-0.5, 0.0, 1.0), (0.5, 0.0, 2.0)] {
            same.push(score, label, weight);
        }
        assert_eq!(old, same);
        assert_eq!(postcard::to_stdvec(&same).unwrap(), bytes);
    }
}
