//! Items like an item: those taken by the same users, then those with near vectors.

use millstream_schema::ItemRow;
use rapidhash::RapidHashSet;
use serde::Serialize;

use crate::{Error, Pipeline};

/// An item with how alike it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similar {
    /// External id.
    pub item: String,
    /// Catalogue row.
    #[serde(skip)]
    pub row: ItemRow,
    /// Higher is more alike; scores of different sources do not compare.
    pub score: f32,
    /// `item_cf` or `vectors`.
    pub source: &'static str,
}

impl Pipeline {
    /// At most `k` items like the one at `row` that may be shown at `now_ms`, most alike first: neighbours by
    /// common users, filled up by neighbours in vector space. Empty where the models know neither.
    ///
    /// # Errors
    /// There is no such item, or the index fails.
    pub fn similar_items(&self, row: ItemRow, k: usize, now_ms: i64) -> Result<Vec<Similar>, Error> {
        let catalogue = self.catalogue.snapshot();
        if catalogue.is_removed(row) {
            return Err(Error::Input(format!("there is no item `{}`", catalogue.item_id(row))));
        }
        let mut met = RapidHashSet::from_iter([row]);
        let mut found = Vec::new();
        let similar = |(row, score): (ItemRow, f32), source| Similar {
            item: catalogue.item_id(row).into(),
            row,
            score,
            source,
        };
        if let Some(table) = self.parts.item_cf.as_ref().map(|table| table.get()) {
            let alive = table.neighbours(row).iter().filter(|x| catalogue.is_alive(x.0, now_ms));
            found.extend(alive.take(k).map(|&x| similar(x, "item_cf")));
            met.extend(found.iter().map(|s| s.row));
        }
        if let (Some(vectors), Some(search)) = (&self.parts.item_vectors, &self.parts.search) {
            let mut query = vec![0.0; vectors.dim()];
            if found.len() < k && vectors.copy(row, &mut query) {
                let keep = |item: ItemRow| catalogue.is_alive(item, now_ms) && !met.contains(&item);
                let near = search.search(&query, k - found.len(), &keep)?;
                found.extend(near.into_iter().map(|x| similar(x, "vectors")));
            }
        }
        Ok(found)
    }
}
