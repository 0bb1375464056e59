//! Users and items by id, durable.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use fjall::{Keyspace, PersistMode};
use millstream_schema::Record;
use rapidhash::RapidHashMap;

use crate::shelf::Shelf;
use crate::{AheadLists, Error, Offset, Result, code, id};

/// Records written between two commits of a bulk load.
const BULK: usize = 4096;

/// All users and all items.
pub struct Records {
    shelf: Arc<Shelf>,
    users: Table,
    items: Table,
    forgotten: Keyspace,
    ahead: Keyspace,
}

/// Records of one sort, ordered by the bytes of their ids.
pub struct Table {
    shelf: Arc<Shelf>,
    rows: Keyspace,
    /// Held from a look to the write that depends on it.
    change: Mutex<()>,
}

impl Records {
    pub(crate) fn open(shelf: Arc<Shelf>) -> Result<Self> {
        let table =
            |name| Ok(Table { rows: shelf.keyspace(name)?, shelf: shelf.clone(), change: Mutex::new(()) });
        Ok(Self {
            users: table("users")?,
            items: table("items")?,
            forgotten: shelf.keyspace("forgotten")?,
            ahead: shelf.keyspace(AheadLists::KEYSPACE)?,
            shelf,
        })
    }

    /// The users.
    pub fn users(&self) -> &Table {
        &self.users
    }

    /// The items.
    pub fn items(&self) -> &Table {
        &self.items
    }

    /// Deletes a user, drops what was made for them ahead of time, and notes that events before `end` are not to enter a profile again, in one
    /// step. Says whether there was a record. The ledger keeps the events themselves.
    ///
    /// # Errors
    /// The id cannot be one, or the disk is full or fails.
    pub fn forget_user(&self, user: &str, end: Offset) -> Result<bool> {
        id::check("id", user).map_err(Error::Input)?;
        let _held = self.users.hold();
        let known = self.shelf.read(|| self.users.rows.contains_key(user))?;
        let mut batch = self.shelf.db().batch().durability(Some(PersistMode::SyncAll));
        batch.remove(&self.users.rows, user);
        batch.remove(&self.ahead, user);
        batch.insert(&self.forgotten, user, end.to_be_bytes());
        self.shelf.write(|| batch.commit())?;
        Ok(known)
    }

    /// For each forgotten user, the offset before which events do not count.
    ///
    /// # Errors
    /// The stored bytes are damaged or cannot be read.
    pub fn forgotten(&self) -> Result<RapidHashMap<String, Offset>> {
        let mut out = RapidHashMap::default();
        let mut rows = self.forgotten.iter();
        while let Some((key, value)) =
            self.shelf.read(|| rows.next().map(|kv| kv.into_inner()).transpose())?
        {
            let end = value.as_ref().try_into().ok().map(u64::from_be_bytes);
            match (std::str::from_utf8(&key), end) {
                (Ok(user), Some(end)) => out.insert(user.to_owned(), end),
                _ => {
                    return Err(Error::corrupt(
                        self.shelf.dir(),
                        "the list of forgotten users cannot be read",
                    ));
                }
            };
        }
        Ok(out)
    }
}

impl Table {
    /// Stores a record in place of any of the same id.
    ///
    /// # Errors
    /// The id cannot be one, or the disk is full or fails.
    pub fn put(&self, record: &Record) -> Result<()> {
        let _held = self.hold();
        self.write(record)
    }

    /// Stores a record unless there is one of its id; says whether it did.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn create(&self, record: &Record) -> Result<bool> {
        let _held = self.hold();
        if self.get(&record.id)?.is_some() {
            return Ok(false);
        }
        self.write(record).map(|()| true)
    }

    /// Stores many records with one wait for the disk. A crash before the end may leave some of them.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    pub fn put_many(&self, records: &[Record]) -> Result<()> {
        let _held = self.hold();
        for chunk in records.chunks(BULK) {
            let mut batch = self.shelf.db().batch();
            for record in chunk {
                id::check("id", &record.id).map_err(Error::Input)?;
                batch.insert(
                    &self.rows,
                    record.id.as_str(),
                    code::record_bytes(record).map_err(Error::Input)?,
                );
            }
            self.shelf.write(|| batch.commit())?;
        }
        self.shelf.write(|| self.shelf.db().persist(PersistMode::SyncAll))
    }

    /// The record of this id.
    ///
    /// # Errors
    /// The stored bytes are damaged or cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<Record>> {
        if id::check("id", id).is_err() {
            return Ok(None);
        }
        let value = self.shelf.read(|| self.rows.get(id))?;
        value.map(|v| self.record(id.as_bytes(), &v)).transpose()
    }

    /// Deletes a record; says whether there was one.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn delete(&self, id: &str) -> Result<bool> {
        let _held = self.hold();
        if self.get(id)?.is_none() {
            return Ok(false);
        }
        let mut batch = self.shelf.db().batch().durability(Some(PersistMode::SyncAll));
        batch.remove(&self.rows, id);
        self.shelf.write(|| batch.commit()).map(|()| true)
    }

    /// At most `limit` records in order of id: those after `after`, and only ids that begin with `prefix`.
    ///
    /// # Errors
    /// The stored bytes are damaged or cannot be read.
    pub fn list(&self, after: Option<&str>, prefix: &str, limit: usize) -> Result<Vec<Record>> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix.as_bytes()),
        };
        let mut rows = self.rows.range::<&[u8], _>((from, Bound::Unbounded));
        let mut out = Vec::new();
        while out.len() < limit {
            let pair = self.shelf.read(|| rows.next().map(|kv| kv.into_inner()).transpose())?;
            match pair {
                Some((key, value)) if key.starts_with(prefix.as_bytes()) => {
                    out.push(self.record(&key, &value)?)
                }
                _ => break,
            }
        }
        Ok(out)
    }

    /// Whether there is no record at all.
    ///
    /// # Errors
    /// The stored bytes cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        self.shelf.read(|| self.rows.is_empty())
    }

    fn write(&self, record: &Record) -> Result<()> {
        id::check("id", &record.id).map_err(Error::Input)?;
        let value = code::record_bytes(record).map_err(Error::Input)?;
        let mut batch = self.shelf.db().batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.rows, record.id.as_str(), value);
        self.shelf.write(|| batch.commit())
    }

    fn record(&self, id: &[u8], value: &[u8]) -> Result<Record> {
        code::record_of(id, value).map_err(|e| {
            Error::corrupt(self.shelf.dir(), format!("record `{}`: {e}", String::from_utf8_lossy(id)))
        })
    }

    fn hold(&self) -> std::sync::MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
