//! Which of a stripe of counts are not below a bound: what a scan of mostly small counts costs.

/// Counts compared together, and offered.
pub(crate) const STRIPE: usize = crate::recall::top::TOGETHER;
/// Places that are told of a stripe, and room for those that are written in vain.
pub(crate) type Places = [u16; STRIPE + 32];
/// As many places, none told yet.
pub(crate) const NO_PLACES: Places = [0; STRIPE + 32];

/// A number that is compared with a bound, many at once.
pub(crate) trait Reach: Copy + PartialOrd {
    /// Writes the places of the cells that are not below `least`, rising; says how many there are.
    fn places(cells: &[Self; STRIPE], least: Self, out: &mut Places) -> usize {
        plain(cells, least, out)
    }
}

impl Reach for u32 {}
impl Reach for f32 {}

#[cfg(not(target_arch = "x86_64"))]
impl Reach for u8 {}
#[cfg(not(target_arch = "x86_64"))]
impl Reach for u16 {}

#[cfg(target_arch = "x86_64")]
macro_rules! in_registers {
    ($number:ty, $kind:ident) => {
        impl Reach for $number {
            #[inline]
            #[allow(unsafe_code)]
            fn places(cells: &[Self; STRIPE], least: Self, out: &mut Places) -> usize {
                if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vbmi2") {
                    // SAFETY: the processor was asked.
                    return unsafe { registers::avx512::$kind(cells, least, out) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was asked.
                    return unsafe { registers::avx2::$kind(cells, least, out) };
                }
                plain(cells, least, out)
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
in_registers!(u8, bytes);
#[cfg(target_arch = "x86_64")]
in_registers!(u16, doubles);

fn plain<C: Copy + PartialOrd>(cells: &[C; STRIPE], least: C, out: &mut Places) -> usize {
    let mut n = 0;
    for (at, &cell) in cells.iter().enumerate() {
        out[n] = at as u16;
        n += usize::from(cell >= least);
    }
    n
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod registers {
    use super::{Places, STRIPE};

    /// 32 cells at once; the bits of what reached the bound are gone through.
    pub(super) mod avx2 {
        use std::arch::x86_64::*;

        use super::{Places, STRIPE};

        fn tell(mut reached: u32, from: usize, mut n: usize, out: &mut Places) -> usize {
            while reached != 0 {
                out[n] = from as u16 | reached.trailing_zeros() as u16;
                reached &= reached - 1;
                n += 1;
            }
            n
        }

        #[target_feature(enable = "avx2")]
        pub(in super::super) fn bytes(cells: &[u8; STRIPE], least: u8, out: &mut Places) -> usize {
            let (bound, mut n) = (_mm256_set1_epi8(least.cast_signed()), 0);
            for (at, cells) in cells.as_chunks::<32>().0.iter().enumerate() {
                // SAFETY: 32 bytes are there, and loads need no alignment.
                let cells = unsafe { _mm256_loadu_si256(cells.as_ptr().cast()) };
                let reached = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(cells, bound), cells));
                n = tell(reached.cast_unsigned(), at * 32, n, out);
            }
            n
        }

        #[target_feature(enable = "avx2")]
        pub(in super::super) fn doubles(cells: &[u16; STRIPE], least: u16, out: &mut Places) -> usize {
            let (bound, mut n) = (_mm256_set1_epi16(least.cast_signed()), 0);
            for (at, cells) in cells.as_chunks::<32>().0.iter().enumerate() {
                let half = |at: usize| {
                    // SAFETY: 32 bytes are there from places 0 and 16 of 32 double bytes.
                    let cells = unsafe { _mm256_loadu_si256(cells.as_ptr().add(at).cast()) };
                    _mm256_cmpeq_epi16(_mm256_max_epu16(cells, bound), cells)
                };
                // Packing takes turns between the halves of both registers, which is put right.
                let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(half(0), half(16)));
                n = tell(_mm256_movemask_epi8(packed).cast_unsigned(), at * 32, n, out);
            }
            n
        }
    }

    /// 64 or 32 cells at once; the places of those that reached the bound are moved together, whatever their number.
    pub(super) mod avx512 {
        use std::arch::x86_64::*;

        use super::{Places, STRIPE};

        #[target_feature(enable = "avx512bw,avx512vbmi2")]
        #[inline]
        fn tell(reached: u32, places: __m512i, n: usize, out: &mut Places) -> usize {
            let Some(to) = out[n..].first_chunk_mut::<32>() else { return n };
            let places = _mm512_maskz_compress_epi16(reached, places);
            // SAFETY: 64 bytes are there, and stores need no alignment.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), places) };
            n + reached.count_ones() as usize
        }

        #[target_feature(enable = "avx512bw")]
        #[inline]
        fn first_places() -> __m512i {
            const FIRST: [u16; 32] = {
                let (mut first, mut at) = ([0; 32], 0);
                while at < 32 {
                    first[at] = at as u16;
                    at += 1;
                }
                first
            };
            // SAFETY: 64 bytes are there, and loads need no alignment.
            unsafe { _mm512_loadu_si512(FIRST.as_ptr().cast()) }
        }

        #[target_feature(enable = "avx512bw,avx512vbmi2,popcnt")]
        pub(in super::super) fn bytes(cells: &[u8; STRIPE], least: u8, out: &mut Places) -> usize {
            let (bound, next) = (_mm512_set1_epi8(least.cast_signed()), _mm512_set1_epi16(32));
            let (mut low, mut n) = (first_places(), 0);
            for cells in cells.as_chunks::<64>().0 {
                // SAFETY: 64 bytes are there, and loads need no alignment.
                let cells = unsafe { _mm512_loadu_si512(cells.as_ptr().cast()) };
                let reached = _mm512_cmpge_epu8_mask(cells, bound);
                let high = _mm512_add_epi16(low, next);
                if reached != 0 {
                    n = tell(reached as u32, low, n, out);
                    n = tell((reached >> 32) as u32, high, n, out);
                }
                low = _mm512_add_epi16(high, next);
            }
            n
        }

        #[target_feature(enable = "avx512bw,avx512vbmi2,popcnt")]
        pub(in super::super) fn doubles(cells: &[u16; STRIPE], least: u16, out: &mut Places) -> usize {
            let (bound, next) = (_mm512_set1_epi16(least.cast_signed()), _mm512_set1_epi16(32));
            let (mut places, mut n) = (first_places(), 0);
            for cells in cells.as_chunks::<32>().0 {
                // SAFETY: 64 bytes are there, and loads need no alignment.
                let cells = unsafe { _mm512_loadu_si512(cells.as_ptr().cast()) };
                let reached = _mm512_cmpge_epu16_mask(cells, bound);
                if reached != 0 {
                    n = tell(reached, places, n, out);
                }
                places = _mm512_add_epi16(places, next);
            }
            n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether those places are told that a comparison tells, by every way that the processor has.
    fn right<C: Reach>(cells: [C; STRIPE], least: C) -> bool {
        let told: Vec<u16> = (0..).zip(&cells).filter(|(_, c)| **c >= least).map(|(at, _)| at).collect();
        let same = |way: &dyn Fn(&mut Places) -> usize| {
            let mut out = NO_PLACES;
            let n = way(&mut out);
            out[..n] == *told
        };
        same(&|out| C::places(&cells, least, out)) && same(&|out| plain(&cells, least, out))
    }

    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    fn by_avx2(cells: [u16; STRIPE], least: u16) -> bool {
        if !is_x86_feature_detected!("avx2") {
            return true;
        }
        let (mut a, mut b, mut c) = (NO_PLACES, NO_PLACES, NO_PLACES);
        let n = plain(&cells, least, &mut a);
        let bytes = cells.map(|c| c as u8);
        let few = plain(&bytes, least as u8, &mut c);
        // SAFETY: the processor was asked.
        unsafe {
            let same = registers::avx2::doubles(&cells, least, &mut b) == n && a[..n] == b[..n];
            same && registers::avx2::bytes(&bytes, least as u8, &mut b) == few && c[..few] == b[..few]
        }
    }

    proptest! {
        #[test]
        fn those_places_are_told_that_reach_the_bound(
            cells in prop::collection::vec(0u16.., STRIPE),
            small in prop::collection::vec(0u8..4, STRIPE),
            at in 0..STRIPE,
        ) {
            let cells: [u16; STRIPE] = std::array::from_fn(|i| cells[i]);
            let small: [u16; STRIPE] = std::array::from_fn(|i| small[i].into());
            for cells in [cells, small, [7; STRIPE]] {
                prop_assert!(right(cells, cells[at]));
                prop_assert!(right(cells.map(|c| c as u8), cells[at] as u8));
                prop_assert!(right(cells.map(u32::from), cells[at].into()));
                #[cfg(target_arch = "x86_64")]
                prop_assert!(by_avx2(cells, cells[at]));
            }
        }
    }
}
