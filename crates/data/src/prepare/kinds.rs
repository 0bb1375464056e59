//! The kinds of event of a data set: those met, and those that its configuration names.

use millstream_schema::{EventKind, FeatureKind, suggest};

use super::PrepareReport;
use crate::Error;
use crate::config::DatasetConfig;

/// Enters the kinds met into the report, and checks those that features and `[examples]` name against them.
///
/// # Errors
/// A kind of the user's own that is named but never met, with the nearest that is; two kinds that share a code. A built-in kind that is
/// never met is noted: a log may happen to be without orders.
pub(super) fn enter(
    config: &DatasetConfig,
    met: &[EventKind],
    report: &mut PrepareReport,
) -> Result<(), Error> {
    for (place, kind) in named(config) {
        match kind {
            _ if met.contains(kind) => {}
            EventKind::Custom(name) => {
                let what = suggest::unknown("kind of event", name, met.iter().map(EventKind::as_str));
                return Err(Error::Config(format!("{place}: {what}")));
            }
            _ => report.note(format!("{place}: no event is a {kind}; its places"), 1),
        }
    }
    for (at, kind) in met.iter().enumerate() {
        if let Some(other) = met[..at].iter().find(|other| other.code() == kind.code()) {
            return Err(Error::Config(format!(
                "[dataset]: the kinds of event `{other}` and `{kind}` have the same code; give one of them another name \
                 with event = {{ column = …, map = {{ \"{kind}\" = \"{kind}_2\" }} }}"
            )));
        }
    }
    report.kinds = met.to_vec();
    Ok(())
}

/// Kinds that choose what enters behaviour lists, each with its place in the configuration.
fn named(config: &DatasetConfig) -> impl Iterator<Item = (String, &EventKind)> {
    let features = config.schema.features.iter().flat_map(|feature| {
        let events = match &feature.kind {
            FeatureKind::Sequence { events, .. } | FeatureKind::Match { events, .. } => events.as_slice(),
            _ => &[],
        };
        events.iter().map(|kind| (format!("feature `{}`: events", feature.name), kind))
    });
    let examples = &config.examples;
    let lists = [("history_events", &examples.history_events), ("seen_events", &examples.seen_events)];
    let of_examples =
        lists.into_iter().flat_map(|(key, list)| list.iter().map(move |k| (format!("[examples]: {key}"), k)));
    features.chain(of_examples)
}
