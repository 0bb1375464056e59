//! Retrievers and counting models, one file each.

pub mod comirec;
pub mod dat;
mod envelope;
pub mod gat_entmax;
pub mod gru4rec;
pub mod intent_split;
mod intents;
mod interest;
pub mod item_cf;
pub mod lightgcn;
pub mod mind;
pub mod multi_behaviour;
pub mod next_item;
pub mod popularity;
pub mod positives;
mod prefixes;
mod profile;
pub mod sasrec;
pub mod sdm;
pub mod simplex;
pub mod two_tower;
pub mod youtube_dnn;
