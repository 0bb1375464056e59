//! Item2Vec (Barkan and Koenigstein, 2016): word2vec over what users took, users' lists or their sessions being the sentences.
//!
//! A user is the mean of the vectors of what she took, items' vectors having length 1. `score = "input"` scores an item by its own
//! vector, the mean cosine of the paper; `score = "output"` by the vector that it was told by when others were its context, which ranks
//! what comes together, not what is alike.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::factors::{FactorModel, FoldIn, normalise};
use crate::recall::positives::{Grouped, Positives};
use crate::recall::word2vec::{Architecture, Corpus, Output, Word2VecConfig, WordVectors};

const MODEL: &str = "item2vec";

/// Which of an item's two vectors is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scored {
    /// The one that tells of others.
    #[default]
    Input,
    /// The one that it is told by; negative sampling only.
    Output,
}

/// Options of item2vec. Those of word2vec (`crate::recall::word2vec`) have the same names and meanings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Item2VecConfig {
    /// D, 1 to 1024.
    pub dim: usize,
    /// Items to each side, of which a random number from 1 on is taken.
    pub window: usize,
    /// Which items tell of which.
    pub architecture: Architecture,
    /// How an item is told from all others.
    pub output: Output,
    /// Drawn items per item, for negative sampling.
    pub negatives: usize,
    /// Power of the frequency by which they are drawn.
    pub negative_power: f64,
    /// t of subsampling; 0 keeps all.
    pub sample: f64,
    /// Times that all lists are gone through.
    pub epochs: usize,
    /// Learning rate at the start.
    pub lr: f32,
    /// Learning rate at the end.
    pub min_lr: f32,
    /// A pause of so many minutes ends a session; 0 makes one sentence of all that a user took.
    pub session_gap_mins: u32,
    /// Whether a sentence's items come in a new random order each epoch, as a set's, or in order of time.
    pub shuffle: bool,
    /// Only a user's latest so many items count; 0 for all.
    pub max_user_items: usize,
    /// Which of an item's two vectors is scored.
    pub score: Scored,
    /// Parts that learn side by side.
    pub shards: usize,
    /// Items that a shard learns between two syncs.
    pub sync_words: usize,
}

impl Default for Item2VecConfig {
    fn default() -> Self {
        Self {
            dim: 64,
            window: 5,
            architecture: Architecture::SkipGram,
            output: Output::NegativeSampling,
            negatives: 5,
            negative_power: 0.75,
            sample: 1e-3,
            epochs: 20,
            lr: 0.025,
            min_lr: 0.0001,
            session_gap_mins: 0,
            shuffle: true,
            max_user_items: 1000,
            score: Scored::Input,
            shards: 2,
            sync_words: 100_000,
        }
    }
}

impl Item2VecConfig {
    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        self.score.check(self.output, MODEL)?;
        self.word2vec().check(MODEL)
    }

    fn word2vec(&self) -> Word2VecConfig {
        Word2VecConfig {
            dim: self.dim,
            window: self.window,
            architecture: self.architecture,
            output: self.output,
            negatives: self.negatives,
            negative_power: self.negative_power,
            sample: self.sample,
            epochs: self.epochs,
            lr: self.lr,
            min_lr: self.min_lr,
            shuffle: self.shuffle,
            shards: self.shards,
            sync_words: self.sync_words,
        }
    }

    /// Learns items' vectors; `seen` is told after each epoch.
    ///
    /// # Errors
    /// An option out of range, sessions asked of positives without times, lists whose lengths do not fit together, or vectors
    /// that are no numbers any more.
    pub fn fit(
        &self,
        positives: &Positives<'_>,
        seed: u64,
        seen: &mut dyn FnMut(usize),
    ) -> Result<FactorModel, Error> {
        self.check()?;
        if self.session_gap_mins > 0 && positives.time_ms.is_empty() && !positives.item.is_empty() {
            return Err(Error::Config(format!(
                "{MODEL}: `session_gap_mins` needs times, and the data has none"
            )));
        }
        let by_user = Grouped::by_user(positives, self.max_user_items)?;
        let (offsets, word) = sentences(&by_user, self.session_gap_mins);
        let corpus = Corpus { words: positives.items, offsets: &offsets, word: &word };
        let vectors = self.word2vec().fit(&corpus, seed, seen)?;
        Ok(self.score.model(MODEL, vectors))
    }
}

