//! One cell to one key or one number: what features with a single value per row do. [`crate::Encoder::encode`] and readers
//! that go straight from text to batches share it, so that a value cannot mean one thing here and another there.

use crate::encode::{FIRST, Fitted, MISSING, Numbering};
use crate::feature::Transform;
use crate::{Encoder, FeatureKind, parse};

/// What one feature makes of a cell.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// A categorical value's key.
    Category(Category<'a>),
    /// A number, or the key of its bucket.
    Number(Number<'a>),
}

/// A categorical value to its key.
#[derive(Debug, Clone, Copy)]
pub struct Category<'a> {
    numbering: &'a Numbering,
    missing: u64,
}

impl<'a> Category<'a> {
    pub(crate) fn new(numbering: &'a Numbering, default: Option<&str>) -> Self {
        Self { numbering, missing: default.map_or(MISSING, |d| numbering.key(d)) }
    }

    /// The key of a cell.
    #[inline]
    pub fn key(&self, cell: &str) -> u64 {
        match trim(cell) {
            "" => self.missing,
            value => self.numbering.key(value),
        }
    }

    /// As [`key`](Self::key) where that is quick: for a hashed value of four to eight bytes without spaces around it. `None` for
    /// all other cells, whose key is asked for as usual.
    #[inline]
    pub fn quick_key(&self, cell: &[u8]) -> Option<u64> {
        if is_solid(cell) { self.numbering.short_key(cell) } else { None }
    }
}

/// A number to what its transform makes of it.
#[derive(Debug, Clone, Copy)]
pub struct Number<'a> {
    transform: &'a Transform,
    fitted: &'a Fitted,
    default: f64,
}

impl<'a> Number<'a> {
    pub(crate) fn new(transform: &'a Transform, fitted: &'a Fitted, default: f64) -> Self {
        Self { transform, fitted, default }
    }

    /// Whether [`Number::key`] is meant, and not [`Number::value`].
    pub fn makes_keys(&self) -> bool {
        self.transform.makes_keys()
    }

    /// Stands for a bad number, and where there are no keys for a missing one.
    pub fn default(&self) -> f64 {
        self.default
    }

    /// The number in a cell, `None` for an empty one.
    ///
    /// # Errors
    /// It is not a finite number; the text says what it is.
    #[inline]
    pub fn number(&self, cell: &str) -> Result<Option<f64>, String> {
        let text = trim(cell);
        match whole(text) {
            Some(x) => Ok(Some(x)),
            None if text.is_empty() => Ok(None),
            None => parse::number(text).map(Some),
        }
    }

    /// The bucket's key; [`MISSING`] is left to the caller.
    pub fn key(&self, x: f64) -> u64 {
        match (self.transform, self.fitted) {
            (Transform::Log2Bins(bins), _) => {
                let bucket = (f64::from(*bins) * (1.0 + x.abs()).log2()).floor() as u64;
                FIRST + 2 * bucket + u64::from(x < 0.0)
            }
            (_, Fitted::Edges(edges)) => 1 + edges.partition_point(|&edge| edge <= x) as u64,
            _ => MISSING,
        }
    }

    /// The number as models see it.
    pub fn value(&self, x: f64) -> f32 {
        match (self.transform, self.fitted) {
            (Transform::Log, _) => (x.signum() * x.abs().ln_1p()) as f32,
            (Transform::Standardise, Fitted::Scale { mean, deviation }) => ((x - mean) / deviation) as f32,
            _ => x as f32,
        }
    }
}

impl Encoder {
    /// What a feature (by its place in the schema) makes of a cell; `None` for features of other kinds than
    /// categorical and numeric.
    pub fn cell(&self, feature: usize) -> Option<Cell<'_>> {
        let (spec, fitted) = (self.schema().features.get(feature)?, self.fitted(feature)?);
        match (&spec.kind, fitted) {
            (FeatureKind::Categorical { default, .. }, Fitted::Keys(numbering)) => {
                Some(Cell::Category(Category::new(numbering, default.as_deref())))
            }
            (FeatureKind::Numeric { transform, default }, _) => {
                Some(Cell::Number(Number::new(transform, fitted, *default)))
            }
            _ => None,
        }
    }
}

