//! Nearest-neighbour indexes over item vectors, exact ([`Flat`]) and graph-walking ([`Hnsw`]), and an inverted
//! index of items by term ([`Inverted`]).
//!
//! ```
//! use millstream_index::{Flat, Index, IndexMut, Metric};
//!
//! let index = Flat::new(2, Metric::InnerProduct)?;
//! index.upsert(7, &[1.0, 0.0])?;
//! index.upsert(8, &[0.0, 1.0])?;
//! index.upsert(9, &[0.9, 0.1])?;
//! let hits = index.search(&[1.0, 0.0], 2, &|item| item != 7)?;
//! assert_eq!(hits.iter().map(|hit| hit.item).collect::<Vec<_>>(), [9, 8]);
//! # Ok::<(), millstream_index::Error>(())
//! ```
//!
//! [`topk_scores`] picks the best of a dense row of scores, as full ranking in evaluation does.

pub mod bench;
mod block;
mod distance;
mod error;
mod file;
mod flat;
mod hit;
mod hnsw;
mod index;
mod inverted;
mod rows;
mod snapshot;
mod topk;
mod vectors;

pub use distance::dot;
pub use error::Error;
pub use flat::Flat;
pub use hit::Hit;
pub use hnsw::{Candidates, DotScorer, Hnsw, HnswConfig, Scorer, Walk, Walked};
pub use index::{Index, IndexMut, KeepEach, Metric};
pub use inverted::Inverted;
pub use rows::Storage;
pub use snapshot::{Opened, Snapshots};
pub use topk::{Top, topk_scores};
