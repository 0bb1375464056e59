//! Which elements dropout keeps.

use crate::chunks::wide;
use crate::pass::Pass;

/// Inverted dropout of one operation: an element's fate is a function of the operation's seed and its place alone, so that
/// nothing needs to be remembered for the backward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    seed: [u32; 2],
    /// Elements whose 24 random bits are below this are dropped.
    below: u32,
    /// Factor on those that are kept.
    pub(crate) scale: f32,
}

impl Dropout {
    /// Dropout with probability `p` for the next operation of a pass; none in inference or with p = 0.
    ///
    /// # Panics
    /// If `p` is not in [0, 1).
    pub(crate) fn draw(pass: &Pass, p: f32) -> Option<Self> {
        assert!((0.0..1.0).contains(&p), "dropout probability {p} is not in [0, 1)");
        if !pass.is_training() || p == 0.0 {
            return None;
        }
        let all = f64::from(1u32 << 24);
        let below = (f64::from(p) * all).round().min(all - 1.0);
        let seed = pass.draw();
        Some(Self {
            seed: [seed as u32, (seed >> 32) as u32],
            below: below as u32,
            scale: (all / (all - below)) as f32,
        })
    }

    /// Drops or scales the elements from place `first` on.
    pub(crate) fn apply(&self, first: usize, values: &mut [f32]) {
        drop_out(self, first as u32, values);
    }

    /// Finaliser of MurmurHash3 over the place.
    #[inline(always)]
    fn keeps(&self, place: u32) -> bool {
        let mut h = place.wrapping_mul(0x9e37_79b1) ^ self.seed[0];
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b) ^ self.seed[1];
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        // As signed numbers, which vector registers can compare.
        ((h ^ (h >> 16)) >> 8) as i32 >= self.below as i32
    }
}

wide! {
    /// Drops or scales the elements from place `first` on.
    fn drop_out(dropout: &Dropout, first: u32, values: &mut [f32]) {
        let dropout = *dropout;
        for (i, v) in values.iter_mut().enumerate() {
            let kept = *v * dropout.scale;
            *v = if dropout.keeps(first.wrapping_add(i as u32)) { kept } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Params};

    #[test]
    fn neighbours_and_operations_are_dropped_independently() {
        let params = Params::new(0);
        let pass = Pass::new(&params, Mode::Train, 3);
        let (a, b) = (Dropout::draw(&pass, 0.25).unwrap(), Dropout::draw(&pass, 0.25).unwrap());
        let kept = |d: &Dropout| -> Vec<bool> { (0..200_000).map(|i| d.keeps(i)).collect() };
        let (a, b) = (kept(&a), kept(&b));
        let share =
            |both: &dyn Fn(usize) -> bool| (0..199_000).filter(|&i| both(i)).count() as f64 / 199_000.0;
        assert!((share(&|i| a[i]) - 0.75).abs() < 0.005);
        for (what, value) in [
            ("the next", share(&|i| a[i] && a[i + 1])),
            ("400 on", share(&|i| a[i] && a[i + 400])),
            ("the other operation", share(&|i| a[i] && b[i])),
        ] {
            assert!((value - 0.5625).abs() < 0.005, "{what}: {value}");
        }
    }
}
