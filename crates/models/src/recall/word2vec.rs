//! word2vec (Mikolov et al., "Efficient Estimation of Word Representations in Vector Space" and "Distributed Representations of Words
//! and Phrases and their Compositionality", 2013): continuous bag of words or skip-gram, with negative sampling or with a
//! hierarchical softmax over Huffman's tree, and with subsampling of frequent words.
//!
//! Negative sampling, for the input x and the output rows v: −log σ(x·v_w) − Σ_n log σ(−x·v_n), n drawn by frequency^0.75. The
//! hierarchical softmax replaces the rows by the inner nodes on the word's path, each to be told left from right. x is a context word's
//! vector (skip-gram) or the mean of all of the window (CBOW). A word w is kept with chance √(t/f_w) + t/f_w.
//!
//! What differs from the authors' program: the negatives of a word are drawn once for all words of its window (Ji et al., "Parallelizing
//! Word2Vec in Shared and Distributed Memory", 2016), so that their rows stay in cache; and threads do not write over each
//! other: `shards` parts of the sentences learn on copies, which are put together every `sync_words` words of each. A row
//! that few steps moved takes the sum of what the shards did to it, one that many moved their mean. The result depends on the
//! seed and on `shards`, not on the number of threads.

use millstream_nn::kernels::vectorised;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::recall::draws::{Alias, Draws};
use crate::recall::factors::dot;
use crate::recall::huffman::Huffman;
use crate::{Error, ModelConfig};

/// Lanes that the width is rounded up to.
const LANES: usize = 8;
/// Steps on a row between two syncs, above which shards are averaged instead of summed.
const FEW: u32 = 256;

/// Which words tell of which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Each word of the window tells of the middle one.
    #[default]
    SkipGram,
    /// The mean of the window tells of the middle one.
    Cbow,
}

/// How a word is told from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Against drawn words.
    #[default]
    NegativeSampling,
    /// By its path in Huffman's tree.
    HierarchicalSoftmax,
}

impl Output {
    /// Refuses options of drawn words where none is drawn, see [`ModelConfig::idle`]; `within` is the table that they stand in.
    ///
    /// # Errors
    /// Names both options.
    pub(crate) fn idle(self, cfg: &ModelConfig, within: &str) -> Result<(), Error> {
        let drawn = ["negatives", "negative_power"].map(|key| format!("{within}{key}"));
        match self {
            Self::HierarchicalSoftmax => {
                let beside = format!("{within}output = \"hierarchical_softmax\"");
                cfg.idle(&beside, &[&drawn[0], &drawn[1]])
            }
            Self::NegativeSampling => Ok(()),
        }
    }
}

/// Options of word2vec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Word2VecConfig {
    /// D, 1 to 1024.
    pub dim: usize,
    /// Words to each side, of which a random number from 1 on is taken.
    pub window: usize,
    /// Which words tell of which.
    pub architecture: Architecture,
    /// How a word is told from all others.
    pub output: Output,
    /// Drawn words per word, for negative sampling.
    pub negatives: usize,
    /// Power of the frequency by which they are drawn.
    pub negative_power: f64,
    /// t of subsampling, as a share of all words; 0 keeps all.
    pub sample: f64,
    /// Times that the corpus is gone through.
    pub epochs: usize,
    /// Learning rate at the start; it falls in a straight line to `min_lr`.
    pub lr: f32,
    /// Learning rate at the end.
    pub min_lr: f32,
    /// Whether the words of a sentence come in a new random order each epoch: for sets.
    pub shuffle: bool,
    /// Parts that learn side by side.
    pub shards: usize,
    /// Words that a shard learns between two syncs.
    pub sync_words: usize,
}

impl Default for Word2VecConfig {
    fn default() -> Self {
        Self {
            dim: 64,
            window: 5,
            architecture: Architecture::SkipGram,
            output: Output::NegativeSampling,
            negatives: 5,
            negative_power: 0.75,
            sample: 1e-3,
            epochs: 5,
            lr: 0.025,
            min_lr: 0.0001,
            shuffle: false,
            shards: 2,
            sync_words: 100_000,
        }
    }
}

