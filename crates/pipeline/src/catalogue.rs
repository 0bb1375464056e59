//! Users and items as they are now: copy-on-write, so that a request sees one unchanging state and the
//! next request sees every change.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use millstream_schema::record::frame_of;
use millstream_schema::{
    Assembler, BadValues, Columns, Encoder, IdMap, ItemRow, Policy, Record, Side, UserRow,
};

use crate::Error;
use crate::facts::{CatalogueConfig, Facts, Item};
use crate::names::Names;
use crate::terms::Terms;

/// One side's ids, encoded columns and records; rows are only ever appended or replaced.
#[derive(Clone, Default)]
struct Entities {
    ids: IdMap,
    columns: Columns,
    records: Vec<Arc<Record>>,
}

/// An unchanging state of the catalogue.
#[derive(Clone)]
pub struct Snapshot {
    users: Arc<Entities>,
    items: Arc<Entities>,
    facts: Arc<Facts>,
    assembler: Arc<Assembler>,
    removed_users: Arc<Vec<bool>>,
}

/// The catalogue in use.
pub struct Catalogue {
    config: CatalogueConfig,
    names: Names,
    current: RwLock<Arc<Snapshot>>,
    /// Writers take turns; readers never wait for them.
    writing: Mutex<()>,
}

impl Catalogue {
    /// Encodes all users and items. A record's row is its place in the list.
    ///
    /// # Errors
    /// An id is empty or given twice, or `config` names a field that no record has and no feature reads.
    pub fn new(
        config: CatalogueConfig,
        encoder: Arc<Encoder>,
        users: Vec<Record>,
        items: Vec<Item>,
    ) -> Result<Self, Error> {
        let names = Names::of(&encoder, users.iter(), items.iter().map(|i| &i.record));
        names.check(&config)?;
        let mut bad = BadValues::new(Policy::Count);
        let mut facts = Facts::default();
        for (row, item) in items.iter().enumerate() {
            facts.set(row as ItemRow, item, &config);
        }
        facts.settle();
        let items: Vec<Record> = items.into_iter().map(|i| i.record).collect();
        let (users, items) = (distinct("user", users)?, distinct("item", items)?);
        let users = Entities::default().with(&users, (&encoder, Side::User, &config.user_id), &mut bad)?;
        let items = Entities::default().with(&items, (&encoder, Side::Item, &config.item_id), &mut bad)?;
        if bad.total() > 0 {
            tracing::warn!(values = bad.total(), "bad values in the catalogue took their defaults");
        }
        let assembler = Assembler::new(encoder, users.columns.clone(), items.columns.clone())?;
        let removed_users = Arc::new(vec![false; users.ids.len()]);
        let snapshot = Snapshot {
            users: Arc::new(users),
            items: Arc::new(items),
            facts: Arc::new(facts),
            assembler: Arc::new(assembler),
            removed_users,
        };
        Ok(Self { config, names, current: RwLock::new(Arc::new(snapshot)), writing: Mutex::new(()) })
    }

    /// Which record fields mean what.
    pub fn config(&self) -> &CatalogueConfig {
        &self.config
    }

    /// The fields that a configuration may name: those of the records that it was made of, and the schema's.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The present state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds new items and replaces known ones; all are visible to the very next request. An item without a
    /// time of creation keeps the one it had, or is created at `now_ms`. Costs O(catalogue): give many at once.
    ///
    /// # Errors
    /// An id is empty, or a value cannot be used by the feature that reads it; then nothing is changed.
    pub fn upsert_items(&self, items: &[Item], now_ms: i64) -> Result<Vec<ItemRow>, Error> {
        self.change(|old| {
            let records: Vec<Record> = items.iter().map(|i| i.record.clone()).collect();
            check_ids("item", &records)?;
            let encoder = old.assembler.encoder();
            let mut bad = BadValues::new(Policy::Strict);
            let side = (&**encoder, Side::Item, self.config.item_id.as_str());
            let next = (*old.items).clone().with(&records, side, &mut bad)?;
            let mut facts = (*old.facts).clone();
            let mut rows = Vec::with_capacity(items.len());
            for item in items {
                let row = next.ids.get(&item.record.id).unwrap_or_default();
                let known = old.items.ids.get(&item.record.id).filter(|&r| !facts.is_removed(r));
                let created = match known {
                    Some(row) => facts.created_ms(row),
                    None => Some(now_ms),
                };
                let dated = Item { created_ms: item.created_ms.or(created), ..item.clone() };
                facts.set(row, &dated, &self.config);
                rows.push(row);
            }
            facts.settle();
            let assembler = Assembler::new(encoder.clone(), old.users.columns.clone(), next.columns.clone())?;
            let changed = Snapshot {
                items: Arc::new(next),
                facts: Arc::new(facts),
                assembler: Arc::new(assembler),
                ..old.clone()
            };
            Ok((changed, rows))
        })
    }

