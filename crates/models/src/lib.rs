//! Every ranker and retriever, one file each.

mod behaviour;
pub mod config;
pub mod content;
mod crossing;
pub mod embeds;
mod error;
mod heads;
pub mod input;
pub mod ndcg;
mod neural;
pub mod online;
pub mod rank;
pub mod ranker;
pub mod recall;
pub mod retriever;
pub mod serving;
mod sizes;
pub mod snapshot;
mod sparse;
mod svd;

pub use config::ModelConfig;
pub use error::Error;
pub use millstream_nn::Precision;
pub use ranker::{RANKERS, Ranker, RankerDef};
pub use retriever::{RETRIEVERS, Retriever, RetrieverDef};
pub use serving::{Embedder, Scorer};
