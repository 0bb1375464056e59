//! From a configuration to what moves the weights of a model: an optimiser per parameter group, tables, frozen
//! weights.

use millstream_nn::loss::TaskLoss;
use millstream_nn::{Optimiser, Params, RowInit as NnInit};
use millstream_schema::suggest;
use millstream_store::{RowInit, SHARDS, TableConfig};

use crate::config::{RowsConfig, Updates};
use crate::{Error, TrainConfig};

/// Shards of a store that learns so, fresh or opened again. Row by row one thread has a table at a time; a single shard is one place
/// to look, and its rows lie side by side.
pub fn shards(training: &TrainConfig) -> usize {
    match training.updates {
        Updates::Row => 1,
        Updates::Batch => SHARDS,
    }
}

/// Takes the frozen weights from the optimisers; must come before [`optimiser`].
///
/// # Errors
/// A name that no weight has or begins with.
pub fn freeze(params: &mut Params, training: &TrainConfig) -> Result<(), Error> {
    for name in &training.freeze {
        if params.freeze(name) == 0 {
            let mut valid: Vec<String> = params.iter().flat_map(|(full, ..)| beginnings(full)).collect();
            valid.sort();
            valid.dedup();
            let told = suggest::unknown("weight", name, valid.iter().map(String::as_str));
            return Err(Error::Config(format!("training.freeze: {told}")));
        }
    }
    Ok(())
}

/// `a`, `a.b` and `a.b.c` of `a.b.c`.
fn beginnings(name: &str) -> impl Iterator<Item = String> {
    let dots = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    dots.map(|at| name[..at].to_owned())
}

/// The optimiser of the dense weights: a rule per parameter group.
///
/// # Errors
/// A group that the model does not have, with the nearest name.
pub fn optimiser(params: &Params, training: &TrainConfig) -> Result<Optimiser, Error> {
    let known = params.groups();
    if let Some(name) = training.groups.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Error::Config(match known.is_empty() {
            true => format!("training.groups.{name}: this model has no parameter groups"),
            false => {
                format!("training.groups: {}", suggest::unknown("group", name, known.iter().copied()))
            }
        }));
    }
    let of = training.groups.iter().filter_map(|(name, g)| Some((name.clone(), g.dense.as_ref()?.rule())));
    let optimiser = Optimiser::with_groups(training.dense.rule(), of.collect(), params)?;
    Ok(match training.lookahead {
        Some(lookahead) => optimiser.with_look_ahead(lookahead),
        None => optimiser,
    })
}

/// A table for each that the model asked for, with the optimiser of its group.
pub fn tables(params: &Params, training: &TrainConfig) -> Vec<TableConfig> {
    let table = |spec: &millstream_nn::TableSpec| {
        let rows = rows(spec, training);
        TableConfig { init: init(spec.init), seed: training.seed, ..rows.table(&spec.name, spec.dim) }
    };
    params.tables().iter().map(table).collect()
}

/// How the rows of a table are kept: as its group says, or as the others.
pub fn rows<'a>(spec: &millstream_nn::TableSpec, training: &'a TrainConfig) -> &'a RowsConfig {
    let group = training.groups.get(&spec.group).and_then(|g| g.rows.as_ref());
    group.unwrap_or(&training.rows)
}

/// The loss of each task.
///
/// # Errors
/// A loss for a task that does not exist, with the nearest name.
pub fn losses(tasks: &[String], training: &TrainConfig) -> Result<Vec<TaskLoss>, Error> {
    if let Some(name) = training.losses.keys().find(|name| !tasks.contains(name)) {
        let told = suggest::unknown("task", name, tasks.iter().map(String::as_str));
        return Err(Error::Config(format!("training.losses: {told}")));
    }
    let of = |task: &String| training.losses.get(task).unwrap_or(&training.loss).clone();
    Ok(tasks.iter().map(of).collect())
}

fn init(init: NnInit) -> RowInit {
    match init {
        NnInit::Zero => RowInit::Zero,
        NnInit::Uniform(bound) => RowInit::Uniform(bound),
        NnInit::Normal(std) => RowInit::Normal(std),
    }
}
