//! What goes to stdout: tables for people, one JSON object as the last line for programs.

use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints a line of text to stdout.
pub fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush()).is_err() {
        // Whoever read has gone (`| head`): there is nobody to tell.
        std::process::exit(0);
    }
}

/// Prints one JSON object as a line of its own.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(e) => tracing::error!("the result cannot be written as JSON: {e}"),
    }
}

/// A table with a header row; the first column is left-aligned, the others right-aligned.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    let mut put = |cells: &mut dyn Iterator<Item = &str>| {
        let mut row = String::new();
        for (i, cell) in cells.enumerate() {
            // Writing to a String cannot fail.
            let _ = match i {
                0 => write!(row, "{cell:<width$}", width = widths[0]),
                _ => write!(row, "  {cell:>width$}", width = widths[i]),
            };
        }
        out.push_str(row.trim_end());
        out.push('\n');
    };
    put(&mut header.iter().copied());
    let rules: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
    put(&mut rules.iter().map(String::as_str));
    for row in rows {
        put(&mut row.iter().map(String::as_str));
    }
    out
}

/// The process's largest resident memory so far, in MiB; 0 where the system does not tell.
pub fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A metric for a table cell.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |v| format!("{v:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let text =
            table(&["name", "auc"], &[vec!["a".into(), "0.5".into()], vec!["longer".into(), "–".into()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "name    auc");
        assert_eq!(lines[2], "a       0.5");
        assert_eq!(lines[3].chars().count(), "longer    –".chars().count());
    }
}
