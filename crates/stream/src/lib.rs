//! Keep live events and records durably and hand them out again.
//!
//! Everything lives in one directory, held by one process at a time: the ledger of events, the user
//! and item records, lists made for users ahead of time. `Ok` from a writing call means that the bytes are on the disk, but for lists made ahead, which can be made again.
//!
//! Delivery is **at least once**: a client that gets no answer and sends its events again may find
//! both copies in the ledger, for events carry no key by which a repetition could be told.
//!
//! ```
//! use millstream_schema::{Event, EventKind};
//! use millstream_stream::{EventLog, Limits, Profiles, Stream};
//!
//! let dir = tempfile::tempdir()?;
//! let stream = Stream::open(dir.path())?;
//! let event = Event {
//!     user: "anna".into(), item: "i9".into(), kind: EventKind::Click,
//!     time_ms: 1_700_000_000_000, value: 1.0, request: None, position: None,
//! };
//! assert_eq!(stream.ledger.append(&[event])?, 0);
//! let profiles = Profiles::rebuild(&stream, Limits::default(), &mut |_, _| ())?;
//! assert_eq!(&*profiles.get("anna").ok_or("no profile")?.history[0].item, "i9");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod ahead;
mod code;
mod error;
mod group;
pub mod id;
pub mod ledger;
mod mark;
pub mod profile;
pub mod records;
mod shelf;

pub use ahead::{Ahead, AheadLists};
pub use error::Error;
pub use ledger::{EventLog, Ledger, Offset};
pub use profile::{Action, Limits, Profile, Profiles};
pub use records::{Records, Table};
pub use shelf::Stream;

/// What this crate's calls return.
pub type Result<T> = std::result::Result<T, Error>;
