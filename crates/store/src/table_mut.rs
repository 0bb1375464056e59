use crate::config::{RowType, TableConfig};
use crate::error::{Error, Result};
use crate::exclusive::Place;
use crate::keys::{NONE, mix};
use crate::layout::Layout;
use crate::prefetch::prefetch;
use crate::rules::Rules;
use crate::shard::Shard;
use crate::table::{Clock, Stroke, Table, mean_of_rows, read, rebase, shard_of, write};
use std::sync::RwLock;
use std::sync::atomic::Ordering;

/// Keys looked up after the buckets of all of them were asked for.
const BLOCK: usize = 32;

/// Words of a row that is asked for as soon as it is found: a cache line. Wider ones would push each other out before they are
/// needed.
const NARROW: usize = 16;

/// One table of an [`Exclusive`](crate::Exclusive).
#[derive(Debug)]
pub struct TableMut<'a> {
    rules: &'a Rules,
    clock: &'a Clock,
    mean: &'a RwLock<Vec<f32>>,
    shards: Vec<&'a mut Shard>,
    layout: Layout,
    /// Factor of the learning rate.
    scale: f32,
    /// The rule of the coming step, once it was asked for.
    stroke: Option<Stroke<'a>>,
    /// The coming step as rows have it.
    word: u32,
    /// Stands in for rows that are not there.
    spare: Vec<f32>,
}

/// The rows of one table by their number, [`Place::slot`]. By [`TableMut::slots`].
#[derive(Debug)]
pub struct Slots<'b> {
    words: &'b mut [f32],
    stride: usize,
    live: usize,
    word: f32,
}

impl Slots<'_> {
    /// A row's weights and state, to read; empty for a slot that no row has.
    #[inline]
    pub fn row(&self, slot: u32) -> &[f32] {
        let at = slot as usize * self.stride;
        self.words.get(at..at + self.live).unwrap_or(&[])
    }

    /// A row's weights and state, to change; it counts as touched at the coming step. `None` for a slot that no row has.
    #[inline]
    pub fn row_mut(&mut self, slot: u32) -> Option<&mut [f32]> {
        let at = slot as usize * self.stride;
        let row = self.words.get_mut(at..at + self.stride)?;
        let (row, word) = row.split_at_mut(self.live);
        word[0] = self.word;
        Some(row)
    }

    /// Asks for a row some time before it is needed.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        prefetch(self.row(slot));
    }
}

impl<'a> TableMut<'a> {
    pub(crate) fn new(table: &'a mut Table, scale: f32) -> Self {
        let (rules, clock, mean, shards) = table.parts_mut();
        let (layout, word) = (rules.layout, clock.coming());
        let spare = vec![0.0; layout.stride()];
        Self { rules, clock, mean, shards, layout, scale, stroke: None, word, spare }
    }

    /// The table's configuration.
    pub fn config(&self) -> &TableConfig {
        &self.rules.config
    }

    /// As [`Exclusive::locate`](crate::Exclusive::locate).
    ///
    /// # Errors
    /// As there.
    pub fn locate(&mut self, keys: &[u64], places: &mut Vec<Place>) -> Result<()> {
        self.refuse_bf16()?;
        places.clear();
        places.reserve(keys.len());
        let (rules, word) = (self.rules, self.word);
        if self.shards.len() == 1 {
            for keys in keys.chunks(BLOCK) {
                let mut starts = [0; BLOCK];
                starts.iter_mut().zip(keys).for_each(|(at, &key)| *at = self.shards[0].prefetch_key(key));
                self.find_from(keys, &starts, places);
            }
        } else {
            for keys in keys.chunks(BLOCK) {
                let start = places.len();
                places.extend(keys.iter().map(|&key| {
                    let at = shard_of(mix(key), self.shards.len());
                    self.shards[at].prefetch_key(key);
                    Place { shard: at as u32, slot: NONE }
                }));
                for (place, &key) in places[start..].iter_mut().zip(keys) {
                    place.slot = rules.slot(self.shards[place.shard as usize], key, word, true);
                }
            }
        }
        self.find_repeats(keys, places);
        Ok(())
    }

