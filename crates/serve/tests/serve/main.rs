//! The server over real sockets, with an engine whose answers are known.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api;
mod client;
mod engine;
mod safety;
