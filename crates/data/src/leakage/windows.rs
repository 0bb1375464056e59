//! Numbers that count labels of an id's rows about a row, its own or later ones among them: clicks from now on, clicks so
//! far with this one, clicks of the next day.

use super::moments::Moments;
use super::predict::correlation;
use super::sequence::Sequence;
use super::{Finding, Leak};
use crate::sample::SampleColumn;

/// Ids, were all of one size; rows; positives, at least.
const IDS: f64 = 30.0;
const ROWS: f64 = 300.0;
const POSITIVES: f64 = super::FEWEST as f64;
/// Ids in each bin of the number, and bins.
const IDS_PER_BIN: f64 = 25.0;
const BINS: usize = 32;
/// Correlation of the number's steps with the labels before windows are tried, and what one direction has before the
/// other: what merely tells the label does so on both sides.
const STEP: f64 = 0.1;
const STEP_ERRORS: f64 = 5.0;
/// AUC of a number alone from which windows are tried although both directions are alike.
const STRONG: f64 = 0.8;
/// Correlation of the label with the window's others among rows of equal value, in standard errors too, and how far below
/// that among all rows.
const AGAINST: f64 = -0.35;
const ERRORS: f64 = 10.0;
const BELOW: f64 = 0.4;
/// Share of the label's variance below which it is settled.
const SETTLED: f64 = 1e-3;
/// A width is made better where it has this correlation.
const PROMISING: f64 = -0.2;
/// Widths in rows, and in milliseconds where there are times: what people choose, and others between.
const HOUR: i64 = 3_600_000;
const USUAL_ROWS: [i64; 6] = [5, 10, 20, 50, 100, 200];
const USUAL_HOURS: [i64; 13] = [1, 2, 3, 6, 12, 24, 48, 3 * 24, 7 * 24, 14 * 24, 28 * 24, 30 * 24, 90 * 24];

/// Which labels of an id a number may count.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Counts {
    OwnAndLater,
    OwnAndEarlier,
    Later,
}

/// A number at the places of a sequence.
struct Observed<'a> {
    sequence: &'a Sequence,
    /// `[P]` with mean 0 and deviation 1, NaN where missing.
    numbers: Vec<f64>,
    /// `[P]`.
    bins: Vec<u8>,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    counts: Counts,
    /// In rows, or in milliseconds.
    width: i64,
    timed: bool,
    rows: f64,
    /// Correlation among rows of equal value, and among all.
    equal: f64,
    all: f64,
}

/// Whether a number counts labels that were not known before its row.
///
/// Let y be a row's label and S the positives of the other rows in a window of the same id. Both rise with what the id is
/// like; a number that knew nothing of either leaves them unrelated or, where it knew little, rising together. Among rows
/// of equal y + S they replace each other: where one is higher, the other is lower. So a number of whose value the same
/// is true counts both. For a number of the past this cannot be with a window that holds the row itself or later ones.
pub(super) fn check(sequence: &Sequence, id: &str, number: &SampleColumn, alone: f64) -> Option<Finding> {
    if sequence.even_ids() < IDS {
        return None;
    }
    let (falls, rises) = steps(sequence, number)?;
    if (falls.abs() - rises.abs()).abs() < STEP && alone < STRONG {
        return None;
    }
    let mut of = Vec::new();
    if falls.abs() >= STEP {
        of.push(Counts::OwnAndLater);
    }
    if rises.abs() >= STEP {
        of.extend([Counts::OwnAndEarlier, Counts::Later]);
    }
    if of.is_empty() {
        return None;
    }
    let observed = Observed::new(sequence, number)?;
    let best = of.into_iter().filter_map(|counts| observed.best(counts));
    let best = best.min_by(|a, b| a.equal.total_cmp(&b.equal))?;
    let clear = best.equal <= AGAINST && best.equal * best.rows.sqrt() <= -ERRORS;
    (clear && best.equal <= best.all - BELOW).then(|| best.finding(id, &number.name))
}

