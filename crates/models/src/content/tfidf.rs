//! Words of texts, weighted by how telling they are (Spärck Jones, J. Doc. 1972; Salton and Buckley, IP&M 1988).
//!
//! A text's words are its runs of letters and digits in lower case; those of fewer than `min_length` characters are
//! left out, and of what remains up to `ngrams` neighbours make a term, joined by a space. A term `t` of a text weighs
//!
//! ```text
//! f(t) · (ln((1 + n) / (1 + n_t)) + 1)      f(t) = its count, or with `sublinear` 1 + ln(count)
//! ```
//! where n is the number of texts and n_t of those with the term (one unseen text with all terms is added, so that
//! nothing is divided by 0); a text's weights are then scaled to length 1. With its defaults this is scikit-learn's
//! `TfidfVectorizer` except that an underscore parts words.

use millstream_schema::parse;
use rapidhash::{RapidHashMap, RapidHashSet};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::sparse::Csr;

/// What counts as a term, and what it weighs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TfidfConfig {
    /// Length of the vectors after the reduction (`crate::svd`), from 1 to 2048.
    pub dim: usize,
    /// Characters of a word at least.
    pub min_length: usize,
    /// Terms of fewer texts are left out; 1 or more.
    pub min_count: usize,
    /// Terms of a greater share of the texts are left out; in (0, 1].
    pub max_share: f32,
    /// Neighbouring words that make a term, at most; from 1 to 5.
    pub ngrams: usize,
    /// Whether a count c counts as 1 + ln c.
    pub sublinear: bool,
    /// Rounds of the reduction; 1 to 100.
    pub rounds: usize,
    /// Seeds the reduction's first guess.
    pub seed: u64,
}

impl Default for TfidfConfig {
    fn default() -> Self {
        Self {
            dim: 128,
            min_length: 2,
            min_count: 1,
            max_share: 1.0,
            ngrams: 1,
            sublinear: false,
            rounds: 5,
            seed: 1,
        }
    }
}

impl TfidfConfig {
    /// # Errors
    /// A key out of range; it is named.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = [
            (!(1..=2048).contains(&self.dim), "`dim` must be from 1 to 2048"),
            (self.min_count == 0, "`min_count` must be 1 or more"),
            (!(self.max_share > 0.0 && self.max_share <= 1.0), "`max_share` must be in (0, 1]"),
            (!(1..=5).contains(&self.ngrams), "`ngrams` must be from 1 to 5"),
            (!(1..=100).contains(&self.rounds), "`rounds` must be from 1 to 100"),
        ];
        match wrong.iter().find(|w| w.0) {
            Some((_, what)) => Err(Error::Config(format!("TF-IDF: key {what}"))),
            None => Ok(()),
        }
    }

    /// The terms of a text in order, repeated as they are.
    fn terms(&self, text: &str) -> Vec<String> {
        let words: Vec<String> =
            parse::words(text).filter(|w| w.chars().count() >= self.min_length).collect();
        let mut terms = Vec::with_capacity(words.len() * self.ngrams);
        for n in 2..=self.ngrams {
            terms.extend(words.windows(n).map(|neighbours| neighbours.join(" ")));
        }
        terms.extend(words);
        terms
    }
}

/// Terms of a set of texts with their weights.
#[derive(Debug, Clone)]
pub struct Tfidf {
    config: TfidfConfig,
    /// Term to column; columns are in order of the terms' bytes.
    columns: RapidHashMap<String, u32>,
    /// By column.
    idf: Vec<f32>,
}

impl Tfidf {
    /// Learns the terms of these texts and how rare they are.
    ///
    /// # Errors
    /// [`TfidfConfig::check`], or no term is left.
    pub fn fit(config: &TfidfConfig, texts: &[&str]) -> Result<Self, Error> {
        config.check()?;
        let met: Vec<RapidHashSet<String>> =
            texts.par_iter().map(|text| config.terms(text).into_iter().collect()).collect();
        let mut counts: RapidHashMap<String, usize> = RapidHashMap::default();
        for term in met.into_iter().flatten() {
            *counts.entry(term).or_default() += 1;
        }
        let most = f64::from(config.max_share) * texts.len() as f64;
        let mut kept: Vec<(String, usize)> =
            counts.into_iter().filter(|x| x.1 >= config.min_count && x.1 as f64 <= most).collect();
        if kept.is_empty() {
            return Err(Error::Config(format!(
                "TF-IDF: no term is left of {} texts; look at the texts, and at `min_count` and `max_share`",
                texts.len()
            )));
        }
        kept.sort_unstable();
        let rare = |with: usize| (((1 + texts.len()) as f64 / (1 + with) as f64).ln() + 1.0) as f32;
        let idf = kept.iter().map(|x| rare(x.1)).collect();
        let columns = kept.into_iter().zip(0u32..).map(|((term, _), column)| (term, column)).collect();
        Ok(Self { config: config.clone(), columns, idf })
    }

    /// Number of terms.
    pub fn terms(&self) -> usize {
        self.idf.len()
    }

    /// The column of a term.
    pub fn column(&self, term: &str) -> Option<u32> {
        self.columns.get(term).copied()
    }

