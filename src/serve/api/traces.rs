//! One trace, whole or as columns, and one span of it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde_json::Value;

use super::{ApiError, Params};
use crate::model::{SpanId, TraceId};
use crate::query::{DEFAULT_MAX_BODY, Hit, Trace};
use crate::serve::Server;

#[derive(Debug, serde::Deserialize)]
pub(super) struct Shape {
    format: Option<String>,
    max_body: Option<usize>,
}

fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    TraceId::parse_any(text).ok_or_else(|| {
        ApiError::bad("bad_trace_id", format!("{text:?} is not a trace ID"))
            .hint("32 hex digits, 1-8hex-24hex, a traceparent or X-Amzn-Trace-Id header, or a 64-bit decimal")
    })
}

async fn find(server: &Server, text: &str) -> Result<Trace, ApiError> {
    let id = trace_id(text)?;
    server.engine.trace(id).await?.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "trace_not_found",
            format!("there are no spans and no logs of trace {id}"),
        )
        .hint("it may still be on its way, sampled out by the client, or expired")
    })
}

pub(super) async fn trace(State(server): State<Arc<Server>>, Path(id): Path<String>, Params(shape): Params<Shape>) -> Result<Json<Value>, ApiError> {
    let trace = find(&server, &id).await?;
    match shape.format.as_deref() {
        None | Some("full") => Ok(Json(trace.to_json(shape.max_body.unwrap_or(DEFAULT_MAX_BODY)))),
        Some("columns") => Ok(Json(trace.to_columns_json())),
        Some(other) => Err(ApiError::bad("bad_format", format!("format {other:?} is not known")).hint("use full or columns")),
    }
}

pub(super) async fn span(State(server): State<Arc<Server>>, Path((id, span_id)): Path<(String, String)>) -> Result<Response, ApiError> {
    let wanted = SpanId::from_hex(&span_id)
        .ok_or_else(|| ApiError::bad("bad_span_id", format!("{span_id:?} is not a span ID: 16 hex digits")))?
        .to_string();
    let trace = find(&server, &id).await?;
    let found = trace.spans.iter().position(|span| span.span.span_id == wanted);
    let index = found.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "span_not_found",
            format!("trace {} has no span {wanted}", trace.trace_id),
        )
    })?;
    let internal = |error: serde_json::Error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string());
    let mut out = serde_json::to_value(Hit::Span(Box::new(trace.spans[index].span.clone())).with_max_body(0)).map_err(internal)?;
    let logs = trace
        .logs
        .iter()
        .filter(|log| log.span == Some(index))
        .map(|log| serde_json::to_value(Hit::Log(Box::new(log.log.clone())).with_max_body(DEFAULT_MAX_BODY)));
    out["logs"] = logs.collect::<Result<Vec<_>, _>>().map_err(internal)?.into();
    Ok(Json(out).into_response())
}
