//! Scores in rising order without comparing them: divided by their leading bits, sorted bucket by bucket.

use rayon::prelude::*;

/// Leading bits of a 32-bit order that choose the bucket: sign, exponent and three bits of mantissa of a float.
const LEADING: u32 = 12;
/// Bits left to sort by within a bucket.
pub(super) const LEFT: u32 = 32 - LEADING;
/// Number of buckets.
pub(super) const BUCKETS: usize = 1 << LEADING;
/// Items divided in one go: fixed, so that nothing depends on the number of threads, and small enough for a cache.
const CHUNK: usize = 1 << 16;
/// Below this, comparing is faster.
const SHORT: usize = 1 << 10;
const DIGIT: u32 = LEFT / 2;

/// Items divided into [`BUCKETS`] by the leading bits of their order; within a bucket in their first order.
pub(super) struct Buckets<T> {
    chunks: Vec<Chunk<T>>,
}

struct Chunk<T> {
    /// `[BUCKETS + 1]`.
    starts: Vec<u32>,
    items: Vec<T>,
}

impl<T: Copy + Default + Send + Sync> Buckets<T> {
    /// Divides items 0 to `n`, each given as its order and what to keep of it. O(n), in parallel.
    pub(super) fn divide(n: usize, item: impl Fn(usize) -> (u32, T) + Sync) -> Self {
        let chunk = |start: usize| {
            let rows = start..(start + CHUNK).min(n);
            let mut starts = vec![0u32; BUCKETS + 1];
            rows.clone().for_each(|i| starts[(item(i).0 >> LEFT) as usize + 1] += 1);
            for b in 0..BUCKETS {
                starts[b + 1] += starts[b];
            }
            let mut next = starts.clone();
            let mut items = vec![T::default(); rows.len()];
            for i in rows {
                let (order, kept) = item(i);
                let place = &mut next[(order >> LEFT) as usize];
                items[*place as usize] = kept;
                *place += 1;
            }
            Chunk { starts, items }
        };
        Self { chunks: (0..n.div_ceil(CHUNK)).into_par_iter().map(|c| chunk(c * CHUNK)).collect() }
    }

    /// Puts a bucket's items into `out`.
    pub(super) fn collect(&self, bucket: usize, out: &mut Vec<T>) {
        out.clear();
        for chunk in &self.chunks {
            let span = chunk.starts[bucket] as usize..chunk.starts[bucket + 1] as usize;
            out.extend_from_slice(&chunk.items[span]);
        }
    }
}

/// Sorts numbers of `LEFT + 1` bits by all but the last of these: two counting passes of [`DIGIT`] bits.
pub(super) fn sort_left(items: &mut Vec<u32>, scratch: &mut Vec<u32>) {
    if items.len() < SHORT {
        items.sort_unstable();
        return;
    }
    scratch.clear();
    scratch.resize(items.len(), 0);
    for pass in 0..2 {
        let digit = |item: u32| (item >> (1 + pass * DIGIT)) as usize & ((1 << DIGIT) - 1);
        let mut next = [0u32; 1 << DIGIT];
        items.iter().for_each(|&item| next[digit(item)] += 1);
        let mut sum = 0;
        for place in &mut next {
            sum += std::mem::replace(place, sum);
        }
        for &item in items.iter() {
            let place = &mut next[digit(item)];
            scratch[*place as usize] = item;
            *place += 1;
        }
        std::mem::swap(items, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::test_numbers;

    #[test]
    fn buckets_hold_everything_once_in_order() {
        let mut next = test_numbers(1);
        let orders: Vec<u32> = (0..150_000).map(|_| (next() * 4_294_967_295.0) as u32).collect();
        let buckets = Buckets::divide(orders.len(), |i| (orders[i], i as u32));
        let (mut all, mut part) = (Vec::new(), Vec::new());
        for b in 0..BUCKETS {
            buckets.collect(b, &mut part);
            assert!(part.iter().all(|&i| orders[i as usize] >> LEFT == b as u32) && part.is_sorted());
            all.extend_from_slice(&part);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..150_000));
    }

    #[test]
    fn counting_passes_sort_as_comparing_does() {
        let mut next = test_numbers(2);
        for n in [0, 1, 900, 5_000, 70_000] {
            let mut items: Vec<u32> = (0..n).map(|_| (next() * f64::from(2 << LEFT)) as u32).collect();
            let mut slow: Vec<u32> = items.iter().map(|item| item >> 1).collect();
            slow.sort_unstable();
            sort_left(&mut items, &mut Vec::new());
            assert!(items.into_iter().map(|item| item >> 1).eq(slow));
        }
    }
}
