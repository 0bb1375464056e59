//! What is hot: exponentially decayed counts over windows such as 1, 7 and 30 days, global and per segment.
//!
//! An action of weight v at time t counts v · 2^−(now − t)/h at `now`, h being the window's half-life. Kept is
//! the logarithm L = log₂ Σ v_i · 2^(t_i / h), which does not depend on `now`: an event costs O(windows), may
//! come late, and nothing is ever rewritten as time goes by. The count at `now` is 2^(L − now / h).

use std::fmt;
use std::str::FromStr;

use millstream_schema::ItemRow;
use rapidhash::RapidHashMap;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::envelope;
use crate::recall::top::top;

const MAGIC: &[u8; 8] = b"MSPOPULR";
/// 2 since windows may be chosen.
const VERSION: u32 = 2;
const MINUTE_MS: i64 = 60_000;
const UNITS: [(char, i64); 3] = [('d', 1440 * MINUTE_MS), ('h', 60 * MINUTE_MS), ('m', MINUTE_MS)];
/// A hundred years.
const LONGEST_MS: i64 = 36_525 * 1440 * MINUTE_MS;

/// A span of time in whole minutes, written `90m`, `6h` or `7d`; of counts, their half-life.
///
/// ```
/// use millstream_models::recall::popularity::Window;
/// assert_eq!("24h".parse::<Window>().unwrap(), Window::DAY);
/// assert_eq!(Window::WEEK.to_string(), "7d");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window(i64);

impl Window {
    /// One day.
    pub const DAY: Self = Self(UNITS[0].1);
    /// Seven days.
    pub const WEEK: Self = Self(7 * UNITS[0].1);
    /// Thirty days.
    pub const MONTH: Self = Self(30 * UNITS[0].1);
    /// The windows counted where none are named, shortest first.
    pub const ALL: [Self; 3] = [Self::DAY, Self::WEEK, Self::MONTH];

    /// Its length in milliseconds, at least a minute.
    pub fn ms(self) -> i64 {
        self.0
    }

    /// The same for counts, whose half-life it is.
    pub fn half_life_ms(self) -> f64 {
        self.0 as f64
    }
}

impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
        let number = |ms: i64| text[..text.len() - 1].parse::<u32>().ok().map(|n| i64::from(n) * ms);
        let ms = unit.and_then(|(_, ms)| number(*ms)).filter(|ms| (1..=LONGEST_MS).contains(ms));
        ms.map(Self).ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            Error::Config(format!("`{text}` is no span of time; write such as `90m`, `6h` or `7d`"))
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, ms) = UNITS.iter().find(|(_, ms)| self.0 % ms == 0).copied().unwrap_or(UNITS[2]);
        write!(f, "{}{unit}", self.0 / ms)
    }
}

impl TryFrom<String> for Window {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

/// Decayed counts of all items, and of each segment's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Popularity {
    /// Rising.
    windows: Vec<Window>,
    global: Board,
    segments: RapidHashMap<Box<str>, Board>,
}

/// Decayed counts of the items that were ever acted on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Board {
    slots: RapidHashMap<ItemRow, u32>,
    rows: Vec<ItemRow>,
    /// Per window, one logarithm per slot.
    logs: Vec<Vec<f64>>,
}

/// What version 1 held: the windows were those of [`Window::ALL`].
#[derive(Serialize, Deserialize)]
struct FirstVersion {
    global: FirstBoard,
    segments: RapidHashMap<Box<str>, FirstBoard>,
}

#[derive(Serialize, Deserialize)]
struct FirstBoard {
    slots: RapidHashMap<ItemRow, u32>,
    rows: Vec<ItemRow>,
    logs: [Vec<f64>; 3],
}

impl Default for Popularity {
    fn default() -> Self {
        Self::with_windows(&Window::ALL)
    }
}

impl From<FirstVersion> for Popularity {
    fn from(old: FirstVersion) -> Self {
        let board = |b: FirstBoard| Board { slots: b.slots, rows: b.rows, logs: b.logs.into() };
        Self {
            windows: Window::ALL.to_vec(),
            global: board(old.global),
            segments: old.segments.into_iter().map(|(name, b)| (name, board(b))).collect(),
        }
    }
}