/// Sentences end to end: sentence s owns places `offsets[s]..offsets[s + 1]` of `word`.
#[derive(Debug, Clone, Copy)]
pub struct Corpus<'a> {
    /// Number of different words; every word is below it.
    pub words: usize,
    /// `[S + 1]`, rising, from 0.
    pub offsets: &'a [u64],
    /// Words.
    pub word: &'a [u32],
}

/// What was learned.
#[derive(Debug, Clone, PartialEq)]
pub struct WordVectors {
    /// D.
    pub dim: usize,
    /// `[V, D]`: the words' vectors; zero for a word that never occurs.
    pub input: Vec<f32>,
    /// Negative sampling: `[V, D]`, the vectors that words are told by. Hierarchical softmax: `[V − 1, D]`, the inner nodes'.
    pub output: Vec<f32>,
}

impl Word2VecConfig {
    /// # Errors
    /// An option out of range; `model` is for whom it says so.
    pub fn check(&self, model: &str) -> Result<(), Error> {
        let fail = |what: &str| Err(Error::Config(format!("{model}: {what}")));
        let positive = |x: f32| x.is_finite() && x > 0.0;
        match () {
            () if !(1..=1024).contains(&self.dim) => fail("`dim` must be 1 to 1024"),
            () if self.window == 0 || self.epochs == 0 => fail("`window` and `epochs` must be above 0"),
            () if self.negatives == 0 && self.output == Output::NegativeSampling => {
                fail("`negatives` must be above 0 for output = \"negative_sampling\"")
            }
            () if !(self.negative_power.is_finite() && self.negative_power >= 0.0) => {
                fail("`negative_power` must be 0 or more")
            }
            () if !(self.sample.is_finite() && self.sample >= 0.0) => fail("`sample` must be 0 or more"),
            () if !(positive(self.lr) && self.min_lr >= 0.0 && self.min_lr <= self.lr) => {
                fail("`lr` must be above 0, and `min_lr` from 0 to `lr`")
            }
            () if !(1..=256).contains(&self.shards) || self.sync_words == 0 => {
                fail("`shards` must be 1 to 256, and `sync_words` above 0")
            }
            () => Ok(()),
        }
    }

    /// Learns the words' vectors; `seen` is told after each epoch.
    ///
    /// # Errors
    /// An option out of range, sentences that do not hold together, or vectors that are no numbers any more.
    pub fn fit(
        &self,
        corpus: &Corpus<'_>,
        seed: u64,
        seen: &mut dyn FnMut(usize),
    ) -> Result<WordVectors, Error> {
        self.check("word2vec")?;
        let sound = corpus.offsets.first() == Some(&0)
            && corpus.offsets.is_sorted()
            && corpus.offsets.last() == Some(&(corpus.word.len() as u64))
            && corpus.word.iter().all(|&w| (w as usize) < corpus.words);
        if !sound {
            return Err(Error::Corrupt("the sentences do not hold together".into()));
        }
        let plan = Plan::new(self, corpus);
        let width = self.dim.next_multiple_of(LANES);
        let mut weights = Weights::new(self, &plan, width, seed);
        for epoch in 0..self.epochs {
            plan.epoch(&mut weights, (seed, epoch));
            seen(epoch + 1);
        }
        if !weights.input.iter().chain(&weights.output).all(|v| v.is_finite()) {
            return Err(Error::Diverged("word2vec: the vectors are no numbers any more; lower `lr`".into()));
        }
        let cut = |x: &[f32]| x.chunks_exact(width).flat_map(|r| &r[..self.dim]).copied().collect();
        Ok(WordVectors { dim: self.dim, input: cut(&weights.input), output: cut(&weights.output) })
    }
}

/// Numbers in a line of a cache.
const LINE: usize = 16;

