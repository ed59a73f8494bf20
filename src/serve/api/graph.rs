//! Services, the calls between them, and their figures.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Json;
use serde_json::{Value, json};

use super::{ApiError, Params, Question};
use crate::assemble::{ServiceGraph, Told};
use crate::query::xray::Expression;
use crate::serve::Server;

#[derive(Debug, serde::Deserialize)]
pub(super) struct GraphQuestion {
    #[serde(flatten)]
    times: Question,
    /// An X-Ray filter expression: only traces of which it holds.
    filter: Option<String>,
}

/// An X-Ray filter expression; without one, all traces.
pub(super) fn expression(text: Option<&str>) -> Result<Expression, ApiError> {
    let filter = Expression::parse(text.unwrap_or_default())
        .map_err(|error| ApiError::bad("bad_filter", error.to_string()).hint("such as service(\"api\") { fault } AND responsetime > 1"))?;
    if filter.names_groups() {
        return Err(ApiError::bad("bad_filter", "X-Ray's groups are known to X-Ray's own calls alone").hint("write the group's filter expression itself"));
    }
    Ok(filter)
}

async fn told(server: &Server, question: &GraphQuestion, with_operations: bool) -> Result<(ServiceGraph, Value, f64), ApiError> {
    let begun = Instant::now();
    let range = question.times.range(server.clock.now_nanos())?;
    let filter = expression(question.filter.as_deref())?;
    let Told { found, range, coverage } = server.graphs.graph(range, &filter, with_operations).await?;
    let about = json!({
        "start_unix_nano": range.start_nanos.to_string(),
        "end_unix_nano": range.end_nanos.to_string(),
        "coverage": coverage,
        "took_ms": (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    });
    let seconds = range.end_nanos.saturating_sub(range.start_nanos) as f64 / 1e9;
    Ok((found, about, seconds))
}

fn with(mut out: Value, about: Value) -> Value {
    if let (Value::Object(out), Value::Object(about)) = (&mut out, about) {
        out.extend(about);
    }
    out
}

pub(super) async fn service_graph(State(server): State<Arc<Server>>, Params(question): Params<GraphQuestion>) -> Result<Json<Value>, ApiError> {
    let (graph, about, seconds) = told(&server, &question, false).await?;
    Ok(Json(with(graph.to_json(seconds), about)))
}

pub(super) async fn services(State(server): State<Arc<Server>>, Params(question): Params<GraphQuestion>) -> Result<Json<Value>, ApiError> {
    let (graph, about, seconds) = told(&server, &question, true).await?;
    Ok(Json(with(json!({ "services": graph.services_json(seconds) }), about)))
}
