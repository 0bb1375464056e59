//! Stored bytes: one byte of version, then postcard. Old versions stay readable for ever.

use std::collections::BTreeMap;

use millstream_schema::{Event, Record};
use serde::{Deserialize, Serialize};

use crate::ahead::Ahead;

/// Version written today.
const VERSION: u8 = 1;

/// An event, version 1. Its own type, so that a change of [`Event`] cannot change what is on the disk.
#[derive(Serialize, Deserialize)]
struct EventV1<'a> {
    user: &'a str,
    item: &'a str,
    kind: &'a str,
    time_ms: i64,
    value: f32,
    request: Option<&'a str>,
    position: Option<u32>,
}

/// The fields of a record, version 1; its id is the key.
#[derive(Serialize, Deserialize)]
struct FieldsV1<'a> {
    #[serde(borrow)]
    fields: BTreeMap<&'a str, &'a str>,
}

pub(crate) fn event_bytes(event: &Event) -> Result<Vec<u8>, String> {
    let stored = EventV1 {
        user: &event.user,
        item: &event.item,
        kind: event.kind.as_str(),
        time_ms: event.time_ms,
        value: event.value,
        request: event.request.as_deref(),
        position: event.position,
    };
    postcard::to_extend(&stored, vec![VERSION]).map_err(|e| e.to_string())
}

pub(crate) fn event_of(bytes: &[u8]) -> Result<Event, String> {
    let stored: EventV1<'_> = body(bytes)?;
    Ok(Event {
        user: stored.user.into(),
        item: stored.item.into(),
        kind: stored.kind.parse().map_err(|e: millstream_schema::Error| e.to_string())?,
        time_ms: stored.time_ms,
        value: stored.value,
        request: stored.request.map(str::to_owned),
        position: stored.position,
    })
}

pub(crate) fn record_bytes(record: &Record) -> Result<Vec<u8>, String> {
    let fields = record.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    postcard::to_extend(&FieldsV1 { fields }, vec![VERSION]).map_err(|e| e.to_string())
}

/// A list made ahead of time, version 1; its user is the key.
#[derive(Serialize, Deserialize)]
struct AheadV1<'a> {
    made_ms: i64,
    made_from: u64,
    #[serde(borrow)]
    items: Vec<(&'a str, f32)>,
}

pub(crate) fn ahead_bytes(list: &Ahead) -> Result<Vec<u8>, String> {
    let items = list.items.iter().map(|(id, score)| (id.as_str(), *score)).collect();
    let stored = AheadV1 { made_ms: list.made_ms, made_from: list.made_from, items };
    postcard::to_extend(&stored, vec![VERSION]).map_err(|e| e.to_string())
}

pub(crate) fn ahead_of(bytes: &[u8]) -> Result<Ahead, String> {
    let stored: AheadV1<'_> = body(bytes)?;
    let items = stored.items.into_iter().map(|(id, score)| (id.to_owned(), score)).collect();
    Ok(Ahead { made_ms: stored.made_ms, made_from: stored.made_from, items })
}

pub(crate) fn record_of(id: &[u8], bytes: &[u8]) -> Result<Record, String> {
    let stored: FieldsV1<'_> = body(bytes)?;
    let id = std::str::from_utf8(id).map_err(|_| "an id is not UTF-8".to_owned())?;
    let fields = stored.fields.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Ok(Record { id: id.to_owned(), fields })
}

fn body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|e| e.to_string()),
        Some((version, _)) => Err(format!("version {version} was written by a newer program")),
        None => Err("it is empty".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_schema::EventKind;

    fn event() -> Event {
        Event {
            user: "u".into(),
            item: "i".into(),
            kind: EventKind::Custom("skip".into()),
            time_ms: 1,
            value: 0.5,
            request: Some("r".into()),
            position: Some(3),
        }
    }

    #[test]
    fn an_event_reads_back_as_itself() {
        assert_eq!(event_of(&event_bytes(&event()).unwrap()).unwrap(), event());
    }

    #[test]
    fn version_1_bytes_stay_readable() {
        // version, "u", "i", "skip", zigzag(1), f32 0.5 LE, Some "r", Some 3
        let golden = [1, 1, b'u', 1, b'i', 4, b's', b'k', b'i', b'p', 2, 0, 0, 0, 0x3f, 1, 1, b'r', 1, 3];
        assert_eq!(event_bytes(&event()).unwrap(), golden);
        assert_eq!(event_of(&golden).unwrap(), event());
        let record = [1, 1, 1, b'a', 1, b'b'];
        assert_eq!(record_of(b"x", &record).unwrap().get("a"), "b");
        // version, zigzag(1), 300, one item: "i", f32 0.5 LE
        let golden = [1, 2, 0xac, 2, 1, 1, b'i', 0, 0, 0, 0x3f];
        let list = Ahead { made_ms: 1, made_from: 300, items: vec![("i".into(), 0.5)] };
        assert_eq!(ahead_bytes(&list).unwrap(), golden);
        assert_eq!(ahead_of(&golden).unwrap(), list);
    }

    #[test]
    fn a_version_of_the_future_is_an_error_that_says_so() {
        assert!(event_of(&[9, 1]).unwrap_err().contains("newer"));
        assert!(event_of(&[]).is_err());
        assert!(event_of(&[1, 200]).is_err());
    }
}
