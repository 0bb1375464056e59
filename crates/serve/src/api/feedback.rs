//! `POST /api/feedback`: events, durable before they are acknowledged.

use axum::Json;
use axum::extract::State;
use millstream_schema::{Event, EventKind, suggest};
use millstream_stream::{EventLog, id};
use serde_json::{Map, Value};

use crate::answer::{Accepted, Failure, FeedbackEvent};
use crate::observe;
use crate::receive::Content;
use crate::reject::Reject;
use crate::state::{App, Shared};

/// How far ahead of the server a client's clock may be.
const AHEAD_MS: i64 = 24 * 3_600_000;
/// 1990-01-01; an earlier time is one in another unit.
const EARLIEST_MS: i64 = 631_152_000_000;
const FIELDS: [&str; 7] = ["user", "item", "kind", "time_ms", "value", "request", "position"];

/// Stores events: one, a list, or one per line (`application/x-ndjson`).
///
/// All or none: one bad event refuses the request, and the error names it. Once answered with 200 the
/// events are on the disk and in the next feed. Delivery is at least once: after a lost answer a
/// repetition is stored again.
///
/// An event about an item of which there is no record is stored like any other, for the record may come
/// later; `unknown_items` says how many there were, and so does the counter
/// `millstream_feedback_unknown_items_total`.
#[utoipa::path(post, path = "/api/feedback", tag = "feedback",
    request_body(content = Vec<FeedbackEvent>, description = "One event, a list of events, or one event per line"),
    responses((status = 200, body = Accepted), (status = 400, body = Failure), (status = 413, body = Failure),
        (status = 507, body = Failure, description = "The server's disk is full")))]
pub(crate) async fn post_feedback(
    State(app): State<Shared>,
    content: Content,
) -> Result<Json<Accepted>, Reject> {
    app.block(move |app| {
        let events = parse(&content, app.now_ms()).map_err(Reject::bad)?;
        store(app, &events).map(Json)
    })
    .await
}

fn store(app: &App, events: &[Event]) -> Result<Accepted, Reject> {
    let offset = app.parts.stream.ledger.append(events)?;
    for event in events {
        app.parts.profiles.apply(event);
    }
    app.engine().heard(events);
    observe::events(events);
    let items = app.parts.stream.records.items();
    // The events are stored: what cannot be looked up now must not turn their answer into a failure.
    let unknown = events.iter().filter(|e| items.get(&e.item).is_ok_and(|found| found.is_none())).count();
    observe::unknown_items(unknown as u64);
    Ok(Accepted { accepted: events.len(), offset, unknown_items: unknown })
}

/// All events of a body, or what is wrong with the first bad one.
fn parse(content: &Content, now_ms: i64) -> Result<Vec<Event>, String> {
    let bytes = &content.bytes[..];
    if bytes.trim_ascii().is_empty() {
        return Err("the body is empty; expected an event, a list of events, or one event per line".into());
    }
    if content.lines {
        return parse_lines(bytes, now_ms);
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Array(list)) => {
            let each = list.into_iter().enumerate();
            each.map(|(i, value)| event(value, now_ms).map_err(|e| format!("event {i}: {e}"))).collect()
        }
        Ok(value) => event(value, now_ms).map(|e| vec![e]),
        Err(error) => Err(format!("the body is not JSON: {error}")),
    }
}

fn parse_lines(bytes: &[u8], now_ms: i64) -> Result<Vec<Event>, String> {
    let lines = bytes.split(|&b| b == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(i, line)| {
            let value = serde_json::from_slice(line).map_err(|e| format!("not JSON: {e}"));
            value.and_then(|value| event(value, now_ms)).map_err(|e| format!("line {}: {e}", i + 1))
        })
        .collect()
}

