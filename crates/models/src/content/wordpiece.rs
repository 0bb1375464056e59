//! Tokenisers as `tokenizer.json` describes them, of the kinds that static sentence encoders in English come with: the
//! normaliser and the word splitter of BERT (Devlin et al., NAACL 2019) before WordPiece (Schuster and Nakajima, ICASSP
//! 2012) or whole words. Other kinds are refused by name. Unlike in the `tokenizers` library, which would bring 28 crates more,
//! added tokens are not looked for in texts: one that spells `[SEP]` has a bracket, a word and a bracket.

use std::path::Path;

use rapidhash::RapidHashMap;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::Error;

/// One step before words are cut.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// Control characters go, every white space is a blank.
    Clean,
    /// Blanks around ideographs.
    Ideographs,
    /// Decomposed, without marks that take no space.
    StripAccents,
    /// Without combining marks.
    StripMarks,
    Lowercase,
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

/// How a normalised text becomes words.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// At white space, and around every punctuation mark.
    Bert,
    /// At white space.
    WhiteSpace,
}

/// What makes tokens of a word.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    /// The longest known piece, then the longest that goes on from there.
    Pieces { prefix: String, longest: usize },
    /// The word itself.
    Words,
}

/// Texts to token numbers.
#[derive(Debug, Clone)]
pub(super) struct Tokenizer {
    steps: Vec<Step>,
    cut: Cut,
    model: Model,
    vocabulary: RapidHashMap<String, u32>,
    unknown: Option<u32>,
}

/// What is wrong, with the key.
type Fault = String;

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON, lacks a key, or names a kind that is not known; file and key are named.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |what: String| Error::Corrupt(format!("{}: {what}", path.display()));
        let text = super::folder::read(path)?;
        let json: Value = serde_json::from_slice(&text).map_err(|e| fail(format!("no JSON: {e}")))?;
        Self::of(&json).map_err(fail)
    }

    fn of(json: &Value) -> Result<Self, Fault> {
        let model = json.get("model").filter(|m| m.is_object()).ok_or("key `model` is missing")?;
        let mut vocabulary = vocabulary(model)?;
        for added in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(token), Some(id)) = (added["content"].as_str(), number(&added["id"])) {
                vocabulary.entry(token.to_owned()).or_insert(id);
            }
        }
        let unknown = match model["unk_token"].as_str() {
            Some(token) => {
                Some(*vocabulary.get(token).ok_or("key `model.unk_token` names no token of the vocabulary")?)
            }
            None => None,
        };
        Ok(Self {
            steps: steps(&json["normalizer"])?,
            cut: cut(&json["pre_tokenizer"])?,
            model: model_of(model)?,
            vocabulary,
            unknown,
        })
    }

    /// Tokens are below this.
    pub(super) fn tokens(&self) -> usize {
        self.vocabulary.values().max().map_or(0, |&id| id as usize + 1)
    }

    /// The median length of the tokens in characters, rounded down.
    pub(super) fn median_length(&self) -> usize {
        let mut lengths: Vec<usize> = self.vocabulary.keys().map(|token| token.chars().count()).collect();
        lengths.sort_unstable();
        let middle = lengths.len() / 2;
        match lengths.len() {
            0 => 0,
            n if n % 2 == 1 => lengths[middle],
            _ => (lengths[middle - 1] + lengths[middle]) / 2,
        }
    }

    /// The first `most` tokens of a text, and of those the known ones.
    pub(super) fn encode(&self, text: &str, most: usize) -> Vec<u32> {
        let normal = self.steps.iter().fold(text.to_owned(), |text, step| step.apply(&text));
        let mut tokens = Vec::new();
        for word in self.cut.words(&normal) {
            self.word(word, &mut tokens);
            if tokens.len() >= most {
                break;
            }
        }
        tokens.truncate(most);
        tokens.into_iter().flatten().filter(|&token| Some(token) != self.unknown).collect()
    }

    /// A word's tokens; `None` stands for an unknown one.
    fn word(&self, word: &str, out: &mut Vec<Option<u32>>) {
        let Model::Pieces { prefix, longest } = &self.model else {
            return out.push(self.vocabulary.get(word).copied());
        };
        let (before, mut rest, mut piece) = (out.len(), word, String::new());
        if word.chars().count() > *longest {
            return out.push(None);
        }
        while !rest.is_empty() {
            let goes_on = rest.len() < word.len();
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
            let found = ends.into_iter().find_map(|end| {
                piece.clear();
                piece.push_str(if goes_on { prefix } else { "" });
                piece.push_str(&rest[..end]);
                self.vocabulary.get(piece.as_str()).map(|&token| (end, token))
            });
            let Some((end, token)) = found else {
                out.truncate(before);
                return out.push(None);
            };
            out.push(Some(token));
            rest = &rest[end..];
        }
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn vocabulary(model: &Value) -> Result<RapidHashMap<String, u32>, Fault> {
    let listed = model["vocab"].as_object().ok_or("key `model.vocab` is missing, or no table of tokens")?;
    let entry = |(token, id): (&String, &Value)| {
        let id = number(id).ok_or_else(|| format!("key `model.vocab`: token `{token}` has no number"))?;
        Ok((token.clone(), id))
    };
    listed.iter().map(entry).collect()
}

fn kind<'a>(value: &'a Value, key: &str) -> Result<&'a str, Fault> {
    value["type"].as_str().ok_or_else(|| format!("key `{key}.type` is missing"))
}

