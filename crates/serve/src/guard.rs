//! What stands before every handler: who may call, how many at once, how long, and what is counted.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::observe;
use crate::reject::Reject;
use crate::state::Shared;

/// Paths that need no key: they hold no data.
const OPEN: [&str; 6] = [
    "/",
    "/assets/page.css",
    "/assets/page.js",
    "/api/health/live",
    "/api/health/ready",
    "/api/openapi.json",
];
/// Paths that are answered however busy the server is.
const UNSHED: [&str; 3] = ["/api/health/live", "/api/health/ready", "/metrics"];

const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Counts and times each request and sets the headers that all answers carry.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let mut response = next.run(request).await;
    let route = route.unwrap_or_else(|| "none".to_owned());
    observe::request(route, method, response.status(), started.elapsed());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Turns requests away when too many are under way, and ends those that take too long.
pub(crate) async fn limit(State(app): State<Shared>, request: Request, next: Next) -> Response {
    if UNSHED.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(_permit) = app.requests.try_acquire() else {
        observe::shed();
        return Reject::new(StatusCode::SERVICE_UNAVAILABLE, "the server is busy; try again in a second")
            .into_response();
    };
    match tokio::time::timeout(app.config.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let secs = app.config.timeout.as_secs_f32();
            Reject::new(StatusCode::GATEWAY_TIMEOUT, format!("the request took longer than {secs} seconds"))
                .into_response()
        }
    }
}

/// Lets in who may come in.
pub(crate) async fn admit(State(app): State<Shared>, request: Request, next: Next) -> Response {
    match check(&app, request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reject) => reject.into_response(),
    }
}

fn check(app: &Shared, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Reject> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let host = text(header::HOST).unwrap_or("");
    if app.loopback && app.config.api_key.is_none() && !is_loopback_name(host) {
        // A page elsewhere could have its own name point here and read what the user's browser may read.
        return Err(Reject::new(StatusCode::FORBIDDEN, "this server answers only to localhost"));
    }
    if !method.is_safe() && text(header::ORIGIN).is_some_and(|origin| !same_origin(origin, host)) {
        return Err(Reject::new(StatusCode::FORBIDDEN, "pages of other sites may not write to this server"));
    }
    let Some(key) = &app.config.api_key else { return Ok(()) };
    if OPEN.contains(&uri.path()) {
        return Ok(());
    }
    let given = text(header::AUTHORIZATION).and_then(|v| v.strip_prefix("Bearer ")).unwrap_or("");
    if same(given.as_bytes(), key.as_bytes()) {
        return Ok(());
    }
    Err(Reject::new(
        StatusCode::UNAUTHORIZED,
        "this server asks for its API key in the header `Authorization: Bearer …`",
    ))
}

fn same_origin(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host))
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether two texts are equal, in a time that depends on their lengths alone.
fn same(given: &[u8], key: &[u8]) -> bool {
    let mut difference = given.len() ^ key.len();
    for (i, &byte) in key.iter().enumerate() {
        difference |= usize::from(byte ^ given.get(i).copied().unwrap_or(0));
    }
    std::hint::black_box(difference) == 0
}

/// A handler that panicked.
pub(crate) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    Reject::fault(&format!("a handler panicked: {}", text.unwrap_or_default())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_only_when_every_byte_is() {
        assert!(same(b"abc", b"abc"));
        for wrong in [&b""[..], b"ab", b"abd", b"abcd", b"abc\0"] {
            assert!(!same(wrong, b"abc"));
        }
    }

    #[test]
    fn only_names_of_this_machine_count_as_loopback() {
        for name in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "[::1]", "127.9.9.9", ""] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in ["example.org", "localhost.example.org:80", "10.0.0.1:80"] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }

    #[test]
    fn an_origin_is_the_same_when_its_host_and_port_are() {
        assert!(same_origin("http://localhost:8080", "localhost:8080"));
        assert!(!same_origin("http://localhost:9090", "localhost:8080"));
        assert!(!same_origin("null", "localhost:8080"));
    }
}
