//! One file per subcommand.

pub mod data;
pub mod eval;
pub mod quickstart;
pub mod recipe;
pub mod serve;
pub mod train;
