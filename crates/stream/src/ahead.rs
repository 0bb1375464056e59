//! What was made for users ahead of time: a list of items for each, kept beside the records.

use std::sync::Arc;

use fjall::{Keyspace, PersistMode};
use xxhash_rust::xxh3::Xxh3;

use crate::shelf::Shelf;
use crate::{Action, Error, Result, code, id};

/// A user's list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ahead {
    /// When it was made, in epoch milliseconds.
    pub made_ms: i64,
    /// [`print_of`] the history it was made from.
    pub made_from: u64,
    /// External ids with scores, best first.
    pub items: Vec<(String, f32)>,
}

/// The lists of all users, by id. They can be made again, so that writing one does not wait for the disk: a killed
/// process loses none, a machine without power may lose the latest.
pub struct AheadLists {
    shelf: Arc<Shelf>,
    rows: Keyspace,
}

/// Tells histories apart: one that has grown, or changed, has another print.
pub fn print_of(history: &[Action]) -> u64 {
    let mut hash = Xxh3::new();
    for action in history {
        hash.update(&(action.item.len() as u64).to_le_bytes());
        hash.update(action.item.as_bytes());
        hash.update(&action.time_ms.to_le_bytes());
        hash.update(&action.kind.code().to_le_bytes());
    }
    hash.digest()
}

impl AheadLists {
    pub(crate) fn open(shelf: Arc<Shelf>) -> Result<Self> {
        Ok(Self { rows: shelf.keyspace(Self::KEYSPACE)?, shelf })
    }

    /// Its name on the shelf.
    pub(crate) const KEYSPACE: &str = "ahead";

    /// Keeps a list in place of any that the user had.
    ///
    /// # Errors
    /// The id cannot be one, or the disk is full or fails.
    pub fn put(&self, user: &str, list: &Ahead) -> Result<()> {
        id::check("id", user).map_err(Error::Input)?;
        let value = code::ahead_bytes(list).map_err(Error::Input)?;
        let mut batch = self.shelf.db().batch().durability(Some(PersistMode::Buffer));
        batch.insert(&self.rows, user, value);
        self.shelf.write(|| batch.commit())
    }

    /// The user's list.
    ///
    /// # Errors
    /// The stored bytes are damaged or cannot be read.
    pub fn get(&self, user: &str) -> Result<Option<Ahead>> {
        if id::check("id", user).is_err() {
            return Ok(None);
        }
        let value = self.shelf.read(|| self.rows.get(user))?;
        value.map(|v| self.list(user.as_bytes(), &v)).transpose()
    }

    /// Drops the user's list, if there is one.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn remove(&self, user: &str) -> Result<()> {
        let mut batch = self.shelf.db().batch().durability(Some(PersistMode::Buffer));
        batch.remove(&self.rows, user);
        self.shelf.write(|| batch.commit())
    }

    /// Shows every user's list, in order of id.
    ///
    /// # Errors
    /// The stored bytes are damaged or cannot be read.
    pub fn each(&self, show: &mut dyn FnMut(&str, &Ahead)) -> Result<()> {
        let mut rows = self.rows.iter();
        while let Some((key, value)) =
            self.shelf.read(|| rows.next().map(|kv| kv.into_inner()).transpose())?
        {
            let list = self.list(&key, &value)?;
            show(&String::from_utf8_lossy(&key), &list);
        }
        Ok(())
    }

    fn list(&self, user: &[u8], value: &[u8]) -> Result<Ahead> {
        code::ahead_of(value).map_err(|e| {
            let user = String::from_utf8_lossy(user);
            Error::corrupt(self.shelf.dir(), format!("the list made ahead for `{user}`: {e}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;
    use millstream_schema::EventKind;

    fn list(n: usize) -> Ahead {
        let items = (0..n).map(|i| (format!("i{i}"), 1.0 / (i + 1) as f32)).collect();
        Ahead { made_ms: 1_700_000_000_000, made_from: u64::MAX, items }
    }

    #[test]
    fn lists_come_back_after_a_restart_and_go_with_their_user() {
        let dir = tempfile::tempdir().unwrap();
        {
            let stream = Stream::open(dir.path()).unwrap();
            stream.ahead.put("anna", &list(1)).unwrap();
            stream.ahead.put("anna", &list(200)).unwrap();
            stream.ahead.put("bo", &list(0)).unwrap();
            stream.ahead.put("cy", &list(3)).unwrap();
            stream.ahead.remove("cy").unwrap();
            assert!(stream.ahead.put("", &list(1)).is_err());
        }
        let stream = Stream::open(dir.path()).unwrap();
        assert_eq!(stream.ahead.get("anna").unwrap(), Some(list(200)));
        let mut met = Vec::new();
        stream.ahead.each(&mut |user, list| met.push((user.to_owned(), list.items.len()))).unwrap();
        assert_eq!(met, [("anna".to_owned(), 200), ("bo".to_owned(), 0)]);
        stream.records.forget_user("anna", 0).unwrap();
        assert_eq!(stream.ahead.get("anna").unwrap(), None);
        assert_eq!(stream.ahead.get("").unwrap(), None);
    }

    #[test]
    fn a_directory_of_before_gets_its_place_for_lists() {
        let dir = tempfile::tempdir().unwrap();
        crate::shelf::create_of_before(dir.path());
        let stream = Stream::open(dir.path()).unwrap();
        assert_eq!(stream.ahead.get("anna").unwrap(), None);
        stream.ahead.put("anna", &list(2)).unwrap();
        assert_eq!(stream.ahead.get("anna").unwrap(), Some(list(2)));
    }

    #[test]
    fn the_print_of_a_history_changes_with_it() {
        let action = |item: &str, kind, time_ms| Action { item: item.into(), kind, time_ms, value: 1.0 };
        let of = |history: &[Action]| print_of(history);
        let one = action("a", EventKind::Click, 5);
        let all = [
            of(&[]),
            of(std::slice::from_ref(&one)),
            of(&[one.clone(), one.clone()]),
            of(&[action("b", EventKind::Click, 5)]),
            of(&[action("a", EventKind::Cart, 5)]),
            of(&[action("a", EventKind::Click, 6)]),
        ];
        let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(of(std::slice::from_ref(&one)), all[1]);
    }
}
