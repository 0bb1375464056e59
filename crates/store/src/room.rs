//! The words of a shard's rows: one slice that grows, zeroed, without ever copying much.
#![allow(unsafe_code)]

use memmap2::MmapMut;

/// Words kept on the heap at most (1 MiB). Beyond, pages come from the system: zeroed when they are first touched, and moved by
/// changing page tables instead of copying.
const HEAP_WORDS: usize = 1 << 18;

/// Bytes from which the system is asked for huge pages: below, the unused part of the last one would weigh too much.
const HUGE_BYTES: usize = 8 << 20;

/// What a page holds: mappings are whole pages.
const PAGE_BYTES: usize = 4096;

/// What a huge page holds. Linux puts mappings of whole ones where huge pages begin.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A slice of f32s whose new part is zeros.
#[derive(Debug)]
pub(crate) enum Room {
    Heap(Vec<f32>),
    Mapped(MmapMut),
}

impl Default for Room {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Room {
    /// All words, those not asked for yet included.
    #[inline]
    pub(crate) fn words(&self) -> &[f32] {
        match self {
            Self::Heap(words) => words,
            // SAFETY: a mapping is aligned to a page, holds `len` bytes, and any bits are an f32.
            Self::Mapped(map) => unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), map.len() / 4) },
        }
    }

    /// As [`words`](Self::words), to change them.
    #[inline]
    pub(crate) fn words_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Heap(words) => words,
            Self::Mapped(map) => {
                let words = map.len() / 4;
                // SAFETY: as above, and the mapping is borrowed for as long as the slice lives.
                unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), words) }
            }
        }
    }

    /// Makes room for `wanted` words at least.
    #[cold]
    pub(crate) fn grow(&mut self, wanted: usize) {
        let now = self.words().len();
        let wanted = wanted.max(if now < HEAP_WORDS { now + now / 2 } else { 2 * now });
        if wanted > HEAP_WORDS && self.map(wanted) {
            return;
        }
        // Without mappings to be had (their number is limited) the heap must do.
        let mut words = vec![0.0; wanted];
        words[..now].copy_from_slice(self.words());
        *self = Self::Heap(words);
    }

    /// Moves to a mapping of `wanted` words; `false` when the system has none.
    fn map(&mut self, wanted: usize) -> bool {
        let bytes = (4 * wanted).next_multiple_of(page(4 * wanted));
        let grown = match self {
            Self::Mapped(map) => extend(map, bytes),
            Self::Heap(_) => false,
        };
        if !grown {
            let Ok(map) = MmapMut::map_anon(bytes) else { return false };
            let old = std::mem::replace(self, Self::Mapped(map));
            self.words_mut()[..old.words().len()].copy_from_slice(old.words());
        }
        #[cfg(target_os = "linux")]
        if let (Self::Mapped(map), true) = (&*self, bytes >= HUGE_BYTES) {
            // Only a hint: a system that does not know it goes on with small pages.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        true
    }

    /// Bytes held when the first `used` words were touched.
    pub(crate) fn memory_bytes(&self, used: usize) -> usize {
        match self {
            Self::Heap(words) => 4 * words.capacity(),
            Self::Mapped(map) => (4 * used).next_multiple_of(page(map.len())),
        }
    }
}

/// Bytes that come at once in a mapping of so many bytes.
fn page(bytes: usize) -> usize {
    if bytes < HUGE_BYTES { PAGE_BYTES } else { HUGE_PAGE_BYTES }
}

/// Extends a mapping where the system can.
fn extend(map: &mut MmapMut, bytes: usize) -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the mapping is anonymous and only grows; nobody has a slice of it while it is borrowed here.
        unsafe { map.remap(bytes, memmap2::RemapOptions::new().may_move(true)) }.is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (map, bytes);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_stays_and_what_is_new_is_zero_on_the_heap_and_in_mappings() {
        let mut room = Room::default();
        let mut written = 0;
        for wanted in [1, 100, 1000, HEAP_WORDS, HEAP_WORDS + 1, 3 << 20, 5 << 20] {
            room.grow(wanted);
            assert!(room.words().len() >= wanted);
            assert!((0..written).all(|at| room.words()[at] == at as f32 + 1.0));
            assert!(room.words()[written..].iter().all(|word| *word == 0.0));
            (written..wanted).for_each(|at| room.words_mut()[at] = at as f32 + 1.0);
            written = wanted;
        }
        assert!(matches!(room, Room::Mapped(_)));
        assert!(room.memory_bytes(written) >= 4 * written);
    }

    #[test]
    fn memory_that_was_not_touched_does_not_count() {
        let mut room = Room::default();
        room.grow(HEAP_WORDS + 1);
        assert_eq!(room.memory_bytes(10), PAGE_BYTES);
    }
}
