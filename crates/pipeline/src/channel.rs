//! What a recall channel is, and the list of them.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use millstream_models::recall::item_cf::ItemCf;
use millstream_models::recall::popularity::Popularity;
use millstream_schema::{Batch, Columns, ItemRow, suggest};

use crate::catalogue::Snapshot;
use crate::channels::{hot, item_cf, new_items, two_tower};
use crate::score::CandidateScorer;
use crate::vectors::{ItemVectors, VectorSearch};
use crate::{Error, Request};

/// An item with what its channel thinks of it; scores of different channels do not compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Catalogue row.
    pub item: ItemRow,
    /// Higher is better within the channel.
    pub score: f32,
}

/// A request together with the state of the catalogue it is answered from.
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// The catalogue, unchanging.
    pub catalogue: Arc<Snapshot>,
    /// Encoded context, one row.
    pub context: Columns,
}

impl Call {
    /// Whether the item may be shown: alive at the time of the request, and not seen.
    pub fn keep(&self, item: ItemRow) -> bool {
        self.catalogue.is_alive(item, self.request.time_ms) && !self.request.has_seen(item)
    }
}

/// Finds candidates for a request.
pub trait Channel: Send + Sync {
    /// At most `k` distinct items for which [`Call::keep`] holds, best first; the same call gives the same.
    ///
    /// # Errors
    /// Whatever keeps the channel from answering; the request goes on without it.
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error>;
}

/// Vectors of the users of a batch.
pub trait UserVectors: Send + Sync {
    /// `[R, K, D]`, row-major: K vectors for each request.
    ///
    /// # Errors
    /// The batch was made by another encoder.
    fn users(&self, batch: &Batch) -> Result<Vec<f32>, Error>;

    /// D.
    fn dim(&self) -> usize;
}

impl UserVectors for millstream_models::Embedder {
    fn users(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        Ok(millstream_models::Embedder::users(self, batch)?)
    }

    fn dim(&self) -> usize {
        millstream_models::Embedder::dim(self)
    }
}

/// The trained parts that a pipeline is made of. What is absent is done without.
#[derive(Clone, Default)]
pub struct Resources {
    /// Ranks candidates.
    pub scorer: Option<Arc<dyn CandidateScorer>>,
    /// User side of the retriever.
    pub user_vectors: Option<Arc<dyn UserVectors>>,
    /// Index over the retriever's item vectors.
    pub search: Option<Arc<dyn VectorSearch>>,
    /// Item vectors for diversity and for similar items.
    pub item_vectors: Option<Arc<dyn ItemVectors>>,
    /// Item-to-item similarities.
    pub item_cf: Option<Arc<ItemCf>>,
    /// What is hot, updated as events come in.
    pub popularity: Arc<RwLock<Popularity>>,
}

impl Resources {
    /// The counts of what is hot, for reading.
    pub fn hot(&self) -> RwLockReadGuard<'_, Popularity> {
        self.popularity.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One entry of [`CHANNELS`].
pub struct ChannelDef {
    /// Name in configurations and traces.
    pub name: &'static str,
    /// Whether it needs to know the user; such channels are not asked for strangers.
    pub personal: bool,
    /// Candidates asked for where the configuration does not say.
    pub quota: usize,
    /// Share in the merge where the configuration does not say.
    pub weight: f32,
    /// The part it needs and lacks, if any.
    pub lacks: fn(&Resources) -> Option<&'static str>,
    /// Makes the channel from its options.
    pub build: BuildChannel,
}

/// Makes a channel from its options and the parts at hand.
pub type BuildChannel = fn(&toml::Table, &Resources) -> Result<Arc<dyn Channel>, Error>;

/// All channels, in the order in which the merge goes round. A new one is a file in `channels/` and a line
/// here; it then stands the law suite.
pub const CHANNELS: &[ChannelDef] = &[two_tower::DEF, item_cf::DEF, hot::DEF, new_items::DEF];

/// The definition of this name.
///
/// # Errors
/// There is none; the nearest name is given.
pub fn find(name: &str) -> Result<&'static ChannelDef, Error> {
    CHANNELS.iter().find(|d| d.name == name).ok_or_else(|| {
        let valid: Vec<&str> = CHANNELS.iter().map(|d| d.name).collect();
        Error::Config(suggest::unknown("channel", name, valid.iter().copied()))
    })
}
