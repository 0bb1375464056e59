use crate::init::RowInit;
use crate::optim::RowOptim;
use serde::{Deserialize, Serialize};

/// The widest row accepted; a larger number in a file is damage.
const MAX_DIM: usize = 1 << 16;

/// The most counters of [`Admission::CountMin`]: 1 GiB.
const MAX_COUNTERS: u32 = 1 << 30;

/// What a table holds and how its rows start, learn and end.
///
/// ```
/// use millstream_store::{RowOptim, TableConfig};
///
/// let table = TableConfig { optim: RowOptim::Sgd { lr: 0.1 }, ..TableConfig::new("item", 16) };
/// assert_eq!((table.dim, table.l2), (16, 0.0));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Unique in its store.
    pub name: String,
    /// Weights per row, D, from 1 to 65,536.
    pub dim: usize,
    /// How a new row starts.
    pub init: RowInit,
    /// How gradients change a row.
    pub optim: RowOptim,
    /// L2 factor, at least 0; it reaches only the rows that a push touches.
    pub l2: f32,
    /// Seed of the initial rows.
    pub seed: u64,
    /// How weights lie in memory and on disk.
    pub dtype: RowType,
    /// When a key gets a row; `None` at first sight.
    pub admission: Option<Admission>,
    /// Which rows [`Store::expire`](crate::Store::expire) drops; `None` none.
    pub expiry: Option<Expiry>,
    /// What a pull answers for a key without a row.
    pub default_row: DefaultRow,
}

/// The type of a row's weights. Optimiser state is always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowType {
    /// Four bytes a weight.
    #[default]
    F32,
    /// Two bytes a weight: the upper half of an f32. New rows are rounded to the nearest (ties to even);
    /// an update is worked out in f32 and rounded up or down at random in proportion to what is cut off,
    /// so that many small steps add up (stochastic rounding, Gupta et al. 2015). The random bits come of
    /// seed, table, key and step, so they are the same each time.
    Bf16,
}

/// When a key gets a row. Until then its pulls answer the default row and its gradients are dropped.
///
/// A sighting is an occurrence in [`pull_or_init`](crate::RowsMut::pull_or_init) or
/// [`locate`](crate::Exclusive::locate); pushes do not count. Each [`expire`](crate::Store::expire) halves
/// the counts, so that a key must come often, not merely for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Admission {
    /// An exact count of every key that has no row yet, about 24 bytes each.
    Count {
        /// The row is made at this sighting, 1 or more.
        sightings: u32,
    },
    /// Counts in fixed memory, one byte a counter: a count-min sketch with four counters per key and
    /// conservative update (Cormode and Muthukrishnan 2005; Estan and Varghese 2002), that is, a counting
    /// Bloom filter. Never too low; a key that shares all its counters with others is let in early.
    CountMin {
        /// The row is made at this sighting, from 1 to 255.
        sightings: u32,
        /// Counters, rounded up to a power of two of at least 262,144. With eight per key
        /// expected fewer than one key in fifty is let in early.
        counters: u32,
    },
}

/// Which rows [`Store::expire`](crate::Store::expire) drops. A step is a push to the table, or
/// [`Exclusive::step`](crate::Exclusive::step).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expiry {
    /// Rows untouched for more than so many steps.
    pub max_age: Option<u64>,
    /// Rows of zeros untouched for at least so many steps; 0 drops every row of zeros at once, with what
    /// its optimiser remembers.
    pub zero_after: Option<u64>,
}

/// What a pull answers for a key without a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultRow {
    /// D zeros.
    #[default]
    Zeros,
    /// The row that the key would start with.
    Initial,
    /// The mean of the table's rows. It is worked out at every step up to 16, at steps that are powers of
    /// two and at multiples of 1,024, and zeros before.
    Mean,
}

impl TableConfig {
    /// A table of rows of `dim` weights that start normal with deviation 0.01 and take row-wise AdaGrad with
    /// learning rate 0.05, in f32, without L2, seed 0; every key gets a row and keeps it.
    pub fn new(name: impl Into<String>, dim: usize) -> Self {
        Self {
            name: name.into(),
            dim,
            init: RowInit::Normal(0.01),
            optim: RowOptim::AdaGradRowWise { lr: 0.05, eps: 1e-10, initial_accumulator: 0.0 },
            l2: 0.0,
            seed: 0,
            dtype: RowType::F32,
            admission: None,
            expiry: None,
            default_row: DefaultRow::Zeros,
        }
    }

    /// What is wrong with the configuration, if anything.
    pub(crate) fn flaw(&self) -> Option<String> {
        let at_least_0 = |name: &str, x: f32| {
            (!(x >= 0.0 && x.is_finite())).then(|| format!("{name} is {x}, expected at least 0"))
        };
        let dim = (!(1..=MAX_DIM).contains(&self.dim))
            .then(|| format!("dim is {}, expected from 1 to {MAX_DIM}", self.dim));
        dim.or_else(|| at_least_0("l2", self.l2))
            .or_else(|| at_least_0("the spread of init", self.init.spread()))
            .or_else(|| self.optim.flaw())
            .or_else(|| self.admission.and_then(Admission::flaw))
            .map(|flaw| format!("table `{}`: {flaw}", self.name))
    }

    /// Floats of state per row. They follow the D weights, see [`RowOptim::state_len`].
    pub fn state_len(&self) -> usize {
        self.optim.state_len(self.dim)
    }
}

impl Admission {
    /// The sighting at which a row is made.
    pub(crate) fn sightings(self) -> u32 {
        match self {
            Self::Count { sightings } | Self::CountMin { sightings, .. } => sightings,
        }
    }

    fn flaw(self) -> Option<String> {
        let (sightings, most, counters) = match self {
            Self::Count { sightings } => (sightings, u32::MAX, 1),
            Self::CountMin { sightings, counters } => (sightings, 255, counters),
        };
        if !(1..=most).contains(&sightings) {
            return Some(format!("admission after {sightings} sightings, expected from 1 to {most}"));
        }
        (!(1..=MAX_COUNTERS).contains(&counters))
            .then(|| format!("admission with {counters} counters, expected from 1 to {MAX_COUNTERS}"))
    }
}