/// What does not change while learning.
struct Plan<'a> {
    config: &'a Word2VecConfig,
    corpus: &'a Corpus<'a>,
    counts: Vec<u64>,
    /// Chance that a word is kept.
    keep: Vec<f32>,
    negatives: Alias,
    tree: Huffman,
    sigmoid: Sigmoid,
    /// Sentences of each shard.
    parts: Vec<std::ops::Range<usize>>,
}

/// `[V, width]` each.
#[derive(Clone)]
struct Weights {
    width: usize,
    input: Vec<f32>,
    output: Vec<f32>,
}

/// One shard's copies, and how often each row was moved since the last sync.
struct Shard {
    weights: Weights,
    moved_in: Vec<u32>,
    moved_out: Vec<u32>,
    draws: Draws,
    /// Its sentences, and the next of them.
    part: std::ops::Range<usize>,
    next: usize,
    /// Words gone through in this epoch.
    done: usize,
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    sentence: Vec<u32>,
    targets: Vec<(u32, f32)>,
    mean: Vec<f32>,
    slope: Vec<f32>,
}

impl Weights {
    fn new(config: &Word2VecConfig, plan: &Plan<'_>, width: usize, seed: u64) -> Self {
        let words = plan.corpus.words;
        let mut draws = Draws::new(seed, 1 << 50);
        let mut input = vec![0.0f32; words * width];
        for (row, _) in input.chunks_exact_mut(width).zip(&plan.counts).filter(|x| *x.1 > 0) {
            row[..config.dim].iter_mut().for_each(|v| *v = (draws.unit() - 0.5) / config.dim as f32);
        }
        let outputs = match config.output {
            Output::NegativeSampling => words,
            Output::HierarchicalSoftmax => words.saturating_sub(1),
        };
        Self { width, input, output: vec![0.0; outputs * width] }
    }
}

impl<'a> Plan<'a> {
    fn new(config: &'a Word2VecConfig, corpus: &'a Corpus<'a>) -> Self {
        let mut counts = vec![0u64; corpus.words];
        corpus.word.iter().for_each(|&w| counts[w as usize] += 1);
        let total = corpus.word.len().max(1) as f64;
        let kept = |&n: &u64| match (config.sample > 0.0, n as f64 / total) {
            (true, f) if f > 0.0 => ((config.sample / f).sqrt() + config.sample / f).min(1.0) as f32,
            _ => 1.0,
        };
        let weights: Vec<f64> = counts
            .iter()
            .map(|&n| if n > 0 { (n as f64).powf(config.negative_power) } else { 0.0 })
            .collect();
        let tree = match config.output {
            Output::HierarchicalSoftmax => Huffman::new(&counts),
            Output::NegativeSampling => Huffman::default(),
        };
        Self {
            config,
            corpus,
            keep: counts.iter().map(kept).collect(),
            negatives: Alias::new(&weights),
            tree,
            sigmoid: Sigmoid::new(),
            parts: parts(corpus.offsets, config.shards),
            counts,
        }
    }

    fn epoch(&self, weights: &mut Weights, (seed, epoch): (u64, usize)) {
        let shards = self.parts.iter().enumerate().map(|(s, part)| Shard {
            weights: Weights { width: weights.width, input: Vec::new(), output: Vec::new() },
            moved_in: Vec::new(),
            moved_out: Vec::new(),
            draws: Draws::new(seed, (epoch * self.parts.len() + s) as u64),
            part: part.clone(),
            next: part.start,
            done: 0,
            buffers: Buffers::default(),
        });
        let mut shards: Vec<Shard> = shards.collect();
        if let [only] = shards.as_mut_slice() {
            // One shard needs no copies.
            std::mem::swap(&mut only.weights, weights);
            only.clear_moves(weights.width);
            self.learn(only, epoch, usize::MAX);
            std::mem::swap(&mut only.weights, weights);
            return;
        }
        while shards.iter().any(|shard| shard.next < shard.part.end) {
            shards.par_iter_mut().with_max_len(1).for_each(|shard| {
                shard.weights.input.clone_from(&weights.input);
                shard.weights.output.clone_from(&weights.output);
                shard.clear_moves(weights.width);
                self.learn(shard, epoch, self.config.sync_words);
            });
            join(weights.width, &mut weights.input, &shards, |s| (&s.weights.input, &s.moved_in));
            join(weights.width, &mut weights.output, &shards, |s| (&s.weights.output, &s.moved_out));
        }
    }

