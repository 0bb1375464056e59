//! Saved training states: a model file that also holds the dense optimiser's memory and where the run was.

use millstream_models::snapshot::{self, Role, Saved};
use millstream_nn::OptimState;
use millstream_store::Store;
use std::path::Path;

use crate::learner::{Learner, SavedState, Setting, role_of};
use crate::stream::{Sparsity, StreamState};
use crate::{Error, RunState, rules};

/// Section of a stream's state.
const STREAM: &str = "stream";
/// Section of a moving average of the weights.
const AVERAGE: &str = "average";

/// Section of what is estimated of items' frequencies.
const FREQUENCY: &str = "frequency";

/// Writes a checkpoint: complete and on disk under its name, or not there at all.
///
/// # Errors
/// The disk refuses.
pub fn save(path: &Path, learner: &Learner, state: &RunState) -> Result<(), Error> {
    write(path, learner, state, &[])
}

/// Writes a checkpoint of a stream.
///
/// # Errors
/// The disk refuses.
pub fn save_stream(path: &Path, learner: &Learner, state: &StreamState) -> Result<(), Error> {
    let stream = postcard::to_stdvec(state).map_err(|e| Error::Corrupt(e.to_string()))?;
    write(path, learner, &run_state(state), &[(STREAM, &stream)])
}

/// Writes the model at a stream's end, without rows that a pull answers with zeros anyway ([`Store::drop_zeros`]),
/// which the learner loses as well.
///
/// # Errors
/// The disk refuses.
pub fn export_stream(path: &Path, learner: &Learner, state: &StreamState) -> Result<Sparsity, Error> {
    let sparsity = count(learner.store())?;
    let dropped = learner.store().drop_zeros() as u64;
    save_stream(path, learner, state)?;
    Ok(Sparsity { rows_kept: sparsity.rows - dropped, ..sparsity })
}

/// Weights and rows, and how many weights are zero.
fn count(store: &Store) -> Result<Sparsity, Error> {
    let mut out = Sparsity::default();
    let tables: Vec<_> = store.tables().map(|(id, _)| id).collect();
    for table in tables {
        store.for_each_row(table, |_, weights| {
            out.rows += 1;
            out.weights += weights.len() as u64;
            out.zeros += weights.iter().filter(|w| **w == 0.0).count() as u64;
        })?;
    }
    out.share = out.zeros as f64 / out.weights.max(1) as f64;
    Ok(out)
}

fn write(path: &Path, learner: &Learner, state: &RunState, more: &[(&str, &[u8])]) -> Result<(), Error> {
    let run = serde_json::to_vec(state).map_err(|e| Error::Corrupt(e.to_string()))?;
    let optimizer =
        postcard::to_stdvec(&learner.optimizer_state()).map_err(|e| Error::Corrupt(e.to_string()))?;
    let mut extra: Vec<(&str, &[u8])> = vec![("run", &run), ("optimizer", &optimizer)];
    let average = learner.average.as_ref().map(postcard::to_stdvec).transpose();
    let average = average.map_err(|e| Error::Corrupt(e.to_string()))?;
    extra.extend(average.as_deref().map(|average| (AVERAGE, average)));
    let frequency = learner.frequency.as_ref().map(postcard::to_stdvec).transpose();
    let frequency = frequency.map_err(|e| Error::Corrupt(e.to_string()))?;
    extra.extend(frequency.as_deref().map(|frequency| (FREQUENCY, frequency)));
    extra.extend(more);
    Ok(snapshot::write(path, &learner.header(), learner.params(), learner.store(), &extra)?)
}

/// A stream as far as a run of epochs can tell it.
fn run_state(state: &StreamState) -> RunState {
    RunState {
        batch: state.batches,
        epoch_rows: state.rows,
        rate: 1.0,
        config: Some(state.config.clone()),
        finished: state.finished,
        ..RunState::default()
    }
}