    /// Takes the item out of all feeds from the next request on; whether it was there. Its row stays, since
    /// histories name it.
    ///
    /// # Errors
    /// None today; the signature leaves room for a durable catalogue.
    pub fn remove_item(&self, id: &str) -> Result<bool, Error> {
        self.change(|old| {
            let row = old.items.ids.get(id).filter(|&row| !old.facts.is_removed(row));
            let mut next = old.clone();
            if let Some(row) = row {
                Arc::make_mut(&mut next.facts).remove(row);
            }
            Ok((next, row.is_some()))
        })
    }

    /// Adds new users and replaces known ones. Costs O(catalogue): give many at once.
    ///
    /// # Errors
    /// An id is empty, or a value cannot be used by the feature that reads it; then nothing is changed.
    pub fn upsert_users(&self, users: &[Record]) -> Result<Vec<UserRow>, Error> {
        self.change(|old| {
            check_ids("user", users)?;
            let encoder = old.assembler.encoder();
            let mut bad = BadValues::new(Policy::Strict);
            let side = (&**encoder, Side::User, self.config.user_id.as_str());
            let next = (*old.users).clone().with(users, side, &mut bad)?;
            let rows: Vec<UserRow> = users.iter().filter_map(|u| next.ids.get(&u.id)).collect();
            let mut removed = (*old.removed_users).clone();
            removed.resize(next.ids.len(), false);
            rows.iter().for_each(|&row| removed[row as usize] = false);
            let assembler = Assembler::new(encoder.clone(), next.columns.clone(), old.items.columns.clone())?;
            let changed = Snapshot {
                users: Arc::new(next),
                assembler: Arc::new(assembler),
                removed_users: Arc::new(removed),
                ..old.clone()
            };
            Ok((changed, rows))
        })
    }

    /// Forgets that the user exists; whether they did. The row is never given to another user.
    ///
    /// # Errors
    /// None today; the signature leaves room for a durable catalogue.
    pub fn remove_user(&self, id: &str) -> Result<bool, Error> {
        self.change(|old| {
            let mut next = old.clone();
            let row = old.user(id);
            if let Some(row) = row {
                Arc::make_mut(&mut next.removed_users)[row as usize] = true;
            }
            Ok((next, row.is_some()))
        })
    }

    fn change<T>(&self, edit: impl FnOnce(&Snapshot) -> Result<(Snapshot, T), Error>) -> Result<T, Error> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, answer) = edit(&self.snapshot())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(answer)
    }
}

impl Entities {
    /// With these records added, or put in place of those of the same id.
    fn with(
        mut self,
        records: &[Record],
        (encoder, side, id_column): (&Encoder, Side, &str),
        bad: &mut BadValues,
    ) -> Result<Self, Error> {
        let source = if side == Side::User { "users" } else { "items" };
        let frame = frame_of(records, &encoder.schema().columns(side), id_column, source);
        let encoded = encoder.encode(&[side], &frame, bad)?;
        let before = self.columns.rows as u32;
        let mut order: Vec<u32> = (0..before).collect();
        for (at, record) in (before..).zip(records) {
            let row = self.ids.insert(&record.id) as usize;
            let shared = Arc::new(record.clone());
            if row == order.len() {
                order.push(at);
                self.records.push(shared);
            } else {
                order[row] = at;
                self.records[row] = shared;
            }
        }
        self.columns.append(&encoded)?;
        if order.len() != self.columns.rows || !order.is_sorted() {
            self.columns = self.columns.gather(&order);
        }
        Ok(self)
    }
}