fn refuse<T>(key: &str, kind: &str, known: &str) -> Result<T, Fault> {
    Err(format!("key `{key}.type`: `{kind}` is not one that is known here: {known}"))
}

fn model_of(model: &Value) -> Result<Model, Fault> {
    match kind(model, "model")? {
        "WordLevel" => Ok(Model::Words),
        "WordPiece" => Ok(Model::Pieces {
            prefix: model["continuing_subword_prefix"].as_str().unwrap_or("##").to_owned(),
            longest: model["max_input_chars_per_word"].as_u64().unwrap_or(100) as usize,
        }),
        other => refuse("model", other, "WordPiece, WordLevel"),
    }
}

fn steps(json: &Value) -> Result<Vec<Step>, Fault> {
    if json.is_null() {
        return Ok(Vec::new());
    }
    Ok(match kind(json, "normalizer")? {
        "Sequence" => {
            let parts = json["normalizers"].as_array().ok_or("key `normalizer.normalizers` is missing")?;
            parts.iter().map(steps).collect::<Result<Vec<_>, _>>()?.concat()
        }
        "BertNormalizer" => {
            let says = |key: &str| json[key].as_bool();
            let lower = says("lowercase").unwrap_or(true);
            let chosen = [
                (says("clean_text").unwrap_or(true), Step::Clean),
                (says("handle_chinese_chars").unwrap_or(true), Step::Ideographs),
                (says("strip_accents").unwrap_or(lower), Step::StripAccents),
                (lower, Step::Lowercase),
            ];
            chosen.into_iter().filter(|x| x.0).map(|x| x.1).collect()
        }
        "Lowercase" => vec![Step::Lowercase],
        "StripAccents" => vec![Step::StripMarks],
        "NFC" => vec![Step::Nfc],
        "NFD" => vec![Step::Nfd],
        "NFKC" => vec![Step::Nfkc],
        "NFKD" => vec![Step::Nfkd],
        other => {
            let known = "BertNormalizer, Lowercase, StripAccents, NFC, NFD, NFKC, NFKD, Sequence";
            return refuse("normalizer", other, known);
        }
    })
}

fn cut(json: &Value) -> Result<Cut, Fault> {
    if json.is_null() {
        return Err("key `pre_tokenizer` is missing: words cannot be told apart".into());
    }
    match kind(json, "pre_tokenizer")? {
        "BertPreTokenizer" => Ok(Cut::Bert),
        "WhitespaceSplit" => Ok(Cut::WhiteSpace),
        "Sequence" => {
            let parts =
                json["pretokenizers"].as_array().ok_or("key `pre_tokenizer.pretokenizers` is missing")?;
            let cuts = parts.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
            // Cutting at white space before or after adds nothing to BERT's cut.
            Ok(if cuts.contains(&Cut::Bert) { Cut::Bert } else { Cut::WhiteSpace })
        }
        other => refuse("pre_tokenizer", other, "BertPreTokenizer, WhitespaceSplit, Sequence"),
    }
}

impl Step {
    fn apply(&self, text: &str) -> String {
        match self {
            Self::Clean => text.chars().filter_map(cleaned).collect(),
            Self::Ideographs => spaced(text),
            Self::StripAccents => {
                let marks = |c: &char| c.general_category() == GeneralCategory::NonspacingMark;
                text.nfd().filter(|c| !marks(c)).collect()
            }
            Self::StripMarks => text.chars().filter(|c| !is_combining_mark(*c)).collect(),
            // A character at a time, as BERT does: no final sigma.
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
        }
    }
}

/// The character, a blank for white space, nothing for what is no text.
fn cleaned(c: char) -> Option<char> {
    use GeneralCategory::{Control, Format, PrivateUse};
    match c {
        '\t' | '\n' | '\r' => Some(' '),
        '\0' | '\u{fffd}' => None,
        _ if matches!(c.general_category(), Control | Format | PrivateUse) => None,
        _ if c.is_whitespace() => Some(' '),
        _ => Some(c),
    }
}

fn spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_ideograph(c) {
            true => out.extend([' ', c, ' ']),
            false => out.push(c),
        }
    }
    out
}

/// Unified ideographs and their extensions A to E, and those for compatibility: the blocks that BERT names.
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

fn is_mark(c: char) -> bool {
    c.is_ascii_punctuation() || c.general_category_group() == GeneralCategoryGroup::Punctuation
}

