//! Sequences of different lengths laid out by time step, so that a recurrent layer takes one product per step over the
//! rows that still have an element.

use crate::buffer::Buffer;
use crate::chunks;

/// Rows by falling length, and for each step how many of them have an element there: packed, the elements of step t are
/// the rows `starts[t]..starts[t + 1]`, in that order of rows.
pub(crate) struct Steps {
    /// `[T + 1]`.
    pub(crate) starts: Vec<usize>,
    /// `[elements]`: where each packed element stands in the ragged layout.
    place: Vec<u32>,
}

impl Steps {
    /// The layout of these sequences. O(elements + B log B).
    pub(crate) fn new(offsets: &[u32]) -> Self {
        let len = |b: usize| (offsets[b + 1] - offsets[b]) as usize;
        let mut order: Vec<usize> = (0..offsets.len() - 1).collect();
        order.sort_by_key(|&b| std::cmp::Reverse(len(b)));
        let longest = order.first().map_or(0, |&b| len(b));
        let (mut starts, mut place) = (vec![0], Vec::new());
        let mut active = order.len();
        for t in 0..longest {
            while active > 0 && len(order[active - 1]) <= t {
                active -= 1;
            }
            place.extend(order[..active].iter().map(|&b| offsets[b] + t as u32));
            starts.push(place.len());
        }
        Self { starts, place }
    }

    /// T.
    pub(crate) fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Packed places of step t.
    pub(crate) fn span(&self, t: usize) -> std::ops::Range<usize> {
        self.starts[t]..self.starts[t + 1]
    }

    /// Rows of the first step, the most that any has.
    pub(crate) fn most(&self) -> usize {
        self.starts.get(1).copied().unwrap_or(0)
    }

    /// Where the step before begins: its first rows are those of step `t`.
    pub(crate) fn previous(&self, t: usize) -> Option<usize> {
        t.checked_sub(1).map(|before| self.starts[before])
    }

    /// What each packed element found when it came: the packed `states` `[elements, width]` of the step before, zeros at the
    /// first.
    pub(crate) fn before(&self, states: &[f32], width: usize) -> Buffer {
        let mut out = Buffer::zeros(states.len());
        for t in 1..self.count() {
            let (at, from) = (self.span(t), self.starts[t - 1] * width);
            out[at.start * width..at.end * width].copy_from_slice(&states[from..][..at.len() * width]);
        }
        out
    }

    /// Ragged `[elements, width]` → packed.
    pub(crate) fn pack(&self, ragged: &[f32], width: usize, packed: &mut [f32]) {
        chunks::rows(packed, width, |from, out| {
            for (out, place) in out.chunks_exact_mut(width).zip(&self.place[from..]) {
                out.copy_from_slice(&ragged[*place as usize * width..][..width]);
            }
        });
    }

    /// Packed `[elements, width]` → ragged.
    pub(crate) fn unpack(&self, packed: &[f32], width: usize, ragged: &mut [f32]) {
        for (row, place) in packed.chunks_exact(width).zip(&self.place) {
            ragged[*place as usize * width..][..width].copy_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_packed_by_step_and_come_back() {
        let steps = Steps::new(&[0, 2, 2, 5, 6]);
        // Rows by length: 2 (three), 0 (two), 3 (one), 1 (none).
        assert_eq!(steps.starts, [0, 3, 5, 6]);
        assert_eq!(steps.place, [2, 0, 5, 3, 1, 4]);
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let (mut packed, mut back) = ([0.0; 6], [0.0; 6]);
        steps.pack(&x, 1, &mut packed);
        assert_eq!(packed, [3.0, 1.0, 6.0, 4.0, 2.0, 5.0]);
        steps.unpack(&packed, 1, &mut back);
        assert_eq!(back, x);
        assert_eq!(Steps::new(&[0]).count(), 0);
    }
}
