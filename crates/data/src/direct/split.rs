//! Where cells and lines end, 64 bytes of text at a time.

/// Where the cells and lines of a text end.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cut {
    /// Places of all separators and line ends, and of the text's end where that does not end a line.
    pub(super) ends: Vec<u32>,
    /// For each line, how many of `ends` there are up to its own.
    pub(super) rows: Vec<u32>,
}

impl Cut {
    /// Cuts a text of less than 4 GiB at `byte` and at line ends, in the place of what was cut before.
    ///
    /// Each 64 bytes become a mask with a bit for each byte looked for; the places are read off the mask eight at a time
    /// whether or not there are so many, which spares the branches that text makes unpredictable (Langdale & Lemire
    /// 2019, "Parsing gigabytes of JSON per second", section 3.2).
    pub(super) fn of(&mut self, text: &[u8], byte: u8) -> &Self {
        self.rows.clear();
        // In a common log a sixth of the text are separators. What stands in `ends` from before is written over.
        self.ends.resize(self.ends.len().max(text.len() / 6 + 128), 0);
        let mut found = 0;
        let (blocks, rest) = text.as_chunks::<64>();
        for (block, at) in blocks.iter().zip((0u32..).step_by(64)) {
            found = self.read_off(masks(block, byte), at, found);
        }
        if !rest.is_empty() {
            let mut last = [0; 64];
            last[..rest.len()].copy_from_slice(rest);
            let (lines, all) = masks(&last, byte);
            let there = u64::MAX >> (64 - rest.len());
            found = self.read_off((lines & there, all & there), (text.len() - rest.len()) as u32, found);
        }
        self.ends.truncate(found);
        if text.last().is_some_and(|b| *b != b'\n') {
            self.ends.push(text.len() as u32);
            self.rows.push(self.ends.len() as u32);
        }
        self
    }

    /// Takes up the bits of a block at `at`, behind the `found` ends; gives how many there are then.
    #[inline]
    fn read_off(&mut self, (mut lines, mut all): (u64, u64), at: u32, found: usize) -> usize {
        while lines != 0 {
            let before = all & (lines ^ lines.wrapping_sub(1));
            self.rows.push(found as u32 + before.count_ones());
            lines &= lines - 1;
        }
        let end = found + all.count_ones() as usize;
        if self.ends.len() < found + 72 {
            self.ends.resize(2 * self.ends.len() + 72, 0);
        }
        let mut to = found;
        while to < end {
            for slot in &mut self.ends[to..to + 8] {
                *slot = at + all.trailing_zeros();
                all &= all.wrapping_sub(1);
            }
            to += 8;
        }
        end
    }
}

/// Bits of the line ends, and of those and the bytes that are `byte`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code)]
fn masks(block: &[u8; 64], byte: u8) -> (u64, u64) {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { masks_of_sixteen(block, byte) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
#[allow(unsafe_code)] // a load from memory into a register
fn masks_of_sixteen(block: &[u8; 64], byte: u8) -> (u64, u64) {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    let (cell, line) = (_mm_set1_epi8(byte as i8), _mm_set1_epi8(b'\n' as i8));
    let (mut lines, mut all) = (0, 0);
    for (i, part) in block.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: the sixteen bytes are borrowed, and any alignment will do.
        let part = unsafe { _mm_loadu_si128(part.as_ptr().cast()) };
        let ends = _mm_cmpeq_epi8(part, line);
        let both = _mm_or_si128(ends, _mm_cmpeq_epi8(part, cell));
        lines |= u64::from(_mm_movemask_epi8(ends) as u16) << (16 * i);
        all |= u64::from(_mm_movemask_epi8(both) as u16) << (16 * i);
    }
    (lines, all)
}

#[cfg(not(target_arch = "x86_64"))]
use portable as masks;

/// As on x86-64, eight bytes at a time.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline]
fn portable(block: &[u8; 64], byte: u8) -> (u64, u64) {
    let (cell, line) = (splat(byte), splat(b'\n'));
    let (mut lines, mut all) = (0, 0);
    for (i, word) in block.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let ends = zeros(word ^ line);
        lines |= gather(ends) << (8 * i);
        all |= gather(ends | zeros(word ^ cell)) << (8 * i);
    }
    (lines, all)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn splat(byte: u8) -> u64 {
    u64::from(byte) * 0x0101_0101_0101_0101
}

/// The top bit of each byte that is zero, without carries between bytes.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline]
fn zeros(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((word & LOW) + LOW) | word | LOW)
}

/// The top bits of eight bytes in one byte, the lowest byte's lowest.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline]
fn gather(tops: u64) -> u64 {
    (tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(text: &[u8], byte: u8) -> Cut {
        let mut out = Cut::default();
        for (i, b) in text.iter().enumerate() {
            if *b == byte || *b == b'\n' {
                out.ends.push(i as u32);
            }
            if *b == b'\n' {
                out.rows.push(out.ends.len() as u32);
            }
        }
        if text.last().is_some_and(|b| *b != b'\n') {
            out.ends.push(text.len() as u32);
            out.rows.push(out.ends.len() as u32);
        }
        out
    }

    #[test]
    fn ends_are_those_that_a_loop_over_bytes_finds() {
        let (mut state, mut cut) = (7u64, Cut::default());
        for length in (0..400).chain([1000, 5000, 30]) {
            for density in [1, 3, 20, 256] {
                let text: Vec<u8> = (0..length)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        match (state >> 33) % density {
                            0 => b'\t',
                            1 => b'\n',
                            _ => (state >> 40) as u8,
                        }
                    })
                    .collect();
                assert_eq!(*cut.of(&text, b'\t'), naive(&text, b'\t'), "{length} bytes");
                for block in text.as_chunks::<64>().0 {
                    assert_eq!(masks(block, b'\t'), portable(block, b'\t'));
                }
            }
        }
    }
}
