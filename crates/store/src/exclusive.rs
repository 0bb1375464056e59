use crate::error::{Error, Result};
use crate::store::{Store, TableId};
use crate::table_mut::TableMut;

/// Where a row lies. Small, and good until rows expire; a place used after that, or with another table,
/// leads to another row or to none, never out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub(crate) shard: u32,
    pub(crate) slot: u32,
}

impl Place {
    /// The place of a key that has no row.
    pub const NONE: Self = Self { shard: 0, slot: u32::MAX };

    /// Whether there is a row.
    #[inline]
    pub fn is_some(self) -> bool {
        self.slot != u32::MAX
    }

    /// Number of the row in its shard, from 0; without one `u32::MAX`, which no row has.
    #[inline]
    pub fn slot(self) -> u32 {
        self.slot
    }
}

/// Access to the rows of a store without locks, by [`Store::exclusive`], for learners that take one example
/// at a time: find the rows of a block of examples with [`locate`](Self::locate), announce those of the next
/// example with [`prefetch`](Self::prefetch), then read and change them where they lie.
///
/// ```
/// use millstream_store::{RowInit, RowOptim, Store, TableConfig};
///
/// let config = TableConfig {
///     init: RowInit::Zero,
///     optim: RowOptim::Ftrl { alpha: 0.1, beta: 1.0, l1: 0.0, l2: 0.0 },
///     ..TableConfig::new("user", 1)
/// };
/// let mut store = Store::with_shards(vec![config], 1)?;
/// let user = store.table("user")?;
/// let mut rows = store.exclusive();
/// let mut places = Vec::new();
/// rows.locate(user, &[42, 7, 42], &mut places)?;
/// for &place in &places {
///     rows.step();
///     let [w, z, n] = rows.row(user, place) else { continue };
///     (*z, *n) = (*z + 0.5, *n + 0.25);
///     *w = -0.1 * *z / (1.0 + n.sqrt());
/// }
/// assert_eq!(places[0], places[2]);
/// assert_eq!(rows.peek(user, places[0])[1], 1.0);
/// # Ok::<(), millstream_store::Error>(())
/// ```
#[derive(Debug)]
pub struct Exclusive<'a> {
    tables: Vec<TableMut<'a>>,
}

impl Store {
    /// Access without locks, while nobody else has the store.
    pub fn exclusive(&mut self) -> Exclusive<'_> {
        let scale = self.learning_rate();
        let tables = self.all_mut().iter_mut().map(|table| TableMut::new(table, scale)).collect();
        Exclusive { tables }
    }
}

impl<'a> Exclusive<'a> {
    /// Finds or makes the rows of `keys`; their places replace what is in `places`, in the order of `keys`.
    /// A key that its table does not admit yet has [`Place::NONE`]; each occurrence is a sighting.
    ///
    /// # Errors
    /// [`Error::Input`] when the table belongs to another store, or holds bf16 weights, which cannot be
    /// borrowed as floats.
    pub fn locate(&mut self, table: TableId, keys: &[u64], places: &mut Vec<Place>) -> Result<()> {
        self.table(table)?.locate(keys, places)
    }

    /// As [`locate`](Self::locate), but a key without a row has [`Place::NONE`] and nothing is counted.
    ///
    /// # Errors
    /// As [`locate`](Self::locate).
    pub fn find(&self, table: TableId, keys: &[u64], places: &mut Vec<Place>) -> Result<()> {
        let known = self.tables.len();
        let table = self.tables.get(table.0 as usize);
        table.ok_or_else(|| unknown(known))?.find(keys, places)
    }

    /// Asks for a row some time before it is needed.
    #[inline]
    pub fn prefetch(&self, table: TableId, place: Place) {
        if let Some(table) = self.tables.get(table.0 as usize) {
            table.prefetch(place);
        }
    }

    /// A row as it lies in memory: D weights, then the state as [`RowOptim`](crate::RowOptim) lists it. It
    /// counts as touched at the coming step. Without a row there, a spare one that starts from the
    /// table's default row each time (where that is the initial row, the one of key 0) and whose changes are
    /// lost; of a foreign table, an empty slice.
    #[inline]
    pub fn row(&mut self, table: TableId, place: Place) -> &mut [f32] {
        match self.tables.get_mut(table.0 as usize) {
            Some(table) => table.row(place),
            None => &mut [],
        }
    }

    /// A row to read, which does not count as touched; an empty slice without one.
    #[inline]
    pub fn peek(&self, table: TableId, place: Place) -> &[f32] {
        self.tables.get(table.0 as usize).map_or(&[], |table| table.peek(place))
    }

    /// One update of a row by the table's own rule with the gradient `[D]` of its weights, as
    /// [`push_unique`](crate::RowsMut::push_unique) would at the coming step. Nothing happens without a row.
    #[inline]
    pub fn update(&mut self, table: TableId, place: Place, grad: &[f32]) {
        if let Some(table) = self.tables.get_mut(table.0 as usize) {
            table.update(place, grad);
        }
    }

    /// Counts one step on every table; what is touched from now on belongs to the next. Ages and
    /// deltas go by it, so a block of examples may be one step as well.
    pub fn step(&mut self) {
        self.tables.iter_mut().for_each(TableMut::step);
    }

    /// One of the tables.
    ///
    /// # Errors
    /// [`Error::Input`] when the table belongs to another store.
    pub fn table(&mut self, table: TableId) -> Result<&mut TableMut<'a>> {
        let known = self.tables.len();
        self.tables.get_mut(table.0 as usize).ok_or_else(|| unknown(known))
    }

    /// All tables side by side, in the order of [`Store::tables`]: each may be borrowed apart from the others.
    pub fn tables(&mut self) -> &mut [TableMut<'a>] {
        &mut self.tables
    }
}

fn unknown(known: usize) -> Error {
    Error::Input(format!("there is no such table, this store has {known}"))
}
