//! The OpenAPI document.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{feedback, health, recommend, records};

/// The document of the whole API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Millstream", description = "Recommendations over HTTP: feedback in, feeds out."),
    paths(
        feedback::post_feedback,
        recommend::get_recommend,
        recommend::get_neighbors,
        recommend::get_history,
        records::list_users,
        records::post_user,
        records::get_user,
        records::put_user,
        records::delete_user,
        records::list_items,
        records::post_item,
        records::get_item,
        records::put_item,
        records::delete_item,
        health::get_live,
        health::get_ready,
        health::get_metrics,
        get_openapi,
    ),
    modifiers(&Key),
    security(("key" = []), ())
)]
pub struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "health", security(()),
    responses((status = 200, body = String, content_type = "application/json")))]
pub(crate) async fn get_openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
