//! Retrievers and counting models, one file each.

mod envelope;
pub mod gat_entmax;
pub mod gru4rec;
pub mod intent_split;
mod intents;
pub mod item_cf;
pub mod multi_behaviour;
pub mod next_item;
pub mod popularity;
pub mod positives;
mod prefixes;
pub mod sasrec;
pub mod sdm;
pub mod two_tower;
