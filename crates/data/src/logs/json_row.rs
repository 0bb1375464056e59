//! One JSON object to flat cells.

use std::borrow::Cow;
use std::fmt;

use millstream_schema::record::LIST_SEPARATOR;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Objects inside objects beyond this are refused.
const DEEPEST: usize = 32;

/// Takes a key path (`a.b`) and the JSON text of its value.
pub(super) type Sink<'s> = dyn FnMut(&str, &str) -> Result<(), String> + 's;

/// Hands every value of the object `line` that is not itself an object to `sink`.
///
/// # Errors
/// Why the line is no JSON object, or what `sink` says.
pub(super) fn walk(line: &str, sink: &mut Sink<'_>) -> Result<(), String> {
    let line = line.trim();
    if line.starts_with('[') {
        return Err("expected one JSON object per line, not a list".into());
    }
    let mut path = String::new();
    object(line, Object { path: &mut path, depth: 1, sink }).map_err(|e| {
        let text = e.to_string();
        // The line number inside the line is always 1: leave it out.
        text.split(" at line ").next().unwrap_or(&text).to_owned()
    })
}

fn object(text: &str, seed: Object<'_, '_>) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    seed.deserialize(&mut json)?;
    json.end()
}

struct Object<'p, 's> {
    path: &'p mut String,
    depth: usize,
    sink: &'p mut Sink<'s>,
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let outer = self.path.len();
        while let Some(Key(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            if outer > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if value.get().starts_with('{') {
                if self.depth >= DEEPEST {
                    return Err(A::Error::custom(format!("objects are nested deeper than {DEEPEST}")));
                }
                let inner = Object { path: &mut *self.path, depth: self.depth + 1, sink: &mut *self.sink };
                object(value.get(), inner).map_err(A::Error::custom)?;
            } else {
                (self.sink)(self.path, value.get()).map_err(A::Error::custom)?;
            }
            self.path.truncate(outer);
        }
        Ok(())
    }
}

/// Appends the cell of a JSON value: numbers as written, `true` and `false` as 1 and 0, `null` as nothing, lists
/// joined by [`LIST_SEPARATOR`] (what is nested in them stays JSON).
pub(super) fn cell(raw: &str, out: &mut String) -> Result<(), String> {
    match raw.as_bytes().first() {
        Some(b'n') | None => {}
        Some(b't') => out.push('1'),
        Some(b'f') => out.push('0'),
        Some(b'"') if !raw.contains('\\') => out.push_str(&raw[1..raw.len() - 1]),
        Some(b'"') => out.push_str(&serde_json::from_str::<String>(raw).map_err(|e| e.to_string())?),
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(|e| e.to_string())?;
            for (i, element) in elements.iter().map(|e| e.get()).enumerate() {
                if i > 0 {
                    out.push(LIST_SEPARATOR);
                }
                match element.as_bytes().first() {
                    Some(b'[' | b'{') => out.push_str(element),
                    _ => cell(element, out)?,
                }
            }
        }
        Some(_) => out.push_str(raw),
    }
    Ok(())
}
