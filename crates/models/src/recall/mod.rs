//! Retrievers and counting models, one file each.

mod envelope;
pub mod item_cf;
pub mod popularity;
pub mod positives;
pub mod two_tower;
