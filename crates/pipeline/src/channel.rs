//! What a recall channel is, and the list of them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use millstream_models::recall::bspm::Bspm;
use millstream_models::recall::item_cf::ItemCf;
use millstream_models::recall::popularity::Popularity;
use millstream_models::recall::user_cf::UserCf;
use millstream_schema::{Batch, Columns, EventKind, ItemRow, config, suggest};
use serde::de::DeserializeOwned;

use crate::catalogue::Snapshot;
use crate::channels::{
    bspm, content, hot, i2i, item_cf, keyword, near_line, new_items, remote, tag, two_tower, user_cf, vector,
};
use crate::facts::CatalogueConfig;
use crate::live::{Live, UserRows};
use crate::names::Names;
use crate::near_line::BestKept;
use crate::score::CandidateScorer;
use crate::takers::Takers;
use crate::vectors::{ContentVectors, ItemToItem, ItemVectors, NearVectors, Retrieval, VectorSearch};
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
    /// Retrievers by name, each with an index over its own item vectors.
    pub retrievers: BTreeMap<String, Retrieval>,
    /// Index over `item_vectors`, for similar items.
    pub search: Option<Arc<dyn VectorSearch>>,
    /// Item vectors for diversity and for similar items.
    pub item_vectors: Option<Arc<dyn ItemVectors>>,
    /// Item-to-item similarities.
    pub item_cf: Option<Arc<Live<ItemCf>>>,
    /// Further item-to-item lists by name.
    pub item_lists: BTreeMap<String, Arc<dyn ItemToItem>>,
    /// Vectors of item texts with their index.
    pub content: Option<ContentVectors>,
    /// Who took what, for user-based collaborative filtering.
    pub takers: Option<Arc<Live<Takers>>>,
    /// Trained models of user-based collaborative filtering by name.
    pub user_cf: BTreeMap<String, Arc<Live<UserCf>>>,
    /// Rows of users in `takers` and `user_cf`.
    pub user_rows: Arc<UserRows>,
    /// Trained filters over the graph of users and items, by name.
    pub filters: BTreeMap<String, Arc<Bspm>>,
    /// What a background worker found best for each user.
    pub near_line: Option<Arc<dyn BestKept>>,
    /// What is hot, updated as events come in.
    pub popularity: Arc<RwLock<Popularity>>,
    /// Kinds of action that histories may hold; empty: not known, and any may be named.
    pub event_kinds: Vec<EventKind>,
}

impl Resources {
    /// The counts of what is hot, for reading.
    pub fn hot(&self) -> RwLockReadGuard<'_, Popularity> {
        self.popularity.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Item-to-item lists by name: `item_cf`, `vectors`, `content`, and those of `item_lists`.
    pub fn lists(&self) -> BTreeMap<String, Arc<dyn ItemToItem>> {
        let mut all = self.item_lists.clone();
        if let Some(table) = &self.item_cf {
            all.insert("item_cf".into(), table.clone());
        }
        if let (Some(vectors), Some(search)) = (&self.item_vectors, &self.search) {
            all.insert("vectors".into(), Arc::new(NearVectors::new(vectors.clone(), search.clone())));
        }
        if let Some(content) = &self.content {
            let near = NearVectors::new(content.vectors.clone(), content.search.clone());
            all.insert("content".into(), Arc::new(near));
        }
        all
    }
}

/// What a channel is built from.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Its name; several channels of one kind have different ones.
    pub name: &'a str,
    /// Its own options.
    pub options: &'a toml::Table,
    /// The parts at hand.
    pub parts: &'a Resources,
    /// Which record fields mean what.
    pub catalogue: &'a CatalogueConfig,
    /// The fields that options may name.
    pub names: &'a Names,
}

impl Setup<'_> {
    /// The options; an unknown key is an error that names the nearest.
    ///
    /// # Errors
    /// An unknown key, or a value of the wrong sort.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        Ok(config::from_table(self.options, &format!("options of channel `{}`", self.name))?)
    }

    /// An error that says what is wrong with the options.
    pub fn refuse(&self, what: impl std::fmt::Display) -> Error {
        Error::Config(format!("options of channel `{}`: {what}", self.name))
    }

    /// An error that says which part there is none of.
    pub fn needs(&self, what: impl std::fmt::Display) -> Error {
        Error::Config(format!("channel `{}` needs {what}, and there is none", self.name))
    }
}

/// One entry of [`CHANNELS`].
pub struct ChannelDef {
    /// Kind in configurations; also the name of a channel that has no other.
    pub name: &'static str,
    /// Whether it needs to know the user; such channels are not asked for strangers.
    pub personal: bool,
    /// Candidates asked for where the configuration does not say.
    pub quota: usize,
    /// Share in the merge where the configuration does not say.
    pub weight: f32,
    /// Whether its items take the place of the merged list's tail, instead of a share of its whole.
    pub tail: bool,
    /// Whether it takes part, its parts being at hand, where the configuration names no channel.
    pub by_default: bool,
    /// The part it needs and lacks, if any.
    pub lacks: fn(&Resources) -> Option<&'static str>,
    /// Makes the channel from its options.
    pub build: BuildChannel,
}

/// Makes a channel from its name, its options and the parts at hand.
pub type BuildChannel = fn(&Setup<'_>) -> Result<Arc<dyn Channel>, Error>;

/// All kinds of channels, in the order in which the merge goes round where none are named. A new one is a file
/// in `channels/` and a line here; it then stands the law suite.
pub const CHANNELS: &[ChannelDef] = &[
    two_tower::DEF,
    item_cf::DEF,
    hot::DEF,
    new_items::DEF,
    vector::DEF,
    i2i::DEF,
    user_cf::DEF,
    tag::DEF,
    keyword::DEF,
    content::DEF,
    bspm::DEF,
    near_line::DEF,
    remote::DEF,
];

/// The definition of this kind.
///
/// # Errors
/// There is none; the nearest name is given.
pub fn find(kind: &str) -> Result<&'static ChannelDef, Error> {
    CHANNELS.iter().find(|d| d.name == kind).ok_or_else(|| {
        let valid: Vec<&str> = CHANNELS.iter().map(|d| d.name).collect();
        Error::Config(suggest::unknown("channel", kind, valid.iter().copied()))
    })
}
