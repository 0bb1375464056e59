//! Retrievers and counting models, one file each.

mod envelope;
pub mod gat_entmax;
pub mod gru4rec;
pub mod intent_split;
pub mod item_cf;
pub mod next_item;
pub mod popularity;
pub mod positives;
mod prefixes;
pub mod sasrec;
pub mod two_tower;