    /// A text's terms as (column, weight) by rising column, of length 1 together; empty where it has no known term.
    pub fn weigh(&self, text: &str) -> Vec<(u32, f32)> {
        let terms = self.config.terms(text);
        let mut found: Vec<u32> = terms.iter().filter_map(|term| self.column(term)).collect();
        found.sort_unstable();
        let mut row: Vec<(u32, f32)> = Vec::with_capacity(found.len());
        for same in found.chunk_by(|a, b| a == b) {
            let count = same.len() as f32;
            let frequency = if self.config.sublinear { 1.0 + count.ln() } else { count };
            row.push((same[0], frequency * self.idf[same[0] as usize]));
        }
        let length = row.iter().map(|x| x.1 * x.1).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| x.1 /= length);
        row
    }

    /// [`Tfidf::weigh`] of each text, a row each.
    pub(super) fn matrix(&self, texts: &[&str]) -> Csr {
        let rows: Vec<Vec<(u32, f32)>> = texts.par_iter().map(|text| self.weigh(text)).collect();
        Csr::of_rows(&rows, self.terms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] = [
        "Rose water, rose oil & shea BUTTER",
        "Shea butter hand cream; hand care 2 go",
        "Étoile ROSE perfume",
        "hot hair iron",
    ];

    // from sklearn.feature_extraction.text import TfidfVectorizer      (scikit-learn 1.9.1)
    // texts = ["Rose water, rose oil & shea BUTTER", "Shea butter hand cream; hand care 2 go",
    //          "Étoile ROSE perfume", "hot hair iron"]
    // for options in [{}, {"sublinear_tf": True, "ngram_range": (1, 2)}]:
    //     v = TfidfVectorizer(**options); x = v.fit_transform(texts); print(x.shape)
    //     for row in x[:2]:
    //         print(", ".join(f'("{v.get_feature_names_out()[c]}", {w:.6f})'
    //                         for c, w in sorted(zip(row.indices, row.data))))
    const PLAIN: [&[(&str, f32)]; 2] = [
        &[
            ("butter", 0.329376),
            ("oil", 0.417772),
            ("rose", 0.658753),
            ("shea", 0.329376),
            ("water", 0.417772),
        ],
        &[
            ("butter", 0.274603),
            ("care", 0.348299),
            ("cream", 0.348299),
            ("go", 0.348299),
            ("hand", 0.696598),
            ("shea", 0.274603),
        ],
    ];
    const PAIRS: [&[(&str, f32)]; 2] = [
        &[
            ("butter", 0.253842),
            ("oil", 0.321966),
            ("oil shea", 0.321966),
            ("rose", 0.429791),
            ("rose oil", 0.321966),
            ("rose water", 0.321966),
            ("shea", 0.253842),
            ("shea butter", 0.253842),
            ("water", 0.321966),
            ("water rose", 0.321966),
        ],
        &[
            ("butter", 0.220960),
            ("butter hand", 0.280259),
            ("care", 0.280259),
            ("care go", 0.280259),
            ("cream", 0.280259),
            ("cream hand", 0.280259),
            ("go", 0.280259),
            ("hand", 0.474520),
            ("hand care", 0.280259),
            ("hand cream", 0.280259),
            ("shea", 0.220960),
            ("shea butter", 0.220960),
        ],
    ];

    fn agree(config: &TfidfConfig, terms: usize, golden: [&[(&str, f32)]; 2]) {
        let model = Tfidf::fit(config, &TEXTS).unwrap();
        assert_eq!(model.terms(), terms);
        for (text, golden) in TEXTS.iter().zip(golden) {
            let got = model.weigh(text);
            assert_eq!(got.len(), golden.len(), "{text}");
            for ((column, weight), (term, want)) in got.iter().zip(golden) {
                assert_eq!(model.column(term), Some(*column), "{term}");
                assert!((weight - want).abs() < 2e-6, "{term}: {weight} for {want}");
            }
        }
    }

    #[test]
    fn weights_are_those_of_scikit_learn() {
        agree(&TfidfConfig::default(), 14, PLAIN);
        let pairs = TfidfConfig { sublinear: true, ngrams: 2, ..TfidfConfig::default() };
        agree(&pairs, 28, PAIRS);
    }

    #[test]
    fn rare_and_common_terms_are_left_out_where_asked() {
        let rare = Tfidf::fit(&TfidfConfig { min_count: 2, ..TfidfConfig::default() }, &TEXTS).unwrap();
        assert_eq!(rare.terms(), 3, "butter, rose, shea");
        let common = Tfidf::fit(&TfidfConfig { max_share: 0.25, ..TfidfConfig::default() }, &TEXTS).unwrap();
        assert!(common.column("rose").is_none() && common.column("étoile").is_some());
        assert!(rare.weigh("nothing known").is_empty());
        let none = TfidfConfig { min_count: 5, ..TfidfConfig::default() };
        assert!(Tfidf::fit(&none, &TEXTS).unwrap_err().to_string().contains("min_count"));
        let wrong = TfidfConfig { ngrams: 0, ..TfidfConfig::default() };
        assert!(wrong.check().unwrap_err().to_string().contains("ngrams"));
    }
}
