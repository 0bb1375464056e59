//! Saved training states: a model file that also holds the dense optimiser's memory and where the run was.

use millstream_models::snapshot::{self, Role, Saved};
use std::path::Path;

use crate::learner::{Learner, SavedState, Setting, role_of};
use crate::{Error, RunState};

/// Writes a checkpoint: complete and on disk under its name, or not there at all.
///
/// # Errors
/// The disk refuses.
pub fn save(path: &Path, learner: &Learner, state: &RunState) -> Result<(), Error> {
    let run = serde_json::to_vec(state).map_err(|e| Error::Corrupt(e.to_string()))?;
    let optimizer =
        postcard::to_stdvec(&learner.optimizer_state()).map_err(|e| Error::Corrupt(e.to_string()))?;
    let extra: [(&str, &[u8]); 2] = [("run", &run), ("optimizer", &optimizer)];
    Ok(snapshot::write(path, &learner.header(), learner.params(), learner.store(), &extra)?)
}

/// Opens a checkpoint to go on from.
///
/// # Errors
/// The file is damaged, or holds another model than `setting` names.
pub fn load(path: &Path, setting: &Setting<'_>) -> Result<(Learner, RunState), Error> {
    let role: Role = role_of(&setting.model.name)?;
    let mut saved = Saved::open_for(path, role, setting.encoder.fields())?;
    let place = path.display();
    if saved.header.model != *setting.model || saved.header.tasks != setting.tasks {
        return Err(Error::Config(format!(
            "{place}: holds `{}` with other options or tasks; give another --out or remove it",
            saved.header.model.name
        )));
    }
    let run = saved.section("run")?;
    let run = serde_json::from_slice(&run)
        .map_err(|e| Error::Corrupt(format!("{place}: its run state does not read: {e}")))?;
    let optimizer = saved.section("optimizer")?;
    let optimizer = postcard::from_bytes(&optimizer)
        .map_err(|e| Error::Corrupt(format!("{place}: its optimiser state does not read: {e}")))?;
    let state =
        SavedState { weights: saved.weights()?, store: saved.store()?, optimizer, steps: saved.header.steps };
    Ok((Learner::restore(setting, state)?, run))
}
