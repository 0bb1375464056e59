//! Which of a group of counts are not below a bound, as bits: what a scan of mostly small counts costs.

/// Counts compared together.
pub(crate) const GROUP: usize = 32;

/// A number that is compared with a bound, a group at once.
pub(crate) trait Reach: Copy + PartialOrd {
    /// Bit i is set where cell i is not below `least`.
    #[inline(always)]
    fn reach(cells: &[Self; GROUP], least: Self) -> u32 {
        cells.iter().enumerate().fold(0, |bits, (i, &cell)| bits | u32::from(cell >= least) << i)
    }
}

impl Reach for u32 {}
impl Reach for f32 {}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod registers {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_set1_epi8, _mm_set1_epi16, _mm_setzero_si128, _mm_subs_epu8, _mm_subs_epu16,
    };

    use super::{GROUP, Reach};

    // What is missing up to the bound, and not below zero, is zero where it is reached.

    impl Reach for u8 {
        #[inline(always)]
        fn reach(cells: &[Self; GROUP], least: Self) -> u32 {
            // SAFETY: every x86-64 has SSE2; 16 bytes are read from places 0 and 16 of 32.
            unsafe {
                let (bound, zero) = (_mm_set1_epi8(least.cast_signed()), _mm_setzero_si128());
                let half = |at: usize| {
                    let cells = _mm_loadu_si128(cells.as_ptr().add(at).cast::<__m128i>());
                    _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_subs_epu8(bound, cells), zero)) as u32
                };
                half(0) | half(16) << 16
            }
        }
    }

    impl Reach for u16 {
        #[inline(always)]
        fn reach(cells: &[Self; GROUP], least: Self) -> u32 {
            // SAFETY: as above, from places 0, 8, 16 and 24 of 32 double bytes.
            unsafe {
                let (bound, zero) = (_mm_set1_epi16(least.cast_signed()), _mm_setzero_si128());
                let eight = |at: usize| {
                    let cells = _mm_loadu_si128(cells.as_ptr().add(at).cast::<__m128i>());
                    _mm_cmpeq_epi16(_mm_subs_epu16(bound, cells), zero)
                };
                let half = |at: usize| _mm_movemask_epi8(_mm_packs_epi16(eight(at), eight(at + 8))) as u32;
                half(0) | half(16) << 16
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod registers {
    impl super::Reach for u8 {}
    impl super::Reach for u16 {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether each bit says what a comparison says.
    fn right<C: Reach>(cells: [C; GROUP], least: C) -> bool {
        let bits = C::reach(&cells, least);
        (0..GROUP).all(|i| (bits >> i & 1 == 1) == (cells[i] >= least))
    }

    proptest! {
        #[test]
        fn bits_say_which_reach_the_bound(cells: [u16; GROUP], small in prop::collection::vec(0u8..4, GROUP), at in 0..GROUP) {
            prop_assert!(right(cells, cells[at]));
            prop_assert!(right(cells.map(|c| c as u8), cells[at] as u8));
            prop_assert!(right(cells.map(u32::from), cells[at].into()));
            prop_assert!(right(std::array::from_fn(|i| small[i]), small[at]));
            prop_assert!(right(std::array::from_fn(|i| u16::from(small[i])), small[at].into()));
        }
    }
}
