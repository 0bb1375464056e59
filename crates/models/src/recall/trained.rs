//! A trained offline model as a file: what it is, what it learned from, and the lists that channels look up.
//!
//! ```text
//! container of kind "RCLM" (store::container): sections `about`, `model` and, per table, `lists.NAME`
//! ```
//! Rows of items and users mean what they meant in the catalogue that it learned from; [`About::catalogue`] tells it from others.

use std::path::Path;

use millstream_store::container::{Container, ContainerWriter};
use serde::{Deserialize, Serialize};

use crate::recall::lists::InvertedLists;
use crate::recall::near::Near;
use crate::recall::offline::{OfflineDef, OfflineModel};
use crate::recall::positives::Positives;
use crate::{Error, ModelConfig};

const KIND: [u8; 4] = *b"RCLM";
const VERSION: u32 = 1;
/// Table of what is near by the model's vectors, or of its own lists.
const LISTS: &str = "";
/// Table of what is near in the item's own cluster.
const CLUSTERS: &str = "clusters";

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Name of the kind of model, in [`OFFLINE`](crate::recall::offline::OFFLINE).
    pub kind: String,
    /// Its options, as TOML.
    pub options: String,
    /// Entries per item of lists made of vectors.
    pub neighbours: usize,
    /// Seed.
    pub seed: u64,
    /// Parts of the data that it learned from.
    pub parts: Vec<String>,
    /// Number that stands for the ids of users and items, in order.
    pub catalogue: u64,
}

/// A model with its tables.
#[derive(Debug, Clone)]
pub struct Trained {
    /// What it is.
    pub about: About,
    /// What was learned.
    pub model: OfflineModel,
    /// Tables from item to items by what their name adds to the model's; the first has the model's own.
    pub tables: Vec<(String, InvertedLists)>,
}

impl About {
    /// The model with its options.
    ///
    /// # Errors
    /// The options are no TOML.
    pub fn model(&self) -> Result<ModelConfig, Error> {
        let options =
            self.options.parse().map_err(|e| Error::Corrupt(format!("options are no TOML: {e}")))?;
        Ok(ModelConfig { options, ..ModelConfig::named(&self.kind) })
    }

    /// What a name adds for each table that a model of this kind has.
    pub fn tables(kind: &str) -> &'static [&'static str] {
        match kind {
            "user_cf" | "bspm" => &[],
            "spectral" => &[LISTS, CLUSTERS],
            _ => &[LISTS],
        }
    }

    /// Whether the lists of a model of this kind are made of its vectors, `neighbours` entries each.
    pub fn lists_vectors(kind: &str) -> bool {
        !matches!(kind, "item_cf" | "swing" | "user_cf" | "bspm")
    }

    /// Name of a table: the model's, or `model.addition`.
    pub fn table_name(model: &str, addition: &str) -> String {
        if addition.is_empty() { model.to_owned() } else { format!("{model}.{addition}") }
    }
}

impl Trained {
    /// Learns, and makes the tables.
    ///
    /// # Errors
    /// There is no such kind of model, an option is out of range, or as [`OfflineDef::fit`].
    pub fn fit(about: About, positives: &Positives<'_>) -> Result<Self, Error> {
        let def = OfflineDef::named(&about.kind)?;
        let model = def.fit(&about.model()?, positives, about.seed)?;
        let near = Near { neighbours: about.neighbours, ..Near::default() };
        let mut tables = Vec::new();
        if let OfflineModel::Lists(lists) = &model {
            tables.push((LISTS.to_owned(), lists.clone()));
        }
        if let Some(factors) = model.factors() {
            tables.push((LISTS.to_owned(), factors.near(&near)?));
        }
        if let OfflineModel::Spectral(spectral) = &model {
            tables.push((CLUSTERS.to_owned(), spectral.lists(&near)?));
        }
        Ok(Self { about, model, tables })
    }

    /// Writes the file: whole, synced, and only then under its name.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let about = postcard::to_stdvec(&self.about)
            .map_err(|e| Error::Corrupt(format!("{}: cannot be saved: {e}", path.display())))?;
        let mut out = ContainerWriter::create(path, KIND, VERSION)?;
        out.section("about", |w| w.write_all(&about))?;
        let model = self.model.to_bytes()?;
        out.section("model", |w| w.write_all(&model))?;
        // The lists of a model that is nothing else are in it.
        let made = self.tables.iter().filter(|_| !matches!(self.model, OfflineModel::Lists(_)));
        for (name, lists) in made {
            let bytes = lists.to_bytes()?;
            out.section(&format!("lists.{name}"), |w| w.write_all(&bytes))?;
        }
        Ok(out.commit()?)
    }

    /// Reads a file that [`Trained::save`] wrote; checksums and everything inside are checked.
    ///
    /// # Errors
    /// It cannot be read, is not such a file, is damaged, or does not hold together.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let corrupt = |what: &dyn std::fmt::Display| Error::Corrupt(format!("{}: {what}", path.display()));
        let mut file = Container::open(path, KIND, VERSION)?;
        let about: About = postcard::from_bytes(&file.section("about")?)
            .map_err(|_| corrupt(&"what the model is cannot be read"))?;
        let model = OfflineModel::from_bytes(&file.section("model")?).map_err(|e| corrupt(&e))?;
        if model.kind() != about.kind {
            return Err(corrupt(&format!("it says `{}` and holds `{}`", about.kind, model.kind())));
        }
        let mut tables = Vec::new();
        for name in About::tables(&about.kind) {
            let lists = match &model {
                OfflineModel::Lists(lists) => lists.clone(),
                _ => InvertedLists::from_bytes(&file.section(&format!("lists.{name}"))?)
                    .map_err(|e| corrupt(&e))?,
            };
            if lists.items() != model.items() {
                return Err(corrupt(&"its lists are of other items than its model"));
            }
            tables.push(((*name).to_owned(), lists));
        }
        Ok(Self { about, model, tables })
    }
}

