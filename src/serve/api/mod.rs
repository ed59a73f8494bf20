//! Our own API, `/api/v1`: described by `/api/v1/openapi.json`.
//!
//! Times in answers are RFC 3339, exact ones decimal strings of nanoseconds since the epoch; in requests `start` and
//! `end` take what [`crate::model::parse_time`] takes.

mod alerts;
mod analysis;
mod deletes;
mod exemplars;
mod graph;
mod lost_frames;
mod nodes;
mod openapi;
mod patterns;
mod search;
mod status;
mod tail;
mod trace_list;
mod traces;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{Server, metrics};
use crate::model::{Table, TimeRange, parse_time};
use crate::query::{self, Coverage, ErrorKind, Query};

/// Bytes of a request body of this API.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The default of `start` is so long before `end`.
const DEFAULT_RANGE: &str = "-1h";

/// All routes.
pub(super) fn router(server: Arc<Server>) -> axum::Router {
    axum::Router::new()
        .route("/search", get(search::search))
        .route("/count", get(search::count))
        .route("/histogram", get(search::histogram))
        .route("/facets", get(search::facets))
        .route("/records/{id}", get(search::record))
        .route("/tail", get(tail::tail))
        .route("/traces", get(trace_list::list))
        .route("/traces/{id}", get(traces::trace))
        .route("/traces/{id}/spans/{span_id}", get(traces::span))
        .route("/traces/{id}/analysis", get(analysis::trace))
        .route("/compare", get(analysis::difference))
        .route("/patterns", get(patterns::patterns))
        .route("/exemplars", get(exemplars::list))
        .route("/services", get(graph::services))
        .route("/service-graph", get(graph::service_graph))
        .route("/sql", post(search::sql))
        .route("/delete", post(deletes::order))
        .route("/deletes", get(deletes::list))
        .route("/nodes/forget", post(nodes::forget))
        .route("/alerts", get(alerts::list))
        .route("/alerts/{id}", get(alerts::one))
        .route("/notifications", get(alerts::notifications))
        .route("/status", get(status::status))
        .route("/lost-frames", post(lost_frames::acknowledge))
        .route("/openapi.json", get(openapi::document))
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "no_such_path", "there is no such path").hint("GET /api/v1/openapi.json lists them") })
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(measure))
        .with_state(server)
}

async fn measure(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let response = next.run(request).await;
    let labels = metrics::RequestLabels {
        path: path.map_or_else(|| "other".into(), |path| path.as_str().to_string()),
        status: response.status().as_u16(),
    };
    metrics::REQUEST_SECONDS.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    response
}

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
    position: Option<usize>,
    /// What was read, where an answer depends on what was not.
    coverage: Option<Box<Coverage>>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            hint: None,
            position: None,
            coverage: None,
        }
    }
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A page of another site can make a browser send a body, but not with this type.
fn check_is_json(headers: &HeaderMap, what: &str) -> Result<(), ApiError> {
    match headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json")) {
        true => Ok(()),
        false => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_content_type",
            format!("{what} is application/json"),
        )),
    }
}

/// `{"error":{"code","message","hint","position"}}`, beside which [`ApiError`] may put a `coverage`.
pub(super) fn error_body(code: &str, message: &str, hint: Option<&str>, position: Option<usize>) -> Value {
    let mut error = json!({ "code": code, "message": message, "hint": hint });
    if let Some(position) = position {
        error["position"] = position.into();
    }
    json!({ "error": error })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = error_body(self.code, &self.message, self.hint.as_deref(), self.position);
        if let Some(coverage) = &self.coverage {
            body["coverage"] = json!(coverage);
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<query::Error> for ApiError {
    fn from(error: query::Error) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::BadQuery => (StatusCode::BAD_REQUEST, "bad_query"),
            ErrorKind::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "incomplete"),
            ErrorKind::Internal => {
                tracing::error!(%error, "a query failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        };
        Self {
            status,
            code,
            message: error.to_string(),
            hint: error.hint().map(str::to_string),
            position: error.position(),
            coverage: error.coverage().cloned().map(Box::new),
        }
    }
}

/// `q`, `start`, `end`, `table`: what most questions share.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Question {
    #[serde(default)]
    q: String,
    start: Option<String>,
    end: Option<String>,
    table: Option<String>,
}

impl Question {
    pub(super) fn table(&self) -> Result<Table, ApiError> {
        match self.table.as_deref() {
            None | Some("logs") => Ok(Table::Logs),
            Some("spans") => Ok(Table::Spans),
            Some(other) => {
                Err(ApiError::bad("bad_table", format!("table {other:?} cannot be searched")).hint("use logs or spans; POST /api/v1/sql reads every table"))
            }
        }
    }

    pub(super) fn query(&self) -> Result<Query, ApiError> {
        self.query_of(self.table()?)
    }

    pub(super) fn query_of(&self, table: Table) -> Result<Query, ApiError> {
        Ok(query::parse(&self.q, table).map_err(query::Error::from)?)
    }

    /// The same at another time.
    pub(super) fn at(&self, start: Option<String>, end: Option<String>) -> Self {
        Self {
            q: self.q.clone(),
            start,
            end,
            table: self.table.clone(),
        }
    }

    pub(super) fn range(&self, now_nanos: i64) -> Result<TimeRange, ApiError> {
        let read = |name: &str, text: &str| parse_time(text, now_nanos).map_err(|message| ApiError::bad("bad_time", format!("{name}: {message}")));
        let end = read("end", self.end.as_deref().unwrap_or("now"))?;
        // what arrived just now may carry this very nanosecond
        let end = if self.end.as_deref().is_none_or(|text| text == "now") {
            end.saturating_add(1)
        } else {
            end
        };
        let start = read("start", self.start.as_deref().unwrap_or(DEFAULT_RANGE))?;
        if end < start {
            return Err(ApiError::bad("bad_time", "end is before start"));
        }
        Ok(TimeRange::new(start, end))
    }
}

/// Reads a query string; a wrong one is told in our own shape.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> axum::extract::FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Params(value)),
            Err(rejection) => Err(ApiError::bad("bad_parameter", rejection.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_could_not_be_read_is_unavailable_and_named() {
        let mut coverage = Coverage::new(TimeRange::ALL);
        coverage.incomplete(query::ProblemKind::Unreachable, "block-7", "no route to the store");
        let error = query::Error::Unread {
            what: "trace 5".into(),
            coverage: Box::new(coverage),
        };
        let response = ApiError::from(error).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"]["code"], "incomplete");
        assert_eq!(
            (&body["coverage"]["complete"], &body["coverage"]["problems"][0]["what"]),
            (&json!(false), &json!("block-7"))
        );
    }
}
