//! Sections checked against each other, defaults filled in.

use millstream_schema::feature::{Encoding, FeatureSpec};
use millstream_schema::{FeatureKind, Pool, Schema, Side, Times};

use super::{
    CatalogueFiles, Dataset, EventFiles, ExamplesConfig, Kind, SequenceFiles, SplitBy, SplitConfig,
    TableFiles, Task,
};
use crate::Error;

fn fail<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Config(message.into()))
}

/// The section of the kind is there and holds together; no section of another kind is.
pub(super) fn dataset(d: &Dataset) -> Result<(), Error> {
    let kind = d.kind.as_str();
    let sections = [
        ("events", d.events.is_some(), d.kind == Kind::Log, d.kind == Kind::Log),
        ("table", d.table.is_some(), d.kind == Kind::Table, d.kind == Kind::Table),
        ("sequences", d.sequences.is_some(), d.kind == Kind::Sequences, d.kind == Kind::Sequences),
        ("users", d.users.is_some(), false, true),
        ("items", d.items.is_some(), false, true),
    ];
    for (name, there, needed, allowed) in sections {
        if needed && !there {
            return fail(format!("[dataset]: kind = \"{kind}\" needs a section [dataset.{name}]"));
        }
        if there && !allowed {
            return fail(format!("[dataset.{name}] means nothing for kind = \"{kind}\""));
        }
    }
    if let Some(e) = &d.events {
        events(e)?;
    }
    if let Some(t) = &d.table {
        table(t)?;
        joins(d, t)?;
    }
    if let Some(s) = &d.sequences {
        sequences(s)?;
    }
    catalogue("users", d.users.as_ref())?;
    catalogue("items", d.items.as_ref())
}

fn events(e: &EventFiles) -> Result<(), Error> {
    if e.files.is_empty() {
        return fail("[dataset.events]: key `files` names no file");
    }
    match (&e.event.column, &e.event.constant) {
        (Some(_), Some(_)) => fail("[dataset.events] event: keys `column` and `constant` exclude each other"),
        (None, None) => fail("[dataset.events] event: needs `column` or `constant`"),
        (None, Some(_)) if !e.event.map.is_empty() => {
            fail("[dataset.events] event: key `map` goes with `column`")
        }
        (None, Some(kind)) if !kind.is_action() => {
            fail("[dataset.events] event: a log of impressions alone holds no action to learn from")
        }
        _ => Ok(()),
    }
}

fn table(t: &TableFiles) -> Result<(), Error> {
    let given = !t.train.is_empty() || !t.valid.is_empty() || !t.test.is_empty();
    if given && !t.all.is_empty() {
        return fail("[dataset.table]: key `all` excludes `train`, `valid` and `test`");
    }
    if t.train.is_empty() && t.all.is_empty() {
        return fail(
            "[dataset.table]: needs files: `train` (with `valid` and `test`), or `all` with a [split]",
        );
    }
    if t.order.is_some() && (t.item.is_none() || t.user.is_none() && t.group.is_none()) {
        return fail(
            "[dataset.table]: key `order` needs `item` and `user` (or `group`), whose histories it orders",
        );
    }
    if t.strength.is_some() && t.order.is_none() {
        return fail("[dataset.table]: key `strength` goes with `order`");
    }
    let Some(q) = &t.queries else { return Ok(()) };
    if t.request.is_some() {
        return fail("[dataset.table]: keys `request` and `queries` exclude each other");
    }
    let lists = [
        ("train", &t.train, &q.train),
        ("valid", &t.valid, &q.valid),
        ("test", &t.test, &q.test),
        ("all", &t.all, &q.all),
    ];
    match lists.iter().find(|(_, rows, sizes)| rows.len() != sizes.len()) {
        Some((key, rows, sizes)) => fail(format!(
            "[dataset.table] queries: `{key}` names {} files of group sizes for {} files of rows",
            sizes.len(),
            rows.len()
        )),
        None => Ok(()),
    }
}

