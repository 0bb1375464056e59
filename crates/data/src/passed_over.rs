//! What recall found, ranking left behind, and the user never took: the log of it, and what is drawn from it as hard negatives
//! (Huang et al., KDD 2020, §6).
//!
//! One JSON object a line: `{"time_ms": 1700000000000, "user": "u1", "items": ["i9", "i4"]}`; other keys may stand beside.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use millstream_schema::IdMap;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::{Error, Interactions};

/// Longest line, in bytes.
const LONGEST: u64 = 1 << 22;

/// One line: a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// When, epoch milliseconds.
    pub time_ms: i64,
    /// External id of the user.
    pub user: String,
    /// External ids, best first.
    pub items: Vec<String>,
}

/// The log by user and time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PassedOverLog {
    /// `[users + 1]`: user u owns the records `of_user[u]..of_user[u + 1]`, oldest first.
    of_user: Vec<u32>,
    /// `[records]`.
    time_ms: Vec<i64>,
    /// `[records + 1]`.
    offsets: Vec<u32>,
    /// Catalogue rows.
    items: Vec<u32>,
    /// What of the file had no use.
    pub left_out: LeftOut,
}

/// Parts of a log that have no use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Requests of users that the catalogue does not know.
    pub users: u64,
    /// Items that the catalogue does not know.
    pub unknown: u64,
    /// Items that the user did take.
    pub taken: u64,
}

