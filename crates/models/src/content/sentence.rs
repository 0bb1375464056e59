//! Sentence vectors without a network at run time: the mean of the static vectors of a text's tokens, distilled from a
//! sentence transformer beforehand (model2vec: Tulkens and van Dongen, 2024). Everything is read from a folder on this
//! machine with the files that model2vec writes:
//!
//! | file | what is read |
//! |---|---|
//! | `config.json` | `normalize` (false), `max_length` in tokens (512; null: none) |
//! | `tokenizer.json` | see [`super::wordpiece`] |
//! | `model.safetensors` | `embeddings` (or `embedding.weight`) `[rows, D]`; where there are, `weights` `[tokens]` and `mapping` `[tokens]` |
//!
//! ```text
//! v = 1/n Σ_t w_t E[m_t]     over the text's known tokens t; w = 1 and m_t = t where the file has none
//! ```
//! and v / |v| with `normalize`. Each text is taken by itself, so that no padding exists which could change a vector.

use std::path::Path;

use serde_json::Value;

use super::folder::{Tensors, read};
use super::wordpiece::Tokenizer;
use crate::Error;
use crate::recall::factors::normalise;
use crate::sparse::add;

/// The three files.
const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// Tokens of a text that count, where the configuration does not say.
const MAX_LENGTH: usize = 512;

/// A static sentence encoder.
#[derive(Debug, Clone)]
pub struct SentenceEncoder {
    tokenizer: Tokenizer,
    dim: usize,
    /// `[rows, D]`.
    vectors: Vec<f32>,
    /// By token.
    weights: Option<Vec<f32>>,
    /// By token: the row of its vector.
    mapping: Option<Vec<u32>>,
    normalize: bool,
    /// Tokens and characters of a text that count.
    most: (usize, usize),
}

impl SentenceEncoder {
    /// Reads a folder. Nothing is fetched from anywhere else.
    ///
    /// # Errors
    /// The folder or a file is missing; a key, a length or a type does not fit: file and key are named.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        if !folder.is_dir() {
            return Err(Error::Config(format!(
                "{}: no such folder; a sentence encoder is a folder on this machine with {}, and none is downloaded",
                folder.display(),
                FILES.join(", ")
            )));
        }
        let [config, tokenizer, tensors] = FILES.map(|name| folder.join(name));
        let (normalize, max_length) = settings(&config)?;
        let tokenizer = Tokenizer::open(&tokenizer)?;
        let bytes = read(&tensors)?;
        let held = Tensors::of(&tensors, &bytes)?;
        let (rows, dim, vectors) = held.matrix(&["embeddings", "embedding.weight"])?;
        let tokens = tokenizer.tokens();
        let mapping = held.places("mapping", tokens, rows)?;
        if mapping.is_none() && rows != tokens {
            return held.fail(format_args!(
                "tensor `embeddings` has {rows} rows for {tokens} tokens of tokenizer.json, and there is no `mapping`"
            ));
        }
        let weights = held.list("weights", tokens)?;
        let most = max_length
            .map_or((usize::MAX, usize::MAX), |most| (most, most.saturating_mul(tokenizer.median_length())));
        Ok(Self { tokenizer, dim, vectors, weights, mapping, normalize, most })
    }

    /// D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Writes the vector of a text to `out`, which is `[D]`; zero where no token is known.
    pub fn encode(&self, text: &str, out: &mut [f32]) {
        out.fill(0.0);
        let end = text.char_indices().nth(self.most.1).map_or(text.len(), |x| x.0);
        let tokens = self.tokenizer.encode(&text[..end], self.most.0);
        for &token in &tokens {
            let at = token as usize;
            let row = self.mapping.as_ref().map_or(at, |m| m[at] as usize) * self.dim;
            let weight = self.weights.as_ref().map_or(1.0, |w| w[at]);
            add(out, &self.vectors[row..row + self.dim], weight);
        }
        out.iter_mut().for_each(|x| *x /= tokens.len().max(1) as f32);
        if self.normalize {
            normalise(out);
        }
    }
}

/// `normalize` and `max_length` of a `config.json`.
fn settings(path: &Path) -> Result<(bool, Option<usize>), Error> {
    let fail = |what: String| Error::Corrupt(format!("{}: {what}", path.display()));
    let json: Value = serde_json::from_slice(&read(path)?).map_err(|e| fail(format!("no JSON: {e}")))?;
    let json = json.as_object().ok_or_else(|| fail("no table of settings".into()))?;
    let normalize = match json.get("normalize") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(yes)) => *yes,
        Some(other) => return Err(fail(format!("key `normalize` is neither true nor false but {other}"))),
    };
    let max_length = match json.get("max_length") {
        None => Some(MAX_LENGTH),
        Some(Value::Null) => None,
        Some(other) => match other.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0) {
            Some(most) => Some(most),
            None => return Err(fail(format!("key `max_length` is no number of tokens but {other}"))),
        },
    };
    Ok((normalize, max_length))
}

#[cfg(test)]
#[path = "sentence_tests.rs"]
mod tests;
