use crate::config::{DefaultRow, RowType, TableConfig};
use crate::keys::{NONE, mix};
use crate::layout::Layout;
use crate::shard::Shard;

/// What a table does with a row, apart from where the row is.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) config: TableConfig,
    pub(crate) layout: Layout,
    /// What seed and name come to.
    pub(crate) stream: u64,
}

impl Rules {
    pub(crate) fn new(config: TableConfig) -> Self {
        let stream = xxhash_rust::xxh3::xxh3_64_with_seed(config.name.as_bytes(), config.seed);
        Self { layout: Layout::new(&config), stream, config }
    }

    /// The slot of a key. A key without a row gets one, with `word` as its step, unless the table counts first and this is no sighting or not one too many; it is `NONE` then.
    #[inline]
    pub(crate) fn slot(&self, shard: &mut Shard, key: u64, word: u32, sight: bool) -> u32 {
        if let Some(admission) = self.config.admission {
            let (slot, enough) = (shard.get(key), admission.sightings());
            let counts = shard.counts.as_mut();
            if slot != NONE || !sight || !counts.is_some_and(|c| c.sight(mix(key), key, enough, word)) {
                return slot;
            }
        }
        let (slot, new) = shard.get_or_insert(key);
        if new {
            self.start_row(shard.row_mut(slot), mix(key), word);
        }
        slot
    }

    /// Fills the zeroed row of a new key.
    #[inline(never)]
    fn start_row(&self, row: &mut [f32], hash: u64, word: u32) {
        let layout = self.layout;
        let (weights, state) = row[..layout.live()].split_at_mut(layout.weights);
        let stream = mix(self.stream ^ hash);
        match layout.dtype {
            RowType::F32 => {
                self.config.init.fill(stream, weights);
                self.config.optim.init_state(weights, state);
            }
            RowType::Bf16 => {
                let mut start = vec![0.0; layout.dim];
                self.config.init.fill(stream, &mut start);
                layout.write(weights, &start);
                layout.read(weights, &mut start);
                self.config.optim.init_state(&start, state);
            }
        }
        layout.touch(row, word);
    }

    /// The default row of a key, `out` is `[D]`; `mean` is the table's.
    pub(crate) fn default_row(&self, key: u64, mean: &[f32], out: &mut [f32]) {
        match self.config.default_row {
            DefaultRow::Zeros => out.fill(0.0),
            DefaultRow::Mean => out.copy_from_slice(mean),
            DefaultRow::Initial => {
                self.config.init.fill(mix(self.stream ^ mix(key)), out);
                let mut row = vec![0.0; self.layout.weights];
                self.layout.write(&mut row, out);
                self.layout.read(&row, out);
            }
        }
    }
}