impl Popularity {
    /// Nothing counted, over the windows of [`Window::ALL`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing counted, over these windows; each costs 8 bytes per item and segment.
    pub fn with_windows(windows: &[Window]) -> Self {
        let mut windows = windows.to_vec();
        windows.sort_unstable();
        windows.dedup();
        Self { windows, global: Board::default(), segments: RapidHashMap::default() }
    }

    /// The windows counted, rising.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The place of a window among those counted.
    fn place(&self, window: Window) -> Option<usize> {
        self.windows.binary_search(&window).ok()
    }

    /// Counts one action of a positive weight; O(1), in any order of time. A weight that is not a positive
    /// number counts for nothing.
    pub fn add(&mut self, item: ItemRow, time_ms: i64, weight: f32, segment: Option<&str>) {
        if !(weight.is_finite() && weight > 0.0) {
            return;
        }
        let log = f64::from(weight).log2();
        self.global.add(item, time_ms, log, &self.windows);
        if let Some(name) = segment {
            if !self.segments.contains_key(name) {
                self.segments.insert(name.into(), Board::default());
            }
            if let Some(board) = self.segments.get_mut(name) {
                board.add(item, time_ms, log, &self.windows);
            }
        }
    }

    /// The item's decayed count at `now_ms`, over all segments; 0 over a window that is not counted.
    pub fn count(&self, item: ItemRow, window: Window, now_ms: i64) -> f64 {
        self.place(window).map_or(0.0, |place| self.global.count(item, (place, window), now_ms))
    }

    /// The `k` hottest items that `keep` lets through with their counts at `now_ms`, hottest first, ties by
    /// row; empty over a window that is not counted. O(items ever acted on).
    pub fn top(
        &self,
        k: usize,
        window: Window,
        now_ms: i64,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        self.place(window).map_or_else(Vec::new, |place| self.global.top(k, (place, window), now_ms, keep))
    }

    /// As [`Popularity::top`], among the actions of one segment; empty for a segment never met.
    pub fn top_of_segment(
        &self,
        segment: &str,
        (k, window): (usize, Window),
        now_ms: i64,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        match (self.segments.get(segment), self.place(window)) {
            (Some(board), Some(place)) => board.top(k, (place, window), now_ms, keep),
            _ => Vec::new(),
        }
    }

    /// Names of the segments met, in order of name.
    pub fn segments(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.segments.keys().map(|s| &**s).collect();
        names.sort_unstable();
        names
    }

    /// Number of items ever acted on.
    pub fn items(&self) -> usize {
        self.global.rows.len()
    }

    /// Magic, version, xxh3 of the rest, then the counts.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        envelope::seal(MAGIC, VERSION, self)
    }

    /// The reverse of [`Popularity::to_bytes`], also for version 1; every inner length and slot is checked.
    ///
    /// # Errors
    /// The bytes are not such counts, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        const WHAT: &str = "a table of popularity";
        let read = if bytes.get(8..12) == Some(&1u32.to_le_bytes()) {
            envelope::open::<FirstVersion>(MAGIC, 1, WHAT, bytes)?.into()
        } else {
            envelope::open::<Self>(MAGIC, VERSION, WHAT, bytes)?
        };
        let boards = std::iter::once(&read.global).chain(read.segments.values());
        let sorted = read.windows.is_sorted_by(|a, b| a < b);
        if sorted && boards.into_iter().all(|b| b.sound(read.windows.len())) {
            return Ok(read);
        }
        Err(Error::Corrupt("a table of popularity does not hold together".into()))
    }
}

impl Board {
    fn add(&mut self, item: ItemRow, time_ms: i64, log_weight: f64, windows: &[Window]) {
        self.logs.resize(windows.len(), Vec::new());
        let slot = *self.slots.entry(item).or_insert_with(|| {
            self.rows.push(item);
            self.logs.iter_mut().for_each(|l| l.push(f64::NEG_INFINITY));
            self.rows.len() as u32 - 1
        }) as usize;
        for (window, logs) in windows.iter().zip(&mut self.logs) {
            let log = &mut logs[slot];
            *log = add_logs(*log, log_weight + time_ms as f64 / window.half_life_ms());
        }
    }

    fn count(&self, item: ItemRow, (place, window): (usize, Window), now_ms: i64) -> f64 {
        self.slots.get(&item).map_or(0.0, |&slot| {
            (self.logs[place][slot as usize] - now_ms as f64 / window.half_life_ms()).exp2()
        })
    }