/// Correlation of a row's label with the number's fall to the next row of the id, and with its rise from the row before.
fn steps(sequence: &Sequence, number: &SampleColumn) -> Option<(f64, f64)> {
    let (mut falls, mut rises) = (Vec::new(), Vec::new());
    for id in sequence.ids() {
        for place in id.start + 1..id.end {
            let [before, after] = [place - 1, place].map(|p| number.numbers[sequence.rows[p] as usize]);
            if before.is_nan() || after.is_nan() {
                continue;
            }
            let step = f64::from(i8::from(after > before) - i8::from(after < before));
            falls.push((-step, sequence.label(place - 1)));
            rises.push((step, sequence.label(place)));
        }
    }
    let chance = STEP_ERRORS / (falls.len().max(1) as f64).sqrt();
    let clear = |r: f64| if r.abs() < chance { 0.0 } else { r };
    Some((clear(correlation(&falls)?), clear(correlation(&rises)?)))
}

impl<'a> Observed<'a> {
    fn new(sequence: &'a Sequence, number: &SampleColumn) -> Option<Self> {
        let values: Vec<f64> = sequence.rows.iter().map(|&row| number.numbers[row as usize]).collect();
        let column = SampleColumn { numbers: values, ..SampleColumn::default() };
        let edges = column.edges(((sequence.even_ids() / IDS_PER_BIN) as usize).clamp(1, BINS));
        let mut values = column.numbers;
        let bins = values.iter().map(|x| edges.partition_point(|e| e <= x) as u8).collect();
        let known = values.iter().filter(|x| !x.is_nan());
        let (n, sum) = known.clone().fold((0.0, 0.0), |s, x| (s.0 + 1.0, s.1 + x));
        let mean = sum / f64::max(n, 1.0);
        let deviation = (known.map(|x| (x - mean).powi(2)).sum::<f64>() / f64::max(n, 1.0)).sqrt();
        if deviation.is_nan() || deviation <= 0.0 {
            return None;
        }
        values.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
        Some(Self { sequence, numbers: values, bins, count: edges.len() + 1 })
    }

    /// The window with the lowest correlation.
    fn best(&self, counts: Counts) -> Option<Tried> {
        let places: Vec<i64> = (0..self.sequence.rows.len() as i64).collect();
        let mut best: Option<Tried> = None;
        for timed in [false, true] {
            let keys = if timed { &self.sequence.times } else { &places };
            let widths = self.widths(timed);
            let tried = widths.iter().filter_map(|&width| self.tried(counts, keys, width, timed));
            let Some(mut here) = tried.min_by(|a, b| a.equal.total_cmp(&b.equal)) else { continue };
            if here.equal < PROMISING && here.width != i64::MAX {
                here = self.better(here, keys);
            }
            if best.is_none_or(|b| here.equal < b.equal) {
                best = Some(here);
            }
        }
        best
    }

    /// Widths about a tried one, closer and closer.
    fn better(&self, mut best: Tried, keys: &[i64]) -> Tried {
        let mut factor: f64 = 1.25;
        for _ in 0..6 {
            let widths = [factor, 1.0 / factor].map(|f| (best.width as f64 * f).round() as i64);
            let tried = widths.into_iter().filter_map(|w| self.tried(best.counts, keys, w, best.timed));
            best = tried.fold(best, |best, t| if t.equal < best.equal { t } else { best });
            factor = factor.sqrt();
        }
        best
    }

    /// Widths to try: all there is, the usual ones, and others in steps of a half.
    fn widths(&self, timed: bool) -> Vec<i64> {
        let sequence = self.sequence;
        let (mut least, mut most) = (2, sequence.ids().map(|id| id.len()).max().unwrap_or(0) as i64);
        let mut usual: Vec<i64> = USUAL_ROWS.to_vec();
        if timed {
            if sequence.times.is_empty() {
                return Vec::new();
            }
            let spans = sequence.ids().map(|id| sequence.times[id.end - 1] - sequence.times[id.start]);
            most = spans.max().unwrap_or(0);
            let gaps = sequence.ids().flat_map(|id| sequence.times[id].windows(2).map(|w| w[1] - w[0]));
            let mut gaps: Vec<i64> = gaps.filter(|g| *g > 0).collect();
            gaps.sort_unstable();
            least = gaps.get(gaps.len() / 20).copied().unwrap_or(1).max(1);
            usual = USUAL_HOURS.map(|hours| hours * HOUR).to_vec();
        }
        let mut widths: Vec<i64> = usual.into_iter().filter(|w| (least..=most).contains(w)).collect();
        let mut width = least as f64;
        while (width as i64) < most && widths.len() < 60 {
            widths.push(width as i64);
            width = f64::max(width * 1.5, width + 1.0);
        }
        widths.push(i64::MAX);
        widths.sort_unstable();
        widths.dedup();
        widths
    }

