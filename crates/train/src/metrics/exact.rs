//! Sums that do not depend on the order of their terms.

/// A sum of numbers in [0, 1] as a whole number of 2⁻⁶⁰: adding is exact, so that partial sums of threads may be
/// merged in any order with the same result. Each term is rounded by at most 2⁻⁶¹; 2⁶⁸ terms fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct UnitSum(u128);

const ONE: f64 = (1u64 << 60) as f64;

impl UnitSum {
    /// Adds a number in [0, 1]; others are brought there.
    pub(super) fn add(&mut self, x: f64) {
        self.0 += (x.clamp(0.0, 1.0) * ONE).round() as u128;
    }

    /// Adds another sum.
    pub(super) fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }

    /// The sum divided by `n`, which is not 0.
    pub(super) fn mean(self, n: u64) -> f64 {
        let n = u128::from(n);
        // Whole and rest apart: the first may need more than 53 bits.
        ((self.0 / n) as f64 + (self.0 % n) as f64 / n as f64) / ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_merging_does_not_matter() {
        let terms: Vec<f64> = (1..1000).map(|i| 1.0 / f64::from(i)).collect();
        let sum = |terms: &mut dyn Iterator<Item = &f64>| {
            let mut sum = UnitSum::default();
            terms.for_each(|&x| sum.add(x));
            sum
        };
        let mut halves = sum(&mut terms[500..].iter());
        halves.merge(sum(&mut terms[..500].iter().rev()));
        let whole = sum(&mut terms.iter());
        assert_eq!(whole, halves);
        assert!((whole.mean(999) - terms.iter().sum::<f64>() / 999.0).abs() < 1e-15);
    }
}
