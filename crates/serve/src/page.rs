//! The one page: pick a user, see the history, the feed and each item's trace. Embedded in the binary.

use askama::Template;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use crate::reject::Reject;
use crate::state::Shared;

/// The page's frame; all data comes through the API and is set as text, never as markup.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    title: &'a str,
    keyed: bool,
}

pub(crate) async fn get_page(State(app): State<Shared>) -> Result<Html<String>, Reject> {
    let page = Page { title: &app.config.title, keyed: app.config.api_key.is_some() };
    page.render().map(Html).map_err(|e| Reject::fault(&e.to_string()))
}

pub(crate) async fn get_style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../assets/page.css")).into_response()
}

pub(crate) async fn get_script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("../assets/page.js"))
        .into_response()
}
