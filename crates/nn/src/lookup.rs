//! From embedding keys to places: each key of a batch is looked up once, however often it occurs.

use crate::error::{Error, Result};
use crate::ops::{Bags, Pooling};
use millstream_schema::{Batch, Column, Field, Pool, Rows, Shape};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

/// The distinct keys of one key space in a batch, in order of first occurrence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpaceKeys {
    /// Name of the key space.
    pub space: String,
    /// Distinct keys: row u of a table of this space belongs to `unique[u]`.
    pub unique: Vec<u64>,
}

/// Where one field's rows are among the unique keys of its space.
#[derive(Debug, Clone)]
pub enum Places {
    /// One row per request or candidate.
    One(Arc<Vec<u32>>),
    /// A bag of rows per request or candidate.
    Many(Bags),
    /// A field without keys.
    None,
}

/// The distinct keys of a batch by space, and each field's places among them.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// One entry per key space of the fields.
    pub spaces: Arc<Vec<SpaceKeys>>,
    /// One entry per field.
    pub fields: Vec<Places>,
}

impl Lookup {
    /// Plans one batch; to plan many, keep a [`Planner`], which reuses its memory.
    ///
    /// # Errors
    /// A batch whose columns are not those of the fields.
    pub fn plan(fields: &[Field], batch: &Batch) -> Result<Self> {
        Planner::new(fields).plan(fields, batch)
    }

    /// The distinct keys of a space; none if no field has it.
    pub fn unique(&self, space: &str) -> &[u64] {
        self.spaces.iter().find(|s| s.space == space).map_or(&[], |s| &s.unique)
    }
}

/// Plans batches of the same fields, reusing its hash tables. Spaces are planned in parallel.
#[derive(Debug, Clone)]
pub struct Planner {
    spaces: Vec<Space>,
}

#[derive(Debug, Clone)]
struct Space {
    name: String,
    fields: Vec<usize>,
    table: Table,
}

impl Planner {
    /// A planner for batches of these fields.
    pub fn new(fields: &[Field]) -> Self {
        let mut spaces: Vec<Space> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (i, field) in fields.iter().enumerate() {
            let Some(name) = &field.space else { continue };
            let at = *places.entry(name).or_insert_with(|| {
                spaces.push(Space { name: name.clone(), fields: Vec::new(), table: Table::default() });
                spaces.len() - 1
            });
            spaces[at].fields.push(i);
        }
        Self { spaces }
    }

    /// Finds the distinct keys of a batch.
    ///
    /// # Errors
    /// A batch whose columns are not those of the fields the planner was made for.
    pub fn plan(&mut self, fields: &[Field], batch: &Batch) -> Result<Lookup> {
        check(fields, batch)?;
        let planned: Vec<_> = self.spaces.par_iter_mut().map(|s| s.plan(fields, batch)).collect();
        let (mut spaces, mut of_fields) =
            (Vec::with_capacity(planned.len()), vec![Places::None; fields.len()]);
        for one in planned {
            let (keys, places) = one?;
            spaces.push(keys);
            for (field, place) in places {
                of_fields[field] = place;
            }
        }
        Ok(Lookup { spaces: Arc::new(spaces), fields: of_fields })
    }
}

impl Space {
    fn plan(&mut self, fields: &[Field], batch: &Batch) -> Result<(SpaceKeys, Vec<(usize, Places)>)> {
        self.table.begin();
        let mut places = Vec::with_capacity(self.fields.len());
        for &f in &self.fields {
            let place = match &batch.columns[f] {
                Column::Key(keys) => Places::One(Arc::new(self.table.places(keys))),
                Column::Keys { offsets, keys, weights } => {
                    let index = self.table.places(keys);
                    let pooling = match fields[f].pool {
                        Pool::Mean => Pooling::Mean,
                        Pool::Sum => Pooling::Sum,
                    };
                    Places::Many(Bags::new(offsets.clone(), index, weights.clone(), pooling)?)
                }
                Column::Dense { .. } => Places::None,
            };
            places.push((f, place));
        }
        Ok((SpaceKeys { space: self.name.clone(), unique: self.table.end() }, places))
    }
}

/// Whether the batch has the fields' columns, with as many rows as they should have.
fn check(fields: &[Field], batch: &Batch) -> Result<()> {
    let n = batch.candidates();
    if fields.len() != batch.columns.len() {
        let text = format!(
            "a batch has {} columns, but the encoder has {} fields",
            batch.columns.len(),
            fields.len()
        );
        return Err(Error::Batch(text));
    }
    if let Some(r) = batch.candidate_request.iter().find(|r| **r as usize >= batch.requests) {
        return Err(Error::Batch(format!(
            "a candidate belongs to request {r}, but the batch has {}",
            batch.requests
        )));
    }
    for (field, column) in fields.iter().zip(&batch.columns) {
        let rows = if field.rows == Rows::Request { batch.requests } else { n };
        let fits = match (field.shape, column) {
            (Shape::Key, Column::Key(_)) | (Shape::Keys, Column::Keys { .. }) => true,
            (Shape::Dense(w), Column::Dense { width, values }) => w == *width && values.len() == rows * w,
            _ => false,
        };
        if !fits || column.rows() != rows {
            return Err(Error::Batch(format!(
                "column `{}` should hold {rows} rows of {:?}, but holds {} of another kind or number",
                field.name,
                field.shape,
                column.rows()
            )));
        }
    }
    Ok(())
}

