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
    parse(&read_text(path)?, &path.display().to_string())
}

/// Reads a text file that a person named.
///
/// # Errors
/// It is not there (the nearest name that is, is told), is no UTF-8 text, or cannot be read.
pub fn read_text(path: &std::path::Path) -> Result<String, Error> {
    use std::io::ErrorKind::{InvalidData, NotADirectory, NotFound};
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        NotFound | NotADirectory => Error::input(path.display().to_string(), suggest::missing_file(path)),
        InvalidData => Error::input(path.display().to_string(), "not UTF-8 text; expected a TOML file"),
        _ => Error::io(path, e),
    })
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
        if valid.is_empty() {
            return format!("unknown {noun} `{got}`; it takes no options");
        }
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
    fn where_there_is_no_key_to_name_that_is_said() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let table: toml::Table = toml::from_str("sequence = 1").unwrap();
        let err = from_table::<Nothing>(&table, "model `lr`").unwrap_err().to_string();
        assert_eq!(err, "model `lr`: unknown key `sequence`; it takes no options");
    }

    #[test]
    fn a_file_that_is_not_there_is_answered_with_the_nearest() {
        let folder = std::env::temp_dir().join(format!("millstream-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("recipe.toml"), "rate = 1.0").unwrap();
        let near = read::<Sample>(&folder.join("recpie.toml")).unwrap_err().to_string();
        std::fs::write(folder.join("junk.toml"), [0xff, 0xfe, 0]).unwrap();
        let junk = read::<Sample>(&folder.join("junk.toml")).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(near.ends_with("recpie.toml: no such file; did you mean `recipe.toml`?"), "{near}");
        assert!(junk.ends_with("junk.toml: not UTF-8 text; expected a TOML file"), "{junk}");
    }

    #[test]
    fn a_table_without_keys_says_so() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let err = parse::<Nothing>("a = 1\n", "a.toml").unwrap_err().to_string();
        assert_eq!(err, "a.toml:1: unknown key `a`; it takes no options");
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let err = parse::<Sample>("epochs = \"x\"\nrate = 1.0\n", "a.toml").unwrap_err().to_string();
        assert!(err.starts_with("a.toml:1: invalid type"), "{err}");
    }
}
