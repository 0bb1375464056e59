//! One file per subcommand.

mod at_once;
pub mod data;
pub mod eval;
pub mod features;
pub mod index;
pub mod quickstart;
pub mod recall;
mod recall_mine;
mod recall_table;
mod recall_train;
pub mod recipe;
pub mod report;
pub mod serve;
pub mod train;
