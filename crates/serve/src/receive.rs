//! Reading what a request brings: its body, its path, its query.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use millstream_schema::suggest;
use millstream_stream::id;

use crate::reject::Reject;
use crate::state::Shared;

/// Query parameters at most.
const MAX_PARAMS: usize = 64;

/// A body within the limit, and whether it says that each of its lines is one JSON value.
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) lines: bool,
}

impl FromRequest<Shared> for Content {
    type Rejection = Reject;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Reject> {
        let limit = app.config.max_body;
        let (parts, body) = request.into_parts();
        let header = |name| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        let announced: Option<u64> = header(header::CONTENT_LENGTH).parse().ok();
        if announced.is_some_and(|n| n > limit as u64) {
            return Err(too_large(limit));
        }
        let kind = header(header::CONTENT_TYPE).to_ascii_lowercase();
        let lines = ["ndjson", "jsonl", "json-lines", "jsonlines"].iter().any(|k| kind.contains(k));
        Ok(Self { bytes: collect(body, limit).await?, lines })
    }
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Reject> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(_) => Err(Reject::bad("the request's body broke off before its end")),
    }
}

fn too_large(limit: usize) -> Reject {
    let message =
        format!("a request's body may be at most {limit} bytes long; send the events in several requests");
    Reject::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// The id in the path.
pub(crate) struct Id(pub(crate) String);

impl FromRequestParts<Shared> for Id {
    type Rejection = Reject;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Reject> {
        let found: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        let Path(found) = found.map_err(|_| Reject::bad("the id in the path is not UTF-8"))?;
        id::check("id", &found).map_err(Reject::bad)?;
        Ok(Self(found))
    }
}

/// The query, each parameter once.
pub(crate) struct Params(BTreeMap<String, String>);

impl FromRequestParts<Shared> for Params {
    type Rejection = Reject;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Reject> {
        type Pairs = Query<Vec<(String, String)>>;
        let found: Result<Pairs, QueryRejection> = Query::from_request_parts(parts, app).await;
        let Query(pairs) = found.map_err(|_| Reject::bad("the query cannot be read"))?;
        if pairs.len() > MAX_PARAMS {
            return Err(Reject::bad(format!("a query may hold at most {MAX_PARAMS} parameters")));
        }
        let mut out = BTreeMap::new();
        for (name, value) in pairs {
            if out.contains_key(&name) {
                return Err(Reject::bad(format!("`{name}` is given twice")));
            }
            out.insert(name, value);
        }
        Ok(Self(out))
    }
}

impl Params {
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A number within a range, or `default` when it is not given.
    pub(crate) fn number(&mut self, name: &str, default: usize, most: usize) -> Result<usize, Reject> {
        let Some(text) = self.take(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|n| (1..=most).contains(n));
        number.ok_or_else(|| Reject::bad(format!("`{name}` must be a whole number from 1 to {most}")))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Reject> {
        match self.take(name).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(_) => Err(Reject::bad(format!("`{name}` must be true or false"))),
        }
    }

    /// What was not taken, as names and values of one's own.
    pub(crate) fn rest(self) -> BTreeMap<String, String> {
        self.0
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(self, known: &[&str]) -> Result<(), Reject> {
        match self.0.keys().next() {
            Some(name) => Err(Reject::bad(suggest::unknown("parameter", name, known.iter().copied()))),
            None => Ok(()),
        }
    }
}
