//! TOML to types, with errors that name the line, the key and the nearest valid one.

use serde::de::DeserializeOwned;

use crate::{Error, suggest};

/// Parses TOML `text`; `file` is named in the error.
pub fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|e| {
        let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map_or_else(|| file.to_owned(), |l| format!("{file}:{l}"));
        Error::config(format!("{place}: {}", friendly(e.message())))
    })
}

/// Reads and parses a TOML file.
pub fn read<T: DeserializeOwned>(path: &std::path::Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    parse(&text, &path.display().to_string())
}

/// The typed form of a table that was already parsed; `place` is named in the error.
pub fn from_table<T: DeserializeOwned>(table: &toml::Table, place: &str) -> Result<T, Error> {
    let value = toml::Value::Table(table.clone());
    value
        .try_into()
        .map_err(|e: toml::de::Error| Error::config(format!("{place}: {}", friendly(e.message()))))
}

/// serde's "unknown field `x`, expected one of `a`, `b`" with the nearest name put first.
fn friendly(message: &str) -> String {
    let message = message.trim().replace('\n', " ");
    for (what, noun) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some(rest) = message.strip_prefix(what) else { continue };
        let mut quoted = rest.split('`').step_by(2);
        let got = quoted.next().unwrap_or("");
        let valid: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        return suggest::unknown(noun, got, valid.iter().copied());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        epochs: u32,
        rate: f32,
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
        let err = parse::<Sample>("rate = 1.0\nepoks = 3\n", "a.toml").unwrap_err().to_string();
        assert_eq!(err, "a.toml:2: unknown key `epoks`; did you mean `epochs`?");
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let err = parse::<Sample>("epochs = \"x\"\nrate = 1.0\n", "a.toml").unwrap_err().to_string();
        assert!(err.starts_with("a.toml:1: invalid type"), "{err}");
    }
}
