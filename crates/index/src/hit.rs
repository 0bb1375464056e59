use millstream_schema::ItemRow;

/// An item with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The item.
    pub item: ItemRow,
    /// Its score, higher is better.
    pub score: f32,
}

/// The upper half of the rank of NaN; that of negative infinity is higher.
pub(crate) const NAN: u32 = 1;

/// Score and id as one number: larger is better, equal scores are ordered by smaller id, and NaN,
/// whatever its sign, comes after everything else. `-0` and `0` are the same score.
#[inline]
pub(crate) fn rank(score: f32, id: u32) -> u64 {
    u64::from(ordered(score)) << 32 | u64::from(!id)
}

#[inline]
fn ordered(score: f32) -> u32 {
    if score.is_nan() {
        return NAN; // above 0, so that 0 stands below every rank
    }
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The score in a rank.
#[inline]
pub(crate) fn score_of(rank: u64) -> f32 {
    let ordered = (rank >> 32) as u32;
    match ordered {
        0..=NAN => f32::NAN,
        _ if ordered >> 31 == 1 => f32::from_bits(ordered & !(1 << 31)),
        _ => f32::from_bits(!ordered),
    }
}

/// The id in a rank.
#[inline]
pub(crate) fn id_of(rank: u64) -> u32 {
    !(rank as u32)
}

pub(crate) fn hit_of(rank: u64) -> Hit {
    Hit { item: id_of(rank), score: score_of(rank) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_scores_then_ids_and_give_both_back() {
        let best_first = [
            (f32::INFINITY, 3),
            (2.0, 1),
            (1.0, 1),
            (1.0, 2),
            (0.0, 5),
            (-0.0, 6),
            (-1.0, 0),
            (f32::NEG_INFINITY, 0),
            (f32::NAN, 1),
            (-f32::NAN, 2),
        ];
        let ranks: Vec<u64> = best_first.iter().map(|&(score, id)| rank(score, id)).collect();
        assert!(ranks.is_sorted_by(|a, b| a > b));
        for (&(score, id), &rank) in best_first.iter().zip(&ranks) {
            assert_eq!(id_of(rank), id);
            assert!(score_of(rank) == score || (score.is_nan() && score_of(rank).is_nan()));
        }
    }
}