/// Opens a checkpoint to go on from.
///
/// # Errors
/// The file is damaged, or holds another model than `setting` names.
pub fn load(path: &Path, setting: &Setting<'_>) -> Result<(Learner, RunState), Error> {
    let mut saved = open(path, setting)?;
    let run = run_of(path, &mut saved)?;
    Ok((restore(path, saved, setting)?, run))
}

fn run_of(path: &Path, saved: &mut Saved) -> Result<RunState, Error> {
    let run = saved.section("run")?;
    serde_json::from_slice(&run).map_err(|e| unreadable(path, "run state", &e))
}

/// Opens a checkpoint of a stream to go on from.
///
/// # Errors
/// The file is damaged, holds another model than `setting` names, or no stream.
pub fn load_stream(path: &Path, setting: &Setting<'_>) -> Result<(Learner, StreamState), Error> {
    let mut saved = open(path, setting)?;
    if !saved.has_section(STREAM) {
        return Err(Error::Config(format!(
            "{}: holds a run of epochs, which a stream cannot go on from; give another --out",
            path.display()
        )));
    }
    let run = run_of(path, &mut saved)?;
    let state = saved.section(STREAM)?;
    let state: StreamState =
        postcard::from_bytes(&state).map_err(|e| unreadable(path, "stream state", &e))?;
    let state = StreamState { config: run.config.unwrap_or_default(), ..state };
    Ok((restore(path, saved, setting)?, state))
}

/// A learner to begin with: fresh, or with the weights and rows of the model saved at `from`. The dense optimiser
/// and the schedule start anew; rows keep what their optimiser remembers.
///
/// # Errors
/// The configuration cannot be; the file is damaged or holds another model or rows of other optimisers.
pub fn fresh(setting: &Setting<'_>, from: Option<&Path>) -> Result<Learner, Error> {
    let Some(path) = from else { return Learner::new(setting) };
    let mut saved = open(path, setting)?;
    let optimizer = OptimState::default();
    let store = saved.store_with_shards(rules::shards(setting.training))?;
    let state = SavedState { weights: saved.weights()?, store, optimizer, steps: 0 };
    Learner::restore(setting, state)
}

fn open(path: &Path, setting: &Setting<'_>) -> Result<Saved, Error> {
    let role: Role = role_of(&setting.model.name)?;
    let saved = Saved::open_for(path, role, setting.encoder.fields())?;
    if saved.header.model != *setting.model || saved.header.tasks != setting.tasks {
        return Err(Error::Config(format!(
            "{}: holds `{}` with other options or tasks; give another --out or remove it",
            path.display(),
            saved.header.model.name
        )));
    }
    Ok(saved)
}

fn restore(path: &Path, mut saved: Saved, setting: &Setting<'_>) -> Result<Learner, Error> {
    let optimizer = saved.section("optimizer")?;
    let optimizer = postcard::from_bytes(&optimizer).map_err(|e| unreadable(path, "optimiser state", &e))?;
    let average = match saved.has_section(AVERAGE) {
        true => Some(
            postcard::from_bytes(&saved.section(AVERAGE)?).map_err(|e| unreadable(path, "average", &e))?,
        ),
        false => None,
    };
    let frequency = match saved.has_section(FREQUENCY) && setting.training.frequency.is_some() {
        true => Some(
            postcard::from_bytes(&saved.section(FREQUENCY)?)
                .map_err(|e| unreadable(path, "frequencies of items", &e))?,
        ),
        false => None,
    };
    let store = saved.store_with_shards(rules::shards(setting.training))?;
    let state = SavedState { weights: saved.weights()?, store, optimizer, steps: saved.header.steps };
    let mut learner = Learner::restore(setting, state)?;
    learner.frequency = frequency.or(learner.frequency);
    learner.average = average;
    learner.set_negatives_kept(saved.header.negatives_kept);
    Ok(learner)
}

fn unreadable(path: &Path, what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::Corrupt(format!("{}: its {what} does not read: {why}", path.display()))
}
