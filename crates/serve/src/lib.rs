//! HTTP around the pipeline; the only async crate.
//!
//! The server knows the pipeline only as an [`Engine`]: it reads requests, keeps events and records
//! durably, asks the engine, and answers in JSON. [`run`] serves until the process is told to stop;
//! [`spawn`] gives a handle.
//!
//! ```no_run
//! use std::sync::Arc;
//! use millstream_serve::{Engine, Parts, ServeConfig};
//! use millstream_stream::{Limits, Profiles, Stream};
//!
//! fn serve(engine: Arc<dyn Engine>) -> Result<(), Box<dyn std::error::Error>> {
//!     let stream = Stream::open("state".as_ref())?;
//!     let profiles = Arc::new(Profiles::rebuild(&stream, Limits::default(), &mut |_, _| ())?);
//!     let parts = Parts { engine, stream, profiles };
//!     millstream_serve::run(ServeConfig::default(), parts, |at| eprintln!("http://{at}"))?;
//!     Ok(())
//! }
//! ```

pub mod answer;
pub mod api;
pub mod config;
pub mod engine;
mod error;
mod guard;
mod listen;
pub mod observe;
mod page;
mod receive;
mod reject;
pub mod routes;
mod start;
mod state;

pub use config::ServeConfig;
pub use engine::{Ask, Engine, EngineError, Ranked, Scored};
pub use error::Error;
pub use reject::Reject;
pub use start::{Parts, Running, run, spawn};