impl Cut {
    fn words(self, text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        for run in text.split_whitespace() {
            match self {
                Self::WhiteSpace => words.push(run),
                Self::Bert => {
                    let mut start = 0;
                    for (at, mark) in run.match_indices(is_mark) {
                        words.extend((start < at).then(|| &run[start..at]));
                        words.push(mark);
                        start = at + mark.len();
                    }
                    words.extend((start < run.len()).then(|| &run[start..]));
                }
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bert(vocabulary: &[&str]) -> Value {
        let vocab: serde_json::Map<String, Value> =
            vocabulary.iter().zip(0..).map(|(t, id)| ((*t).to_owned(), json!(id))).collect();
        json!({
            "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 12, "vocab": vocab },
        })
    }

    const WORDS: [&str; 12] =
        ["[UNK]", "rose", "water", "##water", "sham", "##poo", "##p", "-", "香", "creme", "'", "##s"];

    fn tokens(text: &str) -> Vec<&'static str> {
        let tokenizer = Tokenizer::of(&bert(&WORDS)).unwrap();
        tokenizer.encode(text, 512).into_iter().map(|id| WORDS[id as usize]).collect()
    }

    // from tokenizers import Tokenizer                                                  (tokenizers 0.23.3)
    // words = ["[UNK]", "rose", "water", "##water", "sham", "##poo", "##p", "-", "香", "creme", "'", "##s"]
    // t = Tokenizer.from_str(json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
    //     "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
    //                    "strip_accents": None, "lowercase": True},
    //     "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None, "decoder": None,
    //     "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
    //               "max_input_chars_per_word": 12, "vocab": {w: i for i, w in enumerate(words)}}}))
    // for text in TEXTS: print([w for w in t.encode(text).tokens if w != "[UNK]"])
    #[test]
    fn tokens_are_those_of_the_tokenizers_library() {
        let golden: [(&str, &[&str]); 7] = [
            ("Rosewater Shampoo", &["rose", "##water", "sham", "##poo"]),
            ("rose-water\u{a0}ROSE's", &["rose", "-", "water", "rose", "'"]),
            ("Crème\u{200b}, 香water", &["creme", "香", "water"]),
            ("rosex rose", &["rose"]),
            ("shampshampsh rosewaterwaterwater", &[]),
            ("  \t\n ", &[]),
            ("cre\u{301}me “rose”\u{0} ro\u{fffd}se", &["creme", "rose", "rose"]),
        ];
        for (text, want) in golden {
            assert_eq!(tokens(text), want, "{text:?}");
        }
    }

    #[test]
    fn the_first_tokens_are_kept_and_unknown_ones_counted_before_they_go() {
        let tokenizer = Tokenizer::of(&bert(&WORDS)).unwrap();
        assert_eq!(tokenizer.encode("rose zzz water water", 3), [1, 2]);
        assert_eq!(tokenizer.encode("rosewater rose", 1), [1]);
        assert_eq!((tokenizer.tokens(), tokenizer.median_length()), (12, 4));
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let fault = |change: &dyn Fn(&mut Value)| {
            let mut json = bert(&WORDS);
            change(&mut json);
            Tokenizer::of(&json).unwrap_err()
        };
        let other = fault(&|j| j["model"]["type"] = json!("Unigram"));
        assert!(
            other.contains("model.type") && other.contains("Unigram") && other.contains("WordPiece"),
            "{other}"
        );
        assert!(fault(&|j| j["normalizer"]["type"] = json!("Precompiled")).contains("normalizer.type"));
        assert!(fault(&|j| j["pre_tokenizer"] = json!(null)).contains("pre_tokenizer"));
        assert!(fault(&|j| j["pre_tokenizer"]["type"] = json!("Metaspace")).contains("Metaspace"));
        assert!(fault(&|j| j["model"]["vocab"] = json!(null)).contains("model.vocab"));
        assert!(fault(&|j| j["model"]["vocab"]["rose"] = json!(-1)).contains("rose"));
        assert!(fault(&|j| j["model"]["unk_token"] = json!("<unk>")).contains("unk_token"));
        assert!(fault(&|j| j["model"] = json!(null)).contains("`model`"));
    }

    #[test]
    fn steps_and_cuts_may_come_in_sequence() {
        let mut json = bert(&["[UNK]", "étoile-bleue", "etoile-bleue"]);
        json["normalizer"] = json!({ "type": "Sequence", "normalizers": [
            { "type": "NFD" }, { "type": "StripAccents" }, { "type": "Lowercase" }] });
        json["pre_tokenizer"] =
            json!({ "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }] });
        json["model"] = json!({ "type": "WordLevel", "unk_token": "[UNK]", "vocab": json["model"]["vocab"] });
        assert_eq!(Tokenizer::of(&json).unwrap().encode("Étoile-BLEUE x", 9), [2]);
        json["normalizer"] = json!(null);
        assert_eq!(Tokenizer::of(&json).unwrap().encode("étoile-bleue x", 9), [1]);
    }
}
