//! Random numbers of the kernels that draw billions of them: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).

/// A stream of numbers; the same seed gives the same stream everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Draws(u64);

impl Draws {
    /// The stream of a seed and of a place in it, such as an epoch and a block.
    pub(crate) fn new(seed: u64, place: u64) -> Self {
        let mut draws = Self(seed ^ place.wrapping_mul(0xD1B5_4A32_D192_ED03));
        draws.next();
        draws
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n` > 0; its bias is below n / 2³².
    #[inline(always)]
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    /// In [0, 1).
    #[inline(always)]
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// About normal, of mean 0 and variance 1 (Irwin and Hall's sum of twelve).
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

/// Draws places by weight in O(1) (Walker 1977; Vose 1991).
#[derive(Debug, Clone)]
pub(crate) struct Alias {
    /// (chance to stay, where to go otherwise).
    slots: Vec<(f32, u32)>,
}

impl Alias {
    /// Weights of 0 or more, at least one above 0.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let scale = weights.len() as f64 / weights.iter().sum::<f64>();
        let mut share: Vec<f64> = weights.iter().map(|w| w * scale).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..share.len()).partition(|&i| share[i] < 1.0);
        let mut slots = vec![(1.0f32, 0u32); share.len()];
        while let (Some(s), Some(&l)) = (small.pop(), large.last()) {
            slots[s] = (share[s] as f32, l as u32);
            share[l] -= 1.0 - share[s];
            if share[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Self { slots }
    }

    #[inline(always)]
    pub(crate) fn draw(&self, draws: &mut Draws) -> u32 {
        Self::draw_from(&self.slots, draws)
    }

    /// The slots, for many small tables end to end.
    pub(crate) fn into_slots(self) -> Vec<(f32, u32)> {
        self.slots
    }

    /// A place among those of a table whose slots these are.
    #[inline(always)]
    pub(crate) fn draw_from(slots: &[(f32, u32)], draws: &mut Draws) -> u32 {
        let at = draws.below(slots.len());
        let (stay, other) = slots[at];
        if draws.unit() < stay { at as u32 } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_drawn_by_weight() {
        let weights = [0.0, 1.0, 2.0, 5.0, 0.5];
        let (alias, mut draws) = (Alias::new(&weights), Draws::new(1, 2));
        let mut counts = [0u32; 5];
        (0..85_000).for_each(|_| counts[alias.draw(&mut draws) as usize] += 1);
        for (count, weight) in counts.iter().zip(weights) {
            assert!((f64::from(*count) - weight * 10_000.0).abs() < 450.0, "{counts:?}");
        }
        assert_eq!(counts[0], 0);
    }

    #[test]
    fn draws_are_even_and_repeatable() {
        let mut draws = Draws::new(7, 0);
        let normal: Vec<f32> = (0..20_000).map(|_| draws.normal()).collect();
        let mean = normal.iter().sum::<f32>() / 2e4;
        let variance = normal.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / 2e4;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert_eq!(Draws::new(7, 0).next(), Draws::new(7, 0).next());
        assert_ne!(Draws::new(7, 0).next(), Draws::new(7, 1).next());
        let mut list: Vec<u32> = (0..100).collect();
        draws.shuffle(&mut list);
        assert!(!list.is_sorted());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<u32>>());
    }
}
