//! The rows of each id in their order.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::sample::{Sample, SampleColumn};

/// Rows of whole ids that are looked at, about.
const MOST: usize = 60_000;
/// Positives of an id keep apart when neighbours are both positive by this share of the label's variance less often
/// than any two rows of the id are, and by so many standard errors.
const APART: f64 = 0.05;
const APART_ERRORS: f64 = 4.0;

/// Rows of ids that have two at least, id by id, each id's in order of time (of the file where there are no times).
/// A place is a position in this list, P places in all.
pub(super) struct Sequence {
    /// `[P]`: rows of the sample.
    pub(super) rows: Vec<u32>,
    /// First place of each id, and the end.
    pub(super) starts: Vec<usize>,
    /// `[P + 1]`: positives before each place.
    pub(super) positives: Vec<u32>,
    /// `[P]`: times, or empty.
    pub(super) times: Vec<i64>,
}

/// Rows in order of time, or of the file.
pub(super) fn order(sample: &Sample) -> Vec<u32> {
    let mut order: Vec<u32> = (0..sample.rows() as u32).collect();
    if !sample.time_ms.is_empty() {
        order.sort_by_key(|&row| sample.time_ms[row as usize]);
    }
    order
}

impl Sequence {
    /// Of as many whole ids as hold about 60,000 rows, drawn by hash.
    pub(super) fn of(sample: &Sample, id: &SampleColumn, order: &[u32]) -> Self {
        let share = (MOST as f64 / sample.rows().max(1) as f64).min(1.0);
        let mut next = vec![0u32; id.distinct as usize + 1];
        id.codes.iter().for_each(|&c| next[c as usize] += 1);
        let (mut starts, mut end) = (Vec::new(), 0);
        for (code, next) in next.iter_mut().enumerate() {
            let hash = xxh3_64_with_seed(&(code as u32).to_le_bytes(), 0x1D5);
            let rows = std::mem::replace(next, u32::MAX);
            if code > 0 && rows > 1 && (hash as f64) <= share * u64::MAX as f64 {
                starts.push(end as usize);
                *next = end;
                end += rows;
            }
        }
        starts.push(end as usize);
        let mut rows = vec![0u32; end as usize];
        for &row in order {
            let next = &mut next[id.codes[row as usize] as usize];
            if *next != u32::MAX {
                rows[*next as usize] = row;
                *next += 1;
            }
        }
        let mut positives = vec![0u32];
        positives.extend(rows.iter().scan(0, |sum, &row| {
            *sum += u32::from(sample.label[row as usize]);
            Some(*sum)
        }));
        let times = match sample.time_ms.is_empty() {
            true => Vec::new(),
            false => rows.iter().map(|&row| sample.time_ms[row as usize]).collect(),
        };
        Self { rows, starts, positives, times }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.starts.windows(2).map(|w| w[0]..w[1])
    }

    /// Ids if all had as many rows: an id with most of the rows leaves little of the others.
    pub(super) fn even_ids(&self) -> f64 {
        let squares: f64 = self.ids().map(|id| (id.len() as f64).powi(2)).sum();
        (self.rows.len() as f64).powi(2) / squares.max(1.0)
    }

    /// 1 for a positive, else 0.
    pub(super) fn label(&self, place: usize) -> f64 {
        f64::from(self.positives[place + 1] - self.positives[place])
    }

    /// Positives in places `from` to `to`, exclusive.
    pub(super) fn count(&self, from: usize, to: usize) -> f64 {
        f64::from(self.positives[to] - self.positives[from])
    }

    /// Whether positives of an id keep apart, as in samples of so many negatives to a positive, or where who buys today
    /// does not buy tomorrow: then labels tell of each other by themselves.
    pub(super) fn positives_keep_apart(&self) -> bool {
        let (mut sum, mut squares, mut neighbours) = (0.0, 0.0, 0.0);
        for id in self.ids().filter(|id| id.len() > 2) {
            let (rows, positive) = (id.len() as f64, self.count(id.start, id.end));
            let both: f64 = (id.start + 1..id.end).map(|p| self.label(p - 1) * self.label(p)).sum();
            let excess = both - positive * (positive - 1.0) / rows;
            sum += excess;
            squares += excess * excess;
            neighbours += rows - 1.0;
        }
        let all = self.rows.len().max(1) as f64;
        let rate = self.count(0, self.rows.len()) / all;
        -sum > APART * rate * (1.0 - rate) * neighbours && -sum > APART_ERRORS * squares.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(label: Vec<bool>, codes: Vec<u32>) -> Sample {
        let distinct = codes.iter().copied().max().unwrap_or(0);
        let columns = vec![SampleColumn { codes, distinct, ..SampleColumn::default() }];
        Sample { label, columns, ..Sample::default() }
    }

    #[test]
    fn rows_stand_by_id_and_time() {
        let mut sample = sample(vec![true, false, true, true, true], vec![2, 1, 2, 0, 1]);
        sample.time_ms = vec![9, 8, 7, 6, 5];
        let found = Sequence::of(&sample, &sample.columns[0], &order(&sample));
        assert_eq!((found.rows.as_slice(), found.starts.as_slice()), (&[4, 1, 2, 0][..], &[0, 2, 4][..]));
        assert_eq!((found.positives, found.times), (vec![0, 1, 1, 2, 3], vec![5, 8, 7, 9]));
    }

    #[test]
    fn negatives_between_positives_keep_them_apart_and_chance_does_not() {
        let hash = |i: u32| xxh3_64_with_seed(&i.to_le_bytes(), 3);
        let ids: Vec<u32> = (0..6000).map(|i| 1 + i / 20).collect();
        let of = |label: Vec<bool>| {
            let sample = sample(label, ids.clone());
            Sequence::of(&sample, &sample.columns[0], &order(&sample)).positives_keep_apart()
        };
        assert!(of((0..6000).map(|i| i % 5 == 2).collect()));
        assert!(!of((0..6000).map(|i| hash(i).is_multiple_of(5)).collect()));
        assert!(!of((0..6000).map(|i| hash(i) % 5 <= u64::from(i / 20 % 3)).collect()));
    }
}
