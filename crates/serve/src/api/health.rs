//! Health and measurements.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::answer::{Failure, Health};
use crate::observe;
use crate::reject::Reject;
use crate::state::Shared;

/// Whether the process answers at all.
#[utoipa::path(get, path = "/api/health/live", tag = "health", security(()),
    responses((status = 200, body = Health)))]
pub(crate) async fn get_live() -> Json<Health> {
    Json(Health { status: "live".into() })
}

/// Whether feeds can be asked for.
#[utoipa::path(get, path = "/api/health/ready", tag = "health", security(()),
    responses((status = 200, body = Health), (status = 503, body = Failure)))]
pub(crate) async fn get_ready(State(app): State<Shared>) -> Result<Json<Health>, Reject> {
    if app.engine().ready() {
        return Ok(Json(Health { status: "ready".into() }));
    }
    Err(Reject::new(StatusCode::SERVICE_UNAVAILABLE, "the models are not loaded yet"))
}

/// Measurements for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn get_metrics(State(app): State<Shared>) -> Response {
    observe::counts(&app.engine().counts());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], observe::text()).into_response()
}
