use crate::config::TableConfig;
use crate::error::{Error, Result};
use crate::table::Table;
use millstream_schema::suggest;
use std::sync::atomic::{AtomicU32, Ordering};

/// Shards per table unless chosen otherwise: enough for threads that push and pull side by side.
pub const SHARDS: usize = 64;

/// The most shards a table may have.
const MAX_SHARDS: usize = 1 << 12;

/// A table of one store, as [`Store::table`] names it; the number is its place in [`Store::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub(crate) u32);

/// Read access to rows: all that serving needs.
pub trait Rows: Send + Sync {
    /// Weights per row of `table`, D.
    ///
    /// # Errors
    /// [`Error::Input`] when the table belongs to another store.
    fn dim(&self, table: TableId) -> Result<usize>;

    /// Copies the weights of `keys` to `out`, which is `[keys.len(), D]`. Keys may repeat; a key
    /// that is not in the table yields its default row, see [`TableConfig::default_row`].
    ///
    /// # Errors
    /// [`Error::Input`] when `out` has another size.
    fn pull(&self, table: TableId, keys: &[u64], out: &mut [f32]) -> Result<()>;
}

/// Write access to rows: what the trainer needs.
pub trait RowsMut: Rows {
    /// As [`Rows::pull`], but a key that is not in the table gets a new row first, whose values
    /// depend on the table's seed, its name and the key alone. Where the table has an
    /// [`Admission`](crate::Admission) rule each occurrence is a sighting, and a key without enough of
    /// them yields the default row.
    ///
    /// # Errors
    /// [`Error::Input`] when `out` has another size.
    fn pull_or_init(&self, table: TableId, keys: &[u64], out: &mut [f32]) -> Result<()>;

    /// One optimiser step with `grads`, `[keys.len(), D]`. Gradients of repeated keys are summed
    /// before the update; missing rows are made as in [`RowsMut::pull_or_init`], but where the table has an
    /// admission rule, gradients of keys without a row are dropped.
    ///
    /// # Errors
    /// [`Error::Input`] when the sizes differ or a gradient is not finite; nothing has changed then.
    fn push(&self, table: TableId, keys: &[u64], grads: &[f32]) -> Result<()>;

    /// As [`RowsMut::push`] for keys known to differ from one another, which spares the search for
    /// repeats. A key that does repeat is updated once per occurrence.
    ///
    /// # Errors
    /// As [`RowsMut::push`].
    fn push_unique(&self, table: TableId, keys: &[u64], grads: &[f32]) -> Result<()>;

    /// Multiplies every table's learning rate by `scale` from the next push on; 1 at the start.
    ///
    /// # Errors
    /// [`Error::Input`] when `scale` is negative or not finite.
    fn set_learning_rate(&self, scale: f32) -> Result<()>;
}

/// Tables of rows in memory, each split into shards with a lock of their own.
///
/// One call at a time gives one result at any number of threads. Calls may also overlap; each row
/// then sees whole updates, in whatever order they arrive.
#[derive(Debug)]
pub struct Store {
    tables: Vec<Table>,
    scale: AtomicU32,
}

impl Store {
    /// An empty store with these tables.
    ///
    /// # Errors
    /// [`Error::Input`] for a repeated name or a number outside its range.
    pub fn new(tables: Vec<TableConfig>) -> Result<Self> {
        Self::with_shards(tables, SHARDS)
    }

    /// As [`Store::new`] with a chosen number of shards per table, a power of two up to 4,096. It
    /// changes speed only, never a result nor a file.
    ///
    /// # Errors
    /// As [`Store::new`], or when `shards` is no such number.
    pub fn with_shards(tables: Vec<TableConfig>, shards: usize) -> Result<Self> {
        check_shards(shards)?;
        for (at, table) in tables.iter().enumerate() {
            let repeated = tables[..at].iter().any(|other| other.name == table.name);
            let repeated = repeated.then(|| format!("table `{}` is there twice", table.name));
            if let Some(flaw) = repeated.or_else(|| table.flaw()) {
                return Err(Error::Input(flaw));
            }
        }
        let tables = tables.into_iter().map(|config| Table::new(config, shards)).collect();
        Ok(Self::from_tables(tables, 1.0))
    }

    pub(crate) fn from_tables(tables: Vec<Table>, scale: f32) -> Self {
        Self { tables, scale: AtomicU32::new(scale.to_bits()) }
    }

    /// The table called `name`.
    ///
    /// # Errors
    /// [`Error::Input`] with the nearest name when there is none.
    pub fn table(&self, name: &str) -> Result<TableId> {
        let names = self.tables.iter().map(|table| table.config().name.as_str());
        let at = names.clone().position(|found| found == name);
        at.map(|at| TableId(at as u32)).ok_or_else(|| Error::Input(suggest::unknown("table", name, names)))
    }

