//! The crate against small generated worlds; laws over the registries.

mod catalogue;
mod chain;
mod channels;
mod content;
mod deadlines;
mod fallbacks;
mod learned;
mod names;
mod remote;
mod rules;
mod server;
mod several;
mod twins;
mod world;
