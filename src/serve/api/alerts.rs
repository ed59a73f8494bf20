//! Alert states and what was sent about them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::{ApiError, Params};
use crate::serve::Server;

pub(super) async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    let (node, is_this) = server.alerting.evaluated_by();
    Json(json!({
        "alerts": server.alerting.alerts(),
        "rules": server.alerting.rules(),
        "evaluated_by": { "node": node, "is_this": is_this },
    }))
}

pub(super) async fn one(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    match server.alerting.alert(&id) {
        Some(alert) => Ok(Json(alert).into_response()),
        None => Err(ApiError::new(StatusCode::NOT_FOUND, "alert_not_found", format!("there is no alert {id:?}")).hint("GET /api/v1/alerts lists them")),
    }
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Limit {
    limit: Option<usize>,
}

pub(super) async fn notifications(State(server): State<Arc<Server>>, Params(limit): Params<Limit>) -> Json<Value> {
    Json(json!({ "notifications": server.alerting.notifications(limit.limit.unwrap_or(50).min(1_000)) }))
}
