//! Sums of squares and products, from which some quantities are taken out of others.

/// Weighted sums of products of K quantities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments<const K: usize>([[f64; K]; K]);

/// A quantity is a combination of those before it when this share of its square is left.
const NOTHING: f64 = 1e-11;

impl<const K: usize> Moments<K> {
    pub(super) const NONE: Self = Self([[0.0; K]; K]);

    pub(super) fn add(&mut self, x: &[f64; K], weight: f64) {
        for (i, row) in self.0.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate().skip(i) {
                *sum += weight * x[i] * x[j];
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (row, more) in self.0.iter_mut().zip(&other.0) {
            row.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
        }
    }

    /// Those of some quantities.
    pub(super) fn of<const L: usize>(&self, which: [usize; L]) -> Moments<L> {
        Moments(which.map(|i| which.map(|j| self.0[i.min(j)][i.max(j)])))
    }

    /// Squares and products of what a linear fit on the first `known` leaves of the others, upper triangle; and how
    /// many of the known are no combinations of others. What is nothing but rounding is 0.
    pub(super) fn left(mut self, known: usize) -> ([[f64; K]; K], usize) {
        let whole = self.0;
        let mut free = 0;
        for k in 0..known {
            if self.0[k][k] <= NOTHING * whole[k][k] {
                continue;
            }
            free += 1;
            for i in k + 1..K {
                let factor = self.0[k][i] / self.0[k][k];
                for j in i..K {
                    self.0[i][j] -= factor * self.0[k][j];
                }
            }
        }
        for i in known..K {
            if self.0[i][i] <= NOTHING * whole[i][i] {
                (0..K).for_each(|j| self.0[i.min(j)][i.max(j)] = 0.0);
            }
        }
        (self.0, free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_leaves_what_is_beside_it() {
        let mut sums = Moments::<4>::NONE;
        // The third is a line of the second; the fourth one more of noise that sums to nothing with it.
        for (x, noise) in [(1.0, 1.0), (2.0, -1.0), (3.0, -1.0), (4.0, 1.0)] {
            sums.add(&[1.0, x, 2.0 * x - 1.0, 3.0 * x + noise], 2.0);
        }
        let (left, free) = sums.left(2);
        assert_eq!((left[2][2], left[2][3], free), (0.0, 0.0, 2));
        assert!((left[3][3] - 8.0).abs() < 1e-9, "{left:?}");
        let (left, free) = sums.left(3);
        assert_eq!(free, 2);
        assert!((left[3][3] - 8.0).abs() < 1e-9);
        assert!((sums.of([0, 3]).left(1).0[1][1] - (2.0 * 9.0 * 5.0 + 8.0)).abs() < 1e-9);
    }
}
