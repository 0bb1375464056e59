//! Does a step slow down, and memory grow, with the number of ids that are possible, or with those that were seen?
//! Prints the store's part of a training step (batches of 4,096 examples with 39 keys each, 16 weights and row-wise
//! AdaGrad) and its memory for 10⁵ to 10⁸ possible ids, first when equally many ids are ever seen, then when
//! ids are drawn by Zipf's law from all. Run with `cargo run --release -p millstream-store --example table_growth`.
#![allow(clippy::print_stdout)]

use millstream_store::{Error, RowOptim, RowsMut, Store, TableConfig};
use std::collections::HashSet;
use std::time::Instant;

const KEYS: usize = 4096 * 39;
const DIM: usize = 16;
/// Steps before the clock runs, and steps timed.
const STEPS: [usize; 2] = [30, 40];
/// Ids that are ever seen in the first part.
const SEEN: u64 = 100_000;
/// Tables of a size take turns, so that a slow moment of the machine hits all.
const POSSIBLE: [u64; 4] = [100_000, 1_000_000, 10_000_000, 100_000_000];

/// A generator of random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A rank below `n` by Zipf's law with exponent 1: the floor of a log-uniform number.
    fn zipf(&mut self, n: u64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((unit * ((n + 1) as f64).ln()).exp() as u64).clamp(1, n) - 1
    }
}

/// One table and what was measured of it.
struct Case {
    possible: u64,
    store: Store,
    random: Random,
    millis: Vec<f64>,
    unique: usize,
}

impl Case {
    fn new(possible: u64) -> Result<Self, Error> {
        let optim = RowOptim::AdaGradRowWise { lr: 0.01, eps: 1e-8, initial_accumulator: 0.1 };
        let store = Store::new(vec![TableConfig { optim, ..TableConfig::new("ids", DIM) }])?;
        Ok(Self { possible, store, random: Random(possible), millis: Vec::new(), unique: 0 })
    }

    /// The distinct keys of one batch, in random order.
    fn batch(&mut self, seen: u64) -> Vec<u64> {
        let spread = self.possible / seen;
        let keys: HashSet<u64> = (0..KEYS).map(|_| self.random.zipf(seen) * spread).collect();
        keys.into_iter().collect()
    }

    fn step(&mut self, seen: u64, timed: bool) -> Result<(), Error> {
        let keys = self.batch(seen);
        let table = self.store.table("ids")?;
        let mut rows = vec![0.0; keys.len() * DIM];
        let started = Instant::now();
        self.store.pull_or_init(table, &keys, &mut rows)?;
        self.store.push_unique(table, &keys, &rows)?;
        if timed {
            self.millis.push(started.elapsed().as_secs_f64() * 1e3);
            self.unique += keys.len();
        }
        Ok(())
    }

    fn print(&mut self) -> Result<(), Error> {
        self.millis.sort_by(f64::total_cmp);
        let (millis, unique) = (self.millis[self.millis.len() / 2], self.unique / self.millis.len());
        let rows = self.store.len(self.store.table("ids")?)?;
        let bytes = self.store.memory_bytes();
        println!(
            "{:>11} {rows:>9} {unique:>8} {millis:>9.2} {:>8.1} {:>8.1} {:>9.0}",
            self.possible,
            millis * 1e6 / unique as f64,
            bytes as f64 / 1e6,
            bytes as f64 / rows as f64
        );
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    for equal in [true, false] {
        println!("{}", if equal { "equally many ids seen" } else { "Zipf's law over all possible ids" });
        println!("   possible      rows  keys/step  ms/step   ns/key       MB  bytes/row");
        let mut cases = POSSIBLE.map(Case::new).into_iter().collect::<Result<Vec<_>, _>>()?;
        for step in 0..STEPS.iter().sum() {
            for case in &mut cases {
                let seen = if equal { SEEN } else { case.possible };
                case.step(seen, step >= STEPS[0])?;
            }
        }
        cases.iter_mut().try_for_each(Case::print)?;
    }
    Ok(())
}
