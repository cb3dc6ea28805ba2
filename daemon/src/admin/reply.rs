//! An answer of the admin server in one piece: what most pages are.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Status, content type and body of an answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Reply {
    pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { status, content_type: TEXT, body: text.into() }
    }

    pub fn json(status: StatusCode, json: impl Into<Bytes>) -> Self {
        Self { status, content_type: JSON, body: json.into() }
    }

    pub(super) fn open_metrics(text: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type: OPEN_METRICS, body: text.into() }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}
