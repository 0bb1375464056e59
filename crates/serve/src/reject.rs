//! Every refusal as JSON: `{"error": "one sentence"}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::answer::Failure;
use crate::engine::EngineError;

/// A refusal: a status and one sentence.
#[derive(Debug)]
pub struct Reject {
    status: StatusCode,
    message: String,
}

impl Reject {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400 with this sentence.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 with this sentence.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 500 that tells the caller nothing; the cause is logged.
    pub(crate) fn fault(cause: &str) -> Self {
        tracing::error!(cause, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed at this request; its log says why")
    }
}

impl IntoResponse for Reject {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Failure { error: self.message })).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

impl From<EngineError> for Reject {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Input(message) => Self::bad(message),
            EngineError::Unavailable(message) => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
            EngineError::Internal(message) => Self::fault(&message),
        }
    }
}

impl From<millstream_stream::Error> for Reject {
    fn from(error: millstream_stream::Error) -> Self {
        use millstream_stream::Error as E;
        match error {
            E::Input(message) => Self::bad(message),
            E::Full { .. } => {
                tracing::error!(%error, "cannot store");
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "the server's disk is full; nothing of this request was stored",
                )
            }
            E::Stopped { .. } => {
                tracing::error!(%error, "cannot store");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the server cannot store anything since a write failed; its log says why",
                )
            }
            other => Self::fault(&other.to_string()),
        }
    }
}