fn check_ids(what: &str, records: &[Record]) -> Result<(), Error> {
    match records.iter().any(|r| r.id.is_empty()) {
        true => Err(Error::Input(format!("{what}: a record has an empty id"))),
        false => Ok(()),
    }
}

fn distinct(what: &str, records: Vec<Record>) -> Result<Vec<Record>, Error> {
    check_ids(what, &records)?;
    let mut met = rapidhash::RapidHashSet::default();
    match records.iter().find(|r| !met.insert(r.id.as_str())) {
        Some(twice) => Err(Error::Input(format!("{what} `{}` is given twice", twice.id))),
        None => Ok(records),
    }
}

impl Snapshot {
    /// Joins encoded users, items and histories into batches.
    pub fn assembler(&self) -> &Assembler {
        &self.assembler
    }

    /// Number of item rows, removed items included.
    pub fn items(&self) -> usize {
        self.items.ids.len()
    }

    /// Number of user rows, removed users included.
    pub fn users(&self) -> usize {
        self.users.ids.len()
    }

    /// The row of an item, removed or not.
    pub fn item(&self, id: &str) -> Option<ItemRow> {
        self.items.ids.get(id)
    }

    /// The row of a user who exists.
    pub fn user(&self, id: &str) -> Option<UserRow> {
        self.users.ids.get(id).filter(|&row| !self.removed_users[row as usize])
    }

    /// External id of an item row.
    pub fn item_id(&self, row: ItemRow) -> &str {
        self.items.ids.name(row)
    }

    /// External id of a user row.
    pub fn user_id(&self, row: UserRow) -> &str {
        self.users.ids.name(row)
    }

    /// The item's record, unless it is unknown or removed.
    pub fn item_record(&self, row: ItemRow) -> Option<&Record> {
        self.items.records.get(row as usize).filter(|_| !self.facts.is_removed(row)).map(|r| &**r)
    }

    /// The user's record, unless they are unknown or removed.
    pub fn user_record(&self, row: UserRow) -> Option<&Record> {
        let there = self.removed_users.get(row as usize) == Some(&false);
        self.users.records.get(row as usize).filter(|_| there).map(|r| &**r)
    }

    /// Whether the item may be shown at that time: created, not retired, not removed.
    pub fn is_alive(&self, row: ItemRow, now_ms: i64) -> bool {
        self.facts.is_alive(row, now_ms)
    }

    /// Whether the item was removed, or never existed.
    pub fn is_removed(&self, row: ItemRow) -> bool {
        self.facts.is_removed(row)
    }

    /// When the item was created, if that is known.
    pub fn created_ms(&self, row: ItemRow) -> Option<i64> {
        self.facts.created_ms(row)
    }

    /// Items created in (`since_ms`, `now_ms`] with their times, newest first.
    pub fn created_within(&self, since_ms: i64, now_ms: i64) -> impl Iterator<Item = (i64, ItemRow)> {
        self.facts.created_within(since_ms, now_ms)
    }

    /// Code of the item's category; 0 when it has none. Codes of categories, authors and kinds differ.
    pub fn category(&self, row: ItemRow) -> u32 {
        self.facts.category(row)
    }

    /// Code of the item's author; 0 when it has none.
    pub fn author(&self, row: ItemRow) -> u32 {
        self.facts.author(row)
    }

    /// Rows of the author of this code, by rising row, removed items included.
    pub fn items_of_author(&self, author: u32) -> Vec<ItemRow> {
        self.facts.items_of_author(author).iter().map(|x| x.1).collect()
    }

    /// Items by tag, each tag being `FIELD=VALUE` of a field that `[catalogue] tags` names; removed items are in it.
    pub fn tags(&self) -> &Terms {
        self.facts.tags()
    }

    /// Items by word of the fields that `[catalogue] keywords` names; removed items are in it.
    pub fn keywords(&self) -> &Terms {
        self.facts.keywords()
    }

    /// The item's kind of content; empty when it has none.
    pub fn kind(&self, row: ItemRow) -> &str {
        self.facts.kind(row)
    }
}
