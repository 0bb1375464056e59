//! Users and items: create, read, replace, delete, list.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millstream_schema::Record;
use millstream_schema::record::LIST_SEPARATOR;
use millstream_stream::{EventLog, Table, id};
use serde_json::Value;

use crate::answer::{Failure, RecordBody, RecordPage};
use crate::receive::{Content, Id, Params};
use crate::reject::Reject;
use crate::state::{App, Shared};

/// Records of a page of a list at most.
const MAX_LIST: usize = 1000;
/// Properties of a record at most.
const MAX_PROPERTIES: usize = 1000;

/// Which of the two sorts of records.
#[derive(Clone, Copy)]
enum Sort {
    User,
    Item,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Item => "item",
        }
    }

    fn table(self, app: &App) -> &Table {
        match self {
            Self::User => app.parts.stream.records.users(),
            Self::Item => app.parts.stream.records.items(),
        }
    }

    fn check(self, app: &App, record: &Record) -> Result<(), Reject> {
        match self {
            Self::User => Ok(app.engine().check_user(record)?),
            Self::Item => Ok(app.engine().check_item(record)?),
        }
    }

    fn tell(self, app: &App, record: &Record) -> Result<(), Reject> {
        match self {
            Self::User => Ok(app.engine().upsert_user(record)?),
            Self::Item => Ok(app.engine().upsert_item(record)?),
        }
    }
}

/// Lists users in order of id.
#[utoipa::path(get, path = "/api/users", tag = "users",
    params(("after" = Option<String>, Query, description = "The `next` of the page before"),
        ("prefix" = Option<String>, Query, description = "What the ids begin with"),
        ("limit" = Option<usize>, Query, description = "1 to 1000; 100 by default")),
    responses((status = 200, body = RecordPage)))]
pub(crate) async fn list_users(app: State<Shared>, params: Params) -> Result<Json<RecordPage>, Reject> {
    list(app, params, Sort::User).await
}

/// Lists items in order of id.
#[utoipa::path(get, path = "/api/items", tag = "items",
    params(("after" = Option<String>, Query, description = "The `next` of the page before"),
        ("prefix" = Option<String>, Query, description = "What the ids begin with"),
        ("limit" = Option<usize>, Query, description = "1 to 1000; 100 by default")),
    responses((status = 200, body = RecordPage)))]
pub(crate) async fn list_items(app: State<Shared>, params: Params) -> Result<Json<RecordPage>, Reject> {
    list(app, params, Sort::Item).await
}

/// Creates a user that does not exist yet.
#[utoipa::path(post, path = "/api/users", tag = "users", request_body = RecordBody,
    responses((status = 201, body = RecordBody), (status = 400, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn post_user(app: State<Shared>, content: Content) -> Result<Response, Reject> {
    create(app, content, Sort::User).await
}

/// Creates an item that does not exist yet.
#[utoipa::path(post, path = "/api/items", tag = "items", request_body = RecordBody,
    responses((status = 201, body = RecordBody), (status = 400, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn post_item(app: State<Shared>, content: Content) -> Result<Response, Reject> {
    create(app, content, Sort::Item).await
}

/// A user.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = RecordBody), (status = 404, body = Failure)))]
pub(crate) async fn get_user(app: State<Shared>, id: Id) -> Result<Json<RecordBody>, Reject> {
    get(app, id, Sort::User).await
}

/// An item.
#[utoipa::path(get, path = "/api/items/{id}", tag = "items", params(("id" = String, Path)),
    responses((status = 200, body = RecordBody), (status = 404, body = Failure)))]
pub(crate) async fn get_item(app: State<Shared>, id: Id) -> Result<Json<RecordBody>, Reject> {
    get(app, id, Sort::Item).await
}

/// Creates or replaces a user.
#[utoipa::path(put, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    request_body = RecordBody, responses((status = 200, body = RecordBody), (status = 400, body = Failure)))]
pub(crate) async fn put_user(
    app: State<Shared>,
    id: Id,
    content: Content,
) -> Result<Json<RecordBody>, Reject> {
    put(app, id, content, Sort::User).await
}

/// Creates or replaces an item.
#[utoipa::path(put, path = "/api/items/{id}", tag = "items", params(("id" = String, Path)),
    request_body = RecordBody, responses((status = 200, body = RecordBody), (status = 400, body = Failure)))]
pub(crate) async fn put_item(
    app: State<Shared>,
    id: Id,
    content: Content,
) -> Result<Json<RecordBody>, Reject> {
    put(app, id, content, Sort::Item).await
}

