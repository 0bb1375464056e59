//! What is hot: exponentially decayed counts over 1, 7 and 30 days, global and per segment.
//!
//! An action of weight v at time t counts v · 2^−(now − t)/h at `now`, h being the window's half-life. Kept is
//! the logarithm L = log₂ Σ v_i · 2^(t_i / h), which does not depend on `now`: an event costs O(1), may
//! come late, and nothing is ever rewritten as time goes by. The count at `now` is 2^(L − now / h).

use millstream_schema::ItemRow;
use rapidhash::RapidHashMap;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::top::top;

const MAGIC: &[u8; 8] = b"MSPOPULR";
const VERSION: u32 = 1;
const DAY_MS: f64 = 86_400_000.0;

/// A half-life of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    /// One day.
    #[serde(rename = "1d")]
    Day,
    /// Seven days.
    #[serde(rename = "7d")]
    Week,
    /// Thirty days.
    #[serde(rename = "30d")]
    Month,
}

impl Window {
    /// All windows, shortest first.
    pub const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// Half-life in milliseconds.
    pub fn half_life_ms(self) -> f64 {
        DAY_MS
            * match self {
                Self::Day => 1.0,
                Self::Week => 7.0,
                Self::Month => 30.0,
            }
    }

    fn place(self) -> usize {
        self as usize
    }
}

/// Decayed counts of all items, and of each segment's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Popularity {
    global: Board,
    segments: RapidHashMap<Box<str>, Board>,
}

/// Decayed counts of the items that were ever acted on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Board {
    slots: RapidHashMap<ItemRow, u32>,
    rows: Vec<ItemRow>,
    /// Per window, one logarithm per slot.
    logs: [Vec<f64>; 3],
}

impl Popularity {
    /// Nothing counted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one action of a positive weight; O(1), in any order of time. A weight that is not a positive
    /// number counts for nothing.
    pub fn add(&mut self, item: ItemRow, time_ms: i64, weight: f32, segment: Option<&str>) {
        if !(weight.is_finite() && weight > 0.0) {
            return;
        }
        let log = f64::from(weight).log2();
        self.global.add(item, time_ms, log);
        if let Some(name) = segment {
            if !self.segments.contains_key(name) {
                self.segments.insert(name.into(), Board::default());
            }
            if let Some(board) = self.segments.get_mut(name) {
                board.add(item, time_ms, log);
            }
        }
    }

    /// The item's decayed count at `now_ms`, over all segments.
    pub fn count(&self, item: ItemRow, window: Window, now_ms: i64) -> f64 {
        self.global.count(item, window, now_ms)
    }

    /// The `k` hottest items that `keep` lets through with their counts at `now_ms`, hottest first, ties by
    /// row. O(items ever acted on).
    pub fn top(
        &self,
        k: usize,
        window: Window,
        now_ms: i64,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        self.global.top(k, window, now_ms, keep)
    }

    /// As [`Popularity::top`], among the actions of one segment; empty for a segment never met.
    pub fn top_of_segment(
        &self,
        segment: &str,
        (k, window): (usize, Window),
        now_ms: i64,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        self.segments.get(segment).map_or_else(Vec::new, |board| board.top(k, window, now_ms, keep))
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
        crate::recall::envelope::seal(MAGIC, VERSION, self)
    }

    /// The reverse of [`Popularity::to_bytes`]; every inner length and slot is checked.
    ///
    /// # Errors
    /// The bytes are not such counts, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = crate::recall::envelope::open(MAGIC, VERSION, "a table of popularity", bytes)?;
        if std::iter::once(&read.global).chain(read.segments.values()).all(Board::sound) {
            return Ok(read);
        }
        Err(Error::Corrupt("a table of popularity does not hold together".into()))
    }
}

impl Board {
    fn add(&mut self, item: ItemRow, time_ms: i64, log_weight: f64) {
        let slot = *self.slots.entry(item).or_insert_with(|| {
            self.rows.push(item);
            self.logs.iter_mut().for_each(|l| l.push(f64::NEG_INFINITY));
            self.rows.len() as u32 - 1
        }) as usize;
        for window in Window::ALL {
            let log = &mut self.logs[window.place()][slot];
            *log = add_logs(*log, log_weight + time_ms as f64 / window.half_life_ms());
        }
    }

    fn count(&self, item: ItemRow, window: Window, now_ms: i64) -> f64 {
        self.slots.get(&item).map_or(0.0, |&slot| {
            (self.logs[window.place()][slot as usize] - now_ms as f64 / window.half_life_ms()).exp2()
        })
    }

    fn top(
        &self,
        k: usize,
        window: Window,
        now_ms: i64,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<(ItemRow, f32)> {
        let logs = &self.logs[window.place()];
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

    fn sound(&self) -> bool {
        let n = self.rows.len();
        self.slots.len() == n
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
        assert!(popularity.top_of_segment("xx", (20, Window::Day), NOW, &|_| true).is_empty());
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
        assert_eq!(popularity.count(4, Window::Day, NOW), 0.0);
    }

    #[test]
    fn a_recent_burst_wins_the_day_and_a_long_run_the_month() {
        let mut popularity = Popularity::new();
        (0..60).for_each(|_| popularity.add(1, NOW - HOUR, 1.0, None));
        (0..600).for_each(|d| popularity.add(2, NOW - (d / 20) * 24 * HOUR, 1.0, None));
        assert_eq!(popularity.top(1, Window::Day, NOW, &|_| true)[0].0, 1);
        assert_eq!(popularity.top(1, Window::Month, NOW, &|_| true)[0].0, 2);
    }

    #[test]
    fn weights_that_are_not_positive_numbers_count_for_nothing() {
        let mut popularity = Popularity::new();
        [0.0, -1.0, f32::NAN, f32::INFINITY].iter().for_each(|&w| popularity.add(1, NOW, w, None));
        assert_eq!(popularity.items(), 0);
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