impl PassedOverLog {
    /// Reads a log; items that their user is positive about anywhere in `taken` are left out.
    ///
    /// # Errors
    /// The file cannot be read, a line is no such object, or no line names a user and an item that are known.
    pub fn read(path: &Path, (users, items): (&IdMap, &IdMap), taken: &Interactions) -> Result<Self, Error> {
        let mut reader = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
        let (mut records, mut left_out) = (Vec::<(u32, i64, Vec<u32>)>::new(), LeftOut::default());
        let (mut line, mut number) = (Vec::new(), 0u64);
        // Each user's items in order, for searching.
        let mut own = taken.items.clone();
        let span =
            |user: u32| taken.offsets[user as usize] as usize..taken.offsets[user as usize + 1] as usize;
        (0..taken.users() as u32).for_each(|user| own[span(user)].sort_unstable());
        loop {
            line.clear();
            number += 1;
            let read = std::io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line);
            if read.map_err(|e| Error::io(path, e))? == 0 {
                break;
            }
            let whole = line.last() == Some(&b'\n');
            if line.trim_ascii().is_empty() {
                continue;
            }
            let found: PassedOver = match serde_json::from_slice(&line) {
                Ok(found) => found,
                // A process that was killed may have left half of its last line.
                Err(_) if !whole && (line.len() as u64) < LONGEST => break,
                Err(e) => {
                    let place = format!("{}:{number}", path.display());
                    let reason = format!("expected {{\"time_ms\": …, \"user\": …, \"items\": […]}}: {e}");
                    return Err(Error::Input { place, reason });
                }
            };
            let Some(user) = users.get(&found.user) else {
                left_out.users += 1;
                continue;
            };
            let own = &own[span(user)];
            let mut kept = Vec::with_capacity(found.items.len());
            for id in &found.items {
                match items.get(id) {
                    None => left_out.unknown += 1,
                    Some(item) if own.binary_search(&item).is_ok() => left_out.taken += 1,
                    Some(item) => kept.push(item),
                }
            }
            if !kept.is_empty() {
                records.push((user, found.time_ms, kept));
            }
        }
        if records.is_empty() {
            return Err(Error::input(
                path.display().to_string(),
                "no line names a user and an item of this data that the user did not take",
            ));
        }
        records.sort_by_key(|(user, time, _)| (*user, *time));
        let mut log =
            Self { of_user: vec![0; taken.users() + 1], offsets: vec![0], left_out, ..Self::default() };
        for (user, time, items) in records {
            log.of_user[user as usize + 1] += 1;
            log.time_ms.push(time);
            log.items.extend(items);
            log.offsets.push(log.items.len() as u32);
        }
        for user in 1..log.of_user.len() {
            log.of_user[user] += log.of_user[user - 1];
        }
        Ok(log)
    }

    /// Number of requests with items.
    pub fn len(&self) -> usize {
        self.time_ms.len()
    }

    /// Whether there is no request with items.
    pub fn is_empty(&self) -> bool {
        self.time_ms.is_empty()
    }

    /// The items of the user's record nearest in time: the latest at `time_ms` or before, or else the first. Empty for a user without
    /// one.
    pub fn at(&self, user: u32, time_ms: i64) -> &[u32] {
        let Some([from, to]) = self.of_user.get(user as usize..user as usize + 2) else { return &[] };
        let (from, to) = (*from as usize, *to as usize);
        if from == to {
            return &[];
        }
        let before = self.time_ms[from..to].partition_point(|t| *t <= time_ms);
        let record = from + before.saturating_sub(1);
        &self.items[self.offsets[record] as usize..self.offsets[record + 1] as usize]
    }

    /// `count` draws of the record that [`PassedOverLog::at`] gives, added to `out`; where there are none, or the draw is `positive` itself,
    /// that stands for it.
    pub fn draw(
        &self,
        (user, time_ms, positive): (u32, i64, u32),
        count: usize,
        rng: &mut impl Rng,
        out: &mut Vec<u32>,
    ) {
        let items = self.at(user, time_ms);
        out.extend((0..count).map(|_| match items.len() {
            0 => positive,
            n => items[rng.random_range(0..n)],
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::io::Write;

    fn ids(names: &[&str]) -> IdMap {
        let mut ids = IdMap::default();
        names.iter().for_each(|name| _ = ids.insert(name));
        ids
    }

    fn taken() -> Interactions {
        Interactions {
            offsets: vec![0, 1, 1],
            items: vec![2],
            time_ms: vec![5],
            kind: vec![1],
            value: vec![1.0],
        }
    }

    fn read(text: &str) -> Result<PassedOverLog, Error> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        PassedOverLog::read(file.path(), (&ids(&["a", "b"]), &ids(&["x", "y", "z"])), &taken())
    }

    #[test]
    fn records_are_found_by_user_and_time_without_what_was_taken() {
        let log = read(
            "{\"time_ms\": 20, \"user\": \"a\", \"items\": [\"y\", \"z\", \"?\"], \"request\": \"r1\"}\n\n\
             {\"time_ms\": 10, \"user\": \"a\", \"items\": [\"x\"]}\n\
             {\"time_ms\": 10, \"user\": \"nobody\", \"items\": [\"x\"]}\n\
             {\"time_ms\": 30, \"user\": \"b\", \"items\": [\"z\"]}\n{\"time_ms\": 1, \"us",
        )
        .unwrap();
        assert_eq!(log.left_out, LeftOut { users: 1, unknown: 1, taken: 1 });
        assert_eq!(log.len(), 3);
        for (user, time, items) in
            [(0, 20, &[1][..]), (0, 19, &[0]), (0, 3, &[0]), (1, 99, &[2]), (7, 1, &[])]
        {
            assert_eq!(log.at(user, time), items, "user {user} at {time}");
        }
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(1);
        let mut out = Vec::new();
        log.draw((1, 50, 0), 2, &mut rng, &mut out);
        log.draw((7, 50, 1), 2, &mut rng, &mut out);
        assert_eq!(out, [2, 2, 1, 1]);
    }

    #[test]
    fn a_bad_line_is_named_and_a_log_without_use_is_refused() {
        let text = |r: Result<PassedOverLog, Error>| r.unwrap_err().to_string();
        let bad = text(read("{\"time_ms\": 1, \"user\": \"a\", \"items\": [\"x\"]}\n{\"user\": \"a\"}\n"));
        assert!(bad.contains(":2: expected") && bad.contains("missing field"), "{bad}");
        let none = text(read("{\"time_ms\": 1, \"user\": \"a\", \"items\": [\"z\"]}\n"));
        assert!(none.contains("no line names"), "{none}");
    }
}
