//! From a request to a feed: recall, merge, score, fuse, re-rank, explain. Knows nothing of training and
//! nothing of HTTP; time, randomness and configuration are arguments.
//!
//! ```
//! use millstream_pipeline::{Catalogue, Item, Pipeline, PipelineConfig, Request, Resources};
//! use millstream_schema::{Fitter, Record, Schema};
//! use std::sync::Arc;
//!
//! let encoder = Arc::new(Fitter::new(&Schema::default()).finish()?);
//! let item = |id: &str| Item { record: Record { id: id.into(), ..Record::default() }, ..Item::default() };
//! let config = PipelineConfig::default();
//! let items = vec![item("bread"), item("milk")];
//! let catalogue = Arc::new(Catalogue::new(config.catalogue.clone(), encoder, vec![], items)?);
//! let parts = Resources::default();
//! parts.popularity.write().unwrap().add(1, 1_000, 1.0, None);
//!
//! let pipeline = Pipeline::new(config, catalogue, parts)?;
//! let stranger = Request::new("nobody", millstream_schema::ids::NO_ROW, 2_000, 2);
//! let feed = pipeline.recommend(&stranger)?;
//! assert!(!feed.personal);
//! assert_eq!(feed.items[0].item, "milk");
//! assert_eq!(feed.items[1].item, "bread");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod breaker;
pub mod catalogue;
mod chain;
pub mod channel;
pub mod channels;
pub mod config;
mod error;
mod explain;
mod facts;
pub mod fuse;
pub mod graph;
pub mod live;
pub mod merge;
pub mod names;
pub mod near_line;
mod pipeline;
pub mod queries;
mod recall;
pub mod request;
pub mod rule;
pub mod rules;
pub mod score;
pub mod similar;
pub mod takers;
pub mod terms;
pub mod trace;
pub mod vectors;

pub use catalogue::{Catalogue, Snapshot};
pub use channel::{CHANNELS, Call, Candidate, Channel, ChannelDef, Resources, Setup, UserVectors};
pub use config::PipelineConfig;
pub use error::Error;
pub use facts::{CatalogueConfig, Item};
pub use graph::IndexConfig;
pub use live::{Live, UserRows};
pub use names::Names;
pub use pipeline::{Pipeline, Recalled};
pub use request::{Request, SeenNow};
pub use rule::{Entry, RULES, Rule, RuleCall, RuleDef};
pub use score::CandidateScorer;
pub use similar::Similar;
pub use takers::Takers;
pub use trace::{Feed, FeedItem, ItemTrace, Trace};
pub use vectors::{ContentVectors, DenseVectors, ItemToItem, ItemVectors, Retrieval, VectorSearch};

#[cfg(test)]
mod tests;