fn event(value: Value, now_ms: i64) -> Result<Event, String> {
    let Value::Object(mut fields) = value else { return Err("expected an object".into()) };
    if let Some(name) = fields.keys().find(|k| !FIELDS.contains(&k.as_str())) {
        return Err(suggest::unknown("field", name, FIELDS));
    }
    // A null says as much as nothing at all.
    fields.retain(|_, value| !value.is_null());
    let request = text(&mut fields, "request")?;
    if let Some(request) = &request {
        id::check("request", request)?;
    }
    Ok(Event {
        user: known_id(&mut fields, "user")?,
        item: known_id(&mut fields, "item")?,
        kind: kind(&mut fields)?,
        time_ms: time(&mut fields, now_ms)?,
        value: strength(&mut fields)?,
        request,
        position: position(&mut fields)?,
    })
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` must be a text")),
    }
}

fn known_id(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    let found = text(fields, name)?.ok_or_else(|| format!("`{name}` is missing"))?;
    id::check(name, &found).map(|()| found)
}

fn kind(fields: &mut Map<String, Value>) -> Result<EventKind, String> {
    let found = text(fields, "kind")?.ok_or("`kind` is missing")?;
    found.parse().map_err(|e| format!("`kind`: {e}"))
}

fn time(fields: &mut Map<String, Value>, now_ms: i64) -> Result<i64, String> {
    let Some(value) = fields.remove("time_ms") else { return Ok(now_ms) };
    let time = value.as_i64().ok_or("`time_ms` must be a whole number of milliseconds since 1970")?;
    if time < EARLIEST_MS {
        return Err(format!("`time_ms` {time} lies before 1990; it must be in milliseconds since 1970"));
    }
    if time > now_ms.saturating_add(AHEAD_MS) {
        return Err(format!(
            "`time_ms` {time} lies more than a day in the future; it must be in milliseconds since 1970"
        ));
    }
    Ok(time)
}

fn strength(fields: &mut Map<String, Value>) -> Result<f32, String> {
    let Some(value) = fields.remove("value") else { return Ok(1.0) };
    let number = value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
    number.ok_or_else(|| "`value` must be a finite number".into())
}

fn position(fields: &mut Map<String, Value>) -> Result<Option<u32>, String> {
    let Some(value) = fields.remove("position") else { return Ok(None) };
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.map(Some).ok_or_else(|| "`position` must be a whole number from 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn told(text: &str, lines: bool) -> Result<Vec<Event>, String> {
        parse(&Content { bytes: text.as_bytes().to_vec().into(), lines }, NOW)
    }

    #[test]
    fn one_event_a_list_and_lines_are_all_read() {
        let one = r#"{"user":"u","item":"i","kind":"click"}"#;
        let got = told(one, false).unwrap();
        assert_eq!((got.len(), got[0].time_ms, got[0].value), (1, NOW, 1.0));
        assert_eq!(told(&format!("[{one},{one}]"), false).unwrap().len(), 2);
        assert_eq!(told(&format!("{one}\n\n{one}\r\n"), true).unwrap().len(), 2);
        assert!(told("[]", false).unwrap().is_empty());
    }

    #[test]
    fn a_bad_event_is_named_by_place_and_field() {
        let good = r#"{"user":"u","item":"i","kind":"click"}"#;
        for (bad, part) in [
            (r#"{"item":"i","kind":"click"}"#, "`user` is missing"),
            (r#"{"user":7,"item":"i","kind":"click"}"#, "`user` must be a text"),
            (r#"{"user":"","item":"i","kind":"click"}"#, "`user` must not be empty"),
            (r#"{"user":"u","item":"a\u0007","kind":"click"}"#, "control"),
            (r#"{"user":"u","item":"i","kind":"A Click"}"#, "`kind`"),
            (r#"{"user":"u","item":"i","kind":"click","time_ms":1700000000}"#, "before 1990"),
            (r#"{"user":"u","item":"i","kind":"click","time_ms":1700090000000}"#, "future"),
            (r#"{"user":"u","item":"i","kind":"click","time_ms":1.5}"#, "whole number"),
            (r#"{"user":"u","item":"i","kind":"click","value":1e300}"#, "finite"),
            (r#"{"user":"u","item":"i","kind":"click","position":-1}"#, "`position`"),
            (r#"{"user":"u","item":"i","kind":"click","usr":"x"}"#, "did you mean `user`"),
            ("3", "expected an object"),
        ] {
            let list = told(&format!("[{good},{bad}]"), false).unwrap_err();
            assert!(list.starts_with("event 1: ") && list.contains(part), "{list}");
            let lines = told(&format!("{good}\n{bad}"), true).unwrap_err();
            assert!(lines.starts_with("line 2: ") && lines.contains(part), "{lines}");
        }
        assert!(told("{", false).unwrap_err().contains("not JSON"));
        assert!(told(" \n", true).unwrap_err().contains("empty"));
    }
}
