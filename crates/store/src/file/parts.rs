use super::head::{Head, TableHead, buckets};
use crate::layout::Layout;
use std::ops::Range;

/// Where the parts of one table lie in the bytes of a file, by their order there.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    starts: [u64; Part::COUNT + 1],
}

/// Parts of a table that are looked into where they lie, by their order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Index = 0,
    Keys = 2,
    Weights = 3,
}

impl Part {
    const COUNT: usize = 7;
}

impl Parts {
    /// The parts of all tables when those of the first start at `start`; `None` if no file is that long.
    pub(crate) fn of(head: &Head, mut start: u64) -> Option<Vec<Self>> {
        let one = |table: &TableHead| {
            let parts = Self::of_table(table, head.state, start)?;
            start = parts.end().checked_add(8)?;
            Some(parts)
        };
        head.tables.iter().map(one).collect()
    }

    fn of_table(head: &TableHead, state: bool, start: u64) -> Option<Self> {
        let layout = Layout::new(&head.config);
        let rows = head.rows;
        let index = if head.is_delta() { 0 } else { buckets(rows).checked_add(1)?.checked_mul(8)? };
        let of_state = if state { 4 * layout.state as u64 } else { 0 };
        let of_steps = if state { 4 } else { 0 };
        let lengths = [
            index,
            head.removed.checked_mul(8)?,
            rows.checked_mul(8)?,
            rows.checked_mul(layout.weight_bytes() as u64)?,
            rows.checked_mul(of_steps)?,
            rows.checked_mul(of_state)?,
            head.counts,
        ];
        let mut starts = [start; Part::COUNT + 1];
        for (at, len) in lengths.into_iter().enumerate() {
            starts[at + 1] = starts[at].checked_add(len)?;
        }
        Some(Self { starts })
    }

    /// Bytes of one part.
    pub(crate) fn range(&self, part: Part) -> Range<usize> {
        self.starts[part as usize] as usize..self.starts[part as usize + 1] as usize
    }

    /// Whether the checksum after the parts is right.
    pub(crate) fn is_sealed(&self, bytes: &[u8]) -> bool {
        let (start, end) = (self.starts[0] as usize, self.end() as usize);
        let seal = bytes.get(end..).and_then(|rest| rest.first_chunk());
        let found = bytes.get(start..end).map(xxhash_rust::xxh3::xxh3_64);
        found.is_some() && found == seal.map(|&seal| u64::from_le_bytes(seal))
    }

    /// Where the last part ends and the checksum starts.
    pub(crate) fn end(&self) -> u64 {
        self.starts[Part::COUNT]
    }
}
