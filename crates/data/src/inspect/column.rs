//! Statistics of one column, in bounded memory.

use millstream_schema::parse::short;
use millstream_schema::record::LIST_SEPARATOR;
use rapidhash::RapidHashMap;

use super::distinct::Distinct;
use super::{ColumnReport, Guess, Numbers};

/// Different values counted exactly.
const EXACT_VALUES: usize = 1 << 16;
/// Different values whose frequencies are kept; those met later are not.
const COUNTED: usize = 10_000;
/// Separators of lists inside text cells.
const SEPARATORS: [char; 4] = [LIST_SEPARATOR, '|', ';', ','];
/// 1995-01-01 and 2040-01-01 in epoch seconds.
const TIMES: (f64, f64) = (788_918_400.0, 2_208_988_800.0);

/// What was seen of one column.
pub(super) struct Column {
    name: String,
    filled: u64,
    integers: u64,
    numbers: u64,
    iso: u64,
    first_day: String,
    last_day: String,
    /// Cells with each of [`SEPARATORS`], and those whose first element looks like `name:weight`.
    lists: [u64; SEPARATORS.len()],
    weighted: u64,
    words: u64,
    padded: u64,
    min: f64,
    max: f64,
    sum: f64,
    distinct: Distinct,
    counts: RapidHashMap<u64, (Box<str>, u64)>,
}

impl Column {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            filled: 0,
            integers: 0,
            numbers: 0,
            iso: 0,
            first_day: String::new(),
            last_day: String::new(),
            lists: [0; SEPARATORS.len()],
            weighted: 0,
            words: 0,
            padded: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            distinct: Distinct::new(EXACT_VALUES),
            counts: RapidHashMap::default(),
        }
    }

    /// Takes a cell and its hash.
    pub(super) fn take(&mut self, cell: &str, hash: u64) {
        let value = cell.trim();
        if value.is_empty() {
            return;
        }
        self.filled += 1;
        self.padded += u64::from(value.len() != cell.len());
        self.distinct.take(hash);
        if let Some((_, count)) = self.counts.get_mut(&hash) {
            *count += 1;
        } else if self.counts.len() < COUNTED {
            self.counts.insert(hash, (short(value).trim_matches('`').into(), 1));
        }
        match value.parse::<f64>() {
            Ok(x) if x.is_finite() => self.take_number(x, value),
            _ => self.take_text(value),
        }
    }

    fn take_number(&mut self, x: f64, value: &str) {
        let whole = value.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'+');
        self.integers += u64::from(whole);
        self.numbers += 1;
        self.words += 1;
        self.min = self.min.min(x);
        self.max = self.max.max(x);
        self.sum += x;
    }

    fn take_text(&mut self, value: &str) {
        if is_iso(value) {
            self.iso += 1;
            let day = &value[..10];
            if self.first_day.is_empty() || day < self.first_day.as_str() {
                day.clone_into(&mut self.first_day);
            }
            if day > self.last_day.as_str() {
                day.clone_into(&mut self.last_day);
            }
        }
        for (separator, count) in SEPARATORS.iter().zip(&mut self.lists) {
            *count += u64::from(value.contains(*separator));
        }
        let first = value.split(SEPARATORS).next().unwrap_or("");
        let weight = first.rsplit_once(':').map(|(_, weight)| weight);
        self.weighted += u64::from(weight.is_some_and(|w| w.trim().parse::<f64>().is_ok()));
        self.words += value.split_whitespace().count() as u64;
    }

    fn share(&self, count: u64) -> f64 {
        count as f64 / self.filled.max(1) as f64
    }

    fn guess(&self) -> Guess {
        if self.filled == 0 {
            return Guess::Empty;
        }
        if self.share(self.numbers) >= 0.95 {
            return match self.times() {
                Some(guess) => guess,
                None if self.integers == self.numbers => Guess::Integer,
                None => Guess::Number,
            };
        }
        if self.share(self.iso) >= 0.95 {
            return Guess::Timestamp { unit: "iso", from: self.first_day.clone(), to: self.last_day.clone() };
        }
        self.list().unwrap_or_else(
            || {
                if self.share(self.words) > 3.0 { Guess::Text } else { Guess::Category }
            },
        )
    }

    /// Times, if every number lies between 1995 and 2040 in one unit.
    fn times(&self) -> Option<Guess> {
        let units = [("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)];
        let inside = |per: f64| self.min >= TIMES.0 * per && self.max <= TIMES.1 * per;
        let (unit, per) = units.into_iter().find(|(_, per)| inside(*per))?;
        Some(Guess::Timestamp { unit, from: day_of(self.min / per), to: day_of(self.max / per) })
    }

    /// Lists: a separator that occurs in a good part of the cells. Commas also occur in prose.
    fn list(&self) -> Option<Guess> {
        let prose = self.share(self.words) > 3.0;
        let fits = |&(separator, count): &(char, u64)| {
            count > 0
                && match separator {
                    LIST_SEPARATOR => true,
                    '|' => self.share(count) >= 0.05,
                    _ => self.share(count) >= 0.2 && !prose,
                }
        };
        let (separator, _) = SEPARATORS.into_iter().zip(self.lists).find(fits)?;
        Some(Guess::List { separator, weighted: self.share(self.weighted) >= 0.9 })
    }

    /// Adds what is suspicious about the column.
    pub(super) fn suspect(&self, rows: u64, out: &mut Vec<String>) {
        let name = &self.name;
        let (distinct, exact) = self.distinct.count();
        let mixed = self.share(self.numbers);
        if self.filled == 0 {
            out.push(format!("column `{name}` is empty"));
        } else if distinct == 1 && rows > 1 {
            out.push(format!("column `{name}` is constant"));
        } else if exact && distinct == rows && rows >= 20 {
            out.push(format!("column `{name}` has another value in every row"));
        }
        if (0.5..1.0).contains(&mixed) {
            let odd = self.filled - self.numbers;
            let s = if odd == 1 { " is" } else { "s are" };
            out.push(format!(
                "column `{name}` has mixed types: {odd} of {} cell{s} not a number",
                self.filled
            ));
        }
        if self.padded > 0 {
            out.push(format!("column `{name}` has {} cells with white space around the value", self.padded));
        }
    }

    pub(super) fn report(self, rows: u64) -> ColumnReport {
        let guess = self.guess();
        let (distinct, distinct_exact) = self.distinct.count();
        let numbers = (self.numbers > 0 && self.share(self.numbers) >= 0.5).then(|| Numbers {
            min: self.min,
            mean: self.sum / self.numbers as f64,
            max: self.max,
        });
        let mut top: Vec<(String, u64)> =
            self.counts.into_values().map(|(v, n)| (v.into_string(), n)).collect();
        top.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top.truncate(5);
        let missing = (rows - self.filled) as f64 / rows.max(1) as f64;
        ColumnReport { name: self.name, missing, distinct, distinct_exact, guess, numbers, top }
    }
}

/// `YYYY-MM-DD`, alone or followed by a time.
fn is_iso(value: &str) -> bool {
    let bytes = value.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    bytes.len() >= 10
        && digits(0..4)
        && bytes[4] == b'-'
        && digits(5..7)
        && bytes[7] == b'-'
        && digits(8..10)
        && matches!(bytes.get(10), None | Some(b'T' | b't' | b' '))
}

/// The day of an epoch second, `YYYY-MM-DD` (Hinnant, `civil_from_days`).
fn day_of(seconds: f64) -> String {
    let days = (seconds / 86_400.0).floor() as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let doe = days.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