/// A table's side files go with the column that names their rows.
fn joins(d: &Dataset, t: &TableFiles) -> Result<(), Error> {
    for (side, files, key, column) in
        [("users", &d.users, "user", &t.user), ("items", &d.items, "item", &t.item)]
    {
        match (files, column) {
            (Some(_), None) => {
                return fail(format!(
                    "[dataset.{side}]: a table needs [dataset.table] {key}, the id's column"
                ));
            }
            (None, Some(_)) if t.order.is_none() => {
                return fail(format!(
                    "[dataset.table]: key `{key}` needs a section [dataset.{side}] to join, or `order`"
                ));
            }
            (Some(f), Some(_)) if f.created.is_some() || f.retired.is_some() => {
                return fail(format!("[dataset.{side}]: `created` and `retired` mean nothing for a table"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn sequences(s: &SequenceFiles) -> Result<(), Error> {
    if s.train.is_empty() {
        return fail("[dataset.sequences]: key `train` names no file");
    }
    if s.delimiter.as_ref().is_some_and(String::is_empty) {
        return fail("[dataset.sequences]: key `delimiter` is empty");
    }
    if s.continued && !s.user {
        return fail("[dataset.sequences]: key `continued` goes with `user = true`");
    }
    if let Some(share) = s.valid_of_train {
        if !(share > 0.0 && share < 1.0) {
            return fail(format!(
                "[dataset.sequences]: key `valid_of_train` must be a share in (0, 1), not {share}"
            ));
        }
        if s.user || !s.valid.is_empty() {
            return fail(
                "[dataset.sequences]: key `valid_of_train` goes with `user = false`, and no `valid`",
            );
        }
    }
    if s.valid_last && (!s.user || !s.valid.is_empty() || s.test.is_empty()) {
        return fail(
            "[dataset.sequences]: key `valid_last` goes with `user = true` and `test`, and no `valid`",
        );
    }
    if !s.before.is_empty() && !s.user {
        return fail(
            "[dataset.sequences]: `before` goes with `user = true`: it is the user that lines have in common",
        );
    }
    let mut kinds = vec![s.kind()];
    for earlier in &s.before {
        let event = &earlier.event;
        if earlier.files.is_empty() {
            return fail(format!("[[dataset.sequences.before]]: `{event}` names no file in `files`"));
        }
        if !event.is_action() || kinds.iter().any(|kind| kind.code() == event.code()) {
            return fail(format!(
                "[[dataset.sequences.before]]: event `{event}` must be an action, and another one than the lines' own and each other's"
            ));
        }
        kinds.push(event.clone());
    }
    match s.kind().is_action() {
        true => Ok(()),
        false => fail(format!("[dataset.sequences]: event: `{}` is no action", s.kind())),
    }
}

fn catalogue(name: &str, files: Option<&CatalogueFiles>) -> Result<(), Error> {
    let Some(files) = files else { return Ok(()) };
    if files.files.is_empty() {
        return fail(format!("[dataset.{name}]: key `files` names no file"));
    }
    let lifetime = [("created", files.created.is_some()), ("retired", files.retired.is_some())];
    match lifetime.iter().find(|(_, set)| *set) {
        Some((key, _)) if name == "users" => fail(format!("[dataset.users]: key `{key}` is for items")),
        _ => Ok(()),
    }
}

/// The features, with defaults for logs, as far as they can be checked before the files are open.
pub(super) fn schema(
    d: &Dataset,
    schema: Schema,
    tasks: &[Task],
    x: &ExamplesConfig,
) -> Result<Schema, Error> {
    let schema = if schema.features.is_empty() { default_features(d, x)? } else { schema };
    for feature in &schema.features {
        let name = &feature.name;
        if d.kind == Kind::Table {
            table_feature(feature, d, tasks)?;
            check_length(feature, x)?;
            continue;
        }
        let from_events = matches!(feature.side, Side::Context | Side::Exposure) && feature.reads_column();
        if d.kind == Kind::Sequences && from_events {
            return fail(format!("feature `{name}`: sequences have no columns of side context or exposure"));
        }
        check_length(feature, x)?;
    }
    Ok(schema)
}

/// A feature looks no further back than histories are kept.
fn check_length(feature: &FeatureSpec, x: &ExamplesConfig) -> Result<(), Error> {
    match &feature.kind {
        FeatureKind::Sequence { max_len, .. } | FeatureKind::Match { max_len, .. }
            if *max_len > x.max_history =>
        {
            fail(format!(
                "feature `{}`: max_len = {max_len} is beyond [examples] max_history = {}",
                feature.name, x.max_history
            ))
        }
        _ => Ok(()),
    }
}

fn table_feature(feature: &FeatureSpec, d: &Dataset, tasks: &[Task]) -> Result<(), Error> {
    let name = &feature.name;
    let ordered = d.table.as_ref().is_some_and(|t| t.order.is_some());
    match &feature.kind {
        FeatureKind::Match { .. } => {
            return fail(format!(
                "feature `{name}`: a match needs a log; a table has no catalogue of candidates"
            ));
        }
        FeatureKind::Sequence { .. } if !ordered => {
            return fail(format!(
                "feature `{name}`: a table holds no histories for a sequence without [dataset.table] order; name it, or \
                 use kind \"multi\""
            ));
        }
        FeatureKind::Sequence { events, .. } if !events.is_empty() => {
            return fail(format!(
                "feature `{name}`: rows of a table have no kinds for `events`; choose them by [examples] history_where"
            ));
        }
        _ => {}
    }
    let is_label = |t: &&Task| matches!(t, Task::Column { column, .. } if *column == feature.column);
    match tasks.iter().find(is_label) {
        Some(task) if feature.reads_column() => {
            fail(format!("feature `{name}` reads the label column of task `{}`", task.name()))
        }
        _ => Ok(()),
    }
}

/// Ids of both sides and a history that shares the items' table.
fn default_features(d: &Dataset, x: &ExamplesConfig) -> Result<Schema, Error> {
    if d.kind == Kind::Table {
        return fail("[[feature]] is missing: a table needs at least one, name, side and kind each");
    }
    let column = |files: &Option<CatalogueFiles>, event: Option<&String>, default: &str| {
        files.as_ref().map(|f| f.id.clone()).or(event.cloned()).unwrap_or_else(|| default.to_owned())
    };
    let id = |name: &str, side: Side, column: String| FeatureSpec {
        name: name.to_owned(),
        side,
        column,
        kind: FeatureKind::Categorical {
            encoding: Encoding::Vocab { min_count: 1, max_size: None },
            default: None,
        },
        table: name.to_owned(),
        pool: Pool::Mean,
    };
    let user = column(&d.users, d.events.as_ref().map(|e| &e.user), "user_id");
    let item = column(&d.items, d.events.as_ref().map(|e| &e.item), "item_id");
    let mut features = vec![id("user_id", Side::User, user), id("item_id", Side::Item, item)];
    if x.max_history > 0 {
        features.push(FeatureSpec {
            name: "history".into(),
            side: Side::User,
            column: "history".into(),
            kind: FeatureKind::Sequence {
                events: Vec::new(),
                max_len: x.max_history,
                elements: vec!["item_id".into()],
                shared: true,
                times: Times::default(),
                strength: false,
            },
            table: "history".into(),
            pool: Pool::Mean,
        });
    }
    Ok(Schema::new(features)?)
}

/// The split with `by` filled in.
pub(super) fn split(d: &Dataset, mut split: SplitConfig) -> Result<SplitConfig, Error> {
    for (key, share) in [("valid", split.valid), ("test", split.test)] {
        if !(0.0..1.0).contains(&share) {
            return fail(format!("[split]: key `{key}` must be a share in [0, 1), not {share}"));
        }
    }
    if split.valid + split.test >= 1.0 {
        return fail("[split]: `valid` and `test` leave nothing to train on");
    }
    let table = d.table.as_ref();
    let table_files = table.is_some_and(|t| !t.train.is_empty());
    let more_sequences = d
        .sequences
        .as_ref()
        .is_some_and(|s| !s.test.is_empty() || !s.valid.is_empty() || s.valid_of_train.is_some());
    let timed = table.is_some_and(|t| t.time.is_some());
    let by = split.by.unwrap_or(match d.kind {
        Kind::Log => SplitBy::Time,
        Kind::Table if table_files => SplitBy::Files,
        Kind::Table if timed => SplitBy::Time,
        Kind::Table => SplitBy::Ratio,
        Kind::Sequences if more_sequences => SplitBy::Files,
        Kind::Sequences => SplitBy::User,
    });
    if let Some(share) = split.valid_of_train {
        if !(share > 0.0 && share < 1.0) {
            return fail(format!("[split]: key `valid_of_train` must be a share in (0, 1), not {share}"));
        }
        if by != SplitBy::Files || table.is_none_or(|t| !t.valid.is_empty()) {
            return fail("[split]: key `valid_of_train` goes with [dataset.table] train, and no `valid`");
        }
    }
    let grouped = table.is_some_and(|t| t.request.is_some() || t.queries.is_some());
    let wrong = match (d.kind, by) {
        (Kind::Table, SplitBy::Time) if grouped => {
            Some("by = \"time\" would cut requests of several rows; use \"ratio\" or \"files\"")
        }
        (Kind::Table, SplitBy::User) => Some("by = \"user\" needs a log or sequences"),
        (Kind::Table, SplitBy::Files) if !table_files => Some("by = \"files\" needs [dataset.table] train"),
        (Kind::Table, SplitBy::Time | SplitBy::Ratio) if table_files => Some(
            "the files given already split the rows; name them under [dataset.table] all, or leave `by` out",
        ),
        (Kind::Table, SplitBy::Time) if !timed => Some("by = \"time\" needs [dataset.table] time"),
        (Kind::Log, SplitBy::Files) => Some("by = \"files\" needs a table or sequences"),
        (Kind::Sequences, SplitBy::Files) if !more_sequences => {
            Some("by = \"files\" needs [dataset.sequences] test")
        }
        (Kind::Sequences, SplitBy::User) if more_sequences => {
            Some("by = \"user\" excludes [dataset.sequences] valid and test")
        }
        (Kind::Table | Kind::Log, SplitBy::ColdItems) => Some("by = \"cold_items\" is for sequences"),
        (Kind::Sequences, SplitBy::ColdItems) if more_sequences => {
            Some("by = \"cold_items\" excludes [dataset.sequences] valid and test")
        }
        (Kind::Sequences, SplitBy::ColdItems) if split.valid + split.test == 0.0 => {
            Some("by = \"cold_items\" holds nothing out where `valid` and `test` are both 0")
        }
        (Kind::Sequences, SplitBy::Time | SplitBy::Ratio) => {
            Some("sequences have no times; by is \"user\", \"files\" or \"cold_items\"")
        }
        _ => None,
    };
    split.by = Some(by);
    wrong.map_or(Ok(split), |reason| fail(format!("[split]: {reason}")))
}

/// Ranges of `[examples]`.
pub(super) fn examples(d: &Dataset, x: &ExamplesConfig) -> Result<(), Error> {
    if !(x.negative_power >= 0.0 && x.negative_power.is_finite()) {
        return fail("[examples]: key `negative_power` must be 0 or more");
    }
    if x.negatives > 1000 {
        return fail("[examples]: key `negatives` must be at most 1000 per positive");
    }
    if x.max_history > 10_000 {
        return fail("[examples]: key `max_history` must be at most 10000");
    }
    if x.whole && x.max_history == 0 {
        return fail("[examples]: whole = true needs a `max_history` above 0");
    }
    if let Some(condition) = &x.history_where {
        if d.table.as_ref().is_none_or(|t| t.order.is_none()) {
            return fail("[examples]: key `history_where` goes with [dataset.table] order");
        }
        if condition.is.is_none() && condition.min.is_none() {
            return fail("[examples] history_where: needs `is` or `min`");
        }
    }
    if let Some(kind) = x.seen_events.iter().find(|kind| !kind.is_action()) {
        return fail(format!("[examples]: seen_events: `{kind}` is no action"));
    }
    if x.repeats && !x.seen_events.is_empty() {
        return fail("[examples]: with repeats = true no item is barred; leave out seen_events");
    }
    match x.history_events.iter().find(|kind| !kind.is_action()) {
        Some(kind) => fail(format!("[examples]: history_events: `{kind}` is no action")),
        None => Ok(()),
    }
}
