//! Cells to numbers and lists.

use crate::record::LIST_SEPARATOR;

/// A finite number, or why not. White space around it is fine.
pub fn number(cell: &str) -> Result<f64, String> {
    let text = cell.trim();
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        Ok(_) => Err(format!("not a finite number ({})", short(text))),
        Err(_) => Err(format!("not a number ({})", short(text))),
    }
}

/// At most 40 characters of a value, for messages.
pub fn short(text: &str) -> String {
    let cut: String = text.chars().take(40).collect();
    let cut: String = cut.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().count() > 40 { format!("`{cut}…`") } else { format!("`{cut}`") }
}

/// The elements of a list cell: split at [`LIST_SEPARATOR`] or at `separator`; empty ones are left out.
pub fn elements<'a>(cell: &'a str, separator: &'a str) -> impl Iterator<Item = &'a str> {
    cell.split(LIST_SEPARATOR)
        .flat_map(move |part| {
            // An empty separator means the cell is one element (or already a list).
            let whole = separator.is_empty().then_some(part);
            let parts = (!separator.is_empty()).then(|| part.split(separator));
            whole.into_iter().chain(parts.into_iter().flatten())
        })
        .map(str::trim)
        .filter(|e| !e.is_empty())
}

/// Lower-case words of a text: runs of letters and digits.
pub fn words(cell: &str) -> impl Iterator<Item = String> {
    cell.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_must_be_finite() {
        assert_eq!(number(" 1.5 "), Ok(1.5));
        assert!(number("NaN").unwrap_err().contains("finite"));
        assert!(number("inf").unwrap_err().contains("finite"));
        assert!(number("12a").unwrap_err().contains("not a number"));
    }

    #[test]
    fn lists_split_at_both_separators() {
        let got: Vec<&str> = elements("a|b\u{1f}c||", "|").collect();
        assert_eq!(got, ["a", "b", "c"]);
        assert_eq!(elements("a b", "").collect::<Vec<_>>(), ["a b"]);
    }

    #[test]
    fn words_are_lower_case_runs() {
        assert_eq!(words("The Étoile-2, x").collect::<Vec<_>>(), ["the", "étoile", "2", "x"]);
    }
}