/// A number that stands for these ids in this order.
pub fn catalogue_number<'a>(
    users: impl Iterator<Item = &'a str>,
    items: impl Iterator<Item = &'a str>,
) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut add = |ids: &mut dyn Iterator<Item = &'a str>| {
        let mut count = 0u64;
        for id in ids {
            hash.update(&(id.len() as u64).to_le_bytes());
            hash.update(id.as_bytes());
            count += 1;
        }
        hash.update(&count.to_le_bytes());
    };
    add(&mut { users });
    add(&mut { items });
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::offline::OFFLINE;
    use crate::recall::offline::tests::{few, halves};

    fn about(kind: &str) -> About {
        About {
            kind: kind.into(),
            options: few(kind).into(),
            neighbours: 4,
            seed: 1,
            parts: vec!["train".into()],
            catalogue: 77,
        }
    }

    #[test]
    fn every_model_is_saved_and_opened_with_its_tables() {
        let (offsets, item) = halves();
        let p = Positives { items: 21, offsets: &offsets, item: &item, time_ms: &[] };
        let dir = tempfile::tempdir().unwrap();
        for def in OFFLINE {
            let path = dir.path().join(def.name);
            let trained = Trained::fit(about(def.name), &p).unwrap();
            trained.save(&path).unwrap();
            let read = Trained::open(&path).unwrap();
            assert_eq!((&read.about, &read.tables), (&trained.about, &trained.tables), "{}", def.name);
            assert_eq!(read.tables.len(), About::tables(def.name).len());
            assert_eq!(About::lists_vectors(def.name), read.model.factors().is_some(), "{}", def.name);
            assert_eq!((read.model.kind(), read.model.items()), (def.name, 21));
            let scores = |t: &Trained| {
                let mut out = vec![0.0; 21];
                t.model.score_into(3, &[(11, 1.0), (15, 1.0)], &mut out);
                out
            };
            assert_eq!(scores(&read), scores(&trained), "{}", def.name);
            for (name, lists) in &read.tables {
                assert!(lists.neighbours(0)[0].0 < 10, "{} {name}: {lists:?}", def.name);
                assert!(lists.neighbours(20).is_empty());
                assert!(def.name == "item_cf" || def.name == "swing" || lists.neighbours(0).len() == 4);
            }
            let bytes = std::fs::read(&path).unwrap();
            for at in [3, 25, bytes.len() / 2, bytes.len() - 20] {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                std::fs::write(&path, bad).unwrap();
                assert!(Trained::open(&path).is_err(), "{} byte {at}", def.name);
            }
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            assert!(Trained::open(&path).is_err());
        }
        let wrong = Trained::fit(about("node2wec"), &p).unwrap_err().to_string();
        assert!(wrong.contains("did you mean `node2vec`"), "{wrong}");
    }

    #[test]
    fn the_number_of_a_catalogue_tells_ids_and_their_order() {
        let number = |users: &[&'static str], items: &[&'static str]| {
            catalogue_number(users.iter().copied(), items.iter().copied())
        };
        let one = number(&["a", "b"], &["c"]);
        assert_eq!(one, number(&["a", "b"], &["c"]));
        for (users, items) in
            [(["b", "a"].as_slice(), ["c"].as_slice()), (&["ab"], &["c"]), (&["a"], &["b", "c"])]
        {
            assert_ne!(one, number(users, items));
        }
    }

    /// A file of version 1, written when it was new: ALS over the halves of `every_model_is_saved_and_opened_with_its_tables`.
    #[test]
    fn a_file_of_the_first_version_is_read_forever() {
        let read = Trained::open(Path::new("tests/data/recall_model_v1.mill")).unwrap();
        assert_eq!(read.about.kind, "als");
        assert_eq!((read.about.seed, read.about.catalogue), (1, 77));
        assert_eq!(read.model.items(), 21);
        assert_eq!(read.tables[0].1.neighbours(0).len(), 4);
    }
}