/// Deletes a user and forgets what the user did; the ledger keeps the events.
#[utoipa::path(delete, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Failure)))]
pub(crate) async fn delete_user(State(app): State<Shared>, Id(id): Id) -> Result<StatusCode, Reject> {
    app.block(move |app| {
        let had_profile = app.parts.profiles.get(&id).is_some();
        let stream = &app.parts.stream;
        if !had_profile && stream.records.users().get(&id)?.is_none() {
            return Err(Reject::missing(format!("user `{id}` is not known")));
        }
        stream.records.forget_user(&id, stream.ledger.end())?;
        app.parts.profiles.forget(&id);
        app.engine().remove_user(&id)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Deletes an item; it is not recommended any more.
#[utoipa::path(delete, path = "/api/items/{id}", tag = "items", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Failure)))]
pub(crate) async fn delete_item(State(app): State<Shared>, Id(id): Id) -> Result<StatusCode, Reject> {
    app.block(move |app| {
        if !app.parts.stream.records.items().delete(&id)? {
            return Err(Reject::missing(format!("item `{id}` is not known")));
        }
        app.engine().remove_item(&id)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn list(State(app): State<Shared>, mut params: Params, sort: Sort) -> Result<Json<RecordPage>, Reject> {
    let limit = params.number("limit", 100, MAX_LIST)?;
    let (after, prefix) = (params.take("after"), params.take("prefix").unwrap_or_default());
    params.finish(&["after", "prefix", "limit"])?;
    app.block(move |app| {
        let records = sort.table(app).list(after.as_deref(), &prefix, limit)?;
        let next = (records.len() == limit).then(|| records.last().map(|r| r.id.clone())).flatten();
        Ok(Json(RecordPage { records: records.into_iter().map(body_of).collect(), next }))
    })
    .await
}

async fn create(State(app): State<Shared>, content: Content, sort: Sort) -> Result<Response, Reject> {
    app.block(move |app| {
        let record = record_of(body(&content)?)?;
        sort.check(app, &record)?;
        if !sort.table(app).create(&record)? {
            let message = format!("{} `{}` exists already; replace it with PUT", sort.name(), record.id);
            return Err(Reject::new(StatusCode::CONFLICT, message));
        }
        sort.tell(app, &record)?;
        Ok((StatusCode::CREATED, Json(body_of(record))).into_response())
    })
    .await
}

async fn put(
    State(app): State<Shared>,
    Id(id): Id,
    content: Content,
    sort: Sort,
) -> Result<Json<RecordBody>, Reject> {
    app.block(move |app| {
        let mut given = body(&content)?;
        if !given.id.is_empty() && given.id != id {
            return Err(Reject::bad(format!("`id` is `{}` in the body but `{id}` in the path", given.id)));
        }
        given.id = id;
        let record = record_of(given)?;
        sort.check(app, &record)?;
        sort.table(app).put(&record)?;
        sort.tell(app, &record)?;
        Ok(Json(body_of(record)))
    })
    .await
}

async fn get(State(app): State<Shared>, Id(id): Id, sort: Sort) -> Result<Json<RecordBody>, Reject> {
    app.block(move |app| match sort.table(app).get(&id)? {
        Some(record) => Ok(Json(body_of(record))),
        None => Err(Reject::missing(format!("{} `{id}` is not known", sort.name()))),
    })
    .await
}

/// Reads a body by hand, so that a wrong key is answered with the right one.
fn body(content: &Content) -> Result<RecordBody, Reject> {
    let value: Value = serde_json::from_slice(&content.bytes)
        .map_err(|e| Reject::bad(format!("the body is not JSON: {e}")))?;
    let Value::Object(fields) = value else {
        return Err(Reject::bad("the body must be an object with `id` and `properties`"));
    };
    let mut out = RecordBody { id: String::new(), properties: BTreeMap::new() };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("id", Value::String(id)) => out.id = id,
            ("id", _) => return Err(Reject::bad("`id` must be a text")),
            ("properties", Value::Object(map)) => out.properties = map.into_iter().collect(),
            ("properties", _) => return Err(Reject::bad("`properties` must be an object")),
            (other, _) => {
                let known = ["id", "properties"];
                return Err(Reject::bad(millstream_schema::suggest::unknown("field", other, known)));
            }
        }
    }
    Ok(out)
}

fn record_of(body: RecordBody) -> Result<Record, Reject> {
    id::check("id", &body.id).map_err(Reject::bad)?;
    if body.properties.len() > MAX_PROPERTIES {
        return Err(Reject::bad(format!("a record may have at most {MAX_PROPERTIES} properties")));
    }
    let mut fields = BTreeMap::new();
    for (name, value) in body.properties {
        id::check("a property's name", &name).map_err(Reject::bad)?;
        let cell = cell(&name, &value).map_err(Reject::bad)?;
        if !cell.is_empty() {
            fields.insert(name, cell);
        }
    }
    Ok(Record { id: body.id, fields })
}

/// A property as the text of a cell; empty when it is missing.
fn cell(name: &str, value: &Value) -> Result<String, String> {
    if let Value::Array(list) = value {
        let parts = list.iter().map(|v| scalar(name, v)).collect::<Result<Vec<_>, _>>()?;
        return Ok(parts.join(&LIST_SEPARATOR.to_string()));
    }
    scalar(name, value)
}

fn scalar(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Bool(b) => Ok(b.to_string()),
        Value::Number(n) => Ok(n.to_string()),
        Value::String(s) if s.contains(LIST_SEPARATOR) => {
            Err(format!("property `{name}` must not hold the character U+001F"))
        }
        Value::String(s) => Ok(s.clone()),
        _ => {
            Err(format!("property `{name}` must be a text, a number, true, false, null, or a list of these"))
        }
    }
}

fn body_of(record: Record) -> RecordBody {
    let properties = record.fields.into_iter().map(|(name, cell)| {
        let value = match cell.contains(LIST_SEPARATOR) {
            true => cell.split(LIST_SEPARATOR).collect::<Vec<_>>().into(),
            false => Value::String(cell),
        };
        (name, value)
    });
    RecordBody { id: record.id, properties: properties.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_become_cells_and_come_back() {
        let text = r#"{"id":"i","properties":{"a":1.5,"b":true,"c":["x","y"],"d":null,"e":"t"}}"#;
        let record = record_of(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(record.get("c"), "x\u{1f}y");
        assert_eq!((record.get("a"), record.get("b"), record.get("d")), ("1.5", "true", ""));
        let back = body_of(record);
        assert_eq!(back.properties["c"], serde_json::json!(["x", "y"]));
        assert_eq!(back.properties.len(), 4);
    }

    #[test]
    fn nested_properties_are_refused_by_name() {
        for bad in [r#"{"x":1}"#, r#"[["a"]]"#, "\"a\u{5c}u001f\""] {
            let value = serde_json::from_str(bad).unwrap();
            assert!(cell("deep", &value).unwrap_err().contains("`deep`"));
        }
    }
}
