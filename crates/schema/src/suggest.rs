//! Nearest valid names, for errors that help.

/// The valid name most like `got`, if any is alike enough to be what was meant.
///
/// ```
/// assert_eq!(millstream_schema::suggest::nearest("prise", ["price", "city"]), Some("price"));
/// assert_eq!(millstream_schema::suggest::nearest("zzz", ["price", "city"]), None);
/// ```
pub fn nearest<'a>(got: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    valid
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&got.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// "unknown `what` `got`", with the nearest valid name or, when none is near, all of them.
pub fn unknown<'a>(what: &str, got: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(got, valid.clone()) {
        return format!("unknown {what} `{got}`; did you mean `{name}`?");
    }
    let all: Vec<&str> = valid.into_iter().take(24).collect();
    format!("unknown {what} `{got}`; expected one of {}", all.join(", "))
}
