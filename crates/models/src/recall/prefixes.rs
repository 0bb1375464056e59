//! The beginnings of sequences, for models that read each of them by itself: what is a session's graph or main intent
//! after three clicks is another after four.

use millstream_nn::Bags;

/// Q beginnings of the sequences of a batch, each the elements up to some element, at most the latest `longest` of them.
///
/// To learn from every element of a sequence of L each of its L beginnings is read: min(L, longest) · L / 2 elements or so.
pub(crate) struct Prefixes {
    /// `[Q + 1]`.
    pub(crate) offsets: Vec<u32>,
    /// The row of each element.
    pub(crate) rows: Vec<u32>,
}

impl Prefixes {
    /// Up to every element: as many as there are elements, in their order.
    pub(crate) fn every(bags: &Bags, longest: usize) -> Self {
        Self::of(bags, longest, |end| 1..=end)
    }

    /// Up to the last element: one for each sequence, of which an empty one's is empty.
    pub(crate) fn last(bags: &Bags, longest: usize) -> Self {
        Self::of(bags, longest, |end| end..=end)
    }

    fn of(bags: &Bags, longest: usize, ends: impl Fn(usize) -> std::ops::RangeInclusive<usize>) -> Self {
        let (mut offsets, mut rows) = (vec![0], Vec::new());
        for b in 0..bags.len() {
            let sequence = &bags.index()[bags.range(b)];
            for end in ends(sequence.len()) {
                rows.extend_from_slice(&sequence[end.saturating_sub(longest)..end]);
                offsets.push(rows.len() as u32);
            }
        }
        Self { offsets, rows }
    }

    /// The rows that occur, in order, and each element's place among them; of `rows` rows in all.
    pub(crate) fn used(&self, rows: usize) -> (Vec<u32>, Vec<u32>) {
        let mut place = vec![u32::MAX; rows];
        self.rows.iter().for_each(|row| place[*row as usize] = 0);
        let used: Vec<u32> = (0..rows as u32).filter(|row| place[*row as usize] == 0).collect();
        used.iter().zip(0..).for_each(|(row, at)| place[*row as usize] = at);
        (used, self.rows.iter().map(|row| place[*row as usize]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_nn::Pooling;

    #[test]
    fn every_beginning_is_read_up_to_its_latest_elements() {
        let bags = Bags::new(vec![0, 3, 3, 5], vec![7, 2, 7, 4, 9], None, Pooling::Sum).unwrap();
        let every = Prefixes::every(&bags, 2);
        assert_eq!(every.offsets, [0, 1, 3, 5, 6, 8]);
        assert_eq!(every.rows, [7, 7, 2, 2, 7, 4, 4, 9]);
        assert_eq!(every.used(10), (vec![2, 4, 7, 9], vec![2, 2, 0, 0, 2, 1, 1, 3]));
        let last = Prefixes::last(&bags, 50);
        assert_eq!((last.offsets, last.rows), (vec![0, 3, 3, 5], vec![7, 2, 7, 4, 9]));
    }
}
