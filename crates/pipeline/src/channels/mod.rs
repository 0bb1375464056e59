//! Recall channels, one file each.

pub mod hot;
pub mod item_cf;
pub mod new_items;
pub mod two_tower;

use millstream_schema::config;
use serde::de::DeserializeOwned;

use crate::Error;

/// A channel's own options; an unknown key is an error that names the nearest.
fn options<T: DeserializeOwned>(table: &toml::Table, channel: &str) -> Result<T, Error> {
    Ok(config::from_table(table, &format!("options of channel `{channel}`"))?)
}
