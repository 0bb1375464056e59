use crate::container::Container;
use crate::error::{Error, Result};
use crate::file::{DELTA, Head, Input, Part, Parts, Piece, read_head, read_table, save, write_pieces};
use crate::file::{SECTION, TableHead, VERSION};
use crate::keys::mix;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::path::Path;

const KIND: [u8; 4] = *b"DELT";

/// How far the tables of a store have come: steps and expiries of each, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(Vec<(u64, u64)>);

/// The rows touched and dropped between two [`Mark`]s, with all that makes a store at the first equal to the
/// one at the second, bit for bit.
///
/// ```
/// use millstream_store::{RowsMut, Store, TableConfig};
///
/// let store = Store::new(vec![TableConfig::new("item", 2)])?;
/// let mut follower = Store::new(vec![TableConfig::new("item", 2)])?;
/// let start = store.mark();
/// store.push(store.table("item")?, &[7, 9], &[0.1, 0.2, 0.3, 0.4])?;
/// let delta = store.delta_since(&start)?;
/// follower.apply(&delta)?;
/// assert_eq!(follower.mark(), store.mark());
/// assert_eq!(
///     follower.apply(&delta).unwrap_err().to_string(),
///     "this delta is already in the store: table `item` is at step 1, the delta goes from 0 to 1"
/// );
/// # Ok::<(), millstream_store::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Delta {
    bytes: Vec<u8>,
    head: Head,
}

impl Store {
    /// How far the store has come, to ask [`Store::delta_since`] later.
    pub fn mark(&self) -> Mark {
        Mark(self.all().iter().map(|table| (table.clock.step(), table.clock.expiries())).collect())
    }

    /// What has changed since `mark`. Pushes wait meanwhile; call it between steps. Rows made or changed by
    /// the step at work when the mark was taken come again.
    ///
    /// # Errors
    /// [`Error::Input`] when the mark is of another store or lies ahead, and when the rows dropped since
    /// are no longer known: so many have been, or the store was opened since. A snapshot is needed then.
    pub fn delta_since(&self, mark: &Mark) -> Result<Delta> {
        if mark.0.len() != self.all().len() {
            let (asked, here) = (mark.0.len(), self.all().len());
            return Err(Error::Input(format!("the mark is of {asked} tables, this store has {here}")));
        }
        for (table, &(step, expiries)) in self.all().iter().zip(&mark.0) {
            let (clock, name) = (&table.clock, &table.config().name);
            if step > clock.step() || expiries > clock.expiries() {
                let now = clock.step();
                return Err(Error::Input(format!("table `{name}` is at step {now}, the mark at {step}")));
            }
            if expiries < clock.buried() {
                return Err(Error::Input(format!(
                    "which rows of table `{name}` expired since step {step} is no longer known; save a snapshot"
                )));
            }
        }
        let pieces = self.all().iter().zip(&mark.0).map(|(table, &mark)| Piece::since(table, mark));
        let mut bytes = Vec::new();
        let written = write_pieces(&mut bytes, DELTA, self.learning_rate(), &pieces.collect::<Vec<_>>());
        written.map_err(|e| Error::Input(format!("the delta does not fit into memory: {e}")))?;
        Delta::parse(bytes, Path::new("a delta"))
    }

    /// Brings the store, which must be where the delta starts, to where it ends. Deltas go in order, none left
    /// out; places of rows found before are worth nothing after.
    ///
    /// # Errors
    /// [`Error::Input`] when the delta is of other tables, comes too early (one before it is missing), or is
    /// in the store already; nothing has changed then.
    pub fn apply(&mut self, delta: &Delta) -> Result<()> {
        delta.check_follows(self)?;
        let mut bytes = &delta.bytes[..];
        let mut input = Input::new(&mut bytes, Path::new("a delta"));
        input.version(DELTA)?;
        let head = read_head(&mut input)?;
        for (head, table) in head.tables.iter().zip(self.all_mut()) {
            read_table(&mut input, head, table)?;
        }
        self.set_scale(head.scale);
        Ok(())
    }
}

