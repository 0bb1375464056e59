//! Hold embedding rows with their optimiser state, outside the tensor engine.
//!
//! A [`Store`] holds tables; a table maps a `u64` key to one row of `D` weights followed by what its
//! optimiser remembers about them. Serving reads through [`Rows`]; only the trainer holds [`RowsMut`].
//! All calls take `&self` and are spread over the shards of a table, with one lock per shard and call.
//!
//! ```
//! use millstream_store::{RowInit, RowOptim, Rows, RowsMut, Store, TableConfig};
//!
//! let store = Store::new(vec![TableConfig {
//!     name: "item/dim4".into(),
//!     dim: 4,
//!     init: RowInit::Uniform(0.05),
//!     optim: RowOptim::Sgd { lr: 0.5 },
//!     l2: 0.0,
//!     seed: 7,
//! }])?;
//! let table = store.table("item/dim4")?;
//! let mut before = [0.0; 4];
//! store.pull_or_init(table, &[42], &mut before)?;
//! store.push(table, &[42], &[1.0; 4])?;
//! let mut after = [0.0; 4];
//! store.pull(table, &[42], &mut after)?;
//! assert_eq!(after[0], before[0] - 0.5);
//! # Ok::<(), millstream_store::Error>(())
//! ```
//!
//! [`container`] is the small sectioned file that checkpoints and snapshots are made of.

pub mod container;
mod error;
mod file;
mod init;
mod keys;
mod optim;
mod prefetch;
mod shard;
mod store;
mod table;

pub use container::{Container, ContainerWriter};
pub use error::Error;
pub use init::RowInit;
pub use optim::RowOptim;
pub use store::{Rows, RowsMut, Store, TableId};
pub use table::TableConfig;
