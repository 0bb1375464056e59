//! RUN/run.toml: how a run's feeds are made. `quickstart` writes it when everything that it names is trained, so that a
//! folder without it is one that did not come so far.

use millstream_data::config::Dataset;
use millstream_data::{Prepared, write_text};
use millstream_pipeline::{CatalogueConfig, PipelineConfig};
use millstream_schema::{EventKind, suggest};

use crate::Failure;
use crate::chain::RunDir;

/// Writes it: whole, or not at all.
pub fn write(dir: &RunDir, config: &PipelineConfig) -> Result<(), Failure> {
    Ok(write_text(&dir.config(), &toml::to_string(config)?)?)
}

/// Reads it; a run without it is refused.
pub fn read(dir: &RunDir) -> Result<PipelineConfig, Failure> {
    let file = dir.config();
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(PipelineConfig::parse(&text, &file.display().to_string())?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            // Where there is no run at all, that is what is wrong.
            Prepared::open(&dir.prepared())?;
            Err(format!(
                "{}: no such file, so this run was not made to its end; run `millstream quickstart` again, or write \
                 the file by hand (an empty one means the defaults)",
                file.display()
            )
            .into())
        }
        Err(e) => Err(format!("{}: {e}", file.display()).into()),
    }
}

/// Sees to it that the columns of ids are those of the data: features that read an id get it by them. Default names stand
/// for whatever the data says.
pub fn match_ids(names: &mut CatalogueConfig, dataset: &Dataset) -> Result<(), Failure> {
    let (usual, user, item) = (CatalogueConfig::default(), dataset.user_column(), dataset.item_column());
    for (key, name, usual, right) in [
        ("user_id", &mut names.user_id, &usual.user_id, user),
        ("item_id", &mut names.item_id, &usual.item_id, item),
    ] {
        if name != usual && name != right {
            let what = suggest::unknown("column of ids", name, [right]);
            return Err(format!("[catalogue]: key `{key}`: {what}").into());
        }
        right.clone_into(name);
    }
    Ok(())
}

/// The kinds of action that histories of this data may hold; empty where that is not known.
pub fn event_kinds(prepared: &Prepared) -> Vec<EventKind> {
    let logged = match prepared.event_kinds() {
        // An earlier version did not write them down.
        [] => prepared.dataset().and_then(|dataset| logged(&dataset)),
        met => Some(met.to_vec()),
    };
    in_histories(prepared.history_events(), logged.as_deref())
}

/// Those that `[examples] history_events` names, if any; else what the log holds, and the kinds that every server knows.
fn in_histories(named: Vec<EventKind>, logged: Option<&[EventKind]>) -> Vec<EventKind> {
    use EventKind::{Cart, Click, Like, Order, Play};
    match logged {
        _ if !named.is_empty() => named,
        None => Vec::new(),
        Some(logged) => {
            let mut all = vec![Click, Cart, Order, Like, Play];
            let further = |kind: &&EventKind| kind.is_action() && !all.contains(kind);
            let further: Vec<EventKind> = logged.iter().filter(further).cloned().collect();
            all.extend(further);
            all
        }
    }
}

/// The kinds in the log, as far as its configuration tells: a column may hold any.
fn logged(dataset: &Dataset) -> Option<Vec<EventKind>> {
    match &dataset.events {
        Some(files) if files.event.column.is_some() => None,
        Some(files) => Some(files.event.constant.iter().cloned().collect()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_hold_what_was_named_or_what_the_log_and_the_server_know() {
        let own = EventKind::Custom("search".into());
        let named = vec![EventKind::Click, own.clone()];
        assert_eq!(in_histories(named.clone(), Some(&[EventKind::Order])), named);
        assert_eq!(in_histories(named.clone(), None), named);
        let open = in_histories(Vec::new(), Some(&[EventKind::Impression, own.clone(), EventKind::Click]));
        assert_eq!((open.len(), open.last()), (6, Some(&own)));
        assert!(!open.contains(&EventKind::Impression));
        assert!(in_histories(Vec::new(), None).is_empty());
    }
}