/// `str::trim`, quick where there is nothing to trim.
#[inline]
fn trim(cell: &str) -> &str {
    if is_solid(cell.as_bytes()) { cell } else { cell.trim() }
}

/// Whether a cell begins and ends with an ASCII character that is seen.
#[inline]
fn is_solid(cell: &[u8]) -> bool {
    let solid = |b: Option<&u8>| b.is_none_or(|b| (b'!'..=b'~').contains(b));
    solid(cell.first()) && solid(cell.last())
}

/// A whole number of at most 15 digits, which a float holds exactly.
#[inline]
fn whole(text: &str) -> Option<f64> {
    let (digits, sign) = match text.as_bytes() {
        [b'-', digits @ ..] => (digits, -1.0),
        digits => (digits, 1.0),
    };
    if !(1..=15).contains(&digits.len()) {
        return None;
    }
    let mut n = 0u64;
    for b in digits {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n = n * 10 + u64::from(digit);
    }
    Some(sign * n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_what_the_careful_parser_says() {
        let cells = [
            "0",
            "7",
            "-12",
            "123456789012345",
            "-0",
            "007",
            "+5",
            "1e3",
            "",
            "-",
            "4.5",
            "9999999999999999",
        ];
        for cell in cells {
            if let Some(x) = whole(cell) {
                assert_eq!(x.to_bits(), parse::number(cell).unwrap().to_bits(), "{cell}");
            }
        }
        assert_eq!(whole("-"), None);
        assert_eq!(whole("+5"), None);
    }

    #[test]
    fn trimming_is_what_str_trim_does() {
        for cell in ["", "a", " a", "a ", "\u{a0}a", "a\u{3000}", "é", " ", "a b", "\u{7f}"] {
            assert_eq!(trim(cell), cell.trim());
        }
    }

    #[test]
    fn quick_keys_are_the_keys_of_the_published_hash() {
        let value = "0123456789abcdef\u{e9}\u{e9}";
        for buckets in [None, Some(1000)] {
            let numbering = Numbering::Hash(buckets);
            let rule = Category::new(&numbering, None);
            for length in 1..=16 {
                let (cell, spaced) = (&value[..length], format!("{} ", &value[..length]));
                let hash = xxhash_rust::xxh3::xxh3_64(cell.as_bytes());
                let key = buckets.map_or(hash, |b| FIRST + hash % b);
                assert_eq!((rule.key(cell), rule.key(&spaced)), (key, key), "{cell}");
                let quick = (4..=8).contains(&length).then_some(key);
                assert_eq!(rule.quick_key(cell.as_bytes()), quick, "{cell}");
                assert_eq!(rule.quick_key(spaced.as_bytes()), None);
            }
            assert_eq!(rule.quick_key(b""), None);
            assert_eq!(rule.key("\u{e9}\u{e9}"), rule.key(" \u{e9}\u{e9}"));
        }
    }

    #[test]
    fn a_doubling_is_cut_into_so_many_bins() {
        let key = |bins, x| Number::new(&Transform::Log2Bins(bins), &Fitted::Nothing, 0.0).key(x);
        // log2(1 + x): 0 → 0, 1 → 1, 2 → 1.58, 3 → 2, 7 → 3, 8 → 3.17.
        let ones = [0.0, 0.9, 1.0, 2.0, 3.0, 7.0, 8.0, -1.0, -3.5].map(|x| key(1, x));
        assert_eq!(ones, [2, 2, 4, 4, 6, 8, 8, 5, 7]);
        let twos = [0.0, 0.4, 0.5, 1.0, 2.0, 3.0].map(|x| key(2, x));
        assert_eq!(twos, [2, 2, 4, 6, 8, 10]);
        assert!(key(64, f64::MAX) < FIRST + 2 * (1024 * 64 + 1));
    }
}
