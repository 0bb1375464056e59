//! What an id, an event, a feature, a task and a batch are: the words every other crate speaks.
//!
//! ```
//! use millstream_schema::{Fitter, Frame, Schema, Side};
//!
//! let schema: Schema = r#"
//!     [[feature]]
//!     name = "city"
//!     side = "user"
//!     kind = "categorical"
//! "#.parse()?;
//! let mut frame = Frame::new("users.csv", &["city"]);
//! frame.push_row(2, &["Lyon"]);
//! frame.push_row(3, &["Turin"]);
//! let mut fitter = Fitter::new(&schema);
//! fitter.observe(&[Side::User], &frame)?;
//! let encoder = fitter.finish()?;
//! let columns = encoder.encode(&[Side::User], &frame, &mut Default::default())?;
//! assert_eq!(columns.rows, 2);
//! # Ok::<(), millstream_schema::Error>(())
//! ```

pub mod assemble;
pub mod batch;
pub mod cell;
pub mod clock;
pub mod config;
pub mod counts;
pub mod encode;
mod error;
pub mod event;
pub mod examples;
pub mod feature;
pub mod fit;
pub mod frame;
pub mod ids;
pub mod kinds;
pub mod parse;
pub mod record;
pub mod suggest;

pub use assemble::Assembler;
pub use batch::{Batch, BatchSource, Column, Columns};
pub use clock::{Clock, FixedClock, SystemClock};
pub use counts::{BadValues, Policy};
pub use encode::{Encoder, Field, Pool, Rows, Shape};
pub use error::Error;
pub use event::{Event, EventKind};
pub use examples::{Examples, History};
pub use feature::{FeatureKind, FeatureSpec, Schema, Side, Times};
pub use fit::Fitter;
pub use frame::Frame;
pub use ids::{IdMap, ItemRow, UserRow};
pub use kinds::{Kinds, Remembered};
pub use record::Record;
