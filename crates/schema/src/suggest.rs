//! Nearest valid names, for errors that help.

use std::path::Path;

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

/// Why there is no file at `path`, with the nearest name in its folder.
pub fn missing_file(path: &Path) -> String {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return format!("no such file; folder `{}` does not exist", folder.display());
    };
    let names: Vec<String> =
        entries.take(10_000).flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let wanted = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    match nearest(&wanted, names.iter().map(String::as_str)) {
        Some(name) => format!("no such file; did you mean `{name}`?"),
        None => "no such file".into(),
    }
}