    /// Asks some time beforehand for what [`locate_announced`](Self::locate_announced) of the same keys will read; what it must be
    /// told replaces what is in `starts`. Only tables of one shard know anything to tell.
    pub fn announce(&self, keys: &[u64], starts: &mut Vec<usize>) {
        starts.clear();
        if let [shard] = &self.shards[..] {
            starts.extend(keys.iter().map(|&key| shard.prefetch_key(key)));
        }
    }

    /// As [`locate`](Self::locate), after [`announce`](Self::announce) of the same keys.
    ///
    /// # Errors
    /// As [`locate`](Self::locate).
    pub fn locate_announced(
        &mut self,
        keys: &[u64],
        starts: &[usize],
        places: &mut Vec<Place>,
    ) -> Result<()> {
        if self.shards.len() != 1 || starts.len() != keys.len() {
            return self.locate(keys, places);
        }
        self.refuse_bf16()?;
        places.clear();
        self.find_from(keys, starts, places);
        self.find_repeats(keys, places);
        Ok(())
    }

    /// Appends the places of keys in the only shard, whose look-ups begin at `starts`.
    #[inline]
    fn find_from(&mut self, keys: &[u64], starts: &[usize], places: &mut Vec<Place>) {
        let (rules, word, narrow) = (self.rules, self.word, self.layout.stride() <= NARROW);
        let [shard] = &mut self.shards[..] else { return };
        places.extend(keys.iter().zip(starts).map(|(&key, &at)| {
            let mut slot = shard.get_from(at, key);
            if slot == NONE {
                slot = rules.slot(shard, key, word, true);
            } else if narrow {
                shard.prefetch_row(slot, NARROW);
            }
            Place { shard: 0, slot }
        }));
    }

    /// Where the table counts before it admits: a key that was let in at a repeat in this very call has its row at every place.
    fn find_repeats(&self, keys: &[u64], places: &mut [Place]) {
        if self.rules.config.admission.is_some() {
            for (place, &key) in places.iter_mut().zip(keys).filter(|(place, _)| !place.is_some()) {
                place.slot = self.shards[place.shard as usize].get(key);
            }
        }
    }

    /// As [`Exclusive::find`](crate::Exclusive::find).
    ///
    /// # Errors
    /// As there.
    pub fn find(&self, keys: &[u64], places: &mut Vec<Place>) -> Result<()> {
        self.refuse_bf16()?;
        places.clear();
        places.extend(keys.iter().map(|&key| {
            let at = shard_of(mix(key), self.shards.len());
            Place { shard: at as u32, slot: self.shards[at].get(key) }
        }));
        Ok(())
    }

    /// All rows of a table that is one shard, side by side: D weights, the state, and the word that says when a row was last
    /// touched, S words in all. Whoever changes a row puts the word given beside them last in it, as
    /// [`row`](Self::row) does. The row at a place is number [`Place::slot`]; rows behind the last one are nobody's.
    ///
    /// `None` when the table has several shards, rows of another size, or bf16 weights.
    #[inline]
    pub fn side_by_side<const S: usize>(&mut self) -> Option<(&mut [[f32; S]], f32)> {
        let word = f32::from_bits(self.word);
        match &mut self.shards[..] {
            [shard] if self.layout.stride() == S && self.layout.dtype == RowType::F32 => {
                Some((shard.words_mut().as_chunks_mut().0, word))
            }
            _ => None,
        }
    }