/// An open-addressing hash table from key to place. Entries of earlier batches are told by their stamp, so that
/// nothing is cleared between batches.
#[derive(Debug, Clone, Default)]
struct Table {
    slots: Vec<Slot>,
    stamp: u32,
    unique: Vec<u64>,
    expected: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    place: u32,
    stamp: u32,
}

/// Folded multiplication, the mixing step of rapidhash.
#[inline]
fn hash(key: u64) -> u64 {
    let wide = u128::from(key ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x8bb8_4b93_962e_acc9_u64);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl Table {
    fn begin(&mut self) {
        self.unique = Vec::with_capacity(self.expected);
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); 1024];
        }
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.slots.fill(Slot::default());
            self.stamp = 1;
        }
    }

    fn end(&mut self) -> Vec<u64> {
        self.expected = self.unique.len() + self.unique.len() / 8;
        std::mem::take(&mut self.unique)
    }

    fn places(&mut self, keys: &[u64]) -> Vec<u32> {
        keys.iter().map(|key| self.place(*key)).collect()
    }

    #[inline]
    fn place(&mut self, key: u64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = hash(key) as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.stamp != self.stamp {
                let place = self.unique.len() as u32;
                *slot = Slot { key, place, stamp: self.stamp };
                self.unique.push(key);
                if self.unique.len() * 2 > self.slots.len() {
                    self.grow();
                }
                return place;
            }
            if slot.key == key {
                return slot.place;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 4 - 1;
        let mut slots = vec![Slot::default(); mask + 1];
        for (place, key) in self.unique.iter().enumerate() {
            let mut at = hash(*key) as usize & mask;
            while slots[at].stamp == self.stamp {
                at = (at + 1) & mask;
            }
            slots[at] = Slot { key: *key, place: place as u32, stamp: self.stamp };
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, space: &str, rows: Rows, shape: Shape) -> Field {
        let space = (!space.is_empty()).then(|| space.to_owned());
        Field {
            name: name.into(),
            rows,
            shape,
            space,
            pool: Pool::Mean,
            size: None,
            weighted: false,
            feature: 0,
        }
    }

    #[test]
    fn places_agree_with_a_naive_map_over_many_batches() {
        let mut table = Table::default();
        let mut state = 1u64;
        for round in 0..20 {
            let keys: Vec<u64> = (0..3000)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) % (10 + 400 * round)
                })
                .collect();
            table.begin();
            let places = table.places(&keys);
            let unique = table.end();
            let mut naive: HashMap<u64, u32> = HashMap::new();
            for (key, place) in keys.iter().zip(&places) {
                let next = naive.len() as u32;
                assert_eq!(*naive.entry(*key).or_insert(next), *place);
                assert_eq!(unique[*place as usize], *key);
            }
            assert_eq!(unique.len(), naive.len());
        }
    }

    #[test]
    fn fields_of_one_space_share_their_unique_keys() {
        let fields = [
            field("history", "item", Rows::Request, Shape::Keys),
            field("item", "item", Rows::Candidate, Shape::Key),
            field("price", "", Rows::Candidate, Shape::Dense(1)),
        ];
        let batch = Batch {
            requests: 1,
            candidate_request: vec![0, 0],
            columns: vec![
                Column::Keys { offsets: vec![0, 3], keys: vec![7, 9, 7], weights: None },
                Column::Key(vec![9, 5]),
                Column::Dense { width: 1, values: vec![0.5, 1.5] },
            ],
            ..Batch::default()
        };
        let lookup = Lookup::plan(&fields, &batch).unwrap();
        assert_eq!(lookup.unique("item"), [7, 9, 5]);
        assert!(matches!(&lookup.fields[0], Places::Many(b) if b.index() == [0, 1, 0]));
        assert!(matches!(&lookup.fields[1], Places::One(i) if **i == [1, 2]));
        assert!(matches!(lookup.fields[2], Places::None));
    }

    #[test]
    fn a_batch_of_other_columns_is_refused_by_name() {
        let fields = [field("item", "item", Rows::Candidate, Shape::Key)];
        let batch = Batch {
            requests: 1,
            candidate_request: vec![0, 0],
            columns: vec![Column::Key(vec![9])],
            ..Batch::default()
        };
        let err = Lookup::plan(&fields, &batch).unwrap_err().to_string();
        assert!(err.contains("`item`") && err.contains("2 rows"), "{err}");
    }
}