impl Delta {
    /// Where it starts.
    pub fn from(&self) -> Mark {
        Mark(self.head.tables.iter().map(|table| table.from.unwrap_or((0, 0))).collect())
    }

    /// Where it ends.
    pub fn to(&self) -> Mark {
        Mark(self.head.tables.iter().map(|table| (table.step, table.expiries)).collect())
    }

    /// Rows changed and rows dropped.
    pub fn rows(&self) -> (u64, u64) {
        let sum = |count: fn(&TableHead) -> u64| self.head.tables.iter().map(count).sum();
        (sum(|table| table.rows), sum(|table| table.removed))
    }

    /// Writes it.
    ///
    /// # Errors
    /// Whatever `w` answers.
    pub fn write_to(&self, w: &mut dyn Write) -> io::Result<()> {
        w.write_all(&self.bytes)
    }

    /// Reads what [`Delta::write_to`] wrote; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Store::read_from`].
    pub fn read_from(r: &mut dyn Read, path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        r.read_to_end(&mut bytes).map_err(|e| Error::read(path, e))?;
        Self::parse(bytes, path)
    }

    /// Writes it to a file of its own, which appears only when complete.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save(path.as_ref(), KIND, |w| self.write_to(w))
    }

    /// Opens a file made by [`Delta::save`] and checks all of it.
    ///
    /// # Errors
    /// As [`Container::open`] and [`Delta::read_from`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let mut file = Container::open(path.as_ref(), KIND, VERSION)?;
        Self::read_from(&mut file.reader(SECTION)?, path.as_ref())
    }

    /// Checks all bytes, so that applying them cannot fail half way.
    fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        let mut rest = &bytes[..];
        let mut input = Input::new(&mut rest, path);
        input.version(DELTA)?;
        let head = read_head(&mut input)?;
        let start = bytes.len() - rest.len();
        let corrupt = |what: String| Error::corrupt(path, what);
        if !head.state || !head.tables.iter().all(TableHead::is_delta) {
            return Err(corrupt("it is no delta".into()));
        }
        let parts = Parts::of(&head, start as u64).unwrap_or_default();
        let end = parts.last().map_or(start as u64, |part| part.end() + 8);
        if parts.len() != head.tables.len() || end != bytes.len() as u64 {
            return Err(corrupt("it is cut short, or longer than it says".into()));
        }
        for (table, parts) in head.tables.iter().zip(&parts) {
            let name = &table.config.name;
            if !parts.is_sealed(&bytes) {
                return Err(corrupt(format!("the checksum of table `{name}` does not match")));
            }
            let keys = bytes[parts.range(Part::Keys)].as_chunks().0;
            if !keys.iter().map(|&key| mix(u64::from_le_bytes(key))).is_sorted_by(|a, b| a < b) {
                return Err(corrupt(format!("the keys of table `{name}` are out of order")));
            }
        }
        Ok(Self { bytes, head })
    }

    fn check_follows(&self, store: &Store) -> Result<()> {
        let (here, delta) = (store.all().len(), self.head.tables.len());
        if here != delta {
            return Err(Error::Input(format!("the delta is of {delta} tables, this store has {here}")));
        }
        for (table, head) in store.all().iter().zip(&self.head.tables) {
            let name = &table.config().name;
            if *table.config() != head.config {
                return Err(Error::Input(format!(
                    "the delta is of another store: its table `{}` differs from table `{name}`",
                    head.config.name
                )));
            }
            let (now, to) = ((table.clock.step(), table.clock.expiries()), (head.step, head.expiries));
            let from = head.from.unwrap_or_default();
            if now != from {
                let what = match now >= to {
                    true => "this delta is already in the store",
                    false => "this delta does not follow, one before it is missing or another was applied",
                };
                let steps = format!("is at step {}, the delta goes from {} to {}", now.0, from.0, to.0);
                return Err(Error::Input(format!("{what}: table `{name}` {steps}")));
            }
        }
        Ok(())
    }
}
