//! Users and items as records: read from the dataset's files once, kept beside the models.

use millstream_data::Prepared;
use millstream_data::config::{CatalogueFiles, DatasetConfig};
use millstream_data::logs;
use millstream_schema::{IdMap, Record};
use millstream_store::container::{Container, ContainerWriter};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

use crate::Failure;

const KIND: [u8; 4] = *b"RECS";
const VERSION: u32 = 1;
/// Rows read at once.
const CHUNK: usize = 8192;

/// Users and items in the order of the prepared catalogue.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Records {
    /// By user row.
    pub users: Vec<Record>,
    /// By item row.
    pub items: Vec<Record>,
}

impl Records {
    /// Reads the dataset's user and item files; whoever only occurs in events has an id and no fields.
    pub fn read(root: &Path, config: &DatasetConfig, prepared: &Prepared) -> Result<Self, Failure> {
        let folder = config.folder(root);
        let side = |files: Option<&CatalogueFiles>, ids: &IdMap| -> Result<Vec<Record>, Failure> {
            let mut found = match files {
                Some(files) => read_files(&folder, files)?,
                None => HashMap::new(),
            };
            Ok(ids
                .iter()
                .map(|id| found.remove(id).unwrap_or_else(|| Record { id: id.into(), ..Record::default() }))
                .collect())
        };
        Ok(Self {
            users: side(config.dataset.users.as_ref(), &prepared.users)?,
            items: side(config.dataset.items.as_ref(), &prepared.items)?,
        })
    }

    /// Writes them to a file.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let mut out = ContainerWriter::create(path, KIND, VERSION)?;
        let bytes = postcard::to_stdvec(self)?;
        out.section("records", |w| w.write_all(&bytes))?;
        Ok(out.commit()?)
    }

    /// Reads them back.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let bytes = Container::open(path, KIND, VERSION)?.section("records")?;
        postcard::from_bytes(&bytes).map_err(|e| format!("{}: {e}", path.display()).into())
    }
}

fn read_files(folder: &Path, files: &CatalogueFiles) -> Result<HashMap<String, Record>, Failure> {
    let mut found = HashMap::new();
    for file in &files.files {
        let mut reader = logs::open(&folder.join(file), &files.log_format())?;
        let mut frame = reader.frame();
        let Some(id) = frame.column(&files.id) else { continue };
        while reader.read(&mut frame, CHUNK)? > 0 {
            for row in 0..frame.rows() {
                let name = frame.get(row, id).trim();
                let cells = (0..frame.columns().len()).filter(|&c| c != id && !frame.get(row, c).is_empty());
                let fields =
                    cells.map(|c| (frame.columns()[c].clone(), frame.get(row, c).to_owned())).collect();
                found.insert(name.to_owned(), Record { id: name.to_owned(), fields });
            }
            frame.clear();
        }
    }
    Ok(found)
}