impl Scored {
    /// Items' vectors to length 1, and users as the means of what they took.
    pub(crate) fn model(self, kind: &str, mut vectors: WordVectors) -> FactorModel {
        vectors.input.chunks_exact_mut(vectors.dim).for_each(normalise);
        let (items, fold_in) = match self {
            Self::Input => (vectors.input, FoldIn::Mean),
            Self::Output => {
                vectors.output.chunks_exact_mut(vectors.dim).for_each(normalise);
                (vectors.output, FoldIn::MeanOf(vectors.input))
            }
        };
        FactorModel::new(kind, vectors.dim, (items, Vec::new()), fold_in)
    }

    /// # Errors
    /// There is no vector of this sort; `model` is for whom it says so.
    pub(crate) fn check(self, output: Output, model: &str) -> Result<(), Error> {
        match (self, output) {
            (Self::Output, Output::HierarchicalSoftmax) => Err(Error::Config(format!(
                "{model}: score = \"output\" needs output = \"negative_sampling\"; a hierarchical softmax has no vector per item"
            ))),
            _ => Ok(()),
        }
    }
}

/// Each user's items in order of time, ties by row, cut where the user paused for longer than `gap_mins` (0: never).
pub(crate) fn sentences(by_user: &Grouped, gap_mins: u32) -> (Vec<u64>, Vec<u32>) {
    let gap = i64::from(gap_mins) * 60_000;
    let (mut offsets, mut word) = (vec![0u64], Vec::with_capacity(by_user.member.len()));
    for user in 0..by_user.rows() {
        let mut list: Vec<(i64, u32)> =
            by_user.span(user).map(|at| (by_user.time(at), by_user.member[at])).collect();
        list.sort_unstable();
        for (n, &(time, item)) in list.iter().enumerate() {
            if gap > 0 && n > 0 && time - list[n - 1].0 > gap {
                offsets.push(word.len() as u64);
            }
            word.push(item);
        }
        offsets.push(word.len() as u64);
    }
    (offsets, word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::factors::Factors;

    #[test]
    fn a_pause_ends_a_session() {
        let minute = 60_000;
        let time_ms = [0, 100 * minute, 10 * minute, 7, 5];
        let p = Positives { items: 5, offsets: &[0, 3, 5], item: &[3, 1, 2, 0, 4], time_ms: &time_ms };
        let by_user = Grouped::by_user(&p, 0).unwrap();
        assert_eq!(sentences(&by_user, 30), (vec![0, 2, 3, 5], vec![3, 2, 1, 4, 0]));
        assert_eq!(sentences(&by_user, 0), (vec![0, 3, 5], vec![3, 2, 1, 4, 0]));
        let timeless = Positives { time_ms: &[], ..p };
        let config = Item2VecConfig { session_gap_mins: 30, ..Item2VecConfig::default() };
        assert!(config.fit(&timeless, 0, &mut |_| {}).unwrap_err().to_string().contains("times"));
    }

    #[test]
    fn what_is_taken_together_is_recommended_together() {
        let (mut offsets, mut item) = (vec![0u64], Vec::new());
        for user in 0..200u32 {
            item.extend((0..6).map(|n| user % 2 * 12 + (user * 7 + n * 5) % 12));
            offsets.push(item.len() as u64);
        }
        let p = Positives { items: 24, offsets: &offsets, item: &item, time_ms: &[] };
        for score in [Scored::Input, Scored::Output] {
            let config = Item2VecConfig {
                dim: 8,
                epochs: 40,
                sample: 0.0,
                shards: 1,
                score,
                ..Item2VecConfig::default()
            };
            let model = config.fit(&p, 1, &mut |_| {}).unwrap();
            for user in 0..2 {
                let x = model.user_vector(&[(user * 12, 1.0), (user * 12 + 5, 1.0)]);
                assert!(model.recommend(&x, 8, &|_| true).iter().all(|x| x.0 / 12 == user), "{score:?}");
            }
        }
    }
}
