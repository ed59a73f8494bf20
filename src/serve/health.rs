//! `/healthz` (alive), `/readyz` (records are taken, the store is reachable; else 503 and why), `/metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::Server;

/// Routes for orchestrators and Prometheus.
pub(super) fn router(server: Arc<Server>) -> axum::Router {
    axum::Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(server)
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    let problems = server.health().await.problems;
    let status = if problems.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(serde_json::json!({ "ready": problems.is_empty(), "problems": problems }))).into_response()
}

async fn metrics() -> Response {
    (
        [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        crate::telemetry::render(),
    )
        .into_response()
}