    fn top(
        &self,
        k: usize,
        (place, window): (usize, Window),
        now_ms: i64,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        let Some(logs) = self.logs.get(place) else { return Vec::new() };
        let now = now_ms as f64 / window.half_life_ms();
        let mut best: Vec<(ItemRow, f32)> = Vec::with_capacity(4 * k.min(self.rows.len()));
        // Whatever is below the k-th best met so far needs no look at `keep`.
        let mut floor = f32::NEG_INFINITY;
        for (&row, &log) in self.rows.iter().zip(logs) {
            // The order is kept in the logarithm, where old counts do not vanish in f32.
            let score = (log - now) as f32;
            if score >= floor && keep(row) {
                best.push((row, score));
                if best.len() >= 4 * k.max(64) {
                    top(&mut best, k);
                    floor = best.last().map_or(floor, |x| x.1);
                }
            }
        }
        top(&mut best, k);
        best.iter_mut().for_each(|x| x.1 = x.1.exp2());
        best
    }

    fn sound(&self, windows: usize) -> bool {
        let n = self.rows.len();
        self.slots.len() == n
            && (self.logs.len() == windows || n == 0)
            && self.logs.iter().all(|l| l.len() == n && l.iter().all(|x| !x.is_nan()))
            && self.slots.iter().all(|(row, &slot)| self.rows.get(slot as usize) == Some(row))
    }
}

