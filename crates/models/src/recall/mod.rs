//! Retrievers and counting models, one file each.

mod envelope;
pub mod gru4rec;
pub mod item_cf;
pub mod next_item;
pub mod popularity;
pub mod positives;
pub mod sasrec;
pub mod two_tower;
