//! How well one column alone tells the label, honestly: rows are judged by what the other half of the rows says.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a column tells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Skill {
    /// AUC of the predictions, in [0, 1]; 0.5 where there is one class only.
    pub auc: f64,
    /// Share of the label's entropy that they explain: 1 is all, 0 nothing, below 0 worse than nothing.
    pub explained: f64,
}

/// Weight of the mean label against a value's own labels.
const PRIOR: f64 = 2.0;

/// Which half a row is in.
pub(super) fn half(row: usize) -> usize {
    (xxh3_64_with_seed(&(row as u64).to_le_bytes(), 0x5EED) & 1) as usize
}

/// Rows and positives by value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) rows: f64,
    pub(super) positives: f64,
}

impl Tally {
    pub(super) fn add(&mut self, positive: bool) {
        self.rows += 1.0;
        self.positives += f64::from(u8::from(positive));
    }

    /// Mean label, drawn to `rate`.
    pub(super) fn mean(&self, rate: f64) -> f64 {
        (self.positives + PRIOR * rate) / (self.rows + PRIOR)
    }
}

/// By half, by value.
pub(super) fn tallies(codes: &[u32], distinct: u32, label: &[bool]) -> [Vec<Tally>; 2] {
    let mut out =
        [vec![Tally::default(); distinct as usize + 1], vec![Tally::default(); distinct as usize + 1]];
    for (row, (&code, &y)) in codes.iter().zip(label).enumerate() {
        out[half(row)][code as usize].add(y);
    }
    out
}

/// What a column of codes 0 to `distinct` tells about the label, both `[N]`. Each half of the rows is predicted by the
/// smoothed mean labels of the other half's values, so that a value's own label never helps.
pub fn skill(codes: &[u32], distinct: u32, label: &[bool]) -> Skill {
    let halves = tallies(codes, distinct, label);
    let rate = |half: &[Tally]| {
        let all = half.iter().fold((0.0, 0.0), |a, t| (a.0 + t.rows, a.1 + t.positives));
        if all.0 > 0.0 { all.1 / all.0 } else { 0.5 }
    };
    let rates = [rate(&halves[0]), rate(&halves[1])];
    let mut judged: Vec<(f64, Tally)> = Vec::new();
    for h in 0..2 {
        let others = &halves[1 - h];
        let some = halves[h].iter().zip(others).filter(|(t, _)| t.rows > 0.0);
        judged.extend(some.map(|(t, other)| (other.mean(rates[1 - h]), *t)));
    }
    summed(&mut judged)
}

/// AUC and share of entropy of predictions, each with the rows that got it.
pub(super) fn summed(judged: &mut [(f64, Tally)]) -> Skill {
    judged.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut won, mut loss, mut below, mut all) = (0.0, 0.0, 0.0, Tally::default());
    for tied in judged.chunk_by(|a, b| a.0 == b.0) {
        let (rows, positives) = tied.iter().fold((0.0, 0.0), |a, t| (a.0 + t.1.rows, a.1 + t.1.positives));
        let negatives = rows - positives;
        won += positives * (below + 0.5 * negatives);
        below += negatives;
        let p = tied[0].0.clamp(1e-6, 1.0 - 1e-6);
        loss -= positives * p.ln() + negatives * (1.0 - p).ln();
        all = Tally { rows: all.rows + rows, positives: all.positives + positives };
    }
    let (positives, negatives) = (all.positives, all.rows - all.positives);
    if positives == 0.0 || negatives == 0.0 {
        return Skill { auc: 0.5, explained: 0.0 };
    }
    let rate = positives / all.rows;
    let entropy = -(positives * rate.ln() + negatives * (1.0 - rate).ln());
    Skill { auc: won / (positives * negatives), explained: 1.0 - loss / entropy }
}

/// Pearson correlation; `None` where one does not vary.
pub(super) fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let mean = pairs.iter().fold((0.0, 0.0), |a, p| (a.0 + p.0 / n, a.1 + p.1 / n));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (x - mean.0, y - mean.1);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_explains_everything_and_unique_values_nothing() {
        let label: Vec<bool> = (0..2000).map(|i| i * 7 % 10 < 3).collect();
        let copy: Vec<u32> = label.iter().map(|&y| 1 + u32::from(!y)).collect();
        let found = skill(&copy, 2, &label);
        assert!(found.auc == 1.0 && found.explained > 0.99, "{found:?}");
        let unique: Vec<u32> = (1..=2000).collect();
        let found = skill(&unique, 2000, &label);
        assert!(found.auc < 0.55 && found.explained.abs() < 0.02, "{found:?}");
    }

    #[test]
    fn correlation_of_a_line_is_one() {
        assert!((correlation(&[(1.0, 2.0), (2.0, 4.0), (4.0, 8.0)]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(correlation(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
