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
//!     init: RowInit::Uniform(0.05),
//!     optim: RowOptim::Sgd { lr: 0.5 },
//!     ..TableConfig::new("item/dim4", 4)
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
//! What else there is:
//! - [`TableConfig`] names each table's optimiser ([`RowOptim`]), the type of its weights ([`RowType`]), when a key
//!   gets a row ([`Admission`]), when it loses it ([`Expiry`]) and what it answers without one ([`DefaultRow`]);
//! - [`Store::exclusive`] gives rows in place without locks, for learners that take one example at a time;
//! - [`Store::save`] and [`Store::open`] write and read snapshots, at any number of shards; [`Store::delta_since`]
//!   and [`Store::apply`] carry what changed since to a follower, bit for bit;
//! - [`MappedStore`] serves a snapshot from where it lies in its file;
//! - [`container`] is the small sectioned file that checkpoints and snapshots are made of.

mod config;
pub mod container;
mod counts;
mod delta;
mod error;
mod exclusive;
mod file;
mod init;
mod keys;
mod layout;
mod mapped;
mod optim;
mod prefetch;
mod room;
mod rules;
mod shard;
mod store;
mod table;
mod table_mut;

pub use config::{Admission, DefaultRow, Expiry, RowType, TableConfig};
pub use container::{Container, ContainerWriter};
pub use delta::{Delta, Mark};
pub use error::Error;
pub use exclusive::{Exclusive, Place};
pub use init::RowInit;
pub use mapped::MappedStore;
pub use optim::RowOptim;
pub use store::{Rows, RowsMut, SHARDS, Store, TableId};
pub use table_mut::{Slots, TableMut};
