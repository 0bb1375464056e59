//! The crate against small generated worlds; laws over the registries.

mod catalogue;
mod chain;
mod channels;
mod deadlines;
mod rules;
mod world;