    /// Learns sentences of the shard until so many words were gone through.
    fn learn(&self, shard: &mut Shard, epoch: usize, most: usize) {
        let part = shard.part.clone();
        let words = (self.corpus.offsets[part.end] - self.corpus.offsets[part.start]).max(1) as f32;
        let until = shard.done.saturating_add(most);
        while shard.next < part.end && shard.done < until {
            let span = self.corpus.offsets[shard.next] as usize..self.corpus.offsets[shard.next + 1] as usize;
            let progress = (epoch as f32 + shard.done as f32 / words) / self.config.epochs as f32;
            let lr = self.config.lr + (self.config.min_lr - self.config.lr) * progress;
            shard.done += span.len();
            shard.next += 1;
            let mut sentence = std::mem::take(&mut shard.buffers.sentence);
            sentence.clear();
            let kept = |w: &u32, draws: &mut Draws| {
                let chance = self.keep[*w as usize];
                chance >= 1.0 || draws.unit() < chance
            };
            sentence.extend(self.corpus.word[span].iter().filter(|w| kept(w, &mut shard.draws)));
            if self.config.shuffle {
                shard.draws.shuffle(&mut sentence);
            }
            vectorised!(self.sentence(&sentence, shard, lr));
            shard.buffers.sentence = sentence;
        }
    }

    #[inline(always)]
    fn sentence(&self, sentence: &[u32], shard: &mut Shard, lr: f32) {
        let Shard { weights, moved_in, moved_out, draws, buffers, .. } = shard;
        let Buffers { targets, mean, slope, .. } = buffers;
        let width = weights.width;
        slope.resize(width, 0.0);
        for (at, &word) in sentence.iter().enumerate() {
            let reach = 1 + draws.below(self.config.window);
            let (left, right) = (at.saturating_sub(reach), (at + reach + 1).min(sentence.len()));
            if right - left < 2 {
                continue;
            }
            self.targets(word, draws, targets);
            targets.iter().for_each(|t| moved_out[t.0 as usize] += 1);
            // One number of every cache line of their rows, all asked for at once: drawn words are far apart in memory.
            let lines = |t: &(u32, f32)| weights.output[t.0 as usize * width..][..width].iter().step_by(LINE);
            std::hint::black_box(targets.iter().flat_map(lines).sum::<f32>());
            let context = sentence[left..at].iter().chain(&sentence[at + 1..right]);
            match self.config.architecture {
                Architecture::SkipGram => {
                    for &other in context {
                        let x = &mut weights.input[other as usize * width..][..width];
                        predict(x, &mut weights.output, targets, (lr, &self.sigmoid), slope);
                        x.iter_mut().zip(&*slope).for_each(|(x, s)| *x += s);
                        moved_in[other as usize] += 1;
                    }
                }
                Architecture::Cbow => {
                    let share = 1.0 / (right - left - 1) as f32;
                    mean.clear();
                    mean.resize(width, 0.0);
                    for &other in context.clone() {
                        let x = &weights.input[other as usize * width..][..width];
                        mean.iter_mut().zip(x).for_each(|(m, x)| *m += share * x);
                    }
                    predict(mean, &mut weights.output, targets, (lr, &self.sigmoid), slope);
                    for &other in context {
                        let x = &mut weights.input[other as usize * width..][..width];
                        x.iter_mut().zip(&*slope).for_each(|(x, s)| *x += share * s);
                        moved_in[other as usize] += 1;
                    }
                }
            }
        }
    }

