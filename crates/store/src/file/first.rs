//! Version 1: rows of every table one after the other, in order of key.
//!
//! ```text
//! magic "MILLROWS", version u32 = 1, learning rate scale f32, table count u32
//! per table: header length u32, header (postcard: FirstConfig, step u64), row count u64,
//!            rows in ascending order of key: key u64, weights and state f32s
//! xxh3 u64 of all bytes before it
//! ```
//! Its rows do not say when they were touched; they count as touched at the table's last step.

use super::read::{Input, put_words, u64_of};
use crate::config::TableConfig;
use crate::error::Result;
use crate::init::RowInit;
use crate::optim::RowOptim;
use crate::store::Store;
use crate::table::Table;
use serde::Deserialize;
use std::sync::atomic::Ordering;

const MAX_HEADER: u32 = 1 << 16;

/// What version 1 said of a table.
#[derive(Deserialize)]
struct FirstConfig {
    name: String,
    dim: usize,
    init: RowInit,
    optim: RowOptim,
    l2: f32,
    seed: u64,
}

/// Reads a store after the version number.
pub(super) fn read(input: &mut Input<'_>, shards: usize) -> Result<Store> {
    let scale = f32::from_le_bytes(input.array()?);
    let count = u32::from_le_bytes(input.array()?);
    let mut tables: Vec<Table> = Vec::new();
    for _ in 0..count {
        let table = read_table(input, shards)?;
        if tables.iter().any(|other| other.config().name == table.config().name) {
            return Err(input.corrupt("a table is there twice"));
        }
        tables.push(table);
    }
    input.check("its rows")?;
    if !(scale >= 0.0 && scale.is_finite()) {
        return Err(input.corrupt("the learning rate scale is no positive number"));
    }
    Ok(Store::from_tables(tables, scale))
}

fn read_table(input: &mut Input<'_>, shards: usize) -> Result<Table> {
    let len = u32::from_le_bytes(input.array()?);
    if len > MAX_HEADER {
        return Err(input.corrupt("a table's header is implausibly long"));
    }
    let mut header = vec![0; len as usize];
    input.fill(&mut header)?;
    let (first, step) = postcard::from_bytes::<(FirstConfig, u64)>(&header)
        .map_err(|_| input.corrupt("a table's header cannot be decoded"))?;
    let FirstConfig { name, dim, init, optim, l2, seed } = first;
    let config = TableConfig { init, optim, l2, seed, ..TableConfig::new(name, dim) };
    if let Some(flaw) = config.flaw() {
        return Err(input.corrupt(&flaw));
    }
    let count = u64::from_le_bytes(input.array()?);
    let mut table = Table::new(config, shards);
    table.clock.step.store(step, Ordering::SeqCst);
    read_rows(input, &mut table, count)?;
    Ok(table)
}

fn read_rows(input: &mut Input<'_>, table: &mut Table, count: u64) -> Result<()> {
    let (layout, word) = (table.rules.layout, table.clock.word(table.clock.step()));
    let out_of_order =
        input.corrupt(&format!("the keys of table `{}` are out of order", table.config().name));
    let mut last = None;
    let mut in_order = true;
    input.items(count, 8 + 4 * layout.live(), |_, bytes| {
        let (key, words) = bytes.split_at(8);
        let place = table.put_key(u64_of(key));
        let row = table.row_at(place);
        put_words(words, row);
        layout.touch(row, word);
        in_order &= last.replace(u64_of(key)).is_none_or(|last| last < u64_of(key));
        Ok(())
    })?;
    if in_order { Ok(()) } else { Err(out_of_order) }
}