    /// All rows of a table that is one shard, to be had by their slots; `None` when the table has several shards, or bf16 weights.
    #[inline]
    pub fn slots(&mut self) -> Option<Slots<'_>> {
        let (layout, word) = (self.layout, f32::from_bits(self.word));
        match &mut self.shards[..] {
            [shard] if layout.dtype == RowType::F32 => {
                Some(Slots { words: shard.words_mut(), stride: layout.stride(), live: layout.live(), word })
            }
            _ => None,
        }
    }

    /// As [`Exclusive::prefetch`](crate::Exclusive::prefetch).
    #[inline]
    pub fn prefetch(&self, place: Place) {
        if let Some(shard) = self.shards.get(place.shard as usize) {
            shard.prefetch_row(place.slot, usize::MAX);
        }
    }

    /// As [`Exclusive::row`](crate::Exclusive::row).
    #[inline]
    pub fn row(&mut self, place: Place) -> &mut [f32] {
        let layout = self.layout;
        let row = self.shards.get_mut(place.shard as usize).and_then(|shard| shard.try_row_mut(place.slot));
        match row {
            Some(row) => {
                layout.touch(row, self.word);
                &mut row[..layout.live()]
            }
            None => spare_row(self.rules, self.mean, &mut self.spare),
        }
    }

    /// Two rows at once; `None` when the places are the same or lack a row.
    #[inline]
    pub fn pair(&mut self, first: Place, second: Place) -> Option<(&mut [f32], &mut [f32])> {
        let (layout, word) = (self.layout, self.word);
        let live = |row: &'_ mut [f32]| layout.touch(row, word);
        let (a, b) = if first.shard == second.shard {
            self.shards.get_mut(first.shard as usize)?.pair_mut(first.slot, second.slot)?
        } else {
            let at = [first.shard as usize, second.shard as usize];
            let [a, b] = self.shards.get_disjoint_mut(at).ok()?;
            (a.try_row_mut(first.slot)?, b.try_row_mut(second.slot)?)
        };
        live(a);
        live(b);
        Some((&mut a[..layout.live()], &mut b[..layout.live()]))
    }

    /// As [`Exclusive::peek`](crate::Exclusive::peek).
    #[inline]
    pub fn peek(&self, place: Place) -> &[f32] {
        let row = self.shards.get(place.shard as usize).and_then(|shard| shard.try_row(place.slot));
        row.map_or(&[], |row| &row[..self.layout.live()])
    }

    /// As [`Exclusive::update`](crate::Exclusive::update).
    pub fn update(&mut self, place: Place, grad: &[f32]) {
        let layout = self.layout;
        let row = self.shards.get_mut(place.shard as usize).and_then(|shard| shard.try_row_mut(place.slot));
        if let Some(row) = row.filter(|_| layout.dtype == RowType::F32 && grad.len() == layout.dim) {
            let (rules, clock, scale) = (self.rules, self.clock, self.scale);
            let stroke =
                self.stroke.get_or_insert_with(|| Stroke::new(rules, clock, clock.step() + 1, scale));
            stroke.apply(row, 0, grad); // only bf16 rows need their key
        }
    }

    /// As [`Exclusive::step`](crate::Exclusive::step) for this table alone.
    #[inline]
    pub fn step(&mut self) {
        let step = self.clock.step.load(Ordering::Relaxed) + 1;
        self.clock.step.store(step, Ordering::Relaxed);
        if self.clock.is_full(step + 1) {
            rebase(self.clock, step + 1, self.layout, &mut self.shards);
        }
        (self.word, self.stroke) = (self.clock.coming(), None);
        if self.rules.mean_is_due(step) {
            let shards: Vec<&Shard> = self.shards.iter().map(|shard| &**shard).collect();
            *write(self.mean) = mean_of_rows(self.layout, &shards);
        }
    }

    fn refuse_bf16(&self) -> Result<()> {
        let TableConfig { name, dtype, .. } = &self.rules.config;
        if *dtype == RowType::F32 {
            return Ok(());
        }
        Err(Error::Input(format!("table `{name}` holds bf16 weights; rows that change in place must be f32")))
    }
}

/// The default row with the state that a new row would have. The key is not known here, so a table
/// whose default is the initial row answers with that of key 0.
#[cold]
fn spare_row<'s>(rules: &Rules, mean: &RwLock<Vec<f32>>, spare: &'s mut [f32]) -> &'s mut [f32] {
    let layout = rules.layout;
    let row = &mut spare[..layout.live()];
    if layout.dtype != RowType::F32 {
        return &mut [];
    }
    row.fill(0.0);
    let (weights, state) = row.split_at_mut(layout.weights);
    rules.default_row(0, &read(mean), weights);
    rules.config.optim.init_state(weights, state);
    row
}