    /// Rows that a word is told by, with what is right for each.
    #[inline(always)]
    fn targets(&self, word: u32, draws: &mut Draws, targets: &mut Vec<(u32, f32)>) {
        targets.clear();
        match self.config.output {
            Output::HierarchicalSoftmax => targets.extend_from_slice(self.tree.path(word)),
            Output::NegativeSampling => {
                targets.push((word, 1.0));
                for _ in 0..self.config.negatives {
                    let drawn = self.negatives.draw(draws);
                    if drawn != word {
                        targets.push((drawn, 0.0));
                    }
                }
            }
        }
    }
}

/// Moves the output rows, and leaves in `slope` by how much x is to be moved.
#[inline(always)]
fn predict(
    x: &[f32],
    output: &mut [f32],
    targets: &[(u32, f32)],
    (lr, sigmoid): (f32, &Sigmoid),
    slope: &mut [f32],
) {
    let width = x.len();
    slope.fill(0.0);
    for &(row, right) in targets {
        let v = &mut output[row as usize * width..][..width];
        let pull = lr * (right - sigmoid.at(dot(x, v)));
        for ((v, x), s) in v.iter_mut().zip(x).zip(slope.iter_mut()) {
            *s += pull * *v;
            *v += pull * x;
        }
    }
}

impl Shard {
    fn clear_moves(&mut self, width: usize) {
        for (moved, rows) in
            [(&mut self.moved_in, &self.weights.input), (&mut self.moved_out, &self.weights.output)]
        {
            moved.clear();
            moved.resize(rows.len() / width, 0);
        }
    }
}

/// Puts what the shards did to their copies together.
fn join(
    width: usize,
    rows: &mut [f32],
    shards: &[Shard],
    of: impl Fn(&Shard) -> (&Vec<f32>, &Vec<u32>) + Sync,
) {
    rows.par_chunks_mut(width * 1024).enumerate().for_each(|(chunk, rows)| {
        for (n, row) in rows.chunks_exact_mut(width).enumerate() {
            let at = chunk * 1024 + n;
            let moves = shards.iter().map(|s| of(s).1[at]);
            let (total, movers) = moves.fold((0, 0u32), |(t, m), n| (t + n, m + u32::from(n > 0)));
            if movers == 0 {
                continue;
            }
            let share = if total <= FEW { 1.0 } else { 1.0 / movers as f32 };
            let before: Vec<f32> = row.to_vec();
            for shard in shards.iter().filter(|s| of(s).1[at] > 0) {
                let theirs = &of(shard).0[at * width..][..width];
                row.iter_mut().zip(theirs.iter().zip(&before)).for_each(|(r, (t, b))| *r += share * (t - b));
            }
        }
    });
}

/// Sentences cut into so many parts of about as many words each.
fn parts(offsets: &[u64], shards: usize) -> Vec<std::ops::Range<usize>> {
    let (sentences, words) = (offsets.len() - 1, offsets[offsets.len() - 1]);
    let cut = |s: usize| match s == shards {
        true => sentences,
        false => offsets.partition_point(|&o| o < words * s as u64 / shards as u64).min(sentences),
    };
    (0..shards).map(|s| cut(s)..cut(s + 1)).filter(|p| !p.is_empty()).collect()
}

/// σ by a table; beyond ±8 it is taken for what it is there.
struct Sigmoid(Vec<f32>);

impl Sigmoid {
    const REACH: f32 = 8.0;
    const STEPS: usize = 4096;

    fn new() -> Self {
        let at = |i: usize| (i as f32 + 0.5) / Self::STEPS as f32 * 2.0 * Self::REACH - Self::REACH;
        Self((0..Self::STEPS).map(|i| 1.0 / (1.0 + (-at(i)).exp())).collect())
    }

    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        // A cast of a float saturates.
        let place = ((x + Self::REACH) * (Self::STEPS as f32 / (2.0 * Self::REACH))) as usize;
        self.0[place.min(Self::STEPS - 1)]
    }
}

#[cfg(test)]
#[path = "word2vec_tests.rs"]
mod tests;
