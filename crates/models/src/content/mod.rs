//! Items by what their texts say, so that one which nobody has acted on yet can be recalled: text to vector by TF-IDF
//! reduced to its strongest directions (latent semantic analysis), or by a static sentence encoder from a local folder.
//!
//! Vectors have length 1, so that products are cosines; a text without a known term is the zero vector, and its item
//! cannot be recalled by content. A user is the weighted mean of the vectors of their latest items.

mod folder;
mod sentence;
mod tfidf;
mod wordpiece;

use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::recall::factors::{FactorModel, FoldIn, normalise};
use crate::{Error, ModelConfig, sparse, svd};

pub use sentence::SentenceEncoder;
pub use tfidf::{Tfidf, TfidfConfig};

/// The name in `[model]`.
pub const CONTENT: &str = "content";

/// `[content]` of a chain: which texts, and how they become vectors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// Item fields whose texts are read, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
    /// Options of TF-IDF, which is the encoder where no `folder` is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tfidf: Option<TfidfConfig>,
    /// Folder of a static sentence encoder on this machine, as model2vec writes it. Nothing is downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

impl TextConfig {
    /// # Errors
    /// Options of both encoders, or one out of range.
    pub fn check(&self) -> Result<(), Error> {
        match (&self.tfidf, &self.folder) {
            (Some(_), Some(_)) => Err(Error::Config(
                "content: keys `tfidf` and `folder` exclude each other; with a folder its encoder is used"
                    .into(),
            )),
            (Some(tfidf), None) => tfidf.check(),
            _ => Ok(()),
        }
    }

    /// The encoder; TF-IDF learns from these texts, an encoder from a folder does not look at them.
    ///
    /// # Errors
    /// [`TextConfig::check`], no term in the texts, or a folder that cannot be used.
    pub fn encoder(&self, texts: &[&str]) -> Result<TextEncoder, Error> {
        self.check()?;
        match &self.folder {
            Some(folder) => Ok(TextEncoder::Sentence(SentenceEncoder::open(folder)?)),
            None => Ok(TextEncoder::Lsa(Lsa::fit(&self.tfidf.clone().unwrap_or_default(), texts)?)),
        }
    }
}

/// `[model] name = "content"`: [`TextConfig`], and how a history becomes a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContentConfig {
    /// [`TextConfig::texts`].
    pub texts: Vec<String>,
    /// [`TextConfig::tfidf`].
    pub tfidf: Option<TfidfConfig>,
    /// [`TextConfig::folder`].
    pub folder: Option<PathBuf>,
    /// Latest items of a history that count; 1 or more.
    pub max_history: usize,
    /// The j-th latest item counts `decay`^j; in (0, 1].
    pub decay: f32,
}

impl Default for ContentConfig {
    fn default() -> Self {
        Self { texts: Vec::new(), tfidf: None, folder: None, max_history: 50, decay: 1.0 }
    }
}

impl ContentConfig {
    /// The options of a `[model]`.
    ///
    /// # Errors
    /// An unknown key, one out of range, or no `texts`.
    pub fn of(model: &ModelConfig) -> Result<Self, Error> {
        let config: Self = model.options()?;
        let fail = |what: &str| Err(Error::Config(format!("model `{CONTENT}`: {what}")));
        if config.texts.is_empty() {
            return fail("key `texts` names no item field; it says whose words the items are known by");
        }
        if config.max_history == 0 || !(config.decay > 0.0 && config.decay <= 1.0) {
            return fail("`max_history` must be 1 or more and `decay` in (0, 1]");
        }
        config.text().check().map(|()| config)
    }

    /// The part that says how texts become vectors.
    pub fn text(&self) -> TextConfig {
        TextConfig { texts: self.texts.clone(), tfidf: self.tfidf.clone(), folder: self.folder.clone() }
    }

    /// A history of items, oldest first, as items with weights: the latest one weighs 1.
    pub fn weighed(&self, history: &[u32]) -> Vec<(u32, f32)> {
        let latest = history.iter().rev().take(self.max_history);
        latest
            .zip(std::iter::successors(Some(1.0f32), |w| Some(w * self.decay)))
            .map(|(i, w)| (*i, w))
            .collect()
    }
}

/// TF-IDF with its strongest directions.
#[derive(Debug, Clone)]
pub struct Lsa {
    terms: Tfidf,
    dim: usize,
    /// `[terms, dim]`.
    directions: Vec<f32>,
}

impl Lsa {
    /// Learns terms and directions from these texts.
    ///
    /// # Errors
    /// [`TfidfConfig::check`], or no term is left.
    pub fn fit(config: &TfidfConfig, texts: &[&str]) -> Result<Self, Error> {
        let terms = Tfidf::fit(config, texts)?;
        let (directions, _) = svd::directions(&terms.matrix(texts), config.dim, config.rounds, config.seed);
        Ok(Self { terms, dim: config.dim, directions })
    }

    /// Writes a text's place along the directions to `out`, which is `[dim]`.
    fn encode(&self, text: &str, out: &mut [f32]) {
        out.fill(0.0);
        for (column, weight) in self.terms.weigh(text) {
            let from = column as usize * self.dim;
            sparse::add(out, &self.directions[from..from + self.dim], weight);
        }
    }
}

/// Texts to vectors.
#[derive(Debug, Clone)]
pub enum TextEncoder {
    /// TF-IDF, reduced.
    Lsa(Lsa),
    /// A static sentence encoder.
    Sentence(SentenceEncoder),
}

impl TextEncoder {
    /// D.
    pub fn dim(&self) -> usize {
        match self {
            Self::Lsa(lsa) => lsa.dim,
            Self::Sentence(sentence) => sentence.dim(),
        }
    }

    /// Writes the vector of a text, of length 1, to `out`, which is `[D]`; whether it has one. Where no term is known
    /// `out` is zero.
    pub fn encode(&self, text: &str, out: &mut [f32]) -> bool {
        match self {
            Self::Lsa(lsa) => lsa.encode(text, out),
            Self::Sentence(sentence) => sentence.encode(text, out),
        }
        normalise(out);
        out.iter().any(|x| *x != 0.0)
    }

    /// The vectors of texts, `[N, D]`; each is what [`TextEncoder::encode`] makes of its text alone.
    pub fn encode_all(&self, texts: &[&str]) -> Vec<f32> {
        let mut out = vec![0.0f32; texts.len() * self.dim()];
        out.par_chunks_exact_mut(self.dim()).zip(texts).for_each(|(out, text)| {
            self.encode(text, out);
        });
        out
    }

    /// Items as vectors of their texts; a user is the mean of their items.
    pub fn factors(&self, texts: &[&str]) -> FactorModel {
        FactorModel::new(CONTENT, self.dim(), (self.encode_all(texts), Vec::new()), FoldIn::Mean)
    }
}

#[cfg(test)]
mod tests;
