//! Labelled rows in memory, column by column: what the leakage check and the feature report look at.

mod file;
mod part;

pub use file::{Labelled, read};
pub use part::of_prepared;

use rapidhash::RapidHashMap;

/// Labelled rows, evenly thinned where there were more than wanted.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// What was read, for people.
    pub source: String,
    /// Rows there were.
    pub rows_seen: u64,
    /// Features, in file order.
    pub columns: Vec<SampleColumn>,
    /// `[N]`: whether the label is positive.
    pub label: Vec<bool>,
    /// What makes a label positive, for people.
    pub positive: String,
    /// `[N]` times in epoch milliseconds; empty when there are none.
    pub time_ms: Vec<i64>,
    /// Which columns were taken for the label and the times without being named, for people.
    pub guessed: Vec<String>,
    /// What cannot be told of such rows, for people.
    pub lacks: Vec<String>,
    /// `[N]`: whether the row is in a later part than training; empty when there is one part only.
    pub late: Vec<bool>,
}

/// One feature of a [`Sample`].
#[derive(Debug, Clone, Default)]
pub struct SampleColumn {
    /// Its name.
    pub name: String,
    /// `[N]`: number of the value, 0 when it is missing.
    pub codes: Vec<u32>,
    /// Different values, missing not counted.
    pub distinct: u32,
    /// `[N]`: the value as a number, NaN when it is missing; empty when values are not numbers. Times are epoch
    /// milliseconds.
    pub numbers: Vec<f64>,
    /// Whether the numbers are times.
    pub times: bool,
}

/// Names that the time of a row goes by.
const TIMES_OF_ROWS: [&str; 9] =
    ["time", "timestamp", "ts", "t", "date", "datetime", "event_time", "event_timestamp", "time_ms"];

impl Sample {
    /// Takes the rows' times, where none are known, from the only column of times that every row has a value of, or from
    /// the only one of several with a usual name (`time`, `timestamp`, `date`, …). The column stays a column.
    pub fn guess_time(&mut self) {
        if !self.time_ms.is_empty() {
            return;
        }
        let whole = |c: &&SampleColumn| c.times && c.numbers.iter().all(|x| !x.is_nan());
        let times: Vec<&SampleColumn> = self.columns.iter().filter(|c| c.times).collect();
        let usual = |c: &&SampleColumn| TIMES_OF_ROWS.iter().any(|n| c.name.eq_ignore_ascii_case(n));
        let named: Vec<&SampleColumn> = times.iter().copied().filter(usual).collect();
        let (found, why) = match (times.as_slice(), named.as_slice()) {
            ([only], _) => (*only, "the only column of times"),
            (_, [only]) => (*only, "by its name"),
            _ => return,
        };
        if !whole(&found) {
            return;
        }
        self.guessed.push(format!("the rows' times are `{}`, {why}; --time names another", found.name));
        self.time_ms = found.numbers.iter().map(|x| *x as i64).collect();
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.label.len()
    }

    /// Share of positives, in [0, 1].
    pub fn rate(&self) -> f64 {
        self.label.iter().filter(|&&y| y).count() as f64 / self.rows().max(1) as f64
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&SampleColumn> {
        self.columns.iter().find(|c| c.name == name)
    }
}

impl SampleColumn {
    /// Values as few codes as `most` (beside missing, 0): as they are when there are no more, else, for numbers, by
    /// equal shares of the rows, rising. Others stay as they are.
    pub fn binned(&self, most: usize) -> (Vec<u32>, u32) {
        if self.numbers.is_empty() || self.distinct as usize <= most {
            return (self.codes.clone(), self.distinct);
        }
        let edges = self.edges(most);
        let bin = |x: &f64| if x.is_nan() { 0 } else { 1 + edges.partition_point(|e| e <= x) as u32 };
        (self.numbers.iter().map(bin).collect(), edges.len() as u32 + 1)
    }

    /// Rising lower edges of the second to the last of `most` bins with equal shares of the rows; equal ones once.
    pub fn edges(&self, most: usize) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.numbers.iter().copied().filter(|x| !x.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let mut edges: Vec<f64> =
            (1..most).filter_map(|i| sorted.get(i * sorted.len() / most).copied()).collect();
        edges.dedup();
        edges.retain(|e| Some(e) > sorted.first());
        edges
    }

    /// Share of rows with a value, in [0, 1].
    pub fn filled(&self) -> f64 {
        self.codes.iter().filter(|&&c| c > 0).count() as f64 / self.codes.len().max(1) as f64
    }
}

/// Collects one column's cells.
#[derive(Debug, Default)]
struct Builder {
    name: String,
    numbering: RapidHashMap<u64, u32>,
    codes: Vec<u32>,
    numbers: Vec<f64>,
    units: [u64; 5],
}

/// 1995-01-01 and 2040-01-01 in epoch seconds.
const TIMES: (f64, f64) = (788_918_400.0, 2_208_988_800.0);
/// Milliseconds per unit of each of `Builder::units`; the last is milliseconds read from a date.
const UNITS: [f64; 5] = [1e3, 1.0, 1e-3, 1e-6, 1.0];
const DATE: usize = 4;

impl Builder {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes a value by its hash and as a number, if it is one; `None` is missing.
    fn push(&mut self, value: Option<(u64, f64)>) {
        let Some((hash, number)) = value else {
            self.codes.push(0);
            self.numbers.push(f64::NAN);
            return;
        };
        let next = self.numbering.len() as u32 + 1;
        self.codes.push(*self.numbering.entry(hash).or_insert(next));
        self.numbers.push(number);
    }