    /// All tables, in the order given.
    pub fn tables(&self) -> impl Iterator<Item = (TableId, &TableConfig)> {
        self.tables.iter().enumerate().map(|(at, table)| (TableId(at as u32), table.config()))
    }

    /// Compares the tables with those that a model asks for, as one must after reading a file.
    ///
    /// # Errors
    /// [`Error::Input`] naming the first table that is missing or configured otherwise.
    pub fn check_tables(&self, wanted: &[TableConfig]) -> Result<()> {
        for config in wanted {
            let found = self.of(self.table(&config.name)?)?.config();
            if found != config {
                return Err(Error::Input(format!(
                    "table `{}` differs: found {found:?}, expected {config:?}",
                    config.name
                )));
            }
        }
        Ok(())
    }

    /// Rows in `table`.
    ///
    /// # Errors
    /// [`Error::Input`] when the table belongs to another store.
    pub fn len(&self, table: TableId) -> Result<usize> {
        Ok(self.of(table)?.len())
    }

    /// Whether no table has any row.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.len() == 0)
    }

    /// Bytes held for rows and keys, spare room included.
    pub fn memory_bytes(&self) -> usize {
        self.tables.iter().map(Table::memory_bytes).sum()
    }

    /// The current factor of all learning rates.
    pub fn learning_rate(&self) -> f32 {
        f32::from_bits(self.scale.load(Ordering::SeqCst))
    }

    /// Calls `visit` with each key of `table` and its D weights, in ascending order of key. Pushes to
    /// the table wait until it is done, so `visit` must not push.
    ///
    /// # Errors
    /// [`Error::Input`] when the table belongs to another store.
    pub fn for_each_row(&self, table: TableId, mut visit: impl FnMut(u64, &[f32])) -> Result<()> {
        let table = self.of(table)?;
        let dim = table.config().dim;
        let layout = table.rules.layout;
        let mut weights = vec![0.0; dim];
        for (key, row) in table.by_key().rows() {
            layout.read(row, &mut weights);
            visit(key, &weights);
        }
        Ok(())
    }

    pub(crate) fn all(&self) -> &[Table] {
        &self.tables
    }

    pub(crate) fn all_mut(&mut self) -> &mut [Table] {
        &mut self.tables
    }

    pub(crate) fn set_scale(&self, scale: f32) {
        self.scale.store(scale.to_bits(), Ordering::SeqCst);
    }

    /// Drops the rows that the expiry rules of their tables name, and gives the number dropped. Places of
    /// rows found before are worth nothing after. A table that counts sightings before it admits halves its
    /// counts; one without a rule is left alone.
    pub fn expire(&self) -> usize {
        self.tables.iter().map(Table::expire).sum()
    }

    /// Drops the rows of zeros of FTRL tables whose default row is zeros, with what their optimiser remembers: pulls
    /// answer the same without them. For a finished model, which learns no more; gives the number dropped.
    pub fn drop_zeros(&self) -> usize {
        self.tables.iter().map(Table::drop_zeros).sum()
    }

    pub(crate) fn of(&self, id: TableId) -> Result<&Table> {
        self.tables.get(id.0 as usize).ok_or_else(|| {
            let count = self.tables.len();
            Error::Input(format!("there is no table {}, this store has {count}", id.0))
        })
    }
}

/// Refuses a number of shards that no table can have.
pub(crate) fn check_shards(shards: usize) -> Result<()> {
    if shards.is_power_of_two() && shards <= MAX_SHARDS {
        return Ok(());
    }
    let wanted = format!("expected a power of two up to {MAX_SHARDS}");
    Err(Error::Input(format!("{shards} shards: {wanted}")))
}

impl Rows for Store {
    fn dim(&self, table: TableId) -> Result<usize> {
        Ok(self.of(table)?.config().dim)
    }

    fn pull(&self, table: TableId, keys: &[u64], out: &mut [f32]) -> Result<()> {
        self.of(table)?.pull(keys, out)
    }
}

impl RowsMut for Store {
    fn pull_or_init(&self, table: TableId, keys: &[u64], out: &mut [f32]) -> Result<()> {
        self.of(table)?.pull_or_init(keys, out)
    }

    fn push(&self, table: TableId, keys: &[u64], grads: &[f32]) -> Result<()> {
        self.of(table)?.push(keys, grads, self.learning_rate())
    }

    fn push_unique(&self, table: TableId, keys: &[u64], grads: &[f32]) -> Result<()> {
        self.of(table)?.push_unique(keys, grads, self.learning_rate())
    }

    fn set_learning_rate(&self, scale: f32) -> Result<()> {
        if !(scale >= 0.0 && scale.is_finite()) {
            let what = format!("learning rate scale {scale}: expected a number of at least 0");
            return Err(Error::Input(what));
        }
        self.set_scale(scale);
        Ok(())
    }
}
