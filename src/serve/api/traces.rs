//! One trace, whole or as columns, and one span of it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use http::StatusCode;
use serde_json::Value;

use super::{ApiError, Params};
use crate::model::{SpanId, TraceId};
use crate::query::{self, DEFAULT_MAX_BODY, Hit, Trace};
use crate::serve::Server;

#[derive(Debug, serde::Deserialize)]
pub(super) struct Shape {
    format: Option<String>,
    max_body: Option<usize>,
}

pub(super) fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    TraceId::parse_any(text).ok_or_else(|| {
        ApiError::bad("bad_trace_id", format!("{text:?} is not a trace ID"))
            .hint("32 hex digits, 1-8hex-24hex, a traceparent or X-Amzn-Trace-Id header, or a 64-bit decimal")
    })
}

pub(super) async fn find(server: &Server, text: &str) -> Result<Trace, ApiError> {
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

pub(super) async fn span(State(server): State<Arc<Server>>, Path((id, span_id)): Path<(String, String)>) -> Result<Json<Value>, ApiError> {
    let wanted = SpanId::from_hex(&span_id)
        .ok_or_else(|| ApiError::bad("bad_span_id", format!("{span_id:?} is not a span ID: 16 hex digits")))?
        .to_string();
    one_span(&find(&server, &id).await?, &wanted).map(Json)
}

/// A span whole, with its logs; its absence is only certain in a trace that was read whole.
fn one_span(trace: &Trace, wanted: &str) -> Result<Value, ApiError> {
    let Some(index) = trace.spans.iter().position(|span| span.span.span_id == wanted) else {
        let what = format!("span {wanted} of trace {}", trace.trace_id);
        return Err(if trace.coverage.complete {
            ApiError::new(StatusCode::NOT_FOUND, "span_not_found", format!("there is no {what}"))
        } else {
            let coverage = Box::new(trace.coverage.clone());
            query::Error::Unread { what, coverage }.into()
        });
    };
    let internal = |error: serde_json::Error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string());
    let mut out = serde_json::to_value(Hit::Span(Box::new(trace.spans[index].span.clone())).with_max_body(0)).map_err(internal)?;
    let logs = trace
        .logs
        .iter()
        .filter(|log| log.span == Some(index))
        .map(|log| serde_json::to_value(Hit::Log(Box::new(log.log.clone())).with_max_body(DEFAULT_MAX_BODY)));
    out["logs"] = logs.collect::<Result<Vec<_>, _>>().map_err(internal)?.into();
    out["coverage"] = serde_json::to_value(&trace.coverage).map_err(internal)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::model::TimeRange;
    use crate::query::{Coverage, ProblemKind, SpanHit, TraceSpan};

    #[test]
    fn a_span_is_missing_only_from_a_trace_that_was_read_whole() {
        let span = SpanHit {
            span_id: "00000000000000aa".into(),
            ..SpanHit::default()
        };
        let mut trace = Trace {
            trace_id: TraceId::from_bytes(&[1; 16]).expect("an ID"),
            start_unix_nano: 0,
            duration_nano: 1,
            services: vec![],
            spans: vec![TraceSpan {
                span,
                parent: None,
                depth: 0,
                n_logs: 0,
                missing_parent: false,
                in_circle: false,
                skewed: false,
            }],
            logs: vec![],
            pieces: vec![],
            n_errors: 0,
            coverage: Coverage::new(TimeRange::ALL),
            took: std::time::Duration::ZERO,
        };
        let status = |trace: &Trace| one_span(trace, "00000000000000bb").expect_err("no such span").into_response().status();
        assert_eq!(status(&trace), StatusCode::NOT_FOUND);
        trace.coverage.incomplete(ProblemKind::Unreachable, "block-7", "away");
        assert_eq!(status(&trace), StatusCode::SERVICE_UNAVAILABLE);
        let found = one_span(&trace, "00000000000000aa").expect("a span");
        assert_eq!(found["coverage"]["complete"], false);
    }
}
