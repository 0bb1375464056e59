//! Every route, and the layers around them.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::{document, feedback, health, recommend, records};
use crate::reject::Reject;
use crate::state::Shared;
use crate::{guard, page};

/// Method and path of every route of the API; the page and its assets come on top.
pub const ROUTES: [(&str, &str); 18] = [
    ("POST", "/api/feedback"),
    ("GET", "/api/recommend/{user}"),
    ("GET", "/api/item/{id}/neighbors"),
    ("GET", "/api/users"),
    ("POST", "/api/users"),
    ("GET", "/api/users/{id}"),
    ("PUT", "/api/users/{id}"),
    ("DELETE", "/api/users/{id}"),
    ("GET", "/api/users/{id}/history"),
    ("GET", "/api/items"),
    ("POST", "/api/items"),
    ("GET", "/api/items/{id}"),
    ("PUT", "/api/items/{id}"),
    ("DELETE", "/api/items/{id}"),
    ("GET", "/api/health/live"),
    ("GET", "/api/health/ready"),
    ("GET", "/api/openapi.json"),
    ("GET", "/metrics"),
];

/// The whole service.
pub(crate) fn router(app: Shared) -> Router {
    Router::new()
        .route("/api/feedback", post(feedback::post_feedback))
        .route("/api/recommend/{user}", get(recommend::get_recommend))
        .route("/api/item/{id}/neighbors", get(recommend::get_neighbors))
        .route("/api/users", get(records::list_users).post(records::post_user))
        .route("/api/users/{id}", get(records::get_user).put(records::put_user).delete(records::delete_user))
        .route("/api/users/{id}/history", get(recommend::get_history))
        .route("/api/items", get(records::list_items).post(records::post_item))
        .route("/api/items/{id}", get(records::get_item).put(records::put_item).delete(records::delete_item))
        .route("/api/health/live", get(health::get_live))
        .route("/api/health/ready", get(health::get_ready))
        .route("/api/openapi.json", get(document::get_openapi))
        .route("/metrics", get(health::get_metrics))
        .route("/", get(page::get_page))
        .route("/assets/page.css", get(page::get_style))
        .route("/assets/page.js", get(page::get_script))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        // The last layer is the outermost.
        .layer(from_fn_with_state(app.clone(), guard::admit))
        .layer(from_fn_with_state(app.clone(), guard::limit))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(from_fn(guard::count))
        .with_state(app)
}

async fn nowhere(request: Request) -> Reject {
    let path = millstream_schema::parse::short(request.uri().path());
    Reject::missing(format!("there is nothing at {path}; /api/openapi.json lists what there is"))
}

async fn not_so(request: Request) -> Reject {
    let path = millstream_schema::parse::short(request.uri().path());
    let message = format!("{} is not for {path}; /api/openapi.json lists what is", request.method());
    Reject::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
