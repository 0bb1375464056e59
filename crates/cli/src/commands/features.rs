//! `millstream features describe|importance|select`.

mod describe;
mod importance;
mod select;

use clap::Subcommand;
use millstream_data::Prepared;
use millstream_schema::suggest;

use crate::{Failure, Global, Verdict};

/// What features are worth.
#[derive(Subcommand)]
pub enum Command {
    /// What each column says by itself: variance, correlation, information gain, information value.
    #[command(after_help = describe::EXAMPLES)]
    Describe(describe::Options),
    /// What each feature is worth to a trained ranker: AUC lost when it is shuffled, gain of splits for trees.
    #[command(after_help = importance::EXAMPLES)]
    Importance(importance::Options),
    /// Choose features forward or backward by what a linear model makes of them on the validation part.
    #[command(after_help = select::EXAMPLES)]
    Select(select::Options),
}

/// Runs the command.
pub fn run(command: Command, global: &Global) -> Result<Verdict, Failure> {
    match command {
        Command::Describe(options) => describe::run(&options, global),
        Command::Importance(options) => importance::run(&options, global),
        Command::Select(options) => select::run(&options, global),
    }
}

/// The place of a task; the first when none is named.
fn task_of(prepared: &Prepared, name: Option<&str>) -> Result<usize, Failure> {
    let Some(name) = name else { return Ok(0) };
    let found = prepared.tasks.iter().position(|t| t == name);
    found.ok_or_else(|| suggest::unknown("task", name, prepared.tasks.iter().map(String::as_str)).into())
}
