//! A model on disk: the file the trainer saves is the file the server opens.

use millstream_nn::{Params, Weights};
use millstream_schema::Field;
use millstream_store::container::{Container, ContainerWriter};
use millstream_store::{MappedStore, Rows, SHARDS, Store, TableId};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

use crate::{Error, ModelConfig};

const KIND: [u8; 4] = *b"MODL";
const VERSION: u32 = 1;

/// What a saved model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Scores candidates.
    Ranker,
    /// Gives vectors of users and items.
    Retriever,
}

/// What a saved model says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Ranker or retriever.
    pub role: Role,
    /// Name and options.
    pub model: ModelConfig,
    /// Task names, T of them.
    pub tasks: Vec<String>,
    /// [`fingerprint`] of the encoder's fields.
    pub fields: u64,
    /// Seed of the weights.
    pub seed: u64,
    /// Training steps taken.
    pub steps: u64,
    /// Share w of the negatives that training saw, where they were sampled: logits are ln w too high, and what serves
    /// or judges the model takes that off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negatives_kept: Option<f64>,
}

impl Header {
    /// What is added to logits so that their probabilities are those on all rows.
    pub fn logit_shift(&self) -> f32 {
        self.negatives_kept.map_or(0.0, |kept| kept.ln() as f32)
    }
}

/// A number that changes with the names, shapes and key spaces of an encoder's fields.
pub fn fingerprint(fields: &[Field]) -> u64 {
    let mut hash = Xxh3::new();
    for field in fields {
        hash.update(
            format!("{}|{:?}|{:?}|{:?};", field.name, field.rows, field.shape, field.space).as_bytes(),
        );
    }
    hash.digest()
}

/// Writes a model with `extra` sections: complete and on disk under its name, or not there at all.
///
/// # Errors
/// The disk refuses.
pub fn write(
    path: &Path,
    header: &Header,
    params: &Params,
    store: &Store,
    extra: &[(&str, &[u8])],
) -> Result<(), Error> {
    let mut out = ContainerWriter::create(path, KIND, VERSION)?;
    let header = serde_json::to_vec(header).map_err(|e| Error::Corrupt(e.to_string()))?;
    let weights = postcard::to_stdvec(&params.weights()).map_err(|e| Error::Corrupt(e.to_string()))?;
    out.section("header", |w| w.write_all(&header))?;
    out.section("weights", |w| w.write_all(&weights))?;
    out.section("rows", |w| store.write_to(w))?;
    for (name, bytes) in extra {
        out.section(name, |w: &mut dyn Write| w.write_all(bytes))?;
    }
    Ok(out.commit()?)
}

/// An opened, checked model file.
pub struct Saved {
    container: Container,
    /// What it says of itself.
    pub header: Header,
}

impl Saved {
    /// Opens the file and checks every checksum.
    ///
    /// # Errors
    /// It is missing, not a model, newer than this program, cut short or damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut container = Container::open(path, KIND, VERSION)?;
        let header = container.section("header")?;
        let header = serde_json::from_slice(&header)
            .map_err(|e| Error::Corrupt(format!("{}: its header does not read: {e}", path.display())))?;
        Ok(Self { container, header })
    }

    /// Opens the file and checks that it was trained on these fields in this role.
    ///
    /// # Errors
    /// As [`Saved::open`], or the model belongs to another encoder or role.
    pub fn open_for(path: &Path, role: Role, fields: &[Field]) -> Result<Self, Error> {
        let saved = Self::open(path)?;
        if saved.header.role != role {
            return Err(Error::Config(format!(
                "{}: this is a {:?} (`{}`), not a {role:?}",
                path.display(),
                saved.header.role,
                saved.header.model.name
            )));
        }
        if saved.header.fields != fingerprint(fields) {
            return Err(Error::Config(format!(
                "{}: the model was trained on other features than this data has; prepare and train again",
                path.display()
            )));
        }
        Ok(saved)
    }

    /// The dense weights.
    pub fn weights(&mut self) -> Result<Weights, Error> {
        let bytes = self.container.section("weights")?;
        postcard::from_bytes(&bytes).map_err(|e| self.corrupt("weights", &e))
    }

    /// The embedding rows with their optimiser state.
    pub fn store(&mut self) -> Result<Store, Error> {
        self.store_with_shards(SHARDS)
    }

    /// As [`Saved::store`] with a chosen number of shards per table, see [`Store::with_shards`].
    pub fn store_with_shards(&mut self, shards: usize) -> Result<Store, Error> {
        let path = self.container.path().to_owned();
        let mut reader = self.container.reader("rows")?;
        Ok(Store::read_with_shards(&mut reader, &path, shards)?)
    }

    /// The embedding rows, to read only.
    ///
    /// # Errors
    /// As [`MappedStore::open_section`] and [`Saved::store`].
    pub fn still_rows(&mut self) -> Result<StillRows, Error> {
        match MappedStore::open_section(self.container.path(), KIND, VERSION, "rows") {
            Ok(mapped) => Ok(StillRows::Mapped(mapped)),
            // Written by a version that could not be mapped yet.
            Err(millstream_store::Error::Input(_)) => self.store().map(StillRows::Loaded),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether there is an extra section of this name.
    pub fn has_section(&self, name: &str) -> bool {
        self.container.has(name)
    }

    /// An extra section.
    pub fn section(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        Ok(self.container.section(name)?)
    }

    fn corrupt(&self, section: &str, why: &dyn std::fmt::Display) -> Error {
        Error::Corrupt(format!(
            "{}: section `{section}` does not read: {why}",
            self.container.path().display()
        ))
    }
}

/// Embedding rows of a model that no longer learns: where they lie in its file, so that what memory they take is the system's to
/// give and take back, processes share it, and the optimiser's state beside them is never read; or loaded, out of an old file.
pub enum StillRows {
    /// In the file.
    Mapped(MappedStore),
    /// In memory.
    Loaded(Store),
}

impl StillRows {
    /// The table called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn table(&self, name: &str) -> Result<TableId, Error> {
        Ok(match self {
            Self::Mapped(store) => store.table(name)?,
            Self::Loaded(store) => store.table(name)?,
        })
    }

    /// Weights of `keys`, see [`Rows::pull`].
    ///
    /// # Errors
    /// As [`Rows::pull`].
    pub fn pull(&self, table: TableId, keys: &[u64], out: &mut [f32]) -> Result<(), Error> {
        match self {
            Self::Mapped(store) => store.pull(table, keys, out),
            Self::Loaded(store) => store.pull(table, keys, out),
        }
        .map_err(Error::from)
    }
}