    /// Takes a cell of text.
    fn push_cell(&mut self, cell: &str) {
        let value = cell.trim();
        if value.is_empty() {
            return self.push(None);
        }
        let mut number = value.parse::<f64>().ok().filter(|x| x.is_finite());
        match number {
            Some(x) => {
                for (unit, seen) in self.units.iter_mut().take(DATE).enumerate() {
                    let seconds = x * UNITS[unit] / 1e3;
                    *seen += u64::from((TIMES.0..=TIMES.1).contains(&seconds));
                }
            }
            None if value.len() >= 10 && value.as_bytes()[4] == b'-' => {
                number = crate::time::TimeUnit::Iso.parse(value).ok().map(|ms| ms as f64);
                self.units[DATE] += u64::from(number.is_some());
            }
            None => {}
        }
        self.push(Some((xxhash_rust::xxh3::xxh3_64(value.as_bytes()), number.unwrap_or(f64::NAN))));
    }

    /// Leaves every second row out, from the second on.
    fn thin(&mut self) {
        let mut at = 0;
        self.codes.retain(|_| (at += 1, at % 2 == 1).1);
        at = 0;
        self.numbers.retain(|_| (at += 1, at % 2 == 1).1);
    }

    fn finish(self) -> SampleColumn {
        let filled = self.codes.iter().filter(|&&c| c > 0).count();
        let numeric = self.numbers.iter().filter(|x| !x.is_nan()).count();
        let mut column = SampleColumn { name: self.name, ..SampleColumn::default() };
        (column.codes, column.distinct) = compact(self.codes);
        if filled == 0 || (numeric as f64) < 0.95 * filled as f64 {
            return column;
        }
        // All cells seen count, also those thinned out since.
        let seen: u64 = self.units.iter().sum();
        let unit = (0..UNITS.len()).find(|&u| seen > 0 && self.units[u] as f64 >= 0.95 * filled as f64);
        column.times = unit.is_some_and(|u| u == DATE || self.numbers.iter().all(|x| x.is_nan() || *x > 1e8));
        column.numbers = self.numbers;
        if let Some(unit) = unit.filter(|_| column.times) {
            column.numbers.iter_mut().for_each(|x| *x *= UNITS[unit]);
        }
        column
    }
}

/// Codes without the gaps that thinning left.
fn compact(mut codes: Vec<u32>) -> (Vec<u32>, u32) {
    let mut renamed: RapidHashMap<u32, u32> = RapidHashMap::default();
    for code in codes.iter_mut().filter(|c| **c > 0) {
        let next = renamed.len() as u32 + 1;
        *code = *renamed.entry(*code).or_insert(next);
    }
    (codes, renamed.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(cells: &[&str]) -> SampleColumn {
        let mut builder = Builder::new("x");
        cells.iter().for_each(|cell| builder.push_cell(cell));
        builder.finish()
    }

    #[test]
    fn cells_become_codes_and_numbers() {
        let words = column(&["a", "", "b", " a "]);
        assert_eq!((words.codes.clone(), words.distinct, words.numbers.len()), (vec![1, 0, 2, 1], 2, 0));
        assert_eq!(words.filled(), 0.75);
        let numbers = column(&["1.5", "", "-2"]);
        assert!(numbers.numbers[1].is_nan() && numbers.numbers[2] == -2.0 && !numbers.times);
        let seconds = column(&["1700000000", "1700000001"]);
        assert!(seconds.times && seconds.numbers[0] == 1.7e12);
        let days = column(&["2024-02-01", "2024-02-02T00:00:00Z"]);
        assert!(days.times && days.numbers[1] - days.numbers[0] == 86_400_000.0);
        assert!(!column(&["1700000000", "7"]).times);
    }

    #[test]
    fn bins_hold_equal_shares_and_missing_stays_missing() {
        let cells: Vec<String> =
            (0..1000).map(|i| if i == 0 { String::new() } else { i.to_string() }).collect();
        let column = column(&cells.iter().map(String::as_str).collect::<Vec<_>>());
        let (codes, bins) = column.binned(10);
        assert_eq!((codes[0], bins), (0, 10));
        for bin in 1..=10 {
            let held = codes.iter().filter(|&&c| c == bin).count();
            assert!((95..=105).contains(&held), "{held}");
        }
        assert!(codes[1..].is_sorted());
    }

    #[test]
    fn thinning_keeps_every_second_row() {
        let mut builder = Builder::new("x");
        (0..7).for_each(|i| builder.push_cell(&i.to_string()));
        builder.thin();
        let column = builder.finish();
        assert_eq!(
            (column.numbers, column.codes, column.distinct),
            (vec![0.0, 2.0, 4.0, 6.0], vec![1, 2, 3, 4], 4)
        );
    }
}