/// log₂(2^a + 2^b).
fn add_logs(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn events(n: u32, seed: u64) -> Vec<(u32, i64, f32, &'static str)> {
        let mut state = seed;
        let mut next = move |n: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) as u32) % n
        };
        (0..n)
            .map(|_| {
                let item = next(500).min(next(500)) * 7;
                let time = NOW - i64::from(next(2000)) * HOUR;
                (item, time, [0.5, 1.0, 3.0][next(3) as usize], ["fr", "it"][next(2) as usize])
            })
            .collect()
    }

    fn naive(events: &[(u32, i64, f32, &str)], item: u32, window: Window, now: i64) -> f64 {
        let mine = events.iter().filter(|e| e.0 == item);
        mine.map(|e| f64::from(e.2) * (-((now - e.1) as f64) / window.half_life_ms()).exp2()).sum()
    }

    fn counted(events: &[(u32, i64, f32, &str)]) -> Popularity {
        let mut popularity = Popularity::new();
        events.iter().for_each(|e| popularity.add(e.0, e.1, e.2, Some(e.3)));
        popularity
    }

    #[test]
    fn counts_are_those_of_the_sum_whatever_the_order_of_events() {
        let mut events = events(5000, 1);
        let forward = counted(&events);
        events.reverse();
        let backward = counted(&events);
        for window in Window::ALL {
            for item in (0..3500).step_by(7) {
                let want = naive(&events, item, window, NOW + 5 * HOUR);
                for popularity in [&forward, &backward] {
                    let got = popularity.count(item, window, NOW + 5 * HOUR);
                    assert!(
                        (got - want).abs() <= 1e-6 * want.max(1e-12),
                        "{item} {window:?}: {got} for {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_top_is_that_of_a_full_sort_globally_and_per_segment() {
        let events = events(20_000, 2);
        let popularity = counted(&events);
        let fr: Vec<_> = events.iter().filter(|e| e.3 == "fr").copied().collect();
        for window in Window::ALL {
            let keep = |i: u32| i.is_multiple_of(2);
            let naive_top = |events: &[_]| {
                let mut all: Vec<(u32, f64)> = (0..3500)
                    .step_by(7)
                    .filter(|&i| keep(i))
                    .map(|i| (i, naive(events, i, window, NOW)))
                    .collect();
                all.sort_by(|a, b| b.1.total_cmp(&a.1));
                all.iter().take(20).map(|x| x.0).collect::<Vec<_>>()
            };
            let rows = |top: Vec<(u32, f32)>| top.iter().map(|x| x.0).collect::<Vec<_>>();
            assert_eq!(rows(popularity.top(20, window, NOW, &keep)), naive_top(&events));
            assert_eq!(rows(popularity.top_of_segment("fr", (20, window), NOW, &keep)), naive_top(&fr));
        }
        assert!(popularity.top_of_segment("xx", (20, Window::DAY), NOW, &|_| true).is_empty());
        assert_eq!(popularity.segments(), ["fr", "it"]);
    }

    #[test]
    fn an_action_is_worth_half_after_one_window() {
        let mut popularity = Popularity::new();
        popularity.add(3, NOW, 2.0, None);
        for window in Window::ALL {
            let later = NOW + window.half_life_ms() as i64;
            assert!((popularity.count(3, window, later) - 1.0).abs() < 1e-9);
        }
        assert_eq!(popularity.count(4, Window::DAY, NOW), 0.0);
    }

    #[test]
    fn a_recent_burst_wins_the_day_and_a_long_run_the_month() {
        let mut popularity = Popularity::new();
        (0..60).for_each(|_| popularity.add(1, NOW - HOUR, 1.0, None));
        (0..600).for_each(|d| popularity.add(2, NOW - (d / 20) * 24 * HOUR, 1.0, None));
        assert_eq!(popularity.top(1, Window::DAY, NOW, &|_| true)[0].0, 1);
        assert_eq!(popularity.top(1, Window::MONTH, NOW, &|_| true)[0].0, 2);
    }

    #[test]
    fn weights_that_are_not_positive_numbers_count_for_nothing() {
        let mut popularity = Popularity::new();
        [0.0, -1.0, f32::NAN, f32::INFINITY].iter().for_each(|&w| popularity.add(1, NOW, w, None));
        assert_eq!(popularity.items(), 0);
    }

    #[test]
    fn windows_may_be_chosen_and_one_that_is_not_counted_is_empty() {
        let quarter: Window = "6h".parse().unwrap();
        let events = events(3000, 4);
        let mut popularity = Popularity::with_windows(&[Window::WEEK, quarter, quarter]);
        assert_eq!(popularity.windows(), [quarter, Window::WEEK]);
        events.iter().for_each(|e| popularity.add(e.0, e.1, e.2, Some(e.3)));
        for item in (0..3500).step_by(7) {
            let (got, want) = (popularity.count(item, quarter, NOW), naive(&events, item, quarter, NOW));
            assert!((got - want).abs() <= 1e-6 * want.max(1e-12), "{item}: {got} for {want}");
        }
        assert!(popularity.top(9, Window::DAY, NOW, &|_| true).is_empty());
        assert!(popularity.top_of_segment("fr", (9, Window::DAY), NOW, &|_| true).is_empty());
        assert_eq!(popularity.top_of_segment("fr", (9, quarter), NOW, &|_| true).len(), 9);
        assert_eq!(popularity.count(0, Window::DAY, NOW), 0.0);
        let bytes = popularity.to_bytes().unwrap();
        assert_eq!(Popularity::from_bytes(&bytes).unwrap(), popularity);
    }

    #[test]
    fn spans_are_read_and_written_and_nonsense_is_refused() {
        for text in ["1m", "90m", "1h", "6h", "25h", "1d", "30d"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for text in ["", "d", "0d", "-1d", "1.5h", "7", "7w", "7D", "99999999999d", "4000000000d", "7é"] {
            assert!(text.parse::<Window>().unwrap_err().to_string().contains("7d"), "{text}");
        }
    }

    #[test]
    fn counts_of_the_first_version_are_read() {
        let counts = counted(&events(300, 5));
        let board = |b: &Board| FirstBoard {
            slots: b.slots.clone(),
            rows: b.rows.clone(),
            logs: b.logs.clone().try_into().unwrap(),
        };
        let old = FirstVersion {
            global: board(&counts.global),
            segments: counts.segments.iter().map(|(name, b)| (name.clone(), board(b))).collect(),
        };
        let bytes = envelope::seal(MAGIC, 1, &old).unwrap();
        assert_eq!(Popularity::from_bytes(&bytes).unwrap(), counts);
    }

    #[test]
    fn bytes_come_back_and_damage_is_found() {
        let popularity = counted(&events(300, 3));
        let bytes = popularity.to_bytes().unwrap();
        assert_eq!(Popularity::from_bytes(&bytes).unwrap(), popularity);
        let mut bad = bytes.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        assert!(Popularity::from_bytes(&bad).is_err());
        assert!(Popularity::from_bytes(&bytes[..30]).is_err());
    }
}