    /// One window; `None` where too little is in it.
    fn tried(&self, counts: Counts, keys: &[i64], width: i64, timed: bool) -> Option<Tried> {
        let sequence = self.sequence;
        let mut bins = vec![Moments::<6>::NONE; self.count];
        let (mut rows, mut positives) = (0.0, 0.0);
        for id in sequence.ids() {
            let (mut from, mut to) = (id.start, id.start);
            for place in id.clone() {
                let now = keys[place];
                let (first, end) = match counts {
                    Counts::OwnAndLater => (now, now.saturating_add(width)),
                    Counts::OwnAndEarlier => (now.saturating_sub(width).saturating_add(1), now + 1),
                    Counts::Later => (now + 1, now.saturating_add(width)),
                };
                while from < id.end && keys[from] < first {
                    from += 1;
                }
                while to < id.end && keys[to] < end {
                    to += 1;
                }
                let target = if counts == Counts::Later { from } else { place };
                let f = self.numbers[place];
                if to < from + 2 || f.is_nan() {
                    continue;
                }
                let y = sequence.label(target);
                let others = (to - from - 1) as f64;
                let sum = sequence.count(from, to) - y;
                bins[self.bins[place] as usize].add(&[1.0, others, f, f * others, y, sum], 1.0);
                rows += 1.0;
                positives += y;
            }
        }
        if rows < ROWS || positives < POSITIVES || rows - positives < POSITIVES {
            return None;
        }
        let mut whole = Moments::NONE;
        bins.iter().for_each(|bin| whole.merge(bin));
        let (all, _) = whole.of([0, 1, 4, 5]).left(2);
        let mut sums = (0.0, 0.0, 0.0);
        for bin in &bins {
            let (left, _) = bin.left(4);
            sums = (sums.0 + left[4][4], sums.1 + left[5][5], sums.2 + left[4][5]);
        }
        // A label that the number settles by itself says nothing.
        if sums.0 < SETTLED * all[2][2] {
            return None;
        }
        let correlation = |yy: f64, ss: f64, ys: f64| if yy * ss > 0.0 { ys / (yy * ss).sqrt() } else { 0.0 };
        Some(Tried {
            counts,
            width,
            timed,
            rows,
            equal: correlation(sums.0, sums.1, sums.2),
            all: correlation(all[2][2], all[3][3], all[2][3]),
        })
    }
}

impl Tried {
    fn finding(&self, id: &str, name: &str) -> Finding {
        let window = match (self.width, self.timed) {
            (i64::MAX, _) => "all".to_owned(),
            (rows, false) => format!("{} rows", rows - 1),
            (ms, true) => format!("about {}", span(ms)),
        };
        let (kind, rest) = match self.counts {
            Counts::OwnAndLater | Counts::Later => (Leak::Future, "after it"),
            Counts::OwnAndEarlier => (Leak::OwnLabel, "before it"),
        };
        let (row, what) = match self.counts {
            Counts::Later => ("the next row", "labels from after the row's time"),
            Counts::OwnAndLater => ("a row", "the row's own label and later ones"),
            Counts::OwnAndEarlier => ("a row", "the row's own label with those before it"),
        };
        Finding {
            kind,
            column: Some(name.to_owned()),
            figure: -self.equal,
            reason: format!(
                "where it has equal values, {row} of a `{id}` is the more often positive the fewer of the others {rest} \
                 are ({window}; correlation {:.2}, over all values {:.2}): it counts {what}",
                self.equal, self.all
            ),
            advice: match self.counts {
                Counts::OwnAndEarlier => super::own::ADVICE.into(),
                _ => {
                    "at the time of the request these labels are not known: count from before the row's time"
                        .into()
                }
            },
        }
    }
}

fn span(ms: i64) -> String {
    let units = [(24 * HOUR, "days"), (HOUR, "hours"), (60_000, "minutes"), (1000, "seconds")];
    let unit = units.iter().find(|(unit, _)| ms >= 2 * unit).copied().unwrap_or((1, "ms"));
    format!("{:.1} {}", ms as f64 / unit.0 as f64, unit.1)
}
